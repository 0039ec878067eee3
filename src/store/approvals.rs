//! Tables `approval` and `approval_vote`.

use jiff::Timestamp;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{
    Store, StoreError,
    approver_keys::{KeyChange, change_key},
};

/// One question to people.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of table approval, explained in its migration")]
pub struct ApprovalRow {
    pub id: String,
    pub kind: String,
    pub operation: String,
    pub operation_hash: String,
    pub shown: String,
    pub preview: Option<String>,
    pub trace: String,
    pub why: String,
    pub quorum: u32,
    pub strength: String,
    pub engagement: String,
    pub tool: String,
    pub target: Option<String>,
    pub segment: Option<String>,
    pub risk: String,
    pub jti: Option<String>,
    pub subject: String,
    pub owner: String,
    pub peer: String,
    pub login: Option<String>,
    pub correlation_id: String,
    pub gateway: String,
    pub nonce: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub state: String,
    pub ended_at: Option<Timestamp>,
}

/// What one person said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of table approval_vote, explained in its migration")]
pub struct VoteRow {
    pub approval_id: String,
    pub login: String,
    pub vote: String,
    pub strength: String,
    pub place: String,
    pub comment: String,
    pub key_id: Option<String>,
    pub signature: Option<String>,
    pub signed: Option<String>,
    pub voted_at: Timestamp,
}

/// Selects questions. Every condition that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct ApprovalSelection {
    /// In this state.
    pub state: Option<String>,
    /// Of this engagement.
    pub engagement: Option<String>,
    /// Asked by this token.
    pub jti: Option<String>,
    /// The most, the newest first.
    pub limit: u32,
    /// Without so many of the newest.
    pub skip: u32,
}

fn stamp(row: &SqliteRow, table: &'static str, column: &'static str) -> Result<Timestamp, StoreError> {
    row.try_get::<String, _>(column)?.parse().map_err(|_| StoreError::Damaged { table, column })
}

impl ApprovalRow {
    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let ended_at: Option<String> = row.try_get("ended_at")?;
        let damaged = StoreError::Damaged { table: "approval", column: "ended_at" };
        Ok(Self {
            id: row.try_get("id")?,
            kind: row.try_get("kind")?,
            operation: row.try_get("operation")?,
            operation_hash: row.try_get("operation_hash")?,
            shown: row.try_get("shown")?,
            preview: row.try_get("preview")?,
            trace: row.try_get("trace")?,
            why: row.try_get("why")?,
            quorum: row.try_get("quorum")?,
            strength: row.try_get("strength")?,
            engagement: row.try_get("engagement")?,
            tool: row.try_get("tool")?,
            target: row.try_get("target")?,
            segment: row.try_get("segment")?,
            risk: row.try_get("risk")?,
            jti: row.try_get("jti")?,
            subject: row.try_get("subject")?,
            owner: row.try_get("owner")?,
            peer: row.try_get("peer")?,
            login: row.try_get("login")?,
            correlation_id: row.try_get("correlation_id")?,
            gateway: row.try_get("gateway")?,
            nonce: row.try_get("nonce")?,
            created_at: stamp(row, "approval", "created_at")?,
            expires_at: stamp(row, "approval", "expires_at")?,
            state: row.try_get("state")?,
            ended_at: ended_at.map(|text| text.parse()).transpose().map_err(|_| damaged)?,
        })
    }
}

impl VoteRow {
    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        Ok(Self {
            approval_id: row.try_get("approval_id")?,
            login: row.try_get("login")?,
            vote: row.try_get("vote")?,
            strength: row.try_get("strength")?,
            place: row.try_get("place")?,
            comment: row.try_get("comment")?,
            key_id: row.try_get("key_id")?,
            signature: row.try_get("signature")?,
            signed: row.try_get("signed")?,
            voted_at: stamp(row, "approval_vote", "voted_at")?,
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
impl Store {
    /// Keeps a new question. An id that is taken is a conflict ([`StoreError::is_conflict`]).
    pub async fn insert_approval(&self, row: &ApprovalRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO approval (id, kind, operation, operation_hash, shown, preview, trace, why, quorum, strength,
                 engagement, tool, target, segment, risk, jti, subject, owner, peer, login, correlation_id, gateway,
                 nonce, created_at, expires_at, state)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&row.id)
        .bind(&row.kind)
        .bind(&row.operation)
        .bind(&row.operation_hash)
        .bind(&row.shown)
        .bind(&row.preview)
        .bind(&row.trace)
        .bind(&row.why)
        .bind(row.quorum)
        .bind(&row.strength)
        .bind(&row.engagement)
        .bind(&row.tool)
        .bind(&row.target)
        .bind(&row.segment)
        .bind(&row.risk)
        .bind(&row.jti)
        .bind(&row.subject)
        .bind(&row.owner)
        .bind(&row.peer)
        .bind(&row.login)
        .bind(&row.correlation_id)
        .bind(&row.gateway)
        .bind(&row.nonce)
        .bind(row.created_at.to_string())
        .bind(row.expires_at.to_string())
        .bind(&row.state)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The question `id`.
    pub async fn approval(&self, id: &str) -> Result<Option<ApprovalRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM approval WHERE id = ?").bind(id).fetch_optional(&self.pool).await?;
        row.as_ref().map(ApprovalRow::read).transpose()
    }

    /// The questions that `selection` selects, the newest first.
    pub async fn approvals(&self, selection: &ApprovalSelection) -> Result<Vec<ApprovalRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM approval
             WHERE (?1 IS NULL OR state = ?1) AND (?2 IS NULL OR engagement = ?2) AND (?3 IS NULL OR jti = ?3)
             ORDER BY created_at DESC, id LIMIT ?4 OFFSET ?5",
        )
        .bind(&selection.state)
        .bind(&selection.engagement)
        .bind(&selection.jti)
        .bind(selection.limit)
        .bind(selection.skip)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(ApprovalRow::read).collect()
    }

    /// The calls that the engagement's people were asked about, the newest first, from behind the question `after`: asked
    /// by the token `jti`, or by any; at most `limit`. Nothing where there is no question `after`.
    pub async fn asked_calls(
        &self,
        engagement: &str,
        jti: Option<&str>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<ApprovalRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM approval
             WHERE kind = 'call' AND engagement = ?1 AND (?2 IS NULL OR jti = ?2)
               AND (?3 IS NULL OR (created_at, id) < (SELECT created_at, id FROM approval WHERE id = ?3))
             ORDER BY created_at DESC, id DESC LIMIT ?4",
        )
        .bind(engagement)
        .bind(jti)
        .bind(after)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(ApprovalRow::read).collect()
    }

    /// How many questions are open: in all, and of the token `jti`.
    pub async fn pending_approvals(&self, jti: Option<&str>) -> Result<(u32, u32), StoreError> {
        let counts =
            sqlx::query_as("SELECT count(*), count(*) FILTER (WHERE jti = ?) FROM approval WHERE state = 'pending'");
        Ok(counts.bind(jti).fetch_one(&self.pool).await?)
    }

    /// Ends the open question `id` in `state`. False where it had ended before: of several that try, one succeeds.
    pub async fn end_approval(&self, id: &str, state: &str, at: Timestamp) -> Result<bool, StoreError> {
        end(&mut *self.pool.acquire().await?, id, state, at).await
    }

    /// How many questions are open: in all, and of the acts that `subject` asked for.
    pub async fn pending_acts(&self, subject: &str) -> Result<(u32, u32), StoreError> {
        let counts = sqlx::query_as(
            "SELECT count(*), count(*) FILTER (WHERE kind = 'act' AND subject = ?) FROM approval
             WHERE state = 'pending'",
        );
        Ok(counts.bind(subject).fetch_one(&self.pool).await?)
    }

    /// Keeps what a person said in place of what they said before, and ends the question in the state `ends` where one is
    /// given: both or neither. False where the question had ended before.
    pub async fn vote(&self, row: &VoteRow, ends: Option<&str>) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        insert_vote(&mut transaction, row).await?;
        let open = match ends {
            Some(state) => end(&mut transaction, &row.approval_id, state, row.voted_at).await?,
            None => is_open(&mut transaction, &row.approval_id).await?,
        };
        if open {
            transaction.commit().await?;
        }
        Ok(open)
    }

    /// Keeps a vote, changes the keys as people agreed by it and ends the question as used: all or nothing. False where
    /// the question had ended before, or the keys are such that there is nothing to change.
    pub async fn vote_and_change_key(&self, row: &VoteRow, change: &KeyChange<'_>) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        insert_vote(&mut transaction, row).await?;
        let changed = end(&mut transaction, &row.approval_id, "used", row.voted_at).await?
            && change_key(&mut transaction, change, row.voted_at).await?;
        if changed {
            transaction.commit().await?;
        }
        Ok(changed)
    }

    /// What people said to the question `id`, in order.
    pub async fn votes(&self, id: &str) -> Result<Vec<VoteRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM approval_vote WHERE approval_id = ? ORDER BY voted_at, login")
            .bind(id)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(VoteRow::read).collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
async fn insert_vote(connection: &mut SqliteConnection, row: &VoteRow) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR REPLACE INTO approval_vote
             (approval_id, login, vote, strength, place, comment, key_id, signature, signed, voted_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&row.approval_id)
    .bind(&row.login)
    .bind(&row.vote)
    .bind(&row.strength)
    .bind(&row.place)
    .bind(&row.comment)
    .bind(&row.key_id)
    .bind(&row.signature)
    .bind(&row.signed)
    .bind(row.voted_at.to_string())
    .execute(connection)
    .await?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
async fn end(connection: &mut SqliteConnection, id: &str, state: &str, at: Timestamp) -> Result<bool, StoreError> {
    let ended = sqlx::query("UPDATE approval SET state = ?, ended_at = ? WHERE id = ? AND state = 'pending'")
        .bind(state)
        .bind(at.to_string())
        .bind(id)
        .execute(connection)
        .await?;
    Ok(ended.rows_affected() == 1)
}

#[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
async fn is_open(connection: &mut SqliteConnection, id: &str) -> Result<bool, StoreError> {
    let open = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM approval WHERE id = ? AND state = 'pending')");
    Ok(open.bind(id).fetch_one(connection).await?)
}

//! Table `break_glass`: passes for emergencies, and the reviews they leave.

use jiff::Timestamp;
use sqlx::{Row, sqlite::SqliteRow};

use super::{Store, StoreError};

/// One pass and its review.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of table break_glass, explained in its migration")]
pub struct PassRow {
    pub id: String,
    pub credential_hash: String,
    pub reason: String,
    pub subject: Option<String>,
    pub made_by: String,
    pub made_at: Timestamp,
    pub expires_at: Timestamp,
    pub used: Option<PassUse>,
    pub closed_at: Option<Timestamp>,
    pub closed_by: Option<String>,
    pub comment: Option<String>,
}

/// What a pass was used for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of table break_glass, explained in its migration")]
pub struct PassUse {
    pub used_at: Timestamp,
    pub used_by: String,
    pub operation_hash: String,
    pub correlation_id: String,
    pub shown: String,
}

impl PassRow {
    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let stamp = |column: &'static str| -> Result<Option<Timestamp>, StoreError> {
            let text: Option<String> = row.try_get(column)?;
            let damaged = StoreError::Damaged { table: "break_glass", column };
            text.map(|text| text.parse()).transpose().map_err(|_| damaged)
        };
        let needed = |column| stamp(column)?.ok_or(StoreError::Damaged { table: "break_glass", column });
        let used = match stamp("used_at")? {
            None => None,
            Some(used_at) => Some(PassUse {
                used_at,
                used_by: row.try_get("used_by")?,
                operation_hash: row.try_get("operation_hash")?,
                correlation_id: row.try_get("correlation_id")?,
                shown: row.try_get("shown")?,
            }),
        };
        Ok(Self {
            id: row.try_get("id")?,
            credential_hash: row.try_get("credential_hash")?,
            reason: row.try_get("reason")?,
            subject: row.try_get("subject")?,
            made_by: row.try_get("made_by")?,
            made_at: needed("made_at")?,
            expires_at: needed("expires_at")?,
            used,
            closed_at: stamp("closed_at")?,
            closed_by: row.try_get("closed_by")?,
            comment: row.try_get("comment")?,
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
impl Store {
    /// Keeps a new pass.
    pub async fn insert_pass(&self, row: &PassRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO break_glass (id, credential_hash, reason, subject, made_by, made_at, expires_at)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&row.id)
        .bind(&row.credential_hash)
        .bind(&row.reason)
        .bind(&row.subject)
        .bind(&row.made_by)
        .bind(row.made_at.to_string())
        .bind(row.expires_at.to_string())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The pass whose credential has this hash.
    pub async fn pass_by_credential(&self, hash: &str) -> Result<Option<PassRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM break_glass WHERE credential_hash = ?")
            .bind(hash)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(PassRow::read).transpose()
    }

    /// The pass `id`.
    pub async fn pass(&self, id: &str) -> Result<Option<PassRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM break_glass WHERE id = ?").bind(id).fetch_optional(&self.pool).await?;
        row.as_ref().map(PassRow::read).transpose()
    }

    /// The passes with an open review, or with a closed one, or all; the newest first, at most `limit`.
    pub async fn passes(&self, open: Option<bool>, limit: u32) -> Result<Vec<PassRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM break_glass WHERE ?1 IS NULL OR (closed_at IS NULL) = ?1 ORDER BY made_at DESC, id LIMIT ?2",
        )
        .bind(open)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(PassRow::read).collect()
    }

    /// The passes that nobody has used, whether or not their time is over.
    pub async fn unused_passes(&self) -> Result<Vec<PassRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM break_glass WHERE used_at IS NULL AND closed_at IS NULL")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(PassRow::read).collect()
    }

    /// How many reviews are open.
    pub async fn open_reviews(&self) -> Result<u32, StoreError> {
        let count = sqlx::query_scalar("SELECT count(*) FROM break_glass WHERE closed_at IS NULL");
        Ok(count.fetch_one(&self.pool).await?)
    }

    /// Uses the pass `id` up. False where it was used or closed before: of several that try, one succeeds.
    pub async fn use_pass(&self, id: &str, usage: &PassUse) -> Result<bool, StoreError> {
        let used = sqlx::query(
            "UPDATE break_glass SET used_at = ?, used_by = ?, operation_hash = ?, correlation_id = ?, shown = ?
             WHERE id = ? AND used_at IS NULL AND closed_at IS NULL",
        )
        .bind(usage.used_at.to_string())
        .bind(&usage.used_by)
        .bind(&usage.operation_hash)
        .bind(&usage.correlation_id)
        .bind(&usage.shown)
        .bind(id)
        .execute(&self.pool)
        .await?;
        Ok(used.rows_affected() == 1)
    }

    /// Closes the review of the pass `id`. False where it was closed before.
    pub async fn close_review(&self, id: &str, at: Timestamp, by: &str, comment: &str) -> Result<bool, StoreError> {
        let closed = sqlx::query(
            "UPDATE break_glass SET closed_at = ?, closed_by = ?, comment = ? WHERE id = ? AND closed_at IS NULL",
        )
        .bind(at.to_string())
        .bind(by)
        .bind(comment)
        .bind(id)
        .execute(&self.pool)
        .await?;
        Ok(closed.rows_affected() == 1)
    }
}

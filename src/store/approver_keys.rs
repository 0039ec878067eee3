//! Table `approver_key`.

use jiff::Timestamp;
use sqlx::{Row, sqlite::SqliteRow};

use super::{Store, StoreError};

/// A public key whose signatures count as a person's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of table approver_key, explained in its migration")]
pub struct ApproverKeyRow {
    pub key_id: String,
    pub login: String,
    pub kind: String,
    pub public_key: String,
    pub label: String,
    pub added_at: Timestamp,
    pub added_by: String,
    pub removed_at: Option<Timestamp>,
    pub removed_by: Option<String>,
}

impl ApproverKeyRow {
    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let stamp =
            |text: String, column| text.parse().map_err(|_| StoreError::Damaged { table: "approver_key", column });
        let removed_at: Option<String> = row.try_get("removed_at")?;
        Ok(Self {
            key_id: row.try_get("key_id")?,
            login: row.try_get("login")?,
            kind: row.try_get("kind")?,
            public_key: row.try_get("public_key")?,
            label: row.try_get("label")?,
            added_at: stamp(row.try_get("added_at")?, "added_at")?,
            added_by: row.try_get("added_by")?,
            removed_at: removed_at.map(|text| stamp(text, "removed_at")).transpose()?,
            removed_by: row.try_get("removed_by")?,
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
impl Store {
    /// Every key that was ever enrolled, oldest first; those that count have no `removed_at`.
    pub async fn approver_keys(&self) -> Result<Vec<ApproverKeyRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM approver_key ORDER BY added_at, key_id").fetch_all(&self.pool).await?;
        rows.iter().map(ApproverKeyRow::read).collect()
    }

    /// The key `key_id`, if it counts.
    pub async fn approver_key(&self, key_id: &str) -> Result<Option<ApproverKeyRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM approver_key WHERE key_id = ? AND removed_at IS NULL")
            .bind(key_id)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(ApproverKeyRow::read).transpose()
    }

    /// Enrols a key. One that was ever enrolled is a conflict ([`StoreError::is_conflict`]): what was removed does not
    /// come back.
    pub async fn insert_approver_key(&self, row: &ApproverKeyRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO approver_key (key_id, login, kind, public_key, label, added_at, added_by)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&row.key_id)
        .bind(&row.login)
        .bind(&row.kind)
        .bind(&row.public_key)
        .bind(&row.label)
        .bind(row.added_at.to_string())
        .bind(&row.added_by)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Takes the key `key_id` out. False where it does not count already.
    pub async fn remove_approver_key(&self, key_id: &str, at: Timestamp, by: &str) -> Result<bool, StoreError> {
        let removed = sqlx::query(
            "UPDATE approver_key SET removed_at = ?, removed_by = ? WHERE key_id = ? AND removed_at IS NULL",
        )
        .bind(at.to_string())
        .bind(by)
        .bind(key_id)
        .execute(&self.pool)
        .await?;
        Ok(removed.rows_affected() == 1)
    }
}

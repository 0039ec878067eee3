//! Table `key_rotation`: login keys that are being replaced, or were. Knows rows, not what a stage means.

use sqlx::FromRow;

use super::{Store, StoreError};

/// One rotation, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
#[expect(missing_docs, reason = "the columns of table key_rotation, explained in its migration")]
pub struct KeyRotationRow {
    pub id: String,
    pub file: String,
    pub stage: String,
    pub old_key: String,
    pub new_key: String,
    pub old_print: String,
    pub new_print: String,
    pub targets: String,
    pub problem: Option<String>,
    pub started_at: String,
    pub started_by: String,
    pub swapped_at: Option<String>,
    pub ended_at: Option<String>,
}

#[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
impl Store {
    /// Keeps a new rotation, or how one stands now. Durable when it returns. Errors where another one of the same file has
    /// not ended.
    pub async fn keep_key_rotation(&self, row: &KeyRotationRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO key_rotation (id, file, stage, old_key, new_key, old_print, new_print, targets, problem,
                 started_at, started_by, swapped_at, ended_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET stage = excluded.stage, targets = excluded.targets,
                 problem = excluded.problem, swapped_at = excluded.swapped_at, ended_at = excluded.ended_at",
        )
        .bind(&row.id)
        .bind(&row.file)
        .bind(&row.stage)
        .bind(&row.old_key)
        .bind(&row.new_key)
        .bind(&row.old_print)
        .bind(&row.new_print)
        .bind(&row.targets)
        .bind(&row.problem)
        .bind(&row.started_at)
        .bind(&row.started_by)
        .bind(&row.swapped_at)
        .bind(&row.ended_at)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The rotation `id`.
    pub async fn key_rotation(&self, id: &str) -> Result<Option<KeyRotationRow>, StoreError> {
        Ok(sqlx::query_as("SELECT * FROM key_rotation WHERE id = ?").bind(id).fetch_optional(&self.pool).await?)
    }

    /// The rotations that have not ended, by file.
    pub async fn open_key_rotations(&self) -> Result<Vec<KeyRotationRow>, StoreError> {
        let rows = sqlx::query_as("SELECT * FROM key_rotation WHERE ended_at IS NULL ORDER BY file");
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// When the keys with these fingerprints came into use, as far as rotations made them: fingerprint and moment.
    pub async fn keys_made(&self) -> Result<Vec<(String, String)>, StoreError> {
        let rows =
            sqlx::query_as("SELECT new_print, swapped_at FROM key_rotation WHERE swapped_at IS NOT NULL ORDER BY id");
        Ok(rows.fetch_all(&self.pool).await?)
    }
}

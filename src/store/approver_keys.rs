//! Table `approver_key`.

use jiff::Timestamp;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

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

/// What people agreed to do about the keys.
#[derive(Clone, Copy, Debug)]
pub enum KeyChange<'a> {
    /// This one counts.
    Enrol(&'a ApproverKeyRow),
    /// This one counts no more.
    Remove {
        /// Which.
        key_id: &'a str,
        /// Who asked for it.
        by: &'a str,
    },
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
        insert(&mut *self.pool.acquire().await?, row).await
    }

    /// Takes the key `key_id` out. False where it does not count already.
    pub async fn remove_approver_key(&self, key_id: &str, at: Timestamp, by: &str) -> Result<bool, StoreError> {
        remove(&mut *self.pool.acquire().await?, key_id, at, by).await
    }
}

/// Enrols or takes out a key inside a transaction. False where that changes nothing: a key that was ever enrolled does
/// not come back, and one that does not count cannot be taken out.
pub(super) async fn change_key(
    connection: &mut SqliteConnection,
    change: &KeyChange<'_>,
    at: Timestamp,
) -> Result<bool, StoreError> {
    match change {
        KeyChange::Enrol(row) => match insert(connection, row).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        },
        KeyChange::Remove { key_id, by } => remove(connection, key_id, at, by).await,
    }
}

#[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
async fn insert(connection: &mut SqliteConnection, row: &ApproverKeyRow) -> Result<(), StoreError> {
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
    .execute(connection)
    .await?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
async fn remove(connection: &mut SqliteConnection, key_id: &str, at: Timestamp, by: &str) -> Result<bool, StoreError> {
    let removed =
        sqlx::query("UPDATE approver_key SET removed_at = ?, removed_by = ? WHERE key_id = ? AND removed_at IS NULL")
            .bind(at.to_string())
            .bind(by)
            .bind(key_id)
            .execute(connection)
            .await?;
    Ok(removed.rows_affected() == 1)
}

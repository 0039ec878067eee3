//! Table `meta`: facts about the installation. Table `generation`: what a running service must notice.

use super::{Store, StoreError};

#[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
impl Store {
    /// The value of `key`.
    pub async fn meta(&self, key: &str) -> Result<Option<String>, StoreError> {
        Ok(sqlx::query_scalar("SELECT value FROM meta WHERE key = ?").bind(key).fetch_optional(&self.pool).await?)
    }

    /// Sets `key` to `value`.
    pub async fn set_meta(&self, key: &str, value: &str) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )
        .bind(key)
        .bind(value)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// A number that moves on with every change to tokens or their keys, by whichever process.
    pub async fn token_generation(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("SELECT value FROM generation WHERE what = 'tokens'").fetch_one(&self.pool).await?)
    }
}

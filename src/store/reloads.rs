//! Table `reload`: who asked a running service to read its configuration anew, and what came of it.

use jiff::Timestamp;

use super::{Store, StoreError};

#[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
impl Store {
    /// Notes that `by` asks for a reload and will look for the outcome under `nonce`.
    pub async fn ask_reload(&self, nonce: &str, by: &str, at: Timestamp) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO reload (nonce, asked_at, asked_by) VALUES (?, ?, ?)")
            .bind(nonce)
            .bind(at.to_string())
            .bind(by)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The requests without an outcome: nonce and who asked, the oldest first.
    pub async fn asked_reloads(&self) -> Result<Vec<(String, String)>, StoreError> {
        let asked = "SELECT nonce, asked_by FROM reload WHERE outcome IS NULL ORDER BY asked_at, nonce";
        Ok(sqlx::query_as(asked).fetch_all(&self.pool).await?)
    }

    /// Answers the request `nonce`.
    pub async fn answer_reload(&self, nonce: &str, outcome: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE reload SET outcome = ? WHERE nonce = ?")
            .bind(outcome)
            .bind(nonce)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The outcome of the request `nonce`, once there is one.
    pub async fn reload_outcome(&self, nonce: &str) -> Result<Option<String>, StoreError> {
        let outcome: Option<Option<String>> = sqlx::query_scalar("SELECT outcome FROM reload WHERE nonce = ?")
            .bind(nonce)
            .fetch_optional(&self.pool)
            .await?;
        Ok(outcome.flatten())
    }

    /// Forgets the request `nonce`.
    pub async fn forget_reload(&self, nonce: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM reload WHERE nonce = ?").bind(nonce).execute(&self.pool).await?;
        Ok(())
    }

    /// Forgets the requests from before `at`: those of an earlier run of the service, which nobody waits for.
    pub async fn forget_reloads(&self, at: Timestamp) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM reload WHERE asked_at < ?").bind(at.to_string()).execute(&self.pool).await?;
        Ok(())
    }
}

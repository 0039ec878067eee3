//! Table `fact`: what is known of each target. Knows rows, not what a fact means.

use sqlx::FromRow;

use super::{Store, StoreError};

/// What is known of one target, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
#[expect(missing_docs, reason = "the columns of table fact, explained in its migration")]
pub struct FactRow {
    pub engagement: String,
    pub target: String,
    pub tried_at: String,
    pub failure: Option<String>,
    pub taken_at: Option<String>,
    pub facts: Option<String>,
    pub findings: String,
}

#[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
impl Store {
    /// What is known of the targets of `engagement`, by target.
    pub async fn facts_of(&self, engagement: &str) -> Result<Vec<FactRow>, StoreError> {
        let rows = sqlx::query_as("SELECT * FROM fact WHERE engagement = ? ORDER BY target");
        Ok(rows.bind(engagement).fetch_all(&self.pool).await?)
    }

    /// What is kept of one target of `engagement`.
    pub async fn fact(&self, engagement: &str, target: &str) -> Result<Option<FactRow>, StoreError> {
        let row = sqlx::query_as("SELECT * FROM fact WHERE engagement = ? AND target = ?");
        Ok(row.bind(engagement).bind(target).fetch_optional(&self.pool).await?)
    }

    /// Keeps `rows` in place of what was known of these targets, unless that is newer, and forgets the targets of
    /// `engagement` that are not among `there`.
    pub async fn keep_facts(&self, engagement: &str, rows: &[FactRow], there: &[&str]) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        for row in rows {
            sqlx::query(
                "INSERT INTO fact (engagement, target, tried_at, failure, taken_at, facts, findings)
                 VALUES (?, ?, ?, ?, ?, ?, ?)
                 ON CONFLICT (engagement, target) DO UPDATE SET tried_at = excluded.tried_at,
                     failure = excluded.failure, taken_at = excluded.taken_at, facts = excluded.facts,
                     findings = excluded.findings
                 WHERE excluded.tried_at >= fact.tried_at",
            )
            .bind(engagement)
            .bind(&row.target)
            .bind(&row.tried_at)
            .bind(&row.failure)
            .bind(&row.taken_at)
            .bind(&row.facts)
            .bind(&row.findings)
            .execute(&mut *transaction)
            .await?;
        }
        let there = serde_json::to_string(there).unwrap_or_else(|_| "[]".to_owned());
        sqlx::query("DELETE FROM fact WHERE engagement = ? AND target NOT IN (SELECT value FROM json_each(?))")
            .bind(engagement)
            .bind(there)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }
}

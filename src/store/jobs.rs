//! Table `job`: work on targets that outlives the call that started it. Knows rows, not what a target shows.

use jiff::Timestamp;
use sqlx::{Row, sqlite::SqliteRow};

use super::{Store, StoreError};
use crate::model::{JobState, WaitsFor};

/// One job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of table job, explained in its migration")]
pub struct JobRow {
    pub id: String,
    pub tool: String,
    pub target: String,
    pub engagement: String,
    pub subject: String,
    pub owner: String,
    pub jti: String,
    pub correlation_id: String,
    pub operation: String,
    pub script_s: i64,
    pub state: JobState,
    pub waits_for: WaitsFor,
    pub boot_id: Option<String>,
    pub new_boot_id: Option<String>,
    pub due_at: Option<Timestamp>,
    pub down_s: Option<i64>,
    pub result: Option<String>,
    pub exit_status: Option<i32>,
    pub cancelled_by: Option<String>,
    pub started_at: Timestamp,
    pub seen_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub recorded: bool,
    pub cleaned: bool,
}

impl JobRow {
    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let damaged = |column| StoreError::Damaged { table: "job", column };
        let stamp = |column: &'static str| -> Result<Option<Timestamp>, StoreError> {
            let text: Option<String> = row.try_get(column)?;
            text.map(|text| text.parse()).transpose().map_err(|_| damaged(column))
        };
        Ok(Self {
            id: row.try_get("id")?,
            tool: row.try_get("tool")?,
            target: row.try_get("target")?,
            engagement: row.try_get("engagement")?,
            subject: row.try_get("subject")?,
            owner: row.try_get("owner")?,
            jti: row.try_get("jti")?,
            correlation_id: row.try_get("correlation_id")?,
            operation: row.try_get("operation")?,
            script_s: row.try_get("script_s")?,
            state: JobState::read(row.try_get("state")?).ok_or_else(|| damaged("state"))?,
            waits_for: WaitsFor::read(row.try_get("waits_for")?).ok_or_else(|| damaged("waits_for"))?,
            boot_id: row.try_get("boot_id")?,
            new_boot_id: row.try_get("new_boot_id")?,
            due_at: stamp("due_at")?,
            down_s: row.try_get("down_s")?,
            result: row.try_get("result")?,
            exit_status: row.try_get("exit_status")?,
            cancelled_by: row.try_get("cancelled_by")?,
            started_at: stamp("started_at")?.ok_or_else(|| damaged("started_at"))?,
            seen_at: stamp("seen_at")?,
            ended_at: stamp("ended_at")?,
            recorded: row.try_get("recorded")?,
            cleaned: row.try_get("cleaned")?,
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
impl Store {
    /// Keeps a new job. Durable when it returns.
    pub async fn insert_job(&self, row: &JobRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO job (id, tool, target, engagement, subject, owner, jti, correlation_id, operation, script_s,
                 state, waits_for, boot_id, due_at, started_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&row.id)
        .bind(&row.tool)
        .bind(&row.target)
        .bind(&row.engagement)
        .bind(&row.subject)
        .bind(&row.owner)
        .bind(&row.jti)
        .bind(&row.correlation_id)
        .bind(&row.operation)
        .bind(row.script_s)
        .bind(row.state.as_str())
        .bind(row.waits_for.as_str())
        .bind(&row.boot_id)
        .bind(row.due_at.map(|at| at.to_string()))
        .bind(row.started_at.to_string())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Keeps what `row` says now of a job that has not ended. False where it had, or where since `row` was read somebody
    /// asked for its end or took that back: then nothing changes.
    pub async fn update_job(&self, row: &JobRow) -> Result<bool, StoreError> {
        let updated = sqlx::query(
            "UPDATE job SET state = ?, boot_id = ?, new_boot_id = ?, due_at = ?, down_s = ?, result = ?, exit_status = ?,
                 seen_at = ?, ended_at = ?, cleaned = ?
             WHERE id = ? AND ended_at IS NULL AND cancelled_by IS ?",
        )
        .bind(row.state.as_str())
        .bind(&row.boot_id)
        .bind(&row.new_boot_id)
        .bind(row.due_at.map(|at| at.to_string()))
        .bind(row.down_s)
        .bind(&row.result)
        .bind(row.exit_status)
        .bind(row.seen_at.map(|at| at.to_string()))
        .bind(row.ended_at.map(|at| at.to_string()))
        .bind(row.cleaned)
        .bind(&row.id)
        .bind(&row.cancelled_by)
        .execute(&self.pool)
        .await?;
        Ok(updated.rows_affected() == 1)
    }

    /// Notes that `by` asked for the end of the job `id`. False where it has ended, or somebody else asked before.
    pub async fn mark_job(&self, id: &str, by: &str) -> Result<bool, StoreError> {
        let query =
            sqlx::query("UPDATE job SET cancelled_by = ? WHERE id = ? AND ended_at IS NULL AND cancelled_by IS NULL");
        Ok(query.bind(by).bind(id).execute(&self.pool).await?.rows_affected() == 1)
    }

    /// Takes it back that somebody asked for the end of the job `id`, where it has not ended.
    pub async fn unmark_job(&self, id: &str) -> Result<(), StoreError> {
        let query = sqlx::query("UPDATE job SET cancelled_by = NULL WHERE id = ? AND ended_at IS NULL");
        query.bind(id).execute(&self.pool).await?;
        Ok(())
    }

    /// Notes that the end of the job `id` is in the audit log.
    pub async fn job_recorded(&self, id: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE job SET recorded = 1 WHERE id = ?").bind(id).execute(&self.pool).await?;
        Ok(())
    }

    /// Notes that the unit of the job `id` was taken away, or that it was tried.
    pub async fn job_cleaned(&self, id: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE job SET cleaned = 1 WHERE id = ?").bind(id).execute(&self.pool).await?;
        Ok(())
    }

    /// The job `id`.
    pub async fn job(&self, id: &str) -> Result<Option<JobRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM job WHERE id = ?").bind(id).fetch_optional(&self.pool).await?;
        row.as_ref().map(JobRow::read).transpose()
    }

    /// The jobs that something is still to be done about, the oldest first.
    pub async fn unfinished_jobs(&self) -> Result<Vec<JobRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM job WHERE ended_at IS NULL OR recorded = 0 OR cleaned = 0 ORDER BY started_at, id",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(JobRow::read).collect()
    }

    /// The jobs that began of this owner, the newest first: at most `limit`, those older than `after`.
    pub async fn jobs_of(
        &self,
        engagement: &str,
        subject: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<JobRow>, StoreError> {
        // Ids are ordered by time.
        let rows = sqlx::query(
            "SELECT * FROM job WHERE engagement = ?1 AND subject = ?2 AND state <> 'not_started' AND (?3 IS NULL OR id < ?3)
             ORDER BY id DESC LIMIT ?4",
        )
        .bind(engagement)
        .bind(subject)
        .bind(after)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(JobRow::read).collect()
    }
}

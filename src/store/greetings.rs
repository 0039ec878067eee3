//! Table `greeting`: what the host of a target says of itself before the login, one row a target. Knows rows, not what
//! a change means.

use sqlx::FromRow;

use super::{Store, StoreError, TargetChange};

/// What a host said.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
#[expect(missing_docs, reason = "the columns of table greeting, explained in its migration")]
pub struct GreetingRow {
    pub target: String,
    pub enrolment: String,
    pub identification: String,
    pub banner_sha256: Option<String>,
    pub banner_line: Option<String>,
    pub seen_at: String,
}

const PUT: &str = "INSERT INTO greeting (target, enrolment, identification, banner_sha256, banner_line, seen_at)
     VALUES (?, ?, ?, ?, ?, ?)
     ON CONFLICT (target) DO UPDATE SET enrolment = excluded.enrolment, identification = excluded.identification,
         banner_sha256 = excluded.banner_sha256, banner_line = excluded.banner_line, seen_at = excluded.seen_at";

type Put<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

#[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
fn put(row: &GreetingRow) -> Put<'_> {
    sqlx::query(PUT)
        .bind(&row.target)
        .bind(&row.enrolment)
        .bind(&row.identification)
        .bind(&row.banner_sha256)
        .bind(&row.banner_line)
        .bind(&row.seen_at)
}

impl TargetChange {
    /// Keeps `row` with the target that is enrolled, in place of what was kept of it.
    pub async fn put_greeting(&mut self, row: &GreetingRow) -> Result<(), StoreError> {
        put(row).execute(&mut *self.transaction).await?;
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
impl Store {
    /// What the host of `target` said, if it ever did.
    pub async fn greeting(&self, target: &str) -> Result<Option<GreetingRow>, StoreError> {
        let found = sqlx::query_as("SELECT * FROM greeting WHERE target = ?").bind(target);
        Ok(found.fetch_optional(&self.pool).await?)
    }

    /// Keeps `row` in place of what was kept of its target.
    pub async fn put_greeting(&self, row: &GreetingRow) -> Result<(), StoreError> {
        put(row).execute(&self.pool).await?;
        Ok(())
    }
}

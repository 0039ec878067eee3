//! Table `target`: what was imported into the registry. Knows rows, not what an entry means.

use sqlx::{FromRow, Sqlite, Transaction};

use super::{Store, StoreError};

/// An imported target as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
#[expect(missing_docs, reason = "the columns of table target, explained in its migration")]
pub struct TargetRow {
    pub id: String,
    pub engagement: String,
    pub entry: String,
    pub changed_at: String,
    pub changed_by: String,
}

/// A change of the registry that is not yet in force: it is when [`TargetChange::commit`] returns, and never where it
/// is dropped. No other change comes between what it read and what it writes.
pub struct TargetChange {
    pub(super) transaction: Transaction<'static, Sqlite>,
}

#[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
impl TargetChange {
    /// Every imported target, by id.
    pub async fn rows(&mut self) -> Result<Vec<TargetRow>, StoreError> {
        Ok(sqlx::query_as("SELECT * FROM target ORDER BY id").fetch_all(&mut *self.transaction).await?)
    }

    /// Adds `row`, or replaces the one of its id.
    pub async fn put(&mut self, row: &TargetRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO target (id, engagement, entry, changed_at, changed_by) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET engagement = excluded.engagement, entry = excluded.entry,
                 changed_at = excluded.changed_at, changed_by = excluded.changed_by",
        )
        .bind(&row.id)
        .bind(&row.engagement)
        .bind(&row.entry)
        .bind(&row.changed_at)
        .bind(&row.changed_by)
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Removes the target `id`, if it is there.
    pub async fn remove(&mut self, id: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM target WHERE id = ?").bind(id).execute(&mut *self.transaction).await?;
        Ok(())
    }

    /// Puts the change in force, as a whole.
    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit().await?)
    }
}

#[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
impl Store {
    /// Every imported target, by id.
    pub async fn targets(&self) -> Result<Vec<TargetRow>, StoreError> {
        Ok(sqlx::query_as("SELECT * FROM target ORDER BY id").fetch_all(&self.pool).await?)
    }

    /// Begins a change; others wait for its end.
    pub async fn change_targets(&self) -> Result<TargetChange, StoreError> {
        Ok(TargetChange { transaction: self.pool.begin_with("BEGIN IMMEDIATE").await? })
    }

    /// A number that moves on with every change to imported targets, by whichever process.
    pub async fn target_generation(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("SELECT value FROM generation WHERE what = 'targets'").fetch_one(&self.pool).await?)
    }
}

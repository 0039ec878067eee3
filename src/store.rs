//! What is kept: SQLite in the data directory, one file a table, the only SQL. Knows rows, not rules.

mod approvals;
mod approver_keys;
mod break_glass;
mod directory;
mod facts;
mod greetings;
mod inspection;
mod jobs;
mod key_rotations;
mod leaves;
mod meta;
mod reloads;
mod snapshots;
mod targets;
mod tokens;

use std::path::Path;

pub use approvals::{ApprovalRow, ApprovalSelection, VoteRow};
pub use approver_keys::{ApproverKeyRow, KeyChange};
pub use break_glass::{PassRow, PassUse};
pub(crate) use directory::check_private;
pub use directory::{DirectoryError, DirectoryLock, Holder, check_directory, prepare_directory};
pub use facts::FactRow;
pub use greetings::GreetingRow;
pub use inspection::{Inspection, Whole, enrolled, inspect};
pub use jobs::JobRow;
pub use key_rotations::KeyRotationRow;
pub use leaves::{LeafReader, LeafRow, LeafWriter, StoredLeaf};
pub use snapshots::{SectionRow, SnapshotRow};
use sqlx::{
    SqlitePool,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
pub use targets::{TargetChange, TargetRow};
pub use tokens::{KeyRow, TokenRow};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// The database's name in the data directory.
pub const FILE: &str = "tailops.db";

/// The database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pool: SqlitePool,
}

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Made by a newer version.
    #[error("the database was made by a newer tailops (it has migration {0}): run that version or restore a backup")]
    Newer(i64),
    /// A migration that was applied is not the one this version knows.
    #[error("the database's migrations are not this version's ({0}): restore a backup")]
    Foreign(String),
    /// The database itself failed.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// A row does not hold what was written.
    #[error("database: column {column} of table {table} is damaged")]
    Damaged {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
    },
    /// The file cannot be made.
    #[error("database file: {0}")]
    File(#[from] std::io::Error),
}

impl StoreError {
    /// Whether the row was refused because its key is taken, or because it is not the next one of the audit log.
    pub fn is_conflict(&self) -> bool {
        /// SQLITE_CONSTRAINT_TRIGGER: a trigger of the audit log raised it.
        const TRIGGER: &str = "1811";
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        error.is_unique_violation() || error.code().as_deref() == Some(TRIGGER)
    }
}

impl Store {
    /// Opens the database in `directory`, makes it if there is none and brings its tables up to date.
    pub async fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(FILE);
        directory::create_private(&path)?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            // An answer may leave once its record is on disk: every commit syncs the log.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            // Moving the log into the database syncs too: at 16 MiB, not at 4.
            .pragma("wal_autocheckpoint", "4096")
            .busy_timeout(std::time::Duration::from_secs(5))
            .statement_cache_capacity(128);
        let pool = SqlitePoolOptions::new().min_connections(0).max_connections(4).connect_with(options).await?;
        MIGRATIONS.run(&pool).await.map_err(|error| match error {
            MigrateError::VersionMissing(version) => StoreError::Newer(version),
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => StoreError::Database(error),
            other => StoreError::Foreign(other.to_string()),
        })?;
        Ok(Self { pool })
    }

    /// Closes every connection; what is committed is on disk.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

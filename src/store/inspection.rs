//! A look at the database of a data directory, whether a service uses it or not. Over a connection of its own that
//! can only read: it makes no database, applies no migration and repairs nothing.

use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{FILE, MIGRATIONS, StoreError};

/// Instructions of SQLite's machine between two looks at the time.
const INSTRUCTIONS: i32 = 10_000;

/// Whether the pages of the database fit together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whole {
    /// They do.
    Yes,
    /// What `PRAGMA quick_check` complains of.
    No(Vec<String>),
    /// There was no time to look at all of them.
    Unknown,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The newest migration that was applied.
    pub schema: i64,
    /// The newest migration this version knows.
    pub known_schema: i64,
    /// The size of the database and its write-ahead log, in bytes.
    pub bytes: u64,
    /// Whether it is whole.
    pub whole: Whole,
    /// The last leaf of the audit log: its place and its canonical JSON.
    pub last_leaf: Option<(i64, String)>,
}

/// The logins that have a key whose signatures count, each once, in the database in `directory`.
#[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
pub async fn enrolled(directory: &Path) -> Result<Vec<String>, StoreError> {
    let mut database = read_only(directory).connect().await?;
    let logins = sqlx::query_scalar("SELECT DISTINCT login FROM approver_key WHERE removed_at IS NULL ORDER BY login");
    let logins = logins.fetch_all(&mut database).await?;
    database.close().await?;
    Ok(logins)
}

fn read_only(directory: &Path) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new().filename(directory.join(FILE));
    options.read_only(true).busy_timeout(Duration::from_secs(5))
}

/// Looks at the database in `directory`. Its pages are checked for at most `most`.
#[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
pub async fn inspect(directory: &Path, most: Duration) -> Result<Inspection, StoreError> {
    let bytes = fs::metadata(directory.join(FILE))?.len() + size_of_log(directory)?;
    let mut database = read_only(directory).connect().await?;
    let schema = sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations WHERE success");
    let schema = schema.fetch_one(&mut database).await?;
    let last = sqlx::query_as("SELECT seq, leaf FROM audit_leaf ORDER BY seq DESC LIMIT 1");
    let last_leaf = last.fetch_optional(&mut database).await?;
    let whole = whole(&mut database, most).await?;
    database.close().await?;
    let known_schema = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default();
    Ok(Inspection { schema, known_schema, bytes, whole, last_leaf })
}

/// Reads every page, unless that takes longer than `most`.
#[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
async fn whole(database: &mut SqliteConnection, most: Duration) -> Result<Whole, StoreError> {
    /// SQLITE_INTERRUPT: the handler below said stop.
    const INTERRUPT: &str = "9";
    let began = Instant::now();
    database.lock_handle().await?.set_progress_handler(INSTRUCTIONS, move || began.elapsed() < most);
    let complaints: Result<Vec<String>, _> =
        sqlx::query_scalar("PRAGMA quick_check(5)").fetch_all(&mut *database).await;
    database.lock_handle().await?.remove_progress_handler();
    match complaints {
        Ok(complaints) if complaints == ["ok"] => Ok(Whole::Yes),
        Ok(complaints) => Ok(Whole::No(complaints)),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(INTERRUPT) => Ok(Whole::Unknown),
        Err(error) => Err(error.into()),
    }
}

fn size_of_log(directory: &Path) -> io::Result<u64> {
    match fs::metadata(directory.join(format!("{FILE}-wal"))) {
        Ok(found) => Ok(found.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use jiff::Timestamp;

    use super::*;
    use crate::store::{ApproverKeyRow, Store};

    const SECOND: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_sound_database_is_whole_and_of_this_version() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).await.unwrap();
        let found = inspect(directory.path(), SECOND).await.unwrap();
        assert_eq!((found.whole, found.last_leaf, found.schema), (Whole::Yes, None, found.known_schema));
        assert!(found.schema > 0 && found.bytes > 4096);
        assert_eq!(enrolled(directory.path()).await.unwrap(), Vec::<String>::new());
        for (key_id, login) in [("SHA256:1", "maria"), ("SHA256:2", "jan"), ("SHA256:3", "maria"), ("SHA256:4", "eve")]
        {
            let key = ApproverKeyRow {
                key_id: key_id.into(),
                login: login.into(),
                kind: "ssh".into(),
                public_key: "ssh-ed25519 AAAA".into(),
                label: String::new(),
                added_at: Timestamp::UNIX_EPOCH,
                added_by: "root".into(),
                removed_at: None,
                removed_by: None,
            };
            store.insert_approver_key(&key).await.unwrap();
        }
        assert!(store.remove_approver_key("SHA256:4", Timestamp::UNIX_EPOCH, "root").await.unwrap());
        assert_eq!(enrolled(directory.path()).await.unwrap(), ["jan", "maria"]);
        store.close().await;
        assert_eq!(inspect(directory.path(), SECOND).await.unwrap().whole, Whole::Yes, "with nobody else there");
    }

    #[tokio::test]
    async fn a_damaged_database_says_so_and_a_missing_one_is_not_made() {
        let directory = tempfile::tempdir().unwrap();
        Store::open(directory.path()).await.unwrap().close().await;
        let path = directory.path().join(FILE);
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let pages = file.metadata().unwrap().len() / 4096;
        // From the third page on: the schema can still be read.
        for page in 2..pages {
            file.write_all_at(&[0xff; 512], page * 4096).unwrap();
        }
        let found = inspect(directory.path(), SECOND).await;
        assert!(!matches!(found, Ok(Inspection { whole: Whole::Yes, .. })), "{found:?}");
        fs::write(&path, b"this is no database, and long enough to be looked at as one").unwrap();
        assert!(inspect(directory.path(), SECOND).await.is_err());
        fs::remove_file(&path).unwrap();
        assert!(inspect(directory.path(), SECOND).await.is_err());
        assert!(enrolled(directory.path()).await.is_err());
        assert!(!path.exists());
    }
}

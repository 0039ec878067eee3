//! Table `audit_leaf`: appended by one writer in groups, read in pages.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, Row, Sqlite, pool::PoolConnection, sqlite::SqliteRow};

use super::{Store, StoreError};

/// The most leaves one statement appends.
const GROUP: usize = 64;

/// A leaf to append.
#[derive(Clone, Debug)]
pub struct LeafRow {
    /// Its place in the log, counted from 1 without gaps.
    pub seq: i64,
    /// Canonical JSON.
    pub leaf: String,
    /// SHA-256(0x00 ‖ leaf).
    pub leaf_hash: [u8; 32],
    /// The salt of the commitment to the arguments.
    pub salt: Option<[u8; 16]>,
    /// Whether it is an intent.
    pub opens: bool,
    /// The intent it is the outcome of.
    pub closes: Option<i64>,
}

/// A leaf as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLeaf {
    /// Its place in the log.
    pub seq: i64,
    /// The very bytes that were hashed.
    pub leaf: String,
    /// SHA-256(0x00 ‖ leaf).
    pub leaf_hash: Vec<u8>,
    /// Whether it is an intent.
    pub opens: bool,
    /// Whether it is an intent whose outcome is not in the log.
    pub open: bool,
}

impl StoredLeaf {
    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        Ok(Self {
            seq: row.try_get("seq")?,
            leaf: row.try_get("leaf")?,
            leaf_hash: row.try_get("leaf_hash")?,
            opens: row.try_get("opens")?,
            open: row.try_get("open")?,
        })
    }
}

/// Appends leaves over a connection of its own.
pub struct LeafWriter {
    connection: PoolConnection<Sqlite>,
    /// Statement `n - 1` appends `n` leaves: each is prepared once.
    statements: Vec<Arc<str>>,
}

impl LeafWriter {
    /// Appends `leaves`, all or none, and returns once they are on disk. A sequence number that is taken is a
    /// conflict ([`StoreError::is_conflict`]).
    #[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
    pub async fn append(&mut self, leaves: &[LeafRow]) -> Result<(), StoreError> {
        if leaves.len() > GROUP {
            sqlx::query("BEGIN IMMEDIATE").execute(&mut *self.connection).await?;
            for group in leaves.chunks(GROUP) {
                if let Err(error) = self.append_group(group).await {
                    sqlx::query("ROLLBACK").execute(&mut *self.connection).await?;
                    return Err(error);
                }
            }
            sqlx::query("COMMIT").execute(&mut *self.connection).await?;
            return Ok(());
        }
        self.append_group(leaves).await
    }

    #[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
    async fn append_group(&mut self, group: &[LeafRow]) -> Result<(), StoreError> {
        let Some(statement) = group.len().checked_sub(1).and_then(|index| self.statements.get(index)) else {
            return Ok(());
        };
        let mut query = sqlx::query(AssertSqlSafe(statement.clone()));
        for row in group {
            query = query
                .bind(row.seq)
                .bind(row.leaf.as_str())
                .bind(row.leaf_hash.as_slice())
                .bind(row.salt.as_ref().map(|salt| salt.as_slice()))
                .bind(row.opens)
                .bind(row.closes);
        }
        query.execute(&mut *self.connection).await?;
        Ok(())
    }

    /// The greatest sequence number in the log; 0 where it is empty.
    #[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
    pub async fn last_seq(&mut self) -> Result<i64, StoreError> {
        let last = sqlx::query_scalar("SELECT coalesce(max(seq), 0) FROM audit_leaf");
        Ok(last.fetch_one(&mut *self.connection).await?)
    }
}

/// Reads leaves. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LeafReader {
    store: Store,
}

const COLUMNS: &str = "l.seq, l.leaf, l.leaf_hash, l.opens,
    (l.opens = 1 AND NOT EXISTS (SELECT 1 FROM audit_leaf o WHERE o.closes = l.seq)) AS open";

#[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
impl LeafReader {
    /// At most `limit` leaves after `seq`, in order.
    pub async fn after(&self, seq: i64, limit: u32) -> Result<Vec<StoredLeaf>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM audit_leaf l WHERE l.seq > ? ORDER BY l.seq LIMIT ?");
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(seq).bind(limit).fetch_all(&self.store.pool).await?;
        rows.iter().map(StoredLeaf::read).collect()
    }

    /// At most `limit` leaves before `seq`, newest first.
    pub async fn before(&self, seq: i64, limit: u32) -> Result<Vec<StoredLeaf>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM audit_leaf l WHERE l.seq < ? ORDER BY l.seq DESC LIMIT ?");
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(seq).bind(limit).fetch_all(&self.store.pool).await?;
        rows.iter().map(StoredLeaf::read).collect()
    }

    /// The intents that have no outcome, oldest first.
    pub async fn open_intents(&self) -> Result<Vec<StoredLeaf>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM audit_leaf l WHERE l.opens = 1
             AND NOT EXISTS (SELECT 1 FROM audit_leaf o WHERE o.closes = l.seq) ORDER BY l.seq"
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&self.store.pool).await?;
        rows.iter().map(StoredLeaf::read).collect()
    }

    /// The last leaf.
    pub async fn last(&self) -> Result<Option<StoredLeaf>, StoreError> {
        Ok(self.before(i64::MAX, 1).await?.pop())
    }
}

impl Store {
    /// The writer of the audit log. One at a time in a process; another process's appends show as conflicts.
    pub async fn leaf_writer(&self) -> Result<LeafWriter, StoreError> {
        let statements = (1..=GROUP)
            .map(|n| {
                let rows = vec!["(?,?,?,?,?,?)"; n].join(",");
                format!("INSERT INTO audit_leaf (seq, leaf, leaf_hash, salt, opens, closes) VALUES {rows}").into()
            })
            .collect();
        Ok(LeafWriter { connection: self.pool.acquire().await?, statements })
    }

    /// The reader of the audit log.
    pub fn leaf_reader(&self) -> LeafReader {
        LeafReader { store: self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log grows without end: whoever reads all of it in order does so along its key and sorts nothing.
    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "the store is where SQL lives")]
    async fn the_log_is_read_along_its_key() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).await.unwrap();
        for (place, order) in [(">", ""), ("<", " DESC")] {
            let sql = format!(
                "EXPLAIN QUERY PLAN SELECT {COLUMNS} FROM audit_leaf l WHERE l.seq {place} 5 ORDER BY l.seq{order} LIMIT 9"
            );
            let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&store.pool).await.unwrap();
            let plan: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
            assert!(plan[0].starts_with("SEARCH l USING INTEGER PRIMARY KEY"), "{plan:?}");
            assert!(plan.iter().any(|step| step.contains("USING COVERING INDEX audit_leaf_closes")), "{plan:?}");
            assert!(plan.iter().all(|step| !step.starts_with("SCAN") && !step.contains("TEMP B-TREE")), "{plan:?}");
        }
    }
}

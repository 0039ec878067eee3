//! Reading the log: pages for callers, lines for export.

use std::collections::VecDeque;

use serde_json::Value;

use crate::{
    model::{AuditFilter, EngagementId},
    store::{LeafReader, StoreError, StoredLeaf},
};

/// Leaves read at a time.
const BATCH: u32 = 1000;
/// The most leaves one page looks at; a filter that finds little goes on with the cursor.
const LOOKED_AT: usize = 50_000;

/// One page of records, newest first.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The records.
    pub records: Vec<Value>,
    /// Where the next page starts, if there may be more.
    pub next: Option<u64>,
}

impl LeafReader {
    /// The records of `engagement` that `filter` selects. An intent is left out once its outcome is there: one call
    /// is one record.
    pub async fn page(&self, engagement: &EngagementId, filter: &AuditFilter) -> Result<Page, StoreError> {
        let mut page = Page::default();
        let mut before = filter.before.map_or(i64::MAX, |before| i64::try_from(before).unwrap_or(i64::MAX));
        let mut looked_at = 0;
        loop {
            let leaves = self.before(before, BATCH).await?;
            let last = leaves.len() < BATCH as usize;
            for leaf in leaves {
                before = leaf.seq;
                looked_at += 1;
                if let Some(record) = selected(&leaf, Some(engagement), filter) {
                    page.records.push(record);
                }
                if page.records.len() >= filter.limit as usize || looked_at >= LOOKED_AT {
                    page.next = u64::try_from(before).ok().filter(|before| *before > 1);
                    return Ok(page);
                }
            }
            if last {
                return Ok(page);
            }
        }
    }

    /// The last `filter.limit` records that `filter` selects, of every engagement, oldest first. Looks at the whole
    /// log: a clock that was set back hides nothing.
    pub async fn search(&self, filter: &AuditFilter) -> Result<Vec<Value>, StoreError> {
        let most = filter.limit as usize;
        let (mut found, mut after) = (VecDeque::new(), 0);
        loop {
            let leaves = self.after(after, BATCH).await?;
            let Some(last) = leaves.last() else { return Ok(found.into()) };
            after = last.seq;
            for record in leaves.iter().filter_map(|leaf| selected(leaf, None, filter)) {
                if found.len() >= most {
                    found.pop_front();
                }
                found.push_back(record);
            }
        }
    }
}

fn selected(leaf: &StoredLeaf, engagement: Option<&EngagementId>, filter: &AuditFilter) -> Option<Value> {
    let record: Value = serde_json::from_str(&leaf.leaf).ok()?;
    let text = |key: &str| record.get(key).and_then(Value::as_str);
    let is = |key: &str, wanted: &Option<String>| wanted.is_none() || text(key) == wanted.as_deref();
    let at = text("timestamp").and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let selected = (leaf.open || !leaf.opens)
        && engagement.is_none_or(|engagement| text("engagement") == Some(engagement.as_str()))
        && is("subject", &filter.subject)
        && is("tool", &filter.tool)
        && is("target", &filter.target)
        && is("correlation_id", &filter.correlation_id)
        && (filter.status.is_empty() || filter.status.iter().any(|status| text("status") == Some(status)))
        && filter.since.is_none_or(|since| at.is_some_and(|at| at >= since))
        && filter.until.is_none_or(|until| at.is_some_and(|at| at < until));
    selected.then_some(record)
}

/// Reads the whole log in order, a batch at a time.
pub struct Export {
    reader: LeafReader,
    after: i64,
    all: bool,
}

impl Export {
    /// From the first leaf. Without `all` an intent is left out once its outcome is there.
    pub fn new(reader: LeafReader, all: bool) -> Self {
        Self { reader, after: 0, all }
    }

    /// The next lines, each the very bytes of a leaf; none at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<String>>, StoreError> {
        let leaves = self.reader.after(self.after, BATCH).await?;
        let Some(last) = leaves.last() else { return Ok(None) };
        self.after = last.seq;
        let shown = |leaf: &StoredLeaf| self.all || leaf.open || !leaf.opens;
        Ok(Some(leaves.into_iter().filter(shown).map(|leaf| leaf.leaf).collect()))
    }
}

//! Folds refusals: the first few of a source in a window are entries of their own, the rest are counted and become
//! one entry at the window's end, so that a flood cannot fill the disk.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{Audit, FoldSettings, Folded, Record, writer::Leaf};
use crate::model::Jti;

/// What sources beyond the limit share.
const OTHERS: &str = "(other sources)";

pub(super) struct Folds {
    settings: FoldSettings,
    sources: Mutex<HashMap<String, Source>>,
}

struct Source {
    since: Timestamp,
    singly: u32,
    /// By code and token: one record as a sample, and the count. As many as there are codes and minted tokens.
    folded: HashMap<(&'static str, Option<Jti>), Record>,
}

impl Folds {
    pub(super) fn new(settings: FoldSettings) -> Self {
        Self { settings, sources: Mutex::default() }
    }

    /// The record back, if it is to be written on its own; none once it is counted.
    pub(super) fn take(&self, source: String, record: Record, now: Timestamp) -> Option<Record> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let known = sources.contains_key(&source) || sources.len() < self.settings.sources;
        let source = if known { source } else { OTHERS.to_owned() };
        let fresh = || Source { since: now, singly: 0, folded: HashMap::new() };
        let source = sources.entry(source).or_insert_with(fresh);
        if source.singly < self.settings.singly {
            source.singly += 1;
            return Some(record);
        }
        let alike = (record.code.unwrap_or_default(), record.jti.clone());
        let sample = source.folded.entry(alike).or_insert(record);
        let folded = sample.folded.get_or_insert(Folded { count: 0, first: now, last: now });
        folded.count += 1;
        folded.last = now;
        None
    }

    /// What was counted in windows that are over at `now`; all windows if `all`.
    fn due(&self, now: Timestamp, all: bool) -> Vec<Record> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |source: &Source| all || now.duration_since(source.since).unsigned_abs() >= self.settings.window;
        let mut due = Vec::new();
        sources.retain(|_, source| {
            let over = over(source);
            if over {
                due.extend(source.folded.drain().map(|(_, record)| record));
            }
            !over
        });
        due
    }
}

/// Writes what was counted, window by window, and the rest after `stop`.
pub(super) async fn flush_until(audit: Arc<Audit>, stop: CancellationToken) {
    let period = audit.folds.settings.window.div_f64(4.0).max(Duration::from_millis(10));
    let mut tick = tokio::time::interval(period);
    loop {
        let stopping = stop.run_until_cancelled(tick.tick()).await.is_none();
        let now = audit.clock.now();
        for record in audit.folds.due(now, stopping).into_iter().chain(audit.alarms.due(now, stopping)) {
            let mut leaf = Leaf::of(record);
            leaf.owed = true;
            let _ = audit.writer.append(leaf).await;
        }
        if stopping {
            return;
        }
    }
}

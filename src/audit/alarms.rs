//! Hosts that are not who they should be, or say something else of themselves than before: on the record, and counted
//! from it. Keeps what was seen; enrols nothing and refuses nothing, which is done by then.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Audit, FoldSettings, Record, Status,
    strays::{Fold, newest_first},
    writer::Leaf,
};
use crate::{
    exec::{Alarms, HostAlarm},
    guard::Guard,
    store::{LeafReader, StoreError},
};

/// What such a record has, and no other.
const KEY: &str = "\"kind\":\"alert\"";
/// The most keys of one target that are listed.
const MOST_KEYS: usize = 16;

/// Alarms of one target that are recorded one by one in a window: the first. The rest are counted.
pub(super) fn folding(refusals: FoldSettings) -> FoldSettings {
    FoldSettings { singly: 1, ..refusals }
}

impl Audit {
    async fn alarm(&self, alarm: HostAlarm) -> bool {
        let now = self.clock.now();
        let record = Record::of_alarm(&alarm, &self.guard, now);
        // A host that says something new of itself must not make its next alarm, for another key, one that is counted.
        let source = if alarm.refused { alarm.target.to_string() } else { format!("{} (proven)", alarm.target) };
        let Some(record) = self.alarms.take(source, record, now) else { return true };
        let what = match alarm.refused {
            true => "a host is not the one that was enrolled; it was refused",
            false => "a host says something else of itself than before; nothing was refused",
        };
        tracing::warn!(
            alert = alarm.code,
            target_id = %alarm.target,
            host = alarm.host,
            port = alarm.port,
            shown = alarm.shown,
            enrolled = alarm.enrolled.join(", "),
            correlation_id = %alarm.correlation,
            "{what}"
        );
        // Where it cannot be recorded the gate is closed, and the call that found it is not answered either.
        let kept = self.writer.append(Leaf::of(record)).await.is_ok();
        if !kept {
            tracing::error!(target_id = %alarm.target, "an alert could not be recorded");
        }
        kept
    }
}

impl Alarms for Audit {
    fn raise(&self, alarm: HostAlarm) -> BoxFuture<'_, bool> {
        Box::pin(self.alarm(alarm))
    }
}

impl Record {
    fn of_alarm(alarm: &HostAlarm, guard: &Guard, now: Timestamp) -> Self {
        let mut record = Self::new("alert", alarm.correlation, now);
        record.subject = Some(alarm.subject.clone());
        record.engagement = Some(alarm.engagement.clone());
        record.target = Some(alarm.target.clone());
        record.set_args(&Map::from_iter([
            ("host".to_owned(), json!(guard.text(&alarm.host).text)),
            ("port".to_owned(), json!(alarm.port)),
            ("shown".to_owned(), json!(guard.text(&alarm.shown).text)),
            ("enrolled".to_owned(), json!(alarm.enrolled.iter().map(|text| guard.text(text).text).collect::<Vec<_>>())),
        ]));
        let status = if alarm.refused { Status::Denied } else { Status::Ok };
        record.ended(status, Some(alarm.code), Some(guard.text(&alarm.why).text));
        record
    }
}

/// One target whose host was not the one that was enrolled, or said something else of itself than before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HostAlert {
    /// The tenant.
    pub engagement: Option<String>,
    /// Where the host should be, as of the last time.
    pub host: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// What was wrong, e.g. `host_key_mismatch`.
    pub codes: BTreeSet<String>,
    /// The keys that were shown, or what it said, at most 16. Of those that were only counted the first is known.
    pub shown: BTreeSet<String>,
    /// In place of which keys, or of what it said before, at most 16.
    pub enrolled: BTreeSet<String>,
    /// How often.
    pub count: u64,
    /// When last.
    pub last: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Facts {
    timestamp: Option<Timestamp>,
    target: Option<String>,
    engagement: Option<String>,
    code: Option<String>,
    #[serde(default)]
    args: Value,
    folded: Option<Fold>,
}

/// Such targets by id, at `since` and later; since ever where it is none. Reads the log from its end.
pub async fn host_alerts(
    reader: &LeafReader,
    since: Option<Timestamp>,
) -> Result<BTreeMap<String, HostAlert>, StoreError> {
    let mut found: BTreeMap<String, HostAlert> = BTreeMap::new();
    newest_first(reader, KEY, since, |facts: Facts| count(&mut found, facts, since)).await?;
    Ok(found)
}

fn count(found: &mut BTreeMap<String, HostAlert>, facts: Facts, since: Option<Timestamp>) {
    let last = facts.folded.as_ref().and_then(|fold| fold.last).max(facts.timestamp);
    if since.is_some_and(|since| last.is_none_or(|last| last < since)) {
        return;
    }
    let alert = found.entry(facts.target.unwrap_or_else(|| "-".to_owned())).or_default();
    let text = |key: &str| facts.args.get(key).and_then(Value::as_str).map(str::to_owned);
    // Newest first: where it is now.
    if alert.last.is_none() {
        alert.engagement = facts.engagement;
        alert.host = text("host");
        alert.port = facts.args.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    }
    alert.codes.extend(facts.code);
    if alert.shown.len() < MOST_KEYS {
        alert.shown.extend(text("shown"));
    }
    let enrolled = facts.args.get("enrolled").and_then(Value::as_array).into_iter().flatten();
    let room = MOST_KEYS.saturating_sub(alert.enrolled.len());
    alert.enrolled.extend(enrolled.filter_map(Value::as_str).take(room).map(str::to_owned));
    alert.count += facts.folded.map_or(1, |fold| fold.count);
    alert.last = alert.last.max(last);
}

//! Tokens that were shown by another peer than theirs: how often, by which node, which tokens. Counted from the log
//! itself, those that were only counted there too. Never says who may come in.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::store::{LeafReader, StoreError, StoredLeaf};

/// The key that such a refusal has, and no other record: what the token is bound to. Those beyond the limit on failed
/// attempts have it too, under another code.
const KEY: &str = "\"binding\":";
/// Leaves read at a time.
const BATCH: u32 = 2000;
/// How far a record's time may lie behind that of one before it: what was folded is written at the end of its window.
const DISORDER: SignedDuration = SignedDuration::from_mins(10);

/// One node that showed tokens of others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stray {
    /// Its name.
    pub node: Option<String>,
    /// Whose it is; none where it is tagged.
    pub user: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// How often.
    pub count: u64,
    /// The ids of the tokens.
    pub tokens: BTreeSet<String>,
    /// When last.
    pub last: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Facts {
    timestamp: Option<Timestamp>,
    binding: Option<String>,
    jti: Option<String>,
    #[serde(default)]
    tailscale: Peer,
    folded: Option<Fold>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Peer {
    tailscale_node: Option<String>,
    tailscale_node_id: Option<String>,
    tailscale_tags: Vec<String>,
    tailscale_user: Option<String>,
}

#[derive(Deserialize)]
struct Moment {
    timestamp: Option<Timestamp>,
}

/// What was only counted.
#[derive(Deserialize)]
pub(super) struct Fold {
    pub(super) count: u64,
    pub(super) last: Option<Timestamp>,
}

/// Who showed tokens of others, by stable id, at `since` and later; since ever where it is none.
pub async fn strays(reader: &LeafReader, since: Option<Timestamp>) -> Result<BTreeMap<String, Stray>, StoreError> {
    let mut found: BTreeMap<String, Stray> = BTreeMap::new();
    newest_first(reader, KEY, since, |facts: Facts| {
        if facts.binding.is_some() {
            count(&mut found, facts, since);
        }
    })
    .await?;
    Ok(found)
}

/// Hands every record that holds `key` to `take`, the newest first.
///
/// Reads the log from its end, and stops where some 2000 records in a row are older than `since`: asking for the last
/// day costs what the last day recorded, and a clock that was wrong for a while hides little.
pub(super) async fn newest_first<F: DeserializeOwned>(
    reader: &LeafReader,
    key: &str,
    since: Option<Timestamp>,
    mut take: impl FnMut(F),
) -> Result<(), StoreError> {
    let enough = since.and_then(|since| since.checked_sub(DISORDER).ok());
    let mut before = i64::MAX;
    loop {
        let leaves = reader.before(before, BATCH).await?;
        let Some(oldest) = leaves.last() else { return Ok(()) };
        before = oldest.seq;
        // What does not even hold the key need not be understood.
        for leaf in leaves.iter().filter(|leaf| leaf.leaf.contains(key)) {
            take(facts(leaf)?);
        }
        if let Some(enough) = enough {
            let mut old = true;
            for leaf in &leaves {
                old &= facts::<Moment>(leaf)?.timestamp.is_some_and(|at| at < enough);
            }
            if old {
                return Ok(());
            }
        }
    }
}

fn facts<F: DeserializeOwned>(leaf: &StoredLeaf) -> Result<F, StoreError> {
    serde_json::from_str(&leaf.leaf).map_err(|_| StoreError::Damaged { table: "audit_leaf", column: "leaf" })
}

fn count(found: &mut BTreeMap<String, Stray>, facts: Facts, since: Option<Timestamp>) {
    let last = facts.folded.as_ref().and_then(|fold| fold.last).max(facts.timestamp);
    if since.is_some_and(|since| last.is_none_or(|last| last < since)) {
        return;
    }
    let Peer { tailscale_node, tailscale_node_id, tailscale_tags, tailscale_user } = facts.tailscale;
    let stray = found.entry(tailscale_node_id.unwrap_or_else(|| "-".to_owned())).or_default();
    // Newest first: what the node is called now.
    if stray.last.is_none() {
        (stray.node, stray.user, stray.tags) = (tailscale_node, tailscale_user, tailscale_tags);
    }
    stray.count += facts.folded.map_or(1, |fold| fold.count);
    stray.tokens.extend(facts.jti);
    stray.last = stray.last.max(last);
}

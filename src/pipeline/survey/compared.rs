//! What differs between two snapshots, or between one and now, as far as the caller may see it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Party, SEES, SEES_SOCKETS, missing, named, shown, stored};
use crate::{
    audit::Surveyed,
    fleet::{Reading, compare},
    model::{Inventory, Missing, SnapshotId, TargetId},
    pipeline::{CallError, Pipeline},
};

impl Pipeline {
    pub(super) async fn compared(
        &self,
        party: Party<'_>,
        (from, to): (&SnapshotId, Option<&SnapshotId>),
        wanted: &(dyn Fn(&TargetId, Inventory) -> bool + Send + Sync),
        limit: u32,
        record: &mut Option<Surveyed>,
    ) -> Result<Value, CallError> {
        let (store, engagement) = (self.answers.store(), party.engagement());
        let before = stored(store, engagement, "a", from).await?;
        let old = Reading::stored(store, engagement, from.as_str()).await?;
        let registry = &party.rules.registry;
        // What policy does not let the caller see is neither read nor compared.
        let now = self.clock.now();
        let mut partial = Vec::new();
        let mut seen: BTreeMap<TargetId, bool> = Default::default();
        let after = match to {
            Some(to) => Some((
                stored(store, engagement, "b", to).await?,
                Reading::stored(store, engagement, to.as_str()).await?,
            )),
            None => None,
        };
        let newer = after.as_ref().map(|(_, reading)| reading.targets()).unwrap_or_default();
        for id in old.targets().union(&newer).filter(|id| Inventory::ALL.into_iter().any(|section| wanted(id, section)))
        {
            let refusal = match registry.target(engagement, id.as_str()) {
                None => Some("unknown_target"),
                Some(target) => party.refusal(target, SEES, now),
            };
            match (refusal, registry.target(engagement, id.as_str())) {
                (None, Some(target)) => {
                    let sockets = party.refusal(target, SEES_SOCKETS, now);
                    if let Some(code) = sockets.filter(|_| wanted(id, Inventory::Sockets)) {
                        partial.push(Missing { section: format!("{id}.sockets"), reason: code.to_owned() });
                    }
                    seen.insert(id.clone(), sockets.is_none());
                }
                (refusal, _) => partial.push(missing(id, refusal.unwrap_or("unknown_target"))),
            }
        }
        let wanted = |id: &TargetId, section: Inventory| {
            let may = seen.get(id).is_some_and(|sockets| section != Inventory::Sockets || *sockets);
            may && wanted(id, section)
        };
        let (shown, new) = match after {
            Some((row, reading)) => (shown(&row), reading),
            None => {
                let targets: Vec<_> =
                    seen.keys().filter_map(|id| registry.target(engagement, id.as_str()).cloned()).collect();
                let sections: Vec<Inventory> = serde_json::from_str(&before.sections).unwrap_or_default();
                let sections: Vec<_> = sections
                    .into_iter()
                    .filter(|section| targets.iter().any(|target| wanted(&target.id, *section)))
                    .collect();
                let (reading, _, surveyed) = self.inventory(party, &targets, &sections).await?;
                *record = Some(surveyed);
                (json!({"id": null, "label": null, "created_at": now}), reading)
            }
        };
        let found = compare(store, engagement, (&old, &new), wanted).await?;
        partial.extend(found.partial);
        let counts = found.changes.values().flat_map(|sections| sections.values()).map(|changes| changes.count());
        let total: usize = counts.sum();
        let mut left = limit as usize;
        let mut targets = Vec::new();
        for (id, sections) in &found.changes {
            let mut parts = serde_json::Map::new();
            for (name, changes) in sections {
                if left == 0 {
                    break;
                }
                let added: Vec<_> = changes.added.iter().take(left).collect();
                left -= added.len();
                let removed: Vec<_> = changes.removed.iter().take(left).collect();
                left -= removed.len();
                let changed: Vec<_> = changes.changed.iter().take(left).collect();
                left -= changed.len();
                let part = json!({
                    "added": added.into_iter().collect::<BTreeMap<_, _>>(),
                    "removed": removed.into_iter().collect::<BTreeMap<_, _>>(),
                    "changed": changed.into_iter().collect::<BTreeMap<_, _>>(),
                });
                parts.insert((*name).to_owned(), part);
            }
            if !parts.is_empty() {
                targets.push(json!({"id": id, "sections": parts}));
            }
        }
        Ok(json!({
            "a": super::shown(&before), "b": shown, "targets": targets, "total": total, "unchanged": found.unchanged,
            "only_in_a": found.only_before, "only_in_b": found.only_after,
            "truncated": total > limit as usize, "partial": named(partial),
        }))
    }
}

//! What many targets are made of at one moment, each text once, and what differs between two such moments. Compares
//! digests before texts, so that two readings of a fleet that did not change cost little.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use ring::digest::{SHA256, digest};

use super::{Kept, SectionChanges, diff::differences};
use crate::{
    model::{EngagementId, Inventory, Missing, TargetId},
    store::{SectionRow, Store, StoreError},
};

/// The most snapshots of one engagement: the oldest goes when one more is made.
pub const MOST_SNAPSHOTS: u32 = 200;

/// The sections of many targets at one moment.
#[derive(Debug, Default)]
pub struct Reading {
    sections: BTreeMap<(TargetId, Inventory), Result<Vec<u8>, String>>,
    /// By digest; empty where the texts are in the store.
    texts: HashMap<Vec<u8>, Arc<str>>,
}

impl Reading {
    /// Adds what `target` gave.
    pub fn add(&mut self, target: &TargetId, kept: Vec<(Inventory, Kept)>) {
        for (section, kept) in kept {
            let kept = kept.and_then(|entries| {
                // A map of texts can always be written.
                let text = serde_json::to_string(&entries).map_err(|_| "unreadable_output".to_owned())?;
                let hash = digest(&SHA256, text.as_bytes()).as_ref().to_vec();
                self.texts.entry(hash.clone()).or_insert_with(|| text.into());
                Ok(hash)
            });
            self.sections.insert((target.clone(), section), kept);
        }
    }

    /// The same for a target that gave nothing of `sections`.
    pub fn add_failed(&mut self, target: &TargetId, sections: &[Inventory], code: &str) {
        self.add(target, sections.iter().map(|section| (*section, Err(code.to_owned()))).collect());
    }

    /// The sections of the stored snapshot `id`. Errors where a row is not what was written.
    pub async fn stored(store: &Store, engagement: &EngagementId, id: &str) -> Result<Self, StoreError> {
        let damaged = StoreError::Damaged { table: "snapshot_section", column: "section" };
        let rows = store.snapshot_sections(engagement.as_str(), id).await?;
        let read = rows.into_iter().map(|row| {
            let kept = match (row.digest, row.missing) {
                (Some(digest), None) => Ok(digest),
                (None, Some(missing)) => Err(missing),
                _ => return None,
            };
            Some(((TargetId::from(row.target), Inventory::named(&row.section)?), kept))
        });
        let sections = read.collect::<Option<_>>().ok_or(damaged)?;
        Ok(Self { sections, texts: HashMap::new() })
    }

    /// Whose sections these are.
    pub fn targets(&self) -> BTreeSet<TargetId> {
        self.sections.keys().map(|(target, _)| target.clone()).collect()
    }

    /// Whether it says something of this section of `target`.
    pub fn has(&self, target: &TargetId, section: Inventory) -> bool {
        self.sections.contains_key(&(target.clone(), section))
    }

    /// As they are kept: sections, and texts by digest.
    pub fn rows(&self) -> (Vec<SectionRow>, Vec<(Vec<u8>, String)>) {
        let row = |((target, section), kept): (&(TargetId, Inventory), &Result<Vec<u8>, String>)| SectionRow {
            target: target.to_string(),
            section: section.as_str().to_owned(),
            digest: kept.as_ref().ok().cloned(),
            missing: kept.as_ref().err().cloned(),
        };
        let texts = self.texts.iter().map(|(digest, text)| (digest.clone(), text.to_string()));
        (self.sections.iter().map(row).collect(), texts.collect())
    }

    async fn entries(
        &self,
        store: &Store,
        engagement: &EngagementId,
        digest: &[u8],
    ) -> Result<BTreeMap<String, String>, StoreError> {
        let damaged = || StoreError::Damaged { table: "section_text", column: "text" };
        let text = match self.texts.get(digest) {
            Some(text) => text.clone(),
            None => store.section_text(engagement.as_str(), digest).await?.ok_or_else(damaged)?.into(),
        };
        serde_json::from_str(&text).map_err(|_| damaged())
    }
}

/// What differs between two readings.
#[derive(Debug, Default)]
pub struct Differences {
    /// By target and section; those without a difference are not in it.
    pub changes: BTreeMap<TargetId, BTreeMap<&'static str, SectionChanges>>,
    /// Targets of which every section that was compared is the same.
    pub unchanged: usize,
    /// Targets that are only in the reading before.
    pub only_before: Vec<TargetId>,
    /// Targets that are only in the reading after.
    pub only_after: Vec<TargetId>,
    /// What could not be compared.
    pub partial: Vec<Missing>,
}

/// What differs in those sections of `before` and `after` that `wanted` wants.
pub async fn compare(
    store: &Store,
    engagement: &EngagementId,
    (before, after): (&Reading, &Reading),
    wanted: impl Fn(&TargetId, Inventory) -> bool,
) -> Result<Differences, StoreError> {
    let mut found = Differences::default();
    let (old, new) = (before.targets(), after.targets());
    let wanted_at_all = |target: &&TargetId| Inventory::ALL.into_iter().any(|section| wanted(target, section));
    found.only_before = old.difference(&new).filter(wanted_at_all).cloned().collect();
    found.only_after = new.difference(&old).filter(wanted_at_all).cloned().collect();
    for target in old.intersection(&new).filter(wanted_at_all) {
        let (mut changed, mut compared) = (BTreeMap::new(), 0);
        for section in Inventory::ALL.into_iter().filter(|section| wanted(target, *section)) {
            let key = (target.clone(), section);
            let (was, is) = match (before.sections.get(&key), after.sections.get(&key)) {
                (Some(Ok(was)), Some(Ok(is))) => (was, is),
                (None, None) => continue,
                (was, is) => {
                    let reason = [was, is].into_iter().find_map(|kept| kept?.as_ref().err().cloned());
                    let reason = reason.unwrap_or_else(|| "not_kept".to_owned());
                    found.partial.push(Missing { section: format!("{target}.{}", section.as_str()), reason });
                    continue;
                }
            };
            compared += 1;
            if was != is {
                let was = before.entries(store, engagement, was).await?;
                let changes = differences(&was, &after.entries(store, engagement, is).await?);
                changed.insert(section.as_str(), changes);
            }
        }
        if !changed.is_empty() {
            found.changes.insert(target.clone(), changed);
        } else if compared > 0 {
            found.unchanged += 1;
        }
    }
    Ok(found)
}

//! What differs between two readings of a section: entry by entry, and nothing else. Pure.

use std::collections::BTreeMap;

/// The entries of a section by name.
type Entries = BTreeMap<String, String>;

/// How one section changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SectionChanges {
    /// Entries that were not there before, with their values.
    pub added: BTreeMap<String, String>,
    /// Entries that are not there any more, with the values they had.
    pub removed: BTreeMap<String, String>,
    /// Entries with another value: before and after.
    pub changed: BTreeMap<String, [String; 2]>,
}

impl SectionChanges {
    /// How many entries differ.
    pub fn count(&self) -> usize {
        self.added.len() + self.removed.len() + self.changed.len()
    }
}

/// What differs between `before` and `after`.
pub fn differences(before: &Entries, after: &Entries) -> SectionChanges {
    let mut changes = SectionChanges::default();
    for (name, old) in before {
        match after.get(name) {
            None => drop(changes.removed.insert(name.clone(), old.clone())),
            Some(new) if new != old => drop(changes.changed.insert(name.clone(), [old.clone(), new.clone()])),
            Some(_) => {}
        }
    }
    let new = after.iter().filter(|(name, _)| !before.contains_key(*name));
    changes.added.extend(new.map(|(name, value)| (name.clone(), value.clone())));
    changes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries() -> impl Strategy<Value = Entries> {
        proptest::collection::btree_map("[a-e]", "[12]", 0..5)
    }

    proptest! {
        #[test]
        fn what_differs_makes_one_of_the_other(before in entries(), after in entries()) {
            let changes = differences(&before, &after);
            let mut made = before.clone();
            for name in changes.removed.keys() {
                prop_assert!(made.remove(name).is_some());
            }
            for (name, [old, new]) in &changes.changed {
                prop_assert!(old != new);
                prop_assert_eq!(made.insert(name.clone(), new.clone()), Some(old.clone()));
            }
            for (name, value) in &changes.added {
                prop_assert!(made.insert(name.clone(), value.clone()).is_none());
            }
            prop_assert_eq!(made, after.clone());
            prop_assert_eq!(changes.count() == 0, before == after);
        }
    }
}

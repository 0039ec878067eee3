//! The registry of targets as configured.

use std::{collections::BTreeMap, sync::Arc};

use crate::model::{EngagementId, Target, TargetId};

/// All targets.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    targets: BTreeMap<TargetId, Arc<Target>>,
}

impl Registry {
    /// The registry of these targets. A later one replaces an earlier one of the same id.
    pub fn new(targets: impl IntoIterator<Item = Target>) -> Self {
        Self { targets: targets.into_iter().map(|target| (target.id.clone(), Arc::new(target))).collect() }
    }

    /// The target `id`, if it belongs to `engagement`.
    pub fn target(&self, engagement: &EngagementId, id: &str) -> Option<&Arc<Target>> {
        self.targets.get(id).filter(|target| target.engagement == *engagement)
    }

    /// Every target, whosever it is: for the gateway's own people, never for a caller.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.targets.values()
    }

    /// The targets of `engagement`, by id.
    pub fn targets_of<'a>(&'a self, engagement: &'a EngagementId) -> impl Iterator<Item = &'a Arc<Target>> {
        self.targets.values().filter(move |target| target.engagement == *engagement)
    }
}

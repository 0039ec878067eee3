//! The registry of targets and engagements as configured.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::model::{EngagementId, Target, TargetId};

/// A tenant: owns targets and may be limited to a list of tools.
#[derive(Clone, Debug)]
pub struct Engagement {
    /// Its id.
    pub id: EngagementId,
    /// The only tools its tokens may call; none means every tool.
    pub tools: Option<BTreeSet<String>>,
}

/// All targets and engagements.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    targets: BTreeMap<TargetId, Arc<Target>>,
    engagements: BTreeMap<EngagementId, Engagement>,
}

impl Registry {
    /// The registry of these parts. A later part replaces an earlier one of the same id.
    pub fn new(engagements: impl IntoIterator<Item = Engagement>, targets: impl IntoIterator<Item = Target>) -> Self {
        Self {
            targets: targets.into_iter().map(|target| (target.id.clone(), Arc::new(target))).collect(),
            engagements: engagements.into_iter().map(|engagement| (engagement.id.clone(), engagement)).collect(),
        }
    }

    /// The target `id`, if it belongs to `engagement`.
    pub fn target(&self, engagement: &EngagementId, id: &str) -> Option<&Arc<Target>> {
        self.targets.get(id).filter(|target| target.engagement == *engagement)
    }

    /// The targets of `engagement`, by id.
    pub fn targets_of<'a>(&'a self, engagement: &'a EngagementId) -> impl Iterator<Item = &'a Arc<Target>> {
        self.targets.values().filter(move |target| target.engagement == *engagement)
    }

    /// Every target of every engagement: for the executors, which see only what policy permitted.
    pub fn all_targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.targets.values()
    }

    /// The engagement `id`.
    pub fn engagement(&self, id: &EngagementId) -> Option<&Engagement> {
        self.engagements.get(id)
    }
}

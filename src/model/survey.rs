//! Reading many targets at once, as questions to the gateway: what is wanted of which targets. Names targets by filter
//! or by snapshot, never how they are reached.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FleetFilter, SnapshotId, TargetId};

/// What is read of many targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Survey {
    /// How do they do?
    Summary {
        /// Which; `limit` bounds the targets that are shown, not those that are counted.
        filter: FleetFilter,
        /// Whether they are read now; otherwise what is known of them is told.
        refresh: bool,
        /// How many targets of the order, worst first, were shown before.
        skip: u32,
    },
    /// Keep how they are now.
    Snapshot {
        /// Which.
        filter: FleetFilter,
        /// What of them; not empty.
        sections: Vec<Inventory>,
        /// The caller's name for it.
        label: Option<String>,
    },
    /// What is different?
    Difference {
        /// Before.
        from: SnapshotId,
        /// After; none for now.
        to: Option<SnapshotId>,
        /// Only this target.
        target: Option<TargetId>,
        /// Only this; empty means all that both have.
        sections: Vec<Inventory>,
        /// The most differences to return.
        limit: u32,
    },
}

/// How a target does, by its worst finding. The order is that of weight: best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(description = "")]
#[expect(missing_docs, reason = "comments of variants would go into every schema that clients read")]
pub enum Health {
    // Nothing is wrong that is known of.
    Ok,
    // Nothing is known of it, or only what is old.
    Unknown,
    // Something wants to be looked at.
    Warning,
    // Something does not work, or soon will not.
    Critical,
}

impl Health {
    /// Every word, best first.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Unknown, Self::Warning, Self::Critical];

    /// The word used in arguments and replies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One part of what a snapshot keeps of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(description = "")]
#[expect(missing_docs, reason = "comments of variants would go into every schema that clients read")]
pub enum Inventory {
    // The system and its kernel.
    Os,
    // Packages and their versions.
    Packages,
    // Services, sockets and timers, and whether they are enabled and run.
    Units,
    // What is mounted where.
    Mounts,
    // Where it listens.
    Sockets,
}

impl Inventory {
    /// Every part, in the order scripts are asked for them.
    pub const ALL: [Self; 5] = [Self::Os, Self::Mounts, Self::Sockets, Self::Units, Self::Packages];

    /// The word used in arguments and replies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Os => "os",
            Self::Packages => "packages",
            Self::Units => "units",
            Self::Mounts => "mounts",
            Self::Sockets => "sockets",
        }
    }

    /// The part that is called so.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.as_str() == name)
    }
}

/// Selects snapshots. Every condition that is set must hold; the engagement is added by the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotFilter {
    /// Is labelled so, exactly.
    pub label: Option<String>,
    /// Is older than this one: the cursor of the page before.
    pub before: Option<SnapshotId>,
    /// The most snapshots to return.
    pub limit: u32,
}

//! A target: something we operate.

use std::{path::PathBuf, time::Duration};

use serde::Serialize;

use super::{EngagementId, ScopeSet, TargetId};

/// How a target is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetKind {
    /// The machine the gateway itself runs on.
    Local,
}

impl TargetKind {
    /// The word used in configuration and replies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
        }
    }
}

/// How far `sudo -n` may be used on a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SudoPolicy {
    /// Never: commands run as the login user.
    #[default]
    None,
    /// For the exact command lines that the host's sudoers file lists.
    Limited,
}

/// One target as configured. The registry hands it out only to its own engagement.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its id, unique in the whole registry.
    pub id: TargetId,
    /// How it is reached.
    pub kind: TargetKind,
    /// The tenant it belongs to.
    pub engagement: EngagementId,
    /// What may be done to it, whatever a token says.
    pub capabilities: ScopeSet,
    /// A label site policy can select, e.g. `production-a`.
    pub segment: Option<String>,
    /// Free labels.
    pub tags: Vec<String>,
    /// The directories file tools stay inside: absolute and canonical, without a trailing slash.
    pub roots: Vec<PathBuf>,
    /// The longest one step may take.
    pub timeout: Duration,
    /// The most steps at the same time.
    pub concurrency: usize,
    /// Whether `sudo -n` is used for changes.
    pub sudo: SudoPolicy,
}

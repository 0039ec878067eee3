//! How bad it can get (`Risk`) and what it does to the world (`Effect`).

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much harm a mistaken call can do. Ordered: `Low < Moderate < High < Critical`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Risk {
    /// Looks at harmless state.
    Low,
    /// Looks at state that may hold private data, or makes a small change.
    Moderate,
    /// Changes a running system, or reads file content.
    High,
    /// May take a host or its access away; needs a person's approval.
    Critical,
}

impl Risk {
    /// The word used in configuration, audit and replies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Moderate => "moderate",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an operation does to its target. A dry run is a `Read`, whatever its tool does otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Changes nothing.
    Read,
    /// Changes something that can be changed back.
    Write,
    /// May lose work or data.
    Destructive,
}

impl Effect {
    /// The word used in audit and replies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Destructive => "destructive",
        }
    }

    /// Whether the operation changes anything.
    pub fn changes(self) -> bool {
        self != Self::Read
    }
}

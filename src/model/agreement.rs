//! What people say to an operation, and how strongly it is known that it was they who said it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a person says to one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Vote {
    /// Yes, to exactly this.
    Approve,
    /// No.
    Deny,
}

impl Vote {
    /// The word used in the API, in what is signed and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for Vote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How it is known who voted. Ordered: a signature is stronger than the identity of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Strength {
    /// The network or the kernel says whose connection the vote came over.
    #[default]
    Identity,
    /// A key enrolled for that person signed the vote.
    Signature,
}

impl Strength {
    /// The word used in configuration, site policy and the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Signature => "signature",
        }
    }
}

impl fmt::Display for Strength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

//! Identifiers, each its own type so that one cannot stand where another is meant.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// Names one target in the registry, e.g. `web-server-01`.
    TargetId
);
text_id!(
    /// Names a tenant. A token belongs to exactly one.
    EngagementId
);
text_id!(
    /// The id of one token (`jti`): what `token revoke` takes.
    Jti
);

text_id!(
    /// Names one approval: what `tailops approve` takes, e.g. `k3vd-9w2m-7qtp`.
    ApprovalId
);

/// 32 hex digits, unique and ordered by time: 48 bits of milliseconds, then 74 random ones (UUIDv7).
fn by_time() -> String {
    Uuid::now_v7().as_simple().to_string()
}

text_id!(
    /// Names one job: work on a target that outlives the call that started it. 32 hex digits; its unit on the target is
    /// `tailops-<id>`.
    JobId
);

impl JobId {
    /// A new id, unique and ordered by time. No secret: a job is its owner's, whoever knows its id.
    pub fn random() -> Self {
        by_time().into()
    }
}

text_id!(
    /// Names one snapshot of the fleet. 32 hex digits, ordered by time.
    SnapshotId
);

impl SnapshotId {
    /// A new id, unique and ordered by time.
    pub fn random() -> Self {
        by_time().into()
    }

    /// `text` as an id, if it has the form of one.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (text.len() == 32 && digits).then(|| text.into())
    }
}

/// Joins everything that one request caused: HTTP, decision, execution, audit entries, log lines. A UUIDv7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CorrelationId(Uuid);

impl CorrelationId {
    /// A new id, unique and ordered by time.
    pub fn random() -> Self {
        Self(Uuid::now_v7())
    }
}

impl std::str::FromStr for CorrelationId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

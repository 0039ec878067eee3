//! From a pending operation to a permit: only through a person. No kind of approver exists in this version, so every
//! answer is that none is available, and nothing that needs one runs.

use crate::policy::{Pending, Permit};

/// Why there is no permit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unapproved {
    /// Nobody could say yes.
    #[error("{why}; no approver is configured")]
    Unavailable {
        /// Why a yes would be needed.
        why: String,
    },
}

impl Unapproved {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "approval_unavailable",
        }
    }
}

/// Asks people.
#[derive(Clone, Debug, Default)]
pub struct Approvals;

impl Approvals {
    /// A permit for `pending`, if a person agreed to exactly it.
    pub async fn obtain(&self, pending: Pending) -> Result<Permit, Unapproved> {
        Err(Unapproved::Unavailable { why: pending.why().into_owned() })
    }
}

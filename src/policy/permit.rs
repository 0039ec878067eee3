//! Proof of an allow. Only this module makes one.

use std::{borrow::Cow, time::Duration};

use jiff::Timestamp;

use crate::model::Operation;

/// How long a permit is good for: longer than the longest queue, far shorter than a person's memory.
const LIFE: Duration = Duration::from_secs(60);

/// Proof that policy allowed exactly the operation inside. Executors run nothing without one. Cannot be copied, built
/// elsewhere or used late.
///
/// ```compile_fail
/// fn twice(permit: tailops::policy::Permit) -> [tailops::policy::Permit; 2] {
///     [permit.clone(), permit]
/// }
/// ```
#[derive(Debug)]
pub struct Permit {
    operation: Operation,
    rule: Cow<'static, str>,
    expires: Timestamp,
}

/// The permit was not used in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the permit expired before it was used")]
pub struct PermitExpired;

impl Permit {
    pub(super) fn mint(operation: Operation, rule: Cow<'static, str>, now: Timestamp) -> Self {
        let expires = now.checked_add(LIFE).unwrap_or(Timestamp::MIN);
        Self { operation, rule, expires }
    }

    /// The operation that was judged.
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// The checks and policies that allowed it.
    pub fn rule(&self) -> &Cow<'static, str> {
        &self.rule
    }

    /// Gives up the permit for the operation it allows. Errors when it comes too late.
    pub(crate) fn redeem(self, now: Timestamp) -> Result<Operation, PermitExpired> {
        if now < self.expires { Ok(self.operation) } else { Err(PermitExpired) }
    }
}

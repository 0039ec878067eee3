//! The three answers of policy, each with the trace of checks that led to it.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Serialize;

use super::{Judgement, Permit};
use crate::model::{Operation, Strength};

/// What one check said. Ordered by weight: a deny outweighs an ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing against it.
    Pass,
    /// Only with a person's yes.
    Ask,
    /// No.
    Deny,
}

/// One line of the trace.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// The check, e.g. `token_scope`.
    pub name: &'static str,
    /// What it said.
    pub verdict: Verdict,
    /// The code a refusal for this reason carries; empty on a pass.
    pub code: &'static str,
    /// Why; empty where there is nothing to say.
    pub detail: Cow<'static, str>,
}

impl Check {
    /// A check that passes or denies. The detail is made only for a denial.
    pub(super) fn new(name: &'static str, pass: bool, code: &'static str, detail: impl FnOnce() -> String) -> Self {
        if pass {
            Self { name, verdict: Verdict::Pass, code: "", detail: Cow::Borrowed("") }
        } else {
            Self { name, verdict: Verdict::Deny, code, detail: Cow::Owned(detail()) }
        }
    }
}

/// The answer of policy.
#[derive(Debug)]
pub enum Decision {
    /// It may run: the permit is the proof.
    Allow(Permit, Vec<Check>),
    /// It may run once a person said yes to exactly this.
    Ask(Pending),
    /// It may not run.
    Deny(Denial),
}

impl Decision {
    /// `allow`, `ask` or `deny`.
    pub fn verdict(&self) -> &'static str {
        match self {
            Self::Allow(..) => "allow",
            Self::Ask(_) => "ask",
            Self::Deny(_) => "deny",
        }
    }

    /// Every check, in order.
    pub fn trace(&self) -> &[Check] {
        match self {
            Self::Allow(_, trace) => trace,
            Self::Ask(pending) => pending.judgement.trace(),
            Self::Deny(denial) => denial.judgement.trace(),
        }
    }

    /// The operation that was judged.
    pub fn operation(&self) -> &Operation {
        match self {
            Self::Allow(permit, _) => permit.operation(),
            Self::Ask(pending) => &pending.operation,
            Self::Deny(denial) => &denial.operation,
        }
    }

    /// The checks and policies that decided, for the record.
    pub fn rule(&self) -> Cow<'static, str> {
        match self {
            Self::Allow(permit, _) => permit.rule().clone(),
            Self::Ask(pending) => pending.judgement.rule(),
            Self::Deny(denial) => denial.judgement.rule(),
        }
    }
}

/// An operation that waits for a person's yes.
#[derive(Debug)]
pub struct Pending {
    operation: Operation,
    judgement: Judgement,
}

impl Pending {
    pub(super) fn new(operation: Operation, judgement: Judgement) -> Self {
        Self { operation, judgement }
    }

    /// What would run.
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// Why a person has to agree: every reason there is.
    pub fn why(&self) -> Cow<'_, str> {
        self.judgement.message()
    }

    /// How many people must agree, at least one.
    pub fn quorum(&self) -> u32 {
        self.judgement.quorum().max(1)
    }

    /// The permit of what people agreed to: only `approval` asks for it, once they did. `how` names the agreement.
    pub(crate) fn into_permit(self, how: &str, now: Timestamp) -> Permit {
        let rule = format!("{}; {how}", self.judgement.rule());
        Permit::mint(self.operation, rule.into(), now)
    }

    /// The least strength of each yes.
    pub fn strength(&self) -> Strength {
        self.judgement.strength()
    }

    /// Every check, in order.
    pub fn trace(&self) -> &[Check] {
        self.judgement.trace()
    }

    /// The checks and policies that ask.
    pub fn rule(&self) -> Cow<'static, str> {
        self.judgement.rule()
    }

    /// The site policies that ask, by id.
    pub fn policies(&self) -> &[String] {
        self.judgement.policies()
    }
}

/// A refusal.
#[derive(Debug)]
pub struct Denial {
    operation: Operation,
    judgement: Judgement,
}

impl Denial {
    pub(super) fn new(operation: Operation, judgement: Judgement) -> Self {
        Self { operation, judgement }
    }

    /// For programs, e.g. `insufficient_scope`.
    pub fn code(&self) -> &'static str {
        self.judgement.code()
    }

    /// For the caller.
    pub fn message(&self) -> Cow<'_, str> {
        self.judgement.message()
    }
}

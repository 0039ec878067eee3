//! Questions the gateway answers about itself, as typed steps.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Jti, Operation, TargetId};

/// One question. Answered after policy allowed the operation it is part of, like any other step.
#[derive(Clone, Debug)]
pub enum Question {
    /// Who am I and what may I do?
    Token,
    /// Take this token back. On a dry run: whose is it?
    Revocation(Jti),
    /// What would policy say to this call?
    Policy(Box<Inquiry>),
    /// Which entries does the audit log hold?
    Audit(AuditFilter),
    /// Which targets are there?
    Fleet(FleetFilter),
    /// Which machines of the tailnet could become targets?
    Candidates(CandidateFilter),
    /// How is the gateway? Sections by name; empty means all.
    Gateway(Vec<String>),
}

/// A call that is only asked about.
#[derive(Clone, Debug)]
pub struct Inquiry {
    /// The tool asked about.
    pub tool: String,
    /// What it would do, or why it could not even be planned (code and message).
    pub planned: Result<Operation, (&'static str, String)>,
}

/// Selects audit records. Every condition that is set must hold; the engagement is added by the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditFilter {
    /// The token's subject, exactly.
    pub subject: Option<String>,
    /// The tool, exactly.
    pub tool: Option<String>,
    /// The target, exactly.
    pub target: Option<String>,
    /// Any of these statuses.
    pub status: Vec<String>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
    /// One request.
    pub correlation_id: Option<String>,
    /// Only records with a smaller sequence number: the cursor of the page before.
    pub before: Option<u64>,
    /// The most records to return.
    pub limit: u32,
}

/// Selects targets. Every condition that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetFilter {
    /// Has this tag.
    pub tag: Option<String>,
    /// Lies in this segment.
    pub segment: Option<String>,
    /// Is reached this way.
    pub kind: Option<String>,
    /// Comes after this id: the cursor of the page before.
    pub after: Option<TargetId>,
    /// The most targets to return.
    pub limit: u32,
}

/// Selects candidates. Every condition that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CandidateFilter {
    /// Has this tailnet tag, e.g. `tag:web`.
    pub tag: Option<String>,
    /// Is seen by the control server, or is not.
    pub online: Option<bool>,
    /// Comes after this one in the order of names and ids: the cursor of the page before.
    pub after: Option<(String, String)>,
    /// The most candidates to return.
    pub limit: u32,
}

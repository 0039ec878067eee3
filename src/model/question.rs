//! Questions the gateway answers about itself, as typed steps.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ApprovalId, Health, JobId, Jti, Operation, SnapshotFilter, Survey, Target, TargetId, Vote};

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
    /// Change the registry. On a dry run: what would change, and which keys has the host?
    Registration(Box<Registration>),
    /// Which machines of the tailnet could become targets?
    Candidates(CandidateFilter),
    /// How do the questions to people stand?
    Approvals(ApprovalFilter),
    /// Take what a person says to one of them.
    Decision(Ballot),
    /// How do the caller's jobs stand?
    Jobs(JobFilter),
    /// Stop this one of the caller's jobs. On a dry run: how does it stand?
    JobCancel(JobId),
    /// Read many targets: the pipeline does that under a permit for each.
    Survey(Survey),
    /// Which snapshots of the fleet are kept?
    Snapshots(SnapshotFilter),
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

/// A change of the registry: one target put there, replaced or removed.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Which.
    pub id: TargetId,
    /// What it is from then on; none to remove it.
    pub wanted: Option<Box<Target>>,
    /// Whether there has to be one already.
    pub replaces: bool,
    /// Names the entry that has to be found; `absent` where there must be none.
    pub expected: Option<String>,
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

/// Selects questions to people. Every condition that is set must hold; the engagement is added by the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApprovalFilter {
    /// This one.
    pub id: Option<ApprovalId>,
    /// Stands so now: `pending`, `approved`, `denied`, `expired` or `used`.
    pub state: Option<&'static str>,
    /// Was asked by the caller's token.
    pub mine: bool,
    /// Is older than this one: the cursor of the page before.
    pub after: Option<ApprovalId>,
    /// The most questions to return.
    pub limit: u32,
}

/// Selects jobs of the caller. Every condition that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// This one, with the end of its log.
    pub id: Option<JobId>,
    /// How long to wait for its end, in seconds.
    pub wait_s: u32,
    /// The most lines of its log.
    pub lines: u32,
    /// Is older than this one: the cursor of the page before.
    pub after: Option<JobId>,
    /// The most jobs to return.
    pub limit: u32,
}

/// What a person says to one question.
#[derive(Clone, Debug)]
pub struct Ballot {
    /// To which.
    pub id: ApprovalId,
    /// What.
    pub vote: Vote,
    /// To which operation: the hash they saw.
    pub operation_hash: String,
    /// Why.
    pub comment: String,
    /// Their signature, armored SSHSIG, where they signed.
    pub signature: Option<String>,
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
    /// Does so by what is known of it. Holds only in a list: a summary and a snapshot are of every health.
    pub health: Option<Health>,
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

//! Plain values every station of a call speaks in: ids, scopes, risks, targets, steps, operations and what came
//! back. Answers for their shape and for the pure rules on them (scope closure, quoting, canonical JSON); does no
//! I/O and knows no one else.

mod address;
mod agreement;
mod attribution;
mod canonical;
mod certificate;
mod clock;
mod content;
mod failpoint;
mod host;
mod host_key;
mod ids;
mod job;
mod jump;
mod operation;
mod output;
mod probe;
mod progress;
mod question;
mod report;
mod risk;
mod scope;
mod step;
mod subtree;
mod survey;
mod target;
mod units;
mod url;

pub use address::{AddressRefused, AddressRules, Network, NotANetwork};
pub use agreement::{Strength, Vote};
pub use attribution::Attribution;
pub use canonical::{KeyFault, canonical_json, check_keys, hex};
pub use certificate::Certificate;
pub use clock::{Clock, SystemClock};
pub use content::{Content, Missing};
#[cfg(debug_assertions)]
pub(crate) use failpoint::choose_failpoint;
pub(crate) use failpoint::failpoint;
pub use host::{Host, HostFault};
pub use host_key::{HostKeyPin, NotAPin};
pub use ids::{ApprovalId, CorrelationId, EngagementId, JobId, Jti, SnapshotId, TargetId};
pub use job::{JobSight, JobState, UnitSight, WaitsFor, is_job_id};
pub use jump::{JumpFault, jumps};
pub use operation::Operation;
pub use output::{Captured, HostTrust, RawOutput, ScriptOutput, Section, StepOutcome, StepOutput, Stopped, Wire};
pub use probe::{
    Failure, Findings, HttpHead, HttpMethod, Probe, ProbeEnd, ProbeKind, ProbeOutput, ProbeRules, SHOWN_HEADERS,
    TlsFindings, Via,
};
pub use progress::{Progress, Tally};
pub use question::{
    ApprovalFilter, AuditFilter, Ballot, CandidateFilter, FleetFilter, Inquiry, JobFilter, Question, Registration,
};
pub use report::{Level, Line, Report, Subject};
pub use risk::{Effect, Risk};
pub use scope::{Scope, ScopeError, ScopeSet};
pub use step::{QuoteError, Script, Step, Template, quote};
pub use subtree::{Subtree, SubtreeError};
pub use survey::{Health, Inventory, SnapshotFilter, Survey};
pub use target::{Connection, KeyReference, Registered, SudoPolicy, Target, TargetKind};
pub use units::{UnitError, format_duration, format_size, parse_duration, parse_size};
pub use url::{HttpUrl, UrlFault, UrlRule};

//! Plain values every station of a call speaks in: ids, scopes, risks, targets, steps, operations and what came
//! back. Answers for their shape and for the pure rules on them (scope closure, quoting, canonical JSON); does no
//! I/O and knows no one else.

mod canonical;
mod clock;
mod content;
mod failpoint;
mod ids;
mod operation;
mod output;
mod question;
mod risk;
mod scope;
mod step;
mod target;
mod units;

pub use canonical::{KeyFault, canonical_json, check_keys, hex};
pub use clock::{Clock, SystemClock};
pub use content::{Content, Missing};
#[cfg(debug_assertions)]
pub(crate) use failpoint::choose_failpoint;
pub(crate) use failpoint::failpoint;
pub use ids::{CorrelationId, EngagementId, Jti, TargetId};
pub use operation::Operation;
pub use output::{Captured, RawOutput, ScriptOutput, Section, StepOutcome, StepOutput, Stopped};
pub use question::{AuditFilter, FleetFilter, Inquiry, Question};
pub use risk::{Effect, Risk};
pub use scope::{Scope, ScopeError, ScopeSet};
pub use step::{QuoteError, Script, Step, Template, quote};
pub use target::{Connection, KeyReference, Registered, SudoPolicy, Target, TargetKind};
pub use units::{UnitError, format_duration, format_size, parse_duration, parse_size};

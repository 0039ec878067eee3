//! For whom something runs: what a target's own log may be told of a call. Names, never rights.

use super::CorrelationId;

/// Who caused a step, in words: a backend that logs in on a target names it there, and decides nothing by it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attribution {
    /// The subject of the caller's token.
    pub subject: String,
    /// Joins what the target logs with the audit log.
    pub correlation: CorrelationId,
}

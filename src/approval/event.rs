//! What happened to a question, for the record. The audit log stands behind this module, so it is reached through a
//! trait: nothing counts before its event is recorded.

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use super::Person;
use crate::model::{CorrelationId, EngagementId, TargetId};

/// One event.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// What happened, e.g. `approval.approve`.
    pub act: &'static str,
    /// Joins it to the call that asked.
    pub correlation: CorrelationId,
    /// The tenant it belongs to; none for acts on the gateway itself.
    pub engagement: Option<EngagementId>,
    /// What the operation is about.
    pub target: Option<TargetId>,
    /// The question and what is known of its answer.
    pub approval: Option<Agreement>,
    /// Who did it; none where it happened by itself.
    pub by: Option<&'a Person>,
    /// What was signed, where it was; checked before.
    pub signed: Option<Signed>,
    /// More: the comment.
    pub details: Map<String, Value>,
    /// Why it was refused: code and text.
    pub refused: Option<(&'static str, String)>,
}

/// A checked signature with all that is needed to check it again: recorded as it is, untouched by redaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The text that was signed: [`super::Statement`].
    pub statement: String,
    /// Over it: SSHSIG, armored.
    pub signature: String,
    /// The key that made it, as one line of OpenSSH without a comment.
    pub public_key: String,
}

/// What people agreed to, as the record names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// The approval's id, or the pass's that stood for one.
    pub id: String,
    /// What was agreed to.
    pub operation_hash: String,
    /// Who agreed, each once.
    pub approvers: Vec<Approver>,
    /// Whether a pass for emergencies stood for an approval.
    pub break_glass: bool,
}

/// Somebody who agreed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approver {
    /// Their login.
    pub login: String,
    /// How it is known.
    pub strength: crate::model::Strength,
    /// The key that signed.
    pub key_id: Option<String>,
}

/// The record cannot be had now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("decisions cannot be recorded now, so none is made")]
pub struct NotRecorded;

/// An event whose end is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun(pub i64);

/// Keeps events for good.
pub trait Recorder: Send + Sync + 'static {
    /// Returns once the event is durable.
    fn record<'a>(&'a self, event: Event<'a>) -> BoxFuture<'a, Result<(), NotRecorded>>;

    /// Keeps that something is about to be done. Returns once that is durable: then the end is owed.
    fn begin<'a>(&'a self, event: Event<'a>) -> BoxFuture<'a, Result<Begun, NotRecorded>>;

    /// Keeps how it ended. On an error it is kept later.
    fn finish<'a>(&'a self, begun: Begun, event: Event<'a>) -> BoxFuture<'a, Result<(), NotRecorded>>;

    /// What may be kept and shown of a text that somebody wrote.
    fn cleaned(&self, text: &str) -> String;
}

//! One event as it stands in the log. Exported as it is: a line of `audit export` is the leaf.

use std::{borrow::Cow, collections::BTreeMap};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Refusal;
use crate::{
    auth::Caller,
    guard::Guard,
    model::{CorrelationId, Jti, ScopeSet},
    store::StoredLeaf,
    tailnet::Peer,
};

/// How an event ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// An intent: what comes is in another record.
    Pending,
    /// Done.
    Ok,
    /// Tried, and it did not work.
    Failed,
    /// Refused: identity, token, policy or approval.
    Denied,
    /// Refused: too many.
    Limited,
    /// Refused: the arguments or the request are wrong.
    Invalid,
    /// The caller went away before it ended.
    Cancelled,
    /// The gateway stopped before the end was recorded.
    Interrupted,
}

/// One event. The keys of the log format version 1; a key without a value is left out unless consumers rely on it.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the keys are explained in docs/audit.md, which a test compares with this struct")]
pub struct Record {
    pub v: u32,
    pub seq: i64,
    pub kind: &'static str,
    pub timestamp: Timestamp,
    pub correlation_id: CorrelationId,
    #[serde(flatten)]
    pub call: CallFacts,
    pub approved: bool,
    pub result_status: &'static str,
    pub status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exec: Vec<Execution>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub redactions: BTreeMap<&'static str, u32>,
    pub tailscale: PeerFacts,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intent_seq: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpFacts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folded: Option<Folded>,
}

/// What was asked, by which token. Null where there was no call.
#[derive(Clone, Debug, Default, Serialize)]
#[expect(missing_docs, reason = "the keys are explained in docs/audit.md, which a test compares with this struct")]
pub struct CallFacts {
    pub tool: Option<String>,
    pub subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<Jti>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engagement: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    pub args: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args_commitment: Option<String>,
    pub scopes: ScopeSet,
    pub risk_level: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<&'static str>,
}

/// The other end of the connection.
#[derive(Clone, Debug, Default, Serialize)]
#[expect(missing_docs, reason = "the keys are explained in docs/audit.md, which a test compares with this struct")]
pub struct PeerFacts {
    pub tailscale_node: Option<String>,
    pub tailscale_node_id: Option<String>,
    pub tailscale_user: Option<String>,
    pub tailscale_tags: Vec<String>,
    pub tailnet: Option<String>,
    pub address: Option<String>,
}

/// One step that ran.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the keys are explained in docs/audit.md, which a test compares with this struct")]
pub struct Execution {
    pub template_id: &'static str,
    pub argv_sha256: String,
    pub outcome: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    pub stdout_bytes: u64,
    pub stdout_sha256: String,
    pub duration_ms: u64,
}

/// The request that was refused.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the keys are explained in docs/audit.md, which a test compares with this struct")]
pub struct HttpFacts {
    pub method: String,
    pub path: String,
    pub status: u16,
}

/// Refusals of one source that were only counted.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the keys are explained in docs/audit.md, which a test compares with this struct")]
pub struct Folded {
    pub count: u64,
    pub first: Timestamp,
    pub last: Timestamp,
}

impl PeerFacts {
    fn of(peer: &Peer) -> Self {
        Self {
            tailscale_node: Some(peer.node.clone()),
            tailscale_node_id: Some(peer.id.clone()),
            tailscale_user: peer.user.clone(),
            tailscale_tags: peer.tags.clone(),
            tailnet: peer.tailnet.clone(),
            address: Some(peer.address.to_string()),
        }
    }
}

impl CallFacts {
    fn of(caller: &Caller) -> Self {
        let token = caller.token();
        Self {
            subject: Some(token.subject.clone()),
            owner: Some(token.owner.clone()),
            jti: Some(token.jti.clone()),
            engagement: Some(token.engagement.to_string()),
            scopes: token.scopes,
            ..Self::default()
        }
    }
}

impl Record {
    fn new(kind: &'static str, correlation_id: CorrelationId, timestamp: Timestamp) -> Self {
        Self {
            v: 1,
            seq: 0,
            kind,
            timestamp,
            correlation_id,
            call: CallFacts::default(),
            approved: false,
            result_status: "pending",
            status: Status::Pending,
            code: None,
            error: None,
            duration_ms: None,
            exec: Vec::new(),
            redactions: BTreeMap::new(),
            tailscale: PeerFacts::default(),
            intent_seq: None,
            http: None,
            folded: None,
        }
    }

    pub(super) fn of_call(caller: &Caller, correlation: CorrelationId, tool: &str, now: Timestamp) -> Self {
        let call = CallFacts { tool: Some(tool.chars().take(128).collect()), ..CallFacts::of(caller) };
        Self { call, tailscale: PeerFacts::of(caller.peer()), ..Self::new("call", correlation, now) }
    }

    pub(super) fn of_refusal(refusal: &Refusal<'_>, guard: &Guard, now: Timestamp) -> Self {
        let mut record = Self::new("refusal", refusal.correlation, now);
        record.call = refusal.caller.map(CallFacts::of).unwrap_or_default();
        record.tailscale = refusal.peer.map(PeerFacts::of).unwrap_or_default();
        record.tailscale.address = Some(refusal.address.to_string());
        let status = match refusal.status {
            429 => Status::Limited,
            401 | 403 => Status::Denied,
            500.. => Status::Failed,
            _ => Status::Invalid,
        };
        record.ended(status, Some(refusal.code), Some(guard.text(&refusal.reason).text));
        let (method, path) = refusal.request;
        let path = guard.text(&path.chars().take(256).collect::<String>()).text;
        record.http = Some(HttpFacts { method: method.to_owned(), path, status: refusal.status });
        record
    }

    /// An act of administration by the local user `by`, e.g. `token.mint`.
    pub(super) fn of_administration(act: &str, by: &str, details: Map<String, Value>, now: Timestamp) -> Self {
        let mut record = Self::new("admin", CorrelationId::random(), now);
        record.call.tool = Some(act.to_owned());
        record.call.subject = Some(by.to_owned());
        record.call.args = details;
        record.ended(Status::Ok, None, None);
        record
    }

    /// Recording works again after it did not.
    pub(super) fn of_resumption(since: Timestamp, now: Timestamp) -> Self {
        let mut record = Self::new("admin", CorrelationId::random(), now);
        record.call.tool = Some("audit.resumed".to_owned());
        record.call.args.insert("unavailable_since".to_owned(), Value::from(since.to_string()));
        record.ended(Status::Ok, None, None);
        record
    }

    /// Sets how it ended.
    pub(super) fn ended(&mut self, status: Status, code: Option<&'static str>, error: Option<String>) {
        self.status = status;
        self.result_status = match status {
            Status::Pending => "pending",
            Status::Ok => "success",
            _ => "error",
        };
        self.code = code.map(Cow::Borrowed);
        self.error = error;
    }
}

/// The outcome of an intent that a restart found open: the intent's keys, and that its end is unknown. None where the
/// leaf cannot be read.
pub(super) fn interrupted(intent: &StoredLeaf) -> Option<Map<String, Value>> {
    let Ok(Value::Object(mut keys)) = serde_json::from_str(&intent.leaf) else { return None };
    let error = "interrupted: the gateway stopped before the end was recorded; whether it ran is unknown";
    for (key, value) in [
        ("kind", Value::from("outcome")),
        ("result_status", Value::from("error")),
        ("status", Value::from("interrupted")),
        ("code", Value::from("interrupted")),
        ("error", Value::from(error)),
        ("intent_seq", Value::from(intent.seq)),
    ] {
        keys.insert(key.to_owned(), value);
    }
    Some(keys)
}

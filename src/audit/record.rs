//! One event as it stands in the log. Exported as it is: a line of `audit export` is the leaf.

use std::{borrow::Cow, collections::BTreeMap};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};

use super::{Refusal, Surveyed};
use crate::{
    approval::{Agreement, Approver, Event, Signed},
    auth::{Caller, Claims},
    guard::Guard,
    model::{CorrelationId, EngagementId, JobState, Jti, Risk, ScopeSet, Strength, TargetId, Wire, canonical_json},
    store::{JobRow, StoredLeaf},
    tailnet::Peer,
};

/// How an event ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(description = "")]
#[expect(missing_docs, reason = "comments of variants would go into every schema that clients read")]
pub enum Status {
    // An intent: what comes is in another record.
    Pending,
    // Done.
    Ok,
    // Tried, and it did not work.
    Failed,
    // Nothing ran: people are asked.
    Asked,
    // Refused: identity, token, policy or approval.
    Denied,
    // Refused: too many.
    Limited,
    // Refused: the arguments or the request are wrong.
    Invalid,
    // The caller went away before it ended.
    Cancelled,
    // The gateway stopped before the end was recorded.
    Interrupted,
}

/// One event. The keys of the log format version 1; a key without a value is left out unless consumers rely on it.
///
/// The fields stand in the order of their names, here and in the parts, and no number is a fraction: so what serde
/// writes is already the canonical form of RFC 8785. A test compares every kind of record with the canonical form.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the keys are explained in docs/audit.md, which a test compares with this struct")]
pub struct Record {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalFacts>,
    pub approved: bool,
    /// In canonical form.
    pub args: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args_commitment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    pub correlation_id: CorrelationId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engagement: Option<EngagementId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exec: Vec<Execution>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folded: Option<Folded>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpFacts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intent_seq: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<Jti>,
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub redactions: BTreeMap<&'static str, u32>,
    pub result_status: &'static str,
    pub risk_level: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Cow<'static, str>>,
    pub scopes: ScopeSet,
    pub seq: i64,
    pub status: Status,
    pub subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub survey: Option<Surveyed>,
    pub tailscale: PeerFacts,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetId>,
    pub timestamp: Timestamp,
    pub tool: Option<String>,
    pub v: u32,
}

/// The question to people that a record belongs to.
#[derive(Clone, Debug, Default, Serialize)]
#[expect(missing_docs, reason = "the keys are explained in docs/audit.md, which a test compares with this struct")]
pub struct ApprovalFacts {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<ApproverFacts>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedFacts>,
}

/// A checked signature, as it came, with all that is needed to check it again.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the keys are explained in docs/audit.md, which a test compares with this struct")]
pub struct SignedFacts {
    pub public_key: String,
    pub signature: String,
    pub statement: String,
}

impl From<&Signed> for SignedFacts {
    fn from(signed: &Signed) -> Self {
        let Signed { statement, signature, public_key } = signed.clone();
        Self { public_key, signature, statement }
    }
}

/// Somebody who decided.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the keys are explained in docs/audit.md, which a test compares with this struct")]
pub struct ApproverFacts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    pub login: String,
    pub strength: Strength,
}

impl From<&Agreement> for ApprovalFacts {
    fn from(agreement: &Agreement) -> Self {
        let facts = |approver: &Approver| ApproverFacts {
            key_id: approver.key_id.clone(),
            login: approver.login.clone(),
            strength: approver.strength,
        };
        Self {
            approvers: agreement.approvers.iter().map(facts).collect(),
            break_glass: agreement.break_glass,
            id: agreement.id.clone(),
            // A pass that was not used has none.
            operation_hash: Some(agreement.operation_hash.clone()).filter(|hash| !hash.is_empty()),
            signed: None,
        }
    }
}

/// The other end of the connection.
#[derive(Clone, Debug, Default, Serialize)]
#[expect(missing_docs, reason = "the keys are explained in docs/audit.md, which a test compares with this struct")]
pub struct PeerFacts {
    pub address: Option<String>,
    pub tailnet: Option<String>,
    pub tailscale_node: Option<String>,
    pub tailscale_node_id: Option<String>,
    pub tailscale_tags: Vec<String>,
    pub tailscale_user: Option<String>,
}

/// One step that ran.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the keys are explained in docs/audit.md, which a test compares with this struct")]
pub struct Execution {
    pub argv_sha256: String,
    pub duration_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    pub outcome: String,
    pub stdout_bytes: u64,
    pub stdout_sha256: String,
    pub template_id: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wire: Option<WireFacts>,
}

impl Execution {
    /// What its caller is told: how the gateway logs in on targets is for the record alone.
    pub fn for_caller(&self) -> Self {
        Self { wire: None, ..self.clone() }
    }
}

/// The connection that a step went over: what joins it with the log of the target's sshd.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the keys are explained in docs/audit.md, which a test compares with this struct")]
pub struct WireFacts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_authority: Option<String>,
    pub host_key: String,
    pub host_trust: &'static str,
    pub login: String,
    // Not called a credential: whoever queries the log would see it taken out as one.
    pub login_id: String,
}

impl From<&Wire> for WireFacts {
    fn from(Wire { login, host_key, trust, credential }: &Wire) -> Self {
        Self {
            host_authority: trust.authority().map(str::to_owned),
            host_key: host_key.clone(),
            host_trust: trust.as_str(),
            login: login.clone(),
            login_id: credential.clone(),
        }
    }
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
            // A tagged node is nobody's.
            tailscale_user: peer.user.clone().filter(|_| peer.tags.is_empty()),
            tailscale_tags: peer.tags.clone(),
            tailnet: peer.tailnet.clone(),
            address: Some(peer.address.to_string()),
        }
    }
}

impl Record {
    pub(super) fn new(kind: &'static str, correlation_id: CorrelationId, timestamp: Timestamp) -> Self {
        Self {
            approval: None,
            approved: false,
            args: empty(),
            args_commitment: None,
            binding: None,
            code: None,
            correlation_id,
            decision: None,
            dry_run: None,
            duration_ms: None,
            effect: None,
            engagement: None,
            error: None,
            exec: Vec::new(),
            folded: None,
            http: None,
            intent_seq: None,
            jti: None,
            kind,
            owner: None,
            reason: None,
            redactions: BTreeMap::new(),
            result_status: "pending",
            risk_level: None,
            rule: None,
            scopes: ScopeSet::default(),
            seq: 0,
            status: Status::Pending,
            subject: None,
            survey: None,
            tailscale: PeerFacts::default(),
            target: None,
            timestamp,
            tool: None,
            v: 1,
        }
    }

    fn with_token(mut self, token: &Claims) -> Self {
        self.subject = Some(token.subject.clone());
        self.owner = Some(token.owner.clone());
        self.jti = Some(token.jti.clone());
        self.engagement = Some(token.engagement.clone());
        self.scopes = token.scopes;
        self
    }

    pub(super) fn of_call(caller: &Caller, correlation: CorrelationId, tool: &str, now: Timestamp) -> Self {
        Self {
            tool: Some(tool.chars().take(128).collect()),
            tailscale: PeerFacts::of(caller.peer()),
            ..Self::new("call", correlation, now).with_token(caller.token())
        }
    }

    pub(super) fn of_refusal(refusal: &Refusal<'_>, guard: &Guard, now: Timestamp) -> Self {
        let mut record = Self::new("refusal", refusal.correlation, now);
        if let Some(token) = refusal.token {
            record = record.with_token(token);
            // Of a token that came from its own peer the peer says it.
            let stray = refusal.peer.is_some_and(|peer| !token.binding.is(peer));
            record.binding = stray.then(|| token.binding.to_string());
        }
        record.tailscale = refusal.peer.map(PeerFacts::of).unwrap_or_default();
        record.tailscale.address.get_or_insert_with(|| refusal.address.to_string());
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

    /// A peer lost its rights while it was connected: a refusal of all that it may still have asked for.
    pub(super) fn of_loss(peer: &Peer, code: &'static str, reason: String, now: Timestamp) -> Self {
        let mut record = Self::new("refusal", CorrelationId::random(), now);
        record.tailscale = PeerFacts::of(peer);
        record.ended(Status::Denied, Some(code), Some(reason));
        record
    }

    /// An act of administration by the local user `by`, e.g. `token.mint`; `refused` says why it was not done.
    pub(super) fn of_administration(
        act: &str,
        by: &str,
        details: &Map<String, Value>,
        refused: Option<String>,
        now: Timestamp,
    ) -> Self {
        let mut record = Self::new("admin", CorrelationId::random(), now);
        record.tool = Some(act.to_owned());
        record.subject = Some(by.to_owned());
        record.set_args(details);
        match refused {
            None => record.ended(Status::Ok, None, None),
            error => record.ended(Status::Failed, Some("refused"), error),
        }
        record
    }

    /// What happened to a question: asked by a call, whose correlation id it has.
    pub(super) fn of_event(event: &Event<'_>, guard: &Guard, now: Timestamp) -> Self {
        let mut record = Self::new("approval", event.correlation, now);
        record.tool = Some(event.act.to_owned());
        record.engagement = event.engagement.clone();
        record.target = event.target.clone();
        record.approval = event.approval.as_ref().map(ApprovalFacts::from);
        if let Some(facts) = &mut record.approval {
            facts.signed = event.signed.as_ref().map(SignedFacts::from);
        }
        record.subject = event.by.map(|person| person.login().to_owned());
        record.tailscale = event.by.and_then(|person| person.peer()).map(PeerFacts::of).unwrap_or_default();
        let cleaned = guard.arguments(&event.details);
        record.set_args(&cleaned.arguments);
        record.redactions = cleaned.redactions;
        match &event.refused {
            None => record.ended(Status::Ok, None, None),
            Some((code, why)) => record.ended(Status::Denied, Some(code), Some(guard.text(why).text)),
        }
        record
    }

    /// The end of a job: its call's, whose correlation id it has.
    pub(super) fn of_job(job: &JobRow, guard: &Guard, now: Timestamp) -> Self {
        let correlation = job.correlation_id.parse().unwrap_or_else(|_| CorrelationId::random());
        let mut record = Self::new("job", correlation, now);
        record.tool = Some(job.tool.clone());
        record.target = Some(job.target.as_str().into());
        record.engagement = Some(job.engagement.as_str().into());
        record.subject = Some(job.subject.clone());
        record.owner = Some(job.owner.clone());
        record.jti = Some(job.jti.as_str().into());
        let word = |text: &Option<String>| text.as_deref().map(|text| guard.text(text).text).into();
        record.set_args(&Map::from_iter([
            ("job_id".to_owned(), Value::from(job.id.as_str())),
            ("state".to_owned(), job.state.as_str().into()),
            ("result".to_owned(), word(&job.result)),
            ("exit_status".to_owned(), job.exit_status.into()),
            ("cancelled_by".to_owned(), word(&job.cancelled_by)),
            ("new_boot_id".to_owned(), word(&job.new_boot_id)),
            ("started_at".to_owned(), job.started_at.to_string().into()),
            ("ended_at".to_owned(), job.ended_at.map(|at| at.to_string()).into()),
        ]));
        match job.state {
            JobState::Succeeded => record.ended(Status::Ok, None, None),
            JobState::Cancelled => record.ended(Status::Cancelled, Some("job_cancelled"), None),
            JobState::Lost => record.ended(Status::Interrupted, Some("job_lost"), None),
            JobState::NotStarted => record.ended(Status::Failed, Some("job_not_started"), None),
            JobState::Failed | JobState::Starting | JobState::Running => {
                record.ended(Status::Failed, Some("job_failed"), None);
            }
        }
        record
    }

    /// The intent of what the gateway does because people agreed to it.
    pub(super) fn of_act(event: &Event<'_>, guard: &Guard, now: Timestamp) -> Self {
        let mut record = Self::of_event(event, guard, now);
        record.kind = "intent";
        // The very first key needs nobody's yes.
        record.approved = record.approval.is_some();
        record.risk_level = Some(Risk::Critical.as_str());
        record.ended(Status::Pending, None, None);
        record
    }

    /// The same as the outcome of the intent `seq`.
    pub(super) fn ending(mut self, seq: i64, event: &Event<'_>, guard: &Guard) -> Self {
        self.kind = "outcome";
        self.intent_seq = Some(seq);
        match &event.refused {
            None => self.ended(Status::Ok, None, None),
            Some((code, why)) => self.ended(Status::Failed, Some(code), Some(guard.text(why).text)),
        }
        self
    }

    /// Sets the arguments, in canonical form.
    pub(super) fn set_args(&mut self, args: &Map<String, Value>) {
        let canonical = canonical_json(args).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some(canonical) = canonical.and_then(|text| RawValue::from_string(text).ok()) {
            self.args = canonical;
        }
    }

    /// Recording works again after it did not.
    pub(super) fn of_resumption(since: Timestamp, now: Timestamp) -> Self {
        let mut record = Self::new("admin", CorrelationId::random(), now);
        record.tool = Some("audit.resumed".to_owned());
        record.set_args(&Map::from_iter([("unavailable_since".to_owned(), Value::from(since.to_string()))]));
        record.ended(Status::Ok, None, None);
        record
    }

    /// Sets how it ended.
    pub(super) fn ended(&mut self, status: Status, code: Option<&'static str>, error: Option<String>) {
        self.status = status;
        self.result_status = match status {
            Status::Pending | Status::Asked => "pending",
            Status::Ok => "success",
            _ => "error",
        };
        self.code = code;
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

/// `{}`.
fn empty() -> Box<RawValue> {
    // An object without keys cannot fail to be one.
    serde_json::value::to_raw_value(&Map::new()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

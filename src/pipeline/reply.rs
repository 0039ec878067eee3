//! What the caller gets: one envelope for every tool, or a refusal with a code, a message and a hint.

use std::time::Duration;

use ring::digest;
use serde_json::{Map, Value, json};

use super::CallError;
use crate::{
    audit::{Execution, WireFacts},
    guard::{Guard, Injection, Output, Redactions},
    model::{
        CorrelationId, Missing, Operation, ProbeEnd, ProbeOutput, RawOutput, ScriptOutput, StepOutcome, StepOutput, hex,
    },
    tools::APPROVAL_ID,
};

/// The answer to a call that worked.
#[derive(Debug)]
pub struct Envelope {
    /// Always true.
    pub ok: bool,
    /// The target's id, or `gateway`.
    pub target: String,
    /// Finds the call in the audit log.
    pub correlation_id: CorrelationId,
    /// Whether this only previews.
    pub dry_run: bool,
    /// The tool's own data.
    pub data: Value,
    /// For a change: whether something changed.
    pub changed: Option<bool>,
    /// The state before.
    pub before: Option<Value>,
    /// The state after.
    pub after: Option<Value>,
    /// What ran on the target.
    pub exec: Vec<Execution>,
    /// Whether something was cut off.
    pub truncated: bool,
    /// Where the next page starts.
    pub next_cursor: Option<String>,
    /// What could not be had, and why.
    pub partial: Vec<Missing>,
    /// What was taken out, by kind.
    pub redactions: Redactions,
    /// What to know besides.
    pub warnings: Vec<String>,
    /// What in it poses as instructions; stands beside the envelope.
    pub injection: Vec<Injection>,
}

impl Envelope {
    /// The envelope around what the guard let out.
    pub(super) fn new(
        operation: &Operation,
        correlation_id: CorrelationId,
        output: Output,
        exec: Vec<Execution>,
    ) -> Self {
        let (content, redactions, injection) = output.into_parts();
        Self {
            ok: true,
            target: operation.target.as_ref().map_or_else(|| "gateway".to_owned(), |target| target.id.to_string()),
            correlation_id,
            dry_run: operation.dry_run,
            data: content.data,
            changed: content.changed,
            before: content.before,
            after: content.after,
            exec,
            truncated: content.truncated,
            next_cursor: content.next_cursor,
            partial: content.partial,
            redactions,
            warnings: content.warnings,
            injection,
        }
    }

    /// The envelope as JSON. Moves the data instead of writing it anew.
    fn into_value(self) -> Value {
        let mut body = Map::new();
        body.insert("ok".into(), self.ok.into());
        body.insert("target".into(), self.target.into());
        body.insert("correlation_id".into(), self.correlation_id.to_string().into());
        body.insert("dry_run".into(), self.dry_run.into());
        body.insert("data".into(), self.data);
        body.insert("truncated".into(), self.truncated.into());
        body.insert("redactions".into(), self.redactions.into_iter().collect());
        body.insert("warnings".into(), self.warnings.into());
        let optional = [
            ("changed", self.changed.map(Value::from)),
            ("before", self.before),
            ("after", self.after),
            ("next_cursor", self.next_cursor.map(Value::from)),
            ("exec", (!self.exec.is_empty()).then(|| shown(&self.exec))),
            ("partial", (!self.partial.is_empty()).then(|| json!(self.partial))),
        ];
        body.extend(optional.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
        Value::Object(body)
    }

    /// The JSON schema of an envelope whose `data` has the schema `data`, or of a refusal instead: clients hold both to
    /// it.
    pub fn schema(data: Value) -> Value {
        let missing = crate::tools::schema_of::<Vec<Missing>>();
        json!({
            "type": "object",
            "properties": {
                "ok": {"type": "boolean"},
                "target": {"type": "string"},
                "correlation_id": {"type": "string"},
                "dry_run": {"type": "boolean"},
                "data": data,
                "changed": {"type": "boolean"},
                "before": {},
                "after": {},
                "exec": {"type": "array", "items": {"type": "object"}},
                "truncated": {"type": "boolean"},
                "next_cursor": {"type": "string"},
                "partial": missing,
                "redactions": {"type": "object", "additionalProperties": {"type": "integer"}},
                "warnings": {"type": "array", "items": {"type": "string"}},
                "code": {"type": "string"},
                "message": {"type": "string"},
                "hint": {"type": "string"},
                "retry_after_s": {"type": "integer"},
                "approval_id": {"type": "string"},
                "operation_hash": {"type": "string"},
                "expires_at": {"type": "string"},
                "decide_at": {"type": "string"},
            },
            "required": ["ok", "correlation_id"],
            "anyOf": [
                {
                    "properties": {"ok": {"const": true}},
                    "required": ["target", "dry_run", "data", "truncated", "redactions", "warnings"],
                },
                {"properties": {"ok": {"const": false}}, "required": ["code", "message"]},
            ],
        })
    }
}

/// The reply to one call.
#[derive(Debug)]
pub struct Reply {
    /// The envelope or the refusal.
    pub body: Value,
    /// Whether it is a refusal.
    pub is_error: bool,
    /// Whether there is no such tool, which the protocol says in its own way.
    pub unknown_tool: bool,
    /// What in the body poses as instructions.
    pub injection: Vec<Injection>,
}

impl Reply {
    /// The reply that `result` makes. Whatever a refusal says is guarded too.
    pub(super) fn new(correlation: CorrelationId, result: Result<Envelope, CallError>, guard: &Guard) -> Self {
        match result {
            Ok(mut envelope) => {
                let injection = std::mem::take(&mut envelope.injection);
                Self { body: envelope.into_value(), is_error: false, unknown_tool: false, injection }
            }
            Err(error) => {
                let mut body = Map::new();
                body.insert("ok".into(), false.into());
                body.insert("code".into(), error.code().into());
                let message = guard.text(&error.message());
                body.insert("message".into(), message.text.into());
                body.insert("correlation_id".into(), correlation.to_string().into());
                if let Some(hint) = error.hint() {
                    body.insert("hint".into(), guard.text(hint).text.into());
                }
                if let Some(seconds) = error.retry_after_s() {
                    body.insert("retry_after_s".into(), seconds.into());
                }
                if let Some(asked) = error.asked() {
                    body.insert(APPROVAL_ID.into(), asked.id.as_str().into());
                    body.insert("operation_hash".into(), asked.operation_hash.as_str().into());
                    body.insert("expires_at".into(), asked.expires.to_string().into());
                    body.insert("decide_at".into(), asked.decide_at.as_str().into());
                }
                if !error.exec().is_empty() {
                    body.insert("exec".into(), shown(error.exec()));
                }
                let body = Value::Object(body);
                let injection =
                    message.injection.into_iter().map(|found| Injection { r#where: "message".into(), ..found });
                let unknown_tool = matches!(error, CallError::UnknownTool(_));
                Self { body, is_error: true, unknown_tool, injection: injection.collect() }
            }
        }
    }
}

/// What ran, as the caller sees it.
fn shown(exec: &[Execution]) -> Value {
    json!(exec.iter().map(Execution::for_caller).collect::<Vec<_>>())
}

/// What ran, for reply and record: digests and sizes, never content.
pub(super) fn executions(raw: &RawOutput) -> Vec<Execution> {
    let execution = |output: &StepOutput| match output {
        StepOutput::Script(script) => Some(script_that_ran(script)),
        StepOutput::Probe(probe) => Some(probe_that_ran(probe)),
        StepOutput::Answer(_) => None,
    };
    raw.outputs.iter().filter_map(execution).collect()
}

fn script_that_ran(script: &ScriptOutput) -> Execution {
    let (outcome, exit_code) = match &script.outcome {
        StepOutcome::Exited(code) => ("exited".to_owned(), Some(*code)),
        StepOutcome::Signalled(signal) => (format!("signalled:{signal}"), None),
        StepOutcome::Stopped { limit, stopped } => (format!("stopped:{limit}:{stopped:?}").to_lowercase(), None),
        StepOutcome::Lost(_) => ("lost".to_owned(), None),
        StepOutcome::NotStarted { code, .. } => ((*code).to_owned(), None),
    };
    Execution {
        template_id: script.template_id,
        argv_sha256: script.argv_sha256.clone(),
        outcome,
        exit_code,
        stdout_bytes: script.stdout.total,
        stdout_sha256: script.stdout.sha256.clone(),
        duration_ms: milliseconds(script.duration),
        wire: script.wire.as_ref().map(WireFacts::from),
    }
}

/// The gateway's own part of a probe: it has no output to digest.
fn probe_that_ran(probe: &ProbeOutput) -> Execution {
    let outcome = match &probe.end {
        ProbeEnd::Answered => "answered".to_owned(),
        ProbeEnd::Aimed => "aimed".to_owned(),
        ProbeEnd::Refused(_) => "refused:address".to_owned(),
        ProbeEnd::Failed(failure) => format!("failed:{}", failure.stage),
        ProbeEnd::Stopped(stopped) => format!("stopped:cancelled:{stopped:?}").to_lowercase(),
    };
    Execution {
        template_id: probe.template_id,
        argv_sha256: probe.argv_sha256.clone(),
        outcome,
        exit_code: None,
        stdout_bytes: 0,
        stdout_sha256: hex(digest::digest(&digest::SHA256, b"").as_ref()),
        duration_ms: milliseconds(probe.duration),
        wire: None,
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

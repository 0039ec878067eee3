//! The operation on paper: one canonical JSON document that says everything about an operation that a person agrees to,
//! and its hash. docs/approvals.md tells others how to make the same. Runs nothing.

use ring::digest;
use serde_json::{Map, Value, json};

use crate::{
    auth::Caller,
    model::{Connection, Operation, Question, Script, Step, Target, canonical_json, hex},
};

/// Stands before the canonical bytes when they are hashed, so that no other hash of tailops can be taken for one.
const DOMAIN: &[u8] = b"tailops operation v1\n";
/// Longer texts in arguments and steps stand as their digest and length, in bytes.
const LONGEST: usize = 4096;

/// One operation on paper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paper {
    canonical: String,
    hash: String,
}

impl Paper {
    /// `operation` as `caller` asks for it, with what its preview found in the `world` that has to stay so. None only for
    /// what JSON cannot carry.
    pub fn of(caller: &Caller, operation: &Operation, world: &Map<String, Value>) -> Option<Self> {
        let (token, peer) = (caller.token(), caller.peer());
        let mut document = Self::without_caller(operation, world);
        let caller = json!({
            "jti": token.jti,
            "subject": token.subject,
            "owner": token.owner,
            "peer": peer.id,
            "login": peer.user.as_ref().filter(|_| peer.tags.is_empty()),
        });
        document.as_object_mut()?.insert("caller".to_owned(), caller);
        Self::of_document(&document)
    }

    /// What the document says of an operation, whoever asks for it.
    pub(crate) fn without_caller(operation: &Operation, world: &Map<String, Value>) -> Value {
        json!({
            "v": 1,
            "tool": operation.tool,
            "arguments": short(&Value::Object(operation.arguments.clone())),
            "target": operation.target.as_deref().map(target),
            "steps": operation.steps.iter().map(step).collect::<Vec<_>>(),
            "engagement": operation.engagement,
            "reason": operation.reason,
            // Null unless arguments and steps count from it: then the run is planned at this moment again.
            "moment": operation.moment,
            "world": world,
        })
    }

    /// Any act on paper. None only for what JSON cannot carry.
    pub fn of_document(document: &Value) -> Option<Self> {
        let canonical = String::from_utf8(canonical_json(document).ok()?).ok()?;
        let hash = hash_of(canonical.as_bytes());
        Some(Self { canonical, hash })
    }

    /// The canonical JSON (RFC 8785).
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// Hex SHA-256 over a fixed prefix and the canonical JSON.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The document.
    pub fn document(&self) -> Map<String, Value> {
        serde_json::from_str(&self.canonical).unwrap_or_default()
    }
}

/// Hex SHA-256(`tailops operation v1` LF ‖ canonical JSON).
pub fn hash_of(canonical: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(DOMAIN);
    context.update(canonical);
    hex(context.finish().as_ref())
}

/// `value` with every text longer than [`LONGEST`] as its digest.
fn short(value: &Value) -> Value {
    match value {
        Value::String(text) => short_text(text),
        Value::Array(items) => items.iter().map(short).collect(),
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), short(value))).collect(),
        other => other.clone(),
    }
}

fn short_text(text: &str) -> Value {
    if text.len() <= LONGEST { Value::from(text) } else { digest_of(text.as_bytes()) }
}

fn digest_of(bytes: &[u8]) -> Value {
    json!({"sha256": hex(digest::digest(&digest::SHA256, bytes).as_ref()), "bytes": bytes.len()})
}

/// What makes it this target and no other: an id alone can be given to another machine.
fn target(target: &Target) -> Value {
    let connection = target.registered.as_ref().and_then(|registered| registered.connection.as_ref());
    json!({
        "id": target.id,
        "kind": target.kind,
        "connection": connection.map(reached),
        "sudo": target.sudo,
    })
}

/// The way to a target, and what it is recognised by.
fn reached(connection: &Connection) -> Value {
    let Connection { host, port, username, key, certificate, host_keys, node, jump, via, timeout: _ } = connection;
    json!({
        "host": host,
        "port": port,
        "username": username,
        "key": key.as_ref().map(ToString::to_string),
        "certificate": certificate.as_ref().map(|path| path.to_string_lossy()),
        "host_keys": host_keys.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "node": node,
        "jump": jump,
        "via": via.as_deref().map(target),
    })
}

fn step(step: &Step) -> Value {
    match step {
        Step::Script(script) => json!({"script": script_of(script)}),
        // What it asks stands in the arguments.
        Step::Gateway(question) => json!({"gateway": named(question)}),
        Step::Probe(probe) => probe.canonical(),
    }
}

fn script_of(script: &Script) -> Value {
    json!({
        "template": script.template.id,
        "template_sha256": hex(digest::digest(&digest::SHA256, script.template.body.as_bytes()).as_ref()),
        "args": script.args.iter().map(|arg| short_text(arg)).collect::<Vec<_>>(),
        "stdin": script.stdin.as_deref().map(digest_of),
        "limit_s": script.limit.map(|limit| limit.as_secs()),
    })
}

fn named(question: &Question) -> &'static str {
    match question {
        Question::Token => "token",
        Question::Revocation(_) => "revocation",
        Question::Policy(_) => "policy",
        Question::Audit(_) => "audit",
        Question::Fleet(_) => "fleet",
        Question::Registration(_) => "registration",
        Question::Candidates(_) => "candidates",
        Question::Approvals(_) => "approvals",
        Question::Decision(_) => "decision",
        Question::Jobs(_) => "jobs",
        Question::JobCancel(_) => "job_cancel",
        Question::Survey(_) => "survey",
        Question::Snapshots(_) => "snapshots",
        Question::Gateway(_) => "gateway",
    }
}

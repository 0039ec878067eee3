//! The entry of one call: opened before anything is decided, made durable before anything is changed, finished before
//! the reply leaves.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use ring::{
    digest,
    rand::{SecureRandom, SystemRandom},
};
use serde_json::{Map, Value};

use super::{
    ApprovalFacts, Audit, Execution, Record, Status, Surveyed, Unrecorded,
    writer::{Body, Leaf},
};
use crate::{
    approval::{Agreement, Asked},
    model::{ApprovalId, Operation, canonical_json, failpoint, hex},
    policy::{Decision, Pending},
};

/// Arguments whose canonical form is longer stand in the log as their digest.
const LONGEST_ARGUMENTS: usize = 16 * 1024;
/// Domain of the commitment to the arguments: SHA-256(domain ‖ salt ‖ canonical arguments).
const COMMITMENT: &[u8] = b"tailops args v1\n";

/// How a call ended, for its record.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// For programs; none on success.
    pub code: Option<&'static str>,
    /// For the auditor; none on success.
    pub error: Option<String>,
    /// What ran.
    pub exec: Vec<Execution>,
    /// What the guard took out of the reply.
    pub redactions: BTreeMap<&'static str, u32>,
}

/// The open entry of one call.
pub struct Entry {
    audit: Arc<Audit>,
    record: Box<Record>,
    arguments: Map<String, Value>,
    salt: Option<[u8; 16]>,
    started: Instant,
    intent: Option<i64>,
    finished: bool,
}

impl Entry {
    pub(super) fn new(audit: Arc<Audit>, record: Record, arguments: &Map<String, Value>) -> Self {
        Self {
            audit,
            record: Box::new(record),
            arguments: arguments.clone(),
            salt: None,
            started: Instant::now(),
            intent: None,
            finished: false,
        }
    }

    /// Takes over what was planned: the log says what would run, with the arguments in canonical form.
    pub fn planned(&mut self, operation: &Operation) {
        let record = &mut self.record;
        record.target = operation.target.as_ref().map(|target| target.id.clone());
        record.risk_level = Some(operation.risk.as_str());
        record.effect = Some(operation.effect.as_str());
        record.dry_run = operation.dry_run.then_some(true);
        record.reason = operation.reason.as_ref().map(|reason| self.audit.guard.text(reason).text);
        self.arguments.clone_from(&operation.arguments);
    }

    /// Takes over the decision. Returns once the intent is durable where something will be changed or a person is
    /// asked; nothing may run before.
    pub async fn decided(&mut self, decision: &Decision) -> Result<(), Unrecorded> {
        self.record.decision = Some(decision.verdict());
        self.record.rule = Some(decision.rule());
        let changes = match decision {
            Decision::Allow(permit, _) => permit.operation().effect.changes(),
            Decision::Ask(_) => true,
            Decision::Deny(_) => false,
        };
        if !changes {
            return Ok(());
        }
        self.seal_arguments()?;
        self.record.kind = "intent";
        let record = self.record.clone();
        let leaf = Leaf { body: Body::Record(record), salt: self.salt, opens: true, closes: None, owed: false };
        failpoint("before-intent");
        let seq = self.audit.writer.append(leaf).await?;
        failpoint("after-intent");
        self.record.kind = "outcome";
        self.record.intent_seq = Some(seq);
        self.intent = Some(seq);
        Ok(())
    }

    /// People are asked about this.
    pub fn asked(&mut self, asked: &Asked) {
        self.record.approval = Some(ApprovalFacts {
            id: asked.id.to_string(),
            operation_hash: Some(asked.operation_hash.clone()),
            ..ApprovalFacts::default()
        });
    }

    /// What policy asks before this may run.
    pub fn asks(&mut self, pending: &Pending) {
        self.record.decision = Some("ask");
        self.record.rule = Some(pending.rule());
    }

    /// The caller says that people agreed to this under `id`.
    pub fn refers_to(&mut self, id: &ApprovalId) {
        let id = self.audit.guard.text(id.as_str()).text;
        self.record.approval = Some(ApprovalFacts { id, ..ApprovalFacts::default() });
    }

    /// The caller holds the pass `id`, or held it.
    pub fn refers_to_pass(&mut self, id: &ApprovalId) {
        let facts = ApprovalFacts { id: id.to_string(), break_glass: true, ..ApprovalFacts::default() };
        self.record.approval = Some(facts);
    }

    /// People agreed to it.
    pub fn agreed(&mut self, agreement: &Agreement) {
        self.record.approval = Some(agreement.into());
        self.record.approved = true;
    }

    /// It does not run after all.
    pub fn not_agreed(&mut self) {
        self.record.approved = false;
    }

    /// Many targets were read.
    pub fn surveyed(&mut self, surveyed: Option<Surveyed>) {
        self.record.survey = surveyed;
    }

    /// Whether the intent is in the log: then the outcome is owed, whatever happens.
    pub fn has_intent(&self) -> bool {
        self.intent.is_some()
    }

    /// Ends the entry. Returns once the outcome is durable; the reply may not leave before.
    pub async fn finish(mut self, outcome: Outcome) -> Result<(), Unrecorded> {
        let leaf = self.closing(outcome)?;
        self.audit.writer.append(leaf).await?;
        failpoint("after-outcome-commit");
        Ok(())
    }

    fn closing(&mut self, outcome: Outcome) -> Result<Leaf, Unrecorded> {
        self.finished = true;
        self.seal_arguments()?;
        let error = outcome.error.map(|error| self.audit.guard.text(&error));
        let redactions = error.iter().flat_map(|error| error.redactions.clone()).chain(outcome.redactions);
        let mut record = self.record.clone();
        for (kind, count) in redactions {
            *record.redactions.entry(kind).or_default() += count;
        }
        record.ended(outcome.status, outcome.code, error.map(|error| error.text));
        record.duration_ms = Some(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX));
        record.exec = outcome.exec;
        let owed = self.intent.is_some();
        // The salt stands beside the intent where there is one: one commitment, one salt.
        let salt = if owed { None } else { self.salt };
        Ok(Leaf { body: Body::Record(record), salt, opens: false, closes: self.intent, owed })
    }

    /// Commits to the arguments as they are and keeps them redacted. Does its work once.
    fn seal_arguments(&mut self) -> Result<(), Unrecorded> {
        if self.salt.is_some() {
            return Ok(());
        }
        let mut salt = [0; 16];
        SystemRandom::new().fill(&mut salt).map_err(|_| Unrecorded)?;
        let canonical = canonical_json(&self.arguments).map_err(|_| Unrecorded)?;
        let mut commitment = digest::Context::new(&digest::SHA256);
        for part in [COMMITMENT, &salt, &canonical] {
            commitment.update(part);
        }
        self.record.args_commitment = Some(hex(commitment.finish().as_ref()));
        self.salt = Some(salt);
        if canonical.len() > LONGEST_ARGUMENTS {
            let digest = digest::digest(&digest::SHA256, &canonical);
            self.record.set_args(&Map::from_iter([
                ("sha256".to_owned(), Value::from(hex(digest.as_ref()))),
                ("bytes".to_owned(), Value::from(canonical.len())),
            ]));
        } else if !self.arguments.is_empty() {
            let cleaned = self.audit.guard.arguments(&self.arguments);
            self.record.set_args(&cleaned.arguments);
            self.record.redactions = cleaned.redactions;
        }
        Ok(())
    }
}

impl Drop for Entry {
    /// An entry that nobody finished is a fault of ours; it is closed all the same.
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        tracing::error!(correlation_id = %self.record.correlation_id, "a call ended without its record");
        let outcome = Outcome {
            status: Status::Failed,
            code: Some("internal"),
            error: Some("the call ended without an outcome".to_owned()),
            exec: Vec::new(),
            redactions: BTreeMap::new(),
        };
        if let (Ok(mut leaf), Ok(runtime)) = (self.closing(outcome), tokio::runtime::Handle::try_current()) {
            leaf.owed = true;
            let audit = self.audit.clone();
            runtime.spawn(async move { audit.writer.append(leaf).await });
        }
    }
}

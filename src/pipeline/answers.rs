//! Questions about the gateway itself, answered under a permit like any other step. The only steps that may know the
//! caller; executors never do.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    CallError, Rules, credentials,
    explain::{explanation, unplanned},
    jobs,
    network::{candidates, own_node, peers},
    people,
    registration::register,
    revocation::revoke,
    survey::{listed, snapshots},
};
use crate::{
    approval::Approvals,
    audit::Audit,
    auth::{Authenticator, Caller},
    config,
    exec::{ExecError, Resolver},
    fleet::{Jobs, Secrets},
    limits::Limits,
    model::{AuditFilter, Clock, Inquiry, Operation, Progress, Question, RawOutput, Step, StepOutput, TargetId, hex},
    policy::Permit,
    store::{Store, StoreError},
    tailnet::{Grant, Node},
};

/// What the gateway knows of itself.
pub struct GatewayFacts {
    /// When it started.
    pub started: Timestamp,
    /// How it is on the network.
    pub node: Arc<dyn Node>,
    /// Whether HTTP is wrapped in TLS: `off`, `node` or `files`.
    pub tls: &'static str,
    /// Connections that are open now.
    pub connections: Arc<AtomicUsize>,
    /// Where addresses of names come from.
    pub resolver: Arc<dyn Resolver>,
    /// How hosts are reached by SSH, and which authorities speak for them.
    pub ssh: config::Ssh,
    /// The database.
    pub store: Store,
    /// Where its own secrets are.
    pub secrets: Arc<Secrets>,
    /// Who is let in; told at once when a token is taken back.
    pub authenticator: Arc<Authenticator>,
}

/// Answers questions.
pub(super) struct Answers {
    audit: Arc<Audit>,
    approvals: Arc<Approvals>,
    limits: Arc<Limits>,
    clock: Arc<dyn Clock>,
    gateway: Arc<GatewayFacts>,
    jobs: Arc<Jobs>,
}

impl From<StoreError> for CallError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl Answers {
    pub(super) fn new(
        audit: Arc<Audit>,
        approvals: Arc<Approvals>,
        limits: Arc<Limits>,
        clock: Arc<dyn Clock>,
        gateway: Arc<GatewayFacts>,
        jobs: Arc<Jobs>,
    ) -> Self {
        Self { audit, approvals, limits, clock, gateway, jobs }
    }

    /// How the gateway is on the network.
    pub(super) fn node(&self) -> &dyn Node {
        &*self.gateway.node
    }

    /// What the gateway knows of itself.
    pub(super) fn gateway(&self) -> &GatewayFacts {
        &self.gateway
    }

    /// The database.
    pub(super) fn store(&self) -> &Store {
        &self.gateway.store
    }

    /// Answers the question that `permit` allows; one that waits for a target tells `progress` so.
    pub(super) async fn run(
        &self,
        caller: &Caller,
        rules: &Rules,
        permit: Permit,
        progress: &Progress,
    ) -> Result<RawOutput, CallError> {
        let operation = permit.redeem(self.clock.now()).map_err(|_| CallError::NotRun(ExecError::Expired))?;
        let Some(Step::Gateway(question)) = operation.steps.first() else {
            return Err(CallError::NotRun(ExecError::NoExecutor));
        };
        let answer = match question {
            Question::Token => self.token(caller, rules),
            Question::Revocation(jti) => revoke(&self.gateway, caller, &operation, jti, self.clock.now()).await?,
            Question::Policy(inquiry) => self.explain(caller, rules, inquiry),
            Question::Audit(filter) => self.records(&operation, filter).await?,
            Question::Fleet(filter) => {
                let now = self.clock.now();
                listed(&self.gateway.store, (caller, rules), &operation, filter, now).await?
            }
            Question::Registration(registration) => {
                let now = self.clock.now();
                register(&self.gateway, caller, rules, &operation, registration, now).await?
            }
            Question::Candidates(filter) => {
                candidates(&*self.gateway.node, &rules.registry, &operation.engagement, filter)
            }
            Question::Approvals(filter) => people::listed(&self.approvals, rules, caller, filter).await?,
            Question::Decision(ballot) => people::decided(&self.approvals, rules, caller, ballot).await?,
            Question::Jobs(filter) => jobs::listed(&self.jobs, caller, filter, progress).await?,
            Question::JobCancel(id) => jobs::cancelled(&self.jobs, caller, &operation, id).await?,
            Question::Snapshots(filter) => snapshots(&self.gateway.store, &operation.engagement, filter).await?,
            // Read under permits of their own, by the pipeline.
            Question::Survey(_) => return Err(CallError::NotRun(ExecError::NoExecutor)),
            Question::Gateway(sections) => self.about(rules, &operation, sections).await?,
        };
        Ok(RawOutput { operation, outputs: vec![StepOutput::Answer(answer)] })
    }

    fn token(&self, caller: &Caller, rules: &Rules) -> Value {
        let (token, peer, limits) = (caller.token(), caller.peer(), self.limits.settings());
        json!({
            "jti": token.jti,
            "subject": token.subject,
            "owner": token.owner,
            "scopes": token.scopes,
            "engagement": token.engagement,
            "targets": token.targets,
            "tools": token.tools,
            "paths": token.paths,
            "issued": token.issued,
            "expires": token.expires,
            "expires_in_s": token.expires.as_second() - self.clock.now().as_second(),
            "binding": token.binding,
            "limits": {
                "calls_per_minute": limits.calls_per_minute,
                "calls_burst": limits.calls_burst,
                "writes_per_minute": limits.writes_per_minute,
                "critical_per_hour": limits.critical_per_hour,
            },
            "peer": {
                "id": peer.id,
                "node": peer.node,
                "user": peer.user,
                "tags": peer.tags,
                "tailnet": peer.tailnet,
                "grants": granted(caller, rules),
            },
        })
    }

    fn explain(&self, caller: &Caller, rules: &Rules, inquiry: &Inquiry) -> Value {
        match &inquiry.planned {
            Ok(operation) => {
                let judgement = rules.policy.judge(caller.peer(), caller.token(), operation, self.clock.now());
                explanation(&inquiry.tool, operation, &judgement)
            }
            Err((code, message)) => unplanned(&inquiry.tool, code, message),
        }
    }

    async fn records(&self, operation: &Operation, filter: &AuditFilter) -> Result<Value, CallError> {
        let reader = self.audit.reader();
        let page = reader.page(&operation.engagement, filter).await?;
        Ok(
            json!({"records": page.records, "next_cursor": page.next.map(|next| next.to_string()), "log": self.head().await?}),
        )
    }

    async fn head(&self) -> Result<Value, CallError> {
        let last = self.audit.reader().last().await?;
        Ok(json!({
            "recording": self.audit.is_recording(),
            "last_seq": last.as_ref().map_or(0, |leaf| leaf.seq),
            "last_leaf_hash": last.map(|leaf| hex(&leaf.leaf_hash)),
        }))
    }

    async fn about(&self, rules: &Rules, operation: &Operation, sections: &[String]) -> Result<Value, CallError> {
        let (gateway, now) = (&self.gateway, self.clock.now());
        let mut about = Map::new();
        let wanted = |name: &str| sections.is_empty() || sections.iter().any(|section| section == name);
        if wanted("version") {
            about.insert(
                "version".into(),
                json!({
                    "tailops": env!("CARGO_PKG_VERSION"),
                    "started": gateway.started,
                    "uptime_s": now.as_second() - gateway.started.as_second(),
                }),
            );
        }
        if wanted("health") {
            about.insert(
                "health".into(),
                json!({
                    "recording": self.audit.is_recording(),
                    "connections": gateway.connections.load(Ordering::Relaxed),
                    "tokens": gateway.authenticator.is_fresh(),
                    "node": gateway.node.status().is_up(),
                    "approvals_pending": gateway.store.pending_approvals(None).await?.0,
                }),
            );
        }
        if wanted("config") {
            about.insert(
                "config".into(),
                json!({
                    "node": gateway.node.mode(),
                    "profile": rules.profile,
                    "sha256": rules.config_sha256,
                    "targets": rules.registry.targets_of(&operation.engagement).count(),
                }),
            );
        }
        if wanted("ages") {
            let keys = credentials::ages(gateway, rules, &operation.engagement, now).await?;
            about.insert("ages".into(), Value::from(keys));
        }
        if wanted("audit") {
            about.insert("audit".into(), self.head().await?);
        }
        let mut partial = Vec::new();
        if wanted("node") {
            let mut node = own_node(&*gateway.node);
            if let Some(node) = node.as_object_mut() {
                node.insert("tls".into(), gateway.tls.into());
            }
            about.insert("node".into(), node);
        }
        if wanted("peers") {
            let seen = peers(&*gateway.node, &rules.registry, &operation.engagement, &mut partial).await;
            about.insert("peers".into(), seen);
        }
        about.insert("partial".into(), json!(partial));
        Ok(Value::Object(about))
    }
}

/// The rules that the tailnet policy hands the caller, as far as they concern its engagement; null where none narrow.
/// Names nothing of another engagement's.
fn granted(caller: &Caller, rules: &Rules) -> Option<Vec<Value>> {
    let engagement = &caller.token().engagement;
    let holding = caller.peer().grants.rules(engagement)?;
    let described = |rule: &Grant| {
        let own = |id: &&TargetId| rules.registry.target(engagement, id.as_str()).is_some();
        let targets: Option<Vec<_>> = rule.targets.as_ref().map(|targets| targets.iter().filter(own).collect());
        json!({"scopes": rule.scopes, "targets": targets, "approve": rule.approve})
    };
    Some(holding.into_iter().map(described).collect())
}

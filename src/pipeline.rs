//! One tool call, top to bottom. This is the only way anything runs: identify and authenticate happened before; here
//! the call is planned, limited, decided, permitted, run, rendered, guarded and recorded, in this order.

mod answers;
mod approved;
mod credentials;
mod error;
mod explain;
mod glass;
mod jobs;
mod network;
mod people;
mod reference;
mod registration;
mod reply;
mod revocation;
mod rules;
mod survey;
mod trial;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

pub use error::CallError;
pub use explain::{explanation, unplanned};
use futures_util::FutureExt;
pub use network::ASKED_FOR;
pub use reference::Reference;
pub use reply::{Envelope, Reply};
pub use rules::{Rules, RulesInForce};
use serde_json::{Map, Value};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;
pub use trial::{HostCertificate, HostKey, HostKeys, Trial, Unseen};

pub use self::answers::GatewayFacts;
use self::{answers::Answers, survey::recalled};
use crate::{
    approval::Approvals,
    audit::{Audit, Entry, Unrecorded},
    auth::Caller,
    exec::Executors,
    fleet::Jobs,
    guard::Guard,
    limits::Limits,
    model::{Attribution, Clock, CorrelationId, Progress, Question, Risk, Step, StepOutput, failpoint},
    policy::Decision,
    tools::{self, APPROVAL_ID, Kind, PlanContext, Tool},
};

/// One call of a tool.
#[derive(Clone, Debug)]
pub struct ToolCall {
    /// The tool's name as the caller wrote it.
    pub name: String,
    /// The arguments as the caller wrote them; keys already checked for doubles.
    pub arguments: Map<String, Value>,
    /// What stands for a yes, taken out of the arguments: no tool knows it, and it is no part of what runs.
    pub approval: Option<Reference>,
    /// Joins everything this call causes.
    pub correlation: CorrelationId,
    /// Told how far it has come, where somebody watches.
    pub progress: Progress,
}

impl ToolCall {
    /// A call of the tool `name`.
    pub fn new(
        name: String,
        mut arguments: Map<String, Value>,
        correlation: CorrelationId,
        progress: Progress,
    ) -> Self {
        let approval = arguments.remove(APPROVAL_ID).as_ref().map(Reference::read);
        Self { name, arguments, approval, correlation, progress }
    }

    /// What a target may be told of it.
    fn attribution(&self, caller: &Caller) -> Attribution {
        Attribution { subject: caller.token().subject.clone(), correlation: self.correlation }
    }
}

/// The stations of a call.
pub struct Pipeline {
    rules: Arc<RulesInForce>,
    approvals: Arc<Approvals>,
    limits: Arc<Limits>,
    executors: Arc<Executors>,
    jobs: Arc<Jobs>,
    answers: Answers,
    guard: Arc<Guard>,
    audit: Arc<Audit>,
    clock: Arc<dyn Clock>,
    running: TaskTracker,
}

/// What a pipeline is made of.
#[expect(missing_docs, reason = "one field a station, each documented at its type")]
pub struct Stations {
    pub rules: Arc<RulesInForce>,
    pub approvals: Arc<Approvals>,
    pub limits: Arc<Limits>,
    pub executors: Arc<Executors>,
    pub jobs: Arc<Jobs>,
    pub guard: Arc<Guard>,
    pub audit: Arc<Audit>,
    pub clock: Arc<dyn Clock>,
    pub gateway: Arc<GatewayFacts>,
}

impl Pipeline {
    /// The pipeline through these stations.
    pub fn new(stations: Stations) -> Self {
        let Stations { rules, approvals, limits, executors, jobs, guard, audit, clock, gateway } = stations;
        let answers =
            Answers::new(audit.clone(), approvals.clone(), limits.clone(), clock.clone(), gateway, jobs.clone());
        let running = TaskTracker::new();
        Self { rules, approvals, limits, executors, jobs, answers, guard, audit, clock, running }
    }

    /// Runs `call` for `caller` in a task of its own, so that a client that hangs up does not cut a write in half: a
    /// read stops when `gone` is cancelled, a write goes on to its end and its record.
    pub async fn call(self: Arc<Self>, caller: Caller, call: ToolCall, gone: CancellationToken) -> Reply {
        let correlation = call.correlation;
        let this = self.clone();
        let span = tracing::error_span!("call", correlation_id = %correlation);
        let task = self.running.spawn(
            async move {
                let result = this.recorded(&caller, &call, &gone).await;
                Reply::new(correlation, result, &this.guard)
            }
            .instrument(span),
        );
        match task.await {
            Ok(reply) => reply,
            Err(_) => Reply::new(correlation, Err(CallError::Internal), &self.guard),
        }
    }

    async fn recorded(
        &self,
        caller: &Caller,
        call: &ToolCall,
        gone: &CancellationToken,
    ) -> Result<Envelope, CallError> {
        let mut entry = self.audit.open(caller, call.correlation, &call.name, &call.arguments)?;
        failpoint("call-opened");
        // A tool that panics is a fault of ours, yet its caller gets an answer and its entry an end.
        let result = AssertUnwindSafe(self.gated(caller, call, &mut entry, gone)).catch_unwind().await;
        let result = result.unwrap_or_else(|_| {
            tracing::error!("a call panicked");
            Err(CallError::Internal)
        });
        let ran = entry.has_intent();
        match entry.finish(error::outcome_of(&result)).await {
            Ok(()) => result, // durable before the reply leaves
            Err(Unrecorded) => Err(CallError::AuditUnavailable { ran }),
        }
    }

    async fn gated(
        &self,
        caller: &Caller,
        call: &ToolCall,
        entry: &mut Entry,
        gone: &CancellationToken,
    ) -> Result<Envelope, CallError> {
        let tool = tools::find(&call.name).ok_or_else(|| CallError::UnknownTool(call.name.clone()))?;
        let rules = self.rules.now(); // one reading of the configuration for the whole call
        let operation = tool.plan(&call.arguments, &self.plan_context(caller, &rules))?;
        entry.planned(&operation);
        match &call.approval {
            Some(Reference::NotNow(id)) => {
                entry.refers_to(id);
                return Err(CallError::NotNow(id.clone()));
            }
            Some(Reference::Malformed) => return Err(reference::malformed()), // also where no yes is needed
            Some(Reference::Approval(_) | Reference::Pass(_)) | None => {}
        }
        // What a call refers to was counted as critical when people were asked about it.
        let risk = if call.approval.is_some() { operation.risk.min(Risk::High) } else { operation.risk };
        self.limits.operation(&caller.token().jti, operation.effect, risk)?;
        let decision = rules.policy.decide(caller, operation, self.clock.now());
        let (permit, mut exec) = match decision {
            Decision::Ask(pending) => self.approved((caller, &rules), tool, call, pending, entry).await?,
            decision => {
                entry.decided(&decision).await?; // durable before anything is changed
                match decision {
                    Decision::Allow(permit, _) => (permit, Vec::new()),
                    Decision::Deny(denial) => return Err(denial.into()),
                    Decision::Ask(_) => return Err(CallError::Internal),
                }
            }
        };
        let changes = permit.operation().effect.changes();
        // What targets said to a survey, or a job on its own, is no word of ours.
        let own = matches!(
            permit.operation().steps.first(),
            Some(Step::Gateway(question)) if !matches!(question, Question::Jobs(_) | Question::Survey(_))
        );
        let job = Jobs::started_by(permit.operation()).filter(|_| changes);
        let attribution = call.attribution(caller);
        let mut raw = match permit.operation().steps.first() {
            Some(Step::Gateway(Question::Survey(_))) => {
                let never = CancellationToken::new();
                let gone = if changes { &never } else { gone };
                let mut surveyed = None;
                let raw = self.surveyed((caller, &rules), call, permit, gone, &mut surveyed).await;
                entry.surveyed(surveyed);
                raw?
            }
            Some(Step::Gateway(_)) => self.answers.run(caller, &rules, permit, &call.progress).await?,
            _ if let Some(waits_for) = job => {
                jobs::run((&self.jobs, &self.executors), caller, call, permit, waits_for).await?
            }
            // Only a read stops when its caller goes.
            _ if changes => self.executors.run(permit, &attribution, &CancellationToken::new(), &call.progress).await?,
            _ => self.executors.run(permit, &attribution, gone, &call.progress).await?,
        };
        failpoint("after-run");
        exec.extend(reply::executions(&raw));
        if let Some(outcome) = raw.outputs.last().and_then(StepOutput::unfinished) {
            return Err(CallError::Unfinished { outcome, changes, exec });
        }
        if tool.recalls() {
            let known = recalled(self.answers.store(), (caller, &rules), &raw.operation, self.clock.now()).await?;
            raw.outputs.push(StepOutput::Answer(known));
        }
        let content = match tool.render(&raw) {
            Ok(content) => content,
            Err(error) => return Err(CallError::Failed { error, exec }),
        };
        let output = if own { self.guard.release_own(content) } else { self.guard.release(content) };
        Ok(Envelope::new(&raw.operation, call.correlation, output, exec))
    }

    /// Waits until every call that runs has ended and is recorded, at most `most`.
    pub async fn drain(&self, most: Duration) {
        self.running.close();
        if tokio::time::timeout(most, self.running.wait()).await.is_err() {
            tracing::error!("some calls did not end in time; what they changed is on record as begun");
        }
    }

    /// What calls are judged by now.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.now()
    }

    fn plan_context<'a>(&self, caller: &'a Caller, rules: &'a Rules) -> PlanContext<'a> {
        let token = caller.token();
        PlanContext {
            engagement: &token.engagement,
            registry: &rules.registry,
            now: self.clock.now(),
            token: &token.jti,
            probe: &rules.probe,
            paths: token.paths.as_ref(),
            files: &rules.files,
        }
    }

    /// The tools that `caller` could be allowed to call on anything it can reach: what a list shows.
    pub fn visible<'a>(&self, caller: &'a Caller) -> impl Iterator<Item = &'static dyn Tool> + use<'a> {
        let rules = self.rules.now();
        tools::ALL.iter().copied().filter(move |tool| {
            let spec = tool.spec();
            rules.policy.could_allow(caller, spec.name, spec.scopes)
                && (spec.kind == Kind::Gateway || offered(&rules, caller, spec))
        })
    }
}

/// Whether some target within reach offers what the tool needs.
fn offered(rules: &Rules, caller: &Caller, spec: &tools::Spec) -> bool {
    let targets = &mut rules.registry.targets_of(&caller.token().engagement);
    targets.any(|target| rules.policy.could_reach(caller, target, spec.scopes))
}

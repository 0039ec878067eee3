//! Running what policy allowed: a permit goes in, raw output comes out.
//!
//! Answers for the order of steps, for how many run at once and for ending each in bounded time. It never sees who is
//! calling, decides nothing, and lets nothing out: only `guard` does. Each way of reaching a target is one private
//! module that implements `Executor`.

mod capture;
#[cfg(test)]
mod contract;
mod group;
mod launch;
mod local;
mod login_keys;
mod probe;
mod queue;
mod ssh;
mod trial;
mod unit;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use self::{local::Local, probe::Prober, queue::Queue};
pub use self::{
    login_keys::LoginKeyAct,
    probe::{Resolver, SystemResolver},
    ssh::{
        Alarms, AuthorityFault, Credentials, HostAlarm, LoginKey, NotAList, RevokedKeys, Scan, ScannedCertificate,
        ScannedKey, Ssh, SshFault, certified, greeting_at_enrolment, host_matches, public_key_of, scan,
    },
    unit::JobStop,
};
use crate::{
    config::Exec,
    model::{
        Attribution, Captured, Clock, JobId, Operation, Probe, ProbeEnd, Progress, RawOutput, Script, ScriptOutput,
        Step, StepOutcome, StepOutput, Target, TargetKind, Via,
    },
    policy::Permit,
};

/// Why nothing ran. What happened once a step has begun is not an error but its [`crate::model::StepOutcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// The turn did not come within the queue timeout.
    #[error("too many operations are running; nothing was started")]
    Busy,
    /// The permit expired while the operation waited.
    #[error("the permission expired before the operation's turn came; nothing was started")]
    Expired,
    /// No backend performs one of the steps on this target.
    #[error("no executor performs this operation; nothing was started")]
    NoExecutor,
    /// Targets of this kind are known, and nothing reaches them yet.
    #[error("the {} executor is not part of this version, so the target is known and cannot be operated; nothing was started", .0.as_str())]
    Unreachable(TargetKind),
    /// The registry could not find the jump host that the target names.
    #[error("the target is reached through a jump host that the registry cannot use; nothing was started")]
    NoWay,
    /// The call was cancelled while the operation waited.
    #[error("the call was cancelled; nothing was started")]
    Cancelled,
}

impl ExecError {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Expired => "permit_expired",
            Self::NoExecutor | Self::Unreachable(_) => "no_executor",
            Self::NoWay => "jump_unusable",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One way of reaching targets. Implemented only by the private modules of `exec`.
trait Executor: Send + Sync {
    /// Whether this backend runs scripts on targets of this kind.
    fn performs(&self, kind: TargetKind) -> bool;

    /// Runs a script to its end. Cancelling stops the command; dropping the future kills it.
    fn run<'a>(&'a self, run: Run<'a>) -> BoxFuture<'a, ScriptOutput>;

    /// The same on a connection of its own, which nobody else has or gets; where there are connections.
    fn run_apart<'a>(&'a self, run: Run<'a>) -> BoxFuture<'a, ScriptOutput> {
        self.run(run)
    }

    /// [`scan`] of a host that `jump` leads to; where this backend's targets lead anywhere.
    fn scan_behind<'a>(
        &'a self,
        jump: &'a Target,
        _place: (&'a str, u16),
        _attribution: &'a Attribution,
        _limit: Duration,
    ) -> BoxFuture<'a, Result<Scan, SshFault>> {
        Box::pin(async { Err(SshFault::Jump(format!("{} is not reached by SSH", jump.id))) })
    }
}

/// One script to run.
#[derive(Clone, Copy)]
struct Run<'a> {
    target: &'a Target,
    script: &'a Script,
    /// In whole seconds, at least one.
    limit: Duration,
    /// For whom.
    attribution: &'a Attribution,
    cancel: &'a CancellationToken,
    progress: &'a Progress,
}

/// One step of an operation, with the backend that runs its script.
enum Work<'a> {
    Script(&'a dyn Executor, &'a Script),
    Probe(&'a Probe, Option<(&'a dyn Executor, &'a Script)>),
}

/// The steps of an operation in order.
type Plan<'a> = Vec<Work<'a>>;

/// The caller while its operation runs: what it is called, when it goes away, and how far the operation is.
#[derive(Clone, Copy)]
struct Watch<'a> {
    attribution: &'a Attribution,
    cancel: &'a CancellationToken,
    progress: &'a Progress,
    /// The job that it starts.
    job: Option<&'a JobId>,
}

/// Every backend, behind one queue.
pub struct Executors {
    backends: Vec<Box<dyn Executor>>,
    prober: Prober,
    queue: Queue,
    clock: Arc<dyn Clock>,
}

impl Executors {
    /// All backends, bounded by `settings`. `clock` tells when a permit has expired.
    pub fn new(settings: Exec, clock: Arc<dyn Clock>) -> Self {
        Self {
            backends: vec![Box::new(Local::new(settings))],
            prober: Prober::new(Arc::new(SystemResolver)),
            queue: Queue::new(settings.concurrency, settings.queue_timeout),
            clock,
        }
    }

    /// The same, with names resolved by `resolver`.
    pub fn resolving_by(self, resolver: Arc<dyn Resolver>) -> Self {
        Self { prober: Prober::new(resolver), ..self }
    }

    /// The same, with targets reached over SSH by `ssh`.
    pub fn reaching_by(mut self, ssh: Ssh) -> Self {
        self.backends.push(Box::new(ssh));
        self
    }

    /// Whether some backend operates targets of this kind.
    pub fn reaches(&self, kind: TargetKind) -> bool {
        self.backends.iter().any(|backend| backend.performs(kind))
    }

    /// Runs the permitted operation: its steps in order, up to the first that did not end by itself.
    ///
    /// Waits for a free place first, on the target and then on the gateway, in the order of arrival; that time is not
    /// charged to the steps. `cancel` gives up the place in the queue or stops the running step: do not cancel an
    /// operation that must not be cut in half. An error means that nothing was started. Operations the gateway
    /// answers itself are refused. `progress` is told when the turn has come, and what is read from then on.
    /// `attribution` is what the target may be told of who asked.
    pub async fn run(
        &self,
        permit: Permit,
        attribution: &Attribution,
        cancel: &CancellationToken,
        progress: &Progress,
    ) -> Result<RawOutput, ExecError> {
        self.run_as(permit, Watch { attribution, cancel, progress, job: None }).await
    }

    /// [`Self::run`] for an operation that starts `job`. It is never cancelled.
    pub async fn run_job(
        &self,
        permit: Permit,
        attribution: &Attribution,
        progress: &Progress,
        job: &JobId,
    ) -> Result<RawOutput, ExecError> {
        let cancel = CancellationToken::new();
        self.run_as(permit, Watch { attribution, cancel: &cancel, progress, job: Some(job) }).await
    }

    async fn run_as(&self, permit: Permit, watch: Watch<'_>) -> Result<RawOutput, ExecError> {
        let (target, _) = self.plan(permit.operation())?;
        let _place = self.queue.enter(&target, watch.cancel).await?;
        let operation = permit.redeem(self.clock.now()).map_err(|_| ExecError::Expired)?;
        watch.progress.begin(&target.id);
        self.perform(operation, watch).await
    }

    /// Runs one of many permitted reads that make up one call. They have places of their own on the gateway, so that a
    /// call over the whole fleet does not hold up others; on the target they wait like any other. Dropping the future
    /// gives up the place or kills the step.
    pub async fn survey(&self, permit: Permit, attribution: &Attribution) -> Result<RawOutput, ExecError> {
        let (target, _) = self.plan(permit.operation())?;
        let (cancel, progress) = (CancellationToken::new(), Progress::default());
        let _place = self.queue.enter_apart(&target, &cancel).await?;
        let operation = permit.redeem(self.clock.now()).map_err(|_| ExecError::Expired)?;
        self.perform(operation, Watch { attribution, job: None, cancel: &cancel, progress: &progress }).await
    }

    async fn perform(&self, operation: Operation, watch: Watch<'_>) -> Result<RawOutput, ExecError> {
        let (target, plan) = self.plan(&operation)?;
        let mut outputs = Vec::with_capacity(plan.len());
        for work in plan {
            match work {
                Work::Script(backend, script) => outputs.push(on_target(backend, &target, script, watch).await),
                Work::Probe(probe, rest) => self.probe(&target, probe, rest, watch, &mut outputs).await,
            }
            if outputs.last().is_some_and(|output| output.unfinished().is_some()) {
                break;
            }
        }
        Ok(RawOutput { operation, outputs })
    }

    /// The gateway's part of `probe`, then that of its script, which gets the address that was checked.
    async fn probe(
        &self,
        target: &Target,
        probe: &Probe,
        rest: Option<(&dyn Executor, &Script)>,
        watch: Watch<'_>,
        outputs: &mut Vec<StepOutput>,
    ) {
        let aimed = self.prober.run(probe, target.timeout, watch.cancel).await;
        let goes_on = aimed.end == ProbeEnd::Aimed;
        let address = aimed.findings.addresses.first().map(ToString::to_string);
        outputs.push(StepOutput::Probe(Box::new(aimed)));
        if let Some((backend, script)) = rest.filter(|_| goes_on) {
            let mut script = script.clone();
            script.args.insert(0, address.unwrap_or_default());
            outputs.push(on_target(backend, target, &script, watch).await);
        }
    }

    /// The target and, for every step, the backend that runs it. Found before anything starts, so that an operation
    /// is not left half done because a later step has no backend.
    fn plan<'a>(&'a self, operation: &'a Operation) -> Result<(Arc<Target>, Plan<'a>), ExecError> {
        let target = operation.target.clone().ok_or(ExecError::NoExecutor)?;
        let backend = |kind| self.backend(&target, kind);
        let plan = operation.steps.iter().map(|step| match step {
            Step::Script(script) => Ok(Work::Script(backend(target.kind)?, script)),
            Step::Probe(probe) => match &probe.via {
                // What the gateway does by itself needs no script, and is refused like the rest.
                Via::Native => backend(TargetKind::Local).map(|_| Work::Probe(probe, None)),
                Via::Here(script) => Ok(Work::Probe(probe, Some((backend(TargetKind::Local)?, script)))),
                Via::Target(script) => Ok(Work::Probe(probe, Some((backend(target.kind)?, script)))),
            },
            Step::Gateway(_) => Err(ExecError::NoExecutor),
        });
        let plan = plan.collect::<Result<Plan<'_>, ExecError>>()?;
        Ok((target, plan))
    }

    /// The backend that runs scripts where `kind` says, for the sake of `target`: the target's own kind, or the
    /// gateway's machine. There is none for a target that is cut off, wherever the script would run.
    fn backend(&self, target: &Target, kind: TargetKind) -> Result<&dyn Executor, ExecError> {
        if target.is_cut_off() {
            return Err(ExecError::NoWay);
        }
        let backend = self.backends.iter().find(|backend| backend.performs(kind));
        backend.map(AsRef::as_ref).ok_or(match kind {
            TargetKind::Local => ExecError::NoExecutor,
            other => ExecError::Unreachable(other),
        })
    }
}

async fn on_target(backend: &dyn Executor, target: &Target, script: &Script, watch: Watch<'_>) -> StepOutput {
    let Watch { attribution, cancel, progress, job } = watch;
    let named;
    let script = match (script.job, job) {
        (Some(_), Some(job)) => {
            let mut script = script.clone();
            script.args.insert(0, job.to_string());
            named = script;
            &named
        }
        (Some(_), None) => return StepOutput::Script(Box::new(unnamed(script))),
        (None, _) => script,
    };
    let run = Run { target, script, limit: limit(target, script), attribution, cancel, progress };
    StepOutput::Script(Box::new(backend.run(run).await))
}

/// A script that starts a job, where nobody opened one: nothing would know of it, so it does not start.
fn unnamed(script: &Script) -> ScriptOutput {
    ScriptOutput {
        template_id: script.template.id,
        argv_sha256: String::new(),
        marker: String::new(),
        outcome: StepOutcome::not_started("no job was opened for it"),
        stdout: Captured::default(),
        stderr: Captured::default(),
        duration: Duration::ZERO,
        wire: None,
    }
}

/// How long `script` may run: the shorter of its own limit and the target's, in the whole seconds that `timeout` on
/// the target counts in. Never zero, which `timeout` would read as no limit.
fn limit(target: &Target, script: &Script) -> Duration {
    let limit = script.limit.map_or(target.timeout, |limit| limit.min(target.timeout));
    Duration::from_secs(limit.as_secs().max(1))
}

#[cfg(test)]
mod tests;

//! Running what policy allowed: a permit goes in, raw output comes out.
//!
//! Answers for the order of steps, for how many run at once and for ending each in bounded time. It never sees who is
//! calling, decides nothing, and lets nothing out: only `guard` does. Each way of reaching a target is one private
//! module that implements `Executor`.

mod capture;
mod group;
mod launch;
mod local;
mod queue;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use self::{local::Local, queue::Queue};
use crate::{
    config::Exec,
    model::{Clock, Operation, RawOutput, Script, ScriptOutput, Step, StepOutcome, StepOutput, Target, TargetKind},
    policy::Permit,
};

/// Why nothing ran. What happened once a step has begun is not an error but its [`StepOutcome`].
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
            Self::Cancelled => "cancelled",
        }
    }
}

/// One way of reaching targets. Implemented only by the private modules of `exec`.
trait Executor: Send + Sync {
    /// Whether this backend runs `step` on `target`.
    fn performs(&self, target: &Target, step: &Step) -> bool;

    /// Runs `script` on `target` to its end. `limit` is in whole seconds, at least one. Cancelling stops the command;
    /// dropping the future kills it.
    fn run<'a>(
        &'a self,
        target: &'a Target,
        script: &'a Script,
        limit: Duration,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, ScriptOutput>;
}

/// The scripts of an operation in order, each with the backend that runs it.
type Plan<'a> = Vec<(&'a dyn Executor, &'a Script)>;

/// Every backend, behind one queue.
pub struct Executors {
    backends: Vec<Box<dyn Executor>>,
    queue: Queue,
    clock: Arc<dyn Clock>,
}

impl Executors {
    /// All backends, bounded by `settings`. `clock` tells when a permit has expired.
    pub fn new(settings: Exec, clock: Arc<dyn Clock>) -> Self {
        Self {
            backends: vec![Box::new(Local::new(settings))],
            queue: Queue::new(settings.concurrency, settings.queue_timeout),
            clock,
        }
    }

    /// Runs the permitted operation: its steps in order, up to the first that did not end by itself.
    ///
    /// Waits for a free place first, on the target and then on the gateway, in the order of arrival; that time is not
    /// charged to the steps. `cancel` gives up the place in the queue or stops the running step: do not cancel an
    /// operation that must not be cut in half. An error means that nothing was started. Operations the gateway
    /// answers itself are refused.
    pub async fn run(&self, permit: Permit, cancel: &CancellationToken) -> Result<RawOutput, ExecError> {
        let (target, _) = self.plan(permit.operation())?;
        let _place = self.queue.enter(&target, cancel).await?;
        let operation = permit.redeem(self.clock.now()).map_err(|_| ExecError::Expired)?;
        self.perform(operation, cancel).await
    }

    async fn perform(&self, operation: Operation, cancel: &CancellationToken) -> Result<RawOutput, ExecError> {
        let (target, plan) = self.plan(&operation)?;
        let mut outputs = Vec::with_capacity(plan.len());
        for (backend, script) in plan {
            let output = backend.run(&target, script, limit(&target, script), cancel).await;
            let ended = matches!(output.outcome, StepOutcome::Exited(_));
            outputs.push(StepOutput::Script(Box::new(output)));
            if !ended {
                break;
            }
        }
        Ok(RawOutput { operation, outputs })
    }

    /// The target and, for every step, the backend that runs it. Found before anything starts, so that an operation
    /// is not left half done because a later step has no backend.
    fn plan<'a>(&'a self, operation: &'a Operation) -> Result<(Arc<Target>, Plan<'a>), ExecError> {
        let target = operation.target.clone().ok_or(ExecError::NoExecutor)?;
        let plan = operation.steps.iter().map(|step| match step {
            Step::Script(script) => {
                let backend = self.backends.iter().find(|backend| backend.performs(&target, step))?;
                Some((backend.as_ref(), script))
            }
            Step::Gateway(_) => None,
        });
        let plan = plan.collect::<Option<Plan<'_>>>().ok_or(match target.kind {
            TargetKind::Local => ExecError::NoExecutor,
            other => ExecError::Unreachable(other),
        })?;
        Ok((target, plan))
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

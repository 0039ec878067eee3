//! Machines reached by SSH, with nothing installed on them.
//!
//! Answers for talking only to a host that proved who it is, and for what is known of a command whose connection went
//! away. Sends the same command line and input as the local backend does. Never learns a host's key by itself, never
//! sends a command twice.

mod alarm;
mod algorithms;
mod channel;
mod connect;
mod fault;
mod handler;
mod login;
mod route;
mod scan;
mod tether;
mod trust;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use self::connect::Session;
pub use self::{
    alarm::{Alarms, HostAlarm},
    fault::SshFault,
    scan::{ScannedCertificate, ScannedKey, scan},
    trust::{NotAList, RevokedKeys, host_matches},
};
use super::{Executor, Run, capture::Capture, launch::Launch};
use crate::{
    config,
    model::{Clock, ScriptOutput, StepOutcome, TargetKind},
    tailnet::Node,
};

/// Runs scripts on targets reached by SSH.
pub struct Ssh {
    settings: config::Ssh,
    exec: config::Exec,
    node: Arc<dyn Node>,
    clock: Arc<dyn Clock>,
    alarms: Option<Arc<dyn Alarms>>,
}

impl Ssh {
    /// Through `node`, with output bounded by `exec`.
    pub fn open(settings: config::Ssh, exec: config::Exec, node: Arc<dyn Node>, clock: Arc<dyn Clock>) -> Self {
        Self { settings, exec, node, clock, alarms: None }
    }

    /// The same, with `alarms` told of hosts that are not who they should be.
    pub fn telling(self, alarms: Arc<dyn Alarms>) -> Self {
        Self { alarms: Some(alarms), ..self }
    }

    async fn perform(&self, run: Run<'_>) -> ScriptOutput {
        let started = Instant::now();
        let mut stdout = Capture::new(self.exec.max_stdout_bytes);
        let mut stderr = Capture::new(self.exec.max_stderr_bytes);
        let launch = Launch::new(run.script, run.limit);
        let (outcome, wire) = match &launch {
            Err(error) => (StepOutcome::not_started(error.to_string()), None),
            Ok(_) if run.cancel.is_cancelled() => (StepOutcome::not_started("the call was cancelled"), None),
            Ok(launch) => match self.session(&run).await {
                Err(fault) => (StepOutcome::NotStarted { code: fault.code(), why: fault.to_string() }, None),
                Ok(session) => {
                    let hard = self.exec.hard_output_bytes;
                    let outcome = channel::run(&session, launch, &run, hard, [&mut stdout, &mut stderr]).await;
                    (outcome, Some(session.wire.clone()))
                }
            },
        };
        let (argv_sha256, marker) = launch.map(|launch| (launch.line_sha256(), launch.marker)).unwrap_or_default();
        ScriptOutput {
            template_id: run.script.template.id,
            argv_sha256,
            marker,
            outcome,
            stdout: stdout.finish(),
            stderr: stderr.finish(),
            duration: started.elapsed(),
            wire,
        }
    }

    /// A connection that `run` may use.
    async fn session(&self, run: &Run<'_>) -> Result<Session, SshFault> {
        connect::connect(self, run.target, run.attribution).await
    }
}

impl Executor for Ssh {
    fn performs(&self, kind: TargetKind) -> bool {
        kind == TargetKind::Ssh
    }

    fn run<'a>(&'a self, run: Run<'a>) -> BoxFuture<'a, ScriptOutput> {
        Box::pin(self.perform(run))
    }
}

/// How long a command may be silent about its end after its limit, before the channel is given up.
const MARGIN: Duration = Duration::from_secs(7);

#[cfg(test)]
mod tests;

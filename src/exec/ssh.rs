//! Machines reached by SSH, with nothing installed on them.
//!
//! Answers for talking only to a host that proved who it is, and for what is known of a command whose connection went
//! away. Sends the same command line and input as the local backend does. Never learns a host's key by itself, never
//! sends a command twice.

mod alarm;
mod algorithms;
mod breaker;
mod channel;
mod connect;
mod fault;
mod greeting;
mod handler;
mod login;
mod pool;
mod route;
mod scan;
mod stop;
mod tether;
mod trust;
mod way;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::time::{Instant, MissedTickBehavior, interval};

pub use self::{
    alarm::{Alarms, HostAlarm},
    fault::SshFault,
    greeting::greeting_at_enrolment,
    login::{AuthorityFault, Credentials, LoginKey, public_key_of},
    scan::{Scan, ScannedCertificate, ScannedKey, certified, scan},
    trust::{NotAList, RevokedKeys, host_matches},
};
use self::{greeting::Greetings, pool::Pool, trust::Revocations, way::Way};
use super::{Executor, Run, capture::Capture, launch::Launch};
use crate::{
    config,
    model::{Attribution, Clock, ScriptOutput, StepOutcome, Target, TargetKind, Wire},
    store::Store,
    tailnet::Node,
};

/// Runs scripts on targets reached by SSH.
pub struct Ssh {
    settings: config::Ssh,
    exec: config::Exec,
    node: Arc<dyn Node>,
    clock: Arc<dyn Clock>,
    alarms: Option<Arc<dyn Alarms>>,
    greetings: Option<Greetings>,
    revocations: Revocations,
    credentials: Credentials,
    pool: Arc<Pool>,
}

impl Ssh {
    /// Through `node`, with output bounded by `exec`. Logs in with key files alone. Starts the task that ends
    /// connections nobody uses.
    pub fn open(settings: config::Ssh, exec: config::Exec, node: Arc<dyn Node>, clock: Arc<dyn Clock>) -> Self {
        let credentials = Credentials::of_files(&settings);
        let pool = Arc::new(Pool::new(settings.clone(), exec.queue_timeout, clock.clone()));
        tokio::spawn(sweep(Arc::downgrade(&pool), settings.idle));
        let revocations = Revocations::in_file(settings.revoked_keys.clone());
        Self { settings, exec, node, clock, alarms: None, greetings: None, revocations, credentials, pool }
    }

    /// The same, with `alarms` told of hosts that are not who they should be.
    pub fn telling(self, alarms: Arc<dyn Alarms>) -> Self {
        Self { alarms: Some(alarms), ..self }
    }

    /// The same, logging in with `credentials`.
    pub fn logging_in_with(self, credentials: Credentials) -> Self {
        Self { credentials, ..self }
    }

    /// The same, with what hosts say of themselves kept in `store`, so that a change is told of.
    pub fn remembering(self, store: Store) -> Self {
        Self { greetings: Some(Greetings::kept_in(store)), ..self }
    }

    async fn perform(&self, run: Run<'_>, apart: bool) -> ScriptOutput {
        let started = Instant::now();
        let mut stdout = Capture::new(self.exec.max_stdout_bytes);
        let mut stderr = Capture::new(self.exec.max_stderr_bytes);
        let launch = Launch::new(run.script, run.limit);
        let (outcome, wire) = match &launch {
            Err(error) => (StepOutcome::not_started(error.to_string()), None),
            Ok(_) if run.cancel.is_cancelled() => (StepOutcome::not_started("the call was cancelled"), None),
            Ok(launch) => self.reach(&run, apart, launch, [&mut stdout, &mut stderr]).await,
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

    /// Runs `launch` on a channel of a connection that `run` may use, or of a new one that nobody else gets.
    async fn reach(
        &self,
        run: &Run<'_>,
        apart: bool,
        launch: &Launch,
        captures: [&mut Capture; 2],
    ) -> (StepOutcome, Option<Wire>) {
        let never = |fault: &SshFault| StepOutcome::NotStarted { code: fault.code(), why: fault.to_string() };
        let way = match Way::of(self, run.target, run.attribution) {
            Ok(way) => way,
            Err(fault) => return (never(&fault), None),
        };
        let open = async {
            if apart { self.pool.channel_apart(self, &way).await } else { self.pool.channel(self, &way).await }
        };
        let opened = tokio::select! {
            biased;
            () = run.cancel.cancelled() => return (StepOutcome::not_started("the call was cancelled"), None),
            opened = open => opened,
        };
        match opened {
            Err(fault) => (never(&fault), None),
            Ok((lease, channel)) => {
                let outcome = channel::run((self, &way), (&lease, channel), launch, run, captures).await;
                (outcome, Some(lease.session.wire.clone()))
            }
        }
    }
}

/// Looks from time to time which connections nobody has used for `idle`, until there is no pool any more.
async fn sweep(pool: Weak<Pool>, idle: Duration) {
    let mut tick = interval((idle / 4).clamp(Duration::from_millis(50), Duration::from_secs(15)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some(pool) = pool.upgrade() else { return };
        pool.sweep(Instant::now());
    }
}

impl Executor for Ssh {
    fn performs(&self, kind: TargetKind) -> bool {
        kind == TargetKind::Ssh
    }

    fn run<'a>(&'a self, run: Run<'a>) -> BoxFuture<'a, ScriptOutput> {
        Box::pin(self.perform(run, false))
    }

    fn run_apart<'a>(&'a self, run: Run<'a>) -> BoxFuture<'a, ScriptOutput> {
        Box::pin(self.perform(run, true))
    }

    fn scan_behind<'a>(
        &'a self,
        jump: &'a Target,
        place: (&'a str, u16),
        attribution: &'a Attribution,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Scan, SshFault>> {
        Box::pin(self.keys_behind(jump, place, attribution, limit))
    }
}

#[cfg(test)]
mod tests;

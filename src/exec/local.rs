//! The machine the gateway runs on as a target.
//!
//! Starts exactly the command line that goes over SSH to other hosts, so that every local call exercises the quoting
//! too. Never interprets what comes back, and leaves no process of the command's group behind, however it ended.

use std::{
    os::unix::process::ExitStatusExt,
    pin::{Pin, pin},
    process::ExitStatus,
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, FusedFuture},
};
use rustix::process::Signal;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Executor, Run,
    capture::{Budget, Capture, Overflow, pump},
    group::{Ends, Exit, Group},
    launch::{Launch, TIMED_OUT},
};
use crate::{
    config::Exec,
    model::{Progress, Script, ScriptOutput, StepOutcome, Stopped, TargetKind},
};

/// `timeout` on the target ends a command at its limit; this much later we do it ourselves.
const MARGIN: Duration = Duration::from_secs(1);

/// What a command gets between TERM and KILL.
const GRACE: Duration = Duration::from_secs(2);

/// How long a killed group may take to be gone before we say that it may still be there.
const VANISH: Duration = Duration::from_secs(2);

/// How long output may still come after the command ended, from children that hold its streams open.
const DRAIN: Duration = Duration::from_millis(500);

/// Runs scripts on this machine.
pub(super) struct Local {
    settings: Exec,
}

/// All three streams of a command on the move: done when each has ended, or when the output went over its limit.
trait Streams: FusedFuture<Output = Result<(), Overflow>> {}

impl<F: FusedFuture<Output = Result<(), Overflow>>> Streams for F {}

/// Why we stopped watching a command.
enum Watched {
    /// Its leader has ended.
    Ended,
    /// It went over this limit.
    Over(&'static str),
}

impl Local {
    /// Output is bounded by `settings`.
    pub(super) fn new(settings: Exec) -> Self {
        Self { settings }
    }

    async fn perform(
        &self,
        script: &Script,
        limit: Duration,
        cancel: &CancellationToken,
        progress: &Progress,
    ) -> ScriptOutput {
        let started = Instant::now();
        let mut stdout = Capture::new(self.settings.max_stdout_bytes);
        let mut stderr = Capture::new(self.settings.max_stderr_bytes);
        let launch = Launch::new(script, limit);
        let outcome = match &launch {
            Err(error) => StepOutcome::not_started(error.to_string()),
            Ok(_) if cancel.is_cancelled() => StepOutcome::not_started("the call was cancelled"),
            Ok(launch) => self.attend(launch, limit, cancel, progress, [&mut stdout, &mut stderr]).await,
        };
        let (argv_sha256, marker) = launch.map(|launch| (launch.line_sha256(), launch.marker)).unwrap_or_default();
        ScriptOutput {
            template_id: script.template.id,
            argv_sha256,
            marker,
            outcome,
            stdout: stdout.finish(),
            stderr: stderr.finish(),
            duration: started.elapsed(),
            wire: None,
        }
    }

    /// Starts the command, feeds and reads it, and sees to it that it ends.
    async fn attend(
        &self,
        launch: &Launch,
        limit: Duration,
        cancel: &CancellationToken,
        progress: &Progress,
        [stdout, stderr]: [&mut Capture; 2],
    ) -> StepOutcome {
        let started = Instant::now();
        let mut group = match Group::spawn(&launch.line) {
            Ok(group) => group,
            Err(error) => return StepOutcome::not_started(format!("the shell could not be started: {error}")),
        };
        let Ends { stdin, stdout: out, stderr: err, exit } = match group.open() {
            Ok(ends) => ends,
            Err(error) => {
                return StepOutcome::Lost(format!("the command could not be followed and was killed: {error}"));
            }
        };
        let budget = Budget::new(self.settings.hard_output_bytes, progress.clone());
        let streams = async {
            tokio::try_join!(feed(stdin, &launch.input), pump(out, stdout, &budget), pump(err, stderr, &budget))
        };
        let mut streams = pin!(streams.map(|result| result.map(drop)).fuse());

        match watch(&exit, streams.as_mut(), limit.saturating_add(MARGIN), cancel).await {
            Watched::Over(which) => {
                let stopped = stop(&mut group, &exit, streams).await;
                StepOutcome::Stopped { limit: which, stopped }
            }
            Watched::Ended => {
                let ran = started.elapsed();
                let overflow = drain(&group, streams).await;
                let Some(status) = group.reap() else {
                    return StepOutcome::Lost("the command was killed because the gateway is shutting down".into());
                };
                let over = match outcome(status) {
                    _ if overflow.is_err() => "output",
                    // Its timer starts after ours, so `timeout` never fires before the limit by our clock.
                    ended if ran >= limit && TIMED_OUT.contains(&ended) => "time",
                    ended => return ended,
                };
                StepOutcome::Stopped { limit: over, stopped: group.gone(VANISH).await }
            }
        }
    }
}

impl Executor for Local {
    fn performs(&self, kind: TargetKind) -> bool {
        kind == TargetKind::Local
    }

    fn run<'a>(&'a self, run: Run<'a>) -> BoxFuture<'a, ScriptOutput> {
        Box::pin(self.perform(run.script, run.limit, run.cancel, run.progress))
    }
}

/// Keeps the streams moving until the leader ends or a limit is reached.
async fn watch(
    exit: &Exit,
    mut streams: Pin<&mut impl Streams>,
    patience: Duration,
    cancel: &CancellationToken,
) -> Watched {
    let mut patience = pin!(sleep(patience));
    loop {
        tokio::select! {
            // The streams come last: they may always have something to do, and must not starve the limits.
            biased;
            () = cancel.cancelled() => return Watched::Over("cancelled"),
            () = exit.wait() => return Watched::Ended,
            () = patience.as_mut() => return Watched::Over("time"),
            done = streams.as_mut(), if !streams.is_terminated() => if done.is_err() {
                return Watched::Over("output");
            },
        }
    }
}

/// Reads what is still in the streams after the leader ended, then kills what is left of the group. Children that were
/// left behind get a short time to finish writing.
async fn drain(group: &Group, mut streams: Pin<&mut impl Streams>) -> Result<(), Overflow> {
    let mut result = Ok(());
    for signal in [None, Some(Signal::KILL)] {
        if let Some(signal) = signal {
            group.signal(signal);
        }
        if !streams.is_terminated() {
            result = result.and(timeout(DRAIN, streams.as_mut()).await.unwrap_or(Ok(())));
        }
    }
    result
}

/// Asks the group to end, then makes it.
async fn stop(group: &mut Group, exit: &Exit, mut streams: Pin<&mut impl Streams>) -> Stopped {
    for (signal, patience) in [(Signal::TERM, GRACE), (Signal::KILL, VANISH)] {
        group.signal(signal);
        until_ended(exit, streams.as_mut(), patience).await;
    }
    // Only now may the leader be reaped. Where it still runs, that is all that can be said.
    let _ = drain(group, streams).await;
    match group.reap() {
        Some(_) => group.gone(VANISH).await,
        None => Stopped::Requested,
    }
}

/// Keeps the streams moving until the leader ended, for at most `patience`.
async fn until_ended(exit: &Exit, mut streams: Pin<&mut impl Streams>, patience: Duration) {
    let mut patience = pin!(sleep(patience));
    loop {
        tokio::select! {
            biased;
            () = exit.wait() => return,
            () = patience.as_mut() => return,
            _ = streams.as_mut(), if !streams.is_terminated() => {}
        }
    }
}

/// Writes `input` and closes the stream. A command that does not read all of it is no error.
async fn feed(mut stdin: impl AsyncWrite + Unpin, input: &[u8]) -> Result<(), Overflow> {
    let _ = stdin.write_all(input).await;
    Ok(())
}

/// How the leader ended by itself.
fn outcome(status: ExitStatus) -> StepOutcome {
    match (status.code(), status.signal()) {
        (Some(code), _) => StepOutcome::Exited(code),
        (None, Some(signal)) => StepOutcome::Signalled(signal),
        (None, None) => StepOutcome::Lost(format!("the command ended in an unknown way ({status})")),
    }
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;

//! One command on a connection: the line out, the input out, the streams in, and how it ended. A connection that goes
//! away after the command was sent leaves it unknown. What is over a limit is stopped.

use std::{pin::pin, sync::Arc, time::Duration};

use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig, client};
use tokio::time::{Instant, sleep, timeout};

use super::{
    Ssh,
    pool::Lease,
    stop::{self, Followed},
    way::Way,
};
use crate::{
    exec::{
        Run,
        capture::{Budget, Capture, Overflow},
        launch::{Launch, TIMED_OUT},
    },
    model::{StepOutcome, Stopped},
};

/// How many bytes of input go out at once.
const CHUNK: usize = 32 << 10;

/// `timeout` on the host ends a command at its limit, and five seconds later kills it; this much later we stop waiting
/// for word of it.
const MARGIN: Duration = Duration::from_secs(7);

/// How long before its limit a command is looked up on the host, so that its processes are known when it ends there.
const LEAD: Duration = Duration::from_secs(1);

/// How long that look waits for the command to end by itself: until `timeout` has killed it.
const OWN_END: Duration = Duration::from_secs(7);

/// How long there may be silence after a command ended, while something that it left behind holds its streams open.
const SILENCE: Duration = Duration::from_secs(1);

/// Runs `launch` on `channel`, which is of `lease` and reached by `way`. At most `hard` bytes of output are read.
pub(super) async fn run(
    (ssh, way): (&Ssh, &Way<'_>),
    (lease, channel): (&Lease, Channel<client::Msg>),
    launch: &Launch,
    run: &Run<'_>,
    [stdout, stderr]: [&mut Capture; 2],
) -> StepOutcome {
    let (mut read, write) = channel.split();
    let write = Arc::new(write);
    let started = Instant::now();
    // An error here means that the connection was gone before anything was written to it.
    if let Err(error) = write.exec(true, launch.line.as_bytes()).await {
        return StepOutcome::NotStarted { code: "unreachable", why: format!("the connection went away: {error}") };
    }
    let followed = Followed::new(&lease.session, &write, &launch.marker);
    let budget = Budget::new(ssh.exec.hard_output_bytes, run.progress.clone());
    let stop = |patience| stop::end(&lease.session, Some((ssh, way)), &launch.marker, patience);
    let lead = LEAD.min(run.limit / 2);
    let mut lookout = pin!(async {
        sleep(run.limit.saturating_sub(lead)).await;
        stop(lead + OWN_END).await
    });
    let mut seen = None;
    let ended = {
        let mut attend = pin!(attend(&mut read, &write, &launch.input, [stdout, stderr], &budget));
        let mut patience = pin!(sleep(run.limit.saturating_add(MARGIN)));
        loop {
            tokio::select! {
                // The streams come last: they may always have something to do, and must not starve the limits.
                biased;
                () = run.cancel.cancelled() => break Err("cancelled"),
                () = patience.as_mut() => break Err("time"),
                stopped = lookout.as_mut(), if seen.is_none() => seen = Some(stopped),
                ended = attend.as_mut() => break ended.map_err(|Overflow| "output"),
            }
        }
    };
    // The library delivers in order: what a channel leaves unread holds up everybody on its connection, even those who
    // want to close one. What comes for nobody is dropped.
    drop(read);
    let (outcome, is_closed) = match ended {
        // Its timer starts after ours, so `timeout` never fires before the limit by our clock.
        Ok(end) if started.elapsed() >= run.limit && TIMED_OUT.contains(&end.outcome) => {
            let stopped = match seen {
                Some(stopped) => stopped,
                None => lookout.await,
            };
            (StepOutcome::Stopped { limit: "time", stopped }, end.is_closed)
        }
        Ok(end) => (end.outcome, end.is_closed),
        Err(limit) => (StepOutcome::Stopped { limit, stopped: stop(Duration::ZERO).await }, false),
    };
    if !is_closed {
        let may_run = matches!(outcome, StepOutcome::Stopped { stopped: Stopped::Requested, .. });
        stop::leave(&write, may_run).await;
    }
    followed.done();
    outcome
}

/// Sends the input and reads the streams until the command has ended.
async fn attend(
    read: &mut ChannelReadHalf,
    write: &ChannelWriteHalf<client::Msg>,
    input: &[u8],
    streams: [&mut Capture; 2],
    budget: &Budget,
) -> Result<End, Overflow> {
    let feed = async {
        for chunk in input.chunks(CHUNK) {
            if write.data_bytes(chunk.to_vec()).await.is_err() {
                break;
            }
        }
        let _ = write.eof().await;
        // A command that does not read all of its input ends all the same.
        std::future::pending().await
    };
    tokio::select! {
        ended = follow(read, streams, budget) => ended,
        ended = feed => ended,
    }
}

/// How a command ended, as far as its channel tells.
struct End {
    outcome: StepOutcome,
    /// Whether the host has closed the channel.
    is_closed: bool,
}

/// Reads until the channel is closed, or until the command has ended and nothing more comes.
async fn follow(
    read: &mut ChannelReadHalf,
    [stdout, stderr]: [&mut Capture; 2],
    budget: &Budget,
) -> Result<End, Overflow> {
    let mut outcome = None;
    let is_closed = loop {
        let message = match &outcome {
            None => read.wait().await,
            Some(_) => match timeout(SILENCE, read.wait()).await {
                Ok(message) => message,
                Err(_) => break false,
            },
        };
        match message {
            None | Some(ChannelMsg::Close) => break true,
            Some(ChannelMsg::Data { data }) => {
                stdout.push(&data);
                budget.spend(data.len() as u64)?;
            }
            Some(ChannelMsg::ExtendedData { data, .. }) => {
                stderr.push(&data);
                budget.spend(data.len() as u64)?;
            }
            Some(ChannelMsg::ExitStatus { exit_status }) => {
                outcome = Some(StepOutcome::Exited(i32::try_from(exit_status).unwrap_or(i32::MAX)));
            }
            Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                outcome = Some(StepOutcome::Signalled(number(&signal_name)));
            }
            Some(ChannelMsg::Failure) => {
                outcome = Some(StepOutcome::not_started("the host does not run commands"));
                break false;
            }
            Some(_) => {}
        }
    };
    let lost = || StepOutcome::Lost("the connection went away before the command's end".to_owned());
    Ok(End { outcome: outcome.unwrap_or_else(lost), is_closed })
}

/// The number of a signal on Linux; 0 for one without.
fn number(signal: &Sig) -> i32 {
    match signal {
        Sig::HUP => 1,
        Sig::INT => 2,
        Sig::QUIT => 3,
        Sig::ILL => 4,
        Sig::ABRT => 6,
        Sig::FPE => 8,
        Sig::KILL => 9,
        Sig::USR1 => 10,
        Sig::SEGV => 11,
        Sig::PIPE => 13,
        Sig::ALRM => 14,
        Sig::TERM => 15,
        Sig::Custom(_) => 0,
    }
}

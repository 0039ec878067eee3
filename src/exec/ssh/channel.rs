//! One command on a connection: the line out, the input out, the streams in, and how it ended. A connection that goes
//! away after the command was sent leaves it unknown. What is over a limit is stopped.

use std::{pin::pin, time::Duration};

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
    let started = Instant::now();
    // An error here means that the connection was gone before anything was written to it.
    if let Err(error) = write.exec(true, launch.line.as_bytes()).await {
        return StepOutcome::NotStarted { code: "unreachable", why: format!("the connection went away: {error}") };
    }
    let followed = Followed::new(&lease.session, &launch.marker);
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
    let outcome = match ended {
        // Its timer starts after ours, so `timeout` never fires before the limit by our clock.
        Ok(outcome) if started.elapsed() >= run.limit && TIMED_OUT.contains(&outcome) => {
            let stopped = match seen {
                Some(stopped) => stopped,
                None => lookout.await,
            };
            StepOutcome::Stopped { limit: "time", stopped }
        }
        Ok(outcome) => outcome,
        Err(limit) => {
            let stopped = tokio::select! {
                stopped = stop(Duration::ZERO) => stopped,
                // What nobody reads would hold up everybody on this connection.
                () = discard(&mut read) => Stopped::Requested,
            };
            if stopped == Stopped::Requested {
                let _ = write.signal(Sig::KILL).await;
            }
            let _ = write.close().await;
            StepOutcome::Stopped { limit, stopped }
        }
    };
    followed.done();
    outcome
}

/// Reads for as long as the connection lives.
async fn discard(read: &mut ChannelReadHalf) {
    let mut closed = false;
    while let Some(message) = read.wait().await {
        closed |= matches!(message, ChannelMsg::Close);
    }
    if closed {
        std::future::pending::<()>().await;
    }
}

/// Sends the input and reads the streams until the command has ended.
async fn attend(
    read: &mut ChannelReadHalf,
    write: &ChannelWriteHalf<client::Msg>,
    input: &[u8],
    streams: [&mut Capture; 2],
    budget: &Budget,
) -> Result<StepOutcome, Overflow> {
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
        ended = follow(read, write, streams, budget) => ended,
        ended = feed => ended,
    }
}

/// Reads until the channel is closed, or until the command has ended and nothing more comes.
async fn follow(
    read: &mut ChannelReadHalf,
    write: &ChannelWriteHalf<client::Msg>,
    [stdout, stderr]: [&mut Capture; 2],
    budget: &Budget,
) -> Result<StepOutcome, Overflow> {
    let mut outcome = None;
    loop {
        let message = match &outcome {
            None => read.wait().await,
            Some(_) => match timeout(SILENCE, read.wait()).await {
                Ok(message) => message,
                Err(_) => {
                    let _ = write.close().await;
                    break;
                }
            },
        };
        match message {
            None | Some(ChannelMsg::Close) => break,
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
                let _ = write.close().await;
                return Ok(StepOutcome::not_started("the host does not run commands"));
            }
            Some(_) => {}
        }
    }
    Ok(outcome.unwrap_or_else(|| StepOutcome::Lost("the connection went away before the command's end".to_owned())))
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

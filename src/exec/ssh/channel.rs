//! One command on a connection: the line out, the input out, the streams in, and how it ended. A connection that goes
//! away after the command was sent leaves it unknown.

use russh::{Channel, ChannelMsg, ChannelReadHalf, Sig, client};
use tokio::time::timeout;

use super::MARGIN;
use crate::{
    exec::{
        Run,
        capture::{Budget, Capture, Overflow},
        launch::Launch,
    },
    model::{StepOutcome, Stopped},
};

/// How many bytes of input go out at once.
const CHUNK: usize = 32 << 10;

/// Runs `launch` on a channel of its own. At most `hard` bytes of output are read.
pub(super) async fn run(
    channel: Channel<client::Msg>,
    launch: &Launch,
    run: &Run<'_>,
    hard: u64,
    [stdout, stderr]: [&mut Capture; 2],
) -> StepOutcome {
    let (mut read, write) = channel.split();
    if let Err(error) = write.exec(true, launch.line.as_bytes()).await {
        return StepOutcome::Lost(format!("the connection went away: {error}"));
    }
    let budget = Budget::new(hard, run.progress.clone());
    let feed = async {
        for chunk in launch.input.chunks(CHUNK) {
            if write.data_bytes(chunk.to_vec()).await.is_err() {
                return;
            }
        }
        let _ = write.eof().await;
    };
    let attend = async { tokio::join!(feed, follow(&mut read, stdout, stderr, &budget)).1 };
    let ended = tokio::select! {
        biased;
        () = run.cancel.cancelled() => Err("cancelled"),
        ended = timeout(run.limit + MARGIN, attend) => ended.map_err(|_| "time"),
    };
    match ended {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(Overflow)) => give_up(&write, "output").await,
        Err(limit) => give_up(&write, limit).await,
    }
}

async fn give_up(write: &russh::ChannelWriteHalf<russh::client::Msg>, limit: &'static str) -> StepOutcome {
    let _ = write.signal(Sig::TERM).await;
    let _ = write.close().await;
    StepOutcome::Stopped { limit, stopped: Stopped::Requested }
}

/// Reads until the channel is closed.
async fn follow(
    read: &mut ChannelReadHalf,
    stdout: &mut Capture,
    stderr: &mut Capture,
    budget: &Budget,
) -> Result<StepOutcome, Overflow> {
    let mut outcome = None;
    while let Some(message) = read.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                stdout.push(&data);
                budget.spend(data.len() as u64)?;
            }
            ChannelMsg::ExtendedData { data, .. } => {
                stderr.push(&data);
                budget.spend(data.len() as u64)?;
            }
            ChannelMsg::ExitStatus { exit_status } => {
                outcome = Some(StepOutcome::Exited(i32::try_from(exit_status).unwrap_or(i32::MAX)));
            }
            ChannelMsg::ExitSignal { signal_name, .. } => outcome = Some(StepOutcome::Signalled(number(&signal_name))),
            ChannelMsg::Failure => outcome = Some(StepOutcome::not_started("the host does not run commands")),
            ChannelMsg::Close => break,
            _ => {}
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

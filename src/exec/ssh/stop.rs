//! Ending a command on a host, and knowing that it has ended. SSH itself acknowledges no signal, so a second session
//! looks for the run's random marker among the host's processes, ends the process groups that they lead, and says
//! whether any of them is left. Signals nobody else.

use std::{sync::Arc, time::Duration};

use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig, client};
use tokio::{
    runtime::Handle,
    time::{Instant, timeout_at},
};

use super::{Ssh, connect::Session, way::Way};
use crate::{
    exec::launch::Launch,
    model::{Script, Stopped, Template},
};

/// INT, a second later TERM, two seconds later KILL, then two seconds to be gone.
static STOP: Template = Template { id: "ssh_stop.v1", body: include_str!("stop.sh"), stdin: true };

/// The longest that may take, with finding the processes on a busy host.
const WHOLE: Duration = Duration::from_secs(15);

/// The most that is read of what it says.
const MOST: usize = 4096;

/// Ends what carries `marker`, leaving it `patience` to end by itself. Goes over `session`, or over a connection of its
/// own where that has no room and `way` says how to make one.
pub(super) async fn end(session: &Session, way: Option<(&Ssh, &Way<'_>)>, marker: &str, patience: Duration) -> Stopped {
    let limit = patience.saturating_add(WHOLE);
    let deadline = Instant::now() + limit;
    // By standard input: an argument would be found itself.
    let input = format!("{marker} {}\n", patience.as_secs_f64().ceil());
    let Ok(launch) = Launch::new(&Script { stdin: Some(input.into()), ..Script::new(&STOP, [""; 0]) }, limit) else {
        return Stopped::Requested;
    };
    let opened = timeout_at(deadline, async {
        if let Ok(channel) = session.channel().await {
            return Some((None, channel));
        }
        let (ssh, way) = way?;
        let apart = ssh.pool.apart(ssh, way).await.ok()?;
        let channel = apart.channel().await.ok()?;
        Some((Some(apart), channel))
    });
    let Ok(Some((_apart, channel))) = opened.await else { return Stopped::Requested };
    let (mut read, write) = channel.split();
    let said = timeout_at(deadline, ask(&mut read, &write, &launch)).await.ok().flatten();
    drop(read);
    leave(&write, said.is_none()).await;
    // It also says `left`; `hidden` where processes of other users cannot be seen; `none` where it found nothing, which
    // a host that is slow to begin looks like too.
    match said.as_deref().and_then(|said| word(said, &launch.marker)) {
        Some("gone") => Stopped::Confirmed,
        _ => Stopped::Requested,
    }
}

/// Runs `launch`: what it says until the channel is closed; none where that is too much, or where nothing runs.
async fn ask(read: &mut ChannelReadHalf, write: &ChannelWriteHalf<client::Msg>, launch: &Launch) -> Option<Vec<u8>> {
    write.exec(true, launch.line.as_bytes()).await.ok()?;
    write.data_bytes(launch.input.clone()).await.ok()?;
    write.eof().await.ok()?;
    let mut said = Vec::new();
    while let Some(message) = read.wait().await {
        match message {
            ChannelMsg::Data { data } if said.len() + data.len() <= MOST => said.extend_from_slice(&data),
            ChannelMsg::Data { .. } | ChannelMsg::Failure => return None,
            ChannelMsg::Close => break,
            _ => {}
        }
    }
    Some(said)
}

/// What stands under `marker` in what was said.
fn word<'a>(said: &'a [u8], marker: &str) -> Option<&'a str> {
    let mut lines = std::str::from_utf8(said).ok()?.lines();
    lines.find_map(|line| line.strip_prefix(marker)?.strip_prefix(' '))
}

/// Closes a channel that nobody reads any more. What may still run there is killed by the only word that SSH itself has
/// for it, which nobody answers.
pub(super) async fn leave(write: &ChannelWriteHalf<client::Msg>, may_run: bool) {
    if may_run {
        let _ = write.signal(Sig::KILL).await;
    }
    let _ = write.close().await;
}

/// A command that nobody follows any more is ended: this goes with the call.
pub(super) struct Followed(Option<Command>);

/// A command on a host.
struct Command {
    session: Arc<Session>,
    write: Arc<ChannelWriteHalf<client::Msg>>,
    marker: String,
}

impl Followed {
    pub(super) fn new(session: &Arc<Session>, write: &Arc<ChannelWriteHalf<client::Msg>>, marker: &str) -> Self {
        Self(Some(Command { session: Arc::clone(session), write: Arc::clone(write), marker: marker.to_owned() }))
    }

    /// It ended, or all was done to end it.
    pub(super) fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let Some(Command { session, write, marker }) = self.0.take() else { return };
        // Without a runtime the gateway itself ends; the command's own limit is left.
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            let stopped = end(&session, None, &marker, Duration::ZERO).await;
            leave(&write, stopped == Stopped::Requested).await;
        });
    }
}

//! Ending a command on a host, and knowing that it has ended. SSH itself acknowledges no signal, so a second session
//! looks for the run's random marker among the host's processes, ends the process groups that they lead, and says
//! whether any of them is left. Signals nobody else.

use std::{sync::Arc, time::Duration};

use russh::{Channel, ChannelMsg, client};
use tokio::{runtime::Handle, time::timeout};

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
    let said = timeout(limit, async {
        if let Ok(channel) = session.channel().await {
            return ask(channel, marker, patience, limit).await;
        }
        let (ssh, way) = way?;
        let apart = ssh.pool.apart(ssh, way).await.ok()?;
        ask(apart.channel().await.ok()?, marker, patience, limit).await
    });
    // It also says `left`; `hidden` where processes of other users cannot be seen; `none` where it found nothing, which
    // a host that is slow to begin looks like too.
    match said.await {
        Ok(Some(word)) if word == "gone" => Stopped::Confirmed,
        _ => Stopped::Requested,
    }
}

/// What the host says when it was asked to end what carries `marker`.
async fn ask(channel: Channel<client::Msg>, marker: &str, patience: Duration, limit: Duration) -> Option<String> {
    // By standard input: an argument would be found itself.
    let input = format!("{marker} {}\n", patience.as_secs_f64().ceil());
    let launch = Launch::new(&Script { stdin: Some(input.into()), ..Script::new(&STOP, [""; 0]) }, limit).ok()?;
    let (mut read, write) = channel.split();
    write.exec(true, launch.line.as_bytes()).await.ok()?;
    write.data_bytes(launch.input).await.ok()?;
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
    let said = String::from_utf8(said).ok()?;
    said.lines().find_map(|line| Some(line.strip_prefix(&launch.marker)?.strip_prefix(' ')?.to_owned()))
}

/// A command that nobody follows any more is ended: this goes with the call.
pub(super) struct Followed {
    session: Option<Arc<Session>>,
    marker: String,
}

impl Followed {
    pub(super) fn new(session: &Arc<Session>, marker: &str) -> Self {
        Self { session: Some(Arc::clone(session)), marker: marker.to_owned() }
    }

    /// It ended, or all was done to end it.
    pub(super) fn done(mut self) {
        self.session = None;
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        // Without a runtime the gateway itself ends; the command's own limit is left.
        let Ok(runtime) = Handle::try_current() else { return };
        let marker = std::mem::take(&mut self.marker);
        runtime.spawn(async move { end(&session, None, &marker, Duration::ZERO).await });
    }
}

//! The process that holds the node: started, told its configuration, and ended. Answers for one that never outlives us
//! and for signals that reach nobody else. Knows nothing of tailnets.

use std::{
    ffi::OsString,
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{self, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    io::AsyncWriteExt,
    process::{ChildStderr, ChildStdin, ChildStdout},
    sync::oneshot,
    time::timeout,
};

/// How long the process may take to read its configuration, which fits into the pipe anyway.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// How the process is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program: this one.
    pub program: PathBuf,
    /// What makes it the node.
    pub arguments: Vec<OsString>,
    /// All that its environment holds. No secrets: other processes of our user can read it.
    pub environment: Vec<(OsString, OsString)>,
}

/// A running process. Dropping it kills its group.
#[derive(Debug)]
pub(super) struct Child {
    id: Pid,
    /// Its end is the word to stop.
    stdin: Option<ChildStdin>,
    /// Comes when it has ended and is not reaped: until [`Self::stop`] its id is nobody else's.
    ended: oneshot::Receiver<()>,
    /// Dropped to have it reaped.
    hold: Option<mpsc::Sender<()>>,
    reaped: oneshot::Receiver<io::Result<ExitStatus>>,
}

/// What it says.
pub(super) struct Says {
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
}

impl Child {
    /// Starts it in `directory`, with `configuration` as the first line of its standard input.
    pub(super) async fn start(
        launch: &Launch,
        directory: &Path,
        configuration: &SecretString,
    ) -> io::Result<(Self, Says)> {
        let (started, starting) = oneshot::channel();
        let (over, ended) = oneshot::channel();
        let (hold, held) = mpsc::channel();
        let (status, reaped) = oneshot::channel();
        let command = command(launch, directory);
        // A thread of its own, which lives as long as the process: Linux tells a process that its parent has died when
        // the thread ends that started it.
        thread::Builder::new().name("node".to_owned()).spawn(move || {
            let mut command = command;
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(error) => return drop(started.send(Err(error))),
            };
            let id = Pid::from_child(&child);
            let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
            if started.send(Ok((id, streams))).is_err() {
                let _ = kill_process_group(id, Signal::KILL);
            }
            // Left as a dead entry, so that its id is not given to anyone while it may still be signalled.
            let seen = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while matches!(waitid(WaitId::Pid(id), seen), Err(Errno::INTR)) {}
            let _ = over.send(());
            let _: Result<(), mpsc::RecvError> = held.recv();
            let _ = status.send(child.wait());
        })?;
        let (id, (stdin, stdout, stderr)) = starting.await.map_err(io::Error::other)??;
        let missing = || io::Error::other("a stream of the process is missing");
        let mut child = Self { id, stdin: None, ended, hold: Some(hold), reaped };
        let mut stdin = ChildStdin::from_std(stdin.ok_or_else(missing)?)?;
        let says = Says {
            stdout: ChildStdout::from_std(stdout.ok_or_else(missing)?)?,
            stderr: ChildStderr::from_std(stderr.ok_or_else(missing)?)?,
        };
        let tell = async {
            stdin.write_all(configuration.expose_secret().as_bytes()).await?;
            stdin.write_all(b"\n").await?;
            stdin.flush().await
        };
        // Where it is not read, the process ends at once, and what it says tells why.
        if let Ok(Err(error)) | Err(error) = timeout(TOLD_WITHIN, tell).await.map_err(io::Error::from) {
            tracing::warn!(%error, "the node's process did not read its configuration");
        }
        child.stdin = Some(stdin);
        Ok((child, says))
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.id.as_raw_nonzero().get().unsigned_abs()
    }

    /// Returns when it has ended.
    pub(super) async fn ended(&mut self) {
        // The thread that says so ends only after having said so.
        if !self.ended.is_terminated() {
            let _ = (&mut self.ended).await;
        }
    }

    /// Has it end: the end of its input tells it to, and after `grace` its group is killed. Says how it ended.
    pub(super) async fn stop(mut self, grace: Duration) -> io::Result<ExitStatus> {
        self.stdin = None;
        if timeout(grace, self.ended()).await.is_err() {
            tracing::warn!("the node's process did not end in time and is killed");
        }
        // Also what it may have started.
        let _ = kill_process_group(self.id, Signal::KILL);
        self.ended().await;
        self.hold = None;
        (&mut self.reaped).await.map_err(io::Error::other)?
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Not reaped yet, so the id is still its own.
        if self.hold.is_some() {
            let _ = kill_process_group(self.id, Signal::KILL);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the node's process is the one that the tailnet needs")]
fn command(launch: &Launch, directory: &Path) -> Command {
    let mut command: process::Command = Command::new(&launch.program);
    command
        .args(&launch.arguments)
        .env_clear()
        .envs(launch.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(directory)
        // Of its own, so that a terminal's Ctrl-C reaches the gateway alone, which ends it in order.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

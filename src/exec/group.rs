//! A process group: a shell started as its leader, and everything it starts, signalled and ended as one.
//!
//! The leader is reaped only after the last signal was sent. Until then its process id, which is the group's id too,
//! cannot be given to anyone else, so no signal can reach a stranger. A process that leaves the group (`setsid`) is out
//! of reach: what may outlive a step belongs in a unit of its own under the target's service manager.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, test_kill_process_group},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    process::{ChildStderr, ChildStdin, ChildStdout},
    time,
};

use crate::model::Stopped;

/// How often we look whether a killed group is gone.
const LOOK: Duration = Duration::from_millis(10);

/// A running group. Dropping it kills every process in it.
pub(super) struct Group {
    id: Pid,
    /// None once it has been reaped.
    leader: Option<Child>,
}

/// The ends of a leader's standard streams, and what tells that it has ended.
pub(super) struct Ends {
    pub(super) stdin: ChildStdin,
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
    pub(super) exit: Exit,
}

/// Tells when a leader has ended, without reaping it.
pub(super) struct Exit(AsyncFd<OwnedFd>);

impl Exit {
    /// Returns once the leader has ended, and at once from then on.
    pub(super) async fn wait(&self) {
        // This errors only while the runtime shuts down: the leader then counts as ended, and is killed.
        let _ = self.0.readable().await;
    }
}

impl Group {
    /// Starts `sh -c line` in `/`, in a group of its own, with piped standard streams and no environment but the
    /// contract's. An error means that it has not begun.
    #[expect(clippy::disallowed_methods, reason = "this is the one place where the gateway starts a process")]
    pub(super) fn spawn(line: &str) -> io::Result<Self> {
        let leader = Command::new("/bin/sh")
            .arg("-c")
            .arg(line)
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Self { id: Pid::from_child(&leader), leader: Some(leader) })
    }

    /// The ends of its streams. Once only; errors also where the system has no more file descriptors.
    #[expect(
        deprecated,
        reason = "the replacement is unsafe; what it asks for, an open descriptor that stays the \
        same, an `OwnedFd` always is"
    )]
    pub(super) fn open(&mut self) -> io::Result<Ends> {
        let missing = || io::Error::other("a stream was opened twice");
        let leader = self.leader.as_mut().ok_or_else(missing)?;
        let exit = pidfd_open(self.id, PidfdFlags::empty())?;
        Ok(Ends {
            stdin: ChildStdin::from_std(leader.stdin.take().ok_or_else(missing)?)?,
            stdout: ChildStdout::from_std(leader.stdout.take().ok_or_else(missing)?)?,
            stderr: ChildStderr::from_std(leader.stderr.take().ok_or_else(missing)?)?,
            exit: Exit(AsyncFd::with_interest(exit, Interest::READABLE)?),
        })
    }

    /// Sends `signal` to every process of the group. Does nothing once the leader has been reaped.
    pub(super) fn signal(&self, signal: Signal) {
        if self.leader.is_some() {
            // What cannot be signalled shows when we look whether the group is gone.
            let _ = kill_process_group(self.id, signal);
        }
    }

    /// Reaps the leader if it has ended, and says how.
    pub(super) fn reap(&mut self) -> Option<ExitStatus> {
        let status = self.leader.as_mut()?.try_wait().ok().flatten()?;
        self.leader = None;
        Some(status)
    }

    /// Whether every process of the group has ended, waiting `patience` for the last ones. The leader must have been
    /// reaped.
    pub(super) async fn gone(&self, patience: Duration) -> Stopped {
        let vanish = async {
            // No permission to signal a process also means that there is one.
            while test_kill_process_group(self.id) != Err(Errno::SRCH) && self.has_living_member() {
                time::sleep(LOOK).await;
            }
        };
        match time::timeout(patience, vanish).await {
            Ok(()) => Stopped::Confirmed,
            Err(_) => Stopped::Requested,
        }
    }

    /// Whether a process of the group still runs, as far as `/proc` tells. A group outlives its processes until init
    /// has reaped them, and in a container init may never do so.
    fn has_living_member(&self) -> bool {
        let Some(processes) = visible_processes() else { return true };
        processes.flatten().filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit)).any(
            |entry| {
                let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
                // The program's name stands in parentheses and may hold anything; state, parent and group come after.
                let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
                let (state, group) = (fields.next(), fields.nth(1));
                group.and_then(|group| group.parse().ok()).and_then(Pid::from_raw) == Some(self.id)
                    && !matches!(state, Some("Z" | "X"))
            },
        )
    }
}

/// The entries of `/proc`; none where it hides the processes of other users, such as init's.
fn visible_processes() -> Option<fs::ReadDir> {
    fs::read_to_string("/proc/1/stat").ok()?;
    fs::read_dir("/proc").ok()
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let Some(mut leader) = self.leader.take() else { return };
        if !matches!(leader.try_wait(), Ok(Some(_))) {
            // Killed, it ends at once, but not yet. If no thread can be had it stays behind as a dead entry only.
            let _ = thread::Builder::new().name("reap".into()).spawn(move || leader.wait());
        }
    }
}

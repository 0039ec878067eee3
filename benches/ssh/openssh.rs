//! OpenSSH's client: over one kept connection (`ControlMaster`), and a new one for each command. Its own start is part of
//! what it takes, as it is for whoever runs it. Reads no configuration but what is said here.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::machine::{Machine, Owned, command};

pub(crate) struct OpenSsh<'m> {
    machine: &'m Machine,
    control: PathBuf,
    _folder: tempfile::TempDir,
    _master: Owned,
}

impl<'m> OpenSsh<'m> {
    /// With its connection open.
    pub(crate) fn open(machine: &'m Machine) -> Result<Self> {
        // A socket's path must be short.
        let folder = tempfile::tempdir()?;
        let control = folder.path().join("control");
        let mut master = ssh(machine);
        master.args(["-o", "ControlMaster=yes", "-N", "-o"]).arg(format!("ControlPath={}", control.display()));
        master.arg("127.0.0.1").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut master = Owned(master.spawn()?);
        let start = Instant::now();
        while !control.exists() {
            if let Some(status) = master.0.try_wait()? {
                bail!("ssh gave no connection: {status}");
            }
            ensure!(start.elapsed() < Duration::from_secs(10), "ssh made no control socket");
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(Self { machine, control, _folder: folder, _master: master })
    }

    /// Runs `line` over the kept connection.
    pub(crate) fn kept(&self, line: &str, input: &[u8]) -> Result<Duration> {
        let mut client = ssh(self.machine);
        client.args(["-o", "ControlMaster=no", "-o"]).arg(format!("ControlPath={}", self.control.display()));
        timed(&mut client, &["127.0.0.1", line], input)
    }

    /// Runs `line` over a connection of its own.
    pub(crate) fn cold(&self, line: &str, input: &[u8]) -> Result<Duration> {
        let mut client = ssh(self.machine);
        client.args(["-o", "ControlMaster=no", "-o", "ControlPath=none"]);
        timed(&mut client, &["127.0.0.1", line], input)
    }
}

/// Runs `line` without SSH: what both ways wait for, whoever sent it.
pub(crate) fn here(line: &str, input: &[u8]) -> Result<Duration> {
    timed(command("/bin/sh").arg("-c"), &[line], input)
}

fn ssh(machine: &Machine) -> Command {
    let mut ssh = command("ssh");
    ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes"]);
    ssh.args(["-o", "GlobalKnownHostsFile=none", "-o"]);
    ssh.arg(format!("UserKnownHostsFile={}", machine.known_hosts.display()));
    ssh.arg("-i").arg(&machine.key).args(["-p", &machine.port.to_string(), "-l", &machine.user]);
    ssh
}

fn timed(client: &mut Command, arguments: &[&str], input: &[u8]) -> Result<Duration> {
    client.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = client.spawn()?;
    child.stdin.take().context("its input is a pipe")?.write_all(input)?;
    let output = child.wait_with_output()?;
    let took = start.elapsed();
    ensure!(output.status.success(), "{client:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(took)
}

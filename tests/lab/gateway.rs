//! The gateway under test: the real binary, on a machine of the lab, with a configuration file.

use std::{path::PathBuf, process::Command};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::{daemon::Daemon, machine::Machine, node::AMONG_OURSELVES, wait::until_some};

/// The program under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_tailops");

/// Its configuration, in its directory.
const FILE: &str = "tailops.toml";

/// One that runs. Killed when dropped, and its data with it.
pub struct Gateway {
    directory: tempfile::TempDir,
    daemon: Daemon,
}

/// What every gateway of the lab has besides its node.
const REST: &str = r#"
[log]
format = "json"

# The lab is not about limits.
[limits]
calls_per_minute = 1000000
calls_burst = 100000
auth_failures_per_minute = 10000

[engagements.default]

[targets.local]
kind = "local"
engagement = "default"
capabilities = ["system:read", "network:diag"]
"#;

impl Gateway {
    /// Starts it on `machine` with this `[node]` section, and what `more` adds; waits until it serves.
    pub fn start(machine: &Machine, node: &str, more: &str) -> Self {
        let directory = tempfile::tempdir_in(&machine.directory).unwrap();
        let file = directory.path().join(FILE);
        let data = directory.path().join("data");
        let text = format!("data_dir = {:?}\n\n[node]\n{node}\n{REST}\n{more}", data.to_str().unwrap());
        std::fs::write(&file, text).unwrap();
        let mut command = machine.command(BINARY);
        command.arg("serve").arg("--config").arg(&file).envs(AMONG_OURSELVES.map(|name| (name, "true")));
        let mut daemon = Daemon::start(command, directory.path().join("log"));
        until_some("the gateway serves", || {
            daemon.must_run();
            line(&daemon.log(), "serving")
        });
        Self { directory, daemon }
    }

    /// Where it keeps its data.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn pid(&self) -> Pid {
        self.daemon.pid()
    }

    /// Makes a token. `rest` is what follows `tailops token mint`.
    #[track_caller]
    pub fn mint(&self, rest: &[&str]) -> String {
        let arguments = [&["token", "mint", "--agent", "lab", "--ttl", "1h"], rest].concat();
        self.run(&arguments).trim().to_owned()
    }

    /// Every record, oldest first: one a call.
    pub fn records(&self) -> Vec<Value> {
        let lines = self.run(&["audit", "export"]);
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Runs the command line on its data and returns what it prints.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new(BINARY).args(arguments).arg("--data-dir").arg(self.data()).output().unwrap();
        assert!(output.status.success(), "tailops {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The tailnet policy that `tailops acl print` makes of its configuration, for headscale.
    #[track_caller]
    pub fn policy(&self, rest: &[&str]) -> String {
        let mut command = Command::new(BINARY);
        command.args(["acl", "print", "--dialect", "headscale", "--config"]).arg(self.directory.path().join(FILE));
        let output = command.args(rest).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Whether `tailops acl check` finds everything in `policy` that its configuration needs; and what it says.
    pub fn approves_of(&self, policy: &str, rest: &[&str]) -> (bool, String) {
        let file = self.directory.path().join("policy.hujson");
        std::fs::write(&file, policy).unwrap();
        let mut command = Command::new(BINARY);
        command.args(["acl", "check", "--dialect", "headscale", "--config"]).arg(self.directory.path().join(FILE));
        let output = command.arg(file).args(rest).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    }

    /// SIGTERM, and waits for its end, which must be a good one.
    pub fn stop(self) {
        self.daemon.signal(Signal::TERM);
        let log = self.daemon.log();
        let status = self.daemon.ended();
        assert!(status.success(), "{status}: {log}");
    }
}

/// The line of a JSON log with this message.
fn line(log: &str, message: &str) -> Option<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.into_iter().find(|line| line.to_string().contains(&format!("\"{message}\"")))
}

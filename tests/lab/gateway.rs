//! The gateway under test: the real binary, on a machine of the lab, with a configuration file.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::{daemon::Daemon, machine::Machine, node::AMONG_OURSELVES, wait::until_some};

/// The program under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_tailops");

/// Its configuration, in its directory.
const FILE: &str = "tailops.toml";

/// Where it keeps its data, and its target its files.
const DATA: &str = "data";
const FILES: &str = "files";

/// Its own log, beside it.
const LOG: &str = "log";

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
# A test that waits for a right asks until it is there; the next one still finds its own refusal on record.
refusals_recorded_per_minute = 10000

# On this machine. On the tailnet it is the policy that says who.
[approvals]
approvers = ["root"]

[engagements.default]

[targets.local]
kind = "local"
engagement = "default"
capabilities = ["system:read", "network:diag", "file:write"]
"#;

impl Gateway {
    /// Starts it on `machine` with this `[node]` section, and what `more` adds; waits until it serves.
    pub fn start(machine: &Machine, node: &str, more: &str) -> Self {
        let directory = tempfile::tempdir_in(&machine.directory).unwrap();
        let [data, files] = [DATA, FILES].map(|name| directory.path().join(name).to_str().unwrap().to_owned());
        std::fs::create_dir(&files).unwrap();
        let text = format!("data_dir = {data:?}\n\n[node]\n{node}\n{REST}roots = [{files:?}]\n\n{more}");
        std::fs::write(directory.path().join(FILE), text).unwrap();
        let daemon = serve(machine, directory.path());
        Self { directory, daemon }
    }

    /// The file of its configuration.
    pub fn configuration(&self) -> PathBuf {
        self.directory.path().join(FILE)
    }

    /// Where it keeps its data.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join(DATA)
    }

    /// The only directory of files of its target `local`.
    pub fn files(&self) -> PathBuf {
        self.directory.path().join(FILES)
    }

    pub fn pid(&self) -> Pid {
        self.daemon.pid()
    }

    /// The child of it that was started with this first argument.
    #[cfg(feature = "embedded")]
    pub fn child(&self, argument: &str) -> Option<Pid> {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let mut pids = processes.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
        pids.find(|pid| {
            let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
            // proc(5): behind the name, which may hold anything, come the state and the parent.
            let stat = read("stat");
            let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
            parent == Some(self.pid().as_raw_nonzero().get()) && read("cmdline").split('\0').nth(1) == Some(argument)
        })
    }

    /// Stops it, and starts it again on the same data and configuration.
    pub fn again(&mut self, machine: &Machine) {
        self.finish();
        std::fs::remove_file(self.directory.path().join(LOG)).unwrap();
        self.daemon = serve(machine, self.directory.path());
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
        command.args(["acl", "print", "--dialect", "headscale", "--config"]).arg(self.configuration());
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

    /// Stops it.
    pub fn stop(mut self) {
        self.finish();
    }

    /// SIGTERM, and waits for its end, which must be a good one.
    fn finish(&mut self) {
        self.daemon.signal(Signal::TERM);
        let status = self.daemon.wait();
        assert!(status.success(), "{status}: {}", self.daemon.log());
    }
}

/// Starts the program on what is in `directory`, and waits until it serves.
fn serve(machine: &Machine, directory: &Path) -> Daemon {
    let mut command = machine.command(BINARY);
    command.arg("serve").arg("--config").arg(directory.join(FILE)).envs(AMONG_OURSELVES.map(|name| (name, "true")));
    let mut daemon = Daemon::start(command, directory.join(LOG));
    until_some("the gateway serves", || {
        daemon.must_run();
        line(&daemon.log(), "serving")
    });
    daemon
}

/// The line of a JSON log with this message.
fn line(log: &str, message: &str) -> Option<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.into_iter().find(|line| line.to_string().contains(&format!("\"{message}\"")))
}

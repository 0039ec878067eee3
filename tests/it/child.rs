//! The real binary as a child process: started, called over HTTP, killed, and its log read back and proven. For what
//! cannot be shown inside one process: death at any moment, and a disk that takes no more.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use ring::digest;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use tailops::{model::canonical_json, store::Store};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::harness::{Answer, modern};

/// The program under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_tailops");
/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A data directory that goes with the test.
pub fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().canonicalize().unwrap().join("data");
    (directory, data)
}

/// `tailops serve --dev` in a process of its own; killed when dropped.
pub struct Service {
    child: Child,
    /// Held open, or what it prints would find no reader.
    _stdout: Lines<BufReader<ChildStdout>>,
    pub url: String,
    pub token: String,
    /// The command that it says connects Claude Code.
    pub claude_code: String,
    http: reqwest::Client,
}

impl Service {
    pub async fn start(data: &Path) -> Self {
        Self::run(Command::new(BINARY), data).await
    }

    /// One that dies at this failpoint.
    pub async fn dying_at(data: &Path, failpoint: &str) -> Self {
        let mut command = Command::new(BINARY);
        command.env("TAILOPS_FAILPOINT", failpoint);
        Self::run(command, data).await
    }

    /// One whose writes beyond its file-size limit fail instead of killing it.
    pub async fn limitable(data: &Path) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#, BINARY]);
        Self::run(command, data).await
    }

    /// One that `command` turns into, given its arguments.
    pub async fn run(mut command: Command, data: &Path) -> Self {
        command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = printed(&mut lines, "tailops is ready:").await;
        let token = printed(&mut lines, "token ").await;
        let claude_code = printed(&mut lines, "claude mcp add tailops -- ").await;
        let http = crate::harness::http_client().timeout(PATIENCE).build().unwrap();
        Self { child, _stdout: lines, url, token, claude_code, http }
    }

    /// Calls a tool; none where the service died before it answered.
    pub async fn call(&self, tool: &str, arguments: Value) -> Option<Answer> {
        self.call_as(Some(&self.token), tool, arguments).await
    }

    pub async fn call_as(&self, token: Option<&str>, tool: &str, arguments: Value) -> Option<Answer> {
        answer(modern(&self.http, &self.url, token, tool, arguments)).await
    }

    /// Asks for another path with the service's token: the status and the text.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let url = self.url.replace("/mcp", path);
        let response = self.http.get(url).bearer_auth(&self.token).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().expect("it runs").try_into().unwrap()).unwrap()
    }

    /// Lets no file grow beyond `bytes` from now on; none lifts the limit.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Some(self.pid()), Resource::Fsize, limit).unwrap();
    }

    /// How it ended by itself.
    pub async fn ended(mut self) -> ExitStatus {
        timeout(PATIENCE, self.child.wait()).await.expect("it ends in time").unwrap()
    }

    /// SIGKILL, and wait until it is gone.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// The rest of the first line to come that begins with `wanted`.
async fn printed(lines: &mut Lines<BufReader<ChildStdout>>, wanted: &str) -> String {
    while let Some(line) = timeout(PATIENCE, lines.next_line()).await.expect("it starts in time").unwrap() {
        if let Some(rest) = line.trim_start().strip_prefix(wanted) {
            return rest.trim().to_owned();
        }
    }
    panic!("the service ended before it said {wanted:?}");
}

async fn answer(request: reqwest::RequestBuilder) -> Option<Answer> {
    let response = request.send().await.ok()?;
    let status = response.status().as_u16();
    let text = response.text().await.ok()?;
    Some(Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) })
}

/// The lines of `tailops audit export` with these arguments, run by `command`.
pub async fn export(mut command: Command, data: &Path, arguments: &[&str]) -> Vec<String> {
    command.args(["audit", "export", "--data-dir"]).arg(data).args(arguments);
    let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Every leaf, after the checks that hold for every log: see [`prove`]. Also that the lines are what is stored.
pub async fn log_of(data: &Path) -> Vec<Value> {
    let lines = export(Command::new(BINARY), data, &["--all"]).await;
    let store = Store::open(data).await.unwrap();
    let stored = store.leaf_reader().after(0, u32::MAX).await.unwrap();
    store.close().await;
    assert!(stored.len() >= lines.len());
    for (line, leaf) in lines.iter().zip(&stored) {
        assert_eq!(line, &leaf.leaf);
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(&[0]);
        hash.update(line.as_bytes());
        assert_eq!(hash.finish().as_ref(), leaf.leaf_hash, "RFC 6962 hash of {line}");
    }
    prove(&lines)
}

/// Parses exported leaves and checks that they are canonical, that their sequence is dense, and that every outcome
/// closes one earlier intent that no other closes.
pub fn prove(lines: &[String]) -> Vec<Value> {
    let leaves: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut closed = std::collections::HashSet::new();
    for (index, (line, leaf)) in lines.iter().zip(&leaves).enumerate() {
        assert_eq!(line.as_bytes(), canonical_json(leaf).unwrap(), "not canonical");
        assert_eq!(leaf["seq"], index + 1, "the sequence has a gap");
        assert_eq!(leaf["kind"] == "outcome", leaf["intent_seq"].is_u64(), "{leaf}");
        if let Some(seq) = leaf["intent_seq"].as_u64() {
            let intent = &leaves[seq as usize - 1];
            assert_eq!(
                (&intent["kind"], intent["correlation_id"].as_str()),
                (&json!("intent"), leaf["correlation_id"].as_str())
            );
            assert!(seq < leaf["seq"].as_u64().unwrap() && closed.insert(seq), "closed twice or too early: {leaf}");
        }
    }
    leaves
}

/// The intents that no outcome closes.
pub fn open_intents(leaves: &[Value]) -> Vec<&Value> {
    let closed = |seq: &Value| leaves.iter().any(|leaf| leaf["intent_seq"] == *seq);
    leaves.iter().filter(|leaf| leaf["kind"] == "intent" && !closed(&leaf["seq"])).collect()
}

/// A process for `process_signal` to act on; killed when dropped.
pub struct Prey {
    child: std::process::Child,
}

impl Prey {
    /// One that a signal ends.
    pub fn sleeping() -> Self {
        Self::of(std::process::Command::new("sleep").arg("600"))
    }

    /// One that nothing but SIGKILL ends.
    pub fn stubborn() -> Self {
        let mut prey = Self::of(
            std::process::Command::new("sh").args(["-c", "trap '' TERM; echo; exec sleep 600"]).stdout(Stdio::piped()),
        );
        let mut said = [0];
        std::io::Read::read_exact(prey.child.stdout.as_mut().unwrap(), &mut said).unwrap();
        prey
    }

    fn of(command: &mut std::process::Command) -> Self {
        Self { child: command.spawn().unwrap() }
    }

    /// The arguments that send it `signal`.
    pub fn arguments(&self, signal: &str) -> Value {
        let pid = self.child.id();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        // proc(5): field 22, counted behind the name, which may hold anything.
        let start: u64 = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
        json!({"target": "local", "pid": pid, "start_ticks": start, "signal": signal, "reason": "a test of the record"})
    }

    pub fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Prey {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! `tailops stdio` as a client starts it, and a relay that stands between it and a gateway: it can lead elsewhere, and
//! cut connections at the worst moment.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, copy_bidirectional},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};

use crate::child::BINARY;

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A private file with `token` in it.
pub fn token_file(folder: &Path, token: &str) -> PathBuf {
    let file = folder.join("agent-token");
    fs::write(&file, format!("{token}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// The command that a client runs.
pub fn command(url: &str, token_file: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.args(["stdio", "--url", url, "--token-file"]).arg(token_file);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    command
}

/// The bridge, spoken to line by line.
pub struct Bridge {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Bridge {
    pub fn start(url: &str, token_file: &Path) -> Self {
        Self::of(command(url, token_file))
    }

    /// The one that this command line starts.
    pub fn running(words: &[String]) -> Self {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        Self::of(command)
    }

    fn of(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        Self { child, stdin, lines: BufReader::new(stdout).lines() }
    }

    pub async fn write(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(line.as_bytes()).await.unwrap();
        stdin.write_all(b"\n").await.unwrap();
        stdin.flush().await.unwrap();
    }

    pub async fn send(&mut self, message: Value) {
        self.write(&message.to_string()).await;
    }

    /// The next message.
    pub async fn next(&mut self) -> Value {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("an answer in time").unwrap();
        serde_json::from_str(&line.expect("the bridge ended")).unwrap()
    }

    pub async fn ask(&mut self, message: Value) -> Value {
        let id = message["id"].clone();
        self.send(message).await;
        let answer = self.next().await;
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    /// The older handshake.
    pub async fn initialize(&mut self) {
        let answer = self
            .ask(json!({"jsonrpc": "2.0", "id": "init", "method": "initialize", "params": {
                "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}}))
            .await;
        assert_eq!(answer["result"]["protocolVersion"], "2025-11-25", "{answer}");
        self.send(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    }

    /// What there is to say has been said: closes its input, and returns how it ended and what it said until then.
    pub async fn end(mut self) -> (ExitStatus, Vec<String>) {
        self.stdin = None;
        let mut rest = Vec::new();
        while let Some(line) = timeout(PATIENCE, self.lines.next_line()).await.expect("it ends in time").unwrap() {
            rest.push(line);
        }
        (timeout(PATIENCE, self.child.wait()).await.expect("it ends in time").unwrap(), rest)
    }
}

/// A request of the stateless revision.
pub fn modern(id: u64, method: &str, mut params: Value) -> Value {
    let meta = &mut params["_meta"];
    meta["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
    meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

/// A call of a tool as the stateless revision has it.
pub fn modern_call(id: u64, tool: &str, arguments: Value) -> Value {
    modern(id, "tools/call", json!({"name": tool, "arguments": arguments}))
}

/// A call of a tool in a session.
pub fn legacy_call(id: u64, tool: &str, arguments: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
}

/// The same call, watched.
pub fn watched(mut call: Value, token: &str) -> Value {
    call["params"]["_meta"]["progressToken"] = json!(token);
    call
}

/// A cancellation of the request `id`.
pub fn cancel(id: u64) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id, "reason": "a test"}})
}

/// Stands before a gateway on an address of its own.
pub struct Relay {
    pub address: SocketAddr,
    upstream: Arc<Mutex<SocketAddr>>,
    cuts: Arc<Mutex<bool>>,
    answered: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Relay {
    pub async fn to(upstream: SocketAddr) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), upstream)
    }

    pub fn on(listener: TcpListener, upstream: SocketAddr) -> Self {
        let address = listener.local_addr().unwrap();
        let upstream = Arc::new(Mutex::new(upstream));
        let (cuts, answered) = (Arc::new(Mutex::new(false)), Arc::new(AtomicUsize::new(0)));
        let shared = (upstream.clone(), cuts.clone(), answered.clone());
        let task = tokio::spawn(async move {
            let (upstream, cuts, answered) = shared;
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (upstream, cuts) = (*upstream.lock().unwrap(), *cuts.lock().unwrap());
                tokio::spawn(carry(client, upstream, cuts, answered.clone()));
            }
        });
        Self { address, upstream, cuts, answered, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// New connections go there.
    pub fn lead_to(&self, upstream: SocketAddr) {
        *self.upstream.lock().unwrap() = upstream;
    }

    /// New connections carry a request to the gateway and end as soon as the gateway answers it.
    pub fn cut(&self, cuts: bool) {
        *self.cuts.lock().unwrap() = cuts;
    }

    /// How many answers of the gateway were cut off.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut client: TcpStream, upstream: SocketAddr, cuts: bool, answered: Arc<AtomicUsize>) {
    let Ok(mut server) = TcpStream::connect(upstream).await else { return };
    if !cuts {
        let _ = copy_bidirectional(&mut client, &mut server).await;
        return;
    }
    let (mut from, _to) = client.split();
    let (back, mut on) = server.split();
    tokio::select! {
        _ = tokio::io::copy(&mut from, &mut on) => {}
        _ = back.readable() => { answered.fetch_add(1, Ordering::SeqCst); }
    }
}

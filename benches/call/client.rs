//! The load: HTTP/1.1 over kept-alive connections, one call at a time on each, the request's bytes made beforehand.
//! Every answer is checked; one that is not the tool's own result ends the run. Never retries.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, de::IgnoredAny};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::stats::Round;

/// What to do to a server.
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) request: Vec<u8>,
    pub(crate) connections: usize,
    pub(crate) time: Duration,
}

/// A stateless `tools/call` of `tool` without arguments, as MCP 2026-07-28 wants it.
pub(crate) fn request(address: SocketAddr, tool: &str, token: Option<&str>) -> Vec<u8> {
    let body = serde_json::json!({
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {
            "name": tool,
            "arguments": {},
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": { "name": "bench", "version": "1" },
            },
        },
    })
    .to_string();
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!(
        "POST /mcp HTTP/1.1\r\nHost: {address}\r\n{authorization}Content-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\n\
         Mcp-Name: {tool}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Calls for `load.time` on every connection.
pub(crate) async fn run(load: &Load) -> Result<Round> {
    let mut connections = Vec::with_capacity(load.connections);
    for _ in 0..load.connections {
        let mut connection = Connection::open(load.address).await?;
        // The first call pays for what belongs to the connection, such as finding out who is at its other end.
        connection.call(&load.request).await?;
        connections.push(connection);
    }
    let start = Instant::now();
    let end = start + load.time;
    let mut tasks = JoinSet::new();
    for mut connection in connections {
        let request = load.request.clone();
        tasks.spawn(async move {
            let mut times = Vec::new();
            let mut now = Instant::now();
            while now < end {
                let before = now;
                connection.call(&request).await?;
                now = Instant::now();
                times.push(now - before);
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(task) = tasks.join_next().await {
        times.extend(task??);
    }
    Round::of(times, start.elapsed())
}

/// An answer, read no further than to know that it is the tool's result.
#[derive(Deserialize)]
struct Answer {
    result: Option<ToolResult>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolResult {
    #[serde(rename = "content")]
    _content: IgnoredAny,
    #[serde(default)]
    is_error: bool,
}

/// A kept-alive connection.
pub(crate) struct Connection {
    stream: TcpStream,
    /// What was read and belongs to no answer yet.
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 * 1024) })
    }

    /// Sends a call and checks its answer.
    async fn call(&mut self, request: &[u8]) -> Result<()> {
        let body = self.exchange(request).await?;
        let answer: Answer = serde_json::from_slice(&body).context("the answer is not JSON-RPC")?;
        let good = answer.result.is_some_and(|result| !result.is_error);
        ensure!(good, "not the tool's result: {}", String::from_utf8_lossy(&body));
        Ok(())
    }

    /// Sends a request and gives the body of the answer, which must be a 200.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<Vec<u8>> {
        self.stream.write_all(request).await?;
        let head = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break self.take(end + 4);
            }
            self.fill().await?;
        };
        let head = String::from_utf8(head).context("the answer's head is not text")?;
        let length = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, length)| length.trim().parse().ok())
            .with_context(|| format!("the answer has no length:\n{head}"))?;
        while self.buffer.len() < length {
            self.fill().await?;
        }
        let body = self.take(length);
        ensure!(head.starts_with("HTTP/1.1 200 "), "{head}{}", String::from_utf8_lossy(&body));
        Ok(body)
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let rest = self.buffer.split_off(length);
        std::mem::replace(&mut self.buffer, rest)
    }

    async fn fill(&mut self) -> Result<()> {
        let read = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(read > 0, "the server closed the connection");
        Ok(())
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

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

/// A stateless `tools/call` of `tool` on `host` without arguments, as MCP 2026-07-28 wants it.
pub(crate) fn request(host: &str, tool: &str, token: Option<&str>) -> Vec<u8> {
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
        "POST /mcp HTTP/1.1\r\nHost: {host}\r\n{authorization}Content-Type: application/json\r\n\
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
        self.exchange(request, |body| {
            let answer: Answer = serde_json::from_slice(body).context("the answer is not JSON-RPC")?;
            let good = answer.result.is_some_and(|result| !result.is_error);
            ensure!(good, "not the tool's result: {}", String::from_utf8_lossy(body));
            Ok(())
        })
        .await
    }

    /// Sends a request and shows the body of the answer, which must be a 200, to `check`. Copies nothing: what the
    /// client costs is taken from the servers.
    pub(crate) async fn exchange(&mut self, request: &[u8], check: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
        self.stream.write_all(request).await?;
        let head = loop {
            match find(&self.buffer, b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => self.fill().await?,
            }
        };
        let length = self.buffer.get(..head).and_then(content_length).context("the answer has no length")?;
        while self.buffer.len() < head + length {
            self.fill().await?;
        }
        let body = self.buffer.get(head..head + length).unwrap_or_default();
        ensure!(self.buffer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&self.buffer));
        check(body)?;
        self.buffer.drain(..head + length);
        Ok(())
    }

    async fn fill(&mut self) -> Result<()> {
        let read = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(read > 0, "the server closed the connection");
        Ok(())
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    std::str::from_utf8(head).ok()?.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

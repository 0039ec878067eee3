//! Facts of a whole fleet, over the whole product: a gateway as built, called over HTTP.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::machine::{GROUP, Machine, Owned, command, output};

const BINARY: &str = env!("CARGO_BIN_EXE_tailops");

/// A gateway whose targets are those of a machine.
pub(crate) struct Gateway {
    http: reqwest::Client,
    url: String,
    token: String,
    targets: usize,
    _child: Owned,
}

impl Gateway {
    /// With its data in `folder`, where what an earlier one knew is known still.
    pub(crate) async fn start(machine: &Machine, folder: &Path, forks: usize) -> Result<Self> {
        let (data, registry) = (folder.join("gateway"), folder.join("targets.yaml"));
        fs::write(&registry, machine.registry())?;
        let address: SocketAddr = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let config = folder.join("tailops.toml");
        fs::write(
            &config,
            format!(
                "profile = \"recommended\"\ndata_dir = {data:?}\ntargets_file = {registry:?}\n\
                 [node]\nmode = \"loopback\"\nlisten = \"{address}\"\n[exec]\nconcurrency = {forks}\n\
                 [limits]\ncalls_per_minute = 1000000\ncalls_burst = 100000\n[engagements.default]\n"
            ),
        )?;
        let log = folder.join("gateway.log");
        let mut serve = command(BINARY);
        serve.args(["serve", "--config"]).arg(&config);
        serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let mut child = Owned(serve.spawn()?);
        // An error says that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build()?;
        let start = Instant::now();
        while http.get(format!("http://{address}/healthz")).send().await.is_err() {
            if child.0.try_wait()?.is_some() || start.elapsed() > Duration::from_secs(20) {
                bail!("the gateway is not ready; its log:\n{}", fs::read_to_string(&log)?);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut mint = command(BINARY);
        mint.args(["token", "mint", "--agent", "bench", "--scopes", "readonly", "--ttl", "1h", "--data-dir"]);
        let token = output(mint.arg(&data))?.trim().to_owned();
        Ok(Self { http, url: format!("http://{address}/mcp"), token, targets: machine.addresses.len(), _child: child })
    }

    /// Reads the facts of every target anew, by one call.
    pub(crate) async fn refresh(&self) -> Result<Duration> {
        self.read(json!({"refresh": true, "limit": 200}), self.targets).await
    }

    /// Reads the facts of every target, a group a call: targets that simulate an upgrade all at once on the cores of one
    /// machine would not come to its end in time.
    pub(crate) async fn refresh_by_group(&self) -> Result<Duration> {
        let mut took = Duration::ZERO;
        for group in 0..self.targets.div_ceil(GROUP) {
            let there = GROUP.min(self.targets - group * GROUP);
            let arguments = json!({"refresh": true, "limit": 200, "tag": format!("group-{group}")});
            took += self.read(arguments, there).await?;
        }
        Ok(took)
    }

    async fn read(&self, arguments: Value, targets: usize) -> Result<Duration> {
        let start = Instant::now();
        let answer = self.call("fleet_summarize", arguments).await?;
        let took = start.elapsed();
        let missing = answer.get("partial").and_then(Value::as_array).map_or(0, Vec::len);
        ensure!(missing == 0, "parts of {missing} targets were not read: {answer}");
        let data = answer.get("data").context("an answer without data")?;
        let read = data.pointer("/totals/targets").and_then(Value::as_u64);
        ensure!(read == u64::try_from(targets).ok(), "not every target was read: {data}");
        let unreachable = data.pointer("/problems/unreachable").and_then(Value::as_u64).unwrap_or(0);
        ensure!(unreachable == 0, "{unreachable} targets were not reached");
        Ok(took)
    }

    async fn call(&self, tool: &str, arguments: Value) -> Result<Value> {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {},
        });
        let params = json!({"name": tool, "arguments": arguments, "_meta": meta});
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
        let request = self.http.post(&self.url).bearer_auth(&self.token).json(&body);
        let request = request.header("MCP-Protocol-Version", "2026-07-28").header("Mcp-Method", "tools/call");
        let request = request.header("Mcp-Name", tool).header("Accept", "application/json, text/event-stream");
        let mut answer: Value = request.send().await?.json().await?;
        ensure!(answer.pointer("/result/isError") == Some(&Value::Bool(false)), "{tool}: {answer}");
        answer.pointer_mut("/result/structuredContent").map(Value::take).context("an answer without content")
    }
}

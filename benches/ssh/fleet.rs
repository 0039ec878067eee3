//! Facts of a whole fleet, over the whole product: a gateway as built, called over HTTP.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tailops::tools;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::machine::{Machine, Owned, command, output};

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

    /// The way facts are read: by one call for all, or by one a target.
    pub(crate) fn tool() -> &'static str {
        tools::find("fleet_summarize").map_or("host_inspect", |tool| tool.spec().name)
    }

    /// Reads the facts of every target anew.
    pub(crate) async fn refresh(self: &Arc<Self>, forks: usize) -> Result<Duration> {
        let start = Instant::now();
        if Self::tool() == "fleet_summarize" {
            let data = self.call("fleet_summarize", json!({"refresh": true, "limit": 200})).await?;
            ensure!(data["totals"]["targets"] == self.targets, "not every target was read: {}", data["totals"]);
            let unreachable = &data["problems"]["unreachable"];
            ensure!(unreachable.as_u64().unwrap_or(0) == 0, "{unreachable} targets were not reached");
            return Ok(start.elapsed());
        }
        let (places, mut calls) = (Arc::new(Semaphore::new(forks)), JoinSet::new());
        for number in 0..self.targets {
            let (gateway, places) = (self.clone(), places.clone());
            calls.spawn(async move {
                let _place = places.acquire().await?;
                gateway.call("host_inspect", json!({"target": format!("host-{number}")})).await
            });
        }
        while let Some(call) = calls.join_next().await {
            ensure!(call??["hostname"].is_string(), "no facts");
        }
        Ok(start.elapsed())
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
        ensure!(answer["result"]["isError"] == false, "{tool}: {answer}");
        answer.pointer_mut("/result/structuredContent/data").map(Value::take).context("an answer without data")
    }
}

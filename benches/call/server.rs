//! The two servers as child processes: started, waited for, looked at from outside and killed when dropped.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::{
    client::{self, Connection},
    daemon, floor,
};

/// Longer than any start should take.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_micros(500);

/// A running server.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// From its start to its first good answer on `/healthz`.
    pub(crate) ready_after: Duration,
    tool: &'static str,
    token: Option<String>,
    child: Owned,
    daemon: Option<Daemon>,
}

/// How the gateway under test is on the network.
#[derive(Clone, Copy)]
pub(crate) enum Network {
    /// The kernel says who is connected.
    Loopback,
    /// A daemon says who is connected.
    Tailnet,
}

/// The scripted daemon and the folder of its socket.
struct Daemon {
    socket: PathBuf,
    _child: Owned,
    _folder: TempDir,
}

/// A child that does not outlive us.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// The bare server.
    pub(crate) async fn floor() -> Result<Self> {
        let start = Instant::now();
        let mut command = command(&std::env::current_exe()?);
        command.arg(floor::ARGUMENT).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = Owned(command.spawn()?);
        let mut line = String::new();
        BufReader::new(child.0.stdout.take().context("its output is a pipe")?).read_line(&mut line)?;
        let address = line.trim().parse().with_context(|| format!("no address but {line:?}"))?;
        let ready_after = ready(&mut child.0, address, start).await?;
        Ok(Self { name: "floor", address, ready_after, tool: floor::TOOL, token: None, child, daemon: None })
    }

    /// The gateway as it is built, on this network, with an empty data directory `data`. Every control is on; the rate
    /// limit is so high that a run does not meet it.
    pub(crate) async fn gateway(network: Network, data: &Path) -> Result<Self> {
        let address = free_address()?;
        let (config, log) = (data.with_extension("toml"), data.with_extension("log"));
        let (name, daemon, binding) = match network {
            Network::Loopback => ("gateway", None, None),
            Network::Tailnet => ("tailnet", Some(Daemon::start()?), Some(format!("node:{}", daemon::PEER))),
        };
        let node = match &daemon {
            None => "mode = \"loopback\"".to_owned(),
            Some(daemon) => format!("mode = \"host\"\nsocket = {:?}", daemon.socket),
        };
        fs::write(
            &config,
            format!(
                "profile = \"recommended\"\ndata_dir = {data:?}\n\
                 [node]\n{node}\nlisten = \"{address}\"\n\
                 [limits]\ncalls_per_minute = 1000000\ncalls_burst = 100000\n\
                 [engagements.default]\n\
                 [targets.local]\nkind = \"local\"\nengagement = \"default\"\ncapabilities = [\"system:read\"]\n"
            ),
        )?;
        let start = Instant::now();
        let mut command = tailops();
        command.args(["serve", "--config"]).arg(&config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let mut child = Owned(command.spawn()?);
        let ready_after = ready(&mut child.0, address, start)
            .await
            .with_context(|| format!("its log:\n{}", fs::read_to_string(&log).unwrap_or_default()))?;
        let token = mint(data, binding.as_deref())?;
        Ok(Self { name, address, ready_after, tool: "token_inspect", token: Some(token), child, daemon })
    }

    /// The bytes of one call.
    pub(crate) fn request(&self) -> Vec<u8> {
        // On a tailnet the gateway answers to its node's names only.
        let host = self.daemon.as_ref().map_or_else(|| self.address.to_string(), |_| daemon::NAME.to_owned());
        client::request(&host, self.tool, self.token.as_deref())
    }

    /// Its resident memory in KiB, as the kernel counts it.
    pub(crate) fn resident_kb(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.0.id()))?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
            .with_context(|| format!("{} has ended", self.name))
    }
}

impl Daemon {
    /// Starts it and waits until it listens. Its socket has a short path: the kernel takes 107 bytes.
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("daemon.sock");
        let mut command = command(&std::env::current_exe()?);
        command.arg(daemon::ARGUMENT).arg(&socket).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = Owned(command.spawn()?);
        let mut line = String::new();
        BufReader::new(child.0.stdout.take().context("its output is a pipe")?).read_line(&mut line)?;
        ensure!(!line.is_empty(), "the scripted daemon ended");
        Ok(Self { socket, _child: child, _folder: folder })
    }
}

#[expect(clippy::disallowed_methods, reason = "the servers are child processes of the benchmark")]
fn command(program: &Path) -> Command {
    Command::new(program)
}

fn tailops() -> Command {
    command(Path::new(env!("CARGO_BIN_EXE_tailops")))
}

/// A token for the gateway with this data directory, bound to this peer or to the local user.
fn mint(data: &Path, binding: Option<&str>) -> Result<String> {
    let mut command = tailops();
    command.args(["token", "mint", "--agent", "bench", "--scopes", "readonly", "--ttl", "1h", "--data-dir"]).arg(data);
    command.args(binding.into_iter().flat_map(|peer| ["--bind", peer]));
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("no token: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// A port of loopback that was free just now.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Waits until `/healthz` answers. Errors when the child ends first.
async fn ready(child: &mut Child, address: SocketAddr, start: Instant) -> Result<Duration> {
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n");
    loop {
        if let Ok(mut connection) = Connection::open(address).await {
            connection.exchange(request.as_bytes(), |_| Ok(())).await.context("/healthz")?;
            return Ok(start.elapsed());
        }
        if let Some(status) = child.try_wait()? {
            bail!("it ended before it was ready: {status}");
        }
        if start.elapsed() > PATIENCE {
            bail!("it was not ready in {PATIENCE:?}");
        }
        tokio::time::sleep(POLL).await;
    }
}

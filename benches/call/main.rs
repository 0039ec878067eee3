//! What the gateway's controls cost: in one run, a bare MCP server with one constant tool (the floor), the whole gateway
//! as built, and the same gateway with a scripted tailnet, driven by the same client over the same connections in
//! interleaved rounds. `docs/benchmarks.md` says what the lines mean. Never switches a control off.

#![expect(clippy::print_stdout, reason = "the report goes to standard output")]

mod client;
mod daemon;
mod floor;
mod server;
mod stats;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use client::Load;
use server::{Network, Server};
use stats::Round;

/// Connections, in the order they are measured.
const CONNECTIONS: [usize; 2] = [1, 32];

/// How long and how often.
struct Plan {
    rounds: usize,
    round: Duration,
    warm_up: Duration,
    syncs: usize,
}

const FULL: Plan = Plan { rounds: 5, round: Duration::from_secs(3), warm_up: Duration::from_secs(1), syncs: 40 };
const QUICK: Plan =
    Plan { rounds: 3, round: Duration::from_millis(500), warm_up: Duration::from_millis(300), syncs: 20 };

fn main() -> Result<()> {
    let mut plan = FULL;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            floor::ARGUMENT => return floor::serve(),
            daemon::ARGUMENT => return daemon::serve(&arguments.next().context("the daemon's socket is not named")?),
            "--quick" => plan = QUICK,
            // Cargo's own, to every bench target.
            "--bench" => {}
            other => bail!("unknown argument {other:?}; there is only --quick"),
        }
    }
    // One thread: the client takes as little as possible of what the servers share with it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Children are killed when they go out of scope, so an interrupt has to end the future, not the process.
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            done = measure(&plan) => done,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    })
}

/// A server and what it did.
struct Side {
    server: Server,
    idle_kb: u64,
    results: Vec<Results>,
}

/// The rounds with one number of connections.
struct Results {
    connections: usize,
    rounds: Vec<Round>,
}

impl Side {
    fn of(server: Server) -> Result<Self> {
        let results = CONNECTIONS.map(|connections| Results { connections, rounds: Vec::new() }).into();
        Ok(Self { idle_kb: server.resident_kb()?, server, results })
    }

    async fn run(&self, connections: usize, time: Duration) -> Result<Round> {
        let load = Load { address: self.server.address, request: self.server.request(), connections, time };
        client::run(&load).await.with_context(|| format!("{} with {connections} connections", self.server.name))
    }
}

impl Results {
    fn per_second(&self) -> f64 {
        stats::middle(self.rounds.iter().map(|round| round.per_second).collect())
    }

    fn p50(&self) -> f64 {
        stats::middle(self.rounds.iter().map(|round| micros(round.p50)).collect())
    }

    fn p99(&self) -> f64 {
        stats::middle(self.rounds.iter().map(|round| micros(round.p99)).collect())
    }
}

async fn measure(plan: &Plan) -> Result<()> {
    // In the build folder: on a disk, where /tmp may be memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let data = folder.path().join("data");
    let floor = Side::of(Server::floor().await.context("the floor")?)?;
    let gateway = Side::of(Server::gateway(Network::Loopback, &data).await.context("the gateway")?)?;
    let beside = folder.path().join("tailnet");
    let tailnet = Side::of(Server::gateway(Network::Tailnet, &beside).await.context("the gateway on a tailnet")?)?;
    let mut sides = [floor, gateway, tailnet];
    for side in &sides {
        for connections in CONNECTIONS {
            side.run(connections, plan.warm_up).await?;
        }
    }
    let mut syncs = Vec::new();
    for _ in 0..plan.rounds {
        syncs.extend(stats::sync_times(&data, plan.syncs)?);
        for (at, connections) in CONNECTIONS.into_iter().enumerate() {
            for side in &mut sides {
                let round = side.run(connections, plan.round).await?;
                side.results.get_mut(at).context("results for each number of connections")?.rounds.push(round);
            }
        }
    }
    println!("{} rounds of {:?} each, in turn; figures are medians of the rounds", plan.rounds, plan.round);
    report(&sides, stats::middle(syncs.into_iter().map(micros).collect()))
}

fn report([floor, gateway, tailnet]: &[Side; 3], sync_us: f64) -> Result<()> {
    println!("{:<8} {:>5} {:>10} {:>10} {:>10} {:>9}", "server", "conns", "req/s", "p50 us", "p99 us", "calls");
    for side in [floor, gateway, tailnet] {
        for results in &side.results {
            println!(
                "{:<8} {:>5} {:>10.0} {:>10.0} {:>10.0} {:>9}",
                side.server.name,
                results.connections,
                results.per_second(),
                results.p50(),
                results.p99(),
                results.rounds.iter().map(|round| round.calls).sum::<usize>(),
            );
        }
    }
    let pairs = || floor.results.iter().zip(&gateway.results);
    for (floor, gateway) in pairs() {
        println!("ratio@{} {:.3}", floor.connections, gateway.per_second() / floor.per_second());
    }
    for (gateway, tailnet) in gateway.results.iter().zip(&tailnet.results) {
        println!("ratio_tailnet@{} {:.3}", gateway.connections, tailnet.per_second() / gateway.per_second());
    }
    for (floor, gateway) in pairs().filter(|(floor, _)| floor.connections == 1) {
        let over = gateway.p50() - floor.p50();
        println!("over_floor_p50_us@1 {over:.0}");
        println!("over_floor_and_fdatasync_p50_us@1 {:.0}", over - sync_us);
    }
    println!("fdatasync_p50_us {sync_us:.0}");
    for Side { server, idle_kb, .. } in [floor, gateway, tailnet] {
        println!("rss_idle_mb {} {:.1}", server.name, megabytes(*idle_kb));
        println!("rss_after_mb {} {:.1}", server.name, megabytes(server.resident_kb()?));
        println!("ready_ms {} {:.1}", server.name, micros(server.ready_after) / 1000.0);
    }
    Ok(())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn megabytes(kilobytes: u64) -> f64 {
    kilobytes as f64 / 1024.0
}

//! What a call costs on the tailnet, beside a plain server behind a node of the same kind. Prints figures; judges only
//! that there are some. They mean something in a release build (`just lab-cost`).

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::{Json, Router, routing::post};
use rustix::process::Pid;
use serde_json::{Value, json};

use crate::{
    client::{call, http},
    machine::Machine,
    node::Node,
    policy,
    site::{Site, Way},
    wait::until,
};

over_every_way![calls_are_counted_beside_a_plain_server];

/// How long each measurement takes.
const FOR: Duration = Duration::from_secs(1);
/// How many connections call at the same time.
const CONNECTIONS: [usize; 2] = [1, 32];

struct Measured {
    per_second: f64,
    median: Duration,
}

/// Calls over this many connections, each as soon as it has its answer.
fn measure(machine: &Machine, url: &str, token: &str, connections: usize) -> Measured {
    machine.visit(|| async {
        let http = http().build().unwrap();
        let began = Instant::now();
        let calling = (0..connections).map(|_| async {
            let mut times = Vec::new();
            while began.elapsed() < FOR {
                let sent = Instant::now();
                let answer = call(&http, url, Some(token), "token_inspect", json!({})).await.unwrap();
                assert_eq!(answer.status, 200, "{}", answer.body);
                times.push(sent.elapsed());
            }
            times
        });
        let mut times = futures_util::future::join_all(calling).await.concat();
        times.sort();
        Measured { per_second: times.len() as f64 / began.elapsed().as_secs_f64(), median: times[times.len() / 2] }
    })
}

/// Does `work` while a server that answers every POST with `body` runs on `machine`.
fn beside_a_plain_server<T>(machine: &Machine, address: SocketAddr, body: &Value, work: impl FnOnce() -> T) -> T {
    let listener = machine.listen(address);
    listener.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let body = body.clone();
    runtime.spawn(async move {
        let router = Router::new().route("/mcp", post(async move || Json(body.clone())));
        axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await
    });
    work()
}

/// What a process holds in memory, in MiB.
fn resident(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

fn calls_are_counted_beside_a_plain_server(site: &Site) {
    let lab = site.lab;
    let token = site.token("readonly", "user:alice@example.com");
    let answer = site.call(&lab.alice, &token).unwrap();
    answer.data();
    let ours = CONNECTIONS.map(|connections| measure(&lab.alice.machine, &site.url(), &token, connections));
    let memory = (resident(site.gateway.pid()), resident(site.node_pid()));
    let plain = plain(site, &token, &answer.body);
    for (connections, (ours, plain)) in CONNECTIONS.into_iter().zip(ours.iter().zip(&plain)) {
        assert!(ours.per_second > 1.0 && plain.per_second > 1.0);
        let _ = writeln!(
            std::io::stderr(),
            "lab: {:?}, {connections} connections: {:.0} calls/s, median {:.2?}; a plain server there: {:.0}/s, {:.2?}",
            site.way,
            ours.per_second,
            ours.median,
            plain.per_second,
            plain.median,
        );
    }
    let (gateway, node) = memory;
    let _ = writeln!(std::io::stderr(), "lab: {:?}: the gateway holds {gateway} MiB, its node {node} MiB", site.way);
}

/// The same from a server that does nothing, behind a node of the same kind.
fn plain(site: &Site, token: &str, body: &Value) -> [Measured; 2] {
    const PORT: u16 = 9000;
    let lab = site.lab;
    let measured = |node: &Node, address: SocketAddr| {
        let grant = policy::network(&["alice@"], "tag:tailops", PORT);
        lab.control.set_policy(&policy::with(&[policy::alice(), policy::agent(), policy::targets(), grant]));
        beside_a_plain_server(&node.machine, address, body, || {
            let far = SocketAddr::new(node.ipv4(), PORT);
            until("alice reaches the plain server", || lab.alice.machine.reaches(far));
            let url = format!("http://{far}/mcp");
            CONNECTIONS.map(|connections| measure(&lab.alice.machine, &url, token, connections))
        })
    };
    match site.way {
        Way::Host => measured(&lab.gateway, SocketAddr::new(lab.gateway.ipv4(), PORT)),
        // Nothing but the gateway can be behind its own node: one in user space is the nearest there is.
        #[cfg(feature = "embedded")]
        Way::Embedded => {
            let owner = crate::control::Owner::Tag("tag:tailops");
            let node = lab.join("plain", owner, crate::node::Mode::Userspace);
            measured(&node, SocketAddr::from(([127, 0, 0, 1], PORT)))
        }
    }
}

//! 500 hosts in one call of the real program, in a process of its own, and what that takes of time and memory.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    hosts::{Hosts, Saying},
    said,
};
use crate::{
    harness::{eventually, http_client, modern},
    served::{Place, Served},
};

const HOSTS: u16 = 500;
/// What a gateway may take at most, in KiB, and for how long.
const MEMORY_KIB: u64 = 200 << 10;
const TIME: Duration = Duration::from_secs(60);

const CONFIG: &str = "data_dir = \"DATA\"\nnode.listen = \"127.0.0.1:0\"\nlog.format = \"json\"\n[engagements.default]\n\
    [targets.here]\nkind = \"local\"\nengagement = \"default\"\ncapabilities = [\"fleet:read\"]\n";

/// The most memory that the process ever took, in KiB.
fn peak_kib(pid: rustix::process::Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_hosts_are_read_in_a_minute_and_200_mib() {
    let place = Place::with(CONFIG);
    let mut hosts = Hosts::new(place.file.parent().unwrap());
    for n in 0..HOSTS {
        let [high, low] = (n + 1).to_be_bytes();
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 1, high, low)), 0);
        hosts.add(&format!("host-{n:03}"), address, said(Saying::default()), &json!({})).await;
    }
    let file = place.beside("targets.yaml", &hosts.registry());
    let service = Served::start(&place).await;
    let token = place.token("default").await;
    place.said(&["target", "import", file.to_str().unwrap()]).await;
    let all = async || service.call(&token, "fleet_list", json!({"tag": "fake"})).await.data()["total"] == HOSTS;
    eventually("the targets are in force", all).await;
    let http = http_client().timeout(2 * TIME).build().unwrap();
    let wish = json!({"refresh": true, "tag": "fake", "limit": 1});
    let since = Instant::now();
    let response = modern(&http, &service.url, Some(&token), "fleet_summarize", wish).send().await.unwrap();
    let body: serde_json::Value = response.json().await.unwrap();
    let (took, peak) = (since.elapsed(), peak_kib(service.pid()));
    println!("500 hosts: {took:.1?}, at most {} MiB", peak >> 10);
    let content = &body["result"]["structuredContent"];
    let totals = json!({"targets": HOSTS, "ok": HOSTS, "unknown": 0, "warning": 0, "critical": 0});
    assert_eq!(content["data"]["totals"], totals, "{took:?}: {body}");
    assert!(took < TIME, "it took {took:?}");
    assert!(peak < MEMORY_KIB, "it took {peak} KiB");
}

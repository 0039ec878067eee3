//! Reading a whole fleet in one call, over real SSH to hosts that are made up: what is told of it, who may be told, and
//! what the dead ones cost the others.

mod health;
mod hosts;
mod many;
mod snapshots;
mod unchanged;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Instant,
};

use serde_json::{Value, json};
use tailops::config::{Config, Engagement, read_registry};
use tokio::net::TcpListener;

use self::hosts::{Hosts, Saying};
use crate::{
    harness::{Gateway, Grant},
    sshd::{new_key, pin_of},
};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn said(saying: Saying) -> Arc<Mutex<Saying>> {
    Arc::new(Mutex::new(saying))
}

/// Puts the targets of `hosts` in place of the configured ones.
fn register(config: &mut Config, hosts: &Hosts) {
    config.engagements.push(Engagement { id: "other".into(), tools: None, data_root: None });
    let engagements = ["default".into(), "other".into()];
    let path = Path::new("targets.yaml");
    config.targets = read_registry(path, &hosts.registry(), &"default".into(), &engagements).unwrap();
    let many = std::num::NonZeroU32::new(100_000).unwrap();
    (config.limits.calls_per_minute, config.limits.calls_burst) = (many, many);
}

/// How many silent hosts there are; each is given this long to say something.
const SILENT: usize = 8;
const SILENT_S: u64 = 5;

/// 50 hosts of all sorts, and one that belongs to somebody else.
async fn fifty(folder: &Path) -> (Hosts, Vec<TcpListener>) {
    let mut hosts = Hosts::new(folder);
    let odd = [
        ("failed-2", Saying { failed: vec!["nginx.service", "cron.service"], ..Saying::default() }),
        ("failed-1", Saying { failed: vec!["nginx.service"], used_pct: 92, ..Saying::default() }),
        ("full-97", Saying { used_pct: 97, ..Saying::default() }),
        ("full-91", Saying { used_pct: 91, security: 1, ..Saying::default() }),
        ("security", Saying { security: 3, ..Saying::default() }),
        ("reboot", Saying { reboot: true, ..Saying::default() }),
        ("clock", Saying { synced: false, ..Saying::default() }),
        ("garbage", Saying { garbage: true, ..Saying::default() }),
    ];
    for (id, saying) in odd {
        hosts.add(id, LOOPBACK, said(saying), &json!({})).await;
    }
    let mut drifted = Saying::default();
    drifted.packages.insert("openssl:amd64".into(), "3.0.16-1".into());
    for (id, saying) in [("drifted", drifted)] {
        hosts.add(id, LOOPBACK, said(saying), &json!({})).await;
    }
    for n in 0..31 {
        hosts.add(&format!("well-{n:02}"), LOOPBACK, said(Saying::default()), &json!({})).await;
    }
    // Another host answers where this one was enrolled.
    let address = hosts.sshds[0].address;
    hosts.target("swapped", address, &pin_of(new_key().public_key()), 30, &json!({}));
    // Nobody listens there: the port was somebody's a moment ago.
    let dead = TcpListener::bind(LOOPBACK).await.unwrap().local_addr().unwrap();
    let pin = pin_of(hosts.host_key.public_key());
    hosts.target("dead", dead, &pin, 30, &json!({}));
    let mut silent = Vec::new();
    for n in 0..SILENT {
        let listener = TcpListener::bind(LOOPBACK).await.unwrap();
        hosts.target(&format!("silent-{n}"), listener.local_addr().unwrap(), &pin, SILENT_S, &json!({}));
        silent.push(listener);
    }
    hosts.add("theirs", LOOPBACK, said(Saying::default()), &json!({"engagement": "other"})).await;
    (hosts, silent)
}

/// The id and the first finding of each target.
fn lines(data: &Value) -> Vec<(String, String)> {
    let line = |target: &Value| {
        let first = &target["findings"][0];
        let problem = first["problem"].as_str().unwrap_or("well");
        let what: Vec<&str> = first["what"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        (target["id"].as_str().unwrap().to_owned(), format!("{problem} {}", what.join(", ")).trim().to_owned())
    };
    data["targets"].as_array().unwrap().iter().map(line).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_hosts_are_told_worst_first_and_the_dead_hold_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let (hosts, _silent) = fifty(folder.path()).await;
    let gateway = Gateway::with(|config| register(config, &hosts)).await;
    let token = gateway.mint(Grant::scopes("fleet:read,system:read")).await;

    // Before anything was read, nothing is known, and that is not called well.
    let answer = gateway.call(&token, "fleet_summarize", json!({})).await;
    assert_eq!(answer.data()["totals"], json!({"targets": 50, "ok": 0, "unknown": 50, "warning": 0, "critical": 0}));
    assert!(answer.content()["warnings"][0].as_str().unwrap().contains("refresh"), "{}", answer.body);

    let since = Instant::now();
    let answer = gateway.call(&token, "fleet_summarize", json!({"refresh": true, "limit": 200})).await;
    let took = since.elapsed();
    let data = answer.data();
    assert_eq!(data["totals"], json!({"targets": 50, "ok": 32, "unknown": 0, "warning": 4, "critical": 14}), "{data}");
    assert_eq!(
        data["problems"],
        json!({
            "unreachable": 11, "failed_units": 2, "disk_full": 3, "security_updates": 2, "reboot_needed": 1,
            "clock_off": 1, "stale": 0,
        })
    );
    let lines = lines(data);
    let mut expected: Vec<(String, String)> = [
        ("dead", "unreachable unreachable"),
        ("garbage", "unreachable unreadable_output"),
        ("silent-0", "unreachable unreachable"),
        ("silent-1", "unreachable unreachable"),
        ("silent-2", "unreachable unreachable"),
        ("silent-3", "unreachable unreachable"),
        ("silent-4", "unreachable unreachable"),
        ("silent-5", "unreachable unreachable"),
        ("silent-6", "unreachable unreachable"),
        ("silent-7", "unreachable unreachable"),
        ("swapped", "unreachable host_key_mismatch"),
        ("failed-2", "failed_units cron.service, nginx.service"),
        ("failed-1", "failed_units nginx.service"),
        ("full-97", "disk_full / 97 %"),
        ("full-91", "disk_full / 91 %"),
        ("security", "security_updates"),
        ("reboot", "reboot_needed"),
        ("clock", "clock_off not_synchronized"),
        ("drifted", "well"),
    ]
    .map(|(id, what)| (id.to_owned(), what.to_owned()))
    .into();
    expected.extend((0..31).map(|n| (format!("well-{n:02}"), "well".to_owned())));
    assert_eq!(lines, expected);
    assert_eq!(
        data["drift"],
        json!([{"platform": "debian 12", "targets": 39, "package_sets": 2, "differ": 1, "differing": ["drifted"]}])
    );
    let failed_1 = &data["targets"][12];
    let since_then = failed_1["findings"][0]["since"].as_str().unwrap();
    assert_eq!(since_then, "2023-11-14T22:13:20Z", "since when is the target's word");
    assert!(answer.content().get("partial").is_none(), "{}", answer.body);
    // One after the other the silent ones alone would take this long.
    let one_by_one = SILENT_S * SILENT as u64;
    assert!(took.as_secs() < one_by_one, "it took {took:?}");

    // Every host was asked once, and one record says how it went.
    let commands = |n: usize| hosts.sshds[n].seen.commands.lock().unwrap().len();
    assert_eq!((0..40).map(commands).collect::<Vec<_>>(), vec![1; 40]);
    assert_eq!(hosts.sshds[40].seen.connections.load(Ordering::SeqCst), 0, "somebody else's");
    let records = gateway.records_of(&answer).await;
    let (alerts, records): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| record["kind"] == "alert");
    assert_eq!((alerts.len(), records.len()), (1, 1), "one host showed another key");
    let survey = &records[0]["survey"];
    assert_eq!(
        (&survey["asked"], &survey["failures"], &survey["template_id"]),
        (&json!(50), &json!(11), &json!("facts.v1"))
    );
    let swapped = json!({"target": "swapped", "code": "host_key_mismatch"});
    assert!(survey["failed"].as_array().unwrap().contains(&swapped), "{survey}");
    assert!(records[0].to_string().len() < 64 << 10);

    // What was read is told again without reading, in pages; nobody is asked anew.
    let answer = gateway.call(&token, "fleet_summarize", json!({"limit": 12})).await;
    assert_eq!(self::lines(answer.data()), expected[..12]);
    assert!(answer.data()["targets"][11]["facts_age_s"].as_i64().is_some_and(|age| (0..60).contains(&age)));
    assert!(answer.data()["targets"][0]["facts_age_s"].is_null());
    let cursor = answer.content()["next_cursor"].clone();
    let answer = gateway.call(&token, "fleet_summarize", json!({"limit": 200, "cursor": cursor})).await;
    assert_eq!(self::lines(answer.data()), expected[12..]);
    assert_eq!((0..40).map(commands).collect::<Vec<_>>(), vec![1; 40]);

    who_may_be_told(&gateway).await;
    health::of_fifty(&gateway, &hosts).await;
    gateway.stop().await;
}

/// What policy keeps from a caller is neither read for it nor told.
async fn who_may_be_told(gateway: &Gateway) {
    let blind = gateway.mint(Grant::scopes("fleet:read")).await;
    for refresh in [false, true] {
        let answer = gateway.call(&blind, "fleet_summarize", json!({"refresh": refresh})).await;
        assert_eq!(answer.data()["totals"]["targets"], 0);
        let partial = answer.content()["partial"].as_array().unwrap();
        assert_eq!((partial.len(), &partial[0]), (50, &json!({"section": "clock", "reason": "insufficient_scope"})));
    }
    let one = Grant { targets: Some(vec!["reboot".to_owned()]), ..Grant::scopes("fleet:read,system:read") };
    let one = gateway.mint(one).await;
    let answer = gateway.call(&one, "fleet_summarize", json!({})).await;
    assert_eq!(lines(answer.data()), [("reboot".to_owned(), "reboot_needed".to_owned())]);
    assert_eq!(answer.content()["partial"][0]["reason"], "token_target_denied");
    let other = gateway.mint(Grant { engagement: "other".to_owned(), ..Grant::default() }).await;
    let answer = gateway.call(&other, "fleet_summarize", json!({})).await;
    assert_eq!(lines(answer.data()), [("theirs".to_owned(), "well".to_owned())]);
    assert_eq!(answer.data()["totals"]["unknown"], 1, "what others read is not known to them");
}

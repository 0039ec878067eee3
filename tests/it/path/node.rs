//! What tools and the doctor show of the node and the tailnet around it; and what a tenant does not see there.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use tailops::{
    model::{ScopeSet, Target, TargetKind},
    tailnet::{Grant, Grants, NodePeer, NodeState, NodeStatus, NotAdmitted, OwnNode, Peer, Unidentified},
};
use tokio::process::Command;

use crate::{
    child::BINARY,
    harness::{self, Gateway},
};

const HOST_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

fn running(peers: Vec<NodePeer>) -> NodeStatus {
    NodeStatus {
        own: Some(OwnNode {
            id: "nGATE".into(),
            name: "tailops.example.ts.net".into(),
            tags: vec!["tag:tailops".into()],
            user: None,
            // Where the test's own requests go: a node is called by its names and addresses alone.
            addresses: vec!["127.0.0.1".parse().unwrap()],
            key_expiry: None,
            certificate_names: Vec::new(),
        }),
        tailnet: Some("example.org".into()),
        peers,
        ..NodeStatus::of_state(NodeState::Running)
    }
}

/// The node in `state`, with what it knew of itself before.
fn fallen(state: NodeState) -> NodeStatus {
    NodeStatus { state, ..running(Vec::new()) }
}

fn listed(n: u8, tags: &[&str], online: bool) -> NodePeer {
    NodePeer {
        id: format!("n{n}"),
        name: format!("m{n}.example.ts.net"),
        user: tags.is_empty().then(|| "alice@example.org".to_owned()),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        addresses: vec![format!("100.64.0.{n}").parse().unwrap()],
        os: Some("linux".into()),
        online,
        ssh_host_keys: if n == 11 { vec![HOST_KEY.to_owned(), "ssh-rsa !".to_owned()] } else { Vec::new() },
    }
}

fn identified(listed: &NodePeer, grants: Grants) -> Peer {
    let address = std::net::SocketAddr::new(listed.addresses[0], 0);
    Peer { id: listed.id.clone(), grants, ..harness::peer_of(1, "alice@example.org", address) }
}

/// A target of `engagement` that lies at `host`.
fn target(base: &Target, id: &str, engagement: &str, host: &str) -> Target {
    let text = format!(
        "version: \"1.0\"\ntargets:\n  {id}:\n    type: remote\n    executor: ssh\n    \
         connection: {{host: {host:?}}}\n    capabilities: [\"system:read\"]\n"
    );
    let home = engagement.into();
    let read =
        tailops::config::read_registry(std::path::Path::new("t.yaml"), &text, &home, std::slice::from_ref(&home));
    let target = read.unwrap().remove(0);
    assert_eq!((target.kind, base.kind), (TargetKind::Ssh, TargetKind::Local));
    target
}

async fn with_targets() -> Gateway {
    Gateway::with(|config| {
        let base = config.targets[0].clone();
        let mut other = config.engagements[0].clone();
        other.id = "other".into();
        config.engagements.push(other);
        config.registered = vec![
            target(&base, "ours", "default", "M11.example.ts.net"),
            target(&base, "by-address", "default", "100.64.0.12"),
            target(&base, "theirs", "other", "m13.example.ts.net"),
        ];
    })
    .await
}

#[tokio::test]
async fn candidates_are_found_filtered_and_paged_and_never_name_a_target_of_others() {
    let gateway = with_targets().await;
    let token = gateway.admin().await;
    gateway.status_is(running(vec![
        listed(13, &["tag:web"], true),
        listed(12, &["tag:web"], false),
        listed(11, &[], true),
    ]));
    let all = gateway.call(&token, "fleet_discover", json!({})).await;
    let names = |data: &Value| -> Vec<String> {
        data["candidates"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(all.data()), ["n11", "n12", "n13"]);
    let first = &all.data()["candidates"][0];
    assert_eq!(first["ssh_host_keys"], json!(["ssh-ed25519 SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"]));
    assert_eq!((&first["target"], &first["addresses"]), (&json!("ours"), &json!(["100.64.0.11"])));
    assert_eq!(all.data()["candidates"][1]["target"], "by-address");
    assert_eq!(all.data()["candidates"][2]["target"], Value::Null, "another tenant's target is just a machine");
    assert!(!all.body.to_string().contains("theirs") && !all.body.to_string().contains("alice@"), "{}", all.body);
    let web = gateway.call(&token, "fleet_discover", json!({"tag": "tag:web", "online": true})).await;
    assert_eq!((names(web.data()), &web.data()["total"]), (vec!["n13".to_owned()], &json!(1)));
    let mut seen = Vec::new();
    let mut arguments = json!({"limit": 2});
    loop {
        let page = gateway.call(&token, "fleet_discover", arguments.clone()).await;
        seen.extend(names(page.data()));
        match &page.content()["next_cursor"] {
            Value::Null => break,
            cursor => arguments["cursor"] = cursor.clone(),
        }
    }
    assert_eq!(seen, ["n11", "n12", "n13"]);
    let theirs = gateway.mint(harness::Grant { engagement: "other".into(), ..harness::Grant::default() }).await;
    let theirs = gateway.call(&theirs, "fleet_discover", json!({})).await;
    let targets: Vec<&Value> =
        theirs.data()["candidates"].as_array().unwrap().iter().map(|one| &one["target"]).collect();
    assert_eq!(targets, [&Value::Null, &Value::Null, &json!("theirs")]);
    let listed = gateway.call(&token, "fleet_list", json!({"kind": "ssh"})).await;
    assert_eq!(listed.data()["total"], 2, "a candidate is no target");
    gateway.stop().await;
}

#[tokio::test]
async fn without_a_tailnet_there_is_a_reason_and_no_empty_success() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    for (state, reason) in [
        (NodeState::Loopback, "no_tailnet"),
        (NodeState::NeedsLogin, "node_not_running"),
        (NodeState::Stopped, "node_not_running"),
    ] {
        gateway.status_is(fallen(state));
        let answer = gateway.call(&token, "fleet_discover", json!({})).await;
        answer.data();
        assert_eq!(answer.content()["partial"], json!([{"section": "tailnet", "reason": reason}]));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn gateway_inspect_shows_the_node_and_the_peers_as_far_as_they_concern_the_tenant() {
    let gateway = with_targets().await;
    let token = gateway.admin().await;
    let answer = gateway.call(&token, "gateway_inspect", json!({"sections": ["node", "peers", "health"]})).await;
    assert_eq!((&answer.data()["node"]["state"], &answer.data()["node"]["tls"]), (&json!("loopback"), &json!("off")));
    assert_eq!(answer.data()["health"]["node"], true);
    assert!(answer.content()["partial"].is_null(), "{}", answer.body);

    gateway.status_is(NodeStatus {
        warnings: vec!["log the node in: open https://login.example/a/1".into(), "no relay".into()],
        ..fallen(NodeState::NeedsLogin)
    });
    let answer = gateway.call(&token, "gateway_inspect", json!({"sections": ["node"]})).await;
    assert_eq!(answer.data()["node"]["warnings"], json!(["no relay"]), "whoever opens the link takes the node");

    gateway.status_is(fallen(NodeState::Unreachable("/run/secret.sock".into())));
    let answer = gateway.call(&token, "gateway_inspect", json!({})).await;
    assert_eq!((&answer.data()["node"]["state"], &answer.data()["peers"]), (&json!("unreachable"), &Value::Null));
    assert_eq!(answer.content()["partial"], json!([{"section": "peers", "reason": "node_not_running"}]));
    assert_eq!(answer.data()["health"]["node"], false);
    assert!(!answer.body.to_string().contains("secret.sock"));

    gateway.status_is(running(Vec::new()));
    gateway.peers_may(|| {
        let scopes = || ScopeSet::parse("system:read").unwrap();
        let rule = |engagement: &str, target: &str| Grant {
            scopes: scopes(),
            targets: Some(BTreeSet::from([target.into(), "by-address".into()])),
            engagements: Some(BTreeSet::from([engagement.into()])),
            approve: None,
        };
        let (alice, bob, web) = (listed(11, &[], true), listed(12, &["tag:web"], true), listed(13, &[], false));
        let grants = Grants::Rules(vec![rule("default", "theirs"), rule("other", "theirs")]);
        let refused = |listed: &NodePeer, why| {
            Err(Unidentified::NotAdmitted { peer: Box::new(identified(listed, Grants::Rules(Vec::new()))), why })
        };
        vec![
            (alice.clone(), Ok(identified(&alice, grants))),
            (bob.clone(), refused(&bob, NotAdmitted::NoGrant)),
            (web.clone(), refused(&web, NotAdmitted::BadGrant("rule 2: unknown key \"theirs\"".into()))),
        ]
    });
    let answer = gateway.call(&token, "gateway_inspect", json!({"sections": ["node", "peers"]})).await;
    let node = &answer.data()["node"];
    assert_eq!((&node["mode"], &node["name"]), (&json!("scripted"), &json!("tailops.example.ts.net")));
    assert_eq!((&node["tailnet"], &node["tags"]), (&json!("example.org"), &json!(["tag:tailops"])));
    assert_eq!(node["listeners"], json!([gateway.address.to_string()]));
    let peers = &answer.data()["peers"];
    assert_eq!(peers["total"], 3);
    let (alice, bob, web) = (&peers["peers"][0], &peers["peers"][1], &peers["peers"][2]);
    assert_eq!(alice["admitted"], true);
    let rule = json!({"scopes": ["system:read"], "targets": ["by-address"], "approves": false});
    assert_eq!(alice["grants"], json!([rule]), "neither another tenant's rule nor its target");
    assert_eq!((&bob["admitted"], &bob["code"]), (&json!(false), &json!("peer_no_grant")));
    assert_eq!(web["code"], "peer_bad_grant");
    assert!(!answer.body.to_string().contains("theirs"), "{}", answer.body);

    let reader = gateway.mint(harness::Grant::scopes("readonly")).await;
    let denied = gateway.call(&reader, "gateway_inspect", json!({"sections": ["peers"]})).await;
    assert_eq!(denied.code(), "insufficient_scope");
    gateway.stop().await;
}

/// `tailops doctor --json` on this gateway: its exit code and its report.
async fn doctor(gateway: &Gateway) -> (i32, Value) {
    let mut command = Command::new(BINARY);
    command.args(["doctor", "--json", "--data-dir"]).arg(&gateway.config.data_dir).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await.expect("it ends").unwrap();
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), report)
}

fn lines<'a>(report: &'a Value, subject: &str) -> Vec<&'a Value> {
    report["lines"].as_array().unwrap().iter().filter(|line| line["subject"] == subject).collect()
}

#[tokio::test]
async fn the_doctor_tells_every_peer_with_its_rights_and_names_the_rule_that_is_wrong() {
    let gateway = Gateway::start().await;
    gateway.status_is(running(Vec::new()));
    gateway.peers_may(|| {
        let (alice, bob) = (listed(11, &[], true), listed(12, &["tag:web"], true));
        let grant = Grant {
            scopes: ScopeSet::parse("system:read").unwrap(),
            targets: Some(BTreeSet::from(["web-01".into()])),
            engagements: None,
            approve: None,
        };
        let why = NotAdmitted::BadGrant("rule 2: unknown key \"scoops\"".into());
        let peer = Box::new(identified(&bob, Grants::Rules(Vec::new())));
        vec![
            (alice.clone(), Ok(identified(&alice, Grants::Rules(vec![grant])))),
            (bob, Err(Unidentified::NotAdmitted { peer, why })),
        ]
    });
    let (code, report) = doctor(&gateway).await;
    assert_eq!((code, &report["running"], &report["level"]), (0, &json!(true), &json!("warn")), "{report:#}");
    assert_eq!(lines(&report, "peers")[0]["finding"], "1 of 2 visible peers would come in");
    let peers = lines(&report, "peer");
    let alice = peers[0]["finding"].as_str().unwrap();
    assert!(alice.contains("alice@example.org") && alice.contains("system:read on web-01"), "{alice}");
    let bob = peers[1]["finding"].as_str().unwrap();
    assert!(bob.contains("tag:web") && bob.contains("unknown key \"scoops\""), "{bob}");
    assert_eq!(peers[1]["level"], "warn");

    gateway.status_is(NodeStatus::of_state(NodeState::NeedsLogin));
    let (code, report) = doctor(&gateway).await;
    assert_eq!((code, &report["level"]), (1, &json!("fail")));
    assert!(lines(&report, "node")[0]["mend"].as_str().unwrap().contains("auth key"), "{report:#}");
    assert_eq!(lines(&report, "peers")[0]["level"], "fail");
    gateway.stop().await;
}

#[tokio::test]
async fn the_doctor_sees_a_clock_that_moves_and_tokens_from_elsewhere() {
    let gateway = Gateway::start().await;
    let token = gateway.mint(harness::Grant { uid: 4999, ..harness::Grant::default() }).await;
    for _ in 0..14 {
        let answer = gateway.call(&token, "token_inspect", json!({})).await;
        assert_eq!(answer.code(), "token_unexpected_source");
    }
    // Beyond ten a minute they are only counted, and written down at the end at the latest.
    let (directory, config) = gateway.stop().await;
    let gateway = Gateway::on(directory, config).await;
    let (code, report) = doctor(&gateway).await;
    assert_eq!(code, 0, "{report:#}");
    let sources = lines(&report, "sources")[0];
    assert!(sources["finding"].as_str().unwrap().contains("14 from laptop"), "{sources}");
    assert_eq!(lines(&report, "clock")[0]["level"], "ok");
    gateway.clock.advance(Duration::from_secs(86_400));
    let (_, report) = doctor(&gateway).await;
    assert_eq!(lines(&report, "sources")[0]["level"], "ok", "that is a day ago");
    let clock = lines(&report, "clock")[0];
    assert!(clock["level"] == "warn" && clock["finding"].as_str().unwrap().contains("ahead by"), "{clock}");
    gateway.stop().await;
}

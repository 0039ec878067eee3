//! Tokens shown by others than those they are bound to: refused, on record, counted by node, and told to the operator.

use std::{collections::BTreeMap, num::NonZeroU32, path::Path, process::Command, time::Duration};

use serde_json::{Value, json};
use tailops::{
    audit::strays,
    model::Clock,
    store::{Store, prepare_directory},
    tailnet::{Grants, Peer},
};

use crate::{
    child::BINARY,
    harness::{Behind, Gateway, Grant, eventually, tailnet_peer},
    served::{Place, Served},
};

fn user(id: &str, login: &str) -> Peer {
    tailnet_peer(id, &format!("{id}.example.ts.net"), Behind::User(login), Grants::Unrestricted, "100.64.0.9:40000")
}

fn tagged(id: &str, tags: &[&str]) -> Peer {
    tailnet_peer(id, &format!("{id}.example.ts.net"), Behind::Tags(tags), Grants::Unrestricted, "100.64.0.8:40000")
}

#[tokio::test]
async fn each_binding_lets_in_its_own_and_nobody_else() {
    let mut gateway = Gateway::start().await;
    let peers = [
        user("nLAPTOP", "alice@example.com"),
        user("nPHONE", "alice@example.com"),
        user("nBOB", "bob@example.com"),
        tagged("nAGENT", &["tag:build", "tag:mcp-client"]),
        // The login of all tagged nodes, as a daemon may send it.
        Peer { user: Some("tagged-devices".to_owned()), ..tagged("nODD", &["tag:odd"]) },
        Peer { uid: Some(4001), tailnet: None, ..user("uid:4001", "alice@example.com") },
    ];
    for (bind, wanted) in [
        ("node:nLAPTOP", &["nLAPTOP"][..]),
        ("user:alice@example.com", &["nLAPTOP", "nPHONE"]),
        ("tag:mcp-client", &["nAGENT"]),
        ("tag:mcp", &[]),
        ("user:ALICE@example.com", &[]),
        ("uid:4001", &["uid:4001"]),
    ] {
        let token = gateway.mint(Grant::bound("readonly", bind)).await;
        let mut let_in = Vec::new();
        for peer in &peers {
            gateway.visited_by(peer.clone());
            let answer = gateway.call(&token, "token_inspect", json!({})).await;
            if answer.status == 200 {
                assert_eq!(answer.data()["binding"], bind);
                let_in.push(peer.id.as_str());
            } else {
                assert_eq!((answer.status, answer.code()), (403, "token_unexpected_source"), "{bind}: {answer:?}");
            }
        }
        assert_eq!(let_in, wanted, "{bind}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn p11_a_stolen_token_is_refused_and_the_record_says_whose_it_was_and_who_had_it() {
    let mut gateway = Gateway::start().await;
    let grant = Grant { subject: "ops-automation".to_owned(), ..Grant::bound("admin", "node:nALICE") };
    let token = gateway.mint(grant).await;
    gateway.visited_by(user("nALICE", "alice@example.com"));
    let own = gateway.call(&token, "token_inspect", json!({})).await;
    let jti = own.data()["jti"].clone();
    assert_eq!(gateway.records_of(&own).await[0].get("binding"), None, "at home there is nothing to say");
    gateway.visited_by(user("nMALLORY", "mallory@example.com"));
    let answer = gateway.call(&token, "token_inspect", json!({})).await;
    assert_eq!((answer.status, answer.code()), (403, "token_unexpected_source"));
    assert!(!answer.body.to_string().contains("nALICE"), "the thief is not told where it works: {}", answer.body);
    let records = gateway.records_of(&answer).await;
    assert_eq!(records.len(), 1);
    let record = &records[0];
    for (key, wanted) in [
        ("code", json!("token_unexpected_source")),
        ("status", json!("denied")),
        ("kind", json!("refusal")),
        ("jti", jti),
        ("subject", json!("ops-automation")),
        ("owner", json!("tester")),
        ("engagement", json!("default")),
        ("binding", json!("node:nALICE")),
        ("error", json!("the token is bound to another peer")),
    ] {
        assert_eq!(record[key], wanted, "{key}");
    }
    let peer = json!({
        "address": "100.64.0.9:40000",
        "tailnet": "example.ts.net",
        "tailscale_node": "nMALLORY.example.ts.net",
        "tailscale_node_id": "nMALLORY",
        "tailscale_tags": [],
        "tailscale_user": "mallory@example.com",
    });
    assert_eq!(record["tailscale"], peer);
    // A token that is not ours names nobody: its claims are anybody's writing.
    let forged = gateway.call(&format!("{}x", &token[..token.len() - 1]), "token_inspect", json!({})).await;
    let record = &gateway.records_of(&forged).await[0];
    assert_eq!((&record["code"], record.get("jti")), (&json!("invalid_token"), None));
    gateway.stop().await;
}

fn alerts(data: &Path, arguments: &[&str]) -> Value {
    let output = Command::new(BINARY)
        .args(["audit", "alerts", "--json", "--data-dir"])
        .arg(data)
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn they_are_counted_by_node_also_those_that_were_only_counted_or_were_too_many() {
    let mut gateway = Gateway::with(|config| {
        config.limits.auth_failures_per_minute = NonZeroU32::new(15).unwrap();
        config.limits.refusals_recorded_per_minute = NonZeroU32::new(3).unwrap();
    })
    .await;
    let one = gateway.mint(Grant { subject: "one".to_owned(), ..Grant::bound("admin", "node:nALICE") }).await;
    let two = gateway.mint(Grant { subject: "two".to_owned(), ..Grant::bound("admin", "tag:mcp-client") }).await;
    let mut wanted: BTreeMap<&str, u64> = BTreeMap::new();
    let mut codes: BTreeMap<String, u64> = BTreeMap::new();
    for (peer, id, times) in
        [(user("nMALLORY", "mallory@example.com"), "nMALLORY", 12), (tagged("nBUILD", &["tag:build"]), "nBUILD", 2)]
    {
        gateway.visited_by(peer);
        for _ in 0..times {
            for token in [&one, &two] {
                let answer = gateway.call(token, "fleet_list", json!({})).await;
                *codes.entry(answer.code().to_owned()).or_default() += 1;
                *wanted.entry(id).or_default() += 1;
            }
            // What is no token of ours is no alert.
            gateway.call("tailops_x.y.z", "fleet_list", json!({})).await;
        }
    }
    assert!(codes["rate_limited"] > 0 && codes["token_unexpected_source"] > 6, "both sorts: {codes:?}");
    gateway.clock.advance(Duration::from_secs(1800));
    let since = gateway.clock.now();
    gateway.visited_by(tagged("nLATE", &["tag:build"]));
    gateway.call(&one, "fleet_list", json!({})).await;
    let (directory, config) = gateway.stop().await;
    let store = Store::open(&config.data_dir).await.unwrap();
    let found = strays(&store.leaf_reader(), None).await.unwrap();
    wanted.insert("nLATE", 1);
    let counts: BTreeMap<&str, u64> = found.iter().map(|(id, stray)| (id.as_str(), stray.count)).collect();
    assert_eq!(counts, wanted);
    assert_eq!(found["nMALLORY"].user.as_deref(), Some("mallory@example.com"));
    assert_eq!((found["nMALLORY"].tokens.len(), &found["nBUILD"].tags), (2, &vec!["tag:build".to_owned()]));
    let late = strays(&store.leaf_reader(), Some(since)).await.unwrap();
    assert_eq!(late.keys().collect::<Vec<_>>(), ["nLATE"]);
    // What is written for a token is that token's, however many were folded.
    let records = crate::harness::records(&store, false).await;
    for (subject, of) in [("one", 13 + 2), ("two", 12 + 2)] {
        let mine = records.iter().filter(|record| record["subject"] == subject && record["kind"] == "refusal");
        let sum: u64 = mine.map(|record| record["folded"]["count"].as_u64().unwrap_or(1)).sum();
        assert_eq!(sum, of, "{subject}");
    }
    store.close().await;
    let shown = alerts(&config.data_dir, &[]);
    let of = |id: &str| shown.as_array().unwrap().iter().find(|row| row["node_id"] == id).unwrap().clone();
    assert_eq!((&of("nMALLORY")["count"], &of("nBUILD")["count"]), (&json!(24), &json!(4)));
    let until = since.to_string();
    assert_eq!(alerts(&config.data_dir, &["--since", &until]).as_array().unwrap().len(), 1);
    let table = Command::new(BINARY).args(["audit", "alerts", "--data-dir"]).arg(&config.data_dir).output().unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.starts_with("NODE ID") && table.contains("tag:build") && table.contains("24"), "{table}");
    drop(directory);
}

const CONFIG: &str =
    "data_dir = \"DATA\"\nnode.listen = \"127.0.0.1:0\"\nlog.format = \"json\"\n[engagements.default]\n";

#[tokio::test]
async fn the_service_log_tells_at_once_and_never_the_token() {
    let place = Place::with(CONFIG);
    let service = Served::start(&place).await;
    let elsewhere = format!("uid:{}", rustix::process::getuid().as_raw() + 1);
    let minting =
        ["token", "mint", "--agent", "stolen", "--scopes", "readonly", "--ttl", "1h", "--json", "--bind", &elsewhere];
    let minted: Value = serde_json::from_str(&place.said(&minting).await).unwrap();
    let token = minted["token"].as_str().unwrap();
    assert_eq!(service.call(token, "token_inspect", json!({})).await.status, 403);
    let line = || {
        let log = service.log();
        let line = log.lines().find(|line| line.contains("\"alert\"")).map(str::to_owned);
        line.map(|line| serde_json::from_str::<Value>(&line).unwrap())
    };
    eventually("the log has the alert", async || line().is_some()).await;
    let line = line().unwrap();
    for (key, wanted) in [
        ("level", json!("WARN")),
        ("alert", json!("token_unexpected_source")),
        ("jti", minted["jti"].clone()),
        ("subject", json!("stolen")),
        ("bound_to", json!(elsewhere)),
        ("node_id", json!(format!("uid:{}", rustix::process::getuid().as_raw()))),
    ] {
        assert_eq!(line[key], wanted, "{line}");
    }
    assert!(!service.log().contains(&token[token.len() - 20..]), "the log has the token");
    // The gateway is on loopback: what could never be let in there is not even made.
    for bind in ["node:nALICE", "user:alice@example.com", "tag:mcp-client"] {
        let output = place
            .tailops(&["token", "mint", "--agent", "a", "--scopes", "readonly", "--ttl", "1h", "--bind", bind])
            .await;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(bind) && text.contains("--bind uid:NUMBER"), "{text}");
    }
    service.stop().await;
}

#[tokio::test]
async fn the_gateway_says_how_it_is_on_the_network_to_those_who_mint() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.store().meta("node_mode").await.unwrap().as_deref(), Some("scripted"));
    gateway.stop().await;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().canonicalize().unwrap().join("data");
    prepare_directory(&data).unwrap();
    let mint = |bind: &[&str]| {
        let output = Command::new(BINARY)
            .args(["token", "mint", "--agent", "a", "--scopes", "readonly", "--ttl", "1h", "--json"])
            .args(bind)
            .arg("--data-dir")
            .arg(&data)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), text, serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default())
    };
    for mode in ["host", "embedded"] {
        let store = Store::open(&data).await.unwrap();
        store.set_meta("node_mode", mode).await.unwrap();
        store.close().await;
        for bind in [&[][..], &["--bind", "uid:1000"]] {
            let (code, text, _) = mint(bind);
            assert_eq!(code, 1, "{text}");
            for wanted in
                [mode, "--bind node:STABLE_ID", "--bind user:LOGIN", "--bind tag:mcp-client", "start the gateway once"]
            {
                assert!(text.contains(wanted), "{wanted}: {text}");
            }
        }
        for bind in ["node:nALICE", "user:alice@example.com", "tag:mcp-client"] {
            let (code, text, minted) = mint(&["--bind", bind]);
            assert_eq!((code, &minted["binding"]), (0, &json!(bind)), "{text}");
        }
    }
    for (bind, wanted) in [
        ("alice", "node:STABLE_ID, user:LOGIN or tag:NAME"),
        ("tag:tag:x", "write tag: once: tag:x"),
        ("user:tagged-devices", "bind to the node's tag"),
    ] {
        let (code, text, _) = mint(&["--bind", bind]);
        assert_eq!(code, 2, "{text}");
        assert!(text.contains(wanted), "{text}");
    }
}

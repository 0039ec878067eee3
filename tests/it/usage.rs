//! What the command line says of the log is what the records say.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Output},
};

use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};
use tailops::tools;

use crate::{
    child::BINARY,
    harness::{Gateway, Grant, http_client, modern, peer_of},
};

fn run(data: &Path, arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).arg("--data-dir").arg(data).output().unwrap()
}

fn said(data: &Path, arguments: &[&str]) -> String {
    let output = run(data, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Traffic of every sort: two agents, reads, refusals of each kind, and calls that are none.
async fn traffic(gateway: &Gateway, steps: &[(bool, usize)]) {
    let calls = [
        ("fleet_list", json!({})),
        ("token_inspect", json!({})),
        ("host_inspect", json!({"target": "local", "sections": ["os"]})),
        ("file_list", json!({"target": "local", "path": "/etc"})),
        ("host_inspect", json!({"target": "elsewhere"})),
        ("no_such_tool", json!({})),
        ("gateway_inspect", json!({})),
        ("process_list", json!({"target": "local", "limit": 1})),
    ];
    let admin = gateway.admin().await;
    let reader = gateway.mint(Grant { subject: "reader".to_owned(), ..Grant::scopes("readonly") }).await;
    for (strong, which) in steps {
        let (tool, arguments) = &calls[which % calls.len()];
        gateway.call(if *strong { &admin } else { &reader }, tool, arguments.clone()).await;
    }
    // Refused before there is a call: with a token that is known, and from where it may not be used.
    for _ in 0..13 {
        let request = gateway.http.post(gateway.url("/mcp")).bearer_auth(&reader).body("no JSON");
        assert_eq!(gateway.send(request).await.status, 400);
    }
    gateway.peers_are(|address| Ok(peer_of(4002, "mallory", address)));
    // A connection of its own: who is at the other end is asked once a connection.
    let http = http_client().build().unwrap();
    let request = modern(&http, &gateway.url("/mcp"), Some(&reader), "fleet_list", json!({}));
    assert_eq!(gateway.send(request).await.status, 403);
}

/// The value of one dimension, told from the record itself.
fn value(record: &Value, dimension: &str) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    match dimension {
        "capability" => {
            let tool = tools::find(record["tool"].as_str().unwrap());
            let scopes: Vec<_> =
                tool.map_or(&[][..], |tool| tool.spec().scopes).iter().map(|scope| scope.as_str()).collect();
            if scopes.is_empty() { "-".to_owned() } else { scopes.join("+") }
        }
        "token" => text(&record["jti"]),
        "node" => text(&record["tailscale"]["tailscale_node"]),
        "risk" => text(&record["risk_level"]),
        other => text(&record[other]),
    }
}

fn usage_is_the_sum_over_records(data: &Path, records: &[Value]) {
    let calls: Vec<_> = records
        .iter()
        .filter(|record| ["call", "outcome", "intent"].contains(&record["kind"].as_str().unwrap()))
        .collect();
    assert!(!calls.is_empty());
    for by in [
        "capability,target",
        "tool",
        "subject,status",
        "engagement,token,node",
        "risk",
        "target,capability,tool,subject",
    ] {
        let usage: Value = serde_json::from_str(&said(data, &["audit", "usage", "--by", by, "--json"])).unwrap();
        let mut wanted: BTreeMap<Vec<String>, u64> = BTreeMap::new();
        for record in &calls {
            *wanted.entry(by.split(',').map(|dimension| value(record, dimension)).collect()).or_default() += 1;
        }
        let found: BTreeMap<Vec<String>, u64> = usage["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                let sum: u64 =
                    ["ok", "failed", "refused", "running"].iter().map(|key| row[*key].as_u64().unwrap()).sum();
                assert_eq!(row["calls"], sum);
                (by.split(',').map(|dimension| row[dimension].as_str().unwrap().to_owned()).collect(), sum)
            })
            .collect();
        assert_eq!(found, wanted, "{by}");
        assert_eq!(usage["total"]["calls"], calls.len());
        let ok = calls.iter().filter(|record| record["status"] == "ok").count();
        assert_eq!(usage["total"]["ok"], ok);
    }
}

fn token_usage_is_the_sum_over_records(data: &Path, records: &[Value]) {
    let usage: Value = serde_json::from_str(&said(data, &["token", "usage", "--json"])).unwrap();
    let usage = usage.as_array().unwrap();
    assert_eq!(usage.len(), 2);
    for token in usage {
        let of_token: Vec<_> =
            records.iter().filter(|record| record["jti"] == token["jti"] && record["kind"] != "admin").collect();
        let (refusals, calls): (Vec<&&Value>, Vec<_>) = of_token.iter().partition(|record| record["kind"] == "refusal");
        assert_eq!(token["calls"], calls.len(), "{token}");
        let times = |record: &Value| record["folded"]["count"].as_u64().unwrap_or(1);
        assert_eq!(token["refusals"], refusals.iter().map(|record| times(record)).sum::<u64>());
        let mut tools: BTreeMap<&str, u64> = BTreeMap::new();
        for call in &calls {
            *tools.entry(call["tool"].as_str().unwrap()).or_default() += 1;
        }
        assert_eq!(token["tools"], json!(tools));
        let nodes: u64 = token["nodes"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(nodes, token["calls"].as_u64().unwrap() + token["refusals"].as_u64().unwrap());
        let last = calls.iter().filter_map(|call| call["timestamp"].as_str()?.parse::<jiff::Timestamp>().ok()).max();
        assert_eq!(token["last"].as_str().map(|last| last.parse().unwrap()), last);
        let jti = token["jti"].as_str().unwrap();
        let one: Value = serde_json::from_str(&said(data, &["token", "usage", jti, "--json"])).unwrap();
        assert_eq!(one, json!([token]));
    }
    let refused: u64 = usage.iter().map(|token| token["refusals"].as_u64().unwrap()).sum();
    assert_eq!(refused, 14, "those that were only counted too, and the one from elsewhere");
    let reader: Value =
        serde_json::from_str(&said(data, &["token", "usage", "--subject", "reader", "--json"])).unwrap();
    assert_eq!(reader.as_array().unwrap().len(), 1);
    assert!(said(data, &["token", "usage"]).contains("reader"));
}

#[test]
fn usage_equals_the_records_whatever_the_traffic() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let steps = proptest::collection::vec((any::<bool>(), any::<usize>()), 5..25);
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() });
    runner
        .run(&steps, |steps| {
            runtime.block_on(async {
                let gateway = Gateway::start().await;
                traffic(&gateway, &steps).await;
                let (directory, config) = gateway.stop().await;
                let lines = said(&config.data_dir, &["audit", "export"]);
                let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                usage_is_the_sum_over_records(&config.data_dir, &records);
                token_usage_is_the_sum_over_records(&config.data_dir, &records);
                drop(directory);
            });
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn a_query_finds_exactly_what_it_asks_for() {
    let gateway = Gateway::start().await;
    traffic(&gateway, &(0..24).map(|n| (n % 3 == 0, n)).collect::<Vec<_>>()).await;
    let (_directory, config) = gateway.stop().await;
    let data = &config.data_dir;
    let query = |arguments: &[&str]| -> Vec<Value> {
        let lines = said(data, &[&["audit", "query", "--json", "--limit", "100000"], arguments].concat());
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let lines = said(data, &["audit", "export"]);
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(query(&[]), records, "oldest first");
    let of = |condition: &dyn Fn(&Value) -> bool| {
        records.iter().filter(|record| condition(record)).cloned().collect::<Vec<_>>()
    };
    let bad = of(&|record| record["status"] == "denied" || record["status"] == "failed");
    assert!(!bad.is_empty() && bad.len() < records.len());
    assert_eq!(query(&["--status", "denied,failed", "--since", "24h"]), bad);
    assert_eq!(query(&["--subject", "reader"]), of(&|record| record["subject"] == "reader"));
    assert_eq!(query(&["--tool", "file_list"]), of(&|record| record["tool"] == "file_list"));
    assert_eq!(query(&["--target", "local"]), of(&|record| record["target"] == "local"));
    let id = records[5]["correlation_id"].as_str().unwrap();
    assert_eq!(query(&["--correlation-id", id]), [records[5].clone()]);
    let at = records[5]["timestamp"].as_str().unwrap();
    let time = |record: &Value| record["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let middle = at.parse::<jiff::Timestamp>().unwrap();
    assert_eq!(query(&["--since", at]), of(&|record| time(record) >= middle));
    assert_eq!(query(&["--until", at]), of(&|record| time(record) < middle));
    assert_eq!(query(&["--until", "24h"]), Vec::<Value>::new());
    let newest = said(data, &["audit", "query", "--json", "--limit", "3"]);
    let newest: Vec<Value> = newest.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(newest, records[records.len() - 3..]);
    let table = said(data, &["audit", "query", "--status", "denied"]);
    assert!(table.starts_with("TIME") && table.contains("token_unexpected_source"), "{table}");
    for (arguments, wanted) in [
        (["--status", "denid"], "did you mean denied?"),
        (["--since", "yesterday"], "a duration such as 24h"),
        (["--limit", "0"], "--limit"),
    ] {
        let output = run(data, &[&["audit", "query"][..], &arguments].concat());
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(wanted), "{output:?}");
    }
    let output = run(data, &["audit", "usage", "--by", "tol"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("did you mean tool?"), "{output:?}");
}

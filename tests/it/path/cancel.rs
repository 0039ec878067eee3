//! A client that hangs up: a read stops, a write comes to its end. Both are on record.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    child::Prey,
    harness::{Gateway, eventually, modern},
};

async fn last_of(gateway: &Gateway, tool: &str) -> Option<Value> {
    gateway.records().await.into_iter().rfind(|record| record["tool"] == tool)
}

#[tokio::test]
async fn a_read_stops_when_its_caller_goes() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    let call = modern(&gateway.http, &gateway.url("/mcp"), Some(&token), "process_list", json!({"target": "local"}));
    // The tool measures for half a second: the client is gone long before.
    let gone = tokio::time::timeout(Duration::from_millis(150), call.send()).await;
    assert!(gone.is_err(), "answered too early for this test");
    eventually("the read is on record", || async { last_of(&gateway, "process_list").await.is_some() }).await;
    let record = last_of(&gateway, "process_list").await.unwrap();
    assert_eq!((&record["status"], &record["code"]), (&json!("cancelled"), &json!("cancelled")), "{record}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_write_goes_on_to_its_end_and_its_record() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    let prey = Prey::stubborn();
    let call = modern(&gateway.http, &gateway.url("/mcp"), Some(&token), "process_signal", prey.arguments("TERM"));
    let gone = tokio::time::timeout(Duration::from_millis(400), call.send()).await;
    assert!(gone.is_err(), "answered too early for this test");
    eventually("the write is on record", || async {
        last_of(&gateway, "process_signal").await.is_some_and(|record| record["kind"] == "outcome")
    })
    .await;
    let record = last_of(&gateway, "process_signal").await.unwrap();
    assert_eq!((&record["status"], &record["result_status"]), (&json!("ok"), &json!("success")), "{record}");
    assert!(record["duration_ms"].as_u64().unwrap() >= 1500, "it watched for its two seconds: {record}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_write_really_happens_once_and_is_on_record_twice() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    let mut prey = Prey::stubborn();
    let dry = {
        let mut arguments = prey.arguments("KILL");
        arguments["dry_run"] = json!(true);
        gateway.call(&token, "process_signal", arguments).await
    };
    assert_eq!(dry.content()["dry_run"], true);
    assert!(prey.lives(), "a dry run signals nothing");
    let answer = gateway.call(&token, "process_signal", prey.arguments("KILL")).await;
    assert_eq!(answer.data()["signalled"], true);
    assert!(!prey.lives());
    let id = crate::harness::correlation_of(&answer.body);
    let leaves = crate::harness::records(gateway.store(), true).await;
    let kinds: Vec<_> = leaves.iter().filter(|leaf| leaf["correlation_id"] == id).map(|leaf| &leaf["kind"]).collect();
    assert_eq!(kinds, ["intent", "outcome"]);
    let dry_leaves = gateway.records_of(&dry).await;
    assert_eq!(
        (dry_leaves.len(), &dry_leaves[0]["kind"], &dry_leaves[0]["effect"]),
        (1, &json!("call"), &json!("read"))
    );
    gateway.stop().await;
}

//! Completions: what the caller may know, through the pipeline, and kept only for that caller.

use serde_json::{Value, json};

use super::resources::{ask, two_tenants};
use crate::harness::{Gateway, Grant};

/// What `argument` could become.
async fn complete(
    gateway: &Gateway,
    token: &str,
    reference: Value,
    argument: (&str, &str),
    target: Option<&str>,
) -> Value {
    let mut params = json!({"ref": reference, "argument": {"name": argument.0, "value": argument.1}});
    if let Some(target) = target {
        params["context"] = json!({"arguments": {"target": target}});
    }
    ask(gateway, token, "completion/complete", params).await.body
}

fn prompt() -> Value {
    json!({"type": "ref/prompt", "name": "investigate_host"})
}

fn template() -> Value {
    json!({"type": "ref/resource", "uri": "tailops://targets/{id}"})
}

fn values(answer: &Value) -> &Value {
    assert!(answer.get("error").is_none(), "{answer}");
    &answer["result"]["completion"]["values"]
}

async fn tools_on_record(gateway: &Gateway) -> Vec<String> {
    gateway.records().await.iter().map(|record| record["tool"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn who_may_not_know_gets_nothing() {
    let gateway = Gateway::with(two_tenants).await;
    let token = gateway.mint(Grant::scopes("log:read")).await;
    assert_eq!(values(&complete(&gateway, &token, prompt(), ("target", ""), None).await), &json!([]));
    assert_eq!(values(&complete(&gateway, &token, template(), ("id", ""), None).await), &json!([]));
    assert_eq!(values(&complete(&gateway, &token, prompt(), ("unit", ""), Some("local")).await), &json!([]));
    assert_eq!(tools_on_record(&gateway).await, [] as [&str; 0], "nothing was asked");
    gateway.stop().await;
}

#[tokio::test]
async fn target_ids_are_the_callers_own_even_while_they_are_kept() {
    let gateway = Gateway::with(two_tenants).await;
    let ours = gateway.mint(Grant::scopes("fleet:read")).await;
    let theirs = gateway.mint(Grant { engagement: "other".to_owned(), ..Grant::default() }).await;
    for (reference, argument) in [(prompt(), "target"), (template(), "id")] {
        let all = complete(&gateway, &ours, reference.clone(), (argument, ""), None).await;
        assert_eq!(values(&all), &json!(["local", "second"]));
        assert_eq!(all["result"]["completion"]["total"], 2);
        let some = complete(&gateway, &ours, reference.clone(), (argument, "se"), None).await;
        assert_eq!(values(&some), &json!(["second"]));
        assert_eq!(values(&complete(&gateway, &theirs, reference, (argument, ""), None).await), &json!(["theirs"]));
    }
    assert_eq!(tools_on_record(&gateway).await, ["fleet_list", "fleet_list"], "one call a token, then kept");
    gateway.stop().await;
}

#[tokio::test]
async fn unit_names_come_from_the_target_by_a_call_of_the_callers() {
    let gateway = Gateway::with(two_tenants).await;
    let token = gateway.mint(Grant::scopes("system:read")).await;
    let listed = gateway.call(&token, "service_list", json!({"target": "local", "limit": 500})).await;
    let names: Vec<Value> = match listed.content()["data"]["units"].as_array() {
        Some(units) => units.iter().map(|unit| unit["name"].clone()).take(100).collect(),
        None => Vec::new(), // no systemd here: then there is nothing to complete
    };
    let before = gateway.records().await.len();
    for _ in 0..2 {
        let answer = complete(&gateway, &token, prompt(), ("unit", ""), Some("local")).await;
        assert_eq!(values(&answer), &json!(names));
    }
    let records = gateway.records().await;
    let asked: Vec<_> = records[before..].iter().map(|record| (&record["tool"], &record["args"]["target"])).collect();
    assert!(
        !asked.is_empty() && asked.iter().all(|asked| *asked == (&json!("service_list"), &json!("local"))),
        "{asked:?}"
    );
    assert!(listed.is_error() || asked.len() == 1, "what worked is kept: {asked:?}");
    // Another tenant's target looks like none, and so does a call without a target.
    assert_eq!(values(&complete(&gateway, &token, prompt(), ("unit", ""), Some("theirs")).await), &json!([]));
    assert_eq!(values(&complete(&gateway, &token, prompt(), ("unit", ""), None).await), &json!([]));
    gateway.stop().await;
}

#[tokio::test]
async fn tool_names_are_no_secret_and_unknown_references_are_refused() {
    let gateway = Gateway::start().await;
    let token = gateway.mint(Grant::scopes("policy:read")).await;
    let why = json!({"type": "ref/prompt", "name": "why_denied"});
    let answer = complete(&gateway, &token, why.clone(), ("tool", "service_"), None).await;
    assert!(values(&answer).as_array().unwrap().contains(&json!("service_control")), "{answer}");
    assert_eq!(values(&complete(&gateway, &token, why, ("correlation_id", ""), None).await), &json!([]));
    for reference in
        [json!({"type": "ref/prompt", "name": "no"}), json!({"type": "ref/resource", "uri": "file:///{x}"})]
    {
        let answer = complete(&gateway, &token, reference, ("x", ""), None).await;
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
    }
    assert_eq!(gateway.records().await.len(), 0);
    gateway.stop().await;
}

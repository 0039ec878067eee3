//! Targets as resources: the same rights, the same record, the same refusals as the tools they stand for.

use serde_json::{Value, json};
use tailops::config::{Config, Engagement};

use crate::harness::{Answer, Gateway, Grant, legacy_era, modern_era};

/// One request of the stateless revision.
pub async fn ask(gateway: &Gateway, token: &str, method: &str, params: Value) -> Answer {
    let message = crate::bridged::modern(1, method, params);
    let mut request = gateway.http.post(gateway.url("/mcp")).bearer_auth(token).json(&message);
    request = request
        .header("Accept", "application/json, text/event-stream")
        .header("MCP-Protocol-Version", "2026-07-28")
        .header("Mcp-Method", method);
    let named = message["params"].get("uri").or_else(|| message["params"].get("name"));
    if let Some(name) = named.and_then(Value::as_str) {
        request = request.header("Mcp-Name", name);
    }
    gateway.send(request).await
}

/// Two engagements, each with targets of its own.
pub fn two_tenants(config: &mut Config) {
    let mut theirs = config.targets[0].clone();
    theirs.id = "theirs".into();
    theirs.engagement = "other".into();
    let mut second = config.targets[0].clone();
    second.id = "second".into();
    second.segment = Some("staging".into());
    config.targets.extend([theirs, second]);
    config.engagements.push(Engagement { id: "other".into(), tools: None, data_root: None });
}

fn uris(answer: &Answer) -> Vec<&str> {
    answer.body["result"]["resources"].as_array().unwrap().iter().map(|one| one["uri"].as_str().unwrap()).collect()
}

fn calls(records: &[Value]) -> Vec<(&str, &str)> {
    let calls = records.iter().filter(|record| record["kind"] == "call");
    calls.map(|record| (record["tool"].as_str().unwrap(), record["status"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn without_the_right_there_is_nothing() {
    let gateway = Gateway::with(two_tenants).await;
    let token = gateway.mint(Grant::scopes("system:read,log:read")).await;
    let list = ask(&gateway, &token, "resources/list", json!({})).await;
    assert_eq!(list.body["result"]["resources"], json!([]), "{list:?}");
    let templates = ask(&gateway, &token, "resources/templates/list", json!({})).await;
    assert_eq!(templates.body["result"]["resourceTemplates"], json!([]), "{templates:?}");
    for uri in ["tailops://targets", "tailops://targets/local"] {
        let read = ask(&gateway, &token, "resources/read", json!({"uri": uri})).await;
        assert_eq!((&read.body["error"]["code"], read.code()), (&json!(403), "insufficient_scope"), "{read:?}");
        assert!(!read.body.to_string().contains("registry"), "{read:?}");
    }
    let records = gateway.records().await;
    assert_eq!(calls(&records), [("fleet_list", "denied"), ("target_inspect", "denied")]);
    // A token that is no token sees not even that there are resources.
    assert_eq!(ask(&gateway, "tailops_k.a.b", "resources/list", json!({})).await.status, 401);
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_not_there_and_what_is_anothers_look_the_same() {
    let gateway = Gateway::with(two_tenants).await;
    let token = gateway.admin().await;
    for uri in [
        "tailops://targets/theirs",
        "tailops://targets/nowhere",
        "tailops://targets/../local",
        "tailops://targets/local/",
        "tailops://targets/local%00",
        "tailops://targets/",
        "tailops://targetslocal",
        "tailops://TARGETS/local",
        "file:///etc/passwd",
        "",
    ] {
        let read = ask(&gateway, &token, "resources/read", json!({"uri": uri})).await;
        let error = json!({"code": -32602, "message": "there is no such resource", "data": {"uri": uri}});
        assert_eq!(read.body["error"], error, "{uri}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn the_list_is_the_callers_own_and_on_record() {
    let gateway = Gateway::with(two_tenants).await;
    let ours = gateway.mint(Grant::scopes("fleet:read")).await;
    let theirs = gateway.mint(Grant { engagement: "other".to_owned(), ..Grant::default() }).await;
    let list = ask(&gateway, &ours, "resources/list", json!({})).await;
    assert_eq!(uris(&list), ["tailops://targets", "tailops://targets/local", "tailops://targets/second"]);
    let result = &list.body["result"];
    assert_eq!(result["cacheScope"], "private", "{result}");
    assert!(result["resources"][2]["description"].as_str().unwrap().contains("staging"), "{result}");
    let list = ask(&gateway, &theirs, "resources/list", json!({})).await;
    assert_eq!(uris(&list), ["tailops://targets", "tailops://targets/theirs"]);
    let templates = ask(&gateway, &ours, "resources/templates/list", json!({})).await;
    let template = &templates.body["result"]["resourceTemplates"][0];
    assert_eq!(
        (&template["uriTemplate"], template["mimeType"].as_str()),
        (&json!("tailops://targets/{id}"), Some("application/json"))
    );
    assert_eq!(templates.body["result"]["cacheScope"], "private");
    assert_eq!(calls(&gateway.records().await), [("fleet_list", "ok"), ("fleet_list", "ok")]);
    gateway.stop().await;
}

#[tokio::test]
async fn long_lists_come_in_pages() {
    let gateway = Gateway::with(|config| {
        for n in 0..450 {
            let mut target = config.targets[0].clone();
            target.id = format!("web-{n:03}").into();
            config.targets.push(target);
        }
    })
    .await;
    let token = gateway.admin().await;
    let client = gateway.client(&token, modern_era()).await;
    let resources = client.list_all_resources().await.unwrap();
    assert_eq!(resources.len(), 1 + 451);
    let unique: std::collections::BTreeSet<_> = resources.iter().map(|resource| &resource.uri).collect();
    assert_eq!(unique.len(), resources.len());
    client.cancel().await.unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn reading_one_is_a_call_of_its_tool_in_both_eras() {
    let gateway = Gateway::start().await;
    let token = gateway.mint(Grant::scopes("fleet:read")).await;
    for mode in [legacy_era(), modern_era()] {
        let client = gateway.client(&token, mode).await;
        for (uri, key) in [("tailops://targets", "targets"), ("tailops://targets/local", "registry")] {
            let params = rmcp::model::ReadResourceRequestParams::new(uri);
            let result = client.read_resource(params).await.unwrap();
            let content = serde_json::to_value(&result.contents[0]).unwrap();
            assert_eq!((&content["uri"], &content["mimeType"]), (&json!(uri), &json!("application/json")));
            let envelope: Value = serde_json::from_str(content["text"].as_str().unwrap()).unwrap();
            assert!(envelope["data"].get(key).is_some() && envelope["ok"] == true, "{envelope}");
            let id = &envelope["correlation_id"];
            let records = gateway.records().await;
            assert_eq!(records.iter().filter(|record| record["correlation_id"] == *id).count(), 1);
        }
        client.cancel().await.unwrap();
    }
    let records = gateway.records().await;
    assert_eq!(calls(&records), [("fleet_list", "ok"), ("target_inspect", "ok")].repeat(2));
    gateway.stop().await;
}

#[tokio::test]
async fn a_token_for_other_targets_or_tools_reads_nothing() {
    let gateway = Gateway::with(two_tenants).await;
    let elsewhere = gateway.mint(Grant { targets: Some(vec!["second".into()]), ..Grant::default() }).await;
    let read = ask(&gateway, &elsewhere, "resources/read", json!({"uri": "tailops://targets/local"})).await;
    assert_eq!((&read.body["error"]["code"], read.code()), (&json!(403), "token_target_denied"), "{read:?}");
    let other_tools = gateway.mint(Grant { tools: Some(vec!["token_inspect".into()]), ..Grant::default() }).await;
    assert_eq!(uris(&ask(&gateway, &other_tools, "resources/list", json!({})).await), [] as [&str; 0]);
    let read = ask(&gateway, &other_tools, "resources/read", json!({"uri": "tailops://targets"})).await;
    assert_eq!(read.code(), "token_tool_denied", "{read:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn they_count_against_the_tokens_limit_like_everything_else() {
    let gateway = Gateway::with(|config| {
        config.limits.calls_per_minute = std::num::NonZeroU32::new(6).unwrap();
        config.limits.calls_burst = std::num::NonZeroU32::new(4).unwrap();
    })
    .await;
    let token = gateway.admin().await;
    let reference = json!({"ref": {"type": "ref/resource", "uri": "tailops://targets/{id}"}, "argument": {"name": "id", "value": ""}});
    let requests = [
        ("resources/list", json!({})),
        ("resources/read", json!({"uri": "tailops://targets"})),
        ("prompts/list", json!({})),
        ("completion/complete", reference),
        ("resources/list", json!({})),
    ];
    let mut statuses = Vec::new();
    for (method, params) in requests {
        statuses.push(ask(&gateway, &token, method, params).await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 429]);
    gateway.stop().await;
}

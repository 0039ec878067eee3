//! The same calls through the real client, in both eras of the protocol.

use rmcp::service::ClientLifecycleMode;
use serde_json::json;

use tailops::tools;

use crate::harness::{Gateway, Grant, call_of, legacy_era, modern_era};

async fn the_real_client_lists_and_calls(mode: ClientLifecycleMode) {
    let gateway = Gateway::start().await;
    let token = gateway.mint(Grant::scopes("readonly")).await;
    let client = gateway.client(&token, mode).await;
    let tools = client.list_all_tools().await.unwrap();
    let names: Vec<_> = tools.iter().map(|tool| tool.name.as_ref()).collect();
    assert!(names.contains(&"fleet_list") && names.contains(&"token_inspect"), "{names:?}");
    assert!(!names.contains(&"audit_query"), "readonly does not hold audit:read: {names:?}");
    let result = client.call_tool(call_of("token_inspect", json!({}))).await.unwrap();
    let content = result.structured_content.unwrap();
    assert_eq!(content["data"]["subject"], "agent");
    assert_eq!(content["data"]["peer"]["user"], "alice");
    let refused = client.call_tool(call_of("audit_query", json!({}))).await.unwrap();
    assert_eq!(refused.is_error, Some(true));
    assert_eq!(refused.structured_content.unwrap()["code"], "insufficient_scope");
    client.cancel().await.unwrap();
    let records = gateway.records().await;
    let calls: Vec<_> =
        records.iter().filter(|record| record["kind"] == "call").map(|record| &record["tool"]).collect();
    assert_eq!(calls, ["token_inspect", "audit_query"]);
    gateway.stop().await;
}

#[tokio::test]
async fn with_the_older_handshake() {
    the_real_client_lists_and_calls(legacy_era()).await;
}

#[tokio::test]
async fn with_the_stateless_revision() {
    the_real_client_lists_and_calls(modern_era()).await;
}

/// Clients check structured content against the schema of its tool, and take a mismatch for a broken server.
#[tokio::test]
async fn answers_and_refusals_conform_to_the_schema_of_their_tool() {
    let gateway = Gateway::start().await;
    let token = gateway.mint(Grant::scopes("system:read,fleet:read")).await;
    let client = gateway.client(&token, modern_era()).await;
    let tools = client.list_all_tools().await.unwrap();
    let (mut answers, mut refusals) = (0, 0);
    for tool in tools {
        let schema = serde_json::Value::Object((*tool.output_schema.unwrap()).clone());
        assert!(!schema.to_string().contains("uint"), "{schema}");
        let validator = jsonschema::validator_for(&schema).unwrap();
        for arguments in [json!({"target": "local"}), json!({"target": "nowhere"}), json!({})] {
            let call = rmcp::model::CallToolRequestParams::new(tool.name.clone());
            let call = call.with_arguments(arguments.as_object().unwrap().clone());
            let result = client.call_tool(call).await.unwrap();
            let content = result.structured_content.unwrap();
            if let Err(error) = validator.validate(&content) {
                panic!("{} answers {content}: {error}", tool.name);
            }
            *if result.is_error == Some(true) { &mut refusals } else { &mut answers } += 1;
        }
        assert!(!validator.is_valid(&json!({"ok": true, "correlation_id": "x"})), "{}", tool.name);
        assert!(!validator.is_valid(&json!({"ok": false, "correlation_id": "x"})), "{}", tool.name);
    }
    assert!(answers >= 4 && refusals >= 10, "{answers} answers, {refusals} refusals");
    client.cancel().await.unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn a_list_is_in_the_catalogues_order_and_for_its_caller_alone() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {
        "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}}});
    let request = gateway.http.post(gateway.url("/mcp")).bearer_auth(&token).json(&body);
    // `*/*` stands for both media types of the protocol.
    let request =
        request.header("Accept", "*/*").header("MCP-Protocol-Version", "2026-07-28").header("Mcp-Method", "tools/list");
    let answer = gateway.send(request).await;
    let result = &answer.body["result"];
    assert_eq!(result["cacheScope"], "private");
    assert!(result["ttlMs"].as_u64().is_some_and(|ttl| ttl > 0));
    let names: Vec<_> = result["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    // All but the one that is a person's alone.
    let all = tools::ALL.iter().map(|tool| tool.spec().name).filter(|name| *name != "approval_decide");
    assert_eq!(names, all.collect::<Vec<_>>());
    gateway.stop().await;
}

//! The same calls through the real client, in both eras of the protocol.

use rmcp::service::ClientLifecycleMode;
use serde_json::json;

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

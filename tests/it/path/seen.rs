//! What the caller sees and what the auditor sees, side by side, reviewed like code.

use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, Grant};

/// Takes out what differs from run to run.
fn steady(value: &Value) -> Value {
    match value {
        Value::Object(object) => object
            .iter()
            .map(|(key, value)| {
                let varies = matches!(
                    key.as_str(),
                    "correlation_id"
                        | "jti"
                        | "timestamp"
                        | "issued"
                        | "expires"
                        | "address"
                        | "args_commitment"
                        | "duration_ms"
                        | "text"
                        | "expires_in_s"
                );
                (key.clone(), if varies && !value.is_null() { json!(format!("[{key}]")) } else { steady(value) })
            })
            .collect(),
        Value::Array(items) => items.iter().map(steady).collect(),
        other => other.clone(),
    }
}

async fn both(gateway: &Gateway, name: &str, answer: Answer) {
    let records = gateway.records_of(&answer).await;
    let seen =
        json!({"caller": {"status": answer.status, "body": steady(&answer.body)}, "auditor": steady(&json!(records))});
    insta::with_settings!({sort_maps => true}, { insta::assert_json_snapshot!(name, seen) });
}

#[tokio::test]
async fn by_caller_and_auditor() {
    let gateway = Gateway::start().await;
    let admin = gateway.admin().await;
    let narrow = gateway.mint(Grant::scopes("log:read")).await;
    both(&gateway, "allowed", gateway.call(&admin, "token_inspect", json!({})).await).await;
    both(&gateway, "denied", gateway.call(&narrow, "process_list", json!({"target": "local"})).await).await;
    let critical = json!({"target": "local", "unit": "ssh.service", "action": "restart", "dry_run": false,
        "reason": format!("the config had password={}", crate::harness::PLANTED)});
    both(&gateway, "approval_unavailable", gateway.call(&admin, "service_control", critical).await).await;
    both(&gateway, "invalid", gateway.call(&admin, "process_list", json!({"target": "local", "limit": 0})).await).await;
    both(&gateway, "unknown_tool", gateway.call(&admin, "run_command", json!({})).await).await;
    both(&gateway, "not_authenticated", gateway.call("rubbish", "token_inspect", json!({})).await).await;
    gateway.stop().await;
}

//! Prompts: for those who can use what they are about, made of checked arguments, and silent about the fleet.

use serde_json::{Value, json};

use super::resources::ask;
use crate::harness::{Gateway, Grant, legacy_era, modern_era};

fn names(list: &Value) -> Vec<&str> {
    list["result"]["prompts"].as_array().unwrap().iter().map(|prompt| prompt["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_list_is_for_its_caller() {
    let gateway = Gateway::start().await;
    let (admin, narrow) = (gateway.admin().await, gateway.mint(Grant::scopes("policy:read")).await);
    let list = ask(&gateway, &admin, "prompts/list", json!({})).await.body;
    assert_eq!(names(&list), ["investigate_host", "why_denied"]);
    assert_eq!(list["result"]["cacheScope"], "private");
    let list = ask(&gateway, &narrow, "prompts/list", json!({})).await.body;
    assert_eq!(names(&list), ["why_denied"]);
    gateway.stop().await;
}

#[tokio::test]
async fn wrong_names_and_arguments_are_refused() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    for (name, arguments, wanted) in [
        ("no_such", json!({}), "no_such"),
        ("investigate_host", json!({"symptom": "slow"}), "`target`"),
        ("investigate_host", json!({"target": "local`\n", "symptom": "slow"}), "`target`"),
        ("investigate_host", json!({"target": "local", "symptom": "a\nb"}), "`symptom`"),
        ("investigate_host", json!({"target": "local", "symptom": "a", "sudo": "yes"}), "`sudo`"),
        ("why_denied", json!({}), "`correlation_id`"),
    ] {
        let params = json!({"name": name, "arguments": arguments});
        let refused = ask(&gateway, &token, "prompts/get", params).await.body;
        assert_eq!(refused["error"]["code"], -32602, "{refused}");
        assert!(refused["error"]["message"].as_str().unwrap().contains(wanted), "{refused}");
    }
    let narrow = gateway.mint(Grant::scopes("policy:read")).await;
    let params = json!({"name": "investigate_host", "arguments": {"target": "local", "symptom": "slow"}});
    let refused = ask(&gateway, &narrow, "prompts/get", params).await.body;
    assert_eq!(refused["error"]["code"], -32602, "{refused}");
    gateway.stop().await;
}

/// Whether a target exists is the fleet's to say: the prompt reads the same, nothing is asked and nothing recorded.
#[tokio::test]
async fn a_prompt_says_nothing_about_the_fleet() {
    let gateway = Gateway::start().await;
    let token = gateway.mint(Grant::scopes("system:read")).await;
    let mut texts = Vec::new();
    for target in ["local", "nowhere"] {
        let params = json!({"name": "investigate_host", "arguments": {"target": target, "symptom": "slow"}});
        let prompt = ask(&gateway, &token, "prompts/get", params).await.body;
        let message = &prompt["result"]["messages"][0];
        assert_eq!((&message["role"], &message["content"]["type"]), (&json!("user"), &json!("text")), "{prompt}");
        let text = message["content"]["text"].as_str().unwrap();
        assert!(
            text.contains("host_inspect") && !text.contains("journal_query"),
            "only what the token can use: {text}"
        );
        texts.push(text.replace(target, "TARGET"));
    }
    assert_eq!(texts[0], texts[1]);
    assert_eq!(gateway.records().await.len(), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn the_real_client_gets_them_in_both_eras() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    for mode in [legacy_era(), modern_era()] {
        let client = gateway.client(&token, mode).await;
        let prompts = client.list_all_prompts().await.unwrap();
        assert_eq!(prompts.len(), 2);
        let arguments = json!({"tool": "service_control", "correlation_id": "0190a3e4-0000-7000-8000-000000000000"});
        let mut params = rmcp::model::GetPromptRequestParams::new("why_denied");
        params.arguments = arguments.as_object().cloned();
        let prompt = client.get_prompt(params).await.unwrap();
        let text = serde_json::to_string(&prompt.messages).unwrap();
        for part in ["audit_query with correlation_id", "policy_explain with tool=service_control", "token_inspect"] {
            assert!(text.contains(part), "{text}");
        }
        client.cancel().await.unwrap();
    }
    gateway.stop().await;
}

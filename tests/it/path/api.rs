//! The people's API: who gets in, what each may see and say, and that a yes lets exactly one call run.

use serde_json::{Value, json};
use tailops::config::Config;

use crate::{
    harness::{Answer, Behind, Gateway, Grant, grants},
    people::{People, Visitor, on_host, on_host_with, send},
};

/// Reading a host's facts needs a yes; it is the same however often it is asked for.
const ASKS: &str = "@id(\"look-first\") @ask(\"somebody looks first\")
forbid (principal, action == Action::\"host_inspect\", resource) unless { context.approved };";

fn asking(config: &mut Config) {
    let directory = config.data_dir.parent().unwrap().join("policy");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("site.cedar"), ASKS).unwrap();
    config.policy.directory = Some(directory);
}

const WISH: &str = "host_inspect";

fn wish() -> Value {
    json!({"target": "local", "reason": "a test"})
}

/// A gateway, its people, and an agent with its token.
async fn cast() -> (Gateway, People, Visitor, String) {
    let gateway = Gateway::with(asking).await;
    let people = People::of(&gateway);
    let agent = people.agent("agent");
    let token = gateway.mint(Grant::bound("admin", "tag:mcp-client")).await;
    (gateway, people, agent, token)
}

/// What the agent was told to wait for.
async fn asked(agent: &Visitor, token: &str) -> (String, String) {
    let answer = agent.call(token, WISH, wish()).await;
    assert_eq!(answer.code(), "approval_required", "{answer:?}");
    let text = |key: &str| answer.content()[key].as_str().unwrap_or_else(|| panic!("no {key}: {answer:?}")).to_owned();
    (text("approval_id"), text("operation_hash"))
}

#[tokio::test]
async fn somebody_else_says_yes_from_their_own_node_and_it_runs_once() {
    let (gateway, people, agent, token) = cast().await;
    let bob = people.approver("bob", json!({}));
    let (id, hash) = asked(&agent, &token).await;
    let mut retry = wish();
    retry["approval_id"] = json!(id);
    assert_eq!(agent.call(&token, WISH, retry.clone()).await.code(), "approval_pending");
    let seen = bob.get(&format!("/api/v1/approvals/{id}")).await;
    assert_eq!((seen.status, &seen.body["state"], &seen.body["may_decide"]), (200, &json!("pending"), &json!(true)));
    assert_eq!((&seen.body["operation_hash"], &seen.body["operation"]["tool"]), (&json!(hash), &json!(WISH)));
    let body = json!({"decision": "approve", "operation_hash": hash, "comment": "as agreed on the phone"});
    let decided = bob.post(&format!("/api/v1/approvals/{id}/decision"), body).await;
    assert_eq!((decided.status, &decided.body["state"]), (200, &json!("approved")), "{decided:?}");
    assert_eq!(decided.body["votes"][0]["login"], "bob@example.com");

    let (one, two) = tokio::join!(agent.call(&token, WISH, retry.clone()), agent.call(&token, WISH, retry.clone()));
    let ran = [&one, &two].into_iter().filter(|answer| !answer.is_error()).count();
    assert_eq!(ran, 1, "{one:?} {two:?}");
    let third = agent.call(&token, WISH, retry).await;
    assert_eq!(third.code(), "approval_used");
    assert_eq!(bob.get(&format!("/api/v1/approvals/{id}")).await.body["state"], "used");

    let records = gateway.records().await;
    let runs = records.iter().filter(|record| record["approved"] == true && record["status"] == "ok").count();
    assert_eq!(runs, 1);
    let decision: Vec<&Value> = records.iter().filter(|record| record["tool"] == "approval.approve").collect();
    assert_eq!(decision.len(), 1, "{records:#?}");
    assert_eq!(decision[0]["tailscale"]["tailscale_user"], "bob@example.com");
    assert_eq!(decision[0]["tailscale"]["tailscale_node"], "bob.example.ts.net");
    assert_eq!(decision[0]["approval"]["id"], id);
    gateway.stop().await;
}

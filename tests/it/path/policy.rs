//! May they: scopes, engagements, capabilities, risk, and the trace that says why.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};
use tailops::{
    config::{Config, Engagement},
    model::{Scope, ScopeSet},
    tools,
};

use crate::harness::{Gateway, Grant};

/// The hierarchy as it is written down for people; the closure must be exactly this.
const TREE: &[(&str, &str)] = &[
    (
        "admin",
        "system:admin docker:admin container:admin file:write network:diag proxmox:admin fleet:admin security:read \
               log:read policy:read plan:write approval:read audit:read token:admin",
    ),
    ("system:admin", "system:control"),
    ("system:control", "system:read"),
    ("container:admin", "container:write"),
    ("container:write", "container:read"),
    ("file:write", "file:read"),
    ("network:diag", "network:read"),
    ("proxmox:admin", "proxmox:control"),
    ("proxmox:control", "proxmox:read"),
    ("fleet:admin", "fleet:read"),
    ("readonly", "system:read network:read container:read file:read log:read fleet:read proxmox:read policy:read"),
];

pub fn reachable(scope: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::from([scope]);
    for (above, under) in TREE {
        if *above == scope {
            under.split_whitespace().for_each(|scope| found.extend(reachable(scope)));
        }
    }
    found
}

proptest! {
    #[test]
    fn a_set_allows_exactly_what_the_tree_says(picked in prop::collection::vec(prop::sample::select(Scope::ALL), 0..5), asked in prop::sample::select(Scope::ALL)) {
        let set = ScopeSet::new(picked.iter().copied());
        let expected = picked.iter().any(|scope| reachable(scope.as_str()).contains(asked.as_str()));
        prop_assert_eq!(set.allows(asked), expected, "{} in {}", asked, set);
        prop_assert_eq!(ScopeSet::parse(&set.to_string()).unwrap(), set);
    }
}

#[test]
fn approval_decide_stands_alone_and_readonly_changes_nothing() {
    assert!(!ScopeSet::new([Scope::Admin]).allows(Scope::ApprovalDecide));
    let readonly = ScopeSet::new([Scope::Readonly]);
    for tool in tools::ALL.iter().map(|tool| tool.spec()) {
        let allowed = tool.scopes.iter().all(|scope| readonly.allows(*scope));
        // Anyone may give up their own token; another's needs token:admin (see `revoke.rs`).
        // Anyone may stop their own job; nobody who only reads can have one.
        let own = ["token_revoke", "job_cancel"].contains(&tool.name);
        // Keeps what its caller may read anyway, in the gateway's own database.
        let kept = tool.name == "snapshot_create";
        assert!(own || kept || !allowed || !tool.effect.changes(), "readonly can call {}", tool.name);
    }
    assert_eq!(Scope::parse("container:control"), Ok(Scope::ContainerWrite));
    assert_eq!(Scope::parse("stack:deploy"), Ok(Scope::ContainerAdmin));
    assert_eq!(Scope::parse("system:raed").unwrap_err().suggestion, Some("system:read"));
}

/// Two tenants with a target each, and one that is limited to two tools.
fn tenants(config: &mut Config) {
    let mut theirs = config.targets[0].clone();
    theirs.id = "theirs".into();
    theirs.engagement = "other".into();
    theirs.tags = vec!["web".to_owned()];
    config.targets.push(theirs);
    let tools = BTreeSet::from(["fleet_list".to_owned(), "audit_query".to_owned(), "target_inspect".to_owned()]);
    config.engagements.push(Engagement { id: "other".into(), tools: Some(tools), data_root: None });
}

#[tokio::test]
async fn another_engagements_ids_look_like_none() {
    let gateway = Gateway::with(tenants).await;
    let ours = gateway.admin().await;
    let theirs = gateway.mint(Grant { engagement: "other".to_owned(), ..Grant::default() }).await;
    let real = gateway.call(&ours, "target_inspect", json!({"target": "theirs"})).await;
    let none = gateway.call(&ours, "target_inspect", json!({"target": "nowhere"})).await;
    let masked = |answer: &crate::harness::Answer, name: &str| {
        let mut content = answer.content().clone();
        content["correlation_id"] = Value::Null;
        content.to_string().replace(name, "ID")
    };
    assert_eq!(masked(&real, "theirs"), masked(&none, "nowhere"));
    let list = gateway.call(&theirs, "fleet_list", json!({})).await;
    assert_eq!(list.data()["targets"].as_array().unwrap().len(), 1);
    assert_eq!(list.data()["targets"][0]["id"], "theirs");
    // Nor can the log be read across.
    let page = gateway.call(&theirs, "audit_query", json!({"limit": 200})).await;
    for record in page.data()["records"].as_array().unwrap() {
        assert_eq!(record["engagement"], "other");
    }
    let id = crate::harness::correlation_of(&real.body);
    let page = gateway.call(&theirs, "audit_query", json!({"correlation_id": id})).await;
    assert_eq!(page.data()["records"], json!([]));
    gateway.stop().await;
}

#[tokio::test]
async fn a_tenant_sees_and_calls_only_the_tools_on_its_list() {
    let gateway = Gateway::with(tenants).await;
    let theirs = gateway.mint(Grant { engagement: "other".to_owned(), ..Grant::default() }).await;
    let client = gateway.client(&theirs, crate::harness::modern_era()).await;
    let mut names: Vec<_> =
        client.list_all_tools().await.unwrap().into_iter().map(|tool| tool.name.into_owned()).collect();
    names.sort();
    assert_eq!(names, ["audit_query", "fleet_list", "target_inspect"]);
    client.cancel().await.unwrap();
    let answer = gateway.call(&theirs, "token_inspect", json!({})).await;
    assert_eq!(answer.code(), "cross_tenant_denied");
    let nowhere = gateway.mint(Grant { engagement: "gone".to_owned(), ..Grant::default() }).await;
    assert_eq!(gateway.call(&nowhere, "token_inspect", json!({})).await.code(), "unknown_engagement");
    gateway.stop().await;
}

#[tokio::test]
async fn a_target_gives_no_more_than_it_offers() {
    let gateway = Gateway::with(|config| config.targets[0].capabilities = ScopeSet::parse("log:read").unwrap()).await;
    let token = gateway.admin().await;
    let answer = gateway.call(&token, "process_list", json!({"target": "local"})).await;
    assert_eq!(answer.code(), "target_capability");
    let client = gateway.client(&token, crate::harness::modern_era()).await;
    let names: Vec<_> = client.list_all_tools().await.unwrap().into_iter().map(|tool| tool.name.into_owned()).collect();
    assert!(names.contains(&"journal_query".to_owned()) && !names.contains(&"process_list".to_owned()), "{names:?}");
    client.cancel().await.unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn a_token_for_one_target_touches_no_other() {
    let gateway = Gateway::with(|config| {
        let mut second = config.targets[0].clone();
        second.id = "second".into();
        config.targets.push(second);
    })
    .await;
    let token = gateway.mint(Grant { targets: Some(vec!["second".to_owned()]), ..Grant::default() }).await;
    assert_eq!(gateway.call(&token, "process_list", json!({"target": "local"})).await.code(), "token_target_denied");
    gateway.call(&token, "process_list", json!({"target": "second"})).await.data();
    gateway.stop().await;
}

#[tokio::test]
async fn critical_needs_a_person_and_no_argument_changes_that() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    let critical =
        json!({"target": "local", "unit": "ssh.service", "action": "restart", "reason": "a test", "dry_run": false});
    let answer = gateway.call(&token, "service_control", critical.clone()).await;
    assert_eq!(answer.code(), "approval_unavailable");
    let records = gateway.records_of(&answer).await;
    assert_eq!(records.len(), 1);
    let facts = [&records[0]["risk_level"], &records[0]["approved"], &records[0]["status"], &records[0]["exec"]];
    assert_eq!(facts, [&json!("critical"), &json!(false), &json!("denied"), &Value::Null]);
    for argument in ["auto_approve", "approved", "force", "skip_approval"] {
        let mut with = critical.clone();
        with[argument] = json!(true);
        let answer = gateway.call(&token, "service_control", with).await;
        assert_eq!(answer.code(), "invalid_arguments");
        assert!(answer.content()["message"].as_str().unwrap().contains(argument));
    }
    let explained = gateway.call(&token, "policy_explain", json!({"tool": "service_control", "args": critical})).await;
    assert_eq!(explained.data()["decision"], "ask");
    gateway.stop().await;
}

#[tokio::test]
async fn the_trace_names_every_check_in_order() {
    let gateway = Gateway::start().await;
    let token = gateway.mint(Grant::scopes("policy:read")).await;
    let question = json!({"tool": "process_list", "args": {"target": "local"}});
    let answer = gateway.call(&token, "policy_explain", question).await;
    let checks = answer.data()["checks"].as_array().unwrap();
    let lines: Vec<_> =
        checks.iter().map(|check| (check["name"].as_str().unwrap(), check["verdict"].as_str().unwrap())).collect();
    assert_eq!(
        lines,
        [
            ("engagement", "pass"),
            ("engagement_tools", "pass"),
            ("token_tools", "pass"),
            ("token_scope", "deny"),
            ("tenant", "pass"),
            ("target_tenant", "pass"),
            ("token_targets", "pass"),
            ("target_capability", "pass"),
            ("risk", "pass"),
        ]
    );
    assert_eq!(answer.data()["decision"], "deny");
    gateway.stop().await;
}

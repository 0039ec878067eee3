//! What the tailnet policy grants: with the token, never beside it.

use std::{collections::BTreeSet, sync::LazyLock};

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tailops::{
    app::rules,
    auth::{Binding, Claims},
    config::{CAPABILITY, Config, Engagement},
    model::{EngagementId, Scope, ScopeSet},
    pipeline::Rules,
    policy::Verdict,
    tailnet::{Grants, Peer},
    tools::{self, PlanContext},
};

use super::policy::reachable;
use crate::harness::{Answer, Behind, Gateway, Grant, grants, modern_era, tailnet_peer};

const ALICE: &str = "alice@example.com";

fn alice(rules: Value) -> Peer {
    tailnet_peer("nALICE", "laptop.example.ts.net", Behind::User(ALICE), grants(rules), "100.64.0.7:40000")
}

/// Two targets, and a second tenant with one.
fn two_tenants(config: &mut Config) {
    let mut another = config.targets[0].clone();
    another.id = "another".into();
    config.targets.push(another.clone());
    another.id = "theirs".into();
    another.engagement = "other".into();
    config.targets.push(another);
    config.engagements.push(Engagement { id: "other".into(), tools: None, data_root: None });
}

async fn listed(gateway: &Gateway, token: &str) -> BTreeSet<String> {
    let client = gateway.client(token, modern_era()).await;
    let tools = client.list_all_tools().await.unwrap().into_iter().map(|tool| tool.name.into_owned()).collect();
    client.cancel().await.unwrap();
    tools
}

#[track_caller]
fn refused(answer: &Answer, wanted: &str) {
    assert_eq!((answer.status, answer.code()), (200, "insufficient_grant"), "{answer:?}");
    let message = answer.content()["message"].as_str().unwrap();
    assert!(message.contains(wanted), "{message}");
}

#[tokio::test]
async fn a_token_gives_no_more_than_the_tailnet_policy_grants_its_peer() {
    let mut gateway = Gateway::with(two_tenants).await;
    let token = gateway.mint(Grant::bound("admin", "user:alice@example.com")).await;
    let rules = json!([{"scopes": ["system:read", "policy:read"], "targets": ["local"]}, {"scopes": ["fleet:read"]}]);
    gateway.visited_by(alice(rules));
    gateway.call(&token, "process_list", json!({"target": "local", "limit": 1})).await.data();
    gateway.call(&token, "fleet_list", json!({})).await.data();
    let answer = gateway.call(&token, "process_list", json!({"target": "another", "limit": 1})).await;
    refused(&answer, "process_list needs system:read on another; there the tailnet policy grants fleet:read");
    let restart = json!({"target": "local", "unit": "x.service", "action": "restart", "reason": "a test of grants"});
    let answer = gateway.call(&token, "service_control", restart.clone()).await;
    refused(
        &answer,
        "needs system:control; in engagement \"default\" the tailnet policy grants system:read,fleet:read,policy:read",
    );
    let record = &gateway.records_of(&answer).await[0];
    assert_eq!((&record["code"], &record["decision"]), (&json!("insufficient_grant"), &json!("deny")));
    assert_eq!((&record["rule"], &record["status"]), (&json!("grant"), &json!("denied")));
    // The list has what can be called, and nothing else.
    let list = listed(&gateway, &token).await;
    assert!(["process_list", "fleet_list", "token_inspect", "policy_explain"].iter().all(|tool| list.contains(*tool)));
    for tool in ["service_control", "file_read", "audit_query", "gateway_inspect", "journal_query"] {
        assert!(!list.contains(tool), "{tool} is on the list: {list:?}");
    }
    let explained = gateway.call(&token, "policy_explain", json!({"tool": "service_control", "args": restart})).await;
    let data = explained.data();
    assert_eq!((&data["decision"], &data["rule"]), (&json!("deny"), &json!("grant")));
    let checks = data["checks"].as_array().unwrap();
    let line = |name: &str| checks.iter().find(|check| check["name"] == name).unwrap();
    assert_eq!((&line("grant")["verdict"], &line("grant")["code"]), (&json!("deny"), &json!("insufficient_grant")));
    assert_eq!(line("grant_target")["verdict"], "deny");
    gateway.stop().await;
}

#[tokio::test]
async fn a_grant_gives_no_more_than_the_token() {
    let mut gateway = Gateway::with(two_tenants).await;
    gateway.visited_by(alice(json!([{"scopes": ["admin"]}])));
    let narrow = Grant { targets: Some(vec!["local".to_owned()]), ..Grant::bound("system:read", "node:nALICE") };
    let token = gateway.mint(narrow).await;
    gateway.call(&token, "process_list", json!({"target": "local", "limit": 1})).await.data();
    for (tool, arguments, code) in [
        ("process_list", json!({"target": "another"}), "token_target_denied"),
        ("journal_query", json!({"target": "local"}), "insufficient_scope"),
        ("process_list", json!({"target": "theirs"}), "unknown_target"),
    ] {
        assert_eq!(gateway.call(&token, tool, arguments).await.code(), code);
    }
    // Nor may it act for another engagement than the token's, whatever the grant names.
    gateway.visited_by(alice(json!([{"scopes": ["admin"], "engagements": ["other"]}])));
    let answer = gateway.call(&token, "process_list", json!({"target": "local"})).await;
    refused(&answer, "in engagement \"default\" the tailnet policy grants nothing");
    refused(&gateway.call(&token, "token_inspect", json!({})).await, "grants nothing");
    assert_eq!(listed(&gateway, &token).await, BTreeSet::new());
    let theirs = gateway.mint(Grant { engagement: "other".to_owned(), ..Grant::bound("admin", "node:nALICE") }).await;
    gateway.call(&theirs, "process_list", json!({"target": "theirs", "limit": 1})).await.data();
    gateway.stop().await;
}

#[tokio::test]
async fn an_answer_for_one_peer_is_never_the_answer_for_another() {
    let mut gateway = Gateway::start().await;
    let token = gateway.mint(Grant::bound("admin", "user:alice@example.com")).await;
    let call =
        async |gateway: &Gateway| gateway.call(&token, "process_list", json!({"target": "local", "limit": 1})).await;
    // The same person, node name and token: site policy cannot tell them apart and remembers its answer.
    let wide = alice(json!([{"scopes": ["readonly"]}]));
    let narrow = Peer { id: "nOTHER".to_owned(), ..alice(json!([{"scopes": ["log:read"]}])) };
    for _ in 0..3 {
        gateway.visited_by(wide.clone());
        call(&gateway).await.data();
        gateway.visited_by(narrow.clone());
        refused(&call(&gateway).await, "needs system:read");
    }
    // What was completed for one is not handed to the other.
    let wide = alice(json!([{"scopes": ["fleet:read"]}]));
    let params = json!({"ref": {"type": "ref/resource", "uri": "tailops://targets/{id}"}, "argument": {"name": "id", "value": ""}});
    for (peer, wanted) in [(wide, json!(["local"])), (narrow, json!([]))] {
        gateway.visited_by(peer);
        let answer = super::resources::ask(&gateway, &token, "completion/complete", params.clone()).await;
        assert_eq!(answer.body["result"]["completion"]["values"], wanted, "{answer:?}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn token_inspect_shows_what_is_granted_here_and_nothing_of_other_tenants() {
    let mut gateway = Gateway::with(two_tenants).await;
    let shown = async |gateway: &Gateway, token: &str| {
        gateway.call(token, "token_inspect", json!({})).await.data()["peer"]["grants"].clone()
    };
    let local = gateway.admin().await;
    assert_eq!(shown(&gateway, &local).await, Value::Null, "on loopback nothing narrows");
    let token = gateway.mint(Grant::bound("admin", "node:nALICE")).await;
    gateway.visited_by(alice(json!([
        {"scopes": ["readonly"], "targets": ["local", "theirs", "no-such"]},
        {"scopes": ["admin"], "engagements": ["other"]},
        {"approve": {"risks": ["high"]}, "engagements": ["default", "other"]},
    ])));
    let open = json!({"risks": ["high"], "segments": null, "tools": null});
    assert_eq!(
        shown(&gateway, &token).await,
        json!([
            {"scopes": ["readonly"], "targets": ["local"], "approve": null},
            {"scopes": [], "targets": null, "approve": open},
        ])
    );
    gateway.stop().await;
}

#[test]
fn the_rules_on_the_page_are_understood() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/policy.md")).unwrap();
    let (_, rest) = page.split_once("```json\n").unwrap();
    let policy: Value = serde_json::from_str(rest.split_once("```").unwrap().0).unwrap();
    let Grants::Rules(rules) = grants(policy["grants"][0]["app"][CAPABILITY].clone()) else { panic!("none narrow") };
    assert_eq!(rules.len(), 3);
}

/// A rule as the tailnet policy file has it.
fn any_rule() -> impl Strategy<Value = Value> {
    let some = |words: &[&'static str]| prop::collection::btree_set(prop::sample::select(words.to_vec()), 1..3);
    let scopes = prop::collection::vec(prop::sample::select(Scope::ALL), 1..4);
    let targets = prop::option::of(some(&["local", "another", "theirs"]));
    let engagements = prop::option::of(some(&["default", "other"]));
    (scopes, targets, engagements).prop_map(|(scopes, targets, engagements)| {
        let scopes: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
        let fields = [("targets", targets), ("engagements", engagements)];
        let present = fields.into_iter().filter_map(|(name, names)| Some((name.to_owned(), json!(names?))));
        Value::Object(present.chain([("scopes".to_owned(), json!(scopes))]).collect())
    })
}

/// Calls of tools with and without a target, and of some that need several scopes or none.
fn calls() -> Vec<(&'static str, Value)> {
    let mut calls = vec![
        ("token_inspect", json!({})),
        ("fleet_list", json!({})),
        ("audit_query", json!({})),
        ("gateway_inspect", json!({})),
        ("token_revoke", json!({"jti": "0".repeat(32), "reason": "a test"})),
    ];
    for target in ["local", "another"] {
        calls.extend([
            ("process_list", json!({"target": target})),
            ("journal_query", json!({"target": target})),
            ("network_inspect", json!({"target": target})),
            ("target_inspect", json!({"target": target})),
            (
                "service_control",
                json!({"target": target, "unit": "x.service", "action": "restart", "reason": "a test"}),
            ),
            ("file_read", json!({"target": target, "path": "/var/log/x"})),
            (
                "package_change",
                json!({"target": target, "action": "install", "packages": [{"name": "curl"}], "reason": "a test"}),
            ),
        ]);
    }
    calls
}

/// Two tenants whose second target offers little and whose first engagement lacks a tool.
static SITE: LazyLock<(Config, Rules)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::development(folder.path().join("data"), "127.0.0.1:0".parse().unwrap());
    two_tenants(&mut config);
    config.targets[1].capabilities = ScopeSet::new([Scope::SystemRead, Scope::FileRead]);
    let tools = tools::ALL.iter().map(|tool| tool.spec().name.to_owned()).filter(|name| name != "network_inspect");
    config.engagements[0].tools = Some(tools.collect());
    let rules = rules(&config, Vec::new(), Timestamp::now()).unwrap();
    (config, rules)
});

fn verdict(
    rules: &Rules,
    peer: &Peer,
    token: &Claims,
    tool: &str,
    arguments: &Map<String, Value>,
) -> (Verdict, Vec<Scope>) {
    let context = PlanContext {
        token: &token.jti,
        engagement: &token.engagement,
        registry: &rules.registry,
        probe: &rules.probe,
        paths: None,
        files: &rules.files,
        now: token.issued,
    };
    let operation =
        tools::find(tool).unwrap().plan(arguments, &context).unwrap_or_else(|error| panic!("{tool}: {error:?}"));
    (rules.policy.judge(peer, token, &operation, token.issued).verdict(), operation.scopes.to_vec())
}

/// Whether some of `given` implies `scope`, by the tree as it is written down for people.
fn has(given: &[String], scope: Scope) -> bool {
    given.iter().any(|one| reachable(one).contains(scope.as_str()))
}

fn names(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// The decision is the intersection of all who have a say, each asked by itself and none by the code under test.
    #[test]
    fn a_decision_is_the_intersection(
        held in prop::collection::vec(prop::sample::select(Scope::ALL), 1..4),
        wide in any::<bool>(),
        limited in prop::option::of(prop::sample::select(vec!["local", "another"])),
        granted in prop::option::weighted(0.9, prop::collection::vec(any_rule(), 0..4)),
        call in prop::sample::select(calls()),
    ) {
        let (config, rules) = &*SITE;
        let (tool, arguments) = call;
        let held: Vec<String> = if wide { vec!["admin".to_owned()] } else { held.iter().map(|scope| scope.to_string()).collect() };
        let granting = match &granted {
            None => Grants::Unrestricted,
            Some(rules) if rules.is_empty() => Grants::Rules(Vec::new()),
            Some(rules) => grants(json!(rules)),
        };
        let peer = tailnet_peer("n1", "laptop", Behind::User(ALICE), granting, "100.64.0.7:1");
        let now = Timestamp::now();
        let engagement = EngagementId::from("default");
        let token = Claims {
            jti: "x".into(), subject: "agent".to_owned(), owner: "tester".to_owned(),
            scopes: ScopeSet::parse(&held.join(",")).unwrap(), engagement: engagement.clone(),
            targets: limited.map(|id| BTreeSet::from([id.into()])), tools: None, paths: None,
            issued: now, expires: now, binding: Binding::User(ALICE.to_owned()),
        };
        let (verdict, needed) = verdict(rules, &peer, &token, tool, arguments.as_object().unwrap());
        let target = arguments["target"].as_str();
        let of_token = needed.iter().all(|scope| has(&held, *scope))
            && target.is_none_or(|target| limited.is_none_or(|only| only == target));
        let of_grants = granted.is_none_or(|rules| {
            let here: Vec<&Value> =
                rules.iter().filter(|rule| rule.get("engagements").is_none_or(|list| names(list).contains(&"default".to_owned()))).collect();
            let on_target = |rule: &Value| target.is_none_or(|target| rule.get("targets").is_none_or(|list| names(list).contains(&target.to_owned())));
            !here.is_empty() && needed.iter().all(|scope| here.iter().any(|rule| has(&names(&rule["scopes"]), *scope) && on_target(rule)))
        });
        let of_engagement = tool != "network_inspect";
        let of_target = target.is_none_or(|target| {
            let target = config.targets.iter().find(|known| known.id.as_str() == target).unwrap();
            let offered: Vec<String> = target.capabilities.granted().map(|scope| scope.to_string()).collect();
            needed.iter().all(|scope| matches!(scope, Scope::FleetRead | Scope::SecurityRead) || has(&offered, *scope))
        });
        let wanted = of_token && of_grants && of_engagement && of_target;
        prop_assert_eq!(verdict != Verdict::Deny, wanted, "{} {} token {:?} peer {:?}", tool, arguments, held, peer.grants);
    }
}

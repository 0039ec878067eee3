//! Approvals through the tools, over the whole gateway: whose word does not count, what a yes is good for, and what of the
//! world and of the call it is held to.

use std::{fs, num::NonZeroU32, os::unix::fs::PermissionsExt, time::Duration};

use serde_json::{Value, json};
use tailops::{
    config::{Config, Engagement},
    tailnet::Peer,
};

use crate::harness::{ALICE, Answer, Behind, Gateway, Grant, grants, modern_era, peer_of, records, tailnet_peer};

const BOB: u32 = 4002;
const CAROL: u32 = 4003;

/// Bob may approve, and nobody else.
fn with_bob(config: &mut Config) {
    config.approvals.approvers.insert("bob".to_owned());
    let many = NonZeroU32::new(1000).unwrap();
    (config.limits.critical_per_hour, config.approvals.max_pending_per_token) = (many, many);
}

fn person(name: &str, uid: u32) -> Peer {
    peer_of(uid, name, "127.0.0.1:1".parse().unwrap())
}

/// A gateway and the tokens of the agent, which works from alice's connection, and of bob.
async fn gateway(adjust: impl FnOnce(&mut Config)) -> (Gateway, String, String) {
    let gateway = Gateway::with(|config| {
        with_bob(config);
        adjust(config);
    })
    .await;
    let agent = gateway.admin().await;
    let bob = gateway.mint(decider("bob", BOB)).await;
    (gateway, agent, bob)
}

fn decider(name: &str, uid: u32) -> Grant {
    Grant { subject: name.to_owned(), uid, ..Grant::scopes("approval:decide,approval:read") }
}

/// A call over a new connection, whose other end is `peer`.
async fn as_peer(gateway: &mut Gateway, peer: Peer, token: &str, tool: &str, arguments: Value) -> Answer {
    gateway.visited_by(peer);
    gateway.call(token, tool, arguments).await
}

async fn as_agent(gateway: &mut Gateway, token: &str, tool: &str, arguments: Value) -> Answer {
    as_peer(gateway, person("alice", ALICE), token, tool, arguments).await
}

async fn as_bob(gateway: &mut Gateway, token: &str, tool: &str, arguments: Value) -> Answer {
    as_peer(gateway, person("bob", BOB), token, tool, arguments).await
}

/// Writes `name` and says how to delete it.
fn deletion(gateway: &Gateway, name: &str) -> Value {
    let path = gateway.config.data_dir.join("files").join(name);
    fs::write(&path, "content").unwrap();
    json!({"target": "local", "path": path, "dry_run": false, "reason": "a test of approvals"})
}

fn exists(gateway: &Gateway, name: &str) -> bool {
    gateway.config.data_dir.join("files").join(name).exists()
}

/// The call that `asked` waits for.
fn again(call: &Value, asked: &Answer) -> Value {
    let mut call = call.clone();
    call["approval_id"] = asked.content()["approval_id"].clone();
    call
}

#[track_caller]
fn asked(answer: Answer) -> Answer {
    assert_eq!((answer.code(), answer.is_error()), ("approval_required", true), "{}", answer.body);
    answer
}

/// What somebody says to `asked`.
fn word(decision: &str, asked: &Answer) -> Value {
    let content = asked.content();
    json!({
        "id": content["approval_id"], "operation_hash": content["operation_hash"], "decision": decision,
        "comment": "looked at it",
    })
}

/// How often `tool` was begun on somebody's yes: asking leaves an intent too, but an unapproved one.
async fn begun(gateway: &Gateway, tool: &str) -> usize {
    let leaves = records(gateway.store(), true).await;
    let of_tool = leaves.iter().filter(|leaf| leaf["kind"] == "intent" && leaf["tool"] == tool);
    of_tool.filter(|leaf| leaf["approved"] == true).count()
}

#[tokio::test]
async fn words_that_do_not_count() {
    let (mut gateway, agent, bob) = gateway(|config| {
        config.engagements.push(Engagement { id: "other".into(), tools: None, data_root: None });
    })
    .await;
    let call = deletion(&gateway, "a.txt");
    let question = asked(as_agent(&mut gateway, &agent, "file_delete", call.clone()).await);
    let yes = word("approve", &question);

    // Admin is no right to decide.
    let refused = as_agent(&mut gateway, &agent, "approval_decide", yes.clone()).await;
    assert_eq!(refused.code(), "insufficient_scope");
    // Nor is asking.
    let own = gateway.mint(decider("alice", ALICE)).await;
    let refused = as_agent(&mut gateway, &own, "approval_decide", yes.clone()).await;
    assert_eq!(refused.code(), "own_request", "{}", refused.body);
    // Somebody whom nothing names does not learn that there is a question.
    let carol = gateway.mint(decider("carol", CAROL)).await;
    let refused = as_peer(&mut gateway, person("carol", CAROL), &carol, "approval_decide", yes.clone()).await;
    assert_eq!(refused.code(), "approval_unknown", "{}", refused.body);
    // Somebody else's connection with bob's token is not bob.
    let refused = as_peer(&mut gateway, person("carol", CAROL), &bob, "approval_decide", yes.clone()).await;
    assert_eq!(refused.code(), "token_unexpected_source", "{}", refused.body);
    // The tenant comes from the token.
    let elsewhere = Grant { engagement: "other".to_owned(), ..decider("bob", BOB) };
    let elsewhere = gateway.mint(elsewhere).await;
    let refused = as_bob(&mut gateway, &elsewhere, "approval_decide", yes.clone()).await;
    assert_eq!(refused.code(), "approval_unknown", "{}", refused.body);
    let other = as_bob(&mut gateway, &elsewhere, "approval_list", json!({"mine": false})).await;
    assert_eq!(other.data()["approvals"], json!([]));
    // Another hash than that of the question.
    let mut other = yes.clone();
    other["operation_hash"] = json!("0".repeat(64));
    assert_eq!(as_bob(&mut gateway, &bob, "approval_decide", other).await.code(), "operation_changed");
    let mut none = yes.clone();
    none["id"] = json!("0000-0000-0000");
    assert_eq!(as_bob(&mut gateway, &bob, "approval_decide", none).await.code(), "approval_unknown");

    let refused = as_agent(&mut gateway, &agent, "file_delete", again(&call, &question)).await;
    assert_eq!(refused.code(), "approval_pending", "{}", refused.body);
    assert!(exists(&gateway, "a.txt"));
    assert_eq!(begun(&gateway, "file_delete").await, 0);
    gateway.stop().await;
}

#[tokio::test]
async fn a_tagged_node_neither_decides_nor_sees_that_one_could() {
    let (mut gateway, ..) = gateway(|_| {}).await;
    let tagged = || {
        let all = grants(json!([{"scopes": ["admin", "approval:decide"], "approve": true}]));
        tailnet_peer("n9", "robot", Behind::Tags(&["tag:agent"]), all, "100.64.0.9:1")
    };
    // Its daemon calls it somebody's, and its token was stolen from a person: no difference.
    let mut posing = tagged();
    posing.user = Some("bob@example.org".to_owned());
    let token = gateway.mint(Grant::bound("approval:decide,approval:read", "user:bob@example.org")).await;
    for peer in [tagged(), posing] {
        let wish = json!({"id": "ab12", "decision": "approve", "operation_hash": "0".repeat(64), "comment": "yes"});
        let refused = as_peer(&mut gateway, peer, &token, "approval_decide", wish).await;
        assert_eq!((refused.status, refused.code()), (403, "token_unexpected_source"), "{}", refused.body);
    }
    // A person sees the tool; an agent with every other scope does not.
    let human = tailnet_peer(
        "n1",
        "laptop",
        Behind::User("bob@example.org"),
        grants(json!([{"scopes": ["approval:decide", "approval:read"], "approve": true}])),
        "100.64.0.7:1",
    );
    for (peer, token, sees) in
        [(human, token, true), (tagged(), gateway.mint(Grant::bound("admin", "tag:agent")).await, false)]
    {
        gateway.visited_by(peer);
        let client = gateway.client(&token, modern_era()).await;
        let tools = client.list_all_tools().await.unwrap();
        assert_eq!(tools.iter().any(|tool| tool.name == "approval_decide"), sees);
        assert!(tools.iter().any(|tool| tool.name == "approval_list"));
        client.cancel().await.unwrap();
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_yes_is_good_for_one_run_and_everybody_can_follow_it() {
    let (mut gateway, agent, bob) = gateway(|_| {}).await;
    let call = deletion(&gateway, "a.txt");
    let question = asked(as_agent(&mut gateway, &agent, "file_delete", call.clone()).await);
    assert!(exists(&gateway, "a.txt"));
    let own = as_agent(&mut gateway, &agent, "approval_list", json!({})).await.data()["approvals"].clone();
    assert_eq!((&own[0]["state"], &own[0]["mine"], &own[0]["votes"]), (&json!("pending"), &json!(true), &json!([])));
    assert_eq!(own[0]["arguments"]["path"], call["path"]);
    assert_eq!(own[0]["operation_hash"], question.content()["operation_hash"]);

    let seen = as_bob(&mut gateway, &bob, "approval_list", json!({})).await;
    assert_eq!(seen.data()["approvals"], json!([]), "bob's token asked for nothing");
    let seen = as_bob(&mut gateway, &bob, "approval_list", json!({"mine": false})).await.data()["approvals"].clone();
    assert_eq!((&seen[0]["id"], &seen[0]["arguments"]), (&own[0]["id"], &Value::Null));
    assert!(!seen.to_string().contains("a.txt"), "{seen}");

    let decided = as_bob(&mut gateway, &bob, "approval_decide", word("approve", &question)).await;
    assert_eq!(decided.data()["approval"]["state"], "approved");
    let twice = as_bob(&mut gateway, &bob, "approval_decide", word("approve", &question)).await;
    assert_eq!(twice.code(), "already_decided");
    let waiting = json!({"state": "approved"});
    let listed = as_agent(&mut gateway, &agent, "approval_list", waiting).await.data()["approvals"].clone();
    assert_eq!((&listed[0]["votes"][0]["login"], &listed[0]["votes"][0]["vote"]), (&json!("bob"), &json!("approve")));
    assert_eq!(listed[0]["votes"][0]["comment"], "looked at it");
    let others = as_bob(&mut gateway, &bob, "approval_list", json!({"mine": false})).await.data()["approvals"].clone();
    assert_eq!((&others[0]["votes"][0]["login"], &others[0]["votes"][0]["comment"]), (&json!("bob"), &Value::Null));

    let ran = as_agent(&mut gateway, &agent, "file_delete", again(&call, &question)).await;
    assert!(ran.data()["trash"].is_string());
    assert!(!exists(&gateway, "a.txt"));
    fs::write(call["path"].as_str().unwrap(), "content").unwrap();
    let replayed = as_agent(&mut gateway, &agent, "file_delete", again(&call, &question)).await;
    assert_eq!(replayed.code(), "approval_used", "{}", replayed.body);
    assert!(exists(&gateway, "a.txt"));
    assert_eq!(begun(&gateway, "file_delete").await, 1);
    let one = json!({"id": question.content()["approval_id"]});
    let listed = as_agent(&mut gateway, &agent, "approval_list", one).await.data()["approvals"].clone();
    assert_eq!(listed[0]["state"], "used");
    gateway.stop().await;
}

#[tokio::test]
async fn a_no_ends_it_and_so_does_time() {
    let (mut gateway, agent, bob) = gateway(|_| {}).await;
    let call = deletion(&gateway, "a.txt");
    let denied = asked(as_agent(&mut gateway, &agent, "file_delete", call.clone()).await);
    let decided = as_bob(&mut gateway, &bob, "approval_decide", word("deny", &denied)).await;
    assert_eq!(decided.data()["approval"]["state"], "denied");
    let refused = as_agent(&mut gateway, &agent, "file_delete", again(&call, &denied)).await;
    assert_eq!(refused.code(), "approval_denied");
    let late = asked(as_agent(&mut gateway, &agent, "file_delete", call.clone()).await);
    gateway.clock.advance(Duration::from_secs(901));
    let expired = as_bob(&mut gateway, &bob, "approval_decide", word("approve", &late)).await;
    assert_eq!(expired.code(), "approval_expired");
    let refused = as_agent(&mut gateway, &agent, "file_delete", again(&call, &late)).await;
    assert_eq!(refused.code(), "approval_expired");
    for (state, id) in [("denied", &denied), ("expired", &late)] {
        let listed = as_agent(&mut gateway, &agent, "approval_list", json!({"state": state})).await;
        let listed = &listed.data()["approvals"];
        assert_eq!((&listed[0]["id"], listed.as_array().unwrap().len()), (&id.content()["approval_id"], 1), "{state}");
    }
    assert!(exists(&gateway, "a.txt"));
    gateway.stop().await;
}

#[tokio::test]
async fn pages_neither_repeat_nor_lose_questions() {
    let (mut gateway, agent, _) = gateway(|_| {}).await;
    let mut ids = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        let call = deletion(&gateway, name);
        ids.push(asked(as_agent(&mut gateway, &agent, "file_delete", call).await).content()["approval_id"].clone());
        gateway.clock.advance(Duration::from_secs(1));
    }
    ids.reverse();
    let (mut seen, mut page) = (Vec::new(), json!({"limit": 2}));
    loop {
        let answer = gateway.call(&agent, "approval_list", page.clone()).await;
        let listed = answer.data()["approvals"].as_array().unwrap().clone();
        assert!(listed.len() <= 2);
        seen.extend(listed.iter().map(|one| one["id"].clone()));
        let Some(next) = answer.content().get("next_cursor").cloned() else { break };
        page["cursor"] = next;
    }
    assert_eq!(seen, ids);
    gateway.stop().await;
}

#[tokio::test]
async fn another_call_or_another_world_is_refused_by_name() {
    let (mut gateway, agent, bob) = gateway(|_| {}).await;
    let call = deletion(&gateway, "a.txt");
    let path = gateway.config.data_dir.join("files/a.txt");
    let question = asked(as_agent(&mut gateway, &agent, "file_delete", call.clone()).await);
    as_bob(&mut gateway, &bob, "approval_decide", word("approve", &question)).await.data();

    let mut altered = again(&call, &question);
    altered["reason"] = json!("another reason");
    let mut elsewhere = again(&deletion(&gateway, "b.txt"), &question);
    elsewhere["approval_id"] = question.content()["approval_id"].clone();
    for (wish, names) in [(altered, "reason"), (elsewhere, "arguments.path")] {
        let refused = as_agent(&mut gateway, &agent, "file_delete", wish).await;
        let message = refused.content()["message"].as_str().unwrap();
        assert!(refused.code() == "approval_changed" && message.contains(names), "{message}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let refused = as_agent(&mut gateway, &agent, "file_delete", again(&call, &question)).await;
    let message = refused.content()["message"].as_str().unwrap();
    assert!(refused.code() == "approval_changed" && message.contains("world.mode"), "{message}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, "CONTENT").unwrap();
    let refused = as_agent(&mut gateway, &agent, "file_delete", again(&call, &question)).await;
    let message = refused.content()["message"].as_str().unwrap();
    assert!(refused.code() == "approval_changed" && message.contains("arguments.expect_sha256"), "{message}");
    // Another token of the same agent did not ask.
    let other = gateway.admin().await;
    let refused = as_agent(&mut gateway, &other, "file_delete", again(&call, &question)).await;
    assert_eq!(refused.code(), "approval_unknown");
    assert_eq!(begun(&gateway, "file_delete").await, 0);
    // Nothing of this used it up.
    fs::write(&path, "content").unwrap();
    as_agent(&mut gateway, &agent, "file_delete", again(&call, &question)).await.data();
    gateway.stop().await;
}

#[tokio::test]
async fn an_approval_id_that_is_none_is_refused_everywhere() {
    let (mut gateway, agent, _) = gateway(|_| {}).await;
    for id in [json!(7), json!(""), json!(null), json!({"id": "a"}), json!("x".repeat(65))] {
        let refused = as_agent(&mut gateway, &agent, "token_inspect", json!({"approval_id": id})).await;
        let message = refused.content()["message"].as_str().unwrap();
        assert!(refused.code() == "invalid_arguments" && message.contains("approval_id"), "{message}");
    }
    // Where nothing asks, an approval changes nothing.
    as_agent(&mut gateway, &agent, "token_inspect", json!({"approval_id": "ab12-cd34"})).await.data();
    gateway.stop().await;
}

/// Puts `text` into force.
fn site(config: &mut Config, text: &str) {
    let directory = config.data_dir.parent().unwrap().join("policy");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("site.cedar"), text).unwrap();
    config.policy.directory = Some(directory);
}

#[tokio::test]
async fn no_decision_waits_for_another() {
    let all = "@id(\"all\") @ask(\"two eyes\") forbid (principal, action, resource) unless { context.approved };";
    let (mut gateway, agent, bob) = gateway(|config| site(config, all)).await;
    let question = asked(as_agent(&mut gateway, &agent, "token_inspect", json!({})).await);
    let refused = as_bob(&mut gateway, &bob, "approval_decide", word("approve", &question)).await;
    assert_eq!(refused.code(), "site_policy_denied", "{}", refused.body);
    assert!(refused.content()["message"].as_str().unwrap().contains("no decision waits"), "{}", refused.body);
    gateway.stop().await;
}

/// What site policy asks about besides: a search that counts back from now runs as it was asked, and a write where nothing
/// was.
#[tokio::test]
async fn what_counts_back_from_now_means_what_it_meant() {
    let some = "@id(\"some\") @ask(\"private\") forbid (principal, action in [Action::\"file_search\", Action::\"file_write\"], \
                resource) unless { context.approved };";
    let (mut gateway, agent, bob) = gateway(|config| site(config, some)).await;
    let root = gateway.config.data_dir.join("files");
    fs::write(root.join("new.txt"), "x").unwrap();
    let search = json!({"target": "local", "root": root, "newer_than": "1h"});
    let question = asked(as_agent(&mut gateway, &agent, "file_search", search.clone()).await);
    as_bob(&mut gateway, &bob, "approval_decide", word("approve", &question)).await.data();
    gateway.clock.advance(Duration::from_secs(600));
    let found = as_agent(&mut gateway, &agent, "file_search", again(&search, &question)).await;
    assert_eq!(found.data()["entries"].as_array().unwrap().len(), 1, "{}", found.body);

    let write = json!({"target": "local", "path": root.join("made.txt"), "content": "made", "reason": "a test"});
    let question = asked(as_agent(&mut gateway, &agent, "file_write", write.clone()).await);
    as_bob(&mut gateway, &bob, "approval_decide", word("approve", &question)).await.data();
    let mut other = again(&write, &question);
    other["content"] = json!("MADE");
    assert_eq!(as_agent(&mut gateway, &agent, "file_write", other).await.code(), "approval_changed");
    fs::write(root.join("made.txt"), "somebody else's").unwrap();
    let refused = as_agent(&mut gateway, &agent, "file_write", again(&write, &question)).await;
    assert_eq!(refused.code(), "approval_changed", "{}", refused.body);
    fs::remove_file(root.join("made.txt")).unwrap();
    as_agent(&mut gateway, &agent, "file_write", again(&write, &question)).await.data();
    assert_eq!(fs::read_to_string(root.join("made.txt")).unwrap(), "made");
    gateway.stop().await;
}

#[tokio::test]
async fn nobody_is_asked_about_what_needs_no_yes_once_it_says_more() {
    let named = "@id(\"named\") @ask(\"say what you replace\") forbid (principal, action == Action::\"file_write\", resource) \
                 unless { context.approved || context.args has expect_sha256 };";
    let (mut gateway, agent, _) = gateway(|config| site(config, named)).await;
    let path = gateway.config.data_dir.join("files/made.txt");
    let mut write = json!({"target": "local", "path": path, "content": "made", "reason": "a test"});
    let refused = as_agent(&mut gateway, &agent, "file_write", write.clone()).await;
    let message = refused.content()["message"].as_str().unwrap();
    assert!(refused.code() == "precondition_failed" && message.contains("expect_sha256"), "{message}");
    assert!(!path.exists());
    write["expect_sha256"] = json!("absent");
    as_agent(&mut gateway, &agent, "file_write", write).await.data();
    gateway.stop().await;
}

#[tokio::test]
async fn nobody_is_asked_about_what_would_be_refused() {
    let (mut gateway, agent, _) = gateway(|_| {}).await;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let other = if boot.starts_with('0') { boot.replacen('0', "1", 1) } else { format!("0{}", &boot[1..]) };
    let reboot = json!({"target": "local", "action": "reboot", "boot_id": other.trim(), "dry_run": false,
        "reason": "a test of approvals"});
    let refused = as_agent(&mut gateway, &agent, "host_power_control", reboot).await;
    assert_eq!(refused.code(), "precondition_failed", "{}", refused.body);
    let listed = as_agent(&mut gateway, &agent, "approval_list", json!({})).await;
    assert_eq!(listed.data()["approvals"], json!([]));
    gateway.stop().await;
}

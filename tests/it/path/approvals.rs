//! From the question to the run, through the whole gateway: what is refused in between, what runs once, what a restart
//! and a clock leave of it, and what is on record.

use std::{fs, time::Duration};

use serde_json::{Value, json};
use tailops::{config::Config, model::Clock};

use crate::{
    child::{log_of, open_intents},
    harness::{Answer, Behind, Gateway, Grant, eventually, grants, records},
    people::{People, Visitor},
};

/// A gateway on a tailnet, with an agent there and a file that the agent wants to delete.
struct Scene {
    gateway: Gateway,
    people: People,
    agent: Visitor,
    bob: Visitor,
    token: String,
}

impl Scene {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(adjust: impl FnOnce(&mut Config)) -> Self {
        Self::on(Gateway::with(adjust).await).await
    }

    async fn on(gateway: Gateway) -> Self {
        let people = People::of(&gateway);
        let (agent, bob) = (people.agent("agent"), people.approver("bob", json!(true)));
        let token = gateway.mint(Grant::bound("admin", "tag:mcp-client")).await;
        fs::write(gateway.config.data_dir.join("files/old.log"), "old\n").unwrap();
        Self { gateway, people, agent, bob, token }
    }

    /// The path of `name` among the files of the host.
    fn file(&self, name: &str) -> String {
        self.gateway.config.data_dir.join("files").join(name).to_str().unwrap().to_owned()
    }

    fn is_there(&self) -> bool {
        fs::exists(self.file("old.log")).unwrap()
    }

    fn wish(&self) -> Value {
        json!({"target": "local", "path": self.file("old.log"), "dry_run": false, "reason": "a test of approvals"})
    }

    fn with_approval(&self, id: &str) -> Value {
        let mut wish = self.wish();
        wish["approval_id"] = json!(id);
        wish
    }

    async fn asked(&self) -> (String, Answer) {
        let answer = self.agent.call(&self.token, "file_delete", self.wish()).await;
        assert_eq!(answer.code(), "approval_required", "{answer:?}");
        (answer.content()["approval_id"].as_str().unwrap().to_owned(), answer)
    }

    /// The agent's call with the approval `id`.
    async fn run(&self, id: &str) -> Answer {
        self.agent.call(&self.token, "file_delete", self.with_approval(id)).await
    }

    /// Asks, and lets bob agree.
    async fn agreed(&self) -> String {
        let (id, _) = self.asked().await;
        let answer = self.bob.decide(&id, "approve").await;
        assert_eq!((answer.status, &answer.body["state"]), (200, &json!("approved")), "{answer:?}");
        id
    }

    async fn refused(&self, id: &str, code: &str) {
        let answer = self.run(id).await;
        assert_eq!(answer.code(), code, "{answer:?}");
        assert!(self.is_there(), "{code}: it ran");
        let records = self.gateway.records_of(&answer).await;
        assert_eq!(records.len(), 1, "{records:?}");
        let facts = [&records[0]["approved"], &records[0]["result_status"], &records[0]["approval"]["id"]];
        assert_eq!(facts, [&json!(false), &json!("error"), &json!(id)], "{records:?}");
    }

    /// Every leaf of this approval, oldest first.
    async fn leaves(&self, id: &str) -> Vec<Value> {
        let leaves = records(self.gateway.store(), true).await;
        leaves.into_iter().filter(|leaf| leaf["approval"]["id"] == id).collect()
    }
}

#[tokio::test]
async fn p36_a_question_changes_nothing_and_only_a_yes_lets_it_run() {
    let scene = Scene::new().await;
    let (id, answer) = scene.asked().await;
    assert!(scene.is_there());
    let content = answer.content();
    assert_eq!(content["operation_hash"].as_str().unwrap().len(), 64);
    assert!(content["hint"].as_str().unwrap().contains("approval_id"), "{content}");
    let record = &scene.gateway.records_of(&answer).await[0];
    assert_eq!((&record["status"], &record["result_status"]), (&json!("asked"), &json!("pending")), "{record}");
    assert_eq!((&record["approved"], &record["approval"]["id"]), (&json!(false), &json!(id)));
    scene.refused(&id, "approval_pending").await;
    scene.refused("none-such-here", "approval_unknown").await;
    scene.bob.decide(&id, "approve").await;
    scene.run(&id).await.data();
    assert!(!scene.is_there());
    scene.gateway.stop().await;
}

#[tokio::test]
async fn p39_no_argument_says_yes() {
    let scene = Scene::new().await;
    for (name, value) in [
        ("auto_approve", json!(true)),
        ("approved", json!(true)),
        ("approval", json!("yes")),
        ("approval_id", json!(true)),
        ("approval_id", json!("../x")),
        ("approval_id", Value::Null),
    ] {
        let mut wish = scene.wish();
        wish[name] = value;
        let answer = scene.agent.call(&scene.token, "file_delete", wish).await;
        assert_eq!(answer.code(), "invalid_arguments", "{name}: {answer:?}");
        assert!(answer.content()["message"].as_str().unwrap().contains(name), "{answer:?}");
        assert!(scene.is_there());
    }
    scene.gateway.stop().await;
}

#[tokio::test]
async fn p40_an_approval_is_for_its_own_caller_alone() {
    let scene = Scene::new().await;
    let id = scene.agreed().await;
    let thief = scene.people.agent("thief");
    let other_token = scene.gateway.mint(Grant::bound("admin", "tag:mcp-client")).await;
    for (visitor, token) in [(&thief, &scene.token), (&thief, &other_token), (&scene.agent, &other_token)] {
        let answer = visitor.call(token, "file_delete", scene.with_approval(&id)).await;
        assert_eq!(answer.code(), "approval_unknown", "{answer:?}");
    }
    scene.gateway.store().revoke_tokens(None, scene.gateway.clock.now(), "tester").await.unwrap();
    let looks = async || scene.agent.call(&scene.token, "token_inspect", json!({})).await;
    eventually("the token is revoked", async || looks().await.code() == "token_revoked").await;
    assert_eq!(scene.run(&id).await.code(), "token_revoked");
    assert!(scene.is_there());
    scene.gateway.stop().await;
}

#[tokio::test]
async fn p40_an_approval_is_for_exactly_what_people_saw() {
    let scene = Scene::new().await;
    let id = scene.agreed().await;
    fs::write(scene.file("other.log"), "other\n").unwrap();
    let altered =
        [("path", json!(scene.file("other.log")), "arguments.path"), ("reason", json!("another reason"), "reason")];
    for (name, value, differs) in altered {
        let mut wish = scene.with_approval(&id);
        wish[name] = value;
        let answer = scene.agent.call(&scene.token, "file_delete", wish).await;
        assert_eq!(answer.code(), "approval_changed", "{name}: {answer:?}");
        assert!(answer.content()["message"].as_str().unwrap().contains(differs), "{answer:?}");
    }
    let write = json!({"target": "local", "path": scene.file("old.log"), "content": "x", "reason": "a test",
        "approval_id": id});
    // What needs no approval takes none along.
    let before = fs::read(scene.file("old.log")).unwrap();
    scene.agent.call(&scene.token, "file_write", write).await.data();
    assert_ne!(fs::read(scene.file("old.log")).unwrap(), before);
    // And now the world is another one than people saw.
    let answer = scene.run(&id).await;
    assert_eq!(answer.code(), "approval_changed", "{answer:?}");
    assert!(answer.content()["message"].as_str().unwrap().contains("expect_sha256"), "{answer:?}");
    assert!(scene.is_there() && fs::exists(scene.file("other.log")).unwrap());
    // As it was again, it is what they saw.
    fs::write(scene.file("old.log"), before).unwrap();
    scene.run(&id).await.data();
    scene.gateway.stop().await;
}

#[tokio::test]
async fn a_right_that_is_gone_a_no_and_the_time_stop_it() {
    let scene = Scene::new().await;
    let id = scene.agreed().await;
    let rules = grants(json!([{"scopes": ["readonly"]}]));
    let before = grants(json!([{"scopes": ["readonly"], "approve": true}]));
    scene.bob.becomes(|peer| peer.grants = rules);
    scene.refused(&id, "approval_pending").await;
    scene.bob.becomes(|peer| (peer.tags, peer.user) = (vec!["tag:x".to_owned()], None));
    scene.refused(&id, "approval_pending").await;
    scene
        .bob
        .becomes(|peer| (peer.tags, peer.user, peer.grants) = (Vec::new(), Some("bob@example.com".into()), before));
    assert_eq!(scene.bob.decide(&id, "deny").await.body["state"], "denied");
    scene.refused(&id, "approval_denied").await;
    assert_eq!(scene.bob.decide(&id, "approve").await.body["code"], "approval_denied");

    let id = scene.agreed().await;
    scene.gateway.clock.advance(Duration::from_secs(15 * 60 + 1));
    eventually("it has expired on record", async || {
        scene.leaves(&id).await.iter().any(|leaf| leaf["tool"] == "approval.expired")
    })
    .await;
    scene.refused(&id, "approval_expired").await;
    assert_eq!(scene.bob.get(&format!("/api/v1/approvals/{id}")).await.body["state"], "expired");
    scene.gateway.stop().await;
}

#[tokio::test]
async fn two_calls_race_and_one_runs() {
    let scene = Scene::new().await;
    for _ in 0..3 {
        fs::write(scene.file("old.log"), "old\n").unwrap();
        let id = scene.agreed().await;
        let (one, two, three) = tokio::join!(scene.run(&id), scene.run(&id), scene.run(&id));
        let answers = [one, two, three];
        assert_eq!(answers.iter().filter(|answer| !answer.is_error()).count(), 1, "{answers:?}");
        // A late one finds the file gone already.
        let codes: Vec<&str> = answers.iter().map(Answer::code).filter(|code| !code.is_empty()).collect();
        assert!(codes.iter().all(|code| ["approval_used", "not_found"].contains(code)), "{codes:?}");
        let runs = scene.leaves(&id).await;
        let ran = |leaf: &&Value| leaf["kind"] == "outcome" && leaf["approved"] == true;
        assert_eq!(runs.iter().filter(ran).count(), 1, "{runs:#?}");
        assert_eq!(scene.run(&id).await.code(), "approval_used");
    }
    scene.gateway.stop().await;
}

const TWO: &str = "@id(\"two-people\") @ask(\"two look\") @approvers(\"2\")
forbid (principal, action == Action::\"file_delete\", resource) unless { context.approved };";

#[tokio::test]
async fn two_different_people_have_to_agree_where_policy_says_so() {
    let scene = Scene::with(|config| {
        let directory = config.data_dir.parent().unwrap().join("policy");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("site.cedar"), TWO).unwrap();
        config.policy.directory = Some(directory);
    })
    .await;
    let alone = scene.agent.call(&scene.token, "file_delete", scene.wish()).await;
    assert_eq!(alone.code(), "approval_unavailable", "there is only one who could: {alone:?}");
    let carol = scene.people.approver("carol", json!({"risks": ["critical"]}));
    let (id, _) = scene.asked().await;
    let rules = grants(json!([{"scopes": ["readonly"], "approve": true}]));
    let phone = scene.people.join("phone", Behind::User("bob@example.com"), rules);
    assert_eq!(scene.bob.decide(&id, "approve").await.body["state"], "pending");
    assert_eq!(phone.decide(&id, "approve").await.code(), "already_decided");
    scene.refused(&id, "approval_pending").await;
    assert_eq!(carol.decide(&id, "approve").await.body["state"], "approved");
    let answer = scene.run(&id).await;
    answer.data();
    let record = &scene.gateway.records_of(&answer).await[0];
    let logins: Vec<&Value> =
        record["approval"]["approvers"].as_array().unwrap().iter().map(|approver| &approver["login"]).collect();
    assert_eq!(logins, ["bob@example.com", "carol@example.com"]);
    scene.gateway.stop().await;
}

#[tokio::test]
async fn p37_without_anybody_who_could_agree_it_is_refused_at_once() {
    let scene = Scene::new().await;
    scene.bob.becomes(|peer| peer.grants = grants(json!([{"scopes": ["admin"]}])));
    let answer = scene.agent.call(&scene.token, "file_delete", scene.wish()).await;
    assert_eq!(answer.code(), "approval_unavailable", "{answer:?}");
    let record = &scene.gateway.records_of(&answer).await[0];
    assert_eq!((&record["exec"], &record["approved"]), (&Value::Null, &json!(false)), "nothing ran for it: {record}");
    // Who asks is nobody else, whatever right they have.
    scene.bob.becomes(|peer| peer.grants = grants(json!([{"scopes": ["admin"], "approve": true}])));
    let own = scene.gateway.mint(Grant::bound("admin", "user:bob@example.com")).await;
    assert_eq!(scene.bob.call(&own, "file_delete", scene.wish()).await.code(), "approval_unavailable");
    assert!(scene.is_there());
    scene.gateway.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_what_waits_and_a_clock_that_was_set_back_revives_nothing() {
    let scene = Scene::new().await;
    let (waits, over) = (scene.agreed().await, scene.agreed().await);
    let (token, directory) = (scene.token.clone(), scene.gateway.config.data_dir.clone());
    let restarted = async |scene: Scene| {
        let Scene { gateway, token, .. } = scene;
        let (directory, config) = gateway.stop().await;
        let gateway = Gateway::on(directory, config).await;
        let people = People::of(&gateway);
        let (agent, bob) = (people.agent("agent"), people.approver("bob", json!(true)));
        Scene { gateway, people, agent, bob, token }
    };
    let scene = restarted(scene).await;
    assert_eq!((&scene.token, &scene.gateway.config.data_dir), (&token, &directory));
    scene.run(&waits).await.data();
    fs::write(scene.file("old.log"), "old\n").unwrap();

    // The harness starts every gateway with its clock where the machine's is: after this one, it is set back.
    scene.gateway.clock.advance(Duration::from_secs(15 * 60 + 1));
    eventually("it has expired", async || scene.run(&over).await.code() == "approval_expired").await;
    let ahead = scene.agreed().await;
    let scene = restarted(scene).await;
    scene.refused(&over, "approval_expired").await;
    // What was asked by the clock that was ahead is open for its own time, and not for longer.
    let view = scene.bob.get(&format!("/api/v1/approvals/{ahead}")).await;
    assert_eq!(view.body["state"], "approved", "{view:?}");
    scene.gateway.clock.advance(Duration::from_secs(31 * 60));
    scene.refused(&ahead, "approval_expired").await;
    scene.gateway.stop().await;
}

#[tokio::test]
async fn each_step_is_a_leaf_of_its_own_tied_to_the_call_that_asked() {
    let scene = Scene::new().await;
    let (id, asked) = scene.asked().await;
    scene.refused(&id, "approval_pending").await;
    let people = &scene.people;
    let mallory = people.person("mallory");
    let hash = asked.content()["operation_hash"].clone();
    let word = json!({"decision": "approve", "operation_hash": hash, "comment": "let me"});
    let path = format!("/api/v1/approvals/{id}/decision");
    assert_eq!(mallory.post(&path, word.clone()).await.status, 404);
    let wrong = json!({"decision": "approve", "operation_hash": "0".repeat(64), "comment": ""});
    assert_eq!(scene.bob.post(&path, wrong).await.code(), "operation_changed");
    let word = json!({"decision": "approve", "operation_hash": hash, "comment": format!("password={}", crate::harness::PLANTED)});
    assert_eq!(scene.bob.post(&path, word).await.status, 200);
    let ran = scene.run(&id).await;
    ran.data();
    scene.refused_after_use(&id).await;

    let leaves = scene.leaves(&id).await;
    let steps: Vec<[&str; 4]> = leaves
        .iter()
        .map(|leaf| ["kind", "tool", "status", "code"].map(|key| leaf[key].as_str().unwrap_or("")))
        .collect();
    assert_eq!(
        steps,
        [
            ["outcome", "file_delete", "asked", "approval_required"],
            ["call", "file_delete", "denied", "approval_pending"],
            ["approval", "approval.approve", "denied", "not_an_approver"],
            ["approval", "approval.approve", "denied", "operation_changed"],
            ["approval", "approval.approve", "ok", ""],
            ["intent", "file_delete", "pending", ""],
            ["outcome", "file_delete", "ok", ""],
            ["call", "file_delete", "denied", "approval_used"],
        ]
    );
    for leaf in leaves.iter().filter(|leaf| leaf["kind"] == "approval") {
        assert_eq!(leaf["correlation_id"], asked.content()["correlation_id"], "{leaf}");
        assert_eq!(leaf["approval"]["operation_hash"], hash);
        assert!(leaf["risk_level"].is_null() && leaf["approved"] == false, "a decision is no run: {leaf}");
    }
    for leaf in &leaves[5..7] {
        assert_eq!(leaf["approved"], true);
        let approver = &leaf["approval"]["approvers"][0];
        assert_eq!((&approver["login"], &approver["strength"]), (&json!("bob@example.com"), &json!("identity")));
        assert_eq!(leaf["approval"]["operation_hash"], hash);
    }
    let (directory, config) = scene.gateway.stop().await;
    // Every leaf is canonical, and nothing is left open.
    assert!(open_intents(&log_of(&config.data_dir).await).is_empty());
    drop(directory);
}

impl Scene {
    /// After its run the file is gone, and another call is refused.
    async fn refused_after_use(&self, id: &str) {
        assert_eq!(self.run(id).await.code(), "approval_used");
        assert!(!self.is_there());
    }
}

#[tokio::test]
async fn asking_counts_as_critical_and_the_run_of_what_was_asked_does_not() {
    let scene = Scene::with(|config| config.limits.critical_per_hour = 1.try_into().unwrap()).await;
    let id = scene.agreed().await;
    let limited = scene.agent.call(&scene.token, "file_delete", scene.wish()).await;
    assert_eq!(limited.code(), "rate_limited", "{limited:?}");
    scene.run(&id).await.data();
    scene.gateway.stop().await;
}

#[tokio::test]
async fn what_is_open_is_bounded_for_a_token_and_in_all() {
    let scene = Scene::with(|config| {
        config.approvals.max_pending_per_token = 1.try_into().unwrap();
        config.approvals.max_pending = 2.try_into().unwrap();
    })
    .await;
    let (first, _) = scene.asked().await;
    let full = scene.agent.call(&scene.token, "file_delete", scene.wish()).await;
    assert_eq!(full.code(), "approvals_full", "{full:?}");
    let record = &scene.gateway.records_of(&full).await[0];
    assert_eq!(record["exec"], Value::Null, "nothing runs for a question that has no room");
    let tokens = [
        scene.gateway.mint(Grant::bound("admin", "tag:mcp-client")).await,
        scene.gateway.mint(Grant::bound("admin", "tag:mcp-client")).await,
    ];
    let ask = async |token: &str| scene.agent.call(token, "file_delete", scene.wish()).await.code().to_owned();
    assert_eq!(ask(&tokens[0]).await, "approval_required");
    assert_eq!(ask(&tokens[1]).await, "approvals_full");
    scene.bob.decide(&first, "deny").await;
    assert_eq!(ask(&tokens[1]).await, "approval_required");
    scene.gateway.stop().await;
}

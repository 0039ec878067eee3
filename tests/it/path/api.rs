//! The people's API: who gets in, what each may see and say, and that a yes lets exactly one call run.

use std::{fs, num::NonZeroU32, path::PathBuf, time::Duration};

use serde_json::{Value, json};

use crate::{
    harness::{Answer, Behind, Gateway, Grant, grants},
    people::{People, Visitor, on_host},
};

/// A gateway, its people, and an agent with its token that wants a file deleted.
struct Scene {
    gateway: Gateway,
    people: People,
    agent: Visitor,
    token: String,
}

impl Scene {
    async fn new() -> Self {
        let gateway = Gateway::with(|config| {
            let many = NonZeroU32::new(1000).unwrap();
            (config.limits.critical_per_hour, config.limits.calls_burst) = (many, many);
            (config.approvals.max_pending_per_token, config.limits.refusals_recorded_per_minute) = (many, many);
            config.approvals.approvers.insert(own_name());
        })
        .await;
        fs::write(file(&gateway), "content").unwrap();
        let people = People::of(&gateway);
        let agent = people.agent("agent");
        let token = gateway.mint(Grant::bound("admin", "tag:mcp-client")).await;
        Self { gateway, people, agent, token }
    }

    fn wish(&self) -> Value {
        let path = file(&self.gateway);
        json!({"target": "local", "path": path, "reason": "replaced by another", "dry_run": false})
    }

    /// Asks, and gives the id and the hash that the agent is told.
    async fn asked(&self) -> (String, String) {
        asked(&self.agent.call(&self.token, "file_delete", self.wish()).await)
    }

    async fn retry(&self, id: &str) -> Answer {
        let mut wish = self.wish();
        wish["approval_id"] = json!(id);
        self.agent.call(&self.token, "file_delete", wish).await
    }

    /// The records that name `code`.
    async fn refusals(&self, code: &str) -> Vec<Value> {
        let records = self.gateway.records().await;
        records.into_iter().filter(|record| record["code"] == code).collect()
    }
}

fn file(gateway: &Gateway) -> PathBuf {
    gateway.config.data_dir.join("files/old.conf")
}

/// What the passwd database calls whoever runs the tests.
fn own_name() -> String {
    let uid = rustix::process::geteuid().as_raw();
    uzers::get_user_by_uid(uid).map_or_else(|| format!("uid:{uid}"), |user| user.name().to_str().unwrap().to_owned())
}

#[track_caller]
fn asked(answer: &Answer) -> (String, String) {
    assert_eq!(answer.code(), "approval_required", "{answer:?}");
    let text = |key: &str| answer.content()[key].as_str().unwrap_or_else(|| panic!("no {key}: {answer:?}")).to_owned();
    (text("approval_id"), text("operation_hash"))
}

fn at(id: &str) -> String {
    format!("/api/v1/approvals/{id}")
}

fn ballot(decision: &str, hash: &str) -> Value {
    json!({"decision": decision, "operation_hash": hash, "comment": "looked at it"})
}

#[track_caller]
fn ids(answer: &Answer) -> Vec<&str> {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["approvals"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn somebody_without_the_right_sees_nothing_and_changes_nothing() {
    let scene = Scene::new().await;
    let _bob = scene.people.approver("bob", json!(true));
    let (id, hash) = scene.asked().await;
    for mallory in [
        scene.people.person("mallory"),
        // Each right is for something else.
        scene.people.approver("other-tool", json!({"tools": ["file_write"]})),
        scene.people.approver("other-risk", json!({"risks": ["low", "moderate", "high"]})),
        scene.people.approver("other-segment", json!({"segments": ["production-a"]})),
    ] {
        assert_eq!(ids(&mallory.get("/api/v1/approvals").await), Vec::<&str>::new());
        let one = mallory.get(&at(&id)).await;
        let none = mallory.get(&at("k3vd-9w2m-7qtp")).await;
        assert_eq!(
            (one.status, one.code(), none.status, none.code()),
            (404, "approval_unknown", 404, "approval_unknown")
        );
        assert_eq!(one.body["message"].as_str().unwrap().replace(&id, "X"), "there is no approval X");
        for decision in ["approve", "deny"] {
            let refused = mallory.post(&format!("{}/decision", at(&id)), ballot(decision, &hash)).await;
            assert_eq!((refused.status, refused.code()), (404, "approval_unknown"), "{refused:?}");
        }
        assert_eq!(scene.gateway.records_of(&one).await.len(), 1, "a look at what one may not see is on record");
    }
    // Each try to decide is one leaf of the approval.
    let tries = scene.refusals("not_an_approver").await;
    assert_eq!(tries.len(), 8, "{tries:#?}");
    assert!(tries.iter().all(|record| record["approval"]["id"] == id.as_str() && record["status"] == "denied"));
    assert_eq!(scene.retry(&id).await.code(), "approval_pending");
    assert!(file(&scene.gateway).exists());
    scene.gateway.stop().await;
}

#[tokio::test]
async fn whoever_asks_sees_it_may_withdraw_it_and_cannot_agree() {
    let scene = Scene::new().await;
    let _bob = scene.people.approver("bob", json!(true));
    // Alice's agent comes from her own node, and she has the right for everything.
    let rules = grants(json!([{"scopes": ["admin"], "approve": true}]));
    let alice = scene.people.join("alice", Behind::User("alice@example.com"), rules.clone());
    let token = scene.gateway.mint(Grant::bound("admin", "user:alice@example.com")).await;
    let (id, hash) = asked(&alice.call(&token, "file_delete", scene.wish()).await);
    // Another node of hers, in another spelling, is still her; and whoever made the token answers for it.
    let phone = scene.people.join("phone", Behind::User("Alice@Example.com"), rules.clone());
    let owner = scene.people.join("owner", Behind::User("tester"), rules);
    for requester in [&alice, &phone, &owner] {
        let seen = requester.get(&at(&id)).await;
        assert_eq!((seen.status, &seen.body["may_decide"]), (200, &json!(false)), "{seen:?}");
        assert_eq!(ids(&requester.get("/api/v1/approvals?state=pending").await), [id.as_str()]);
        let refused = requester.post(&format!("{}/decision", at(&id)), ballot("approve", &hash)).await;
        assert_eq!((refused.status, refused.code()), (403, "own_request"), "{refused:?}");
    }
    assert_eq!(scene.refusals("own_request").await.len(), 3);
    let withdrawn = alice.post(&format!("{}/decision", at(&id)), ballot("deny", &hash)).await;
    assert_eq!((withdrawn.status, &withdrawn.body["state"]), (200, &json!("denied")), "{withdrawn:?}");
    scene.gateway.stop().await;
}

#[tokio::test]
async fn a_word_to_something_else_too_late_or_twice_does_not_count() {
    let scene = Scene::new().await;
    let (bob, carol) = (scene.people.approver("bob", json!(true)), scene.people.approver("carol", json!(true)));
    let (id, hash) = scene.asked().await;
    let path = format!("{}/decision", at(&id));
    let other = hash.replace(|letter: char| letter.is_ascii_hexdigit(), "0");
    for wrong in ["", "0", &other, &hash.to_uppercase()] {
        let refused = bob.post(&path, ballot("approve", wrong)).await;
        assert_eq!((refused.status, refused.code()), (409, "operation_changed"), "{wrong}: {refused:?}");
    }
    assert_eq!(scene.refusals("operation_changed").await.len(), 4);
    let mut body = ballot("approve", &hash);
    body["comment"] = json!("two\nlines");
    let refused = bob.post(&path, body).await;
    assert_eq!((refused.status, refused.code()), (400, "invalid_arguments"));
    assert!(refused.body["message"].as_str().unwrap().contains("`comment`"), "{refused:?}");
    assert_eq!(scene.retry(&id).await.code(), "approval_pending", "none of these counts");

    assert_eq!(bob.post(&path, ballot("approve", &hash)).await.status, 200);
    let twice = bob.post(&path, ballot("approve", &hash)).await;
    assert_eq!((twice.status, twice.code()), (409, "already_decided"));
    let denied = carol.post(&path, ballot("deny", &hash)).await;
    assert_eq!((denied.status, &denied.body["state"]), (200, &json!("denied")));
    for late in [&bob, &carol] {
        let refused = late.post(&path, ballot("approve", &hash)).await;
        assert_eq!((refused.status, refused.code()), (409, "approval_denied"), "{refused:?}");
    }
    assert_eq!(scene.retry(&id).await.code(), "approval_denied");

    let (id, hash) = scene.asked().await;
    scene.gateway.clock.advance(Duration::from_mins(16));
    let late = bob.post(&format!("{}/decision", at(&id)), ballot("approve", &hash)).await;
    assert_eq!((late.status, late.code()), (409, "approval_expired"), "{late:?}");
    assert_eq!(ids(&bob.get("/api/v1/approvals?state=expired").await), [id.as_str()]);
    assert!(file(&scene.gateway).exists());
    scene.gateway.stop().await;
}

#[tokio::test]
async fn a_right_that_was_taken_away_takes_the_yes_along() {
    let scene = Scene::new().await;
    let bob = scene.people.approver("bob", json!(true));
    let (id, _) = scene.asked().await;
    assert_eq!(bob.decide(&id, "approve").await.body["state"], "approved");
    bob.becomes(|peer| peer.grants = grants(json!([{"scopes": ["readonly"]}])));
    assert_eq!(scene.retry(&id).await.code(), "approval_pending");
    assert_eq!(bob.get(&at(&id)).await.status, 404);
    bob.leaves();
    assert_eq!(bob.get("/api/v1/whoami").await.code(), "peer_unknown");
    assert_eq!(scene.retry(&id).await.code(), "approval_pending");
    assert!(file(&scene.gateway).exists());
    scene.gateway.stop().await;
}

#[tokio::test]
async fn the_list_has_what_somebody_may_see_newest_first_and_bounded() {
    let scene = Scene::new().await;
    let bob = scene.people.approver("bob", json!({"tools": ["file_delete"]}));
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.push(scene.asked().await.0);
        scene.gateway.clock.advance(Duration::from_secs(1));
    }
    asked.reverse();
    assert_eq!(ids(&bob.get("/api/v1/approvals").await), asked);
    assert_eq!(ids(&bob.get("/api/v1/approvals?limit=2").await), asked[..2]);
    bob.decide(&asked[1], "deny").await;
    bob.decide(&asked[2], "approve").await;
    assert_eq!(ids(&bob.get("/api/v1/approvals?state=denied").await), [asked[1].as_str()]);
    let open = bob.get("/api/v1/approvals?state=pending").await;
    assert_eq!(ids(&open), [&asked[0], &asked[2], &asked[3]]);
    let states: Vec<&Value> = open.body["approvals"].as_array().unwrap().iter().map(|one| &one["state"]).collect();
    assert_eq!(states, ["pending", "approved", "pending"]);
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=many", "limit"),
        ("state=open", "state"),
        ("state=pending&state=used", "state"),
        ("engagement=default", "engagement"),
    ] {
        let refused = bob.get(&format!("/api/v1/approvals?{query}")).await;
        assert_eq!((refused.status, refused.code()), (400, "invalid_arguments"), "{query}: {refused:?}");
        assert!(refused.body["message"].as_str().unwrap().contains(field), "{query}: {refused:?}");
    }
    scene.gateway.stop().await;
}

#[tokio::test]
async fn everybody_learns_who_they_are() {
    let scene = Scene::new().await;
    let bob = scene.people.approver("bob", json!({"risks": ["critical"], "tools": ["file_delete"]}));
    let who = bob.get("/api/v1/whoami").await.body;
    assert_eq!((&who["login"], &who["node"]), (&json!("bob@example.com"), &json!("bob.example.ts.net")));
    assert_eq!((&who["place"]["kind"], &who["place"]["node"]), (&json!("tailnet"), &json!(bob.id)));
    let rule = json!({"risks": ["critical"], "tools": ["file_delete"], "segments": null, "targets": null, "engagements": null});
    assert_eq!(who["approves"], json!([rule]));
    assert_eq!((&who["keys"], who["gateway"].as_str().unwrap().starts_with("http://")), (&json!([]), true));
    let mallory = scene.people.person("mallory").get("/api/v1/whoami").await.body;
    assert_eq!((&mallory["login"], &mallory["approves"]), (&json!("mallory@example.com"), &Value::Null));
    // The harness's own local user, over loopback, is in no list.
    let local = crate::people::send(
        scene.gateway.http.get(scene.gateway.url("/api/v1/whoami")).header("X-Tailops-Request", "1"),
    );
    let local = local.await.body;
    assert_eq!((&local["login"], &local["place"]["kind"]), (&json!("alice"), &json!("loopback")));
    assert_eq!(local["approves"], Value::Null);
    let host = on_host(&scene.gateway, "GET", "/api/v1/whoami", None).await.body;
    let own = json!({"kind": "host", "uid": rustix::process::geteuid().as_raw()});
    assert_eq!((&host["login"], &host["place"], &host["node"]), (&json!(own_name()), &own, &Value::Null));
    assert_eq!(host["approves"], "configured");
    scene.gateway.stop().await;
}

#[tokio::test]
async fn on_the_gateways_host_a_configured_local_user_decides_over_the_socket() {
    let scene = Scene::new().await;
    let (id, hash) = scene.asked().await;
    let seen = on_host(&scene.gateway, "GET", &at(&id), None).await;
    assert_eq!((seen.status, &seen.body["may_decide"]), (200, &json!(true)), "{seen:?}");
    let path = format!("{}/decision", at(&id));
    let decided = on_host(&scene.gateway, "POST", &path, Some(ballot("approve", &hash))).await;
    assert_eq!((decided.status, &decided.body["state"]), (200, &json!("approved")), "{decided:?}");
    assert_eq!(decided.body["votes"][0]["login"], own_name());
    scene.retry(&id).await.data();
    assert!(!file(&scene.gateway).exists());
    let records = scene.gateway.records().await;
    let decision = records.iter().find(|record| record["tool"] == "approval.approve").unwrap();
    assert_eq!((&decision["subject"], &decision["args"]["from"]["kind"]), (&json!(own_name()), &json!("host")));
    scene.gateway.stop().await;
}

#[tokio::test]
async fn somebody_else_says_yes_from_their_own_node_and_it_runs_once() {
    let scene = Scene::new().await;
    let bob = scene.people.approver("bob", json!(true));
    let (id, hash) = scene.asked().await;
    assert_eq!(scene.retry(&id).await.code(), "approval_pending");
    let seen = bob.get(&at(&id)).await;
    assert_eq!((seen.status, &seen.body["state"], &seen.body["may_decide"]), (200, &json!("pending"), &json!(true)));
    assert_eq!((&seen.body["operation_hash"], &seen.body["operation"]["tool"]), (&json!(hash), &json!("file_delete")));
    assert_eq!(seen.body["preview"]["data"]["size"], 7, "what a dry run shows: {seen:?}");
    let decided = bob.post(&format!("{}/decision", at(&id)), ballot("approve", &hash)).await;
    assert_eq!((decided.status, &decided.body["state"]), (200, &json!("approved")), "{decided:?}");
    assert_eq!(decided.body["votes"][0]["login"], "bob@example.com");
    assert!(file(&scene.gateway).exists(), "a yes runs nothing by itself");

    let (one, two) = tokio::join!(scene.retry(&id), scene.retry(&id));
    let ran = [&one, &two].into_iter().filter(|answer| !answer.is_error()).count();
    assert_eq!(ran, 1, "{one:?} {two:?}");
    assert!(!file(&scene.gateway).exists());
    fs::write(file(&scene.gateway), "content").unwrap();
    assert_eq!(scene.retry(&id).await.code(), "approval_used");
    assert!(file(&scene.gateway).exists());
    assert_eq!(bob.get(&at(&id)).await.body["state"], "used");
    assert_eq!(bob.decide(&id, "approve").await.code(), "approval_used");

    let records = scene.gateway.records().await;
    let runs = records.iter().filter(|record| record["approved"] == true && record["status"] == "ok").count();
    assert_eq!(runs, 1);
    let decisions: Vec<&Value> =
        records.iter().filter(|record| record["tool"] == "approval.approve" && record["status"] == "ok").collect();
    assert_eq!(decisions.len(), 1, "{records:#?}");
    assert_eq!(decisions[0]["tailscale"]["tailscale_user"], "bob@example.com");
    assert_eq!(decisions[0]["tailscale"]["tailscale_node"], "bob.example.ts.net");
    assert_eq!(
        (&decisions[0]["approval"]["id"], &decisions[0]["approval"]["operation_hash"]),
        (&json!(id), &json!(hash))
    );
    scene.gateway.stop().await;
}

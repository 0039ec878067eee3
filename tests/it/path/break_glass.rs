//! Breaking the glass through the whole gateway: who gets a pass, what it opens and what it does not, what it leaves on
//! record, and who closes its review. The refusals first.

use std::{fs, num::NonZeroU32, path::PathBuf, time::Duration};

use serde_json::{Value, json};
use tailops::{config::Config, model::Strength};

use crate::{
    harness::{Answer, Behind, Gateway, Grant, grants, records},
    people::{People, Visitor, on_host, on_host_with},
};

const MAKE: &str = "/api/v1/break-glass";
const REASON: &str = "the disk of the database is full";

/// A gateway, its people, and an agent with a token that `tester` made.
async fn cast(adjust: impl FnOnce(&mut Config)) -> (Gateway, People, Visitor, String) {
    let gateway = Gateway::with(adjust).await;
    let people = People::of(&gateway);
    let agent = people.agent("agent");
    let token = gateway.mint(Grant::bound("admin", "tag:mcp-client")).await;
    (gateway, people, agent, token)
}

/// A pass as it is made: its id and its credential.
async fn pass(gateway: &Gateway) -> (String, String) {
    pass_for(gateway, json!({"reason": REASON, "ttl_s": 900})).await
}

async fn pass_for(gateway: &Gateway, wish: Value) -> (String, String) {
    let made = on_host(gateway, "POST", MAKE, Some(wish)).await;
    assert_eq!(made.status, 200, "{made:?}");
    let text = |key: &str| made.body[key].as_str().unwrap().to_owned();
    (text("id"), text("credential"))
}

/// A file that can be deleted, and the call that deletes it.
fn prey(gateway: &Gateway, name: &str) -> (PathBuf, Value) {
    let path = gateway.config.data_dir.join("files").join(name);
    fs::write(&path, "in the way").unwrap();
    let wish = json!({"target": "local", "path": path, "dry_run": false, "reason": "a test of emergencies"});
    (path, wish)
}

fn with(mut wish: Value, credential: &str) -> Value {
    wish["approval_id"] = json!(credential);
    wish
}

/// The leaves of one call, all of them.
async fn leaves(gateway: &Gateway, answer: &Answer) -> Vec<Value> {
    let id = crate::harness::correlation_of(&answer.body);
    let all = records(gateway.store(), true).await;
    all.into_iter().filter(|leaf| leaf["correlation_id"] == id).collect()
}

#[tokio::test]
async fn nobody_gets_a_pass_over_the_network() {
    let (gateway, people, agent, token) = cast(|_| {}).await;
    let bob = people.approver("bob", json!(true));
    let wish = json!({"reason": REASON, "ttl_s": 60});
    let refused = bob.post(MAKE, wish.clone()).await;
    assert_eq!((refused.status, refused.code()), (403, "host_only"), "{refused:?}");
    let record = &gateway.records_of(&refused).await[0];
    assert_eq!((&record["code"], &record["kind"]), (&json!("host_only"), &json!("refusal")));
    // Neither a tagged node, nor with a token, which says nothing there.
    assert_eq!(agent.post(MAKE, wish.clone()).await.code(), "not_a_person");
    let bearing = agent.request("POST", MAKE).bearer_auth(&token).json(&wish);
    assert_eq!(crate::people::send(bearing).await.code(), "not_a_person");
    let local = gateway.http.post(gateway.url(MAKE)).header("X-Tailops-Request", "1").bearer_auth(&token).json(&wish);
    assert_eq!(gateway.send(local).await.code(), "host_only");
    assert_eq!(on_host_with(&gateway, "POST", MAKE, Some(wish), &[]).await.code(), "request_header");
    assert!(gateway.approvals().open_reviews().await.unwrap() == 0);
    gateway.stop().await;
}

#[tokio::test]
async fn a_wish_without_a_reason_or_for_too_long_is_refused_by_its_field() {
    let (gateway, _, _, _) = cast(|_| {}).await;
    for (wish, field) in [
        (json!({"ttl_s": 60}), "reason"),
        (json!({"reason": "", "ttl_s": 60}), "reason"),
        (json!({"reason": REASON}), "ttl_s"),
        (json!({"reason": REASON, "ttl_s": 0}), "ttl_s"),
        (json!({"reason": REASON, "ttl_s": 901}), "ttl_s"),
        (json!({"reason": REASON, "ttl_s": -1}), "ttl_s"),
        (json!({"reason": REASON, "ttl_s": 60, "subject": "nobody"}), "subject"),
        (json!({"reason": REASON, "ttl_s": 60, "target": "local"}), "target"),
    ] {
        let refused = on_host(&gateway, "POST", MAKE, Some(wish.clone())).await;
        assert_eq!((refused.status, refused.code()), (400, "invalid_arguments"), "{wish}");
        assert!(refused.body["message"].as_str().unwrap().contains(field), "{refused:?}");
    }
    pass(&gateway).await;
    let second = on_host(&gateway, "POST", MAKE, Some(json!({"reason": REASON, "ttl_s": 1}))).await;
    assert_eq!((second.status, second.code()), (409, "pass_live"));
    gateway.stop().await;
}

#[tokio::test]
async fn what_policy_denies_stays_denied_and_what_it_allows_needs_no_pass() {
    let (gateway, _, agent, token) = cast(|_| {}).await;
    let (_, credential) = pass(&gateway).await;
    let (path, wish) = prey(&gateway, "kept");
    let narrow = gateway.mint(Grant::bound("readonly", "tag:mcp-client")).await;
    let denied = agent.call(&narrow, "file_delete", with(wish.clone(), &credential)).await;
    assert_eq!(denied.code(), "insufficient_scope");
    let record = &gateway.records_of(&denied).await[0];
    assert_eq!((&record["approved"], &record["approval"]), (&json!(false), &Value::Null));
    // What needs no approval runs without using it up, and so does a preview.
    agent.call(&token, "token_inspect", json!({"approval_id": credential})).await.data();
    let mut preview = with(wish.clone(), &credential);
    preview["dry_run"] = json!(true);
    agent.call(&token, "file_delete", preview).await.data();
    assert!(path.exists());
    agent.call(&token, "file_delete", with(wish, &credential)).await.data();
    assert!(!path.exists());
    gateway.stop().await;
}

#[tokio::test]
async fn it_opens_one_operation_once_where_nobody_could_approve() {
    let (gateway, _, agent, token) = cast(|config| config.approvals.strength = Strength::Signature).await;
    let (first, wish) = prey(&gateway, "first");
    assert_eq!(agent.call(&token, "file_delete", wish.clone()).await.code(), "approval_unavailable");
    let (id, credential) = pass(&gateway).await;
    let ran = agent.call(&token, "file_delete", with(wish, &credential)).await;
    ran.data();
    assert!(!first.exists());
    let (second, wish) = prey(&gateway, "second");
    let refused = agent.call(&token, "file_delete", with(wish, &credential)).await;
    assert_eq!(refused.code(), "break_glass_refused");
    assert!(second.exists());

    let of_run = leaves(&gateway, &ran).await;
    assert_eq!(of_run.iter().map(|leaf| &leaf["kind"]).collect::<Vec<_>>(), ["intent", "outcome"]);
    for leaf in &of_run {
        let approval = &leaf["approval"];
        assert_eq!((&leaf["approved"], &leaf["decision"]), (&json!(true), &json!("ask")), "{leaf}");
        assert_eq!((&approval["break_glass"], &approval["id"]), (&json!(true), &json!(id)));
        assert_eq!(approval["operation_hash"].as_str().unwrap().len(), 64);
        let local = uzers::get_current_username().unwrap();
        assert_eq!(approval["approvers"], json!([{"login": local.to_str().unwrap(), "strength": "identity"}]));
    }
    let of_refusal = &leaves(&gateway, &refused).await[0];
    assert_eq!((&of_refusal["status"], &of_refusal["approved"]), (&json!("denied"), &json!(false)));
    assert_eq!(of_refusal["approval"], json!({"id": id, "break_glass": true}));
    let made: Vec<Value> =
        records(gateway.store(), true).await.into_iter().filter(|leaf| leaf["tool"] == "break_glass.make").collect();
    assert_eq!(made.len(), 1);
    assert_eq!((&made[0]["approval"]["break_glass"], &made[0]["args"]["reason"]), (&json!(true), &json!(REASON)));
    assert!(made[0]["seq"].as_u64() < of_run[0]["seq"].as_u64());
    gateway.stop().await;
}

#[tokio::test]
async fn every_credential_that_opens_nothing_gets_one_answer_and_the_auditor_the_cause() {
    let (gateway, _, agent, token) = cast(|config| {
        config.limits.auth_failures_per_minute = NonZeroU32::new(6).unwrap();
    })
    .await;
    let other = gateway.mint(Grant { subject: "other".to_owned(), ..Grant::bound("admin", "tag:mcp-client") }).await;
    let (path, wish) = prey(&gateway, "kept");
    let mut answers = Vec::new();
    let refused = async |token: &str, credential: &str| {
        let answer = agent.call(token, "file_delete", with(wish.clone(), credential)).await;
        assert!(answer.is_error(), "{answer:?}");
        answer
    };
    let (_, used) = pass(&gateway).await;
    let (gone, last_wish) = prey(&gateway, "gone");
    agent.call(&token, "file_delete", with(last_wish, &used)).await.data();
    assert!(!gone.exists());
    answers.push((refused(&token, &used).await, "used before"));
    let (_, expired) = pass_for(&gateway, json!({"reason": REASON, "ttl_s": 5})).await;
    gateway.clock.advance(Duration::from_secs(5));
    answers.push((refused(&token, &expired).await, "has expired"));
    let (_, named) = pass_for(&gateway, json!({"reason": REASON, "ttl_s": 900, "subject": "other"})).await;
    answers.push((refused(&token, &named).await, "another subject"));
    let wrong = format!("bg_{}", "A".repeat(43));
    answers.push((refused(&token, &wrong).await, "no such pass"));
    answers.push((refused(&token, &named.to_uppercase()).await, "no such pass"));
    answers.push((refused(&token, &format!("xx {}", &named[..20])).await, "no such pass"));
    for (answer, cause) in &answers {
        let text = |key: &str| answer.content()[key].clone();
        let first = answers[0].0.content();
        assert_eq!(
            (answer.code(), &text("message"), &text("hint")),
            ("break_glass_refused", &first["message"], &first["hint"])
        );
        let record = &gateway.records_of(answer).await[0];
        assert!(record["error"].as_str().unwrap().contains(cause), "{cause}: {record}");
        assert_eq!((&record["decision"], &record["exec"]), (&json!("ask"), &Value::Null), "{cause}");
    }
    // Whoever goes on is stopped; whoever has the right one still is not.
    assert_eq!(refused(&token, &wrong).await.code(), "rate_limited");
    agent.call(&other, "file_delete", with(wish.clone(), &named)).await.data();
    assert!(!path.exists());
    gateway.stop().await;
}

#[tokio::test]
async fn of_two_calls_with_one_pass_one_runs() {
    let (gateway, _, agent, token) = cast(|_| {}).await;
    for round in 0..4 {
        let (_, credential) = pass(&gateway).await;
        let ((one, first), (two, second)) = (prey(&gateway, "one"), prey(&gateway, "two"));
        let answers = tokio::join!(
            agent.call(&token, "file_delete", with(first, &credential)),
            agent.call(&token, "file_delete", with(second, &credential)),
        );
        let (ran, refused) = if answers.0.is_error() { (answers.1, answers.0) } else { answers };
        ran.data();
        assert_eq!(refused.code(), "break_glass_refused", "round {round}: {refused:?}");
        assert_ne!(one.exists(), two.exists(), "round {round}");
        let outcome = leaves(&gateway, &refused).await.pop().unwrap();
        assert_eq!((&outcome["approved"], &outcome["status"]), (&json!(false), &json!("denied")));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_too_long_for_an_id_is_not_kept() {
    let (gateway, _, agent, token) = cast(|_| {}).await;
    let (_, credential) = pass(&gateway).await;
    let secret = credential.strip_prefix("bg_").unwrap();
    let (path, wish) = prey(&gateway, "kept");
    for odd in [json!(secret), json!([credential]), json!({"id": credential}), json!(7), json!(""), Value::Null] {
        let mut wish = wish.clone();
        wish["approval_id"] = odd.clone();
        let refused = agent.call(&token, "file_delete", wish).await;
        assert_eq!(refused.code(), "invalid_arguments", "{odd}");
        assert!(!refused.body.to_string().contains(secret));
    }
    // An agent that puts it where it does not belong.
    let mut wish = wish;
    wish["reason"] = json!(format!("{REASON}, so {credential}"));
    let told = agent.call(&token, "file_delete", wish.clone()).await;
    assert_eq!(told.code(), "approval_unavailable");
    wish["approval-id"] = json!(credential);
    assert_eq!(agent.call(&token, "file_delete", wish).await.code(), "invalid_arguments");
    let log = json!(records(gateway.store(), true).await).to_string();
    assert!(!log.contains(secret), "{log}");
    assert!(path.exists());
    gateway.stop().await;
}

#[tokio::test]
async fn a_review_stays_until_another_person_who_may_closes_it() {
    let (gateway, people, agent, token) = cast(|_| {}).await;
    let all = grants(json!([{"approve": true}]));
    let owner = people.join("owner", Behind::User("Tester@example.com"), all.clone());
    let local = uzers::get_current_username().unwrap();
    let maker = people.join("maker", Behind::User(&format!("{}@example.com", local.to_str().unwrap())), all);
    let (bob, eve) = (people.approver("bob", json!({"risks": ["critical"]})), people.person("eve"));
    let (id, credential) = pass(&gateway).await;
    let close = format!("/api/v1/reviews/{id}/close");
    let comment = json!({"comment": "the disk was full, and it was the right file"});
    let live = bob.post(&close, comment.clone()).await;
    assert_eq!((live.status, live.code()), (409, "pass_live"));
    let (_, wish) = prey(&gateway, "gone");
    let ran = agent.call(&token, "file_delete", with(wish, &credential)).await;
    ran.data();

    for (who, status, code) in [
        (&eve, 404, "review_unknown"),
        (&owner, 403, "own_review"),
        (&maker, 403, "own_review"),
        (&agent, 403, "not_a_person"),
    ] {
        let refused = who.post(&close, comment.clone()).await;
        assert_eq!((refused.status, refused.code()), (status, code));
    }
    let host = on_host(&gateway, "POST", &close, Some(comment.clone())).await;
    assert_eq!((host.status, host.code()), (403, "own_review"));
    for short in [json!({}), json!({"comment": "ok"})] {
        assert_eq!(bob.post(&close, short).await.code(), "invalid_arguments");
    }
    assert_eq!(bob.post("/api/v1/reviews/0000-0000-0000/close", comment.clone()).await.code(), "review_unknown");
    let of_eve = eve.get("/api/v1/reviews").await;
    assert_eq!((of_eve.status, &of_eve.body), (200, &json!({"reviews": []})));

    let seen = bob.get("/api/v1/reviews?state=open").await;
    let review = &seen.body["reviews"][0];
    assert_eq!((&review["id"], &review["open"], &review["may_close"]), (&json!(id), &json!(true), &json!(true)));
    assert_eq!((&review["reason"], &review["used"]["tool"]), (&json!(REASON), &json!("file_delete")));
    assert_eq!(review["used"]["operation"]["arguments"]["target"], "local");
    assert_eq!(review["used"]["correlation_id"], crate::harness::correlation_of(&ran.body));
    assert!(!seen.body.to_string().contains(&credential));
    let closed = bob.post(&close, comment.clone()).await;
    assert_eq!((closed.status, &closed.body["open"]), (200, &json!(false)), "{closed:?}");
    assert_eq!(bob.post(&close, comment).await.code(), "review_closed");
    assert_eq!(on_host(&gateway, "GET", "/api/v1/reviews?state=open", None).await.body, json!({"reviews": []}));
    let kept = on_host(&gateway, "GET", "/api/v1/reviews?state=closed", None).await;
    assert_eq!(kept.body["reviews"][0]["closed_by"], "bob@example.com");

    // Each word that counted, and each that did not, is on record beside the call.
    let words: Vec<Value> =
        leaves(&gateway, &ran).await.into_iter().filter(|leaf| leaf["tool"] == "review.close").collect();
    let codes: Vec<&str> = words.iter().map(|leaf| leaf["code"].as_str().unwrap_or("ok")).collect();
    assert_eq!(codes, ["review_unknown", "own_review", "own_review", "own_review", "ok"]);
    assert!(words.iter().all(|leaf| leaf["approval"]["break_glass"] == true && leaf["approval"]["id"] == id));
    gateway.stop().await;
}

#[tokio::test]
async fn a_pass_that_was_not_used_is_reviewed_too() {
    let (gateway, people, _, _) =
        cast(|config| config.approvals.approvers = ["carol@example.com".to_owned()].into()).await;
    let bob = people.approver("bob", json!(true));
    let (id, _) = pass(&gateway).await;
    gateway.clock.advance(Duration::from_mins(16));
    let review = bob.get("/api/v1/reviews").await.body["reviews"][0].clone();
    assert_eq!((&review["id"], &review["used"], &review["may_close"]), (&json!(id), &Value::Null, &json!(true)));
    let comment = json!({"comment": "nobody used it"});
    let closed = bob.post(&format!("/api/v1/reviews/{id}/close"), comment).await;
    assert_eq!((closed.status, &closed.body["closed_by"]), (200, &json!("bob@example.com")), "{closed:?}");
    gateway.stop().await;
}

//! `token_revoke` through the whole gateway: whose token may be taken back by whom, and that it is at once.

use std::time::Duration;

use serde_json::{Value, json};
use tailops::config::Engagement;

use crate::harness::{Gateway, Grant, records, within};

fn wish(jti: &str) -> Value {
    json!({"jti": jti, "reason": "the laptop was lost"})
}

async fn jti_of(gateway: &Gateway, token: &str) -> String {
    gateway.call(token, "token_inspect", json!({})).await.data()["jti"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn ones_own_token_is_answered_and_then_refused() {
    let gateway = Gateway::start().await;
    // No scope is needed to give up what one has.
    let token = gateway.mint(Grant::scopes("system:read")).await;
    let jti = jti_of(&gateway, &token).await;
    let mut dry = wish(&jti);
    dry["dry_run"] = json!(true);
    let preview = gateway.call(&token, "token_revoke", dry).await;
    assert_eq!((&preview.data()["own"], &preview.data()["revoked_at"]), (&json!(true), &Value::Null));
    assert!(preview.content()["warnings"][0].as_str().unwrap().contains("this call"), "{preview:?}");
    gateway.call(&token, "token_inspect", json!({})).await.data();

    let answer = gateway.call(&token, "token_revoke", wish(&jti)).await;
    assert_eq!((&answer.data()["own"], &answer.content()["changed"]), (&json!(true), &json!(true)));
    // The very next call, not one within a second.
    let next = gateway.call(&token, "token_inspect", json!({})).await;
    assert_eq!((next.status, next.code()), (401, "token_revoked"));

    let leaves = records(gateway.store(), true).await;
    let intent = leaves.iter().find(|leaf| leaf["kind"] == "intent").expect("an intent before it happened");
    assert_eq!((&intent["tool"], &intent["args"]["jti"]), (&json!("token_revoke"), &json!(jti)));
    let record = &gateway.records_of(&answer).await[0];
    assert_eq!((&record["reason"], &record["effect"]), (&json!("the laptop was lost"), &json!("destructive")));
    let row = gateway.store().token(&jti).await.unwrap().unwrap();
    assert_eq!(row.revoked_by.unwrap(), format!("agent ({jti})"));
    gateway.stop().await;
}

#[tokio::test]
async fn anothers_needs_token_admin_also_to_look() {
    let gateway = Gateway::start().await;
    let victim = gateway.mint(Grant { subject: "victim".to_owned(), ..Grant::default() }).await;
    let jti = jti_of(&gateway, &victim).await;
    // All that implies no token:admin, together.
    let scopes = "system:admin,docker:admin,container:admin,file:write,network:diag,proxmox:admin,fleet:admin,\
                  security:read,log:read,policy:read,plan:write,approval:read,audit:read";
    let other = gateway.mint(Grant::scopes(scopes)).await;
    for dry_run in [false, true] {
        let mut wish = wish(&jti);
        wish["dry_run"] = json!(dry_run);
        let refused = gateway.call(&other, "token_revoke", wish).await;
        assert_eq!(refused.code(), "insufficient_scope", "{refused:?}");
        assert!(!refused.body.to_string().contains("victim"), "{refused:?}");
    }
    // Whether there is such a token is not told either.
    let none = gateway.call(&other, "token_revoke", wish("0123456789abcdef0123456789abcdef")).await;
    assert_eq!(none.code(), "insufficient_scope");
    gateway.call(&victim, "token_inspect", json!({})).await.data();
    gateway.stop().await;
}

#[tokio::test]
async fn with_token_admin_another_is_refused_within_a_second_and_again_is_no_change() {
    let gateway = Gateway::start().await;
    let victim = gateway.mint(Grant { subject: "victim".to_owned(), ..Grant::default() }).await;
    let jti = jti_of(&gateway, &victim).await;
    let warden = gateway.mint(Grant::scopes("token:admin")).await;
    let answer = gateway.call(&warden, "token_revoke", wish(&jti)).await;
    assert_eq!((&answer.data()["subject"], &answer.data()["own"]), (&json!("victim"), &json!(false)));
    let first = answer.data()["revoked_at"].clone();
    within(Duration::from_secs(1), "the token is refused", || async {
        gateway.call(&victim, "token_inspect", json!({})).await.code() == "token_revoked"
    })
    .await;
    let again = gateway.call(&warden, "token_revoke", wish(&jti)).await;
    assert_eq!((&again.data()["already"], &again.content()["changed"]), (&json!(true), &json!(false)));
    assert_eq!(again.data()["revoked_at"], first, "the first revocation is what is kept");
    gateway.call(&warden, "token_inspect", json!({})).await.data();
    gateway.stop().await;
}

#[tokio::test]
async fn a_token_of_another_engagement_looks_like_none() {
    let gateway = Gateway::with(|config| {
        config.engagements.push(Engagement { id: "other".into(), tools: None, data_root: None });
    })
    .await;
    let theirs = gateway.mint(Grant { engagement: "other".to_owned(), ..Grant::default() }).await;
    let jti = jti_of(&gateway, &theirs).await;
    let admin = gateway.admin().await;
    let unknown = "0123456789abcdef0123456789abcdef";
    for dry_run in [false, true] {
        let mut answers = Vec::new();
        for id in [jti.as_str(), unknown] {
            let mut wish = wish(id);
            wish["dry_run"] = json!(dry_run);
            let answer = gateway.call(&admin, "token_revoke", wish).await;
            assert_eq!(answer.code(), "not_found", "{answer:?}");
            let mut content = answer.content().clone();
            content["correlation_id"] = Value::Null;
            answers.push(content.to_string().replace(id, "ID"));
        }
        assert_eq!(answers[0], answers[1]);
    }
    gateway.call(&theirs, "token_inspect", json!({})).await.data();
    gateway.stop().await;
}

#[tokio::test]
async fn a_reason_is_mandatory_and_nothing_is_revoked_without() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    let jti = jti_of(&gateway, &token).await;
    for wish in [json!({"jti": jti}), json!({"jti": jti, "reason": " "}), json!({"jti": "all", "reason": "clean up"})] {
        assert_eq!(gateway.call(&token, "token_revoke", wish).await.code(), "invalid_arguments");
    }
    gateway.call(&token, "token_inspect", json!({})).await.data();
    gateway.stop().await;
}

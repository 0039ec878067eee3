//! Every tool, every reason to refuse it: nothing ran, and exactly one record says so.

use std::{collections::BTreeSet, num::NonZeroU32, time::Duration};

use serde_json::{Value, json};
use tailops::{config::Engagement, tailnet::Unidentified, tools};

use crate::{
    cases,
    harness::{Answer, Gateway, Grant, modern, records},
};

/// The refusal is the only trace: one record, nothing that ran, no intent.
async fn left_one_record(gateway: &Gateway, answer: &Answer, tool: &str, code: &str) {
    assert_eq!(answer.code(), code, "{tool}: {answer:?}");
    let of_call = gateway.records_of(answer).await;
    assert_eq!(of_call.len(), 1, "{tool}: {of_call:?}");
    let record = &of_call[0];
    assert_eq!((&record["code"], &record["result_status"]), (&json!(code), &json!("error")), "{tool}");
    assert!(record["error"].is_string() && record["exec"].is_null(), "{tool}: {record}");
    let leaves = records(gateway.store(), true).await;
    assert!(!leaves.iter().any(|leaf| leaf["kind"] == "intent"), "{tool}: an intent was recorded");
}

async fn refused_with(gateway: &Gateway, token: Option<&str>, status: u16, code: &str) {
    for case in cases::all() {
        let request = modern(&gateway.http, &gateway.url("/mcp"), token, case.tool, case.call);
        let answer = gateway.send(request).await;
        assert_eq!(answer.status, status, "{}: {answer:?}", case.tool);
        left_one_record(gateway, &answer, case.tool, code).await;
    }
}

/// One record a refusal, as these tests make more of them than a source may leave singly.
fn roomy(config: &mut tailops::config::Config) {
    let many = NonZeroU32::new(100_000).unwrap();
    config.limits.auth_failures_per_minute = many;
    config.limits.calls_per_minute = many;
    config.limits.calls_burst = many;
    config.limits.critical_per_hour = many;
    config.limits.writes_per_minute = many;
    config.limits.refusals_recorded_per_minute = many;
}

#[tokio::test]
async fn without_a_peer() {
    let gateway = Gateway::with(roomy).await;
    let token = gateway.admin().await;
    gateway.peers_are(|_| Err(Unidentified::NotFound));
    refused_with(&gateway, Some(&token), 403, "peer_not_found").await;
    gateway.stop().await;
}

#[tokio::test]
async fn without_a_token() {
    let gateway = Gateway::with(roomy).await;
    refused_with(&gateway, None, 401, "missing_token").await;
    gateway.stop().await;
}

#[tokio::test]
async fn with_an_expired_token() {
    let gateway = Gateway::with(roomy).await;
    let token = gateway.admin().await;
    gateway.clock.advance(Duration::from_secs(3601));
    refused_with(&gateway, Some(&token), 401, "token_expired").await;
    gateway.stop().await;
}

#[tokio::test]
async fn without_the_scope() {
    let gateway = Gateway::with(roomy).await;
    for case in cases::all() {
        let spec = tools::find(case.tool).unwrap().spec();
        if spec.scopes.is_empty() {
            continue;
        }
        // Everything but what this tool needs, and what would imply it.
        let others: Vec<_> = tailops::model::Scope::ALL
            .iter()
            .filter(|scope| {
                let set = tailops::model::ScopeSet::new([**scope]);
                !spec.scopes.iter().any(|needed| set.allows(*needed))
            })
            .map(|scope| scope.as_str())
            .collect();
        let token = gateway.mint(Grant::scopes(&others.join(","))).await;
        let answer = gateway.call(&token, case.tool, case.call).await;
        left_one_record(&gateway, &answer, case.tool, "insufficient_scope").await;
        let message = answer.content()["message"].as_str().unwrap();
        assert!(spec.scopes.iter().any(|scope| message.contains(scope.as_str())), "{message}");
        let record = &gateway.records_of(&answer).await[0];
        assert!(record["error"].as_str().unwrap().contains("Insufficient"));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn from_another_engagement() {
    let gateway = Gateway::with(|config| {
        roomy(config);
        config.engagements.push(Engagement {
            id: "other".into(),
            tools: Some(BTreeSet::from(["no_tool".to_owned()])),
            data_root: None,
        });
    })
    .await;
    let token = gateway.mint(Grant { engagement: "other".to_owned(), ..Grant::default() }).await;
    for case in cases::all() {
        let answer = gateway.call(&token, case.tool, case.call.clone()).await;
        // A host tool finds no such target; a gateway tool is not on the list.
        let code = if case.call["target"].is_string() { "unknown_target" } else { "cross_tenant_denied" };
        left_one_record(&gateway, &answer, case.tool, code).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn over_the_limit() {
    let gateway = Gateway::with(|config| {
        roomy(config);
        config.limits.calls_per_minute = NonZeroU32::MIN;
        config.limits.calls_burst = NonZeroU32::MIN;
    })
    .await;
    let token = gateway.admin().await;
    gateway.call(&token, "token_inspect", json!({})).await.data();
    refused_with(&gateway, Some(&token), 429, "rate_limited").await;
    gateway.stop().await;
}

#[tokio::test]
async fn with_a_token_for_other_tools() {
    let gateway = Gateway::with(roomy).await;
    for case in cases::all() {
        let other = tools::ALL.iter().map(|tool| tool.spec().name).find(|name| *name != case.tool).unwrap();
        let token = gateway.mint(Grant { tools: Some(vec![other.to_owned()]), ..Grant::default() }).await;
        let answer = gateway.call(&token, case.tool, case.call).await;
        left_one_record(&gateway, &answer, case.tool, "token_tool_denied").await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn with_arguments_that_are_wrong() {
    let gateway = Gateway::with(roomy).await;
    let token = gateway.admin().await;
    let mut wrong = 0;
    for case in cases::all() {
        for (arguments, names) in case.invalid {
            let answer = gateway.call(&token, case.tool, arguments.clone()).await;
            assert_eq!((answer.status, answer.is_error()), (200, true), "{} {arguments}: {answer:?}", case.tool);
            let message = answer.content()["message"].as_str().unwrap();
            assert!(message.contains(&names), "{} {arguments}: {message}", case.tool);
            let of_call = gateway.records_of(&answer).await;
            assert_eq!(of_call.len(), 1);
            assert_eq!((&of_call[0]["status"], &of_call[0]["exec"]), (&json!("invalid"), &Value::Null), "{arguments}");
            wrong += 1;
        }
    }
    assert!(wrong >= 4 * tools::ALL.len(), "{wrong}");
    gateway.stop().await;
}

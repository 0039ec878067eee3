//! How often.

use std::num::NonZeroU32;

use serde_json::json;

use crate::harness::{Gateway, Grant, modern};

fn n(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

#[tokio::test]
async fn a_token_over_its_limit_gets_429_and_others_do_not_notice() {
    let gateway = Gateway::with(|config| {
        config.limits.calls_per_minute = n(6);
        config.limits.calls_burst = n(3);
    })
    .await;
    let (greedy, modest) = (gateway.admin().await, gateway.admin().await);
    for _ in 0..3 {
        gateway.call(&greedy, "token_inspect", json!({})).await.data();
    }
    let request = modern(&gateway.http, &gateway.url("/mcp"), Some(&greedy), "token_inspect", json!({}));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 429);
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=10).contains(&wait), "{wait}");
    gateway.call(&modest, "token_inspect", json!({})).await.data();
    let limited: Vec<_> = gateway.records().await.into_iter().filter(|record| record["status"] == "limited").collect();
    assert_eq!(limited.len(), 1);
    assert_eq!((&limited[0]["code"], &limited[0]["subject"]), (&json!("rate_limited"), &json!("agent")));
    gateway.stop().await;
}

#[tokio::test]
async fn over_a_class_the_tool_says_when_to_come_back() {
    let gateway = Gateway::with(|config| config.limits.critical_per_hour = n(1)).await;
    let token = gateway.mint(Grant::scopes("admin")).await;
    let critical = json!({"target": "local", "unit": "ssh.service", "action": "restart", "reason": "a test of limits", "dry_run": false});
    let first = gateway.call(&token, "service_control", critical.clone()).await;
    assert_eq!(first.code(), "approval_unavailable", "{first:?}");
    let second = gateway.call(&token, "service_control", critical).await;
    assert_eq!((second.status, second.is_error(), second.code()), (200, true, "rate_limited"));
    assert!(second.content()["retry_after_s"].as_u64().unwrap() > 60, "{second:?}");
    // A read is in no class.
    gateway.call(&token, "token_inspect", json!({})).await.data();
    gateway.stop().await;
}

#[tokio::test]
async fn guessing_tokens_is_limited_by_peer() {
    let gateway = Gateway::with(|config| config.limits.auth_failures_per_minute = n(5)).await;
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(gateway.call("tailops_k.e30.AAAA", "token_inspect", json!({})).await.status);
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429, 429]);
    // Who has a valid token is not locked out by it.
    let token = gateway.admin().await;
    gateway.call(&token, "token_inspect", json!({})).await.data();
    gateway.stop().await;
}

#[tokio::test]
async fn a_flood_of_refusals_is_folded_with_its_count() {
    let gateway = Gateway::with(|config| config.limits.auth_failures_per_minute = n(1000)).await;
    for _ in 0..60 {
        assert_eq!(gateway.call("rubbish", "token_inspect", json!({})).await.status, 401);
    }
    let (directory, config) = gateway.stop().await;
    let store = tailops::store::Store::open(&config.data_dir).await.unwrap();
    let refusals: Vec<_> =
        crate::harness::records(&store, false).await.into_iter().filter(|record| record["kind"] == "refusal").collect();
    let (folded, single): (Vec<_>, Vec<_>) = refusals.into_iter().partition(|record| record["folded"].is_object());
    assert_eq!(single.len(), 10);
    assert_eq!(folded.len(), 1);
    assert_eq!(folded[0]["folded"]["count"], 50);
    assert!(folded[0]["folded"]["first"].as_str().unwrap() <= folded[0]["folded"]["last"].as_str().unwrap());
    store.close().await;
    drop(directory);
}

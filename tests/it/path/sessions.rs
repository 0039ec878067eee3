//! Sessions of the older handshake belong to the token that opened them.

use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

use crate::harness::{Gateway, eventually};

fn post(gateway: &Gateway, token: &str, session: Option<&str>, body: &Value) -> RequestBuilder {
    let request = gateway
        .http
        .post(gateway.url("/mcp"))
        .bearer_auth(token)
        .header("Accept", "application/json, text/event-stream")
        .json(body);
    match session {
        Some(session) => request.header("Mcp-Session-Id", session),
        None => request,
    }
}

async fn open(gateway: &Gateway, token: &str) -> Response {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}});
    post(gateway, token, None, &body).send().await.unwrap()
}

fn id_of(response: &Response) -> String {
    response.headers()["mcp-session-id"].to_str().unwrap().to_owned()
}

pub async fn list(gateway: &Gateway, token: &str, session: &str) -> u16 {
    let body = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"});
    post(gateway, token, Some(session), &body).send().await.unwrap().status().as_u16()
}

pub async fn ready(gateway: &Gateway, token: &str) -> String {
    let session = id_of(&open(gateway, token).await);
    let body = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(post(gateway, token, Some(&session), &body).send().await.unwrap().status(), 202);
    session
}

#[tokio::test]
async fn another_tokens_session_looks_like_none() {
    let gateway = Gateway::start().await;
    let (alice, mallory) = (gateway.admin().await, gateway.admin().await);
    let session = ready(&gateway, &alice).await;
    assert_eq!(list(&gateway, &alice, &session).await, 200);
    assert_eq!(list(&gateway, &mallory, &session).await, 404);
    assert_eq!(list(&gateway, &mallory, "11111111-2222-3333-4444-555555555555").await, 404);
    let closing = gateway.http.delete(gateway.url("/mcp")).bearer_auth(&mallory).header("Mcp-Session-Id", &session);
    assert_eq!(closing.send().await.unwrap().status(), 404);
    let stream = gateway.http.get(gateway.url("/mcp")).bearer_auth(&mallory).header("Mcp-Session-Id", &session);
    assert_eq!(stream.header("Accept", "text/event-stream").send().await.unwrap().status(), 404);
    assert_eq!(list(&gateway, &alice, &session).await, 200, "the owner's session goes on");
    let closing = gateway.http.delete(gateway.url("/mcp")).bearer_auth(&alice).header("Mcp-Session-Id", &session);
    assert!(closing.send().await.unwrap().status().is_success());
    assert_eq!(list(&gateway, &alice, &session).await, 404);
    gateway.stop().await;
}

#[tokio::test]
async fn a_session_without_its_token_is_worth_nothing() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    let session = ready(&gateway, &token).await;
    gateway.store().revoke_tokens(None, jiff::Timestamp::now(), "tester").await.unwrap();
    eventually("the revocation is felt", || async { list(&gateway, &token, &session).await == 401 }).await;
    gateway.stop().await;
}

#[tokio::test]
async fn sessions_are_capped_by_token_and_in_all() {
    let gateway = Gateway::with(|config| {
        config.sessions.max = 3;
        config.sessions.max_per_token = 2;
    })
    .await;
    let (alice, bob) = (gateway.admin().await, gateway.admin().await);
    assert_eq!(open(&gateway, &alice).await.status(), 200);
    let second = ready(&gateway, &alice).await;
    assert_eq!(open(&gateway, &alice).await.status(), 503);
    assert_eq!(open(&gateway, &bob).await.status(), 200);
    assert_eq!(open(&gateway, &bob).await.status(), 503, "three in all");
    let closing = gateway.http.delete(gateway.url("/mcp")).bearer_auth(&alice).header("Mcp-Session-Id", &second);
    assert!(closing.send().await.unwrap().status().is_success());
    eventually("a place is free again", || async { open(&gateway, &alice).await.status() == 200 }).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_session_over_its_age_ends() {
    let gateway = Gateway::with(|config| config.sessions.max_age = Duration::from_millis(300)).await;
    let token = gateway.admin().await;
    let session = ready(&gateway, &token).await;
    eventually("the session is too old", || async { list(&gateway, &token, &session).await == 404 }).await;
    gateway.stop().await;
}

//! Who is calling, asked before anything else.

use serde_json::json;
use tailops::tailnet::Unidentified;

use crate::harness::{Gateway, modern, peer_of};

#[tokio::test]
async fn a_peer_without_identity_is_refused_before_its_token_is_looked_at() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    gateway.peers_are(|_| Err(Unidentified::OtherUser { uid: 65534, own: 0 }));
    for token in [Some(token.as_str()), Some("rubbish"), None] {
        let answer = gateway.send(modern(&gateway.http, &gateway.url("/mcp"), token, "token_inspect", json!({}))).await;
        assert_eq!((answer.status, answer.code()), (403, "peer_other_user"), "{answer:?}");
        let records = gateway.records_of(&answer).await;
        assert_eq!(records.len(), 1);
        assert_eq!(records[0]["code"], "peer_other_user");
        assert_eq!(records[0]["subject"], json!(null), "no token was looked at");
        assert_eq!(records[0]["http"], json!({"method": "POST", "path": "/mcp", "status": 403}));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn only_healthz_asks_for_nothing_and_says_nothing() {
    let gateway = Gateway::start().await;
    for path in ["/mcp", "/readyz", "/", "/admin", "/metrics", "/healthz/x"] {
        let answer = gateway.send(gateway.http.get(gateway.url(path))).await;
        assert_eq!((answer.status, answer.code()), (401, "missing_token"), "{path}");
        assert!(!answer.body.to_string().contains("fleet_list"));
    }
    gateway.peers_are(|_| Err(Unidentified::NotFound));
    let stranger = crate::harness::http_client().build().unwrap();
    let healthy = gateway.send(stranger.get(gateway.url("/healthz"))).await;
    assert_eq!((healthy.status, healthy.body), (200, json!("ok\n")));
    assert_eq!(gateway.send(stranger.get(gateway.url("/readyz"))).await.status, 403);
    gateway.stop().await;
}

#[tokio::test]
async fn oauth_probes_find_a_definite_nothing() {
    let gateway = Gateway::start().await;
    for path in [
        "oauth-protected-resource",
        "oauth-protected-resource/mcp",
        "oauth-authorization-server",
        "openid-configuration",
        "x",
    ] {
        let answer = gateway.send(gateway.http.get(gateway.url(&format!("/.well-known/{path}")))).await;
        assert_eq!((answer.status, answer.body), (404, json!("")), "{path}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn pages_of_other_origins_and_rebound_names_are_refused() {
    let gateway = Gateway::with(|config| config.http.origins = vec!["http://console.example:3000".to_owned()]).await;
    let token = gateway.admin().await;
    let call = || modern(&gateway.http, &gateway.url("/mcp"), Some(&token), "token_inspect", json!({}));
    for origin in
        ["http://evil.example", "null", "http://console.example", "http://console.example:3000.evil.example", ""]
    {
        let answer = gateway.send(call().header("Origin", origin)).await;
        assert_eq!((answer.status, answer.code()), (403, "origin_not_allowed"), "{origin}");
    }
    for host in ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost@evil.example", ""] {
        let answer = gateway.send(call().header("Host", host)).await;
        assert_eq!((answer.status, answer.code()), (403, "host_not_allowed"), "{host}");
    }
    gateway.send(call().header("Origin", "http://console.example:3000")).await.data();
    gateway.send(call().header("Host", "LOCALHOST:1")).await.data();
    gateway.stop().await;
}

#[tokio::test]
async fn identity_headers_of_a_client_are_not_believed() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    let forged = [
        "Tailscale-User-Login",
        "Tailscale-User-Name",
        "X-Forwarded-For",
        "X-Forwarded-User",
        "Forwarded",
        "X-Real-IP",
    ];
    let mut request = modern(&gateway.http, &gateway.url("/mcp"), Some(&token), "token_inspect", json!({}));
    for header in forged {
        request = request.header(header, "mallory@example.com");
    }
    let answer = gateway.send(request).await;
    assert_eq!(answer.data()["peer"]["user"], "alice");
    let records = gateway.records_of(&answer).await;
    assert_eq!(records[0]["tailscale"]["tailscale_user"], "alice");
    assert!(!records[0].to_string().contains("mallory"));
    gateway.stop().await;
}

#[tokio::test]
async fn the_record_names_the_peer_of_that_very_connection() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    let first = gateway.call(&token, "token_inspect", json!({})).await;
    gateway.peers_are(|address| Ok(peer_of(crate::harness::ALICE, "alice-at-home", address)));
    // The old connection keeps the peer it was identified as; a new one is identified anew.
    let other = crate::harness::http_client().build().unwrap();
    let second = gateway.send(modern(&other, &gateway.url("/mcp"), Some(&token), "token_inspect", json!({}))).await;
    assert_eq!(gateway.records_of(&first).await[0]["tailscale"]["tailscale_user"], "alice");
    assert_eq!(gateway.records_of(&second).await[0]["tailscale"]["tailscale_user"], "alice-at-home");
    gateway.stop().await;
}

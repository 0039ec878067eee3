//! Who is calling, asked before anything else.

use serde_json::json;
use tailops::tailnet::{Grants, NotAdmitted, Peer, Unidentified};

use crate::harness::{Behind, Gateway, Grant, grants, http_client, modern, peer_of, tailnet_peer};

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

fn alice(grants: Grants) -> Peer {
    tailnet_peer("nALICE", "laptop.example.ts.net", Behind::User("alice@example.com"), grants, "100.64.0.7:40001")
}

fn agent() -> Peer {
    let tags = ["tag:build", "tag:mcp-client"];
    tailnet_peer(
        "nAGENT",
        "agent.example.ts.net",
        Behind::Tags(&tags),
        Grants::Unrestricted,
        "[fd7a:115c:a1e0::8]:40002",
    )
}

#[tokio::test]
async fn p8_every_record_names_the_peer_that_made_the_call() {
    let gateway = Gateway::start().await;
    let of_alice = gateway.mint(Grant::bound("readonly", "user:alice@example.com")).await;
    let of_agent = gateway.mint(Grant::bound("readonly", "tag:mcp-client")).await;
    let mut visitors = Vec::new();
    for (peer, token) in [(alice(Grants::Unrestricted), of_alice), (agent(), of_agent)] {
        gateway.everybody_is(peer.clone());
        let http = http_client().build().unwrap();
        let first = modern(&http, &gateway.url("/mcp"), Some(&token), "token_inspect", json!({}));
        gateway.send(first).await.data();
        visitors.push((http, peer, token));
    }
    // By turns, each over the connection it came on: both are open all the time.
    for turn in 0..6 {
        let (http, peer, token) = &visitors[turn % 2];
        let (tool, arguments) =
            [("fleet_list", json!({})), ("audit_query", json!({})), ("no_such_tool", json!({}))][turn % 3].clone();
        let answer = gateway.send(modern(http, &gateway.url("/mcp"), Some(token), tool, arguments)).await;
        let records = gateway.records_of(&answer).await;
        let wanted = json!({
            "address": peer.address.to_string(),
            "tailnet": "example.ts.net",
            "tailscale_node": peer.node,
            "tailscale_node_id": peer.id,
            "tailscale_tags": peer.tags,
            "tailscale_user": peer.user,
        });
        assert_eq!((records.len(), &records[0]["tailscale"]), (1, &wanted), "{turn}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn p9_a_peer_without_the_tag_is_refused_before_its_token_is_looked_at() {
    let many = std::num::NonZeroU32::new(1000).unwrap();
    let mut gateway = Gateway::with(|config| config.limits.refusals_recorded_per_minute = many).await;
    let token = gateway.mint(Grant::bound("admin", "user:bob@example.com")).await;
    let bob = tailnet_peer("nBOB", "desk", Behind::User("bob@example.com"), Grants::Unrestricted, "100.64.0.5:40003");
    for (why, code, detail) in [
        (NotAdmitted::NotRequired, "peer_tag", "tailnet.require"),
        (NotAdmitted::NoGrant, "peer_no_grant", "grants it nothing"),
        (NotAdmitted::BadGrant("rule 2: scopes: missing".to_owned()), "peer_bad_grant", "rule 2: scopes: missing"),
        (NotAdmitted::OwnNode, "peer_own_node", "own node"),
        (NotAdmitted::SharedIn, "peer_shared_in", "another tailnet"),
        (NotAdmitted::Router, "peer_router", "routes for others"),
        (NotAdmitted::Unsigned, "peer_unsigned", "tailnet lock"),
    ] {
        let peer = bob.clone();
        gateway.peers_are(move |_| Err(Unidentified::NotAdmitted { peer: Box::new(peer.clone()), why: why.clone() }));
        gateway.http = http_client().build().unwrap();
        for token in [Some(token.as_str()), Some("rubbish"), None] {
            let answer =
                gateway.send(modern(&gateway.http, &gateway.url("/mcp"), token, "token_inspect", json!({}))).await;
            assert_eq!((answer.status, answer.code()), (403, code), "{answer:?}");
            assert!(!answer.body.to_string().contains("rule 2"), "the policy is not for the caller: {}", answer.body);
            let records = gateway.records_of(&answer).await;
            let [record] = records.as_slice() else { panic!("{records:?}") };
            assert_eq!((&record["code"], record.get("jti")), (&json!(code), None), "no token was looked at");
            assert_eq!((&record["subject"], &record["status"]), (&json!(null), &json!("denied")));
            assert!(record["error"].as_str().unwrap().contains(detail), "{record}");
            let peer = &record["tailscale"];
            assert_eq!(
                (&peer["tailscale_node_id"], &peer["tailscale_user"]),
                (&json!("nBOB"), &json!("bob@example.com"))
            );
            assert_eq!(peer["address"], "100.64.0.5:40003");
        }
    }
    let unused = gateway.store().tokens().await.unwrap();
    assert!(unused.iter().all(|row| row.first_used_at.is_none()), "{unused:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn p42_records_have_their_keys_whoever_calls_and_a_tagged_peer_is_nobodys() {
    let mut gateway = Gateway::start().await;
    let of_alice = gateway.mint(Grant::bound("log:read", "node:nALICE")).await;
    let of_agent = gateway.mint(Grant::bound("log:read", "tag:mcp-client")).await;
    // A daemon may well name the user that stands for all tagged nodes.
    let odd = Peer { user: Some("tagged-devices".to_owned()), ..agent() };
    for (peer, token, tagged) in
        [(alice(grants(json!([{"scopes": ["readonly"]}]))), of_alice, false), (odd, of_agent, true)]
    {
        gateway.visited_by(peer);
        for (token, tool) in [
            (Some(token.as_str()), "token_inspect"),
            (Some(&token), "audit_query"),
            (Some("x"), "token_inspect"),
            (None, "x"),
        ] {
            let answer = gateway.send(modern(&gateway.http, &gateway.url("/mcp"), token, tool, json!({}))).await;
            let record = gateway.records_of(&answer).await.remove(0);
            for key in crate::record::KEYS {
                assert!(record.get(key).is_some(), "{key}: {record}");
            }
            let peer = &record["tailscale"];
            for key in crate::record::PEER_KEYS {
                assert!(peer.get(key).is_some(), "{key}: {record}");
            }
            let (tags, user) = (peer["tailscale_tags"].as_array().unwrap(), &peer["tailscale_user"]);
            assert_eq!((tags.is_empty(), user.is_null()), (!tagged, tagged), "{peer}");
            assert_eq!(peer["tailnet"], "example.ts.net");
            assert!(record["result_status"] == "success" || record["error"].is_string(), "{record}");
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_session_belongs_to_the_peer_that_opened_it() {
    let mut gateway = Gateway::start().await;
    let token = gateway.mint(Grant::bound("readonly", "user:alice@example.com")).await;
    gateway.visited_by(alice(Grants::Unrestricted));
    let session = super::sessions::ready(&gateway, &token).await;
    assert_eq!(super::sessions::list(&gateway, &token, &session).await, 200);
    // The same person's phone: the token works there, the laptop's session does not.
    gateway.visited_by(Peer { id: "nPHONE".to_owned(), ..alice(Grants::Unrestricted) });
    gateway.call(&token, "token_inspect", json!({})).await.data();
    assert_eq!(super::sessions::list(&gateway, &token, &session).await, 404);
    gateway.visited_by(alice(Grants::Unrestricted));
    assert_eq!(super::sessions::list(&gateway, &token, &session).await, 200, "over another connection of the laptop");
    gateway.stop().await;
}

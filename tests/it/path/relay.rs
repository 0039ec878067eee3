//! Requests that a proxy on the same machine relays: believed only from a trusted one, and only as far as the node says
//! the same (P13). The proxy of these tests is the test itself, under its own user.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use serde_json::{Value, json};
use tailops::{
    config::Config,
    tailnet::{Peer, Unidentified},
};

use crate::{
    harness::{Gateway, alice, eventually},
    scripted::{Mute, Said, Silence, Wire, ended, gateway, request, running},
};

const SOON: Option<Duration> = Some(Duration::from_millis(150));
const FROM_ALICE: &str = "Host: tailops\r\nX-Forwarded-For: 100.64.0.7\r\n";

fn trusting(uid: u32) -> impl FnOnce(&mut Config) {
    move |config| config.http.trusted_proxies = BTreeSet::from([uid])
}

fn own() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Alice at .7, bob at .8, and the gateway itself.
fn whois(ip: IpAddr) -> Result<Peer, Unidentified> {
    let peer = |id: &str, user: &str| Peer {
        id: id.to_owned(),
        node: format!("{user}-laptop"),
        user: Some(user.to_owned()),
        address: "192.0.2.1:9".parse().unwrap(),
        ..alice("192.0.2.1:9".parse().unwrap())
    };
    match ip.to_string().as_str() {
        "100.64.0.7" => Ok(peer("nALICE", "alice@example.com")),
        "100.64.0.8" => Ok(peer("nBOB", "bob@example.com")),
        "100.64.0.9" => Ok(peer("nSELF", "tailops")),
        "100.64.0.1" => Ok(peer("nOTHER", "tailops")),
        _ => Err(Unidentified::UnknownPeer((ip, 0).into())),
    }
}

/// Nobody on this machine is a peer; the addresses of the tailnet are.
fn said(believed_for: Option<Duration>) -> Said {
    let said = Said::on_tailnet(believed_for);
    *said.whois.lock().unwrap() = Box::new(|address| Err(Unidentified::UnknownPeer(address)));
    *said.relayed.lock().unwrap() = Box::new(whois);
    said
}

async fn call(gateway: &Gateway, headers: &str, token: &str) -> (u16, Value) {
    Wire::to(gateway).await.call_with(headers, token, "token_inspect", json!({})).await.unwrap()
}

#[tokio::test]
async fn p13_from_anybody_else_the_headers_change_nothing() {
    let forged = "Host: tailops\r\nX-Forwarded-For: 100.64.0.8\r\nTailscale-User-Login: bob@example.com\r\n\
                  Tailscale-User-Name: Bob\r\nTailscale-App-Capabilities: {}\r\nX-Real-IP: 100.64.0.8\r\n\
                  Forwarded: for=100.64.0.8\r\nX-Forwarded-User: bob@example.com\r\n";
    // A local process that is nobody stays nobody, and a peer stays who it is.
    for trusted in [None, Some(own() + 1)] {
        let adjust = move |config: &mut Config| config.http.trusted_proxies = trusted.into_iter().collect();
        let (gateway, said) = gateway(said(None), adjust).await;
        let token = gateway.admin().await;
        let (status, body) = call(&gateway, forged, &token).await;
        assert_eq!((status, &body["code"]), (403, &json!("peer_unknown")));
        *said.whois.lock().unwrap() = Box::new(|address| Ok(alice(address)));
        let (status, body) = call(&gateway, forged, &token).await;
        assert_eq!((status, &body["result"]["structuredContent"]["data"]["peer"]["user"]), (200, &json!("alice")));
        assert!(gateway.records().await.iter().all(|record| !record.to_string().contains("bob")));
        gateway.stop().await;
    }
}

#[tokio::test]
async fn p13_a_trusted_proxys_requests_are_their_peers() {
    let (gateway, said) = gateway(said(Some(Duration::from_secs(60))), trusting(own())).await;
    let token = gateway.admin().await;
    let mut wire = Wire::to(&gateway).await;
    for (address, user, node) in [
        ("100.64.0.7", "alice@example.com", "nALICE"),
        ("100.64.0.8", "bob@example.com", "nBOB"),
        ("100.64.0.7", "alice@example.com", "nALICE"),
        ("::ffff:100.64.0.8", "bob@example.com", "nBOB"),
    ] {
        let headers = format!(
            "Host: tailops.example.ts.net\r\nX-Forwarded-For: {address}\r\nX-Forwarded-Host: evil.example\r\n\
             X-Forwarded-Proto: https\r\nTailscale-User-Login: mallory@example.com\r\n"
        );
        let (status, body) = wire.call_with(&headers, &token, "token_inspect", json!({})).await.unwrap();
        assert_eq!(status, 200, "{body}");
        let content = &body["result"]["structuredContent"];
        assert_eq!((&content["data"]["peer"]["user"], &content["data"]["peer"]["id"]), (&json!(user), &json!(node)));
        let records = gateway.records().await;
        let record = records.iter().find(|record| record["correlation_id"] == content["correlation_id"]).unwrap();
        assert_eq!(record["tailscale"]["tailscale_user"], user);
        let address = address.trim_start_matches("::ffff:");
        assert_eq!(record["tailscale"]["address"], format!("{address}:0"), "never the proxy's own");
    }
    assert_eq!(said.asked(), 2, "each address once");
    // As behind `tailscale serve`, and for a proxy that was told to say so.
    assert_eq!(call(&gateway, "Host: localhost\r\nX-Forwarded-For: 100.64.0.7\r\n", &token).await.0, 200);
    assert_eq!(call(&gateway, "Host: evil.example\r\nX-Forwarded-For: 100.64.0.7\r\n", &token).await.0, 403);
    gateway.stop().await;
}

#[tokio::test]
async fn p13_without_one_plain_address_a_proxys_request_is_refused() {
    let (gateway, said) = gateway(said(SOON), trusting(own())).await;
    let token = gateway.admin().await;
    for headers in [
        "",
        "X-Forwarded-For: \r\n",
        "X-Forwarded-For: 100.64.0.7, 100.64.0.8\r\n",
        "X-Forwarded-For: 100.64.0.7\r\nX-Forwarded-For: 100.64.0.7\r\n",
        "X-Forwarded-For: 100.64.0.7:4000\r\n",
        "X-Forwarded-For: alice@example.com\r\n",
        "X-Real-IP: 100.64.0.7\r\n",
        "Forwarded: for=100.64.0.7\r\n",
        "Tailscale-User-Login: alice@example.com\r\n",
    ] {
        let (status, body) = call(&gateway, &format!("Host: tailops\r\n{headers}"), &token).await;
        assert_eq!((status, &body["code"]), (403, &json!("proxy_header")), "{headers:?}");
    }
    assert_eq!(said.asked(), 0, "nobody was asked about");
    for (address, code) in
        [("192.168.1.4", "peer_unknown"), ("100.64.0.9", "peer_own_node"), ("100.64.0.1", "peer_own_node")]
    {
        let (status, body) = call(&gateway, &format!("Host: tailops\r\nX-Forwarded-For: {address}\r\n"), &token).await;
        assert_eq!((status, &body["code"]), (403, &json!(code)), "{address}");
    }
    let funnel = format!("{FROM_ALICE}Tailscale-Funnel-Request: ?1\r\n");
    let (status, body) = call(&gateway, &funnel, &token).await;
    assert_eq!((status, &body["code"]), (403, &json!("funnel_refused")));
    let records = gateway.records().await;
    assert!(records.iter().all(|record| record["status"] == "denied" && record["subject"] == json!(null)));
    let own_node = records.iter().find(|record| record["code"] == "peer_own_node").unwrap();
    assert_eq!(own_node["tailscale"]["tailscale_node_id"], "nSELF", "{own_node}");
    gateway.stop().await;
}

#[tokio::test]
async fn p13_nothing_is_relayed_while_the_node_cannot_be_asked() {
    let (gateway, said) = gateway(said(SOON), trusting(own())).await;
    let token = gateway.admin().await;
    said.silence.send_replace(Silence::AboutAll);
    let (status, body) = call(&gateway, FROM_ALICE, &token).await;
    assert_eq!((status, &body["code"]), (403, &json!("peer_daemon_failed")));
    said.silence.send_replace(Silence::No);
    assert_eq!(call(&gateway, FROM_ALICE, &token).await.0, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn p13_a_relayed_peer_that_loses_its_rights_loses_what_it_reads() {
    let (gateway, said) = gateway(said(SOON), trusting(own())).await;
    let (token, mute) = (gateway.admin().await, Mute::new().await);
    let (mut lost, mut other) = (Wire::to(&gateway).await, Wire::to(&gateway).await);
    let (head, body) = request(FROM_ALICE, &token, "network_probe", &mute.probe());
    lost.send(&head, &body).await.unwrap();
    let probe = mute.reached().await;
    let from_bob = "Host: tailops\r\nX-Forwarded-For: 100.64.0.8\r\n";
    assert_eq!(other.call_with(from_bob, &token, "token_inspect", json!({})).await.unwrap().0, 200);
    *said.relayed.lock().unwrap() = Box::new(|ip| match ip.to_string().as_str() {
        "100.64.0.7" => Err(Unidentified::UnknownPeer((ip, 0).into())),
        _ => whois(ip),
    });
    ended(probe).await;
    lost.closed().await;
    eventually("the loss is on record", || async {
        let records = gateway.records().await;
        records.iter().any(|record| {
            record["code"] == "peer_unknown"
                && record["tailscale"]["tailscale_node_id"] == "nALICE"
                && record["tailscale"]["address"] == "100.64.0.7:0"
        })
    })
    .await;
    assert_eq!(other.call_with(from_bob, &token, "token_inspect", json!({})).await.unwrap().0, 200, "bob goes on");
    assert_eq!(call(&gateway, FROM_ALICE, &token).await.0, 403);
    gateway.stop().await;
}

#[tokio::test]
async fn p13_one_peer_cannot_take_every_connection_of_a_proxy() {
    let adjust = |config: &mut Config| {
        config.http.trusted_proxies = BTreeSet::from([own()]);
        config.http.max_connections_per_peer = 2;
    };
    let (gateway, _) = gateway(said(Some(Duration::from_secs(60))), adjust).await;
    let token = gateway.admin().await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut wire = Wire::to(&gateway).await;
        assert_eq!(wire.call_with(FROM_ALICE, &token, "token_inspect", json!({})).await.unwrap().0, 200);
        held.push(wire);
    }
    let (status, body) = call(&gateway, FROM_ALICE, &token).await;
    assert_eq!((status, &body["code"]), (429, &json!("rate_limited")));
    let from_bob = "Host: tailops\r\nX-Forwarded-For: 100.64.0.8\r\n";
    assert_eq!(call(&gateway, from_bob, &token).await.0, 200);
    // A connection whose last request was hers is bob's with his next.
    assert_eq!(held[0].call_with(from_bob, &token, "token_inspect", json!({})).await.unwrap().0, 200);
    assert_eq!(call(&gateway, FROM_ALICE, &token).await.0, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn p13_where_peers_look_like_proxies_nobody_is_one() {
    let said = said(None);
    said.status_is(|status| *status = running());
    let (gateway, said) = gateway(said, trusting(own())).await;
    let token = gateway.admin().await;
    said.status_is(|status| status.userspace = true);
    let (status, body) = call(&gateway, FROM_ALICE, &token).await;
    assert_eq!((status, &body["code"]), (403, &json!("peer_unknown")), "a peer of the daemon could have said this");
    gateway.stop().await;
}

#[tokio::test]
async fn a_person_behind_a_trusted_proxy_is_who_the_node_says_and_its_page_has_the_proxys_scheme() {
    let (gateway, _) = gateway(said(Some(Duration::from_secs(60))), trusting(own())).await;
    let whoami = async |headers: &str| -> (u16, Value) {
        let mut wire = Wire::to(&gateway).await;
        let head = format!("GET /api/v1/whoami HTTP/1.1\r\nX-Tailops-Request: 1\r\n{headers}");
        wire.send(&head, "").await.unwrap();
        let (status, _, body) = wire.answer().await.unwrap();
        (status, serde_json::from_str(&body).unwrap())
    };
    for (headers, code) in [
        ("Host: tailops\r\n".to_owned(), "proxy_header"),
        (format!("{FROM_ALICE}Origin: https://evil.example\r\n"), "origin_not_allowed"),
        (format!("{FROM_ALICE}Origin: https://tailops:8443\r\n"), "origin_not_allowed"),
        (format!("{FROM_ALICE}Origin: https://tailops\r\nSec-Fetch-Site: same-site\r\n"), "cross_site"),
    ] {
        let (status, body) = whoami(&headers).await;
        assert_eq!((status, &body["code"]), (403, &json!(code)), "{headers}");
    }
    for origin in ["https://tailops", "http://tailops"] {
        let (status, body) = whoami(&format!("{FROM_ALICE}Origin: {origin}\r\nSec-Fetch-Site: same-origin\r\n")).await;
        assert_eq!((status, &body["login"]), (200, &json!("alice@example.com")), "{origin}: {body}");
    }
    gateway.stop().await;
}

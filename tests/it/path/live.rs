//! A peer that loses something while it is connected.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tailops::{
    model::{Scope, ScopeSet},
    tailnet::{Grant, Grants, NotAdmitted, Peer, Unidentified},
};

use crate::{
    child::Prey,
    harness::{ALICE, Gateway, alice, eventually, http_client, peer_of},
    scripted::{Mute, Said, Silence, Wire, ended, gateway, request},
};

/// Short, where the time itself is not what is tested.
const SOON: Option<Duration> = Some(Duration::from_millis(150));

fn granted(scopes: &[Scope]) -> Grants {
    let rule =
        |scope: &Scope| Grant { scopes: ScopeSet::new([*scope]), targets: None, engagements: None, approve: None };
    Grants::Rules(scopes.iter().map(rule).collect())
}

async fn losses(gateway: &Gateway) -> Vec<Value> {
    let records = gateway.records().await;
    let lost = |record: &Value| record["error"].as_str().is_some_and(|error| error.contains("lost its rights"));
    records.into_iter().filter(lost).collect()
}

/// The one record of a loss, with this code.
async fn lost(gateway: &Gateway, code: &str) -> Value {
    eventually("the loss is on record", || async { !losses(gateway).await.is_empty() }).await;
    let mut losses = losses(gateway).await;
    assert_eq!(losses.len(), 1, "{losses:?}");
    let loss = losses.remove(0);
    assert_eq!((&loss["code"], &loss["kind"], &loss["status"]), (&json!(code), &json!("refusal"), &json!("denied")));
    assert_eq!((&loss["tool"], &loss["subject"], &loss["http"]), (&json!(null), &json!(null), &json!(null)));
    loss
}

#[tokio::test]
async fn a_peer_is_asked_for_again_for_as_long_as_it_is_connected() {
    let (gateway, said) = gateway(Said::on_tailnet(SOON), |_| {}).await;
    let token = gateway.admin().await;
    let mut wire = Wire::to(&gateway).await;
    assert_eq!(wire.call(&token, "token_inspect", json!({})).await.unwrap().0, 200);
    eventually("it was asked for three times more", || async { said.asked() >= 4 }).await;
    assert_eq!(wire.call(&token, "token_inspect", json!({})).await.unwrap().0, 200, "over the same connection");
    assert!(losses(&gateway).await.is_empty());
    drop(wire);
    eventually("nobody asks once it is closed", || async {
        let before = said.asked();
        tokio::time::sleep(Duration::from_millis(400)).await;
        said.asked() == before
    })
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn an_identity_that_cannot_change_is_not_asked_for_again() {
    let (gateway, said) = gateway(Said::on_tailnet(None), |_| {}).await;
    let token = gateway.admin().await;
    let mut wire = Wire::to(&gateway).await;
    for _ in 0..3 {
        assert_eq!(wire.call(&token, "token_inspect", json!({})).await.unwrap().0, 200);
    }
    assert_eq!(said.asked(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_lost_rule_ends_the_connection_and_the_read_on_it_within_five_seconds() {
    let (gateway, said) = gateway(Said::on_tailnet(Some(Duration::from_secs(3))), |_| {}).await;
    let two = granted(&[Scope::Admin, Scope::FleetRead]);
    gateway.peers_are(move |address| Ok(Peer { grants: two.clone(), ..alice(address) }));
    let (token, mute) = (gateway.admin().await, Mute::new().await);
    let mut wire = Wire::to(&gateway).await;
    let (head, body) = request("Host: tailops\r\n", &token, "network_probe", &mute.probe());
    wire.send(&head, &body).await.unwrap();
    let probe = mute.reached().await;
    let one = granted(&[Scope::Admin]);
    gateway.peers_are(move |address| Ok(Peer { grants: one.clone(), ..alice(address) }));
    let since = Instant::now();
    ended(probe).await;
    let took = since.elapsed();
    println!("a lost rule ended a running read after {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    wire.closed().await;
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    let loss = lost(&gateway, "peer_rights_lost").await;
    assert!(loss["error"].as_str().unwrap().contains("one of its rules"), "{loss}");
    assert_eq!(loss["tailscale"]["tailscale_node_id"], format!("uid:{ALICE}"));
    assert_eq!(loss["tailscale"]["tailscale_user"], "alice");
    assert!(loss["tailscale"]["address"].as_str().unwrap().starts_with("127.0.0.1:"));
    eventually("the read is on record", || async {
        gateway
            .records()
            .await
            .iter()
            .any(|record| record["tool"] == "network_probe" && record["status"] == "cancelled")
    })
    .await;
    // With what it still has it may come again.
    let mut again = Wire::to(&gateway).await;
    assert_eq!(again.call(&token, "token_inspect", json!({})).await.unwrap().0, 200);
    assert!(said.asked() >= 3);
    gateway.stop().await;
}

#[tokio::test]
async fn a_write_of_a_peer_that_lost_its_rights_comes_to_its_end_and_its_record() {
    let (gateway, _) = gateway(Said::on_tailnet(SOON), |_| {}).await;
    let token = gateway.admin().await;
    let prey = Prey::stubborn();
    let mut wire = Wire::to(&gateway).await;
    let (head, body) = request("Host: tailops\r\n", &token, "process_signal", &prey.arguments("TERM"));
    wire.send(&head, &body).await.unwrap();
    let write = |kind: &'static str| {
        let gateway = &gateway;
        move || async move {
            let leaves = crate::harness::records(gateway.store(), true).await;
            leaves.iter().any(|leaf| leaf["tool"] == "process_signal" && leaf["kind"] == kind)
        }
    };
    eventually("the write has begun", write("intent")).await;
    gateway.peers_are(|address| Err(Unidentified::UnknownPeer(address)));
    wire.closed().await;
    lost(&gateway, "peer_unknown").await;
    assert!(!write("outcome")().await, "the connection went before the write had ended");
    eventually("the write has ended", write("outcome")).await;
    let records = gateway.records().await;
    let record = records.iter().find(|record| record["tool"] == "process_signal").unwrap();
    assert_eq!((&record["status"], &record["result_status"]), (&json!("ok"), &json!("success")), "{record}");
    gateway.stop().await;
}

#[tokio::test]
async fn whatever_is_lost_ends_the_connection_and_is_named() {
    type Now = fn(std::net::SocketAddr) -> Result<Peer, Unidentified>;
    let cases: [(Now, &str, &str); 7] = [
        (|address| Ok(Peer { tags: vec![], ..tagged(address) }), "peer_rights_lost", "tag:agent"),
        (|address| Ok(Peer { user: Some("bob".to_owned()), ..alice(address) }), "peer_rights_lost", "tag:agent"),
        (|address| Ok(peer_of(ALICE + 1, "bob", address)), "peer_rights_lost", "belongs to"),
        (|address| Ok(Peer { grants: granted(&[Scope::Admin]), ..tagged(address) }), "peer_rights_lost", "narrow"),
        (|address| Err(Unidentified::UnknownPeer(address)), "peer_unknown", "no peer of the tailnet"),
        (|_| Err(Unidentified::Nameless("no stable id".to_owned())), "peer_nameless", "names nobody"),
        (
            |address| {
                let peer = Box::new(tagged(address));
                Err(Unidentified::NotAdmitted { peer, why: NotAdmitted::NotRequired })
            },
            "peer_tag",
            "tailnet.require",
        ),
    ];
    for (now, code, reason) in cases {
        let (gateway, _) = gateway(Said::on_tailnet(SOON), |_| {}).await;
        gateway.peers_are(|address| Ok(tagged(address)));
        let token = gateway.admin().await;
        let mut wire = Wire::to(&gateway).await;
        assert_eq!(wire.call(&token, "token_inspect", json!({})).await.unwrap().0, 200);
        gateway.peers_are(now);
        wire.closed().await;
        let loss = lost(&gateway, code).await;
        assert!(loss["error"].as_str().unwrap().contains(reason), "{reason}: {loss}");
        assert_eq!(loss["tailscale"]["tailscale_tags"], json!(["tag:agent"]), "as it was before");
        gateway.stop().await;
    }
}

fn tagged(address: std::net::SocketAddr) -> Peer {
    Peer { user: None, tags: vec!["tag:agent".to_owned()], ..alice(address) }
}

#[tokio::test]
async fn what_is_gained_is_there_with_the_next_request() {
    let (gateway, _) = gateway(Said::on_tailnet(SOON), |_| {}).await;
    gateway.peers_are(|address| Ok(tagged(address)));
    let token = gateway.admin().await;
    let mut wire = Wire::to(&gateway).await;
    wire.call(&token, "token_inspect", json!({})).await.unwrap();
    gateway.peers_are(|address| {
        Ok(Peer {
            tags: vec!["tag:agent".to_owned(), "tag:more".to_owned()],
            node: "renamed".to_owned(),
            ..alice(address)
        })
    });
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let (status, body) = wire.call(&token, "token_inspect", json!({})).await.expect("the connection is still open");
        assert_eq!(status, 200);
        let peer = &body["result"]["structuredContent"]["data"]["peer"];
        if peer["tags"] == json!(["tag:agent", "tag:more"]) {
            assert_eq!(peer["node"], "renamed");
            break;
        }
        assert!(Instant::now() < deadline, "{body}");
    }
    assert!(losses(&gateway).await.is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn a_daemon_that_falls_silent_is_not_believed_for_long() {
    let (gateway, said) = gateway(Said::on_tailnet(Some(Duration::from_secs(3))), |_| {}).await;
    let (token, mute) = (gateway.admin().await, Mute::new().await);
    let mut wire = Wire::to(&gateway).await;
    let (head, body) = request("Host: tailops\r\n", &token, "network_probe", &mute.probe());
    let since = Instant::now();
    wire.send(&head, &body).await.unwrap();
    let probe = mute.reached().await;
    said.silence.send_replace(Silence::AboutAll);
    ended(probe).await;
    wire.closed().await;
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    lost(&gateway, "peer_daemon_failed").await;
    // Nobody new comes in either, and nobody waits for ever.
    let mut other = Wire::to(&gateway).await;
    let since = Instant::now();
    let (status, body) = other.call(&token, "token_inspect", json!({})).await.unwrap();
    assert_eq!((status, &body["code"]), (403, &json!("peer_daemon_failed")));
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    other.closed().await;
    said.silence.send_replace(Silence::No);
    let mut again = Wire::to(&gateway).await;
    assert_eq!(again.call(&token, "token_inspect", json!({})).await.unwrap().0, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn a_request_waits_for_the_answer_when_what_is_known_is_too_old() {
    let (gateway, said) = gateway(Said::on_tailnet(SOON), |_| {}).await;
    let token = gateway.admin().await;
    let mut wire = Wire::to(&gateway).await;
    assert_eq!(wire.call(&token, "token_inspect", json!({})).await.unwrap().0, 200);
    said.silence.send_replace(Silence::AboutAll);
    let asked = said.asked();
    eventually("it is asked for again", || async { said.asked() > asked }).await;
    let (head, body) = request("Host: tailops\r\n", &token, "token_inspect", &json!({}));
    wire.send(&head, &body).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(300), wire.answer()).await;
    assert!(early.is_err(), "answered on an identity that was too old: {early:?}");
    said.silence.send_replace(Silence::No);
    assert_eq!(wire.answer().await.unwrap().0, 200);
    assert!(losses(&gateway).await.is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn a_daemon_that_is_back_in_time_costs_nobody_the_connection() {
    let (gateway, said) = gateway(Said::on_tailnet(SOON), |_| {}).await;
    let token = gateway.admin().await;
    let mut wire = Wire::to(&gateway).await;
    assert_eq!(wire.call(&token, "token_inspect", json!({})).await.unwrap().0, 200);
    let asked = said.asked();
    gateway.peers_are(|_| Err(Unidentified::Daemon("it is restarted".to_owned())));
    eventually("it failed once or twice", || async { said.asked() >= asked + 2 }).await;
    gateway.peers_are(|address| Ok(alice(address)));
    assert_eq!(wire.call(&token, "token_inspect", json!({})).await.unwrap().0, 200);
    assert!(losses(&gateway).await.is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn who_waits_to_be_identified_holds_nobody_up() {
    let (gateway, said) = gateway(Said::on_tailnet(SOON), |config| config.http.max_connections_per_peer = 6).await;
    let token = gateway.admin().await;
    said.silence.send_replace(Silence::AboutAll);
    let mut stuck = Wire::to(&gateway).await;
    said.silence.send_replace(Silence::About(stuck.port()));
    let (head, body) = request("Host: tailops\r\n", &token, "token_inspect", &json!({}));
    stuck.send(&head, &body).await.unwrap();
    let since = Instant::now();
    for _ in 0..5 {
        let mut other = Wire::to(&gateway).await;
        assert_eq!(other.call(&token, "token_inspect", json!({})).await.unwrap().0, 200);
    }
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    assert_eq!(stuck.answer().await.unwrap().0, 403, "refused in the end");
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    // While nobody is identified, one address takes no more places than a peer may.
    let asked = said.asked();
    said.silence.send_replace(Silence::AboutAll);
    let mut waiting = Vec::new();
    for _ in 0..6 {
        waiting.push(Wire::to(&gateway).await);
    }
    eventually("six wait", || async { said.asked() >= asked + 6 }).await;
    let mut seventh = Wire::to(&gateway).await;
    let since = Instant::now();
    seventh.closed().await;
    assert!(since.elapsed() < Duration::from_secs(2), "closed at once: {:?}", since.elapsed());
    said.silence.send_replace(Silence::No);
    gateway.stop().await;
}

/// A session of the older handshake over the client that keeps no connection.
struct Session<'a> {
    gateway: &'a Gateway,
    token: String,
    id: String,
}

impl<'a> Session<'a> {
    async fn open(gateway: &'a Gateway, token: &str) -> Self {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}});
        let mut session = Self { gateway, token: token.to_owned(), id: String::new() };
        let opened = session.post(&body).send().await.unwrap();
        assert_eq!(opened.status(), 200);
        session.id = opened.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        let body = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(session.post(&body).send().await.unwrap().status(), 202);
        session
    }

    fn post(&self, body: &Value) -> reqwest::RequestBuilder {
        let http = http_client().pool_max_idle_per_host(0).build().unwrap();
        self.with(http.post(self.gateway.url("/mcp")))
            .header("Accept", "application/json, text/event-stream")
            .json(body)
    }

    fn with(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let request = request.bearer_auth(&self.token).header("Host", "tailops");
        if self.id.is_empty() { request } else { request.header("Mcp-Session-Id", &self.id) }
    }

    async fn lists(&self) -> u16 {
        let body = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"});
        self.post(&body).send().await.unwrap().status().as_u16()
    }

    fn call(&self, tool: &str, arguments: &Value) -> reqwest::RequestBuilder {
        let params = json!({"name": tool, "arguments": arguments});
        self.post(&json!({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": params}))
    }
}

#[tokio::test]
async fn a_session_ends_with_its_peers_rights_and_so_does_what_it_reads() {
    let (gateway, _) = gateway(Said::on_tailnet(SOON), |_| {}).await;
    gateway.peers_are(|address| Ok(tagged(address)));
    let (token, mute) = (gateway.admin().await, Mute::new().await);
    let session = Session::open(&gateway, &token).await;
    let stream =
        session.with(http_client().build().unwrap().get(gateway.url("/mcp"))).header("Accept", "text/event-stream");
    let mut stream = stream.send().await.unwrap();
    assert_eq!(stream.status(), 200);
    let read = tokio::spawn(session.call("network_probe", &mute.probe()).send());
    let probe = mute.reached().await;
    gateway.peers_are(|address| Ok(alice(address)));
    let since = Instant::now();
    ended(probe).await;
    assert!(since.elapsed() < Duration::from_secs(2), "the read stops at once: {:?}", since.elapsed());
    let over = async { while matches!(stream.chunk().await, Ok(Some(_))) {} };
    tokio::time::timeout(Duration::from_secs(5), over).await.expect("the event stream is still open");
    let _ = read.await.unwrap();
    assert_eq!(session.lists().await, 404, "the session is gone, for who comes as somebody less too");
    eventually("the loss is on record", || async { !losses(&gateway).await.is_empty() }).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_session_is_no_use_to_another_peer_or_to_one_that_lost_something_between() {
    let (gateway, _) = gateway(Said::on_tailnet(SOON), |_| {}).await;
    gateway.peers_are(|address| Ok(tagged(address)));
    let token = gateway.admin().await;
    let session = Session::open(&gateway, &token).await;
    assert_eq!(session.lists().await, 200);
    // The same token from another node: the uid that the token is bound to is the same.
    gateway.peers_are(|address| Ok(Peer { id: "nOTHER".to_owned(), ..tagged(address) }));
    assert_eq!(session.lists().await, 404);
    let stream = session.with(http_client().build().unwrap().get(gateway.url("/mcp"))).header("Last-Event-ID", "0/0");
    assert_eq!(stream.header("Accept", "text/event-stream").send().await.unwrap().status(), 404);
    gateway
        .peers_are(|address| Ok(Peer { tags: vec!["tag:agent".to_owned(), "tag:more".to_owned()], ..tagged(address) }));
    assert_eq!(session.lists().await, 200, "its own peer goes on, with more than before");
    gateway.peers_are(|address| Ok(tagged(address)));
    assert_eq!(session.lists().await, 404, "less than when it last came");
    gateway
        .peers_are(|address| Ok(Peer { tags: vec!["tag:agent".to_owned(), "tag:more".to_owned()], ..tagged(address) }));
    assert_eq!(session.lists().await, 404, "and it does not come back");
    gateway.stop().await;
}

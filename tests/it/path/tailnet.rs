//! The host mode end to end, against a scripted daemon without a network device: each client connects from an address
//! of its own, and the daemon says which node of the tailnet that is.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tailops::{
    config::{HostNode, Tailnet},
    tailnet::Host,
};

use crate::{
    daemon::{Daemon, Reply},
    harness::{Answer, Gateway, Grant, eventually, http_client, modern},
};

const CAPABILITY: &str = "tailops.dev/cap/gateway";

/// What the daemon says of each local address that it relays from.
type Nodes = Arc<Mutex<BTreeMap<IpAddr, Value>>>;

struct Lab {
    gateway: Gateway,
    daemon: Daemon,
    nodes: Nodes,
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}

fn status(state: &str) -> Value {
    json!({
        "Version": "1.98.9", "TUN": false, "BackendState": state, "TailscaleIPs": ["100.64.0.2"],
        "Self": {"ID": "nGateway", "DNSName": "tailops.lab.test.", "TailscaleIPs": ["100.64.0.2"], "Tags": ["tag:tailops"]},
        "CurrentTailnet": {"Name": "example.org", "MagicDNSSuffix": "lab.test"}, "Peer": null,
    })
}

/// The answer for a node of this id, login or tags, with these further fields, and rights to read.
fn node(id: &str, login: &str, tags: &[&str], fields: Value) -> Value {
    let mut node = json!({
        "StableID": id, "Name": format!("{}.lab.test.", id.trim_start_matches('n').to_lowercase()), "Tags": tags,
        "Addresses": ["100.64.0.7/32"], "AllowedIPs": ["100.64.0.7/32"],
    });
    node.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({"Node": node, "UserProfile": {"LoginName": login}, "CapMap": {CAPABILITY: [{"scopes": ["readonly"]}]}})
}

fn alice() -> Value {
    node("nAlice", "alice@example.com", &[], json!({}))
}

fn said(head: &str, nodes: &Nodes) -> Reply {
    if head.contains("/status") {
        return Reply::Json(status("Running"));
    }
    let asked = head.split_once("addr=").unwrap().1.split(' ').next().unwrap().replace("%3A", ":");
    match nodes.lock().unwrap().get(&asked.parse::<SocketAddr>().unwrap().ip()) {
        Some(node) => Reply::Json(node.clone()),
        None => Reply::Status(404, "no match for IP:port\n".to_owned()),
    }
}

impl Lab {
    async fn with(tailnet: Tailnet) -> Self {
        let nodes = Nodes::default();
        let of_daemon = nodes.clone();
        let daemon = Daemon::start(move |head| said(head, &of_daemon));
        let listen = Some(vec!["127.0.0.1:0".parse().unwrap()]);
        let settings = HostNode { socket: daemon.socket().to_owned(), port: 8080, listen };
        let host = Host::join(&settings, &tailnet).await.unwrap();
        let gateway = Gateway::on_node(Arc::new(host), |config| {
            config.node = tailops::config::Node::Host(settings);
            config.tailnet = tailnet;
        })
        .await;
        Self { gateway, daemon, nodes }
    }

    async fn start() -> Self {
        Self::with(Tailnet::default()).await
    }

    fn knows(&self, last: u8, node: Value) {
        self.nodes.lock().unwrap().insert(ip(last), node);
    }

    async fn token(&self, bind: &str) -> String {
        self.gateway.mint(Grant { bind: Some(bind.to_owned()), ..Grant::default() }).await
    }

    /// A call over a new connection from this address.
    async fn call(&self, from: u8, token: &str) -> Answer {
        let http = http_client().local_address(ip(from)).build().unwrap();
        let request = modern(&http, &self.gateway.url("/mcp"), Some(token), "token_inspect", json!({}));
        self.gateway.send(request.header("Host", "tailops")).await
    }

    /// The peer in the only record of this call.
    async fn recorded(&self, answer: &Answer) -> Value {
        let records = self.gateway.records_of(answer).await;
        assert_eq!(records.len(), 1, "{records:?}");
        records[0]["tailscale"].clone()
    }
}

#[tokio::test]
async fn each_call_is_recorded_with_the_peer_that_the_daemon_names() {
    let lab = Lab::start().await;
    lab.knows(11, alice());
    lab.knows(12, node("nAgent", "tagged-devices", &["tag:b", "tag:agent"], json!({"Addresses": ["100.64.0.9/32"]})));
    let (of_alice, of_agent) = (lab.token("user:alice@example.com").await, lab.token("tag:agent").await);
    let answer = lab.call(11, &of_alice).await;
    assert_eq!(answer.data()["peer"]["user"], "alice@example.com");
    assert_eq!(
        lab.recorded(&answer).await,
        json!({
            "tailscale_node": "alice.lab.test", "tailscale_node_id": "nAlice", "tailscale_user": "alice@example.com",
            "tailscale_tags": [], "tailnet": "lab.test", "address": "100.64.0.7:0",
        })
    );
    let answer = lab.call(12, &of_agent).await;
    answer.data();
    assert_eq!(
        lab.recorded(&answer).await,
        json!({
            "tailscale_node": "agent.lab.test", "tailscale_node_id": "nAgent", "tailscale_user": null,
            "tailscale_tags": ["tag:agent", "tag:b"], "tailnet": "lab.test", "address": "100.64.0.9:0",
        })
    );
    // Each other's tokens are of no use.
    for (from, token) in [(11, &of_agent), (12, &of_alice)] {
        let answer = lab.call(from, token).await;
        assert_eq!((answer.status, answer.code()), (403, "token_unexpected_source"));
    }
    lab.gateway.stop().await;
}

#[tokio::test]
async fn whoever_may_not_come_in_is_refused_for_the_reason_that_is_recorded() {
    let required = Tailnet {
        require_users: ["alice@example.com".to_owned()].into(),
        require_tags: ["tag:agent".to_owned()].into(),
        ..Tailnet::default()
    };
    let lab = Lab::with(required).await;
    let token = lab.token("node:nAlice").await;
    let with = |fields: Value| node("nAlice", "alice@example.com", &[], fields);
    let granted = |grants: Value| {
        let mut node = alice();
        node["CapMap"] = grants;
        node
    };
    let known: Vec<(&str, Value)> = vec![
        ("peer_own_node", node("nGateway", "alice@example.com", &[], json!({}))),
        ("peer_shared_in", with(json!({"Sharer": 7}))),
        ("peer_shared_in", with(json!({"Hostinfo": {"ShareeNode": true}}))),
        ("peer_router", with(json!({"PrimaryRoutes": ["10.0.0.0/8"]}))),
        ("peer_router", with(json!({"AllowedIPs": ["0.0.0.0/0", "::/0"]}))),
        ("peer_unsigned", with(json!({"UnsignedPeerAPIOnly": true}))),
        ("peer_expired", with(json!({"Expired": true}))),
        ("peer_tag", node("nBob", "bob@example.com", &[], json!({}))),
        ("peer_tag", node("nOther", "tagged-devices", &["tag:other"], json!({}))),
        ("peer_no_grant", granted(json!(null))),
        ("peer_no_grant", granted(json!({"example.com/cap/other": [{"scopes": ["admin"]}]}))),
        ("peer_bad_grant", granted(json!({CAPABILITY: [{"scopes": ["readonly"], "tagets": ["web"]}]}))),
        ("peer_bad_grant", granted(json!({CAPABILITY: {"scopes": ["admin"]}}))),
    ];
    let unknown = vec![
        ("peer_nameless", with(json!({"StableID": ""}))),
        ("peer_nameless", node("nAlice", "", &[], json!({}))),
        ("peer_nameless", node("nAlice", "tagged-devices", &[], json!({}))),
        ("peer_nameless", json!({"Node": null, "UserProfile": null})),
    ];
    let known = known.into_iter().map(|(code, node)| (code, node, true));
    let unknown = unknown.into_iter().map(|(code, node)| (code, node, false));
    for ((code, node, named), from) in known.chain(unknown).zip(20_u8..) {
        lab.knows(from, node.clone());
        let answer = lab.call(from, &token).await;
        assert_eq!((answer.status, answer.code()), (403, code), "{node}");
        let peer = lab.recorded(&answer).await;
        let id = if named { node["Node"]["StableID"].clone() } else { Value::Null };
        assert_eq!(peer["tailscale_node_id"], id, "{code}");
        // The caller is not told who it is taken for, nor why.
        assert_eq!(answer.body["message"], "this connection may not come in");
    }
    // A process of this machine: the daemon relays nothing for it.
    let answer = lab.call(99, &token).await;
    assert_eq!((answer.status, answer.code()), (403, "peer_unknown"));
    assert_eq!(lab.recorded(&answer).await["tailscale_node_id"], Value::Null);
    lab.gateway.stop().await;
}

#[tokio::test]
async fn what_the_configuration_lets_in_comes_in() {
    let open = Tailnet { allow_shared: true, allow_routers: ["nRouter".to_owned()].into(), ..Tailnet::default() };
    let lab = Lab::with(open).await;
    lab.knows(11, node("nShared", "eve@elsewhere.example", &[], json!({"Sharer": 7})));
    lab.knows(12, node("nRouter", "alice@example.com", &[], json!({"PrimaryRoutes": ["10.0.0.0/8"]})));
    for (from, id) in [(11, "nShared"), (12, "nRouter")] {
        let token = lab.token(&format!("node:{id}")).await;
        let answer = lab.call(from, &token).await;
        answer.data();
        assert_eq!(lab.recorded(&answer).await["tailscale_node_id"], id);
    }
    lab.gateway.stop().await;
}

#[tokio::test]
async fn headers_of_a_client_name_nobody() {
    let lab = Lab::start().await;
    lab.knows(11, alice());
    lab.knows(12, node("nMallory", "mallory@example.com", &[], json!({})));
    let token = lab.token("user:alice@example.com").await;
    let forged = [
        ("Tailscale-User-Login", "alice@example.com"),
        ("Tailscale-User-Name", "Alice"),
        ("Tailscale-App-Capabilities", r#"{"tailops.dev/cap/gateway":[{"scopes":["admin"]}]}"#),
        ("X-Forwarded-For", "100.64.0.7"),
        ("X-Forwarded-For", "127.0.0.11"),
        ("Forwarded", "for=100.64.0.7"),
        ("X-Real-IP", "100.64.0.7"),
    ];
    for (from, code) in [(12, "token_unexpected_source"), (13, "peer_unknown")] {
        let http = http_client().local_address(ip(from)).build().unwrap();
        let mut request =
            modern(&http, &lab.gateway.url("/mcp"), Some(&token), "token_inspect", json!({})).header("Host", "tailops");
        for (name, value) in forged {
            request = request.header(name, value);
        }
        let answer = lab.gateway.send(request).await;
        assert_eq!((answer.status, answer.code()), (403, code));
        assert_ne!(lab.recorded(&answer).await["tailscale_user"], "alice@example.com");
    }
    lab.call(11, &token).await.data();
    lab.gateway.stop().await;
}

#[tokio::test]
async fn a_daemon_that_fails_lets_nobody_in_until_it_is_well_again() {
    let mut lab = Lab::start().await;
    lab.knows(11, alice());
    let token = lab.token("node:nAlice").await;
    lab.call(11, &token).await.data();
    let ok = |text: String| Reply::Status(200, text);
    let whole = alice().to_string();
    let failures: Vec<(&str, Reply)> = vec![
        ("silent", Reply::Hang),
        ("refuses", Reply::Status(403, "whois access denied".to_owned())),
        ("fails", Reply::Status(500, "JSON encoding error".to_owned())),
        ("does not understand", Reply::Status(400, "invalid 'addr' parameter".to_owned())),
        ("no JSON", ok("<html>".to_owned())),
        ("a list", ok("[]".to_owned())),
        ("cut off", ok(whole[..whole.len() - 1].to_owned())),
        ("flood", ok(format!("{{\"Node\":{{\"Name\":\"{}\"}}}}", "x".repeat(2 << 20)))),
        ("hangs up in the middle", Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{\"Node\":".to_vec())),
        ("hangs up", Reply::Raw(Vec::new())),
    ];
    for (what, reply) in failures {
        let nodes = lab.nodes.clone();
        lab.daemon.answers(move |head| if head.contains("whois") { reply.clone() } else { said(head, &nodes) });
        let begun = Instant::now();
        let answer = lab.call(11, &token).await;
        assert!(begun.elapsed() < Duration::from_secs(5), "{what}: {:?}", begun.elapsed());
        assert_eq!((answer.status, answer.code()), (403, "peer_daemon_failed"), "{what}");
        assert_eq!(lab.recorded(&answer).await["tailscale_node_id"], Value::Null, "{what}");
    }
    let nodes = lab.nodes.clone();
    lab.daemon.answers(move |head| said(head, &nodes));
    lab.call(11, &token).await.data();

    // Killed, and back again.
    lab.daemon.kill().await;
    let answer = lab.call(11, &token).await;
    assert_eq!((answer.status, answer.code()), (403, "peer_daemon_failed"));
    lab.daemon.resume();
    eventually("alice is let in again", || async { lab.call(11, &token).await.status == 200 }).await;
    // Logged out: what it remembers of alice counts no more.
    let nodes = lab.nodes.clone();
    lab.daemon.answers(
        move |head| {
            if head.contains("/status") { Reply::Json(status("NeedsLogin")) } else { said(head, &nodes) }
        },
    );
    eventually("nobody is let in", || async { lab.call(11, &token).await.code() == "peer_daemon_failed" }).await;
    lab.gateway.stop().await;
}

#[tokio::test]
async fn a_flood_of_connections_reaches_the_daemon_a_few_at_a_time() {
    let lab = Lab::start().await;
    lab.knows(11, alice());
    let token = lab.token("node:nAlice").await;
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..120 {
        let http = http_client().local_address(ip(if n % 2 == 0 { 11 } else { 98 })).build().unwrap();
        let request =
            modern(&http, &lab.gateway.url("/mcp"), Some(&token), "token_inspect", json!({})).header("Host", "tailops");
        calls.spawn(async move { (n, request.send().await.unwrap().status().as_u16()) });
    }
    while let Some(answer) = calls.join_next().await {
        let (n, status) = answer.unwrap();
        assert_eq!(status, if n % 2 == 0 { 200 } else { 403 });
    }
    // Each connection once; 9 with the look at the status.
    assert_eq!(lab.daemon.heads().iter().filter(|head| head.contains("whois")).count(), 120);
    assert!(lab.daemon.most_at_once() <= 9, "{}", lab.daemon.most_at_once());
    lab.gateway.stop().await;
}

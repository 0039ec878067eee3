//! The host mode against a scripted daemon: who counts as arriving over the tailnet, that listeners and status follow
//! the daemon, and that nothing but peers is reached. In these tests the tailnet's addresses are those of loopback.

use std::{collections::BTreeMap, net::TcpStream as Client, sync::Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    super::localapi::daemon::{Daemon as Scripted, Reply},
    *,
};
use crate::config::GrantsMode;

/// What the daemon is to know; tests change it while it runs.
#[derive(Clone)]
struct World {
    tun: bool,
    state: &'static str,
    own: Vec<&'static str>,
    /// The node at each address, by its stable id.
    nodes: BTreeMap<String, &'static str>,
}

impl World {
    fn answer(&self, head: &str) -> Reply {
        if head.starts_with("GET /localapi/v0/status") {
            let peers = self.nodes.iter().filter(|(_, id)| **id != "nSelf").map(|(address, id)| {
                let name = format!("{}.example.ts.net.", id.trim_start_matches('n').to_ascii_lowercase());
                (format!("nodekey:{address}"), json!({"ID": id, "DNSName": name, "TailscaleIPs": [address]}))
            });
            let peers: serde_json::Map<String, Value> = peers.collect();
            let peers = if head.contains("peers=false") { Value::Null } else { peers.into() };
            return Reply::Json(json!({
                "TUN": self.tun, "BackendState": self.state, "MagicDNSSuffix": "example.ts.net", "Peer": peers,
                "Self": {"ID": "nSelf", "DNSName": "gateway.example.ts.net.", "TailscaleIPs": self.own},
            }));
        }
        if head.starts_with("POST /localapi/v0/dial") {
            return Reply::Echo("hello ");
        }
        let asked = head.split_once("addr=").unwrap().1.split(' ').next().unwrap().replace("%3A", ":");
        let address = asked.split(':').next().unwrap();
        match self.nodes.get(address) {
            None => Reply::Status(404, "no match for IP:port".to_owned()),
            Some(id) => Reply::Json(json!({
                "Node": {"StableID": id, "Name": "x.example.ts.net.", "Addresses": [format!("{address}/32")]},
                "UserProfile": {"LoginName": "alice@example.com"},
            })),
        }
    }
}

struct Lab {
    daemon: Scripted,
    world: Arc<Mutex<World>>,
}

impl Lab {
    fn new(tun: bool) -> Self {
        let nodes = [("127.0.0.2", "nSelf"), ("127.0.0.7", "nAlice"), ("100.64.0.7", "nBob")];
        let world = World {
            tun,
            state: "Running",
            own: vec!["127.0.0.2"],
            nodes: nodes.into_iter().map(|(address, id)| (address.to_owned(), id)).collect(),
        };
        let world = Arc::new(Mutex::new(world));
        let shared = Arc::clone(&world);
        Self { daemon: Scripted::start(move |head| shared.lock().unwrap().answer(head)), world }
    }

    fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.world.lock().unwrap());
    }

    fn settings(&self, port: u16, listen: Option<&[&str]>) -> HostNode {
        let listen = listen.map(|listen| listen.iter().map(|address| address.parse().unwrap()).collect());
        HostNode { socket: self.daemon.socket().to_owned(), port, listen }
    }

    async fn join(&self) -> Host {
        let tailnet = Tailnet { grants: GrantsMode::Optional, ..Tailnet::default() };
        Host::join(&self.settings(0, None), &tailnet).await.unwrap()
    }

    async fn refused(&self, settings: &HostNode) -> JoinError {
        Host::join_within(settings, &Tailnet::default(), Duration::from_millis(300)).await.unwrap_err()
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let reached = timeout(Duration::from_secs(20), async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(reached.await.is_ok(), "{what}");
}

async fn code(node: &Host, peer: &str, local: &str) -> &'static str {
    match node.identify(address(peer), address(local)).await {
        Ok(_) => "in",
        Err(error) => error.code(),
    }
}

#[tokio::test]
async fn a_daemon_that_is_not_on_the_tailnet_is_named_with_the_mend() {
    let mut lab = Lab::new(true);
    for (state, mend) in [
        ("NeedsLogin", "logged out, or its key has expired; log it in with `tailscale up`"),
        ("NeedsMachineAuth", "approve it in the admin console"),
        ("Stopped", "switched off; switch it on with `tailscale up`"),
        ("Starting", "no network map yet; see `tailscale status`"),
    ] {
        lab.change(|world| world.state = state);
        let error = lab.refused(&lab.settings(0, None)).await;
        assert!(matches!(error, JoinError::NotRunning(_)) && error.to_string().contains(mend), "{error}");
    }
    lab.daemon.kill().await;
    let error = lab.refused(&lab.settings(0, None)).await.to_string();
    assert!(error.contains("is tailscaled running?") && error.contains("tailscaled.sock"), "{error}");
}

#[tokio::test]
async fn the_start_waits_for_a_daemon_that_starts_too() {
    let lab = Lab::new(true);
    lab.change(|world| world.state = "Starting");
    let (node, ()) = tokio::join!(lab.join(), async {
        until("it has been looked at twice", || lab.daemon.heads().len() >= 2).await;
        lab.change(|world| world.state = "Running");
    });
    assert!(node.status().is_up());
    assert_eq!((node.mode(), node.believed_for()), ("host", Some(BELIEVED_FOR)));
}

#[tokio::test]
async fn an_address_that_is_taken_or_not_ours_ends_the_start() {
    let lab = Lab::new(true);
    let taken = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = lab.refused(&lab.settings(port, None)).await;
    assert!(matches!(error, JoinError::InUse(named) if named == taken.local_addr().unwrap()), "{error}");
    // For documentation (RFC 5737): no machine has it.
    let error = lab.refused(&lab.settings(0, Some(&["127.0.0.1:0", "192.0.2.1:0"]))).await;
    assert!(matches!(error, JoinError::Io { address: named, .. } if named == address("192.0.2.1:0")), "{error}");
}

#[tokio::test]
async fn it_listens_on_its_own_addresses_or_on_loopback_or_where_it_is_told() {
    let lab = Lab::new(true);
    // One of its addresses is not there (yet): the other one will do.
    lab.change(|world| world.own = vec!["127.0.0.2", "192.0.2.1", "127.0.0.3"]);
    let ips = |node: &Host| node.addresses().iter().map(|address| address.ip().to_string()).collect::<Vec<_>>();
    assert_eq!(ips(&lab.join().await), ["127.0.0.2", "127.0.0.3"]);
    lab.change(|world| world.tun = false);
    assert_eq!(ips(&lab.join().await), ["127.0.0.1"]);
    let told = Host::join(&lab.settings(1, Some(&["127.0.0.9:0"])), &Tailnet::default()).await.unwrap();
    assert_eq!(ips(&told), ["127.0.0.9"]);
}

#[tokio::test]
async fn addresses_that_change_are_followed_and_connections_of_the_old_ones_lose_their_peer() {
    let lab = Lab::new(true);
    let node = lab.join().await;
    let old = node.addresses()[0];
    let _client = Client::connect(old).unwrap();
    let connection = node.accept().await.unwrap();
    let from = address("127.0.0.7:4711");
    assert_eq!(node.identify(from, connection.local).await.unwrap().id, "nAlice");

    lab.change(|world| world.own = vec!["127.0.0.3"]);
    until("it listens on the new address", || node.addresses()[0].ip() == address("127.0.0.3:0").ip()).await;
    assert!(Client::connect(old).is_err());
    assert_eq!(node.identify(from, connection.local).await.unwrap_err().code(), "peer_unknown");
    let _client = Client::connect(node.addresses()[0]).unwrap();
    let connection = node.accept().await.unwrap();
    assert_eq!(node.identify(from, connection.local).await.unwrap().id, "nAlice");
}

#[tokio::test]
async fn only_what_came_over_the_tailnet_is_asked_about() {
    let lab = Lab::new(true);
    let node = lab.join().await;
    let asked = || lab.daemon.heads().iter().filter(|head| head.contains("whois")).count();
    for (peer, local) in [
        // Another network, at our tailnet address.
        ("192.168.1.7:4711", "127.0.0.2:8080"),
        ("127.0.0.1:4711", "127.0.0.2:8080"),
        ("[fe80::7]:4711", "127.0.0.2:8080"),
        ("[fd00::7]:4711", "127.0.0.2:8080"),
        // A peer's address on another network, which uses 100.64.0.0/10 too.
        ("100.64.0.7:4711", "192.168.1.2:8080"),
        ("100.64.0.7:4711", "127.0.0.1:8080"),
        ("127.0.0.7:4711", "127.0.0.1:8080"),
    ] {
        assert_eq!(code(&node, peer, local).await, "peer_unknown", "{peer} {local}");
    }
    assert_eq!(asked(), 0);
    assert_eq!(code(&node, "100.64.0.7:4711", "127.0.0.2:8080").await, "in");
    assert_eq!(code(&node, "[::ffff:100.64.0.7]:4711", "[::ffff:127.0.0.2]:8080").await, "in");
    assert_eq!(code(&node, "100.64.0.99:4711", "127.0.0.2:8080").await, "peer_unknown");
    assert_eq!(asked(), 3);
    let peer = node.identify(address("100.64.0.7:4711"), address("127.0.0.2:8080")).await.unwrap();
    assert_eq!((peer.id.as_str(), peer.address), ("nBob", address("100.64.0.7:4711")));
}

#[tokio::test]
async fn in_userspace_only_this_machine_connects_and_the_daemon_says_for_whom() {
    let lab = Lab::new(false);
    let node = lab.join().await;
    for stranger in ["100.64.0.7:4711", "192.168.1.7:4711", "[fd7a:115c:a1e0::7]:4711"] {
        assert_eq!(code(&node, stranger, "127.0.0.1:8080").await, "peer_unknown", "{stranger}");
    }
    // A process of this machine that the daemon does not relay.
    assert_eq!(code(&node, "127.0.0.1:4711", "127.0.0.1:8080").await, "peer_unknown");
    assert_eq!(code(&node, "127.0.0.2:4711", "127.0.0.1:8080").await, "peer_own_node");
    let peer = node.identify(address("127.0.0.7:4711"), address("127.0.0.1:8080")).await.unwrap();
    // The daemon does not tell the port at the tailnet.
    assert_eq!((peer.id.as_str(), peer.address), ("nAlice", address("127.0.0.7:0")));
}

#[tokio::test]
async fn a_relayed_address_is_that_of_a_node() {
    for tun in [true, false] {
        let lab = Lab::new(tun);
        let node = lab.join().await;
        let relayed = async |ip: &str| match node.identify_relayed(ip.parse().unwrap()).await {
            Ok(peer) => format!("{} {}", peer.id, peer.address),
            Err(error) => error.code().to_owned(),
        };
        assert_eq!(relayed("100.64.0.7").await, "nBob 100.64.0.7:0");
        assert_eq!(relayed("::ffff:100.64.0.7").await, "nBob 100.64.0.7:0");
        for stranger in ["100.64.0.99", "192.168.1.7", "127.0.0.1", "::1"] {
            assert_eq!(relayed(stranger).await, "peer_unknown", "{stranger}");
        }
        lab.change(|world| world.nodes.extend([("100.64.0.2".to_owned(), "nSelf")]));
        assert_eq!(relayed("100.64.0.2").await, "peer_own_node");
    }
}

#[tokio::test]
async fn while_the_daemon_is_away_nobody_is_anybody_and_it_comes_back_by_itself() {
    let mut lab = Lab::new(true);
    let node = lab.join().await;
    let (peer, local) = ("127.0.0.7:4711", "127.0.0.2:8080");
    assert_eq!(code(&node, peer, local).await, "in");
    lab.daemon.kill().await;
    assert_eq!(code(&node, peer, local).await, "peer_daemon_failed");
    until("it is seen", || matches!(node.status().state, NodeState::Unreachable(_))).await;
    assert_eq!(code(&node, peer, local).await, "peer_daemon_failed");
    assert!(node.status().own.is_some(), "its names stay known");
    assert!(matches!(node.dial("alice", 22).await, Err(DialError::Node(_))));
    lab.daemon.resume();
    until("it is up", || node.status().is_up()).await;
    assert_eq!(code(&node, peer, local).await, "in");
    // Logged out: WhoIs may still answer from what it remembers.
    lab.change(|world| world.state = "NeedsLogin");
    until("it is seen", || node.status().state == NodeState::NeedsLogin).await;
    assert_eq!(code(&node, peer, local).await, "peer_daemon_failed");
    let error = node.identify(address(peer), address(local)).await.unwrap_err();
    assert!(error.to_string().contains("logged out"), "{error}");
}

#[tokio::test]
async fn every_peer_is_listed_with_what_it_would_be_here() {
    let lab = Lab::new(true);
    lab.change(|world| world.nodes.extend([("100.64.0.9".to_owned(), "nCarol")]));
    let node = lab.join().await;
    let listed = |peers: Vec<(NodePeer, Result<Peer, Unidentified>)>| {
        let rows =
            peers.into_iter().map(|(peer, known)| (peer.id, known.map_or_else(|e| e.code().to_owned(), |p| p.id)));
        rows.collect::<Vec<_>>()
    };
    let own = |id: &str| (id.to_owned(), id.to_owned());
    assert_eq!(listed(node.peers().await), [own("nAlice"), own("nBob"), own("nCarol")]);
    // A daemon that fails is asked once, not once for each.
    let world = lab.world.lock().unwrap().clone();
    lab.daemon.answers(
        move |head| {
            if head.contains("whois") { Reply::Status(500, String::new()) } else { world.answer(head) }
        },
    );
    let before = lab.daemon.heads().len();
    let failed = listed(node.peers().await);
    assert!(failed.iter().all(|(_, code)| code == "peer_daemon_failed") && failed.len() == 3, "{failed:?}");
    assert_eq!(lab.daemon.heads()[before..].iter().filter(|head| head.contains("whois")).count(), 1);
}

#[tokio::test]
async fn only_peers_are_dialled() {
    for tun in [true, false] {
        let lab = Lab::new(tun);
        let server = tokio::net::TcpListener::bind("127.0.0.7:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        let node = lab.join().await;
        for stranger in
            ["localhost", "127.0.0.1", "::1", "10.0.0.1", "gateway", "127.0.0.2", "100.64.0.99", "", "x\r\ny"]
        {
            let refused = node.dial(stranger, port).await;
            assert!(matches!(refused, Err(DialError::NotAPeer(_))), "{stranger}: {refused:?}");
        }
        for host in ["alice", "alice.example.ts.net", "127.0.0.7"] {
            let mut stream = node.dial(host, port).await.unwrap();
            if tun {
                let (mut end, _) = server.accept().await.unwrap();
                end.write_all(b"hello ").await.unwrap();
            } else {
                stream.write_all(b"x").await.unwrap();
                let head = lab.daemon.heads().pop().unwrap();
                assert!(head.contains(&format!("Dial-Host: 127.0.0.7\r\nDial-Port: {port}\r\n")), "{head}");
            }
            let mut heard = [0; 6];
            stream.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"hello ");
        }
        // The list is some seconds old: the address has another node, or none, by now.
        lab.change(|world| *world.nodes.get_mut("127.0.0.7").unwrap() = "nMallory");
        assert!(matches!(node.dial("alice", port).await, Err(DialError::NotAPeer(_))));
        lab.change(|world| world.nodes.retain(|address, _| address != "127.0.0.7"));
        assert!(matches!(node.dial("127.0.0.7", port).await, Err(DialError::NotAPeer(_))));
    }
}

#[tokio::test]
async fn a_certificate_is_for_a_name_of_the_node() {
    let lab = Lab::new(true);
    let key = rcgen::KeyPair::generate().unwrap();
    let made = rcgen::CertificateParams::new(vec!["gateway.example.ts.net".to_owned()]).unwrap().self_signed(&key);
    let made = made.unwrap();
    let pem = format!("{}{}", key.serialize_pem(), made.pem());
    let world = lab.world.lock().unwrap().clone();
    lab.daemon.answers(move |head| {
        if head.starts_with("GET /localapi/v0/cert/gateway.example.ts.net?type=pair ") {
            return Reply::Last(Box::new(Reply::Status(200, pem.clone())));
        }
        match world.answer(head) {
            Reply::Json(mut status) => {
                status["CertDomains"] = json!(["gateway.example.ts.net", "bad name/../x"]);
                Reply::Json(status)
            }
            reply => reply,
        }
    });
    let node = lab.join().await;
    let pair = node.certificate("Gateway.example.ts.net").await.unwrap();
    assert_eq!(pair.chain, [made.der().to_vec()]);
    assert_eq!(secrecy::ExposeSecret::expose_secret(&pair.key), &key.serialize_der()[..]);
    for stranger in ["other.example.ts.net", "", "bad name/../x", "gateway"] {
        assert!(node.certificate(stranger).await.unwrap_err().contains("no certificate for this name"), "{stranger}");
    }
}

//! Loopback with real sockets: who is refused, and that nothing an attacker does to a connection lends an identity.

use std::{
    net::{Ipv4Addr, Shutdown, TcpStream as Client},
    process::{Child, Stdio},
    time::Duration,
};

use tokio::net::TcpStream;

use super::{super::Stream, *};

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

async fn loopback() -> Loopback {
    Loopback::bind(&[address("127.0.0.1:0"), address("[::1]:0")]).await.unwrap()
}

/// Waits for a condition that another party makes true.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let reached = tokio::time::timeout(Duration::from_secs(20), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(reached.await.is_ok(), "{what}");
}

#[tokio::test]
async fn anything_but_the_two_loopback_addresses_is_refused() {
    for bad in [
        "0.0.0.0:0",
        "[::]:0",
        "127.0.0.2:0",
        "127.1.2.3:0",
        "[::ffff:127.0.0.1]:0",
        "[::ffff:0.0.0.0]:0",
        "[::7f00:1]:0",
        "192.168.1.1:0",
        "100.64.0.1:0",
        "169.254.1.1:0",
        "[fe80::1]:0",
    ] {
        // Also behind a good one: then the good one is not bound either.
        for addresses in [vec![address(bad)], vec![address("127.0.0.1:0"), address(bad)]] {
            let refused = Loopback::bind(&addresses).await.unwrap_err();
            assert!(matches!(refused, BindError::NotLoopback(named) if named == address(bad)), "{bad}: {refused}");
        }
    }
    assert!(matches!(Loopback::bind(&[]).await, Err(BindError::NoAddress)));
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_mend() {
    let first = loopback().await;
    let taken = first.addresses()[0];
    let refused = Loopback::bind(&[address("[::1]:0"), taken]).await.unwrap_err();
    assert!(matches!(refused, BindError::InUse(named) if named == taken));
    assert_eq!(
        refused.to_string(),
        format!("{taken} is in use: stop the program that listens there, or choose another port")
    );
}

fn tcp(connection: &Connection) -> &TcpStream {
    match &connection.stream {
        Stream::Tcp(stream) => stream,
        Stream::Unix(_) => panic!("a unix socket on a loopback listener"),
    }
}

#[tokio::test]
async fn the_owner_of_each_connection_is_known_in_both_families() {
    let node = loopback().await;
    assert_eq!(node.mode(), "loopback");
    let own = rustix::process::geteuid().as_raw();
    for server in node.addresses() {
        let client = Client::connect(server).unwrap();
        let connection = node.accept().await.unwrap();
        assert_eq!(connection.peer, client.local_addr().unwrap());
        assert_eq!(connection.local, server);
        assert!(tcp(&connection).nodelay().unwrap());
        let peer = connection.identify(&node).await.unwrap();
        assert_eq!((peer.uid, peer.id), (Some(own), format!("uid:{own}")));
        assert_eq!(peer.address, connection.peer);
        assert_eq!(peer.user, uzers::get_user_by_uid(own).map(|user| user.name().to_str().unwrap().to_owned()));
        assert!(!peer.node.is_empty() && peer.tags.is_empty() && peer.tailnet.is_none());
    }
}

#[tokio::test]
async fn a_client_with_a_mapped_address_is_known() {
    let node = loopback().await;
    let server = node.addresses()[0];
    let client = Client::connect((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), server.port())).unwrap();
    let connection = node.accept().await.unwrap();
    assert!(client.local_addr().unwrap().is_ipv6());
    assert!(connection.peer.is_ipv4());
    assert!(connection.identify(&node).await.is_ok());
    assert!(node.identify(client.local_addr().unwrap(), server).await.is_ok());
}

#[tokio::test]
async fn many_connections_at_once_are_each_identified() {
    let node = Arc::new(loopback().await);
    let clients: Vec<Client> = (0..150).map(|n| Client::connect(node.addresses()[n % 2]).unwrap()).collect();
    let mut lookups = tokio::task::JoinSet::new();
    for _ in &clients {
        let node = Arc::clone(&node);
        let connection = node.accept().await.unwrap();
        lookups.spawn(async move { connection.identify(&*node).await.map(|peer| peer.address) });
    }
    let mut known = Vec::new();
    while let Some(peer) = lookups.join_next().await {
        known.push(peer.unwrap().unwrap());
    }
    let mut connected: Vec<SocketAddr> = clients.iter().map(|client| client.local_addr().unwrap()).collect();
    known.sort_unstable();
    connected.sort_unstable();
    assert_eq!(known, connected);
}

#[tokio::test]
async fn every_listener_gets_its_turn() {
    let node = loopback().await;
    let [busy, quiet] = [node.addresses()[0], node.addresses()[1]];
    let _waiting: Vec<Client> = (0..20).map(|_| Client::connect(busy).unwrap()).collect();
    let _late = Client::connect(quiet).unwrap();
    let mut taken = Vec::new();
    for _ in 0..4 {
        taken.push(node.accept().await.unwrap().local);
    }
    assert!(taken.contains(&quiet) && taken.contains(&busy), "{taken:?}");
}

#[tokio::test]
async fn a_connection_that_is_not_there_is_refused() {
    let node = loopback().await;
    let server = node.addresses()[0];
    let client = Client::connect(server).unwrap();
    let peer = node.accept().await.unwrap().peer;
    // Ends swapped, another server, another machine: each is no connection of ours.
    for (peer, local) in [
        (server, peer),
        (peer, node.addresses()[1]),
        (SocketAddr::new(peer.ip(), peer.port() ^ 1), server),
        (SocketAddr::new([192, 0, 2, 1].into(), peer.port()), server),
    ] {
        assert_eq!(node.identify(peer, local).await.unwrap_err().code(), "peer_not_found", "{peer} {local}");
    }
    drop(client);
}

#[tokio::test]
async fn a_client_that_hung_up_is_refused() {
    let node = loopback().await;
    for server in node.addresses() {
        let client = Client::connect(server).unwrap();
        let connection = node.accept().await.unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(connection.identify(&node).await.unwrap_err().code(), "peer_not_found");
        drop(client);
        assert_eq!(connection.identify(&node).await.unwrap_err().code(), "peer_not_found");
    }
}

/// The bytes of a reset connection can still be read, while its addresses already belong to someone else.
#[tokio::test]
async fn a_reset_connection_does_not_borrow_the_identity_of_its_successor() {
    let node = loopback().await;
    let server = node.addresses()[0];
    let client = TcpStream::connect(server).await.unwrap();
    let port = client.local_addr().unwrap();
    let reset = node.accept().await.unwrap();
    client.writable().await.unwrap();
    client.try_write(b"GET /").unwrap();
    tcp(&reset).readable().await.unwrap();
    // Closing at once, without the usual farewell, sends a reset.
    client.set_zero_linger().unwrap();
    drop(client);

    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(port).unwrap();
    let _successor = socket.connect(server).await.unwrap();
    assert!(node.identify(reset.peer, reset.local).await.is_ok(), "the addresses have an owner again");
    assert_eq!(reset.identify(&node).await.unwrap_err().code(), "peer_not_found");
    assert!(node.accept().await.unwrap().identify(&node).await.is_ok());
}

#[test]
fn only_the_services_own_user_is_let_in() {
    let own = rustix::process::geteuid().as_raw();
    assert_eq!(own_user(own ^ 1, own).unwrap_err().code(), "peer_other_user");
    assert_eq!(own_user(0, 1000).unwrap_err().code(), "peer_other_user");
    assert_eq!(own_user(OVERFLOW_UID, OVERFLOW_UID).unwrap_err().code(), "peer_unmapped_user");
    let nameless = (3_000_000_000..).find(|&uid| uzers::get_user_by_uid(uid).is_none()).unwrap();
    assert_eq!(own_user(nameless, nameless).unwrap(), None);
}

/// Ends the process it holds.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Needs root and `setpriv` to become someone else; without them the rule is shown by the test above.
#[tokio::test]
async fn a_client_of_another_user_is_refused() {
    let node = loopback().await;
    let server = node.addresses()[0];
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let connect = format!("exec 3<>/dev/tcp/127.0.0.1/{} && read -r _ <&3", server.port());
    #[expect(clippy::disallowed_methods, reason = "a client of another user is another process")]
    let spawned = std::process::Command::new("setpriv")
        .args(["--reuid=12345", "--regid=12345", "--clear-groups", "bash", "-c", &connect])
        .stdin(Stdio::null())
        .spawn();
    let Ok(child) = spawned else { return };
    let mut child = Ended(child);
    let connection = tokio::select! {
        connection = node.accept() => connection.unwrap(),
        () = until("the client connects or ends", || child.0.try_wait().unwrap().is_some()) => panic!("no client"),
    };
    let refused = connection.identify(&node).await.unwrap_err();
    assert!(matches!(refused, Unidentified::OtherUser { uid: 12345, own: 0 }), "{refused}");
    assert_eq!(refused.code(), "peer_other_user");
}

//! Which connections on loopback come from a process that may relay requests of others, as the kernel knows the owner of
//! its socket. Answers for that alone: whose requests it relays is asked elsewhere.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::Semaphore;

use super::{Connection, NodeStatus, proc_net};

/// The most lookups at once; see the loopback mode.
const LOOKUPS: usize = 4;

/// The local users whose processes may relay.
#[derive(Debug)]
pub struct Relays {
    uids: BTreeSet<u32>,
    lookups: Arc<Semaphore>,
}

impl Relays {
    /// Processes of these users may.
    pub fn new(uids: BTreeSet<u32>) -> Self {
        Self { uids, lookups: Arc::new(Semaphore::new(LOOKUPS)) }
    }

    /// Whether nobody may.
    pub fn is_empty(&self) -> bool {
        self.uids.is_empty()
    }

    /// Whether a process that may relay made this connection. Never where it cannot be told: not on an address that
    /// others reach, and not where the daemon has no network device of its own, because the connections that it hands on
    /// from peers have the same owner as those of `tailscale serve`; nor while it is not known whether it has one.
    pub async fn made(&self, connection: &Connection, status: &NodeStatus) -> bool {
        let (peer, local) = (connection.peer, connection.local);
        let both = [peer, local].iter().all(|end| end.ip().to_canonical().is_loopback());
        if self.uids.is_empty() || !both || status.userspace || !status.is_up() {
            return false;
        }
        let Ok(permit) = Arc::clone(&self.lookups).acquire_owned().await else { return false };
        let looked = tokio::task::spawn_blocking(move || {
            // Held by the thread, not by the caller: who stops waiting does not stop the reading.
            let _permit = permit;
            proc_net::owner(peer, local)
        });
        let owner = looked.await;
        let trusted = matches!(owner, Ok(Ok(uid)) if self.uids.contains(&uid));
        // While our end is still connected, nobody else can have had its pair of addresses.
        trusted && connection.stream.is_from(peer)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::tailnet::{NodeState, OwnNode, Stream};

    async fn connection() -> (TcpStream, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let local = stream.local_addr().unwrap();
        (client, Connection { stream: Stream::Tcp(stream), peer, local })
    }

    fn up() -> NodeStatus {
        let own = OwnNode {
            id: "nSELF".to_owned(),
            name: "tailops.example.ts.net".to_owned(),
            tags: Vec::new(),
            user: None,
            addresses: Vec::new(),
            key_expiry: None,
            certificate_names: Vec::new(),
        };
        NodeStatus { own: Some(own), ..NodeStatus::of_state(NodeState::Running) }
    }

    fn own() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[tokio::test]
    async fn p13_only_the_listed_users_relay() {
        let status = up();
        let (_client, connection) = connection().await;
        assert!(Relays::new([own()].into()).made(&connection, &status).await);
        assert!(!Relays::new([own() + 1].into()).made(&connection, &status).await);
        assert!(!Relays::new(BTreeSet::new()).made(&connection, &status).await);
    }

    #[tokio::test]
    async fn p13_nobody_relays_where_peers_come_from_the_same_user() {
        let (_client, connection) = connection().await;
        for status in [
            NodeStatus { userspace: true, ..up() },
            NodeStatus::of_state(NodeState::Unreachable("it is restarted".to_owned())),
            NodeStatus::of_state(NodeState::Starting),
            NodeStatus { own: None, ..up() },
        ] {
            assert!(!Relays::new([own()].into()).made(&connection, &status).await, "{status:?}");
        }
    }

    #[tokio::test]
    async fn p13_nobody_relays_to_another_address() {
        let status = up();
        for (peer, local) in [("100.64.0.7:1", "127.0.0.1:8080"), ("127.0.0.1:1", "100.64.0.1:8080")] {
            let (_client, mut connection) = connection().await;
            (connection.peer, connection.local) = (peer.parse().unwrap(), local.parse().unwrap());
            assert!(!Relays::new([own()].into()).made(&connection, &status).await, "{peer} {local}");
        }
    }
}

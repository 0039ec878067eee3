//! A daemon as a source of identities: its status, looked at again and again, and who its peers are. Refuses everybody
//! while the daemon is not known to be on the tailnet; what it said earlier is never an answer.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{Mutex, Notify},
    time::timeout,
};

use super::{
    DialError, NodePeer, NodeState, NodeStatus, Peer, Unidentified,
    localapi::{LocalApi, LocalApiError},
    whois,
};
use crate::config::Tailnet;

/// How often the daemon is looked at, and how often while it is not on the tailnet.
const LOOKS: Duration = Duration::from_secs(2);
const LOOKS_WHILE_DOWN: Duration = Duration::from_millis(250);
/// How often its list of peers is read. It is long, and nothing is decided by it.
const PEERS_EVERY: u32 = 5;

/// The daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    api: LocalApi,
    settings: Tailnet,
    status: ArcSwap<NodeStatus>,
    looking: Mutex<()>,
    /// Somebody has seen it fail.
    doubted: Notify,
}

impl Daemon {
    /// A daemon that has not been looked at.
    pub(super) fn new(api: LocalApi, settings: Tailnet) -> Self {
        let status = ArcSwap::from_pointee(NodeStatus::of_state(NodeState::Starting));
        Self { api, settings, status, looking: Mutex::new(()), doubted: Notify::new() }
    }

    /// As of the last look.
    pub(super) fn status(&self) -> Arc<NodeStatus> {
        self.status.load_full()
    }

    /// Looks at it, at its peers too where `peers` says so, and remembers what it sees.
    pub(super) async fn look(&self, peers: bool) -> Arc<NodeStatus> {
        // One after the other, so that what is remembered is what was seen last.
        let _one = self.looking.lock().await;
        let mut answer = self.api.status(peers).await;
        if answer.is_err() {
            // One that has just been started again, or has much to do, is not down.
            answer = self.api.status(peers).await;
        }
        let before = self.status();
        let status = match answer {
            Ok(answer) => {
                let mut status = NodeStatus::read(&answer);
                if !peers && status.state == NodeState::Running {
                    status.peers.clone_from(&before.peers);
                }
                status
            }
            Err(error) => NodeStatus { state: NodeState::Unreachable(error.to_string()), ..(*before).clone() },
        };
        if status.state != before.state {
            tracing::info!(state = words(&status.state), "the tailnet node");
        }
        let status = Arc::new(status);
        self.status.store(Arc::clone(&status));
        status
    }

    /// Looks at it for the `number`th time in a row of looks.
    pub(super) async fn look_again(&self, number: u32) -> Arc<NodeStatus> {
        self.look(number.is_multiple_of(PEERS_EVERY)).await
    }

    /// Waits until it is time for the next look: less long while it is down or somebody has seen it fail.
    pub(super) async fn until_next_look(&self) {
        // However many see it fail, it is not asked more often than this.
        tokio::time::sleep(LOOKS_WHILE_DOWN).await;
        if self.status().is_up() {
            let _ = timeout(LOOKS - LOOKS_WHILE_DOWN, self.doubted.notified()).await;
        }
    }

    /// The status, where it is one in which peers can be identified.
    pub(super) fn up(&self) -> Result<Arc<NodeStatus>, Unidentified> {
        let status = self.status();
        if status.is_up() { Ok(status) } else { Err(Unidentified::Daemon(words(&status.state))) }
    }

    /// Who is at `asked`. The peer is shown with `address`, or else with the node's own first address and port 0.
    pub(super) async fn identify(&self, asked: SocketAddr, address: Option<SocketAddr>) -> Result<Peer, Unidentified> {
        self.up()?;
        let answer = self.api.whois(asked).await;
        let answer = answer.map_err(|error| match error {
            LocalApiError::NotFound => Unidentified::UnknownPeer(asked),
            error => {
                self.doubted.notify_one();
                Unidentified::Daemon(error.to_string())
            }
        })?;
        // As it is known now, not as it was before the answer.
        whois::read(&answer, &*self.up()?, &self.settings, address)
    }

    /// Every peer of the network map with who it would be here.
    pub(super) async fn peers(&self) -> Vec<(NodePeer, Result<Peer, Unidentified>)> {
        let status = self.look(true).await;
        let mut peers = Vec::with_capacity(status.peers.len());
        let mut failed: Option<String> = None;
        for peer in &status.peers {
            let known = match (&failed, peer.addresses.first()) {
                (Some(error), _) => Err(Unidentified::Daemon(error.clone())),
                (None, None) => Err(Unidentified::Nameless(format!("node {} has no address", peer.id))),
                (None, Some(&address)) => self.identify(SocketAddr::new(address, 0), None).await,
            };
            // A daemon that does not answer is not waited for once for each.
            if let Err(Unidentified::Daemon(error)) = &known {
                failed = Some(error.clone());
            }
            peers.push((peer.clone(), known));
        }
        peers
    }

    /// The address of the peer with this name or address. That the peer has it now is asked of the daemon; of its other
    /// facts the list may be some seconds old.
    pub(super) async fn address_of(&self, host: &str) -> Result<IpAddr, DialError> {
        let node = |error: String| DialError::Node(error);
        let not_a_peer = || DialError::NotAPeer(host.to_owned());
        let mut status = self.status();
        if status.peer(host).is_none() || !status.is_up() {
            status = self.look(true).await;
        }
        if !status.is_up() {
            return Err(node(words(&status.state)));
        }
        let peer = status.peer(host).ok_or_else(not_a_peer)?;
        let wanted = host.parse::<IpAddr>().ok().filter(|address| peer.addresses.contains(address));
        let address = wanted.or(peer.addresses.first().copied()).ok_or_else(not_a_peer)?;
        match self.api.whois(SocketAddr::new(address, 0)).await {
            Ok(answer) if answer.node.stable_id == peer.id => Ok(address),
            Ok(_) | Err(LocalApiError::NotFound) => Err(not_a_peer()),
            Err(error) => Err(node(error.to_string())),
        }
    }

    /// Its LocalAPI.
    pub(super) fn api(&self) -> &LocalApi {
        &self.api
    }
}

/// A state in words, for people.
pub(super) fn words(state: &NodeState) -> String {
    match state {
        NodeState::Loopback => "it is not on a tailnet".to_owned(),
        NodeState::Running => "it is on the tailnet".to_owned(),
        NodeState::Starting => "it is starting, and has no network map yet".to_owned(),
        NodeState::NeedsLogin => "it is logged out, or its key has expired".to_owned(),
        NodeState::NeedsApproval => "an admin of the tailnet has not approved the device yet".to_owned(),
        NodeState::Stopped => "it is switched off".to_owned(),
        NodeState::Unreachable(why) => why.clone(),
    }
}

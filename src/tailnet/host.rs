//! The node mode on a machine that is on the tailnet already, through its tailscaled or any other by its socket. Answers
//! for listening where the tailnet reaches us and for peers that the daemon names for that very connection. Listens
//! nowhere that was not asked for, and reaches nothing but peers.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt};
use tailscale_localapi::LocalApi as CertificateApi;
use tokio::{
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    CertificatePair, Connection, DaemonAddress, DialError, LocalApi, Node, NodePeer, NodeState, NodeStatus, Peer,
    Stream, Unidentified,
    daemon::{Daemon, words},
    listeners::Listeners,
    whois::is_node_address,
};
use crate::config::{HostNode, Tailnet};

/// How long the start waits for a daemon that is starting too.
const JOIN_WITHIN: Duration = Duration::from_secs(30);
/// How often it looks meanwhile.
const JOIN_LOOKS: Duration = Duration::from_millis(250);
/// How long an identity is believed on a connection that lives.
const BELIEVED_FOR: Duration = Duration::from_secs(3);
/// For a connection to a peer, and for a certificate, which may have to be made first.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const CERTIFICATE_WITHIN: Duration = Duration::from_secs(60);

/// Why [`Host::join`] gave up.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The daemon cannot be asked.
    #[error(
        "the tailnet daemon behind {} does not answer: {why}; is tailscaled running? `node.socket` names its socket",
        socket.display()
    )]
    Unreachable {
        /// Its socket.
        socket: PathBuf,
        /// What was seen last.
        why: String,
    },
    /// The daemon is not on a tailnet.
    #[error("the tailnet daemon is there, but {}; {}", words(.0), mend(.0))]
    NotRunning(NodeState),
    /// Something listens there already.
    #[error("{0} is in use: stop the program that listens there, or choose another `node.port`")]
    InUse(SocketAddr),
    /// The system refused for another reason.
    #[error("cannot listen on {address}")]
    Io {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn mend(state: &NodeState) -> &'static str {
    match state {
        NodeState::NeedsLogin => "log it in with `tailscale up`",
        NodeState::NeedsApproval => "approve it in the admin console",
        NodeState::Stopped => "switch it on with `tailscale up`",
        _ => "see `tailscale status`",
    }
}

/// The machine's own node.
#[derive(Debug)]
pub struct Host {
    shared: Arc<Shared>,
    /// Looks at the daemon, for as long as the node is there.
    watch: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    settings: HostNode,
    daemon: Daemon,
    listeners: Listeners,
}

impl Host {
    /// Listens, once the daemon is on the tailnet; waits half a minute for that.
    pub async fn join(settings: &HostNode, tailnet: &Tailnet) -> Result<Self, JoinError> {
        Self::join_within(settings, tailnet, JOIN_WITHIN).await
    }

    async fn join_within(settings: &HostNode, tailnet: &Tailnet, most: Duration) -> Result<Self, JoinError> {
        let api = LocalApi::new(DaemonAddress::Socket { path: settings.socket.clone(), process: None });
        let daemon = Daemon::new(api, tailnet.clone());
        let shared = Arc::new(Shared { settings: settings.clone(), daemon, listeners: Listeners::default() });
        let until = Instant::now() + most;
        while let Err(error) = shared.begin().await {
            // What nobody can be expected to mend meanwhile is said at once.
            let lasting = matches!(error, JoinError::InUse(_));
            if lasting || Instant::now() >= until {
                return Err(error);
            }
            sleep(JOIN_LOOKS).await;
        }
        let watch = tokio::spawn(Arc::clone(&shared).watch());
        Ok(Self { shared, watch })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Shared {
    /// Listens at least somewhere, if the daemon is on the tailnet; everywhere, if the configuration says where.
    async fn begin(&self) -> Result<(), JoinError> {
        let status = self.daemon.look(true).await;
        match &status.state {
            NodeState::Running => {}
            NodeState::Unreachable(why) => {
                return Err(JoinError::Unreachable { socket: self.settings.socket.clone(), why: why.clone() });
            }
            state => return Err(JoinError::NotRunning(state.clone())),
        }
        let mut failed = self.listeners.follow(&self.wanted(&status)).await;
        let taken = failed.iter().position(|(_, error)| error.kind() == io::ErrorKind::AddrInUse);
        let enough = self.settings.listen.is_none() && !self.listeners.addresses().is_empty();
        if let Some(taken) = taken {
            return Err(JoinError::InUse(failed.swap_remove(taken).0));
        }
        match failed.into_iter().next() {
            Some((address, source)) if !enough => Err(JoinError::Io { address, source }),
            _ => Ok(()),
        }
    }

    /// Where to listen, as the daemon is now.
    fn wanted(&self, status: &NodeStatus) -> Vec<SocketAddr> {
        if let Some(listen) = &self.settings.listen {
            return listen.clone();
        }
        if status.userspace {
            // The daemon hands connections from the tailnet on to this address and port.
            return vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.settings.port)];
        }
        let own = status.own.iter().flat_map(|own| &own.addresses);
        own.map(|&address| SocketAddr::new(address, self.settings.port)).collect()
    }

    /// Keeps the status and the listeners true.
    async fn watch(self: Arc<Self>) {
        let mut known: Vec<SocketAddr> = Vec::new();
        for number in 1.. {
            self.daemon.until_next_look().await;
            let status = self.daemon.look_again(number).await;
            if !status.is_up() {
                // Without an answer nothing is known of addresses; nobody is let in meanwhile.
                continue;
            }
            let failed = self.listeners.follow(&self.wanted(&status)).await;
            let addresses: Vec<SocketAddr> = failed.iter().map(|(address, _)| *address).collect();
            if addresses != known {
                for (address, error) in &failed {
                    tracing::warn!(%address, %error, "cannot listen here; it is tried again");
                }
                known = addresses;
            }
        }
    }
}

impl Node for Host {
    fn mode(&self) -> &'static str {
        "host"
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.shared.listeners.addresses()
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Connection>> {
        self.shared.listeners.accept().boxed()
    }

    fn identify<'a>(&'a self, peer: SocketAddr, local: SocketAddr) -> BoxFuture<'a, Result<Peer, Unidentified>> {
        let (from, to) = (peer.ip().to_canonical(), local.ip().to_canonical());
        let peer = SocketAddr::new(from, peer.port());
        async move {
            let daemon = &self.shared.daemon;
            let status = daemon.up()?;
            if status.userspace {
                // The daemon connects from this machine. A tailnet address on another network is a stranger's.
                return if from.is_loopback() {
                    daemon.identify(peer, None).await
                } else {
                    Err(Unidentified::UnknownPeer(peer))
                };
            }
            // Only what arrived on the node's own address came over the tailnet: other networks use 100.64.0.0/10 too.
            let over_tailnet = status.own.as_ref().is_some_and(|own| own.addresses.contains(&to));
            if !over_tailnet || !is_of(&status, from) {
                return Err(Unidentified::UnknownPeer(peer));
            }
            daemon.identify(peer, Some(peer)).await
        }
        .boxed()
    }

    fn believed_for(&self) -> Option<Duration> {
        Some(BELIEVED_FOR)
    }

    fn identify_relayed(&self, address: IpAddr) -> BoxFuture<'_, Result<Peer, Unidentified>> {
        let peer = SocketAddr::new(address.to_canonical(), 0);
        async move {
            let daemon = &self.shared.daemon;
            if !is_of(&*daemon.up()?, peer.ip()) {
                return Err(Unidentified::UnknownPeer(peer));
            }
            daemon.identify(peer, Some(peer)).await
        }
        .boxed()
    }

    fn status(&self) -> Arc<NodeStatus> {
        self.shared.daemon.status()
    }

    fn peers(&self) -> BoxFuture<'_, Vec<(NodePeer, Result<Peer, Unidentified>)>> {
        self.shared.daemon.peers().boxed()
    }

    fn dial<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, Result<Stream, DialError>> {
        async move {
            let daemon = &self.shared.daemon;
            let address = daemon.address_of(host).await?;
            if daemon.status().userspace {
                let dialled = daemon.api().dial(address, port).await;
                return dialled.map_err(|error| DialError::Node(error.to_string()));
            }
            let address = SocketAddr::new(address, port);
            let connected = match timeout(CONNECT_WITHIN, TcpStream::connect(address)).await {
                Ok(connected) => connected,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            let stream = connected.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
            stream.map(Stream::Tcp).map_err(|source| DialError::Io { address: address.to_string(), source })
        }
        .boxed()
    }

    fn certificate<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<CertificatePair, String>> {
        async move {
            let status = self.shared.daemon.status();
            let names = status.own.iter().flat_map(|own| &own.certificate_names);
            let of_names = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-');
            let name = names.clone().find(|known| known.eq_ignore_ascii_case(name) && known.chars().all(of_names));
            let Some(name) = name else {
                return Err("the tailnet gives the node no certificate for this name; HTTPS is switched on in the \
                            admin console"
                    .to_owned());
            };
            let api = CertificateApi::new_with_socket_path(&self.shared.settings.socket);
            match timeout(CERTIFICATE_WITHIN, api.certificate_pair(name)).await {
                Ok(Ok((key, chain))) => Ok(CertificatePair {
                    chain: chain.into_iter().map(|certificate| certificate.0).collect(),
                    key: key.0.into(),
                }),
                Ok(Err(error)) => Err(format!("the tailnet daemon has no certificate for {name}: {error}")),
                Err(_) => Err(format!("no certificate for {name} within {} s", CERTIFICATE_WITHIN.as_secs())),
            }
        }
        .boxed()
    }
}

/// Whether `address` can be that of a node of this tailnet. Whose it is, only the daemon says.
fn is_of(status: &NodeStatus, address: IpAddr) -> bool {
    is_node_address(address) || status.peers.iter().any(|peer| peer.addresses.contains(&address))
}

#[cfg(test)]
mod tests;

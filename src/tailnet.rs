//! How we are reached and who is at the other end. Answers for the accepted connections of one node mode and for the
//! identity of each peer, taken from the connection itself. Never reads an identity from a header or an argument.

#[cfg(not(target_os = "linux"))]
compile_error!("tailops runs on Linux only: it takes the identity of local peers from the kernel's /proc/net/tcp");

mod change;
mod daemon;
mod embedded;
mod grants;
mod host;
mod listeners;
mod localapi;
mod loopback;
mod netmap;
mod proc_net;
mod relay;
mod status;
mod stream;
mod whois;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt};

pub use embedded::{CredentialError, Embedded, EmbeddedError, Launch};
pub use grants::{Approves, Grant, Grants, read as read_grants, read_text as read_grants_text};
pub use host::{Host, JoinError};
pub use localapi::{DaemonAddress, LocalApi, LocalApiError};
pub use loopback::{BindError, Loopback};
pub use relay::Relays;
pub use status::{NodePeer, NodeState, NodeStatus, OwnNode};
pub use stream::Stream;

/// The network identity of one connection: what the node knows, not what the peer says.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// The same for every connection of this peer: the stable id of its node on a tailnet; `uid:1000` on loopback, also
    /// for a uid that has no name.
    pub id: String,
    /// The host or node it connects from.
    pub node: String,
    /// The person behind it: the login name on a tailnet, and none where the node is tagged. On loopback the name the
    /// passwd database has for the uid; none where it has no entry.
    pub user: Option<String>,
    /// Its tailnet tags. None on loopback.
    pub tags: Vec<String>,
    /// The tailnet it belongs to. None on loopback.
    pub tailnet: Option<String>,
    /// Its end of the connection.
    pub address: SocketAddr,
    /// The local user who owns its end. Only on loopback.
    pub uid: Option<u32>,
    /// What the tailnet policy file hands it. On loopback nothing narrows.
    pub grants: Grants,
}

/// One accepted connection.
#[derive(Debug)]
pub struct Connection {
    /// The bytes.
    pub stream: Stream,
    /// The peer's end, as far as it is known: its address on the tailnet, or that of the process that relays it.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
}

impl Connection {
    /// Who is at the other end of this very connection.
    ///
    /// [`Node::identify`] knows only the two addresses. A peer that resets its connection frees them, and another
    /// user's connection may take them before they are looked up, while bytes of the first one can still be read. So
    /// this looks once more: while our end is still connected, nobody else can have had its pair of addresses.
    ///
    /// Errors as [`Node::identify`] does, and with [`Unidentified::NotFound`] if the connection has gone by then.
    pub async fn identify(&self, node: &dyn Node) -> Result<Peer, Unidentified> {
        let peer = node.identify(self.peer, self.local).await?;
        if self.stream.is_from(self.peer) { Ok(peer) } else { Err(Unidentified::NotFound) }
    }
}

/// Why a peer has no identity. Each is a refusal.
#[derive(Debug, thiserror::Error)]
pub enum Unidentified {
    /// The kernel has no open connection between these two addresses: the peer has gone, or is not on this machine.
    #[error("no open connection of this peer is known")]
    NotFound,
    /// The kernel has several, of different users.
    #[error("more than one user owns this peer's end of the connection")]
    Ambiguous,
    /// Another local user than the one the service runs as.
    #[error("the connection belongs to uid {uid}, the service runs as uid {own}")]
    OtherUser {
        /// Who owns the peer's end.
        uid: u32,
        /// Who the service runs as.
        own: u32,
    },
    /// The uid is the one the kernel shows for every user it cannot map into this user namespace.
    #[error("the connection belongs to uid {0}, which stands for every user unknown here")]
    Unmapped(u32),
    /// The kernel's table could not be read or understood.
    #[error("the owner of the connection could not be looked up")]
    Lookup(#[source] io::Error),
    /// The node's daemon does not know this address: a process of this machine, a host behind a router, or a peer that
    /// has been removed.
    #[error("no peer of the tailnet is known at {0}")]
    UnknownPeer(SocketAddr),
    /// The daemon cannot be asked, does not answer in time, or refuses.
    #[error("the tailnet node cannot say who this is: {0}")]
    Daemon(String),
    /// The daemon's answer lacks what makes an identity, or makes no sense.
    #[error("the tailnet node's answer names nobody: {0}")]
    Nameless(String),
    /// Known, and not to be let in.
    #[error("{} may not come in: {why}", peer.node)]
    NotAdmitted {
        /// Who it is, for the record.
        peer: Box<Peer>,
        /// Why not.
        why: NotAdmitted,
    },
}

/// Why a peer that is known may not come in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// The gateway's own node: a process of this machine that dials the gateway's own tailnet address.
    #[error("this is the gateway's own node")]
    OwnNode,
    /// A node of another tailnet that is shared with this one.
    #[error("the node is shared in from another tailnet")]
    SharedIn,
    /// A subnet router or exit node: whoever is behind it has its identity.
    #[error("the node routes for others (subnet router or exit node), so it names nobody")]
    Router,
    /// Exempt from tailnet lock, e.g. the ingress of Funnel.
    #[error("the node is exempt from tailnet lock")]
    Unsigned,
    /// Its key has expired.
    #[error("the node's key has expired")]
    Expired,
    /// Has none of the tags and users of `tailnet.require`.
    #[error("none of the tags and users that tailnet.require lists")]
    NotRequired,
    /// The tailnet policy hands it no rule for this gateway.
    #[error("the tailnet policy grants it nothing on this gateway")]
    NoGrant,
    /// The tailnet policy hands it a rule that cannot be understood.
    #[error("the tailnet policy grants it a rule that cannot be understood: {0}")]
    BadGrant(String),
}

impl NotAdmitted {
    /// For programs and the audit log.
    pub fn code(&self) -> &'static str {
        match self {
            Self::OwnNode => "peer_own_node",
            Self::SharedIn => "peer_shared_in",
            Self::Router => "peer_router",
            Self::Unsigned => "peer_unsigned",
            Self::Expired => "peer_expired",
            Self::NotRequired => "peer_tag",
            Self::NoGrant => "peer_no_grant",
            Self::BadGrant(_) => "peer_bad_grant",
        }
    }
}

impl Unidentified {
    /// For programs and the audit log.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "peer_not_found",
            Self::Ambiguous => "peer_ambiguous",
            Self::OtherUser { .. } => "peer_other_user",
            Self::Unmapped(_) => "peer_unmapped_user",
            Self::Lookup(_) => "peer_lookup_failed",
            Self::UnknownPeer(_) => "peer_unknown",
            Self::Daemon(_) => "peer_daemon_failed",
            Self::Nameless(_) => "peer_nameless",
            Self::NotAdmitted { why, .. } => why.code(),
        }
    }

    /// Who it is, where that is known although it may not come in.
    pub fn peer(&self) -> Option<&Peer> {
        match self {
            Self::NotAdmitted { peer, .. } => Some(peer),
            _ => None,
        }
    }
}

/// Why no connection to a tailnet address was made.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Not the address of a peer in the network map; nothing else is ever dialled.
    #[error("{0} is no peer of this tailnet")]
    NotAPeer(String),
    /// The node cannot dial now.
    #[error("the tailnet node cannot dial: {0}")]
    Node(String),
    /// The connection failed.
    #[error("cannot connect to {address}")]
    Io {
        /// Where to.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// One way to be on the network: where connections come from and who made them.
pub trait Node: Send + Sync + 'static {
    /// The mode's name in the configuration, e.g. `loopback`.
    fn mode(&self) -> &'static str;

    /// The addresses it listens on now, as bound: port 0 is already replaced.
    fn addresses(&self) -> Vec<SocketAddr>;

    /// The next connection, from whichever address it comes. May be dropped before it is ready without loss. Errors
    /// only where no further connection can be had; what passes by itself is waited out.
    fn accept(&self) -> BoxFuture<'_, io::Result<Connection>>;

    /// Who owns the end `peer` of the connection whose other end is our `local`. Use [`Connection::identify`] where
    /// the connection is at hand.
    fn identify<'a>(&'a self, peer: SocketAddr, local: SocketAddr) -> BoxFuture<'a, Result<Peer, Unidentified>>;

    /// How long an identity may be believed before it is asked for again, on connections that live. None where it
    /// cannot change while the connection is open.
    fn believed_for(&self) -> Option<Duration> {
        None
    }

    /// The tailnet peer whose own address is `address`, for a connection that a trusted proxy relays.
    fn identify_relayed(&self, address: IpAddr) -> BoxFuture<'_, Result<Peer, Unidentified>> {
        let unknown = Unidentified::UnknownPeer(SocketAddr::new(address, 0));
        async { Err(unknown) }.boxed()
    }

    /// The tailnet peer whose own address is `address`, as the tailnet knows it now: for looking again at somebody who
    /// was at the other end of a connection before. Never for whoever claims to be at an address.
    fn peer_at(&self, address: IpAddr) -> BoxFuture<'_, Result<Peer, Unidentified>> {
        self.identify_relayed(address)
    }

    /// What the node knows of itself and its tailnet, as of its last look. Never asks anybody.
    fn status(&self) -> Arc<NodeStatus>;

    /// What the tailnet knows of every visible peer and its rights here; asks the daemon. For people who look at the
    /// gateway, never for a decision.
    fn peers(&self) -> BoxFuture<'_, Vec<(NodePeer, Result<Peer, Unidentified>)>> {
        async { Vec::new() }.boxed()
    }

    /// A connection to `port` of the peer with this name or address. Only ever to a peer in the network map.
    fn dial<'a>(&'a self, host: &'a str, _port: u16) -> BoxFuture<'a, Result<Stream, DialError>> {
        async move { Err(DialError::NotAPeer(host.to_owned())) }.boxed()
    }

    /// The chain and the private key, both PEM, of a certificate for `name`, one of the node's own names. May take half
    /// a minute the first time.
    fn certificate<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<CertificatePair, String>> {
        async move { Err(format!("a node in this mode has no certificate for {name}")) }.boxed()
    }

    /// Gives the node up, in order. Called once, when no connection is served any more.
    fn stop(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}

/// A certificate of the node.
#[derive(Debug)]
pub struct CertificatePair {
    /// The leaf and what joins it to its authority, DER.
    pub chain: Vec<Vec<u8>>,
    /// Its private key, DER in one of the forms of rustls.
    pub key: secrecy::SecretSlice<u8>,
}

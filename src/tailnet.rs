//! How we are reached and who is at the other end. Answers for the accepted connections of one node mode and for the
//! identity of each peer, taken from the connection itself. Never reads an identity from a header or an argument.

#[cfg(not(target_os = "linux"))]
compile_error!("tailops runs on Linux only: it takes the identity of local peers from the kernel's /proc/net/tcp");

mod loopback;
mod proc_net;

use std::{io, net::SocketAddr};

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;

pub use loopback::{BindError, Loopback};

/// The network identity of one connection: what the node knows, not what the peer says.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The same for every connection of this peer: `uid:1000` on loopback, also for a uid that has no name.
    pub id: String,
    /// The host or node it connects from.
    pub node: String,
    /// The person behind it. On loopback the name the passwd database has for the uid; none where it has no entry.
    pub user: Option<String>,
    /// Its tailnet tags. None on loopback.
    pub tags: Vec<String>,
    /// The tailnet it belongs to. None on loopback.
    pub tailnet: Option<String>,
    /// Its end of the connection.
    pub address: SocketAddr,
    /// The local user who owns its end. Only on loopback.
    pub uid: Option<u32>,
}

/// One accepted connection.
#[derive(Debug)]
pub struct Connection {
    /// The bytes.
    pub stream: TcpStream,
    /// The peer's end.
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
        match self.stream.peer_addr() {
            Ok(address) if address == self.peer => Ok(peer),
            _ => Err(Unidentified::NotFound),
        }
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
        }
    }
}

/// One way to be on the network: where connections come from and who made them.
pub trait Node: Send + Sync + 'static {
    /// The mode's name in the configuration, e.g. `loopback`.
    fn mode(&self) -> &'static str;

    /// The addresses it listens on, as bound: port 0 is already replaced.
    fn addresses(&self) -> Vec<SocketAddr>;

    /// The next connection, from whichever address it comes. May be dropped before it is ready without loss. Errors
    /// only where no further connection can be had; what passes by itself is waited out.
    fn accept(&self) -> BoxFuture<'_, io::Result<Connection>>;

    /// Who owns the end `peer` of the connection whose other end is our `local`. Use [`Connection::identify`] where
    /// the connection is at hand.
    fn identify<'a>(&'a self, peer: SocketAddr, local: SocketAddr) -> BoxFuture<'a, Result<Peer, Unidentified>>;
}

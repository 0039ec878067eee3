//! The node mode for development: this machine only. Answers for listening on 127.0.0.1 and ::1 alone and for peers
//! that are the service's own user, as the kernel knows the owner of the client's socket. Never takes anyone on trust.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt, select_all};
use rustix::io::Errno;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::{Connection, Grants, Node, NodeState, NodeStatus, Peer, Stream, Unidentified, proc_net};
use crate::config::is_loopback;

/// The most lookups at once. One reads the kernel's whole table of connections, so a flood of connections must not
/// take every core and every blocking thread.
const LOOKUPS: usize = 4;

/// What the kernel shows for a uid that has no number in this user namespace (`/proc/sys/kernel/overflowuid`).
const OVERFLOW_UID: u32 = 65_534;

/// The wait after the first failure for want of resources, and the longest one: each doubles the one before.
const BACKOFF: [Duration; 2] = [Duration::from_millis(5), Duration::from_secs(1)];

/// How many failed connections in a row are skipped at once, before they too are waited out.
const SKIPS: usize = 100;

/// Why [`Loopback::bind`] refused.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Nothing to listen on.
    #[error("no address to listen on: name one, such as 127.0.0.1:8080")]
    NoAddress,
    /// Reachable from elsewhere, or not one of the two addresses that every machine has to itself.
    #[error("refused to listen on {0}: loopback mode listens on 127.0.0.1 and [::1] only")]
    NotLoopback(SocketAddr),
    /// Something listens there already.
    #[error("{0} is in use: stop the program that listens there, or choose another port")]
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

/// Listeners on this machine's loopback addresses.
#[derive(Debug)]
pub struct Loopback {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    /// Which listener is asked first the next time, so that a busy one cannot starve the others.
    turn: AtomicUsize,
    lookups: Arc<Semaphore>,
    host: String,
    own_uid: u32,
}

impl Loopback {
    /// Listens on all of `addresses`, or on none.
    pub async fn bind(addresses: &[SocketAddr]) -> Result<Self, BindError> {
        if addresses.is_empty() {
            return Err(BindError::NoAddress);
        }
        if let Some(&address) = addresses.iter().find(|address| !is_loopback(address.ip())) {
            return Err(BindError::NotLoopback(address));
        }
        let mut listeners = Vec::with_capacity(addresses.len());
        let mut bound = Vec::with_capacity(addresses.len());
        for &address in addresses {
            let failed = |source: io::Error| match source.kind() {
                io::ErrorKind::AddrInUse => BindError::InUse(address),
                _ => BindError::Io { address, source },
            };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            bound.push(listener.local_addr().map_err(failed)?);
            listeners.push(listener);
        }
        Ok(Self {
            listeners,
            addresses: bound,
            turn: AtomicUsize::new(0),
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            own_uid: rustix::process::geteuid().as_raw(),
        })
    }

    /// The next stream from any listener, each listener in turn the first to be asked.
    async fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % self.listeners.len().max(1);
        let (before, from) = self.listeners.split_at(first);
        select_all(from.iter().chain(before).map(|listener| listener.accept().boxed())).await.0
    }
}

impl Node for Loopback {
    fn mode(&self) -> &'static str {
        "loopback"
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    fn status(&self) -> Arc<NodeStatus> {
        Arc::new(NodeStatus::of_state(NodeState::Loopback))
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Connection>> {
        patiently(|| async {
            let (stream, peer) = self.next().await?;
            stream.set_nodelay(true)?;
            let local = stream.local_addr()?;
            Ok(Connection { stream: Stream::Tcp(stream), peer, local })
        })
        .boxed()
    }

    fn identify<'a>(&'a self, peer: SocketAddr, local: SocketAddr) -> BoxFuture<'a, Result<Peer, Unidentified>> {
        async move {
            if !is_loopback(peer.ip().to_canonical()) {
                return Err(Unidentified::NotFound);
            }
            let permit = Arc::clone(&self.lookups).acquire_owned().await.map_err(lookup_failed)?;
            let (host, own) = (self.host.clone(), self.own_uid);
            tokio::task::spawn_blocking(move || {
                // Held by the thread, not by the caller: who stops waiting does not stop the reading.
                let _permit = permit;
                let uid = proc_net::owner(peer, local)?;
                let user = own_user(uid, own)?;
                Ok(Peer {
                    id: format!("uid:{uid}"),
                    node: host,
                    user,
                    tags: Vec::new(),
                    tailnet: None,
                    address: peer,
                    uid: Some(uid),
                    grants: Grants::Unrestricted,
                })
            })
            .await
            .map_err(lookup_failed)?
        }
        .boxed()
    }
}

/// The name of `uid`, if it is the service's `own`. A user without an entry in the passwd database has no name.
fn own_user(uid: u32, own: u32) -> Result<Option<String>, Unidentified> {
    if uid == OVERFLOW_UID {
        return Err(Unidentified::Unmapped(uid));
    }
    if uid != own {
        return Err(Unidentified::OtherUser { uid, own });
    }
    Ok(uzers::get_user_by_uid(uid).and_then(|user| user.name().to_str().map(str::to_owned)))
}

fn lookup_failed(error: impl std::error::Error + Send + Sync + 'static) -> Unidentified {
    Unidentified::Lookup(io::Error::other(error))
}

/// Tries until `accept` gives a connection. What concerns only the connection that failed is skipped; want of
/// descriptors or memory is waited out, longer each time; anything else ends it.
async fn patiently<T, F: Future<Output = io::Result<T>>>(mut accept: impl FnMut() -> F) -> io::Result<T> {
    let [mut wait, longest] = BACKOFF;
    let mut skipped = 0;
    loop {
        match accept().await {
            Ok(connection) => return Ok(connection),
            Err(error) if skipped < SKIPS && is_one_of(&error, OF_THE_PEER) => {
                skipped += 1;
                tracing::debug!(%error, "a connection ended before it was taken");
            }
            Err(error) if is_one_of(&error, EXHAUSTED) || is_one_of(&error, OF_THE_PEER) => {
                tracing::warn!(%error, "no connection can be taken for now");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(longest);
                skipped = 0;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Want of descriptors or memory.
const EXHAUSTED: &[Errno] = &[Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];

/// Errors of the new connection itself, which Linux hands to `accept` (accept(2)).
const OF_THE_PEER: &[Errno] = &[
    Errno::CONNABORTED,
    Errno::CONNRESET,
    Errno::INTR,
    Errno::PERM,
    Errno::PROTO,
    Errno::NOPROTOOPT,
    Errno::NETDOWN,
    Errno::NETUNREACH,
    Errno::HOSTDOWN,
    Errno::HOSTUNREACH,
    Errno::NONET,
    Errno::OPNOTSUPP,
    Errno::TIMEDOUT,
    Errno::NOTCONN,
];

fn is_one_of(error: &io::Error, errors: &[Errno]) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| errors.contains(&errno))
}

#[cfg(test)]
mod tests;

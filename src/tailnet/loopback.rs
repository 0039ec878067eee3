//! The node mode for development: this machine only. Answers for listening on 127.0.0.1 and ::1 alone and for peers
//! that are the service's own user, as the kernel knows the owner of the client's socket. Never takes anyone on trust.

use std::{io, net::SocketAddr, sync::Arc};

use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::Semaphore;

use super::{Connection, Grants, Node, NodeState, NodeStatus, Peer, Unidentified, listeners::Listeners, proc_net};
use crate::config::is_loopback;

/// The most lookups at once. One reads the kernel's whole table of connections, so a flood of connections must not
/// take every core and every blocking thread.
const LOOKUPS: usize = 4;

/// What the kernel shows for a uid that has no number in this user namespace (`/proc/sys/kernel/overflowuid`).
const OVERFLOW_UID: u32 = 65_534;

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
    listeners: Listeners,
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
        let listeners = Listeners::default();
        listeners.listen(addresses).await.map_err(|(address, source)| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse(address),
            _ => BindError::Io { address, source },
        })?;
        Ok(Self {
            listeners,
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            own_uid: rustix::process::geteuid().as_raw(),
        })
    }
}

impl Node for Loopback {
    fn mode(&self) -> &'static str {
        "loopback"
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.addresses()
    }

    fn status(&self) -> Arc<NodeStatus> {
        Arc::new(NodeStatus::of_state(NodeState::Loopback))
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Connection>> {
        self.listeners.accept().boxed()
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

#[cfg(test)]
mod tests;

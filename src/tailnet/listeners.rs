//! The addresses that a node listens on, and the connections from all of them. Answers for giving each listener its
//! turn, for waiting out what passes by itself, and for following addresses that come and go. Never knows who connects.

use std::{
    future::{Future, pending},
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::{FutureExt, select_all};
use rustix::io::Errno;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{Connection, Stream};

/// The wait after the first failure for want of resources, and the longest one: each doubles the one before.
const BACKOFF: [Duration; 2] = [Duration::from_millis(5), Duration::from_secs(1)];

/// How many failed connections in a row are skipped at once, before they too are waited out.
const SKIPS: usize = 100;

/// One listener; it is closed when nobody holds it any more.
#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    /// As it was asked for.
    asked: SocketAddr,
    /// As bound: port 0 is already replaced.
    address: SocketAddr,
}

/// All listeners of a node.
#[derive(Debug)]
pub(super) struct Listeners {
    set: watch::Sender<Arc<[Arc<Listener>]>>,
    /// Which listener is asked first the next time, so that a busy one cannot starve the others.
    turn: AtomicUsize,
}

impl Default for Listeners {
    fn default() -> Self {
        Self { set: watch::Sender::new(Arc::new([])), turn: AtomicUsize::new(0) }
    }
}

impl Listeners {
    /// Listens on all of `addresses` and nowhere else, or changes nothing.
    pub(super) async fn listen(&self, addresses: &[SocketAddr]) -> Result<(), (SocketAddr, io::Error)> {
        match self.follow(addresses).await.into_iter().next() {
            None => Ok(()),
            Some(failure) => {
                self.set.send_replace(Arc::new([]));
                Err(failure)
            }
        }
    }

    /// Listens on those of `addresses` where it can, and nowhere else; what it listens on already is kept as it is.
    /// Returns where it cannot, and why.
    pub(super) async fn follow(&self, addresses: &[SocketAddr]) -> Vec<(SocketAddr, io::Error)> {
        let before = self.set.borrow().clone();
        let (mut now, mut failed) = (Vec::with_capacity(addresses.len()), Vec::new());
        for &address in addresses {
            if let Some(listener) = before.iter().find(|listener| listener.asked == address) {
                now.push(Arc::clone(listener));
                continue;
            }
            match Listener::bind(address).await {
                Ok(listener) => now.push(Arc::new(listener)),
                Err(error) => failed.push((address, error)),
            }
        }
        let same = now.len() == before.len() && now.iter().zip(before.iter()).all(|(a, b)| Arc::ptr_eq(a, b));
        if !same {
            self.set.send_replace(now.into());
        }
        failed
    }

    /// Where it listens now.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.set.borrow().iter().map(|listener| listener.address).collect()
    }

    /// The next connection on any of them. May be dropped before it is ready without loss.
    pub(super) async fn accept(&self) -> io::Result<Connection> {
        patiently(|| async {
            let (stream, peer) = self.next().await?;
            stream.set_nodelay(true)?;
            let local = stream.local_addr()?;
            Ok(Connection { stream: Stream::Tcp(stream), peer, local })
        })
        .await
    }

    /// The next stream from any listener, each listener in turn the first to be asked.
    async fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let mut changes = self.set.subscribe();
        loop {
            let set = changes.borrow_and_update().clone();
            let first = self.turn.fetch_add(1, Ordering::Relaxed) % set.len().max(1);
            let (before, from) = set.split_at(first);
            let accept = async {
                if set.is_empty() {
                    return pending().await;
                }
                select_all(from.iter().chain(before).map(|listener| listener.socket.accept().boxed())).await.0
            };
            tokio::select! {
                accepted = accept => return accepted,
                // The sender is ours, so it is there.
                Ok(()) = changes.changed() => {}
            }
        }
    }
}

impl Listener {
    async fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let bound = socket.local_addr()?;
        Ok(Self { socket, asked: address, address: bound })
    }
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

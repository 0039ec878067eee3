//! How many connections are open: in all, and of each peer. A place is given back when it is dropped.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// One place among all connections.
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// A place, unless `most` are taken.
    pub(super) fn take(open: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let counted = Self(open.clone());
        (open.fetch_add(1, Ordering::Relaxed) < most).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts connections by peer.
#[derive(Default)]
pub(super) struct PerPeer {
    open: Mutex<HashMap<String, usize>>,
}

/// One place among the connections of one peer.
pub(super) struct Held {
    peers: Arc<PerPeer>,
    key: String,
}

impl PerPeer {
    /// A place, unless `most` are taken.
    pub(super) fn take(self: &Arc<Self>, key: String, most: usize) -> Option<Held> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(key.clone()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Held { peers: self.clone(), key })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut open = self.peers.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.key);
            }
        }
    }
}

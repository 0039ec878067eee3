//! How far a call has come, for whoever waits for it. Says nothing of what was read, only that and how much.

use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::Notify;

use super::TargetId;

/// How far one call has come. Cheap to clone; without a watcher it keeps nothing and costs nothing.
#[derive(Clone, Debug, Default)]
pub struct Progress(Option<Arc<State>>);

#[derive(Debug, Default)]
struct State {
    target: OnceLock<TargetId>,
    begun: Notify,
    bytes: AtomicU64,
    tally: Mutex<Option<Tally>>,
}

/// How far a call over many targets has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those that are over, one way or the other.
    pub done: usize,
    /// Of these, those that gave nothing.
    pub failed: usize,
    /// All of them.
    pub of: usize,
}

impl Progress {
    /// Of a call that somebody watches.
    pub fn watched() -> Self {
        Self(Some(Arc::default()))
    }

    /// The operation's turn has come on `target`.
    pub fn begin(&self, target: &TargetId) {
        if let Some(state) = &self.0
            && state.target.set(target.clone()).is_ok()
        {
            state.begun.notify_one();
        }
    }

    /// The operation runs on many targets, and has come this far.
    pub fn count(&self, tally: Tally) {
        if let Some(state) = &self.0 {
            *state.tally.lock().unwrap_or_else(PoisonError::into_inner) = Some(tally);
            self.begin(&"the fleet".into());
        }
    }

    /// How far it has come where it runs on many targets; none where it runs on one.
    pub fn tally(&self) -> Option<Tally> {
        *self.0.as_ref()?.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `bytes` more were read from the target.
    pub fn add(&self, bytes: u64) {
        if let Some(state) = &self.0 {
            state.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Waits until the operation runs, and says where. For one watcher. Never ends for a call that nobody watches.
    pub async fn begun(&self) -> TargetId {
        let Some(state) = &self.0 else { return std::future::pending().await };
        loop {
            if let Some(target) = state.target.get() {
                return target.clone();
            }
            state.begun.notified().await;
        }
    }

    /// How many bytes the target gave so far.
    pub fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |state| state.bytes.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_watcher_learns_where_it_runs_and_how_much_was_read() {
        let progress = Progress::watched();
        assert!(progress.begun().now_or_never().is_none());
        progress.begin(&"web-01".into());
        progress.begin(&"later".into());
        progress.add(3);
        progress.clone().add(4);
        assert_eq!((progress.begun().await.as_str(), progress.bytes()), ("web-01", 7));
    }

    #[tokio::test]
    async fn over_many_targets_it_is_a_count() {
        let progress = Progress::watched();
        assert_eq!(progress.tally(), None);
        progress.count(Tally { done: 0, failed: 0, of: 2 });
        progress.count(Tally { done: 1, failed: 1, of: 2 });
        assert_eq!(progress.begun().await.as_str(), "the fleet");
        assert_eq!(progress.tally(), Some(Tally { done: 1, failed: 1, of: 2 }));
        Progress::default().count(Tally::default());
    }

    #[tokio::test]
    async fn without_a_watcher_nothing_is_kept() {
        let progress = Progress::default();
        progress.begin(&"web-01".into());
        progress.add(3);
        assert!(progress.begun().now_or_never().is_none());
        assert_eq!(progress.bytes(), 0);
    }
}

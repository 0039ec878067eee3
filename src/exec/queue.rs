//! Whose turn it is: a place on the target, then a place on the gateway, first come first served.
//!
//! Places are always taken in that order, and nobody who holds a place on the gateway waits for one on a target: there
//! is no cycle to deadlock in, and a crowded target does not hold up the others. Runs nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::ExecError;
use crate::model::{Target, TargetId};

/// The places there are.
pub(super) struct Queue {
    gateway: Arc<Semaphore>,
    targets: Mutex<HashMap<TargetId, Lane>>,
    patience: Duration,
}

/// The places on one target.
struct Lane {
    places: usize,
    free: Arc<Semaphore>,
}

impl Lane {
    fn new(places: usize) -> Self {
        Self { places, free: semaphore(places) }
    }

    /// Whether nobody holds a place here or waits for one: each of them holds the semaphore too.
    fn idle(&self) -> bool {
        Arc::strong_count(&self.free) == 1
    }
}

/// A place on a target and on the gateway, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    _target: OwnedSemaphorePermit,
    _gateway: OwnedSemaphorePermit,
}

impl Queue {
    /// `places` over all targets; whoever waits longer than `patience` is turned away.
    pub(super) fn new(places: usize, patience: Duration) -> Self {
        Self { gateway: semaphore(places), targets: Mutex::default(), patience }
    }

    /// Waits for a place to run on `target`. Errors with `Busy` after the queue timeout, or `Cancelled`.
    pub(super) async fn enter(&self, target: &Target, cancel: &CancellationToken) -> Result<Place, ExecError> {
        let lane = self.lane(target);
        let both = async {
            let target = lane.acquire_owned().await;
            let gateway = Arc::clone(&self.gateway).acquire_owned().await;
            // A semaphore errors only once it is closed, and these never are.
            target.and_then(|target| Ok(Place { _target: target, _gateway: gateway? })).map_err(|_| ExecError::Busy)
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(ExecError::Cancelled),
            place = timeout(self.patience, both) => place.unwrap_or(Err(ExecError::Busy)),
        }
    }

    /// The places of `target`. A changed number of places holds from the first moment that nobody uses the target;
    /// targets nobody uses are forgotten when a new one comes, so that no more are kept than there are in use.
    fn lane(&self, target: &Target) -> Arc<Semaphore> {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        match targets.get(&target.id) {
            Some(lane) if lane.places == target.concurrency || !lane.idle() => Arc::clone(&lane.free),
            _ => {
                targets.retain(|_, lane| !lane.idle());
                let lane = Lane::new(target.concurrency);
                let free = Arc::clone(&lane.free);
                targets.insert(target.id.clone(), lane);
                free
            }
        }
    }
}

fn semaphore(places: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)))
}

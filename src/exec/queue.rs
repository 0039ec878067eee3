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

/// The places for reads of many targets in one call, over all such calls. They wait for a network most of the time.
const APART: usize = 64;
/// How long such a read waits for its turn.
const APART_PATIENCE: Duration = Duration::from_secs(10);

/// The places there are.
pub(super) struct Queue {
    gateway: Arc<Semaphore>,
    /// For reads of many targets in one call.
    apart: Arc<Semaphore>,
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
        Self { gateway: semaphore(places), apart: semaphore(APART), targets: Mutex::default(), patience }
    }

    /// Waits for a place to run on `target`. Errors with `Busy` after the queue timeout, or `Cancelled`.
    pub(super) async fn enter(&self, target: &Target, cancel: &CancellationToken) -> Result<Place, ExecError> {
        self.enter_among(&self.gateway, self.patience, target, cancel).await
    }

    /// The same for one of many reads in one call: with places of their own on the gateway.
    pub(super) async fn enter_apart(&self, target: &Target, cancel: &CancellationToken) -> Result<Place, ExecError> {
        self.enter_among(&self.apart, APART_PATIENCE, target, cancel).await
    }

    async fn enter_among(
        &self,
        places: &Arc<Semaphore>,
        patience: Duration,
        target: &Target,
        cancel: &CancellationToken,
    ) -> Result<Place, ExecError> {
        let lane = self.lane(target);
        let both = async {
            let target = lane.acquire_owned().await;
            let gateway = Arc::clone(places).acquire_owned().await;
            // A semaphore errors only once it is closed, and these never are.
            target.and_then(|target| Ok(Place { _target: target, _gateway: gateway? })).map_err(|_| ExecError::Busy)
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(ExecError::Cancelled),
            place = timeout(patience, both) => place.unwrap_or(Err(ExecError::Busy)),
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

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use futures_util::{future::join_all, poll};
    use tokio::task::yield_now;

    use super::*;
    use crate::exec::tests::target;

    const LONG: Duration = Duration::from_secs(60);

    fn no_cancel() -> CancellationToken {
        CancellationToken::new()
    }

    #[tokio::test]
    async fn whoever_waits_too_long_is_turned_away_and_leaves_nothing_taken() {
        let queue = Queue::new(2, Duration::from_millis(50));
        let web = target("web", 1);
        let place = queue.enter(&web, &no_cancel()).await.unwrap();
        assert_eq!(queue.enter(&web, &no_cancel()).await.unwrap_err(), ExecError::Busy);
        drop(place);
        queue.enter(&web, &no_cancel()).await.unwrap();

        let places =
            [queue.enter(&target("a", 1), &no_cancel()).await, queue.enter(&target("b", 1), &no_cancel()).await];
        assert!(places.iter().all(Result::is_ok));
        assert_eq!(queue.enter(&web, &no_cancel()).await.unwrap_err(), ExecError::Busy);
        drop(places);
        queue.enter(&web, &no_cancel()).await.unwrap();
    }

    #[tokio::test]
    async fn a_target_without_places_takes_nobody() {
        let queue = Queue::new(2, Duration::from_millis(1));
        assert_eq!(queue.enter(&target("web", 0), &no_cancel()).await.unwrap_err(), ExecError::Busy);
    }

    #[tokio::test]
    async fn a_cancelled_call_leaves_the_queue() {
        let (queue, web, cancel) = (Queue::new(1, LONG), target("web", 1), no_cancel());
        let place = queue.enter(&web, &cancel).await.unwrap();
        let mut waiting = pin!(queue.enter(&web, &cancel));
        assert!(poll!(waiting.as_mut()).is_pending());
        cancel.cancel();
        assert_eq!(waiting.await.unwrap_err(), ExecError::Cancelled);
        drop(place);
        assert_eq!(queue.enter(&web, &cancel).await.unwrap_err(), ExecError::Cancelled);
    }

    #[tokio::test]
    async fn turns_come_in_the_order_of_arrival() {
        let (queue, cancel) = (Queue::new(2, LONG), no_cancel());
        let (web, other) = (target("web", 1), target("other", 2));
        let place = queue.enter(&web, &cancel).await.unwrap();
        let mut second = pin!(queue.enter(&web, &cancel));
        let mut third = pin!(queue.enter(&web, &cancel));
        assert!(poll!(second.as_mut()).is_pending());
        assert!(poll!(third.as_mut()).is_pending());
        // Those who wait for one target hold up no other.
        drop(queue.enter(&other, &cancel).await.unwrap());

        drop(place);
        assert!(poll!(third.as_mut()).is_pending());
        let place = second.await.unwrap();
        assert!(poll!(third.as_mut()).is_pending());
        drop(place);
        third.await.unwrap();
    }

    #[tokio::test]
    async fn turns_on_the_gateway_come_in_the_order_of_arrival() {
        let (queue, cancel) = (Queue::new(1, LONG), no_cancel());
        let targets = ["a", "b", "c"].map(|id| target(id, 1));
        let place = queue.enter(&targets[0], &cancel).await.unwrap();
        let mut second = pin!(queue.enter(&targets[1], &cancel));
        let mut third = pin!(queue.enter(&targets[2], &cancel));
        assert!(poll!(second.as_mut()).is_pending());
        assert!(poll!(third.as_mut()).is_pending());
        drop(place);
        assert!(poll!(third.as_mut()).is_pending());
        drop(second.await.unwrap());
        third.await.unwrap();
    }

    #[tokio::test]
    async fn no_more_run_than_there_are_places_and_all_get_their_turn() {
        let (queue, cancel) = (Queue::new(5, LONG), no_cancel());
        let targets = [target("a", 2), target("b", 3), target("c", 4)];
        let running: [AtomicUsize; 3] = Default::default();
        let most: [AtomicUsize; 4] = Default::default();
        let calls = (0..300).map(|n| {
            let (queue, cancel, targets, running, most) = (&queue, &cancel, &targets, &running, &most);
            async move {
                let t = n % 3;
                let _place = queue.enter(&targets[t], cancel).await.unwrap();
                most[t].fetch_max(running[t].fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                most[3].fetch_max(running.iter().map(|count| count.load(Ordering::SeqCst)).sum(), Ordering::SeqCst);
                yield_now().await;
                running[t].fetch_sub(1, Ordering::SeqCst);
            }
        });
        join_all(calls).await;
        let [a, b, c, all] = most.map(AtomicUsize::into_inner);
        assert_eq!(all, 5);
        assert!(a <= 2 && b <= 3 && c <= 4, "{a} {b} {c}");
    }

    #[tokio::test]
    async fn unused_targets_are_forgotten_and_changed_ones_renewed() {
        let (queue, cancel) = (Queue::new(9, Duration::from_millis(1)), no_cancel());
        for n in 0..1000 {
            queue.enter(&target(&format!("t{n}"), 1), &cancel).await.unwrap();
        }
        assert_eq!(queue.targets.lock().unwrap().len(), 1);

        let place = queue.enter(&target("web", 1), &cancel).await.unwrap();
        assert!(queue.enter(&target("web", 2), &cancel).await.is_err(), "a place in use was counted twice");
        drop(place);
        let _two = [
            queue.enter(&target("web", 2), &cancel).await.unwrap(),
            queue.enter(&target("web", 2), &cancel).await.unwrap(),
        ];
        assert!(queue.enter(&target("web", 2), &cancel).await.is_err());
    }
}

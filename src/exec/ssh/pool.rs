//! Connections that are kept: each is shared by those alone who would have made the very same one.
//!
//! Answers for how many there are, for how many are being made, for the end of those that nobody uses, and for never
//! using one whose target was enrolled anew, moved, or logs in by another key. Two callers that need the same
//! connection make it once; no lock on the pool is held meanwhile.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use russh::{Channel, client};
use tokio::{
    sync::{Mutex as Turn, OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use super::{
    Ssh, SshFault,
    breaker::Breaker,
    connect::{Session, connect},
    trust::Trust,
    way::{Key, Way},
};
use crate::{
    config,
    model::{Clock, TargetId},
};

/// How often a host may refuse a session before the call gives up.
const REFUSALS: usize = 3;

/// The most connections that are kept although nobody uses them: each takes a quarter of a megabyte.
const MOST_IDLE: usize = 256;

/// All connections.
pub(super) struct Pool {
    settings: config::Ssh,
    /// How long a call may wait for what is bounded here.
    patience: Duration,
    clock: Arc<dyn Clock>,
    lanes: Mutex<HashMap<TargetId, Vec<Arc<Lane>>>>,
    doors: Mutex<HashMap<String, Arc<Door>>>,
    places: Arc<Semaphore>,
}

/// The connections of those who share them.
struct Lane {
    key: Arc<Key>,
    sessions: Mutex<Vec<Arc<Session>>>,
    /// Held by the one who connects.
    turn: Turn<Option<Arc<SshFault>>>,
    /// How many attempts have ended.
    attempts: AtomicU64,
    /// The most channels that one connection may have, as far as the host has shown.
    sessions_each: AtomicUsize,
}

/// What stands before one host, whoever connects to it.
struct Door {
    breaker: Breaker,
    connecting: Semaphore,
}

/// The right to one channel on a connection, given back when dropped.
pub(super) struct Lease {
    pub(super) session: Arc<Session>,
}

impl Lease {
    fn on(session: &Arc<Session>) -> Option<Self> {
        session.enter().then(|| Self { session: Arc::clone(session) })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.session.leave();
    }
}

impl Lane {
    /// A channel on a connection that has room.
    fn free(&self, now: Timestamp) -> Option<Lease> {
        let mut sessions = lock(&self.sessions);
        sessions.retain(|session| session.is_usable(now));
        sessions.iter().find_map(Lease::on)
    }
}

impl Pool {
    pub(super) fn new(settings: config::Ssh, patience: Duration, clock: Arc<dyn Clock>) -> Self {
        let places = Arc::new(Semaphore::new(settings.max_connections.clamp(1, Semaphore::MAX_PERMITS)));
        Self { settings, patience, clock, lanes: Mutex::default(), doors: Mutex::default(), places }
    }

    /// An open channel by `way`. What a dead connection could not carry has not begun, so one is made anew, once.
    pub(super) async fn channel(
        &self,
        ssh: &Ssh,
        way: &Way<'_>,
    ) -> Result<(Lease, Channel<client::Msg>), Arc<SshFault>> {
        let (mut stale, mut refusals) = (false, 0);
        loop {
            let lease = self.lease(ssh, way).await?;
            match lease.session.channel().await {
                Ok(channel) => return Ok((lease, channel)),
                Err(russh::Error::ChannelOpenFailure(reason)) => {
                    let most = lease.session.was_refused();
                    self.lane(&way.key).sessions_each.fetch_min(most.max(1), Ordering::SeqCst);
                    // One that was refused beside others finds its place on another connection.
                    refusals += usize::from(most == 0);
                    if refusals == REFUSALS {
                        return Err(Arc::new(SshFault::NoSession(format!("{reason:?}"))));
                    }
                }
                Err(error) => {
                    // The others to this host came the same way.
                    lease.session.retire();
                    self.retire(&way.key);
                    if stale {
                        return Err(Arc::new(error.into()));
                    }
                    stale = true;
                }
            }
        }
    }

    /// The right to a channel by `way`, on a connection that there is or on a new one.
    fn lease<'a>(&'a self, ssh: &'a Ssh, way: &'a Way<'_>) -> BoxFuture<'a, Result<Lease, Arc<SshFault>>> {
        Box::pin(async move {
            let lane = self.lane(&way.key);
            let before = lane.attempts.load(Ordering::SeqCst);
            if let Some(lease) = lane.free(self.clock.now()) {
                return Ok(lease);
            }
            let mut failed = lane.turn.lock().await;
            if let Some(lease) = lane.free(self.clock.now()) {
                return Ok(lease);
            }
            // Whoever waited while it failed has its answer.
            if let Some(fault) = failed.as_ref().filter(|_| lane.attempts.load(Ordering::SeqCst) > before) {
                return Err(Arc::clone(fault));
            }
            let made = self.open(ssh, way).await;
            lane.attempts.fetch_add(1, Ordering::SeqCst);
            let session = match made {
                Ok(session) => Arc::new(session),
                Err(fault) => {
                    let fault = Arc::new(fault);
                    *failed = Some(Arc::clone(&fault));
                    return Err(fault);
                }
            };
            *failed = None;
            session.limit(lane.sessions_each.load(Ordering::SeqCst));
            let lease = Lease::on(&session).ok_or_else(|| Arc::new(SshFault::Busy("a connection without sessions")))?;
            lock(&lane.sessions).push(session);
            self.keep_few_idle();
            Ok(lease)
        })
    }

    /// An open channel by `way` on a connection of its own, which ends with the channel.
    pub(super) async fn channel_apart(
        &self,
        ssh: &Ssh,
        way: &Way<'_>,
    ) -> Result<(Lease, Channel<client::Msg>), Arc<SshFault>> {
        let session = Arc::new(self.apart(ssh, way).await.map_err(Arc::new)?);
        let none = || Arc::new(SshFault::Busy("a connection without sessions"));
        let lease = Lease::on(&session).ok_or_else(none)?;
        let channel = session.channel().await.map_err(|error| Arc::new(error.into()))?;
        Ok((lease, channel))
    }

    /// A connection by `way` that is kept nowhere and counts among no others: for ending what runs on one that has no
    /// room left.
    pub(super) async fn apart(&self, ssh: &Ssh, way: &Way<'_>) -> Result<Session, SshFault> {
        let through = self.through(ssh, way).await?;
        connect(ssh, way, through, None).await
    }

    /// A channel's right on the jump host of `way`, where there is one.
    async fn through(&self, ssh: &Ssh, way: &Way<'_>) -> Result<Option<Lease>, SshFault> {
        let Some(via) = &way.via else { return Ok(None) };
        self.jump(ssh, via).await.map(Some)
    }

    /// A channel's right on the jump host that `via` ends at.
    pub(super) async fn jump(&self, ssh: &Ssh, via: &Way<'_>) -> Result<Lease, SshFault> {
        let lease = self.lease(ssh, via).await;
        lease.map_err(|fault| SshFault::Via { host: via.target.id.clone(), fault })
    }

    /// A new connection by `way`.
    async fn open(&self, ssh: &Ssh, way: &Way<'_>) -> Result<Session, SshFault> {
        let through = self.through(ssh, way).await?;
        let door = self.door(way.key.place());
        let turn = timeout(self.patience, door.connecting.acquire()).await;
        let _turn = turn.map_err(|_| SshFault::Busy("others are being opened to the host"))?;
        let place = self.place().await?;
        let attempt = door.breaker.enter(Instant::now());
        let attempt =
            attempt.map_err(|open| SshFault::CircuitOpen { failures: open.failures, again_in: open.again_in })?;
        let made = connect(ssh, way, through, Some(place)).await;
        match &made {
            Ok(_) => attempt.answered(),
            Err(fault) if fault.is_an_answer() => attempt.answered(),
            Err(fault) if fault.is_of_reach() => attempt.failed(Instant::now()),
            Err(_) => drop(attempt),
        }
        made
    }

    /// A place among all connections; one that nobody uses makes room.
    async fn place(&self) -> Result<OwnedSemaphorePermit, SshFault> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        self.drop_longest_idle();
        let place = timeout(self.patience, Arc::clone(&self.places).acquire_owned()).await;
        place.ok().and_then(Result::ok).ok_or(SshFault::Busy("as many are open as there may be"))
    }

    /// Ends the one that was idle longest where a call over the whole fleet leaves more than are worth their memory.
    fn keep_few_idle(&self) {
        let lanes = lock(&self.lanes);
        let idle =
            |lane: &Arc<Lane>| lock(&lane.sessions).iter().filter(|session| session.idle_since().is_some()).count();
        let idle: usize = lanes.values().flatten().map(idle).sum();
        drop(lanes);
        if idle > MOST_IDLE {
            self.drop_longest_idle();
        }
    }

    fn drop_longest_idle(&self) {
        let lanes = lock(&self.lanes);
        let all = lanes.values().flatten().flat_map(|lane| lock(&lane.sessions).clone());
        let idle = all.filter_map(|session| Some((session.idle_since()?, session)));
        let Some((_, longest)) = idle.min_by_key(|(since, _)| *since) else { return };
        for lane in lanes.values().flatten() {
            lock(&lane.sessions).retain(|session| !Arc::ptr_eq(session, &longest));
        }
    }

    /// What speaks for the host of `target` by connections that there are, where `fits` says that it still does.
    pub(super) fn trust(&self, target: &TargetId, fits: impl Fn(&Key) -> bool) -> Option<Arc<Trust>> {
        let lanes = lock(&self.lanes);
        let lane = lanes.get(target)?.iter().find(|lane| fits(&lane.key))?;
        Some(Arc::clone(&lane.key.trust))
    }

    /// The lane of `key`. Those that it supersedes are left at once: they close as soon as nothing runs there.
    fn lane(&self, key: &Arc<Key>) -> Arc<Lane> {
        let mut lanes = lock(&self.lanes);
        let of_target = lanes.entry(key.target.clone()).or_default();
        of_target.retain(|lane| !key.supersedes(&lane.key));
        if let Some(lane) = of_target.iter().find(|lane| lane.key == *key) {
            return Arc::clone(lane);
        }
        let lane = Arc::new(Lane {
            key: Arc::clone(key),
            sessions: Mutex::default(),
            turn: Turn::default(),
            attempts: AtomicU64::default(),
            sessions_each: AtomicUsize::new(self.settings.channels_per_connection.max(1)),
        });
        of_target.push(Arc::clone(&lane));
        lane
    }

    fn door(&self, place: String) -> Arc<Door> {
        let mut doors = lock(&self.doors);
        if !doors.contains_key(&place) {
            doors.retain(|_, door| Arc::strong_count(door) > 1 || !door.breaker.is_clean());
        }
        let door = doors.entry(place).or_insert_with(|| {
            Arc::new(Door {
                breaker: Breaker::new(self.settings.breaker_failures, self.settings.breaker_open),
                connecting: Semaphore::new(self.settings.connecting_per_host.max(1)),
            })
        });
        Arc::clone(door)
    }

    /// Uses no connection of `key` any more that there is now.
    fn retire(&self, key: &Arc<Key>) {
        lock(&self.lane(key).sessions).clear();
    }

    /// Whether somebody connects now.
    #[cfg(test)]
    pub(super) fn is_connecting(&self) -> bool {
        lock(&self.lanes).values().flatten().any(|lane| lane.turn.try_lock().is_err())
    }

    /// Ends what nobody has used for long enough, and what cannot be used any more.
    pub(super) fn sweep(&self, now: Instant) {
        let wall = self.clock.now();
        let mut lanes = lock(&self.lanes);
        lanes.retain(|_, of_target| {
            of_target.retain(|lane| {
                let mut sessions = lock(&lane.sessions);
                sessions.retain(|session| {
                    let idle = session.idle_since().map(|since| now.saturating_duration_since(since));
                    session.is_usable(wall) && idle.is_none_or(|idle| idle < self.settings.idle)
                });
                // Somebody may be connecting.
                !sessions.is_empty() || Arc::strong_count(lane) > 1
            });
            !of_target.is_empty()
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

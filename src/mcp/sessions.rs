//! Sessions of the older handshakes: bound to the token and the peer that opened them, capped in number and age, and
//! ended when that peer loses something. The SDK binds them to nothing; an id is no credential here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rmcp::transport::streamable_http_server::session::{SessionManager, local::LocalSessionManager};
use tokio_util::sync::CancellationToken;

use crate::{auth::Caller, config, model::Jti, tailnet::Peer};

/// How often ages are looked at.
const SWEEP: Duration = Duration::from_secs(5);

struct Session {
    jti: Jti,
    /// As it was when it last sent something: what it has lost since, the session's answers may still hold.
    peer: Peer,
    opened: Instant,
    ended: CancellationToken,
}

/// Cancelled when a session was ended because of its peer: what it still reads must stop.
#[derive(Clone, Debug)]
pub(super) struct Ended(pub(super) CancellationToken);

pub(super) struct Sessions {
    manager: Arc<LocalSessionManager>,
    settings: config::Sessions,
    open: Mutex<HashMap<String, Session>>,
}

impl Sessions {
    pub(super) fn new(manager: Arc<LocalSessionManager>, settings: config::Sessions) -> Self {
        Self { manager, settings, open: Mutex::default() }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session `id` of this very caller, within its age. One whose peer lost something since it last came is over.
    pub(super) async fn of(&self, id: &str, caller: &Caller) -> Option<Ended> {
        let (narrowed, ended) = self.judged(id, caller)?;
        if narrowed {
            ended.0.cancel();
            self.close(id).await;
            return None;
        }
        Some(ended)
    }

    /// Whether the caller's peer has less than when it last came: the session is forgotten then.
    fn judged(&self, id: &str, caller: &Caller) -> Option<(bool, Ended)> {
        let mut open = self.open();
        let session = open.get_mut(id)?;
        let peer = caller.peer();
        if session.jti != caller.token().jti
            || session.peer.id != peer.id
            || session.opened.elapsed() >= self.settings.max_age
        {
            return None;
        }
        let ended = Ended(session.ended.clone());
        if session.peer.lost(peer).is_some() {
            open.remove(id);
            return Some((true, ended));
        }
        if peer.lost(&session.peer).is_some() {
            session.peer = peer.clone();
        }
        Some((false, ended))
    }

    /// Ends every session of this peer, and at once what they read.
    pub(super) async fn end_those_of(&self, peer: &Peer) {
        let ended: Vec<(String, Session)> = self.open().extract_if(|_, session| session.peer.id == peer.id).collect();
        // First all reads, because the SDK lets a session take its time to close.
        for (_, session) in &ended {
            session.ended.cancel();
        }
        for (id, _) in ended {
            self.close(&id).await;
        }
    }

    async fn close(&self, id: &str) {
        if let Err(error) = self.manager.close_session(&id.into()).await {
            tracing::debug!(%error, "a session was already closed");
        }
    }

    /// Whether this token may open one more.
    pub(super) async fn admits(&self, jti: &Jti) -> bool {
        self.forget_ended().await;
        let open = self.open();
        open.len() < self.settings.max
            && open.values().filter(|session| session.jti == *jti).count() < self.settings.max_per_token
    }

    pub(super) fn opened(&self, id: &str, caller: &Caller) {
        let session = Session {
            jti: caller.token().jti.clone(),
            peer: caller.peer().clone(),
            opened: Instant::now(),
            ended: CancellationToken::new(),
        };
        self.open().insert(id.to_owned(), session);
    }

    pub(super) fn closed(&self, id: &str) {
        self.open().remove(id);
    }

    /// Forgets sessions that ended by themselves, e.g. idle ones.
    async fn forget_ended(&self) {
        let alive = self.manager.sessions.read().await;
        self.open().retain(|id, _| alive.contains_key(id.as_str()));
    }

    pub(super) async fn expire_until(&self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(SWEEP.min(self.settings.max_age));
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            self.forget_ended().await;
            let max_age = self.settings.max_age;
            let expired: Vec<String> =
                self.open().extract_if(|_, session| session.opened.elapsed() >= max_age).map(|(id, _)| id).collect();
            for id in expired {
                self.close(&id).await;
            }
        }
    }
}

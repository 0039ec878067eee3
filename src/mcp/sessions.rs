//! Sessions of the older handshakes: bound to the token and the peer that opened them, capped in number and age. The SDK binds
//! them to nothing; an id is no credential here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rmcp::transport::streamable_http_server::session::{SessionManager, local::LocalSessionManager};
use tokio_util::sync::CancellationToken;

use crate::{auth::Caller, config, model::Jti};

/// How often ages are looked at.
const SWEEP: Duration = Duration::from_secs(5);

struct Session {
    jti: Jti,
    /// The stable id of the peer: a token bound to a tag or a person works from several.
    peer: String,
    opened: Instant,
}

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

    /// Whether `id` is an open session of this token and peer, within its age.
    pub(super) fn belongs(&self, id: &str, caller: &Caller) -> bool {
        self.open().get(id).is_some_and(|session| {
            session.jti == caller.token().jti
                && session.peer == caller.peer().id
                && session.opened.elapsed() < self.settings.max_age
        })
    }

    /// Whether this token may open one more.
    pub(super) async fn admits(&self, jti: &Jti) -> bool {
        self.forget_ended().await;
        let open = self.open();
        open.len() < self.settings.max
            && open.values().filter(|session| session.jti == *jti).count() < self.settings.max_per_token
    }

    pub(super) fn opened(&self, id: &str, caller: &Caller) {
        let (jti, peer) = (caller.token().jti.clone(), caller.peer().id.clone());
        self.open().insert(id.to_owned(), Session { jti, peer, opened: Instant::now() });
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
                if let Err(error) = self.manager.close_session(&id.as_str().into()).await {
                    tracing::debug!(%error, "an expired session was already closed");
                }
            }
        }
    }
}

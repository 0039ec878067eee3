//! The check of one bearer token against one peer, on every request.
//!
//! A token that was checked is remembered by its digest, together with the generation of the token table it was
//! checked in; any revocation or key change by any process moves the generation on and so forgets all of them. The
//! generation is polled; a request that comes when the last look is too old looks itself. So a revoked token is
//! refused within [`FRESH`] and a database that cannot be asked lets nobody in.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use moka::sync::Cache;
use ring::digest;
use tokio_util::sync::CancellationToken;

use super::{Caller, Claims, KeyError, KeyRing, Sealed};
use crate::{model::Clock, store::Store, tailnet::Peer};

/// How often the generation is looked at.
const POLL: Duration = Duration::from_millis(200);
/// The oldest look a decision may rest on.
const FRESH: Duration = Duration::from_millis(800);
/// How far ahead another gateway's clock may be.
const SKEW: Duration = Duration::from_secs(60);
/// The most tokens remembered.
const REMEMBERED: u64 = 10_000;

/// Checks bearer tokens.
pub struct Authenticator {
    store: Store,
    directory: PathBuf,
    clock: Arc<dyn Clock>,
    ring: ArcSwap<KeyRing>,
    generation: AtomicI64,
    /// Milliseconds from `started` to the last look at the generation.
    looked: AtomicU64,
    started: Instant,
    checked: Cache<[u8; 32], Checked>,
}

#[derive(Clone)]
struct Checked {
    generation: i64,
    claims: Arc<Claims>,
    key_id: Arc<str>,
}

/// Why nobody was let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthFault {
    /// No `Authorization: Bearer` header.
    #[error("no bearer token")]
    Missing,
    /// Not ours: the text says what was wrong with it, for the record only.
    #[error("the token is not valid")]
    Invalid(&'static str),
    /// Past its end.
    #[error("the token expired")]
    Expired,
    /// Taken back.
    #[error("the token was revoked")]
    Revoked,
    /// From another peer than it is bound to; what the token says, for the record: it is ours and in force.
    #[error("the token is bound to another peer")]
    UnexpectedSource(Arc<Claims>),
    /// The token table cannot be asked.
    #[error("tokens cannot be checked now")]
    Unavailable,
}

impl AuthFault {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "missing_token",
            Self::Invalid(_) => "invalid_token",
            Self::Expired => "token_expired",
            Self::Revoked => "token_revoked",
            Self::UnexpectedSource(_) => "token_unexpected_source",
            Self::Unavailable => "auth_unavailable",
        }
    }

    /// What the record says beyond the message.
    pub fn detail(&self) -> Option<&'static str> {
        match self {
            Self::Invalid(detail) => Some(detail),
            _ => None,
        }
    }

    /// The token that came from elsewhere.
    pub fn token(&self) -> Option<&Arc<Claims>> {
        match self {
            Self::UnexpectedSource(claims) => Some(claims),
            _ => None,
        }
    }
}

impl Authenticator {
    /// Loads the keys (makes the first one) and is ready to check tokens.
    pub async fn open(store: Store, directory: PathBuf, clock: Arc<dyn Clock>) -> Result<Self, KeyError> {
        let generation = store.token_generation().await?;
        let ring = KeyRing::open(&store, &directory, clock.now()).await?;
        Ok(Self {
            store,
            directory,
            clock,
            ring: ArcSwap::from_pointee(ring),
            generation: AtomicI64::new(generation),
            looked: AtomicU64::new(0),
            started: Instant::now(),
            checked: Cache::new(REMEMBERED),
        })
    }

    /// Follows changes to tokens and keys until `stop`.
    pub async fn follow(&self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(POLL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "the token table cannot be read");
            }
        }
    }

    /// Looks at the generation and reloads the keys if it moved.
    async fn look(&self) -> Result<(), KeyError> {
        let elapsed = self.started.elapsed();
        let generation = self.store.token_generation().await?;
        if generation != self.generation.load(Ordering::Acquire) {
            let ring = KeyRing::open(&self.store, &self.directory, self.clock.now()).await?;
            self.ring.store(Arc::new(ring));
            self.generation.store(generation, Ordering::Release);
        }
        self.looked.store(elapsed.as_millis() as u64, Ordering::Release);
        Ok(())
    }

    /// Looks at the token table now: what was revoked before is refused from now on. Errors where it cannot be asked;
    /// revoked tokens are then refused within a second all the same.
    pub async fn refresh(&self) -> Result<(), KeyError> {
        self.look().await
    }

    /// Whether the token table could be asked lately: part of readiness.
    pub fn is_fresh(&self) -> bool {
        let looked = Duration::from_millis(self.looked.load(Ordering::Acquire));
        self.started.elapsed().saturating_sub(looked) < FRESH
    }

    /// The caller that `peer` is with `bearer` (the text after `Bearer `).
    pub async fn authenticate(&self, peer: &Arc<Peer>, bearer: Option<&str>) -> Result<Caller, AuthFault> {
        let text = bearer.ok_or(AuthFault::Missing)?;
        if !self.is_fresh() {
            self.look().await.map_err(|_| AuthFault::Unavailable)?;
        }
        let now = self.clock.now();
        let claims = self.claims(text, now).await?;
        if now >= claims.expires {
            return Err(AuthFault::Expired);
        }
        if claims.binding.is(peer) {
            Ok(Caller::new(peer.clone(), claims))
        } else {
            Err(AuthFault::UnexpectedSource(claims))
        }
    }

    /// The claims of a token that is ours, known and not revoked.
    async fn claims(&self, text: &str, now: Timestamp) -> Result<Arc<Claims>, AuthFault> {
        let generation = self.generation.load(Ordering::Acquire);
        let ring = self.ring.load();
        let digest = digest::digest(&digest::SHA256, text.as_bytes());
        let digest: [u8; 32] = digest.as_ref().try_into().map_err(|_| AuthFault::Unavailable)?;
        if let Some(checked) = self.checked.get(&digest)
            && checked.generation == generation
            && ring.verifying(&checked.key_id, now).is_some()
        {
            return Ok(checked.claims);
        }
        let sealed = Sealed::parse(text).map_err(|_| AuthFault::Invalid("malformed"))?;
        let key = ring.verifying(sealed.key_id, now).ok_or(AuthFault::Invalid("unknown or retired key"))?;
        let claims = sealed.open(key).map_err(|_| AuthFault::Invalid("bad signature"))?;
        if claims.issued > now.checked_add(SKEW).unwrap_or(Timestamp::MAX) {
            return Err(AuthFault::Invalid("issued in the future"));
        }
        let row = self.store.token(claims.jti.as_str()).await.map_err(|_| AuthFault::Unavailable)?;
        let row = row.ok_or(AuthFault::Invalid("unknown id"))?;
        if row.revoked_at.is_some() {
            return Err(AuthFault::Revoked);
        }
        if row.first_used_at.is_none() {
            // For the token's state only: a call is not refused because this could not be noted.
            if let Err(error) = self.store.mark_token_used(&row.jti, now).await {
                tracing::warn!(%error, "the first use of a token could not be noted");
            }
        }
        let claims = Arc::new(claims);
        let checked = Checked { generation, claims: claims.clone(), key_id: sealed.key_id.into() };
        self.checked.insert(digest, checked);
        Ok(claims)
    }
}

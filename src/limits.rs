//! How often: a bucket a token for all calls, for writes and for critical ones; a bucket a peer for failed
//! authentication; a bucket a person for the people's API. Memory is bounded by what can be known: tokens that were
//! minted, and a fixed number of sources.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock, QuantaInstant, Reference as _},
};

use crate::{
    config,
    model::{Effect, Jti, Risk},
};

/// The requests of one person to the people's API: a page that looks every second, and hands that type.
const PEOPLE_PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(119);
/// As many at once.
const PEOPLE_BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(59);
/// Buckets kept before those that are full again are dropped.
const SWEEP: usize = 4096;
/// How often they are, at most: it takes a look at every bucket, which a flood must not cause with each request.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Buckets kept at all: a source beyond is refused.
const MOST: usize = 16_384;

/// Too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many {class}; try again in {} s", retry_after.as_secs().max(1))]
pub struct Limited {
    /// What there was too much of: `calls`, `writes`, `critical operations`, `failed authentications`, `requests`.
    pub class: &'static str,
    /// When the next one is admitted.
    pub retry_after: Duration,
}

impl Limited {
    /// Whole seconds to wait, at least one: what `Retry-After` carries.
    pub fn retry_after_s(&self) -> u64 {
        let whole = self.retry_after.as_secs();
        if self.retry_after.subsec_nanos() > 0 { whole + 1 } else { whole.max(1) }
    }
}

struct Bucket<K: Clone + std::hash::Hash + Eq> {
    class: &'static str,
    limiter: DefaultKeyedRateLimiter<K>,
    clock: DefaultClock,
    made: QuantaInstant,
    /// Nanoseconds from `made` to when the next sweep may be.
    sweep_from: AtomicU64,
}

impl<K: Clone + std::hash::Hash + Eq> Bucket<K> {
    fn new(class: &'static str, quota: Quota) -> Self {
        let clock = DefaultClock::default();
        let made = clock.now();
        Self { class, limiter: RateLimiter::keyed(quota), clock, made, sweep_from: AtomicU64::new(0) }
    }

    /// Whether it is time, which only one of those who ask at once is told.
    fn sweeps(&self) -> bool {
        let now = self.clock.now().duration_since(self.made).as_u64();
        let from = self.sweep_from.load(Ordering::Relaxed);
        let next = now.saturating_add(u64::try_from(SWEEP_EVERY.as_nanos()).unwrap_or(u64::MAX));
        now >= from && self.sweep_from.compare_exchange(from, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn take(&self, key: &K) -> Result<(), Limited> {
        let kept = self.limiter.len();
        if kept >= SWEEP {
            if self.sweeps() {
                // Only buckets that are full again go: forgetting them changes no answer.
                self.limiter.retain_recent();
            }
            if kept >= MOST && self.limiter.len() >= MOST {
                return Err(Limited { class: self.class, retry_after: Duration::from_secs(60) });
            }
        }
        self.limiter
            .check_key(key)
            .map_err(|not_until| Limited { class: self.class, retry_after: not_until.wait_time_from(self.clock.now()) })
    }
}

/// The buckets.
pub struct Limits {
    calls: Bucket<Jti>,
    writes: Bucket<Jti>,
    critical: Bucket<Jti>,
    auth_failures: Bucket<String>,
    people: Bucket<String>,
    settings: config::Limits,
}

impl Limits {
    /// Full buckets.
    pub fn new(settings: config::Limits) -> Self {
        Self {
            calls: Bucket::new("calls", Quota::per_minute(settings.calls_per_minute).allow_burst(settings.calls_burst)),
            writes: Bucket::new("writes", Quota::per_minute(settings.writes_per_minute)),
            critical: Bucket::new("critical operations", Quota::per_hour(settings.critical_per_hour)),
            auth_failures: Bucket::new("failed authentications", Quota::per_minute(settings.auth_failures_per_minute)),
            people: Bucket::new("requests", Quota::per_minute(PEOPLE_PER_MINUTE).allow_burst(PEOPLE_BURST)),
            settings,
        }
    }

    /// The numbers.
    pub fn settings(&self) -> &config::Limits {
        &self.settings
    }

    /// Counts one request with this token.
    pub fn call(&self, jti: &Jti) -> Result<(), Limited> {
        self.calls.take(jti)
    }

    /// Counts one operation with this token in the class its effect and risk put it in. Reads are in none.
    pub fn operation(&self, jti: &Jti, effect: Effect, risk: Risk) -> Result<(), Limited> {
        if !effect.changes() {
            return Ok(());
        }
        if risk >= Risk::Critical {
            return self.critical.take(jti);
        }
        self.writes.take(jti)
    }

    /// Counts one request of this person, from wherever it comes; or of this peer, where it is a program's.
    pub fn person(&self, who: &str) -> Result<(), Limited> {
        self.people.take(&who.to_owned())
    }

    /// Counts one failed authentication of this source; errors once there were too many.
    pub fn auth_failure(&self, source: &str) -> Result<(), Limited> {
        self.auth_failures.take(&source.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        let n = |n| NonZeroU32::new(n).unwrap();
        Limits::new(config::Limits {
            calls_per_minute: n(60),
            calls_burst: n(3),
            writes_per_minute: n(2),
            critical_per_hour: n(1),
            auth_failures_per_minute: n(2),
            ..config::Limits::default()
        })
    }

    #[test]
    fn one_token_does_not_use_up_anothers_bucket() {
        let limits = limits();
        let (a, b) = (Jti::from("a"), Jti::from("b"));
        assert_eq!((0..5).filter(|_| limits.call(&a).is_ok()).count(), 3);
        let limited = limits.call(&a).unwrap_err();
        assert!((1..=2).contains(&limited.retry_after_s()), "{limited:?}");
        assert!(limits.call(&b).is_ok());
    }

    #[test]
    fn reads_are_in_no_class_and_critical_is_its_own() {
        let limits = limits();
        let jti = Jti::from("a");
        assert!((0..50).all(|_| limits.operation(&jti, Effect::Read, Risk::Critical).is_ok()));
        assert!(limits.operation(&jti, Effect::Write, Risk::Critical).is_ok());
        assert_eq!(limits.operation(&jti, Effect::Write, Risk::Critical).unwrap_err().class, "critical operations");
        assert!(limits.operation(&jti, Effect::Write, Risk::High).is_ok());
    }

    #[test]
    fn a_flood_of_sources_is_bounded() {
        let limits = limits();
        let refused = (0..MOST * 2).filter(|n| limits.auth_failure(&format!("source {n}")).is_err()).count();
        assert!(refused >= MOST, "{refused}");
        assert!(limits.auth_failures.limiter.len() <= MOST);
    }
}

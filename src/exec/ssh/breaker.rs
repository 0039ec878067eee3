//! Whether a host is worth another attempt: after several failures in a row it is left alone for a while, then one
//! attempt is let through to find out. Counts only what says that the host cannot be reached; keeps no clock of its
//! own.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The state of one host.
#[derive(Default)]
struct State {
    failures: u32,
    /// Until then nobody tries; later, one at a time.
    open_until: Option<Instant>,
    probing: bool,
}

/// Stands before one host.
pub(super) struct Breaker {
    limit: u32,
    pause: Duration,
    state: Mutex<State>,
}

/// The host is left alone now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    /// Failures in a row.
    pub(super) failures: u32,
    /// When somebody may try again; zero while somebody does.
    pub(super) again_in: Duration,
}

/// One attempt that was let through. Dropped without a word it counts neither way.
#[must_use]
pub(super) struct Attempt<'a> {
    breaker: &'a Breaker,
    probe: bool,
}

impl Breaker {
    /// Opens for `pause` after `limit` failures in a row.
    pub(super) fn new(limit: u32, pause: Duration) -> Self {
        Self { limit, pause, state: Mutex::default() }
    }

    /// Lets an attempt through, if the host is worth one.
    pub(super) fn enter(&self, now: Instant) -> Result<Attempt<'_>, Open> {
        let mut state = self.state();
        let Some(until) = state.open_until else { return Ok(Attempt { breaker: self, probe: false }) };
        if now < until || state.probing {
            return Err(Open { failures: state.failures, again_in: until.saturating_duration_since(now) });
        }
        state.probing = true;
        Ok(Attempt { breaker: self, probe: true })
    }

    /// Whether nothing is known against the host.
    pub(super) fn is_clean(&self) -> bool {
        let state = self.state();
        state.failures == 0 && state.open_until.is_none()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt<'_> {
    /// The host answered.
    pub(super) fn answered(self) {
        *self.breaker.state() = State::default();
    }

    /// The host could not be reached.
    pub(super) fn failed(self, now: Instant) {
        let mut state = self.breaker.state();
        state.failures = state.failures.saturating_add(1);
        if self.probe || state.failures >= self.breaker.limit {
            state.open_until = Some(now + self.breaker.pause);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.state().probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(30);

    fn opened() -> (Breaker, Instant) {
        let (breaker, now) = (Breaker::new(3, PAUSE), Instant::now());
        for _ in 0..3 {
            breaker.enter(now).ok().unwrap().failed(now);
        }
        (breaker, now)
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_says_for_how_long() {
        let (breaker, now) = opened();
        let refused = breaker.enter(now + Duration::from_secs(10)).err().unwrap();
        assert_eq!(refused, Open { failures: 3, again_in: Duration::from_secs(20) });
        assert!(!breaker.is_clean());
    }

    #[test]
    fn an_answer_between_failures_starts_the_count_anew() {
        let (breaker, now) = (Breaker::new(3, PAUSE), Instant::now());
        for _ in 0..5 {
            breaker.enter(now).ok().unwrap().failed(now);
            breaker.enter(now).ok().unwrap().failed(now);
            breaker.enter(now).ok().unwrap().answered();
        }
        assert!(breaker.enter(now).is_ok() && breaker.is_clean());
    }

    #[test]
    fn one_at_a_time_finds_out_whether_the_host_is_back() {
        let (breaker, now) = opened();
        let later = now + PAUSE;
        let probe = breaker.enter(later).ok().unwrap();
        assert_eq!(breaker.enter(later).err().unwrap().again_in, Duration::ZERO);
        probe.failed(later);
        assert_eq!(breaker.enter(later).err().unwrap().again_in, PAUSE);

        breaker.enter(later + PAUSE).ok().unwrap().answered();
        assert!(breaker.is_clean() && breaker.enter(later + PAUSE).is_ok());
    }

    #[test]
    fn an_attempt_that_was_given_up_counts_neither_way() {
        let (breaker, now) = opened();
        let later = now + PAUSE;
        drop(breaker.enter(later).ok().unwrap());
        breaker.enter(later).ok().unwrap().answered();
        drop(breaker.enter(later).ok().unwrap());
        assert!(breaker.is_clean());
    }
}

//! A time that only goes forward: the wall clock, but never behind what was seen before nor behind the steady clock. A
//! wall clock that is set back neither extends a question nor revives one.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use jiff::{SignedDuration, Timestamp};

use crate::model::Clock;

/// Tells it.
pub(super) struct Ticking {
    clock: Arc<dyn Clock>,
    last: Mutex<(Timestamp, Instant)>,
}

impl Ticking {
    /// From `seen` on, the latest moment that is known to have been; or from now.
    pub(super) fn new(clock: Arc<dyn Clock>, seen: Option<Timestamp>) -> Self {
        let now = clock.now();
        Self { clock, last: Mutex::new((seen.map_or(now, |seen| seen.max(now)), Instant::now())) }
    }

    /// Now.
    pub(super) fn now(&self) -> Timestamp {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (then, steady) = *last;
        let elapsed = SignedDuration::try_from(steady.elapsed()).unwrap_or(SignedDuration::MAX);
        let now = then.checked_add(elapsed).unwrap_or(Timestamp::MAX).max(self.clock.now());
        *last = (now, Instant::now());
        now
    }
}

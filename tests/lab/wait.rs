//! Waiting for a condition. Never for a time to pass.

use std::time::{Duration, Instant};

/// How long anything in the lab may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(40);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until `look` finds something, and returns it; fails the test after [`PATIENCE`].
#[track_caller]
pub fn until_some<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_some_within(PATIENCE, what, look)
}

#[track_caller]
fn until_some_within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < patience, "waited in vain until {what}");
        std::thread::sleep(LOOK);
    }
}

/// Waits until `holds`, for something that takes its time: up to `times` the [`PATIENCE`].
#[track_caller]
pub fn until_within(times: u32, what: &str, mut holds: impl FnMut() -> bool) {
    until_some_within(PATIENCE * times, what, || holds().then_some(()));
}

/// Waits until `holds`; fails the test after [`PATIENCE`].
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    until_some(what, || holds().then_some(()));
}

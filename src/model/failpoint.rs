//! Places at which a debug build can be told to die, so that tests prove what a crash there leaves behind. Never does
//! anything in a release build.

#[cfg(debug_assertions)]
static CHOSEN: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Chooses the one failpoint that acts in this process. The command line takes it from `TAILOPS_FAILPOINT`.
#[cfg(debug_assertions)]
pub(crate) fn choose_failpoint(chosen: String) {
    // The first choice stays.
    let _ = CHOSEN.set(chosen);
}

/// Kills this process by SIGKILL if `name` was chosen; panics if `panic:` and `name` was.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "what a fault of ours would do")]
pub(crate) fn failpoint(name: &'static str) {
    use rustix::process::{Signal, getpid, kill_process};

    let Some(chosen) = CHOSEN.get() else { return };
    if chosen == name {
        let _ = kill_process(getpid(), Signal::KILL);
    } else if chosen.strip_prefix("panic:") == Some(name) {
        panic!("told to panic at {name}");
    }
}

/// Does nothing.
#[cfg(not(debug_assertions))]
#[inline]
pub(crate) fn failpoint(_: &'static str) {}

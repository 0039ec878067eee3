//! Places at which a debug build can be told to die, so that tests prove what a crash there leaves behind. Never does
//! anything in a release build.

/// Kills this process by SIGKILL where the environment variable `TAILOPS_FAILPOINT` holds `name`.
#[cfg(debug_assertions)]
#[expect(clippy::disallowed_methods, reason = "a switch for tests, which no configuration may reach")]
pub(crate) fn failpoint(name: &'static str) {
    use std::{ffi::OsString, sync::OnceLock};

    use rustix::process::{Signal, getpid, kill_process};

    static CHOSEN: OnceLock<Option<OsString>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| std::env::var_os("TAILOPS_FAILPOINT"));
    if chosen.as_deref().is_some_and(|chosen| chosen == name) {
        let _ = kill_process(getpid(), Signal::KILL);
    }
}

/// Does nothing.
#[cfg(not(debug_assertions))]
#[inline]
pub(crate) fn failpoint(_: &'static str) {}

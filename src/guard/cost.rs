//! What a text costs grows with its length and with nothing else: each hostile text is measured once and four times as
//! long, side by side.

use std::time::Duration;

use super::{Guard, GuardLimits};
use crate::config;

/// Pieces whose repetition would make a detector that starts again at each of them quadratic.
pub(super) const HOSTILE: &[&str] = &[
    "password=\"",
    "password='\\\"",
    "password=[",
    "password: |\n ",
    "token",
    "secret.",
    "secret key ",
    "key",
    "password%3D",
    "\"password\", ",
    "&quot;password&quot;:&quot;",
    "://a:",
    "mysql://a:x/",
    "%3A%2F%2Fa%3A",
    "Bearer ",
    "bearer\u{a0}",
    "authorization: bearer ",
    "cookie:a=",
    "cookie: a",
    "eyJ",
    "eyJaaaaaaaaaaaa.",
    "eyJ.",
    "$1$",
    "SG.",
    "gh\u{70}_",
    "tailops_a.",
    "tailops_",
    ":AA",
    "Q~",
    "sig=",
    ".atlasv1.",
    "curl ",
    "curl -u ",
    "mysql -p ",
    "login a password ",
    ":5432:",
    "*:*:*:",
    "chpasswd",
    "configure set ",
    "-----BEGIN PRIVATE KEY-----",
    "-----END PRIVATE KEY-----\n",
    "AAAA\n",
    "[",
    "‹secret:",
    "a@b.",
    "@",
    "+49 ",
    "+4930",
    "4111 ",
    "4111",
    "411-111-1111 ",
    "DE89 ",
    "DE89",
    "phone: 0",
    "QUJDREVGR0hJSktMTU5PUFFSU1RVVldY/",
    "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYQUJDREVGR0hJSktM\n",
    "cGFzc3dvcmQ9aHVudGVyMg ",
    "ignore ",
    "ignore all ",
    "you are now a ",
    "![",
    "![a](https://a?",
    "<img ",
    "<|",
    "[INST]",
    "\u{1B}]",
    "\u{E0041}",
];

const SHORT: usize = 30_000;
/// Below this the kernel's account is too coarse.
const LEAST: Duration = Duration::from_millis(2);

fn long_texts() -> Guard {
    let limits = GuardLimits { max_string_bytes: 8 << 20, max_total_bytes: 64 << 20, ..GuardLimits::default() };
    Guard::new(limits, &config::Guard::default())
}

/// What this thread has had of a processor so far, whatever else the machine does.
fn worked() -> Duration {
    // The kernel books the time when it switches.
    std::thread::yield_now();
    let booked = std::fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel's account of this thread");
    let nanoseconds = booked.split(' ').next().and_then(|first| first.parse().ok()).expect("nanoseconds first");
    Duration::from_nanos(nanoseconds)
}

fn best_of(tries: usize, guard: &Guard, text: &str) -> Duration {
    let once = || {
        let before = worked();
        std::hint::black_box(guard.text(text));
        worked() - before
    };
    (0..tries).map(|_| once()).min().unwrap_or_default()
}

#[test]
fn four_times_the_text_costs_about_four_times_as_much() {
    let guard = long_texts();
    let mut slow = Vec::new();
    for piece in HOSTILE {
        let (short, long) = (piece.repeat(SHORT / piece.len()), piece.repeat(4 * SHORT / piece.len()));
        // A quadratic detector costs sixteen times as much. Measured again before it counts, as others use the caches.
        let growth = |tries| {
            let (short, long) = (best_of(tries, &guard, &short), best_of(tries, &guard, &long));
            long.as_secs_f64() / short.as_secs_f64().max(LEAST.as_secs_f64())
        };
        let grew = [1, 3, 8].into_iter().map(growth).find(|growth| *growth < 9.0);
        if grew.is_none() {
            slow.push(piece.escape_default().to_string());
        }
    }
    assert!(slow.is_empty(), "more than linear in: {slow:?}");
}

#[test]
fn the_measure_sees_work_that_grows_with_the_square() {
    let work = |length: u64| {
        let before = worked();
        let sum =
            (0..length).map(|a| (0..length).fold(a, |sum, b| std::hint::black_box(sum ^ b))).fold(0, u64::wrapping_add);
        std::hint::black_box(sum);
        worked() - before
    };
    let (short, long) = (work(1000), work(4000));
    assert!(short > Duration::from_millis(1) && long > short * 9, "{short:?} {long:?}");
}

#[test]
fn plain_text_is_handed_on_without_a_copy() {
    let guard = Guard::new(GuardLimits::default(), &config::Guard::default());
    let text = "Nov 21 08:00:01 web1 systemd[1]: Started nginx.service - A web server.\n".repeat(100);
    let sweep = guard.detectors.sweep(&text);
    assert!(sweep.hits.is_empty() && sweep.digits.is_empty() && sweep.signs.is_empty(), "{sweep:?}");
    let mut ledger = super::ledger::Ledger::default();
    let redacted = guard.detectors.redact(&text, sweep, guard.pii, &mut ledger);
    assert!(matches!(redacted, std::borrow::Cow::Borrowed(_)));
}

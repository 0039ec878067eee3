//! What every backend that runs scripts does alike: one suite, run against each. How commands end, that nothing of them
//! is left, what is kept of what they wrote, and that nothing in an argument or an output is taken for anything else.

pub(super) mod cases;
pub(super) mod hostile;

use std::{fs, future::Future, path::Path, time::Duration};

use futures_util::FutureExt;
use tokio::{task::yield_now, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Exec,
    model::{Script, ScriptOutput, StepOutcome, Stopped, Template},
};

pub(super) const LONG: Duration = Duration::from_secs(60);

/// A backend and a machine behind it, which is this one.
pub(super) trait Bench {
    /// Runs `script` with output bounded by `exec`.
    fn run(
        &self,
        exec: Exec,
        script: &Script,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> impl Future<Output = ScriptOutput>;
}

/// Makes a test of each case, on the bench that `$bench` makes.
macro_rules! holds_the_contract {
    ($bench:expr) => {
        crate::exec::contract::holds_the_contract! { $bench, cases:
            an_argument_that_cannot_be_passed_starts_nothing
            a_child_left_behind_does_not_hang_us
            a_command_and_its_children_end_at_the_limit
            a_command_that_ignores_the_request_to_end_is_killed
            a_command_that_ends_politely_at_the_limit_was_still_stopped
            every_exit_status_is_the_scripts_own
            an_absurdly_long_limit_is_only_long
            a_signal_we_did_not_send_is_told_apart
            endless_output_is_stopped_and_its_ends_are_kept
            both_streams_share_the_hard_limit_and_keep_their_own_caps
            bytes_that_are_not_text_are_kept
            the_environment_is_empty_but_for_the_contract
            what_a_child_left_behind_still_writes_at_once_is_read
            a_process_that_left_the_group_does_not_hang_us
            dropping_the_call_kills_the_group
            cancelling_stops_the_group
            the_record_names_the_line_that_ran
        }
        crate::exec::contract::holds_the_contract! { $bench, hostile:
            arguments_arrive_byte_identical
            content_on_standard_input_arrives_byte_identical
            content_that_nobody_reads_is_no_error
            a_line_that_looks_like_a_marker_is_content
        }
    };
    ($bench:expr, $cases:ident: $($case:ident)*) => {
        mod $cases {
            use super::*;

            $(
                #[tokio::test]
                async fn $case() {
                    crate::exec::contract::$cases::$case(&$bench.await).await;
                }
            )*
        }
    };
}

pub(super) use holds_the_contract;

/// A template made for one test.
pub(super) fn template(body: &str, stdin: bool) -> &'static Template {
    Box::leak(Box::new(Template { id: "test.v1", body: String::from(body).leak(), stdin }))
}

pub(super) fn script(body: &str, args: &[&str]) -> Script {
    Script::new(template(body, false), args.iter().copied())
}

pub(super) async fn run_with(bench: &impl Bench, exec: Exec, script: &Script, limit: Duration) -> ScriptOutput {
    bench.run(exec, script, limit, &CancellationToken::new()).await
}

pub(super) async fn run(bench: &impl Bench, body: &str, args: &[&str]) -> ScriptOutput {
    run_with(bench, Exec::default(), &script(body, args), LONG).await
}

fn stopped(limit: &'static str) -> StepOutcome {
    StepOutcome::Stopped { limit, stopped: Stopped::Confirmed }
}

/// Whether `pid` still runs; one that is dead but not reaped does not.
pub(super) fn alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with(['Z', 'X'])))
}

/// The numbers a script wrote, one a line.
pub(super) fn pids(text: &str) -> Vec<i32> {
    let pids: Vec<i32> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert!(!pids.is_empty());
    pids
}

/// Waits until `condition` holds, driving `other` meanwhile. Fails after a minute.
pub(super) async fn until(other: &mut (impl Future + Unpin), condition: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "the condition never held");
        assert!(other.now_or_never().is_none(), "it ended before the condition held");
        yield_now().await;
    }
}

/// The lines of a file, once it has this many.
fn has_lines(file: &Path, count: usize) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.ends_with('\n') && text.lines().count() == count)
}

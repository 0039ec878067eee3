//! Real processes: how they end, that nothing of them is left, and what is kept of what they wrote.

use std::{fs, future::Future, path::Path};

use futures_util::FutureExt;
use ring::digest::{SHA256, digest};
use rustix::process::{Pid, kill_process};
use tokio::task::yield_now;

use super::*;
use crate::model::{Progress, Template, hex};

const SECOND: Duration = Duration::from_secs(1);
/// Short, yet long enough for a shell to begin on a busy machine.
const SHORT: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(60);

/// A template made for one test.
pub(super) fn template(body: &str, stdin: bool) -> &'static Template {
    Box::leak(Box::new(Template { id: "test.v1", body: String::from(body).leak(), stdin }))
}

fn script(body: &str, args: &[&str]) -> Script {
    Script::new(template(body, false), args.iter().copied())
}

fn settings() -> Exec {
    Exec::default()
}

async fn run_with(settings: Exec, script: &Script, limit: Duration) -> ScriptOutput {
    Local::new(settings).perform(script, limit, &CancellationToken::new(), &Progress::default()).await
}

async fn run(body: &str, args: &[&str]) -> ScriptOutput {
    run_with(settings(), &script(body, args), LONG).await
}

fn stopped(limit: &'static str) -> StepOutcome {
    StepOutcome::Stopped { limit, stopped: Stopped::Confirmed }
}

/// Whether `pid` still runs; one that is dead but not reaped does not.
fn alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with(['Z', 'X'])))
}

/// The numbers a script wrote, one a line.
fn pids(text: &str) -> Vec<i32> {
    let pids: Vec<i32> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert!(!pids.is_empty());
    pids
}

/// Waits until `condition` holds, driving `other` meanwhile. Fails after a minute.
async fn until(other: &mut (impl Future + Unpin), condition: impl Fn() -> bool) {
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

#[tokio::test]
async fn an_argument_that_cannot_be_passed_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let body = ": > \"$1\"";

    let output = run(body, &[mark.to_str().unwrap(), "a\0b"]).await;
    assert!(
        matches!(&output.outcome, StepOutcome::NotStarted { why, .. } if why.contains("NUL")),
        "{:?}",
        output.outcome
    );
    assert_eq!(output.argv_sha256, "");

    // The kernel takes no single argument of more than 128 KiB, and the line is one.
    let output = run(body, &[mark.to_str().unwrap(), &"a".repeat(200 << 10)]).await;
    assert!(
        matches!(&output.outcome, StepOutcome::NotStarted { why, .. } if why.contains("too long")),
        "{:?}",
        output.outcome
    );
    assert_eq!(output.stdout.total, 0);
    assert!(!mark.exists());
}

#[tokio::test]
async fn a_script_cut_short_does_nothing() {
    let script = script("echo ran", &["x"]);
    let launch = Launch::new(&script, LONG).unwrap();
    // The last byte is the newline after the closing brace: nothing of the call is missing without it.
    let whole = launch.input.len() - 1;
    for cut in (0..=whole).rev() {
        let mut group = Group::spawn(&launch.line).unwrap();
        let Ends { stdin, stdout, stderr, exit } = group.open().unwrap();
        let (mut out, mut err, budget) =
            (Capture::new(1 << 10), Capture::new(1 << 10), Budget::new(1 << 20, Progress::default()));
        let (fed, read, failed) = tokio::join!(
            feed(stdin, &launch.input[..cut]),
            pump(stdout, &mut out, &budget),
            pump(stderr, &mut err, &budget)
        );
        fed.and(read).and(failed).unwrap();
        exit.wait().await;
        let ran = out.finish().head == b"ran\n";
        assert_eq!(ran, cut == whole, "cut at {cut} of {whole}");
    }
}

#[tokio::test]
async fn a_command_and_its_children_end_at_the_limit() {
    let body = "echo $$\nsleep 999 &\necho $!\n(sleep 999 & echo $!; sleep 999) &\necho $!\nsleep 999";
    let output = run_with(settings(), &script(body, &[]), SHORT).await;
    assert_eq!(output.outcome, stopped("time"));
    assert!(output.duration >= SHORT && output.duration < 10 * SECOND, "{:?}", output.duration);
    let pids = pids(&output.stdout.text());
    assert_eq!(pids.len(), 4);
    assert!(!pids.into_iter().any(alive));
}

#[tokio::test]
async fn a_command_that_ignores_the_request_to_end_is_killed() {
    let body = "trap '' TERM\necho $$\nsleep 999 &\necho $!\nwhile :; do sleep 999; done";
    let output = run_with(settings(), &script(body, &[]), SHORT).await;
    assert_eq!(output.outcome, stopped("time"));
    assert!(output.duration < 10 * SECOND, "{:?}", output.duration);
    assert!(!pids(&output.stdout.text()).into_iter().any(alive));
}

#[tokio::test]
async fn a_command_that_ends_politely_at_the_limit_was_still_stopped() {
    let body = "trap 'echo bye; exit 0' TERM\nsleep 999 &\nwait";
    let output = run_with(settings(), &script(body, &[]), SHORT).await;
    assert_eq!(output.outcome, stopped("time"));
    assert_eq!(output.stdout.text(), "bye\n");
}

#[tokio::test]
async fn every_exit_status_is_the_scripts_own() {
    for code in [0, 1, 2, 65, 124, 126, 127, 137, 143, 255] {
        let output = run("exit \"$1\"", &[&code.to_string()]).await;
        assert_eq!(output.outcome, StepOutcome::Exited(code));
    }
    assert_eq!(run("false; echo still", &[]).await.stdout.text(), "still\n");
    let missing = run("no-such-program-anywhere", &[]).await;
    assert_eq!(missing.outcome, StepOutcome::Exited(127));
    assert!(missing.stderr.text().contains("not found"), "{}", missing.stderr.text());
}

#[tokio::test]
async fn an_absurdly_long_limit_is_only_long() {
    let limit = Duration::from_secs(u64::MAX);
    assert_eq!(run_with(settings(), &script("exit 3", &[]), limit).await.outcome, StepOutcome::Exited(3));
}

#[tokio::test]
async fn a_signal_we_did_not_send_is_told_apart() {
    for (name, number) in [("KILL", 9), ("TERM", 15), ("USR1", 10), ("ABRT", 6)] {
        let output = run("kill -s \"$1\" $$", &[name]).await;
        assert_eq!(output.outcome, StepOutcome::Signalled(number), "{name}");
    }
}

#[tokio::test]
async fn endless_output_is_stopped_and_its_ends_are_kept() {
    let bounds = Exec { max_stdout_bytes: 4000, hard_output_bytes: 1 << 20, ..settings() };
    let output = run_with(bounds, &script("echo $$ >&2\nexec yes abcdefg", &[]), LONG).await;
    assert_eq!(output.outcome, stopped("output"));
    assert!(output.duration < 20 * SECOND, "{:?}", output.duration);
    assert!(!pids(&output.stderr.text()).into_iter().any(alive));

    let total = output.stdout.total;
    assert!(total > 1 << 19 && total <= (1 << 20) + (16 << 10), "{total}");
    let all: Vec<u8> = b"abcdefg\n".iter().copied().cycle().take(total as usize).collect();
    assert_eq!(output.stdout.head, all[..3000]);
    assert_eq!(output.stdout.tail, all[all.len() - 1000..]);
    assert_eq!(output.stdout.sha256, hex(digest(&SHA256, &all).as_ref()));
    assert_eq!(output.stdout.dropped(), total - 4000);
}

#[tokio::test]
async fn both_streams_share_the_hard_limit_and_keep_their_own_caps() {
    let bounds = Exec { max_stdout_bytes: 8, max_stderr_bytes: 4, hard_output_bytes: 300_000, ..settings() };
    let body = "seq \"$1\"\nseq \"$1\" >&2";
    let output = run_with(bounds, &script(body, &["9"]), LONG).await;
    assert_eq!(output.outcome, StepOutcome::Exited(0));
    assert_eq!((output.stdout.head, output.stdout.tail), (b"1\n2\n3\n".to_vec(), b"9\n".to_vec()));
    assert_eq!((output.stderr.head, output.stderr.tail), (b"1\n2".to_vec(), b"\n".to_vec()));
    // 288 894 bytes: within the limit once, over it twice.
    assert_eq!(run_with(bounds, &script(body, &["50000"]), LONG).await.outcome, stopped("output"));
}

#[tokio::test]
async fn bytes_that_are_not_text_are_kept() {
    let output = run(r"printf '\377\376\000a\200'", &[]).await;
    assert_eq!(output.stdout.head, b"\xff\xfe\0a\x80");
    assert_eq!(output.stdout.sha256, hex(digest(&SHA256, b"\xff\xfe\0a\x80").as_ref()));
}

#[tokio::test]
async fn the_environment_is_empty_but_for_the_contract() {
    let output = run("env; echo; pwd; umask; cat", &[]).await;
    let text = output.stdout.text();
    let (variables, rest) = text.split_once("\n\n").unwrap();
    let mut contract = 0;
    for variable in variables.lines() {
        match variable {
            "LC_ALL=C" | "PATH=/usr/sbin:/usr/bin:/sbin:/bin" => contract += 1,
            // What shells themselves set.
            _ => assert!(["PWD", "OLDPWD", "SHLVL", "_"].contains(&variable.split('=').next().unwrap()), "{variable}"),
        }
    }
    assert_eq!(contract, 2);
    assert_eq!(rest, "/\n0077\n");
}

#[tokio::test]
async fn a_child_left_behind_neither_hangs_us_nor_lives_on() {
    let output = run("sleep 999 &\necho $!", &[]).await;
    assert_eq!(output.outcome, StepOutcome::Exited(0));
    assert!(output.duration < 10 * SECOND, "{:?}", output.duration);
    let child = pids(&output.stdout.text())[0];
    until(&mut std::future::pending::<()>(), || !alive(child)).await;

    // The same for one that holds no stream open.
    let output = run("sleep 999 </dev/null >/dev/null 2>&1 &\necho $!", &[]).await;
    let child = pids(&output.stdout.text())[0];
    until(&mut std::future::pending::<()>(), || !alive(child)).await;
}

#[tokio::test]
async fn what_a_child_left_behind_still_writes_at_once_is_read() {
    let output = run("(while kill -0 $$; do :; done; echo late) 2>/dev/null &\necho early", &[]).await;
    assert_eq!(output.stdout.text(), "early\nlate\n");
}

#[tokio::test]
async fn a_process_that_left_the_group_does_not_hang_us() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("left");
    let body = r#"setsid sh -c ': > "$1"; exec sleep 999' sh "$1" &
echo $!
until [ -e "$1" ]; do sleep 0.02; done"#;
    let output = run(body, &[file.to_str().unwrap()]).await;
    let escaped = pids(&output.stdout.text())[0];
    let lives = alive(escaped);
    kill_process(Pid::from_raw(escaped).unwrap(), Signal::KILL).unwrap();
    assert_eq!(output.outcome, StepOutcome::Exited(0));
    assert!(output.duration < 10 * SECOND, "{:?}", output.duration);
    assert!(lives, "the documented limit of a process group no longer holds");
}

#[tokio::test]
async fn dropping_the_call_kills_the_group() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let body = "trap '' TERM\necho $$ >> \"$1\"\nsleep 999 &\necho $! >> \"$1\"\nwait";
    let (local, script, cancel) =
        (Local::new(settings()), script(body, &[file.to_str().unwrap()]), CancellationToken::new());
    let unwatched = Progress::default();
    let mut call = Box::pin(local.perform(&script, LONG, &cancel, &unwatched));
    until(&mut call, || has_lines(&file, 2)).await;
    let pids = pids(&fs::read_to_string(&file).unwrap());
    assert!(pids.iter().copied().all(alive));
    drop(call);
    until(&mut std::future::pending::<()>(), || !pids.iter().copied().any(alive)).await;
}

#[tokio::test]
async fn cancelling_stops_the_group() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let body = "echo $$ >> \"$1\"\nsleep 999 &\necho $! >> \"$1\"\nwait";
    let (local, script, cancel) =
        (Local::new(settings()), script(body, &[file.to_str().unwrap()]), CancellationToken::new());
    let unwatched = Progress::default();
    let mut call = Box::pin(local.perform(&script, LONG, &cancel, &unwatched));
    until(&mut call, || has_lines(&file, 2)).await;
    cancel.cancel();
    assert_eq!(call.await.outcome, stopped("cancelled"));
    assert!(!pids(&fs::read_to_string(&file).unwrap()).into_iter().any(alive));

    let again = local.perform(&script, LONG, &cancel, &unwatched).await;
    assert_eq!(again.outcome, StepOutcome::not_started("the call was cancelled"));
    assert!(has_lines(&file, 2), "it ran although it was cancelled before");
}

#[tokio::test]
async fn the_record_names_the_line_that_ran() {
    let first = run("echo \"$m\"", &[]).await;
    let second = run("echo \"$m\"", &[]).await;
    assert_eq!(first.marker.len(), 32);
    assert_ne!(first.marker, second.marker);
    assert_eq!(first.stdout.text(), format!("{}\n", first.marker));
    let line = script("echo \"$m\"", &[]).command_line(&first.marker, LONG).unwrap();
    assert_eq!(first.argv_sha256, hex(digest(&SHA256, line.as_bytes()).as_ref()));
}

//! How commands end, that nothing of them is left, and what is kept of what they wrote.

use ring::digest::{SHA256, digest};
use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::model::hex;

const SECOND: Duration = Duration::from_secs(1);
/// Short, yet long enough for a shell to begin on a busy machine.
const SHORT: Duration = Duration::from_secs(2);

pub(in crate::exec) async fn an_argument_that_cannot_be_passed_starts_nothing(bench: &impl Bench) {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let output = run(bench, ": > \"$1\"", &[mark.to_str().unwrap(), "a\0b"]).await;
    let StepOutcome::NotStarted { code: "not_started", why } = &output.outcome else { panic!("{:?}", output.outcome) };
    assert!(why.contains("NUL"), "{why}");
    assert_eq!(output.argv_sha256, "");
    assert!(!mark.exists());
}

pub(in crate::exec) async fn a_child_left_behind_does_not_hang_us(bench: &impl Bench) {
    let output = run(bench, "sleep 999 &\necho $!", &[]).await;
    assert_eq!(output.outcome, StepOutcome::Exited(0));
    assert!(output.duration < 10 * SECOND, "{:?}", output.duration);
    let child = pids(&output.stdout.text())[0];
    // Whether it lives on is the backend's to say.
    let _ = kill_process(Pid::from_raw(child).unwrap(), Signal::KILL);
    until(&mut std::future::pending::<()>(), || !alive(child)).await;
}

pub(in crate::exec) async fn a_command_and_its_children_end_at_the_limit(bench: &impl Bench) {
    let body = "echo $$\nsleep 999 &\necho $!\n(sleep 999 & echo $!; sleep 999) &\necho $!\nsleep 999";
    let output = run_with(bench, Exec::default(), &script(body, &[]), SHORT).await;
    assert_eq!(output.outcome, stopped("time"));
    assert!(output.duration >= SHORT && output.duration < 10 * SECOND, "{:?}", output.duration);
    let pids = pids(&output.stdout.text());
    assert_eq!(pids.len(), 4);
    assert!(!pids.into_iter().any(alive));
}

pub(in crate::exec) async fn a_command_that_ignores_the_request_to_end_is_killed(bench: &impl Bench) {
    let body = "trap '' TERM\necho $$\nsleep 999 &\necho $!\nwhile :; do sleep 999; done";
    let output = run_with(bench, Exec::default(), &script(body, &[]), SHORT).await;
    assert_eq!(output.outcome, stopped("time"));
    assert!(output.duration < 10 * SECOND, "{:?}", output.duration);
    assert!(!pids(&output.stdout.text()).into_iter().any(alive));
}

pub(in crate::exec) async fn a_command_that_ends_politely_at_the_limit_was_still_stopped(bench: &impl Bench) {
    let body = "trap 'echo bye; exit 0' TERM\nsleep 999 &\nwait";
    let output = run_with(bench, Exec::default(), &script(body, &[]), SHORT).await;
    assert_eq!(output.outcome, stopped("time"));
    assert_eq!(output.stdout.text(), "bye\n");
}

pub(in crate::exec) async fn every_exit_status_is_the_scripts_own(bench: &impl Bench) {
    for code in [0, 1, 2, 65, 124, 126, 127, 137, 143, 255] {
        let output = run(bench, "exit \"$1\"", &[&code.to_string()]).await;
        assert_eq!(output.outcome, StepOutcome::Exited(code));
    }
    assert_eq!(run(bench, "false; echo still", &[]).await.stdout.text(), "still\n");
    let missing = run(bench, "no-such-program-anywhere", &[]).await;
    assert_eq!(missing.outcome, StepOutcome::Exited(127));
    assert!(missing.stderr.text().contains("not found"), "{}", missing.stderr.text());
}

pub(in crate::exec) async fn an_absurdly_long_limit_is_only_long(bench: &impl Bench) {
    let limit = Duration::from_secs(u64::MAX);
    assert_eq!(run_with(bench, Exec::default(), &script("exit 3", &[]), limit).await.outcome, StepOutcome::Exited(3));
}

pub(in crate::exec) async fn a_signal_we_did_not_send_is_told_apart(bench: &impl Bench) {
    for (name, number) in [("KILL", 9), ("TERM", 15), ("USR1", 10), ("ABRT", 6)] {
        let output = run(bench, "kill -s \"$1\" $$", &[name]).await;
        assert_eq!(output.outcome, StepOutcome::Signalled(number), "{name}");
    }
}

pub(in crate::exec) async fn endless_output_is_stopped_and_its_ends_are_kept(bench: &impl Bench) {
    let bounds = Exec { max_stdout_bytes: 4000, hard_output_bytes: 1 << 20, ..Exec::default() };
    let output = run_with(bench, bounds, &script("echo $$ >&2\nexec yes abcdefg", &[]), LONG).await;
    assert_eq!(output.outcome, stopped("output"));
    assert!(output.duration < 20 * SECOND, "{:?}", output.duration);
    assert!(!pids(&output.stderr.text()).into_iter().any(alive));

    let total = output.stdout.total;
    assert!(total > 1 << 19 && total <= (1 << 20) + (64 << 10), "{total}");
    let all: Vec<u8> = b"abcdefg\n".iter().copied().cycle().take(total as usize).collect();
    assert_eq!(output.stdout.head, all[..3000]);
    assert_eq!(output.stdout.tail, all[all.len() - 1000..]);
    assert_eq!(output.stdout.sha256, hex(digest(&SHA256, &all).as_ref()));
    assert_eq!(output.stdout.dropped(), total - 4000);
}

pub(in crate::exec) async fn both_streams_share_the_hard_limit_and_keep_their_own_caps(bench: &impl Bench) {
    let bounds = Exec { max_stdout_bytes: 8, max_stderr_bytes: 4, hard_output_bytes: 300_000, ..Exec::default() };
    let body = "seq \"$1\"\nseq \"$1\" >&2";
    let output = run_with(bench, bounds, &script(body, &["9"]), LONG).await;
    assert_eq!(output.outcome, StepOutcome::Exited(0));
    assert_eq!((output.stdout.head, output.stdout.tail), (b"1\n2\n3\n".to_vec(), b"9\n".to_vec()));
    assert_eq!((output.stderr.head, output.stderr.tail), (b"1\n2".to_vec(), b"\n".to_vec()));
    // 288 894 bytes: within the limit once, over it twice.
    // It may have come to its own end meanwhile, and then a backend may have no proof.
    let output = run_with(bench, bounds, &script(body, &["50000"]), LONG).await;
    assert!(matches!(output.outcome, StepOutcome::Stopped { limit: "output", .. }), "{:?}", output.outcome);
}

pub(in crate::exec) async fn bytes_that_are_not_text_are_kept(bench: &impl Bench) {
    let output = run(bench, r"printf '\377\376\000a\200'", &[]).await;
    assert_eq!(output.stdout.head, b"\xff\xfe\0a\x80");
    assert_eq!(output.stdout.sha256, hex(digest(&SHA256, b"\xff\xfe\0a\x80").as_ref()));
}

pub(in crate::exec) async fn the_environment_is_empty_but_for_the_contract(bench: &impl Bench) {
    let output = run(bench, "env; echo; pwd; umask; cat", &[]).await;
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

pub(in crate::exec) async fn what_a_child_left_behind_still_writes_at_once_is_read(bench: &impl Bench) {
    let output = run(bench, "(while kill -0 $$; do :; done; echo late) 2>/dev/null &\necho early", &[]).await;
    assert_eq!(output.stdout.text(), "early\nlate\n");
}

pub(in crate::exec) async fn a_process_that_left_the_group_does_not_hang_us(bench: &impl Bench) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("left");
    let body = r#"setsid sh -c ': > "$1"; exec sleep 999' sh "$1" &
echo $!
until [ -e "$1" ]; do sleep 0.02; done"#;
    let output = run(bench, body, &[file.to_str().unwrap()]).await;
    let escaped = pids(&output.stdout.text())[0];
    let lives = alive(escaped);
    kill_process(Pid::from_raw(escaped).unwrap(), Signal::KILL).unwrap();
    assert_eq!(output.outcome, StepOutcome::Exited(0));
    assert!(output.duration < 10 * SECOND, "{:?}", output.duration);
    assert!(lives, "the documented limit of a process group no longer holds");
}

pub(in crate::exec) async fn dropping_the_call_kills_the_group(bench: &impl Bench) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let body = "trap '' TERM\necho $$ >> \"$1\"\nsleep 999 &\necho $! >> \"$1\"\nwait";
    let (script, cancel) = (script(body, &[file.to_str().unwrap()]), CancellationToken::new());
    let mut call = Box::pin(bench.run(Exec::default(), &script, LONG, &cancel));
    until(&mut call, || has_lines(&file, 2)).await;
    let pids = pids(&fs::read_to_string(&file).unwrap());
    assert!(pids.iter().copied().all(alive));
    drop(call);
    until(&mut std::future::pending::<()>(), || !pids.iter().copied().any(alive)).await;
}

pub(in crate::exec) async fn cancelling_stops_the_group(bench: &impl Bench) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let body = "echo $$ >> \"$1\"\nsleep 999 &\necho $! >> \"$1\"\nwait";
    let (script, cancel) = (script(body, &[file.to_str().unwrap()]), CancellationToken::new());
    let mut call = Box::pin(bench.run(Exec::default(), &script, LONG, &cancel));
    until(&mut call, || has_lines(&file, 2)).await;
    cancel.cancel();
    assert_eq!(call.await.outcome, stopped("cancelled"));
    assert!(!pids(&fs::read_to_string(&file).unwrap()).into_iter().any(alive));

    let again = bench.run(Exec::default(), &script, LONG, &cancel).await;
    assert_eq!(again.outcome, StepOutcome::not_started("the call was cancelled"));
    assert!(has_lines(&file, 2), "it ran although it was cancelled before");
}

pub(in crate::exec) async fn the_record_names_the_line_that_ran(bench: &impl Bench) {
    let first = run(bench, "echo \"$m\"", &[]).await;
    let second = run(bench, "echo \"$m\"", &[]).await;
    assert_eq!(first.marker.len(), 32);
    assert_ne!(first.marker, second.marker);
    assert_eq!(first.stdout.text(), format!("{}\n", first.marker));
    let line = script("echo \"$m\"", &[]).command_line(&first.marker, LONG).unwrap();
    assert_eq!(first.argv_sha256, hex(digest(&SHA256, line.as_bytes()).as_ref()));
}

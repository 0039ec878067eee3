//! Real processes of this machine: the contract of every backend, and what this one does beyond it.

use super::*;
use crate::exec::contract::{self, LONG, alive, holds_the_contract, pids, run, script, until};

/// This machine.
pub(super) struct Bench;

impl contract::Bench for Bench {
    async fn run(&self, exec: Exec, script: &Script, limit: Duration, cancel: &CancellationToken) -> ScriptOutput {
        Local::new(exec).perform(script, limit, cancel, &Progress::default()).await
    }
}

holds_the_contract!(std::future::ready(Bench));

#[tokio::test]
async fn a_line_that_is_too_long_for_the_kernel_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    // The kernel takes no single argument of more than 128 KiB, and the line is one.
    let output = run(&Bench, ": > \"$1\"", &[mark.to_str().unwrap(), &"a".repeat(200 << 10)]).await;
    let StepOutcome::NotStarted { why, .. } = &output.outcome else { panic!("{:?}", output.outcome) };
    assert!(why.contains("too long"), "{why}");
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
async fn a_child_left_behind_neither_hangs_us_nor_lives_on() {
    let output = run(&Bench, "sleep 999 &\necho $!", &[]).await;
    assert_eq!(output.outcome, StepOutcome::Exited(0));
    assert!(output.duration < Duration::from_secs(10), "{:?}", output.duration);
    let child = pids(&output.stdout.text())[0];
    until(&mut std::future::pending::<()>(), || !alive(child)).await;

    // The same for one that holds no stream open.
    let output = run(&Bench, "sleep 999 </dev/null >/dev/null 2>&1 &\necho $!", &[]).await;
    let child = pids(&output.stdout.text())[0];
    until(&mut std::future::pending::<()>(), || !alive(child)).await;
}

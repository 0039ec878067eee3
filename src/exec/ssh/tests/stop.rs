//! Commands that are ended: what is said of it is so, and nobody else is hit.

use std::sync::atomic::AtomicBool;

use futures_util::future::join_all;

use super::*;
use crate::{
    exec::contract::{alive, pids, template, until},
    model::Stopped,
};

fn stopped(limit: &'static str, stopped: Stopped) -> StepOutcome {
    StepOutcome::Stopped { limit, stopped }
}

/// Runs `body`, which writes the process ids of one line each to its `$1`, and cancels it once there are `count`.
async fn cancelled(rig: &Rig, body: &str, count: usize) -> (StepOutcome, Vec<i32>) {
    let folder = tempfile::tempdir().unwrap();
    let (file, cancel) = (folder.path().join("pids"), CancellationToken::new());
    let script = Script::new(template(body, false), [file.to_str().unwrap()]);
    let written = || fs::read_to_string(&file).unwrap_or_default();
    let cancelling = async {
        eventually("it never began", || written().lines().count() == count && written().ends_with('\n')).await;
        cancel.cancel();
    };
    let (output, ()) = tokio::join!(rig.cancellable(&rig.target, &script, &cancel), cancelling);
    (output.outcome, pids(&written()))
}

#[tokio::test]
async fn a_cancelled_command_is_gone_with_its_children_when_that_is_said() {
    let rig = rig(|_, _| {}).await;
    let deaf = "trap '' INT TERM\necho $$ >> \"$1\"\n(while :; do sleep 999; done) &\necho $! >> \"$1\"\nwait";
    for body in ["echo $$ >> \"$1\"\nsleep 999 &\necho $! >> \"$1\"\nwait", deaf] {
        let (outcome, pids) = cancelled(&rig, body, 2).await;
        assert_eq!(outcome, stopped("cancelled", Stopped::Confirmed));
        assert!(!pids.into_iter().any(alive));
    }
    assert_eq!(rig.connections(), (1, 1), "ending a command costs no connection");
}

#[tokio::test]
async fn what_else_runs_on_the_host_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let rig = rig(|_, _| {}).await;
    let (other, go) = (folder.path().join("other"), folder.path().join("go"));
    let body = "echo $$ > \"$1\"; until [ -e \"$2\" ]; do sleep 0.02; done; echo whole";
    let script = Script::new(template(body, false), [other.to_str().unwrap(), go.to_str().unwrap()]);
    let meanwhile = async {
        eventually("it never began", || fs::read_to_string(&other).is_ok_and(|text| text.ends_with('\n'))).await;
        let (outcome, _) = cancelled(&rig, "echo $$ >> \"$1\"; sleep 999", 1).await;
        assert_eq!(outcome, stopped("cancelled", Stopped::Confirmed));
        fs::write(&go, "").unwrap();
    };
    let (output, ()) = tokio::join!(rig.run(&script), meanwhile);
    assert_eq!((output.outcome, output.stdout.text()), (StepOutcome::Exited(0), "whole\n".to_owned()));
}

#[tokio::test]
async fn a_host_without_room_for_a_second_session_is_asked_over_another_connection() {
    let rig = rig(|settings, _| settings.max_sessions = 1).await;
    let (outcome, pids) = cancelled(&rig, "echo $$ >> \"$1\"; sleep 999", 1).await;
    assert_eq!(outcome, stopped("cancelled", Stopped::Confirmed));
    assert!(!pids.into_iter().any(alive));
    assert_eq!(rig.connections().0, 2);
}

#[tokio::test]
async fn what_a_deaf_child_leaves_at_the_limit_is_killed_before_it_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let rig = rig(|_, _| {}).await;
    // Its parent ends politely, and `timeout` with it.
    let body = "(trap '' TERM INT; while :; do sleep 999; done) >/dev/null 2>&1 &\necho $! > \"$1\"\nwait";
    let limit = Some(Duration::from_secs(2));
    let script = Script { limit, ..Script::new(template(body, false), [file.to_str().unwrap()]) };
    let output = rig.limited(&script, Duration::from_secs(2)).await;
    assert_eq!(output.outcome, stopped("time", Stopped::Confirmed));
    assert!(!pids(&fs::read_to_string(&file).unwrap()).into_iter().any(alive));
}

#[tokio::test]
async fn a_host_that_cannot_say_is_not_believed_to_have_ended_anything() {
    let folder = tempfile::tempdir().unwrap();
    let begun = folder.path().join("begun");
    let file = begun.clone();
    // It runs nothing, and answers every question with what it guesses we want to hear.
    let rig = rig(|settings, _| {
        settings.answer = Some(Arc::new(move |line, _| {
            if line.contains("umask 077") {
                return (b"gone\n0123 gone\n".to_vec(), 0);
            }
            fs::write(&file, "").unwrap();
            std::thread::sleep(Duration::from_secs(2));
            (Vec::new(), 0)
        }));
    })
    .await;
    let cancel = CancellationToken::new();
    let script = Script::new(&ECHO, ["x"]);
    let cancelling = async {
        eventually("it never began", || begun.exists()).await;
        cancel.cancel();
    };
    let (output, ()) = tokio::join!(rig.cancellable(&rig.target, &script, &cancel), cancelling);
    assert_eq!(output.outcome, stopped("cancelled", Stopped::Requested));
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_any_more_is_ended_on_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let rig = rig(|_, _| {}).await;
    let script = Script::new(template("echo $$ > \"$1\"; sleep 999", false), [file.to_str().unwrap()]);
    let mut call = Box::pin(rig.run(&script));
    until(&mut call, || fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n'))).await;
    drop(call);
    let pid = pids(&fs::read_to_string(&file).unwrap())[0];
    until(&mut std::future::pending::<()>(), || !alive(pid)).await;
}

#[tokio::test]
async fn floods_over_the_limit_end_and_hold_up_nobody_on_their_connection() {
    // More at once than the library has places for what is to be sent, in pieces so small that they fill every queue.
    let flooding = Arc::new(AtomicBool::new(false));
    let now = flooding.clone();
    let says = move |line: &str| if now.load(Ordering::SeqCst) { "exec yes" } else { line }.to_owned();
    let ssh = config::Ssh { channels_per_connection: 64, ..config::Ssh::default() };
    let mut rig = rig_with(ssh, |settings, _| {
        settings.max_sessions = 64;
        settings.instead = Some(Arc::new(says));
        settings.piece = 64;
    })
    .await;
    rig.ssh.exec.hard_output_bytes = 64 << 10;
    rig.echo().await;
    flooding.store(true, Ordering::SeqCst);
    let floods = (0..24).map(|_| async {
        assert_eq!(rig.echo().await, stopped("output", Stopped::Requested));
    });
    let calls = async {
        join_all(floods).await;
        flooding.store(false, Ordering::SeqCst);
        assert_eq!(rig.echo().await, StepOutcome::Exited(3));
    };
    tokio::time::timeout(Duration::from_secs(60), calls).await.expect("the connection is stuck");
    eventually("floods that nobody reads go on", || rig.sshd.seen.running.load(Ordering::SeqCst) == 0).await;
    assert_eq!(rig.connections(), (1, 1));
}

#[tokio::test]
async fn a_flood_of_a_host_that_takes_no_input_is_not_left_open() {
    let mut rig = rig(|settings, _| {
        settings.instead = Some(Arc::new(|_: &str| "exec yes".to_owned()));
        settings.window = 0;
    })
    .await;
    rig.ssh.exec.hard_output_bytes = 64 << 10;
    assert_eq!(rig.echo().await, stopped("output", Stopped::Requested));
    eventually("floods that nobody reads go on", || rig.sshd.seen.running.load(Ordering::SeqCst) == 0).await;
    assert_eq!(rig.connections(), (1, 1), "it ended with its connection only");
}

//! Which connections are shared, which are not, when they end, and what bounds them.

use futures_util::future::join_all;
use tokio::net::TcpListener;

use super::*;

const DONE: StepOutcome = StepOutcome::Exited(3);

/// Waits in its folder until there is a file called `go`.
static HOLD: Template =
    Template { id: "test.hold.v1", body: ": > \"$1/$$\"; until [ -e \"$1/go\" ]; do sleep 0.02; done", stdin: false };

fn settings() -> config::Ssh {
    config::Ssh::default()
}

#[tokio::test]
async fn a_hundred_calls_make_one_handshake_and_ask_for_nothing_but_commands() {
    let rig = rig(|_, _| {}).await;
    for _ in 0..92 {
        assert_eq!(rig.echo().await, DONE);
    }
    let at_once = join_all((0..8).map(|_| rig.echo())).await;
    assert!(at_once.iter().all(|outcome| *outcome == DONE));
    assert_eq!(rig.connections(), (1, 1));
    assert_eq!(rig.sshd.seen.logins.lock().unwrap().len(), 1);
    assert_eq!(rig.sshd.seen.sessions.load(Ordering::SeqCst), 100);
    assert_eq!(*rig.sshd.seen.asked.lock().unwrap(), [""; 0]);
    assert!(rig.sshd.seen.forwarded.lock().unwrap().is_empty());
}

#[tokio::test]
async fn callers_that_come_at_once_share_one_handshake() {
    let rig = rig(|_, _| {}).await;
    let outcomes = join_all((0..8).map(|_| rig.echo())).await;
    assert!(outcomes.iter().all(|outcome| *outcome == DONE), "{outcomes:?}");
    assert_eq!(rig.connections(), (1, 1));
}

#[tokio::test]
async fn a_connection_that_nobody_uses_ends() {
    let rig = rig_with(config::Ssh { idle: Duration::from_millis(100), ..settings() }, |_, _| {}).await;
    assert_eq!(rig.echo().await, DONE);
    eventually("it was never closed", || rig.connections() == (1, 0)).await;
    assert_eq!(rig.echo().await, DONE);
    assert_eq!(rig.connections().0, 2);
}

#[tokio::test]
async fn connections_end_with_the_backend() {
    let mut rig = rig(|_, _| {}).await;
    assert_eq!(rig.echo().await, DONE);
    rig.ssh = gateway(settings(), config::Exec::default()).await;
    eventually("it was never closed", || rig.connections() == (1, 0)).await;
}

#[tokio::test]
async fn a_new_pin_counts_at_once() {
    let mut rig = rig(|_, _| {}).await;
    assert_eq!(rig.echo().await, DONE);
    rig.connection().host_keys = vec![pin_of(new_key().public_key()).parse().unwrap()];
    let outcome = rig.echo().await;
    assert_eq!(code(&outcome), "host_key_mismatch");
    eventually("the old connection was kept", || rig.connections() == (2, 0)).await;
    assert_eq!(rig.sshd.seen.commands.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_new_login_key_counts_at_once() {
    let rig = rig(|_, _| {}).await;
    assert_eq!(rig.echo().await, DONE);
    key_file(rig._folder.path(), &new_key());
    let outcome = rig.echo().await;
    assert_eq!(code(&outcome), "login_refused");
    eventually("the old connection was kept", || rig.connections() == (2, 0)).await;
}

#[tokio::test]
async fn another_engagement_gets_a_connection_of_its_own() {
    let mut rig = rig(|_, _| {}).await;
    assert_eq!(rig.echo().await, DONE);
    rig.target.engagement = "other".into();
    assert_eq!(rig.echo().await, DONE);
    assert_eq!(rig.connections().0, 2);
    rig.target.id = "copy".into();
    assert_eq!(rig.echo().await, DONE);
    assert_eq!(rig.connections().0, 3);
}

#[tokio::test]
async fn what_was_revoked_counts_at_once_for_connections_that_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("revoked");
    fs::write(&list, "# nobody\n").unwrap();
    let mut rig = rig_with(config::Ssh { revoked_keys: Some(list.clone()), ..settings() }, |_, _| {}).await;
    let pin = rig.connection().host_keys[0].fingerprint.clone();
    for _ in 0..3 {
        assert_eq!(rig.echo().await, DONE);
    }
    assert_eq!(rig.connections(), (1, 1));
    // What says the same in other words changes nothing.
    fs::write(&list, "# nobody yet\n").unwrap();
    assert_eq!(rig.echo().await, DONE);
    assert_eq!(rig.connections(), (1, 1));
    fs::write(&list, format!("{pin}\n")).unwrap();
    assert_eq!(code(&rig.echo().await), "host_key_revoked");
    eventually("the old connection was kept", || rig.connections() == (2, 0)).await;
    fs::remove_file(&list).unwrap();
    assert_eq!(code(&rig.echo().await), "revocation_unreadable");
    assert_eq!(rig.sshd.seen.commands.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn whom_to_trust_is_worked_out_once_for_a_connection_and_anew_where_anything_changed() {
    let mut rig = rig(|_, _| {}).await;
    let by = attribution();
    let trust = |rig: &Rig| Arc::clone(&Way::of(&rig.ssh, &rig.target, &by).unwrap().key.trust);
    assert_eq!(rig.echo().await, DONE);
    let first = trust(&rig);
    assert_eq!(rig.echo().await, DONE);
    assert!(Arc::ptr_eq(&trust(&rig), &first));
    rig.connection().host_keys.push(pin_of(new_key().public_key()).parse().unwrap());
    let second = trust(&rig);
    assert!(*second != *first);
}

#[tokio::test]
async fn a_command_that_runs_keeps_a_connection_that_others_may_not_use_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = rig(|_, _| {}).await;
    let (hold, copy) = (Script::new(&HOLD, [folder.path().to_str().unwrap()]), rig.target.clone());
    rig.connection().host_keys = vec![pin_of(new_key().public_key()).parse().unwrap()];
    let holding = rig.run_on(&copy, &hold);
    let meanwhile = async {
        eventually("it never began", || fs::read_dir(folder.path()).unwrap().count() == 1).await;
        assert_eq!(code(&rig.echo().await), "host_key_mismatch");
        fs::write(folder.path().join("go"), "").unwrap();
    };
    let (held, ()) = tokio::join!(holding, meanwhile);
    assert_eq!(held.outcome, StepOutcome::Exited(0));
    eventually("the old connection was kept", || rig.connections() == (2, 0)).await;
}

#[tokio::test]
async fn what_a_dead_connection_could_not_carry_goes_over_a_new_one_once() {
    let rig = rig(|_, _| {}).await;
    for round in 1..=3 {
        assert_eq!(rig.echo().await, DONE);
        assert_eq!(rig.connections().0, round);
        rig.sshd.hang_up();
        eventually("it was never cut", || rig.connections().1 == 0).await;
    }
    assert_eq!(rig.sshd.seen.commands.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_host_with_few_sessions_is_given_more_connections() {
    let folder = tempfile::tempdir().unwrap();
    let rig = rig(|settings, _| settings.max_sessions = 2).await;
    let hold = Script::new(&HOLD, [folder.path().to_str().unwrap()]);
    let calls = join_all((0..6).map(|_| rig.run(&hold)));
    let release = async {
        eventually("not all began", || fs::read_dir(folder.path()).unwrap().count() == 6).await;
        fs::write(folder.path().join("go"), "").unwrap();
    };
    let (outputs, ()) = tokio::join!(calls, release);
    assert!(outputs.iter().all(|output| output.outcome == StepOutcome::Exited(0)), "{outputs:?}");
    assert_eq!(rig.connections().0, 3);
    // What was learned of the host holds for as long as the connections do.
    assert!(join_all((0..6).map(|_| rig.echo())).await.iter().all(|outcome| *outcome == DONE));
    assert_eq!(rig.connections().0, 3);
}

#[tokio::test]
async fn a_host_that_opens_no_session_is_not_asked_forever() {
    let rig = rig(|settings, _| settings.max_sessions = 0).await;
    assert_eq!(code(&rig.echo().await), "no_session");
    assert!(rig.connections().0 <= 3);
}

#[tokio::test]
async fn there_are_never_more_connections_than_may_be_and_an_idle_one_makes_room() {
    let exec = config::Exec { queue_timeout: Duration::from_millis(50), ..config::Exec::default() };
    let few = config::Ssh { max_connections: 1, ..settings() };
    let folder = tempfile::tempdir().unwrap();
    let mut rig = rig(|_, _| {}).await;
    rig.ssh = gateway(few, exec).await;
    let other = Target { id: "other".into(), ..rig.target.clone() };
    assert_eq!(rig.echo().await, DONE);
    assert_eq!(rig.run_on(&other, &Script::new(&ECHO, ["x"])).await.outcome, DONE);
    eventually("there is more than one", || rig.connections() == (2, 1)).await;

    let hold = Script::new(&HOLD, [folder.path().to_str().unwrap()]);
    let meanwhile = async {
        eventually("it never began", || fs::read_dir(folder.path()).unwrap().count() == 1).await;
        assert_eq!(code(&rig.echo().await), "busy");
        fs::write(folder.path().join("go"), "").unwrap();
    };
    let (held, ()) = tokio::join!(rig.run_on(&other, &hold), meanwhile);
    assert_eq!(held.outcome, StepOutcome::Exited(0));
    assert_eq!(rig.connections(), (2, 1));
}

/// A port that takes connections and never says a word.
async fn silent(rig: &mut Rig, patience: Duration) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connection = rig.connection();
    (connection.port, connection.timeout) = (Some(port), patience);
    listener
}

#[tokio::test]
async fn a_host_that_never_answers_is_left_alone_after_a_while_and_tried_again() {
    let pause = Duration::from_secs(2);
    let mut rig = rig_with(config::Ssh { breaker_failures: 3, breaker_open: pause, ..settings() }, |_, _| {}).await;
    let answering = (rig.connection().port, rig.connection().timeout);
    let patience = Duration::from_millis(200);
    let _listener = silent(&mut rig, patience).await;
    for _ in 0..3 {
        let started = Instant::now();
        assert_eq!(code(&rig.echo().await), "unreachable");
        assert!(started.elapsed() >= patience && started.elapsed() < 10 * patience, "{:?}", started.elapsed());
    }
    let StepOutcome::NotStarted { code: "circuit_open", why } = rig.echo().await else { panic!("it was tried again") };
    assert!(why.contains("3 times in a row") && why.contains(" s"), "{why}");
    // Another host is another matter.
    let connection = rig.connection();
    let silent = (connection.port, connection.timeout);
    (connection.port, connection.timeout) = answering;
    assert_eq!(rig.echo().await, DONE);

    let connection = rig.connection();
    (connection.port, connection.timeout) = silent;
    let deadline = Instant::now() + Duration::from_secs(60);
    while code(&rig.echo().await) == "circuit_open" {
        assert!(Instant::now() < deadline, "it was never tried again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(code(&rig.echo().await), "circuit_open", "one attempt that fails is enough now");
}

#[tokio::test]
async fn those_who_wait_for_the_same_attempt_fail_with_it() {
    let mut rig = rig(|_, _| {}).await;
    let listener = silent(&mut rig, Duration::from_millis(500)).await;
    let accepted = tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            kept.push(listener.accept().await.unwrap());
            if kept.len() > 1 {
                return;
            }
        }
    });
    let started = Instant::now();
    let outcomes = join_all((0..10).map(|_| rig.echo())).await;
    assert!(outcomes.iter().all(|outcome| code(outcome) == "unreachable"), "{outcomes:?}");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert!(!accepted.is_finished(), "it was tried more than once");
    accepted.abort();
}

#[tokio::test]
async fn refusals_of_a_login_do_not_close_a_host_to_others() {
    let mut rig = rig(|_, _| {}).await;
    let pins = rig.connection().host_keys.clone();
    for _ in 0..5 {
        rig.connection().host_keys = vec![pin_of(new_key().public_key()).parse().unwrap()];
        assert_eq!(code(&rig.echo().await), "host_key_mismatch");
    }
    rig.connection().host_keys = pins;
    assert_eq!(rig.echo().await, DONE);
}

#[tokio::test]
async fn a_call_that_is_cancelled_while_it_connects_ends_at_once() {
    let mut rig = rig(|_, _| {}).await;
    let _listener = silent(&mut rig, Duration::from_secs(60)).await;
    let cancel = CancellationToken::new();
    let script = Script::new(&ECHO, ["x"]);
    let cancelling = async {
        eventually("nothing was dialled", || rig.ssh.pool.is_connecting()).await;
        cancel.cancel();
    };
    let (output, ()) = tokio::join!(rig.cancellable(&rig.target, &script, &cancel), cancelling);
    assert_eq!(output.outcome, StepOutcome::not_started("the call was cancelled"));
}

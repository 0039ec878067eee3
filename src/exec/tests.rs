//! What is run, in which order, and what is refused before anything runs.

use std::{fs, net::SocketAddr, path::Path, pin::pin, time::Instant};

use futures_util::{FutureExt, future::join_all};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::Map;
use tokio::task::yield_now;

use super::*;
use crate::{
    auth::{self, Authenticator, Binding, Caller, MintRequest},
    model::{
        Connection, CorrelationId, Effect, FleetFilter, ProbeKind, Question, Registered, Risk, Scope, ScopeSet,
        StepOutcome, SudoPolicy, SystemClock, TargetKind, Template,
    },
    policy::{Decision, Policy, SitePolicy, SiteSource, ToolFacts},
    store::Store,
    tailnet::{Grants, Peer},
};

/// A local target for tests.
pub(super) fn target(id: &str, concurrency: usize) -> Target {
    Target {
        id: id.into(),
        kind: TargetKind::Local,
        engagement: "test".into(),
        capabilities: ScopeSet::default(),
        segment: None,
        tags: Vec::new(),
        roots: Vec::new(),
        timeout: Duration::from_secs(60),
        concurrency,
        sudo: SudoPolicy::None,
        registered: None,
    }
}

fn operation(target: Option<Target>, steps: Vec<Step>) -> Operation {
    Operation {
        tool: "test",
        target: target.map(Arc::new),
        engagement: "test".into(),
        scopes: &[],
        effect: Effect::Read,
        risk: Risk::Low,
        raised: None,
        asks: None,
        dry_run: false,
        reason: None,
        moment: None,
        arguments: Map::new(),
        places: Vec::new(),
        steps,
    }
}

/// Nobody in particular.
pub(super) fn attribution() -> Attribution {
    Attribution { subject: "test".into(), correlation: CorrelationId::random() }
}

fn executors() -> Executors {
    Executors::new(Exec::default(), Arc::new(SystemClock))
}

/// A caller by the only way there is: a token minted, bound to its peer and checked.
async fn caller() -> Caller {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let request = MintRequest {
        subject: "agent".into(),
        owner: "test".into(),
        scopes: ScopeSet::new([Scope::FleetRead]),
        engagement: "test".into(),
        targets: None,
        tools: None,
        paths: None,
        ttl: Duration::from_secs(600),
        binding: Binding::LocalUser(1),
    };
    let most = ("test", Duration::from_secs(3600));
    let minted = auth::mint(&store, folder.path(), request, most, SystemClock.now()).await.unwrap();
    let peer = Arc::new(Peer {
        id: "uid:1".into(),
        node: "here".into(),
        user: None,
        tags: Vec::new(),
        tailnet: None,
        address: SocketAddr::from(([127, 0, 0, 1], 1)),
        uid: Some(1),
        grants: Grants::Unrestricted,
    });
    let checker = Authenticator::open(store, folder.path().into(), Arc::new(SystemClock)).await.unwrap();
    checker.authenticate(&peer, Some(minted.token.expose_secret())).await.unwrap()
}

/// The default set, for the one tool there is here.
fn site_policy(now: Timestamp) -> SitePolicy {
    let input = serde_json::json!({"type": "object"});
    let tool = ToolFacts { name: "test", effect: Effect::Read, risk: Risk::Low, on_target: true, scopes: &[], input };
    let source = SiteSource { tools: &[tool], files: &[], inventory: None, time_zone: "UTC", exceptions: &[], now };
    SitePolicy::load(&source).unwrap()
}

/// The permit that policy gave `caller` for one script at the time `at`.
fn permit_at(caller: &Caller, target: &Target, script: Script, at: Timestamp) -> Permit {
    let operation = operation(Some(target.clone()), vec![Step::Script(script)]);
    match Policy::new([("test".into(), None)], site_policy(at)).decide(caller, operation, at) {
        Decision::Allow(permit, _) => permit,
        other => panic!("{:?}", other.trace()),
    }
}

fn permit(caller: &Caller, target: &Target, script: Script) -> Permit {
    permit_at(caller, target, script, SystemClock.now())
}

fn script_of(raw: &RawOutput) -> &ScriptOutput {
    match raw.outputs.as_slice() {
        [StepOutput::Script(output)] => output,
        other => panic!("{other:?}"),
    }
}

/// Says in its folder that it runs, then waits there for a file called `go`.
static HOLD: Template =
    Template { id: "test.hold.v1", body: ": > \"$1/runs\"; until [ -e \"$1/go\" ]; do sleep 0.02; done", stdin: false };

/// Says how many of its kind run in this folder.
static COUNT: Template = Template {
    id: "test.count.v1",
    body: "cd \"$1\"; mkdir $$; sleep 0.05; set -- *; echo $#; rmdir $$",
    stdin: false,
};

#[tokio::test]
async fn a_permit_that_came_too_late_runs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes");
    let caller = caller().await;
    let before = SystemClock.now() - Duration::from_secs(3600);
    let Step::Script(script) = note(&file, "late", "0") else { unreachable!("a note is a script") };
    let permit = permit_at(&caller, &target("web", 1), script, before);
    let refused = executors().run(permit, &attribution(), &CancellationToken::new(), &Progress::default()).await;
    assert_eq!(refused.unwrap_err(), ExecError::Expired);
    assert!(!file.exists());
}

#[tokio::test]
async fn while_a_target_is_full_others_are_refused_and_run_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (runs, go, file) = (folder.path().join("runs"), folder.path().join("go"), folder.path().join("notes"));
    let (caller, web, never, gone) =
        (caller().await, target("web", 1), CancellationToken::new(), CancellationToken::new());
    let unwatched = Progress::default();
    let settings = Exec { queue_timeout: Duration::from_millis(20), ..Exec::default() };
    let executors = Executors::new(settings, Arc::new(SystemClock));
    let hold = Script::new(&HOLD, [folder.path().to_str().unwrap()]);
    let whom = attribution();
    let mut first = pin!(executors.run(permit(&caller, &web, hold), &whom, &never, &unwatched));
    let deadline = Instant::now() + Duration::from_secs(60);
    while !runs.exists() {
        assert!(Instant::now() < deadline, "it never began");
        assert!(first.as_mut().now_or_never().is_none(), "it ended too early");
        yield_now().await;
    }

    let later = || Script::new(&NOTE, [file.to_str().unwrap(), "later", "0"]);
    let busy = executors.run(permit(&caller, &web, later()), &attribution(), &never, &unwatched).await;
    assert_eq!(busy.unwrap_err(), ExecError::Busy);
    gone.cancel();
    let cancelled = executors.run(permit(&caller, &web, later()), &attribution(), &gone, &unwatched).await;
    assert_eq!(cancelled.unwrap_err(), ExecError::Cancelled);
    assert!(!file.exists());

    fs::write(go, "").unwrap();
    assert!(script_of(&first.await.unwrap()).succeeded());
    assert!(
        script_of(&executors.run(permit(&caller, &web, later()), &attribution(), &never, &unwatched).await.unwrap())
            .succeeded()
    );
}

#[tokio::test]
async fn processes_on_one_target_stay_within_its_places_and_waiting_costs_no_time_limit() {
    let folder = tempfile::tempdir().unwrap();
    let (caller, web, never) = (caller().await, target("web", 2), CancellationToken::new());
    let unwatched = Progress::default();
    let settings = Exec { queue_timeout: Duration::from_secs(60), ..Exec::default() };
    let executors = Executors::new(settings, Arc::new(SystemClock));
    // Together they take longer than each may.
    let limit = Duration::from_secs(2);
    let count = || Script { limit: Some(limit), ..Script::new(&COUNT, [folder.path().to_str().unwrap()]) };
    let whom = attribution();
    let calls = (0..80).map(|_| executors.run(permit(&caller, &web, count()), &whom, &never, &unwatched));
    let started = Instant::now();
    let counts: Vec<u32> = join_all(calls)
        .await
        .into_iter()
        .map(|raw| {
            let raw = raw.unwrap();
            let output = script_of(&raw);
            assert_eq!(output.outcome, StepOutcome::Exited(0));
            output.stdout.text().trim().parse().unwrap()
        })
        .collect();
    assert!(started.elapsed() > limit);
    assert!(counts.iter().all(|count| (1..=2).contains(count)), "{counts:?}");
    assert!(counts.contains(&2), "they never ran side by side");
}

/// Writes a text, to its output and to a file, and exits with a status.
static NOTE: Template = Template {
    id: "test.note.v1",
    body: "printf '%s\\n' \"$2\"; printf '%s\\n' \"$2\" >> \"$1\"; exit \"$3\"",
    stdin: false,
};

fn note(file: &Path, text: &str, code: &str) -> Step {
    Step::Script(Script::new(&NOTE, [file.to_str().unwrap(), text, code]))
}

#[tokio::test]
async fn an_operation_with_a_step_nobody_performs_does_not_begin() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes");
    let question = || Step::Gateway(Question::Fleet(FleetFilter::default()));
    for (target, steps) in [
        (Some(target("web", 1)), vec![question()]),
        (Some(target("web", 1)), vec![note(&file, "one", "0"), question()]),
        (None, vec![question()]),
        (None, vec![note(&file, "one", "0")]),
    ] {
        let refused = executors()
            .perform(
                operation(target, steps),
                Watch {
                    attribution: &attribution(),
                    cancel: &CancellationToken::new(),
                    progress: &Progress::default(),
                    job: None,
                },
            )
            .await;
        assert_eq!(refused.unwrap_err(), ExecError::NoExecutor);
    }
    assert!(!file.exists());
}

/// `target` is refused for the same reason, whatever is to run there.
async fn all_refuse(executors: &Executors, target: Target, reason: ExecError) {
    let (attribution, cancel, progress) = (attribution(), CancellationToken::new(), Progress::default());
    let (job, shared) = (JobId::random(), Arc::new(target.clone()));
    let watch = Watch { attribution: &attribution, cancel: &cancel, progress: &progress, job: None };
    let (script, native) = (Script::new(&NOTE, ["/dev/null", "", "0"]), probe(Via::Native));
    for steps in [vec![Step::Script(script.clone())], vec![probe(Via::Target(script.clone()))]] {
        let refused = executors.perform(operation(Some(target.clone()), steps), watch).await;
        assert_eq!(refused.unwrap_err(), reason, "an operation");
    }
    if reason == ExecError::NoWay {
        for step in [native, probe(Via::Here(script))] {
            let refused = executors.perform(operation(Some(target.clone()), vec![step]), watch).await;
            assert_eq!(refused.unwrap_err(), reason, "a probe from the gateway");
        }
    }
    assert_eq!(executors.test(&target, &attribution, &cancel).await.unwrap_err(), reason, "a test");
    let looked = executors.look_at_job(&shared, &job, 0, &attribution).await;
    assert_eq!(looked.unwrap_err(), reason, "a look at a job");
    for how in [JobStop::Unit, JobStop::Clean, JobStop::Shutdown("boot")] {
        let stopped = executors.stop_job(&shared, &job, how, &attribution).await;
        assert_eq!(stopped.unwrap_err(), reason, "{how:?}");
    }
}

/// A question to this machine's network.
fn probe(via: Via) -> Step {
    let host = "127.0.0.1".parse().unwrap();
    Step::Probe(Box::new(Probe { kind: ProbeKind::Dns, host, via, rules: Arc::default() }))
}

#[tokio::test]
async fn a_target_nothing_reaches_is_refused_alike_whatever_is_to_run_there() {
    let executors = executors();
    for kind in [TargetKind::Ssh, TargetKind::Docker, TargetKind::Http] {
        all_refuse(&executors, Target { kind, ..target("web", 1) }, ExecError::Unreachable(kind)).await;
    }
    // A jump host that the registry did not find: not even a backend that is there may go another way.
    let connection = Connection {
        host: "127.0.0.1".into(),
        port: None,
        username: None,
        key: None,
        certificate: None,
        host_keys: Vec::new(),
        node: None,
        jump: Some("gone".into()),
        via: None,
        timeout: Duration::from_secs(1),
    };
    let registered = Some(Box::new(Registered { connection: Some(connection), ..Registered::default() }));
    for kind in [TargetKind::Local, TargetKind::Ssh] {
        let target = Target { kind, registered: registered.clone(), ..target("web", 1) };
        all_refuse(&executors, target, ExecError::NoWay).await;
    }
    let none = Executors { backends: Vec::new(), ..executors };
    all_refuse(&none, target("web", 1), ExecError::NoExecutor).await;
}

#[tokio::test]
async fn steps_run_in_order_up_to_the_first_that_did_not_end_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes");
    let steps =
        vec![note(&file, "one", "0"), note(&file, "two", "3"), note(&file, "a\0b", "0"), note(&file, "never", "0")];
    let raw = executors()
        .perform(
            operation(Some(target("web", 1)), steps),
            Watch {
                attribution: &attribution(),
                cancel: &CancellationToken::new(),
                progress: &Progress::default(),
                job: None,
            },
        )
        .await
        .unwrap();
    let outcomes: Vec<_> = raw
        .outputs
        .iter()
        .map(|output| match output {
            StepOutput::Script(output) => (output.template_id, output.outcome.clone(), output.stdout.text()),
            StepOutput::Answer(_) | StepOutput::Probe(_) => unreachable!("no step asks a question"),
        })
        .collect();
    let expected = [
        ("test.note.v1", StepOutcome::Exited(0), "one\n".to_owned()),
        ("test.note.v1", StepOutcome::Exited(3), "two\n".to_owned()),
        ("test.note.v1", StepOutcome::not_started("an argument contains a NUL byte"), String::new()),
    ];
    assert_eq!(outcomes, expected);
    assert_eq!(fs::read_to_string(file).unwrap(), "one\ntwo\n");
}

#[test]
fn the_shorter_limit_holds_in_whole_seconds_and_is_never_none() {
    let step = |limit| Script { limit, ..Script::new(&NOTE, [""]) };
    let of = |target_s, script: Option<u64>| {
        let target = Target { timeout: Duration::from_millis(target_s), ..target("web", 1) };
        limit(&target, &step(script.map(Duration::from_millis))).as_secs()
    };
    assert_eq!(of(60_000, None), 60);
    assert_eq!(of(60_000, Some(5_900)), 5);
    assert_eq!(of(2_000, Some(5_000)), 2);
    assert_eq!((of(0, None), of(60_000, Some(10))), (1, 1));
}

//! What is run, in which order, and what is refused before anything runs.

use serde_json::Map;

use super::*;
use crate::model::{Effect, FleetFilter, Question, Risk, ScopeSet, SudoPolicy, SystemClock, TargetKind, Template};

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
        dry_run: false,
        reason: None,
        arguments: Map::new(),
        steps,
    }
}

fn executors() -> Executors {
    Executors::new(ExecSettings::default(), Arc::new(SystemClock))
}

/// Writes its arguments one a line, and the last of them to a file.
static NOTE: Template = Template {
    id: "test.note.v1",
    body: "printf '%s\\n' \"$2\"; printf '%s\\n' \"$2\" >> \"$1\"; exit \"$3\"",
    stdin: false,
};

fn note(file: &std::path::Path, text: &str, code: &str) -> Step {
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
        let refused = executors().perform(operation(target, steps), &CancellationToken::new()).await;
        assert_eq!(refused.unwrap_err(), ExecError::NoExecutor);
    }
    assert!(!file.exists());
}

#[tokio::test]
async fn steps_run_in_order_up_to_the_first_that_did_not_end_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes");
    let steps =
        vec![note(&file, "one", "0"), note(&file, "two", "3"), note(&file, "a\0b", "0"), note(&file, "never", "0")];
    let raw = executors().perform(operation(Some(target("web", 1)), steps), &CancellationToken::new()).await.unwrap();
    let outcomes: Vec<_> = raw
        .outputs
        .iter()
        .map(|output| match output {
            StepOutput::Script(output) => (output.template_id, output.outcome.clone(), output.stdout.text()),
            StepOutput::Answer(_) => unreachable!("no step asks a question"),
        })
        .collect();
    let expected = [
        ("test.note.v1", StepOutcome::Exited(0), "one\n".to_owned()),
        ("test.note.v1", StepOutcome::Exited(3), "two\n".to_owned()),
        ("test.note.v1", StepOutcome::NotStarted("an argument contains a NUL byte".into()), String::new()),
    ];
    assert_eq!(outcomes, expected);
    assert_eq!(std::fs::read_to_string(file).unwrap(), "one\ntwo\n");
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

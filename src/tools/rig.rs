//! For tests of tools: runs a planned operation for real on this machine, or builds what a script would have printed.
//! Starts only the shell that a backend would start.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{PlanContext, Tool, ToolError};
use crate::{
    fleet::Registry,
    model::{
        Captured, Content, EngagementId, Operation, RawOutput, Scope, ScopeSet, Script, ScriptOutput, Step,
        StepOutcome, StepOutput, SudoPolicy, Target, TargetKind,
    },
};

const MARKER: &str = "0123456789abcdef0123456789abcdef";

/// A local target called `here`.
pub(super) fn target(sudo: SudoPolicy) -> Target {
    Target {
        id: "here".into(),
        kind: TargetKind::Local,
        engagement: "lab".into(),
        capabilities: ScopeSet::new([Scope::Admin]),
        segment: None,
        tags: Vec::new(),
        roots: Vec::new(),
        timeout: Duration::from_secs(60),
        concurrency: 4,
        sudo,
    }
}

/// The operation that `arguments` (an object; `target` is added) ask of `tool`, at 2026-11-21T12:00:00Z.
pub(super) fn plan(tool: &dyn Tool, arguments: Value) -> Result<Operation, ToolError> {
    plan_on(tool, arguments, target(SudoPolicy::None))
}

/// Like [`plan`], on this target.
pub(super) fn plan_on(tool: &dyn Tool, arguments: Value, target: Target) -> Result<Operation, ToolError> {
    let mut arguments: Map<String, Value> = arguments.as_object().unwrap().clone();
    arguments.entry("target").or_insert(json!("here"));
    let engagement = EngagementId::from("lab");
    let registry = Registry::new([], [target]);
    let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
    tool.plan(&arguments, &PlanContext { engagement: &engagement, registry: &registry, now })
}

/// Runs the operation's scripts on this machine.
pub(super) fn run(operation: Operation) -> RawOutput {
    let outputs = operation.steps.iter().map(|step| match step {
        Step::Script(script) => StepOutput::Script(Box::new(execute(script))),
        Step::Gateway(_) => panic!("not a script"),
    });
    RawOutput { outputs: outputs.collect(), operation }
}

#[expect(clippy::disallowed_methods, reason = "a test runs the script that a backend would run")]
fn execute(script: &Script) -> ScriptOutput {
    let line = script.command_line(MARKER, Duration::from_secs(60)).unwrap();
    let mut child = Command::new("sh")
        .args(["-c", &line])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&script.input()).unwrap();
    let output = child.wait_with_output().unwrap();
    printed(script.template.id, output.status.code().unwrap(), output.stdout, output.stderr)
}

fn printed(template_id: &'static str, status: i32, stdout: Vec<u8>, stderr: Vec<u8>) -> ScriptOutput {
    let captured = |head: Vec<u8>| Captured { total: head.len() as u64, head, ..Captured::default() };
    ScriptOutput {
        template_id,
        argv_sha256: String::new(),
        marker: MARKER.into(),
        outcome: StepOutcome::Exited(status),
        stdout: captured(stdout),
        stderr: captured(stderr),
        duration: Duration::ZERO,
    }
}

/// What `operation`'s script would have given with these sections (`!NAME` with the reason for a missing one).
pub(super) fn pretend(operation: Operation, sections: &[(&str, &[u8])], stderr: &str) -> RawOutput {
    let mut stdout = Vec::new();
    for (name, content) in sections {
        match name.starts_with('!') {
            true => stdout.extend(format!("\n{MARKER} {name} ").into_bytes()),
            false => stdout.extend(format!("\n{MARKER} {name}\n").into_bytes()),
        }
        stdout.extend_from_slice(content);
        if name.starts_with('!') {
            stdout.push(b'\n');
        }
    }
    recorded(operation, &stdout, stderr)
}

/// What `operation`'s script gave on a real host: standard output as recorded, with the marker of this rig.
pub(super) fn recorded(operation: Operation, stdout: &[u8], stderr: &str) -> RawOutput {
    let output = printed("recorded", 0, stdout.to_vec(), stderr.as_bytes().to_vec());
    RawOutput { operation, outputs: vec![StepOutput::Script(Box::new(output))] }
}

/// `raw` as if this many bytes had been dropped at the end of its output's head.
pub(super) fn dropping(mut raw: RawOutput, bytes: u64) -> RawOutput {
    if let Some(StepOutput::Script(output)) = raw.outputs.first_mut() {
        output.stdout.total += bytes;
    }
    raw
}

/// Panics unless `content.data` is what the tool's schema says.
pub(super) fn matches_schema(tool: &dyn Tool, content: &Content) {
    let schema = (tool.spec().output)();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(&content.data).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{:#}", content.data);
}

/// Plans, runs and renders for real, and checks the answer against the schema.
pub(super) fn live(tool: &dyn Tool, arguments: Value) -> Content {
    let content = tool.render(&run(plan(tool, arguments).unwrap())).unwrap();
    matches_schema(tool, &content);
    content
}

/// Panics unless the definition that clients see, without the output schema, fits the budget of 900 bytes.
pub(super) fn fits_budget(tool: &dyn Tool) {
    let spec = tool.spec();
    let definition = json!({
        "name": spec.name, "title": spec.title, "description": spec.help, "inputSchema": (spec.input)(),
    });
    let bytes = definition.to_string().len();
    assert!(bytes <= 900, "{} takes {bytes} bytes: {definition}", spec.name);
}

//! Runs a planned script for real on this machine, for the tests of the tools here. Uses the command line that the
//! executors use; never stands in for one outside tests.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{PlanContext, Tool, ToolError};
use crate::{
    fleet::{Engagement, Registry},
    model::{
        Captured, Content, Effect, EngagementId, Operation, RawOutput, Scope, ScopeSet, ScriptOutput, Step,
        StepOutcome, StepOutput, SudoPolicy, Target, TargetKind,
    },
};

pub(super) const MARKER: &str = "@trial-5e0f";

fn target(sudo: SudoPolicy) -> Target {
    Target {
        id: "here".into(),
        kind: TargetKind::Local,
        engagement: "e1".into(),
        capabilities: ScopeSet::new([Scope::SystemControl, Scope::FleetRead]),
        segment: Some("lab".into()),
        tags: vec!["test".into()],
        roots: vec![PathBuf::from("/var/log")],
        timeout: Duration::from_secs(60),
        concurrency: 2,
        sudo,
    }
}

/// The operation of `tool` with `arguments` on the target `here`.
pub(super) fn plan_with(tool: &dyn Tool, arguments: &Value, sudo: SudoPolicy) -> Result<Operation, ToolError> {
    let engagement = EngagementId::from("e1");
    let registry = Registry::new([Engagement { id: engagement.clone(), tools: None }], [target(sudo)]);
    let context = PlanContext { engagement: &engagement, registry: &registry, now: Timestamp::UNIX_EPOCH };
    tool.plan(arguments.as_object().unwrap_or(&Map::new()), &context)
}

/// [`plan_with`], on a target without sudo.
pub(super) fn plan(tool: &dyn Tool, arguments: &Value) -> Result<Operation, ToolError> {
    plan_with(tool, arguments, SudoPolicy::None)
}

/// Output of `operation` as if its script had written `stdout`.
pub(super) fn pretend(operation: Operation, stdout: Vec<u8>) -> RawOutput {
    let Some(Step::Script(script)) = operation.steps.first() else { panic!("not a script") };
    let output = ScriptOutput {
        template_id: script.template.id,
        argv_sha256: String::new(),
        marker: MARKER.to_owned(),
        outcome: StepOutcome::Exited(0),
        stdout: Captured { total: stdout.len() as u64, head: stdout, ..Captured::default() },
        stderr: Captured::default(),
        duration: Duration::ZERO,
    };
    RawOutput { operation, outputs: vec![StepOutput::Script(Box::new(output))] }
}

/// Runs the operation's script in place of what `wrapper` (argv) would run; `[]` for as it is.
#[expect(clippy::disallowed_methods, reason = "a test runs the script without an executor")]
pub(super) fn perform_in(wrapper: &[&str], operation: Operation) -> RawOutput {
    let Some(Step::Script(script)) = operation.steps.first() else { panic!("not a script") };
    let line = script.command_line(MARKER, Duration::from_secs(60)).unwrap();
    let argv: Vec<&str> = wrapper.iter().copied().chain(["sh", "-c", &line]).collect();
    let mut child = Command::new(argv[0])
        .args(&argv[1..])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&script.input()).unwrap();
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    let mut raw = pretend(operation, done.stdout);
    if let Some(StepOutput::Script(output)) = raw.outputs.first_mut() {
        output.stderr = Captured { total: done.stderr.len() as u64, head: done.stderr, ..Captured::default() };
    }
    raw
}

/// Plans, runs and renders; the data is checked against the tool's output schema.
pub(super) fn call_in(wrapper: &[&str], tool: &dyn Tool, arguments: &Value) -> Result<Content, ToolError> {
    let content = tool.render(&perform_in(wrapper, plan(tool, arguments)?))?;
    conforms(tool, &content.data);
    Ok(content)
}

/// [`call_in`] without a wrapper.
pub(super) fn call(tool: &dyn Tool, arguments: &Value) -> Result<Content, ToolError> {
    call_in(&[], tool, arguments)
}

/// Fails unless `data` matches the tool's output schema and holds nothing the schema does not name.
pub(super) fn conforms(tool: &dyn Tool, data: &Value) {
    let mut schema = (tool.spec().output)();
    close(&mut schema);
    let validator = jsonschema::validator_for(&schema).unwrap();
    let faults: Vec<String> =
        validator.iter_errors(data).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "{faults:#?}\n{data:#}");
}

/// Forbids properties that `schema` does not list, at every depth.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if object.contains_key("properties") {
                object.insert("additionalProperties".to_owned(), json!(false));
            }
            object.values_mut().for_each(close);
        }
        Value::Array(array) => array.iter_mut().for_each(close),
        _ => {}
    }
}

/// What `tools/list` shows of the tool without its output schema.
pub(super) fn definition_bytes(tool: &dyn Tool) -> usize {
    let spec = tool.spec();
    let definition = json!({
        "name": spec.name, "title": spec.title, "description": spec.help, "inputSchema": (spec.input)(),
        "annotations": {
            "readOnlyHint": spec.effect == Effect::Read,
            "destructiveHint": spec.effect == Effect::Destructive,
            "idempotentHint": spec.idempotent,
            "openWorldHint": spec.open_world,
        },
    });
    definition.to_string().len()
}

/// A child process that does not outlive its test.
pub(super) struct Child(std::process::Child);

impl Child {
    /// Starts `sh -c body`.
    #[expect(clippy::disallowed_methods, reason = "a test starts the process it looks at")]
    pub(super) fn sh(body: &str) -> Self {
        let mut command = Command::new("sh");
        // A group of its own, so that what it started ends with it.
        command.args(["-c", body]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Self(command.spawn().unwrap())
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Its line in `/proc`.
    pub(super) fn stat(&self) -> super::procfs::Stat {
        let line = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        super::procfs::Stat::parse(&line).unwrap()
    }

    /// Waits until its state is one of `letters`.
    pub(super) fn settle(&self, letters: &str) {
        let started = std::time::Instant::now();
        while !letters.contains(self.stat().state) {
            assert!(started.elapsed() < Duration::from_secs(20), "still {:?}", self.stat());
            std::thread::yield_now();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let group = i32::try_from(self.id()).ok().and_then(rustix::process::Pid::from_raw);
        let _ = group.map(|group| rustix::process::kill_process_group(group, rustix::process::Signal::KILL));
        let _ = self.0.wait();
    }
}

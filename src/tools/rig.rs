//! For tests of tools: plans a call on this machine, runs its script as an executor would, and checks the answer
//! against the tool's schema; or builds what a script would have printed. Never part of the program.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
    io::Write,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Kind, PlanContext, Settled, Tool, ToolError, procfs::Stat};
use crate::{
    approval::Paper,
    config::Files,
    fleet::Registry,
    model::{
        AddressRules, Captured, Content, Effect, EngagementId, Operation, ProbeRules, RawOutput, Scope, ScopeSet,
        Script, ScriptOutput, Step, StepOutcome, StepOutput, Subtree, SudoPolicy, Target, TargetKind, UrlRule,
    },
};

/// What opens sections; the recordings in `tests/cases` hold it too.
pub(super) const MARKER: &str = "0123456789abcdef0123456789abcdef";

/// The id of the job that a script starts.
pub(super) const JOB: &str = "0123456789abcdef0123456789abcdef";

/// The id of the token that calls.
pub(super) const TOKEN: &str = "00c0ffee00c0ffee00c0ffee00c0ffee";

/// Puts a command under the user nobody; needs root.
pub(super) const AS_NOBODY: &[&str] = &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

/// This machine as the target `here`, and how scripts are started on it.
pub(super) struct Rig {
    pub(super) target: Target,
    /// The argv that starts the shell (`setpriv …`); empty for as it is.
    pub(super) wrapper: Vec<String>,
    /// What probes may reach: this machine, and the gateway's health.
    pub(super) probe: ProbeRules,
    /// The only directories the caller's token reaches.
    pub(super) paths: Option<BTreeSet<Subtree>>,
    /// What may be written.
    pub(super) files: Files,
}

impl Rig {
    /// With one root, `/var/log`, and without sudo.
    pub(super) fn new() -> Self {
        let target = Target {
            id: "here".into(),
            kind: TargetKind::Local,
            engagement: "lab".into(),
            capabilities: ScopeSet::new([Scope::SystemControl, Scope::FleetRead]),
            segment: Some("lab".into()),
            tags: vec!["test".into()],
            roots: vec![PathBuf::from("/var/log")],
            timeout: Duration::from_secs(60),
            concurrency: 2,
            sudo: SudoPolicy::None,
            registered: None,
        };
        let loopback = ["127.0.0.0/8", "::1/128"].map(|network| network.parse().unwrap());
        let health =
            UrlRule { url: "http://127.0.0.1:8080/healthz".parse().unwrap(), waived: false, engagements: None };
        let probe = ProbeRules { addresses: Arc::new(AddressRules::new(loopback)), urls: vec![health] };
        Self { target, wrapper: Vec::new(), probe, paths: None, files: Files::default() }
    }

    /// [`Self::new`], where sudo may be used.
    pub(super) fn with_sudo() -> Self {
        let mut rig = Self::new();
        rig.target.sudo = SudoPolicy::Limited;
        rig
    }

    /// The same, started by `wrapper`.
    pub(super) fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().copied().map(str::to_owned).collect();
        self
    }

    /// The operation that `arguments`, an object, ask of `tool` at 2026-11-21T12:00:00Z; the target is `here` where
    /// they name none.
    pub(super) fn plan(&self, tool: &dyn Tool, arguments: impl Borrow<Value>) -> Result<Operation, ToolError> {
        let mut arguments = arguments.borrow().clone();
        arguments.as_object_mut().unwrap().entry("target").or_insert(json!("here"));
        self.plan_exactly(tool, &arguments)
    }

    /// [`Self::plan`] without adding anything.
    pub(super) fn plan_exactly(&self, tool: &dyn Tool, arguments: &Value) -> Result<Operation, ToolError> {
        let engagement = EngagementId::from("lab");
        let registry = Registry::new([self.target.clone()]);
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let token = TOKEN.into();
        let context = PlanContext {
            token: &token,
            engagement: &engagement,
            registry: &registry,
            probe: &self.probe,
            now,
            paths: self.paths.as_ref(),
            files: &self.files,
        };
        tool.plan(arguments.as_object().unwrap(), &context)
    }

    /// Runs the operation's scripts, which must end by themselves and well.
    pub(super) fn run(&self, operation: Operation) -> RawOutput {
        let outputs = operation.steps.iter().map(|step| {
            let Step::Script(script) = step else { panic!("not a script") };
            let output = self.execute(script);
            assert_eq!(output.outcome, StepOutcome::Exited(0), "{}", output.stderr.text());
            StepOutput::Script(Box::new(output))
        });
        RawOutput { outputs: outputs.collect(), operation }
    }

    /// Plans, runs and renders; the data must be what the tool's schema says.
    pub(super) fn call(&self, tool: &dyn Tool, arguments: impl Borrow<Value>) -> Result<Content, ToolError> {
        let content = tool.render(&self.run(self.plan(tool, arguments)?))?;
        conforms(tool, &content.data);
        Ok(content)
    }

    /// What people are asked about where `preview` shows what a call with `arguments` would do: the paper, whoever asks.
    pub(super) fn paper(&self, tool: &dyn Tool, arguments: &Value, preview: &Content) -> Result<Value, ToolError> {
        let mut arguments = arguments.as_object().unwrap().clone();
        if tool.spec().kind == Kind::Host {
            arguments.entry("target").or_insert(json!("here"));
        }
        let Settled { arguments: settled, world } = tool.settle(&arguments, preview)?;
        let pinned = settled.iter().filter(|(name, value)| arguments.get(*name) != Some(value));
        for name in world.keys().chain(pinned.map(|(name, _)| name)) {
            assert!(tool.rechecks().contains(&name.as_str()), "{} does not declare {name}", tool.spec().name);
        }
        let operation = self.plan_exactly(tool, &Value::Object(settled))?;
        Ok(Paper::without_caller(&operation, &world))
    }

    /// Runs `script` by the command line that the executors use.
    #[expect(clippy::disallowed_methods, reason = "a test runs the script without an executor")]
    pub(super) fn execute(&self, script: &Script) -> ScriptOutput {
        let mut script = script.clone();
        if script.job.is_some() {
            script.args.insert(0, JOB.to_owned()); // as the executors do
        }
        let line = script.command_line(MARKER, Duration::from_secs(120)).unwrap();
        let argv: Vec<&str> = self.wrapper.iter().map(String::as_str).chain(["sh", "-c", &line]).collect();
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
        // A script that refuses does not read all of its data.
        let fed = child.stdin.take().unwrap().write_all(&script.input());
        assert!(fed.is_ok() || script.template.stdin, "{fed:?}");
        let done = child.wait_with_output().unwrap();
        let outcome = match (done.status.code(), done.status.signal()) {
            (Some(code), _) => StepOutcome::Exited(code),
            (None, signal) => StepOutcome::Signalled(signal.unwrap_or(0)),
        };
        printed(script.template.id, outcome, done.stdout, done.stderr)
    }
}

/// The arguments of the dry run that shows what a call with `arguments` would do.
pub(super) fn preview_of(tool: &dyn Tool, arguments: &Value) -> Value {
    Value::Object(tool.preview(arguments.as_object().unwrap()).unwrap())
}

/// Panics unless the two papers are one.
#[track_caller]
pub(super) fn same(paper: &Value, again: &Value) {
    let hash = |paper| Paper::of_document(paper).unwrap().hash().to_owned();
    assert_eq!(hash(paper), hash(again), "{paper:#}\n{again:#}");
}

/// Panics unless the papers differ at `names` (`world.mode`) and nowhere else but in the steps that follow from that.
#[track_caller]
pub(super) fn differ(paper: &Value, other: &Value, names: &[&str]) {
    let leaves = |paper: &Value| -> BTreeMap<String, Value> {
        let fields = paper.as_object().unwrap().iter().filter(|(key, _)| *key != "steps");
        let named = fields.flat_map(|(key, value)| match value {
            Value::Object(inner) => {
                inner.iter().map(|(name, value)| (format!("{key}.{name}"), value.clone())).collect()
            }
            other => vec![(key.clone(), other.clone())],
        });
        named.collect()
    };
    let (left, right) = (leaves(paper), leaves(other));
    let all: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let found: Vec<&str> =
        all.into_iter().filter(|name| left.get(*name) != right.get(*name)).map(String::as_str).collect();
    assert_eq!(found, names, "{paper:#}\n{other:#}");
}

/// The tool called `name`.
pub(super) fn tool(name: &str) -> &'static dyn Tool {
    super::find(name).unwrap()
}

/// [`Rig::plan`] on a plain rig.
pub(super) fn plan(tool: &dyn Tool, arguments: impl Borrow<Value>) -> Result<Operation, ToolError> {
    Rig::new().plan(tool, arguments)
}

/// [`Rig::plan_exactly`] on a plain rig.
pub(super) fn plan_exactly(tool: &dyn Tool, arguments: &Value) -> Result<Operation, ToolError> {
    Rig::new().plan_exactly(tool, arguments)
}

/// [`Rig::call`] on a plain rig.
pub(super) fn call(tool: &dyn Tool, arguments: impl Borrow<Value>) -> Result<Content, ToolError> {
    Rig::new().call(tool, arguments)
}

pub(super) fn printed(
    template_id: &'static str,
    outcome: StepOutcome,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
) -> ScriptOutput {
    let captured = |head: Vec<u8>| Captured { total: head.len() as u64, head, ..Captured::default() };
    ScriptOutput {
        template_id,
        argv_sha256: String::new(),
        marker: MARKER.into(),
        outcome,
        stdout: captured(stdout),
        stderr: captured(stderr),
        duration: Duration::ZERO,
        wire: None,
    }
}

/// What `operation`'s script would have given with these sections (`!NAME` with the reason for a missing one).
pub(super) fn pretend(operation: Operation, sections: &[(&str, &[u8])], stderr: &str) -> RawOutput {
    let mut stdout = Vec::new();
    for (name, content) in sections {
        let missing = name.starts_with('!');
        stdout.extend(format!("\n{MARKER} {name}{}", if missing { ' ' } else { '\n' }).into_bytes());
        stdout.extend_from_slice(content);
        if missing {
            stdout.push(b'\n');
        }
    }
    recorded(operation, stdout, stderr)
}

/// What `operation`'s script gave, or might have given: standard output as it is, sections opened by [`MARKER`].
pub(super) fn recorded(operation: Operation, stdout: impl Into<Vec<u8>>, stderr: &str) -> RawOutput {
    let Some(Step::Script(script)) = operation.steps.first() else { panic!("not a script") };
    let output = printed(script.template.id, StepOutcome::Exited(0), stdout.into(), stderr.into());
    RawOutput { operation, outputs: vec![StepOutput::Script(Box::new(output))] }
}

/// `raw` as if this many bytes had been dropped at the end of its output's head.
pub(super) fn dropping(mut raw: RawOutput, bytes: u64) -> RawOutput {
    if let Some(StepOutput::Script(output)) = raw.outputs.first_mut() {
        output.stdout.total += bytes;
    }
    raw
}

/// Panics unless `data` is what the tool's schema says, and holds nothing that the schema does not name.
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

/// Panics unless the definition that clients see, without the output schema, fits the budget of 900 bytes.
pub(super) fn fits_budget(tool: &dyn Tool) {
    let spec = tool.spec();
    let definition = json!({
        "name": spec.name, "title": spec.title, "description": spec.help, "inputSchema": spec.input_schema(),
        "annotations": {
            "readOnlyHint": spec.effect == Effect::Read,
            "destructiveHint": spec.effect == Effect::Destructive,
            "idempotentHint": spec.idempotent,
            "openWorldHint": spec.open_world,
        },
    });
    let bytes = definition.to_string().len();
    assert!(bytes <= 900, "{} takes {bytes} bytes: {definition}", spec.name);
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
    pub(super) fn stat(&self) -> Stat {
        let line = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        Stat::parse(&line).unwrap()
    }

    /// Waits until its state is one of `letters`.
    pub(super) fn settle(&self, letters: &str) {
        let started = Instant::now();
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

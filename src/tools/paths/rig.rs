//! Runs planned scripts for the tests of the file tools, by a shell and on a directory of their own. Never part of
//! the program.

use std::{
    fs,
    io::Write,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    fleet::Registry,
    model::{
        Captured, Content, Operation, RawOutput, Scope, ScopeSet, ScriptOutput, Step, StepOutcome, StepOutput,
        SudoPolicy, Target, TargetKind,
    },
    tools::{PlanContext, Tool, ToolError},
};

/// What opens sections in the tests.
const MARKER: &str = "marker";

/// A target whose only root is `root` in a temporary directory; `outside`, beside it, holds a secret.
pub(in crate::tools) struct Rig {
    folder: TempDir,
    /// The target's roots.
    pub(in crate::tools) roots: Vec<PathBuf>,
    /// Run the script as this user and group instead of our own; needs root.
    pub(in crate::tools) user: Option<u32>,
}

/// What stands in every file outside the root.
pub(in crate::tools) const SECRET: &str = "do-not-tell";

impl Rig {
    pub(in crate::tools) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let place = folder.path().canonicalize().unwrap();
        fs::create_dir_all(place.join("outside/folder")).unwrap();
        fs::create_dir(place.join("root")).unwrap();
        fs::write(place.join("outside/secret"), SECRET).unwrap();
        fs::write(place.join("outside/folder/secret"), SECRET).unwrap();
        Self { roots: vec![place.join("root")], folder, user: None }
    }

    /// As [`Self::new`], but the root is the directory `root` of this machine.
    pub(in crate::tools) fn with_root(root: &str) -> Self {
        let mut rig = Self::new();
        rig.roots = vec![root.into()];
        rig
    }

    /// The place `path` beside the root.
    pub(in crate::tools) fn beside(&self, path: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(path)
    }

    /// The place `path` in the first root.
    pub(in crate::tools) fn inside(&self, path: &str) -> PathBuf {
        self.roots[0].join(path)
    }

    /// `path` in the first root, as an argument.
    pub(in crate::tools) fn arg(&self, path: &str) -> String {
        self.inside(path).to_str().unwrap().to_owned()
    }

    /// What `tool` plans for `arguments` on the target.
    pub(in crate::tools) fn plan(&self, tool: &dyn Tool, arguments: Value) -> Result<Operation, ToolError> {
        let Value::Object(mut arguments) = arguments else { panic!("arguments are an object") };
        arguments.insert("target".into(), "here".into());
        let target = Target {
            id: "here".into(),
            kind: TargetKind::Local,
            engagement: "own".into(),
            capabilities: ScopeSet::new([Scope::Admin]),
            segment: None,
            tags: Vec::new(),
            roots: self.roots.clone(),
            timeout: Duration::from_secs(30),
            concurrency: 1,
            sudo: SudoPolicy::None,
        };
        let registry = Registry::new([], [target]);
        let context = PlanContext { engagement: &"own".into(), registry: &registry, now: jiff::Timestamp::UNIX_EPOCH };
        tool.plan(&arguments, &context)
    }

    /// Plans, runs and renders one call; the answer's data must match the tool's schema.
    pub(in crate::tools) fn call(&self, tool: &dyn Tool, arguments: Value) -> Result<Content, ToolError> {
        let operation = self.plan(tool, arguments)?;
        let [Step::Script(script)] = operation.steps.as_slice() else { panic!("one script") };
        let line = script.command_line(MARKER, Duration::from_secs(10)).unwrap();
        let output = self.run(script.template.id, &line, &script.input());
        let content = tool.render(&RawOutput { operation, outputs: vec![StepOutput::Script(Box::new(output))] })?;
        let schema = (tool.spec().output)();
        if let Err(fault) = jsonschema::validate(&schema, &content.data) {
            panic!("{fault} in {}", content.data);
        }
        Ok(content)
    }

    /// Runs `line` with `input` on standard input.
    #[expect(clippy::disallowed_methods, reason = "a test of scripts runs them")]
    pub(in crate::tools) fn run(&self, template_id: &'static str, line: &str, input: &[u8]) -> ScriptOutput {
        let mut command = match self.user {
            None => Command::new("sh"),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args([&format!("--reuid={user}"), &format!("--regid={user}")]).args(["--clear-groups", "sh"]);
                command
            }
        };
        let mut child = command
            .args(["-c", line])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        let outcome = match (output.status.code(), output.status.signal()) {
            (Some(code), _) => StepOutcome::Exited(code),
            (None, signal) => StepOutcome::Signalled(signal.unwrap_or(0)),
        };
        ScriptOutput {
            template_id,
            argv_sha256: String::new(),
            marker: MARKER.into(),
            outcome,
            stdout: captured(output.stdout),
            stderr: captured(output.stderr),
            duration: Duration::ZERO,
        }
    }
}

/// What of the definition of `tool` counts for the budget of 900 bytes: all but the output schema.
pub(in crate::tools) fn definition_bytes(tool: &dyn Tool) -> usize {
    let spec = tool.spec();
    let definition = serde_json::json!({
        "name": spec.name, "title": spec.title, "description": spec.help, "inputSchema": (spec.input)(),
        "annotations": {
            "readOnlyHint": true, "destructiveHint": false, "idempotentHint": true, "openWorldHint": false,
        },
    });
    definition.to_string().len()
}

/// Makes a FIFO at `path`.
pub(in crate::tools) fn make_fifo(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

fn captured(head: Vec<u8>) -> Captured {
    Captured { total: head.len() as u64, head, tail: Vec::new(), sha256: String::new() }
}

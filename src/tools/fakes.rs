//! For tests of tools that change a host: runs a tool's script, as it is, with programs made by the test in front of the
//! host's own. So the very script of a real run is tested without an approval and without changing the machine. Never
//! part of the program.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    Tool, ToolError,
    rig::{JOB, MARKER, Rig, conforms, recorded},
};
use crate::model::{Content, Operation, RawOutput, Step};

/// A directory of programs, and a place for what they keep.
pub(super) struct Fakes {
    directory: TempDir,
    /// Texts of scripts that are replaced: paths of the host that tests must not touch.
    moved: Vec<(&'static str, String)>,
}

impl Fakes {
    /// Programs by name, each the body of an `sh` script. They find the directory in `$FAKE`.
    pub(super) fn new(programs: &[(&str, &str)]) -> Self {
        let fakes = Self { directory: tempfile::tempdir().unwrap(), moved: Vec::new() };
        fs::create_dir(fakes.path("bin")).unwrap();
        for (name, body) in programs {
            fakes.program(name, body);
        }
        fakes
    }

    /// The host's `path` is `name` in this directory instead.
    pub(super) fn moving(mut self, path: &'static str, name: &str) -> Self {
        let here = self.path(name);
        fs::create_dir_all(here.parent().unwrap()).unwrap();
        self.moved.push((path, here.to_str().unwrap().to_owned()));
        self
    }

    /// [`Self::moving`] `/run/systemd/system`, and there is one.
    pub(super) fn with_systemd(self) -> Self {
        let fakes = self.moving("/run/systemd/system", "systemd");
        fs::create_dir_all(fakes.path("systemd")).unwrap();
        fakes
    }

    /// [`Self::with_systemd`], and with programs that run transient units as systemd does.
    pub(super) fn with_jobs(self) -> Self {
        let programs = [
            ("systemd-run", include_str!("../../tests/cases/fake-systemd/systemd-run.sh")),
            ("systemctl", include_str!("../../tests/cases/fake-systemd/systemctl.sh")),
            ("journalctl", include_str!("../../tests/cases/fake-systemd/journalctl.sh")),
        ];
        for (name, body) in programs {
            self.program(name, body);
        }
        self.with_systemd()
    }

    fn program(&self, name: &str, body: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(super) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes what a program reads or prints.
    pub(super) fn keep(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    /// What a program wrote; nothing where it wrote nothing.
    pub(super) fn kept(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Runs `sh` with this input and these arguments, as the scripts are run.
    #[expect(clippy::disallowed_methods, reason = "a test runs the script without an executor")]
    pub(super) fn sh(&self, input: &[u8], args: &[&str]) -> (Vec<u8>, String) {
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.path("bin").display());
        let mut child = Command::new("sh")
            .args(["-s", "--"])
            .args(args)
            .env_clear()
            .envs([("PATH", path.as_str()), ("LC_ALL", "C"), ("FAKE", self.directory.path().to_str().unwrap())])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let done = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(done.stderr).unwrap();
        assert!(done.status.success(), "{}: {stderr}", done.status);
        (done.stdout, stderr)
    }

    /// Runs the operation's script.
    pub(super) fn run(&self, operation: Operation) -> RawOutput {
        let Some(Step::Script(script)) = operation.steps.first() else { panic!("not a script") };
        let mut input = String::from_utf8(script.input()).unwrap();
        for (from, to) in &self.moved {
            input = input.replace(from, to);
        }
        let job = script.job.map(|_| JOB);
        let args: Vec<&str> =
            std::iter::once(MARKER).chain(job).chain(script.args.iter().map(String::as_str)).collect();
        let (stdout, stderr) = self.sh(input.as_bytes(), &args);
        recorded(operation, stdout, &stderr)
    }

    /// Plans, runs and renders; the data must be what the tool's schema says.
    pub(super) fn call(&self, rig: &Rig, tool: &dyn Tool, arguments: &Value) -> Result<Content, ToolError> {
        let content = tool.render(&self.run(rig.plan(tool, arguments)?))?;
        conforms(tool, &content.data);
        Ok(content)
    }
}

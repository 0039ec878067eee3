//! What a login user over SSH may not do: sudo is asked only where the registry lets it be, never for a password, and a
//! right that is missing is told with the line that gives it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::remote::{Difference, REMOTE, Remote, can_become_nobody, nobody};

/// Puts a `sudo` into `programs` that notes what it was asked and says no as the real one does. The answer is where it
/// notes it.
pub(super) fn fake_sudo(programs: &Path) -> PathBuf {
    let asked = programs.join("asked");
    let text = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$*\" >>'{}'\necho 'sudo: a password is required' >&2\nexit 1\n",
        asked.display()
    );
    fs::write(programs.join("sudo"), text).unwrap();
    for (path, mode) in [(programs.join("sudo"), 0o755), (programs.to_owned(), 0o777)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    asked
}

/// A host whose login user is nobody, with a `sudo` that says no.
struct Scene {
    remote: Remote,
    token: String,
    asked: PathBuf,
    _programs: TempDir,
}

impl Scene {
    async fn with(sudo: &'static str) -> Self {
        let programs = tempfile::tempdir().unwrap();
        let asked = fake_sudo(programs.path());
        let host = nobody(programs.path());
        let remote = Remote::with(Difference { host, sudo, ..Difference::default() }).await;
        let token = remote.gateway.admin().await;
        Self { remote, token, asked, _programs: programs }
    }

    /// What sudo was asked so far, a line a time.
    fn asked(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.asked).unwrap_or_default();
        text.lines().map(ToOwned::to_owned).collect()
    }
}

/// A process of root's own, and how to end it.
struct Victim(Child);

impl Victim {
    fn new() -> Self {
        Self(Command::new("sleep").arg("600").spawn().unwrap())
    }

    fn call(&self) -> Value {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let ticks = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap();
        json!({"target": REMOTE, "pid": self.0.id(), "start_ticks": ticks.parse::<u64>().unwrap(), "signal": "TERM",
            "dry_run": false, "reason": "a test of rights"})
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn without_the_policy_sudo_is_never_asked() {
    if !can_become_nobody() {
        return;
    }
    let scene = Scene::with("none").await;
    let mut victim = Victim::new();
    let answer = scene.remote.gateway.call(&scene.token, "process_signal", victim.call()).await;
    assert_eq!(answer.code(), "permission_denied", "{answer:?}");
    let looked = scene.remote.gateway.call(&scene.token, "target_inspect", json!({"target": REMOTE})).await;
    assert_eq!(
        (&looked.data()["probe"]["user"], &looked.data()["probe"]["sudo_possible"]),
        (&json!("nobody"), &Value::Null)
    );
    for tool in ["host_inspect", "network_inspect", "service_list", "process_list"] {
        scene.remote.gateway.call(&scene.token, tool, json!({"target": REMOTE})).await.data();
    }
    assert!(victim.lives());
    assert_eq!(scene.asked(), [""; 0]);
    scene.remote.gateway.stop().await;
}

#[tokio::test]
async fn a_missing_right_is_told_with_the_line_that_gives_it() {
    if !can_become_nobody() {
        return;
    }
    for policy in ["limited", "full"] {
        let scene = Scene::with(policy).await;
        let mut victim = Victim::new();
        let answer = scene.remote.gateway.call(&scene.token, "process_signal", victim.call()).await;
        assert_eq!(answer.code(), "permission_denied", "{answer:?}");
        let hint = answer.content()["hint"].as_str().unwrap();
        assert!(hint.contains("ops ALL=(root) NOPASSWD: /bin/kill ^-s TERM -- [0-9]+$"), "{hint}");
        assert!(victim.lives());
        let asked = scene.asked();
        assert!(
            !asked.is_empty() && asked.iter().all(|line| line.starts_with("-n ")),
            "a password could be asked: {asked:?}"
        );
        let record = &scene.remote.gateway.records_of(&answer).await[0];
        assert_eq!((&record["code"], &record["status"]), (&json!("permission_denied"), &json!("failed")));
        scene.remote.gateway.stop().await;
    }
}

#[tokio::test]
async fn reading_never_needs_sudo() {
    if !can_become_nobody() {
        return;
    }
    let scene = Scene::with("full").await;
    let reads = ["host_inspect", "process_list", "service_list", "package_list", "disk_inspect"];
    for tool in reads {
        scene.remote.gateway.call(&scene.token, tool, json!({"target": REMOTE})).await.data();
    }
    assert_eq!(scene.asked(), [""; 0]);
    scene.remote.gateway.stop().await;
}

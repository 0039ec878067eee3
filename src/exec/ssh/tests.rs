//! Over a real connection to a server on loopback that runs what it is told: what is trusted, and what a command gives.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::atomic::Ordering};

use russh::keys::{PrivateKey, ssh_key::LineEnding};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    exec::tests::{attribution, target},
    model::{Connection, HostTrust, KeyReference, Progress, Registered, Script, SystemClock, Target, Template},
    tailnet::Loopback,
};

#[allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    unreachable_pub,
    missing_docs,
    dead_code,
    reason = "shared with the tests of the whole gateway"
)]
#[path = "../../../tests/it/sshd.rs"]
pub(super) mod sshd;

use sshd::{Settings, Sshd, new_key, pin_of};

mod contract;
mod greeting;
mod jump;
mod login;
mod pool;
mod stop;
mod trusting;

static ECHO: Template = Template { id: "test.echo.v1", body: "printf '%s' \"$1\"; exit 3", stdin: false };
static CAT: Template = Template { id: "test.cat.v1", body: "cat", stdin: true };

/// A gateway's side and a host's.
struct Rig {
    ssh: Ssh,
    sshd: Sshd,
    target: Target,
    _folder: TempDir,
}

fn key_file(folder: &Path, key: &PrivateKey) -> KeyReference {
    let path = folder.join("login_key");
    fs::write(&path, key.to_openssh(LineEnding::LF).unwrap().as_bytes()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    KeyReference::File(path)
}

/// `change` changes the host before it starts and the target before it is used.
async fn rig(change: impl FnOnce(&mut Settings, &mut Connection)) -> Rig {
    rig_with(config::Ssh::default(), change).await
}

/// The same, reached by a gateway with `ssh`.
async fn rig_with(ssh: config::Ssh, change: impl FnOnce(&mut Settings, &mut Connection)) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let (host_key, login_key) = (new_key(), new_key());
    let mut settings = Settings::new(&host_key, login_key.public_key());
    let mut connection = Connection {
        host: "127.0.0.1".into(),
        port: None,
        username: Some("ops".into()),
        key: Some(key_file(folder.path(), &login_key)),
        certificate: None,
        host_keys: vec![pin_of(host_key.public_key()).parse().unwrap()],
        node: None,
        jump: None,
        via: None,
        timeout: Duration::from_secs(20),
    };
    change(&mut settings, &mut connection);
    let sshd = Sshd::start(settings).await;
    connection.port = Some(sshd.address.port());
    let registered = Registered { connection: Some(connection), ..Registered::default() };
    let target = Target { kind: TargetKind::Ssh, registered: Some(Box::new(registered)), ..target("web", 4) };
    let ssh = gateway(ssh, config::Exec::default()).await;
    Rig { ssh, sshd, target, _folder: folder }
}

async fn gateway(ssh: config::Ssh, exec: config::Exec) -> Ssh {
    let node = Arc::new(Loopback::bind(&["127.0.0.1:0".parse().unwrap()]).await.unwrap());
    Ssh::open(ssh, exec, node, Arc::new(SystemClock))
}

/// Waits until `condition` holds; fails after a minute.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Rig {
    fn connection(&mut self) -> &mut Connection {
        self.target.registered.as_mut().unwrap().connection.as_mut().unwrap()
    }

    async fn echo(&self) -> StepOutcome {
        self.run(&Script::new(&ECHO, ["x"])).await.outcome
    }

    /// Connections that were made, and those that are open.
    fn connections(&self) -> (usize, usize) {
        let seen = &self.sshd.seen;
        (seen.connections.load(Ordering::SeqCst), seen.open.load(Ordering::SeqCst))
    }

    async fn run(&self, script: &Script) -> ScriptOutput {
        self.run_on(&self.target, script).await
    }

    async fn run_on(&self, target: &Target, script: &Script) -> ScriptOutput {
        self.cancellable(target, script, &CancellationToken::new()).await
    }

    async fn cancellable(&self, target: &Target, script: &Script, cancel: &CancellationToken) -> ScriptOutput {
        self.perform(target, script, Duration::from_secs(60), cancel).await
    }

    async fn limited(&self, script: &Script, limit: Duration) -> ScriptOutput {
        self.perform(&self.target, script, limit, &CancellationToken::new()).await
    }

    async fn perform(
        &self,
        target: &Target,
        script: &Script,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> ScriptOutput {
        let (attribution, progress) = (attribution(), Progress::default());
        let run = Run { target, script, limit, attribution: &attribution, cancel, progress: &progress };
        Executor::run(&self.ssh, run).await
    }
}

fn code(outcome: &StepOutcome) -> &'static str {
    match outcome {
        StepOutcome::NotStarted { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_host_that_nobody_enrolled_is_not_talked_to() {
    let rig = rig(|_, connection| connection.host_keys.clear()).await;
    let output = rig.run(&Script::new(&ECHO, ["x"])).await;
    assert_eq!(code(&output.outcome), "host_key_unknown");
    assert!(rig.sshd.seen.logins.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_host_with_another_key_is_not_talked_to() {
    let rig = rig(|settings, _| settings.host_keys = vec![new_key()]).await;
    let output = rig.run(&Script::new(&ECHO, ["x"])).await;
    assert_eq!(code(&output.outcome), "host_key_mismatch");
    assert!(rig.sshd.seen.logins.lock().unwrap().is_empty() && rig.sshd.seen.commands.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_command_gives_its_output_and_status() {
    let rig = rig(|_, _| {}).await;
    let output = rig.run(&Script::new(&ECHO, ["it's $(id)"])).await;
    assert_eq!(output.outcome, StepOutcome::Exited(3), "{}", output.stderr.text());
    assert_eq!(output.stdout.text(), "it's $(id)");
    let wire = output.wire.unwrap();
    assert_eq!((wire.login.as_str(), &wire.trust), ("ops", &HostTrust::Pin));
    assert_eq!(*rig.sshd.seen.logins.lock().unwrap(), [("ops".to_owned(), wire.credential)]);
}

#[tokio::test]
async fn input_arrives_whole() {
    let rig = rig(|_, _| {}).await;
    let data: Vec<u8> = (0..3_000_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let script = Script { stdin: Some(data.clone().into()), ..Script::new(&CAT, [""; 0]) };
    let output = rig.run(&script).await;
    assert_eq!(output.outcome, StepOutcome::Exited(0));
    assert_eq!(output.stdout.total, data.len() as u64);
    assert_eq!(rig.sshd.seen.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_connection_that_dies_leaves_the_command_unknown() {
    let rig = rig(|settings, _| settings.cuts = true).await;
    let output = rig.run(&Script::new(&ECHO, ["x"])).await;
    assert!(matches!(output.outcome, StepOutcome::Lost(_)), "{:?}", output.outcome);
    assert_eq!(rig.sshd.seen.commands.lock().unwrap().len(), 1);
}

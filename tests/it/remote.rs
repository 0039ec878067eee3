//! A gateway with two targets that are one machine: `local`, and the same machine behind an SSH server on loopback. The
//! second is read from a registry file with its host key enrolled, as people write it.

use std::{
    fs,
    num::NonZeroU32,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use russh::keys::{PrivateKey, ssh_key::LineEnding};
use serde_json::{Value, json};
use tailops::{
    config::{Config, read_registry, registry_file},
    exec::{Resolver, SystemResolver},
    model::{Risk, quote},
    tools::{self, Kind},
};
use tempfile::TempDir;

use crate::{
    cases::{self, Case},
    harness::Gateway,
    sshd::{Settings, Sshd, new_key, pin_of},
};

/// The target behind the SSH server.
pub const REMOTE: &str = "behind-ssh";
/// The machine of the gateway.
pub const LOCAL: &str = "local";
/// Both.
pub const BOTH: [&str; 2] = [LOCAL, REMOTE];

/// The gateway and the server.
pub struct Remote {
    pub gateway: Gateway,
    pub sshd: Sshd,
    _keys: TempDir,
}

/// What differs from a host that runs what it is told and a gateway with its defaults.
pub struct Difference {
    pub host: Box<dyn FnOnce(&mut Settings)>,
    pub config: Box<dyn FnOnce(&mut Config)>,
    /// `constraints` of the target behind the server.
    pub sudo: &'static str,
    pub resolver: Arc<dyn Resolver>,
}

impl Default for Difference {
    fn default() -> Self {
        Self { host: Box::new(|_| {}), config: Box::new(|_| {}), sudo: "none", resolver: Arc::new(SystemResolver) }
    }
}

impl Remote {
    /// A host that runs what it is told.
    pub async fn start() -> Self {
        Self::with(Difference::default()).await
    }

    /// A host that gives `answer` instead of running anything.
    pub async fn answering(answer: impl Fn(&str, &[u8]) -> (Vec<u8>, u32) + Send + Sync + 'static) -> Self {
        let host = Box::new(|host: &mut Settings| host.answer = Some(Arc::new(answer)));
        Self::with(Difference { host, ..Difference::default() }).await
    }

    pub async fn with(difference: Difference) -> Self {
        let (host_key, login_key) = (new_key(), new_key());
        let mut settings = Settings::new(&host_key, login_key.public_key());
        (difference.host)(&mut settings);
        let keys = tempfile::tempdir().unwrap();
        let key = key_file(keys.path(), &login_key);
        let sshd = Sshd::start(settings).await;
        let port = sshd.address.port();
        let gateway = Gateway::resolving_by(difference.resolver, |config| {
            roomy(config);
            (difference.config)(config);
            let local = &config.targets[0];
            let capabilities: Vec<_> = local.capabilities.granted().map(|scope| scope.as_str()).collect();
            let entry = json!({
                "type": "remote",
                "executor": "ssh",
                "connection": {
                    "host": "127.0.0.1", "port": port, "username": "ops", "key_path": key,
                    "host_keys": [pin_of(host_key.public_key())], "timeout": 20,
                },
                "capabilities": capabilities,
                "constraints": {
                    "timeout": local.timeout.as_secs(), "concurrency": local.concurrency,
                    "sudo_policy": difference.sudo, "roots": local.roots,
                },
            });
            let text = registry_file([(REMOTE, &entry)]);
            let home = local.engagement.clone();
            let targets = read_registry(Path::new("targets.yaml"), &text, &home, &config.engagement_ids());
            config.targets.extend(targets.unwrap_or_else(|problems| panic!("{problems}")));
        })
        .await;
        Self { gateway, sshd, _keys: keys }
    }

    /// How many commands the server was sent.
    pub fn commands(&self) -> usize {
        self.sshd.seen.commands.lock().unwrap().len()
    }

    /// The path of `name` among the files of both targets.
    pub fn file(&self, name: &str) -> String {
        self.gateway.config.data_dir.join("files").join(name).to_str().unwrap().to_owned()
    }
}

/// A host whose login user is nobody, with the programs in `programs` before its own. Needs root to become nobody.
pub fn nobody(programs: &Path) -> Box<dyn FnOnce(&mut Settings)> {
    let programs = programs.to_str().unwrap().to_owned();
    Box::new(move |host: &mut Settings| {
        host.instead = Some(Arc::new(move |line: &str| {
            let line = line.replace(" PATH=/usr/sbin", &format!(" PATH={programs}:/usr/sbin"));
            format!("exec setpriv --reuid=65534 --regid=65534 --clear-groups sh -c {}", quote(&line).unwrap())
        }));
    })
}

/// Whether tests can become nobody; says so where they cannot.
pub fn can_become_nobody() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: only root can become another user");
    }
    root
}

fn key_file(folder: &Path, key: &PrivateKey) -> PathBuf {
    let path = folder.join("login_key");
    fs::write(&path, key.to_openssh(LineEnding::LF).unwrap().as_bytes()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Limits that tests of every tool do not meet.
fn roomy(config: &mut Config) {
    let many = NonZeroU32::new(10_000).unwrap();
    config.limits.calls_per_minute = many;
    config.limits.calls_burst = many;
    config.limits.critical_per_hour = many;
    config.limits.writes_per_minute = many;
    config.approvals.max_pending_per_token = many;
}

/// The cases of the tools that act on hosts.
pub fn host_cases() -> Vec<Case> {
    let of_hosts = |case: &Case| tools::find(case.tool).unwrap().spec().kind == Kind::Host;
    let cases: Vec<Case> = cases::all().into_iter().filter(of_hosts).collect();
    assert!(cases.len() > 15, "only {} tools act on hosts", cases.len());
    cases
}

/// The smallest real call of a tool that leaves the machine as it is and asks nothing of other machines: of what changes
/// a host by asking others without a person's yes, that is the dry run.
pub fn smallest(case: &Case) -> Value {
    let spec = tools::find(case.tool).unwrap().spec();
    let mut call = case.call.clone();
    if spec.open_world && spec.effect.changes() && spec.risk != Risk::Critical {
        call["dry_run"] = true.into();
    }
    call
}

/// `arguments` with the target `target`, where they name one.
pub fn on(target: &str, arguments: &Value) -> Value {
    let mut arguments = arguments.clone();
    if arguments["target"] == LOCAL {
        arguments["target"] = target.into();
    }
    arguments
}

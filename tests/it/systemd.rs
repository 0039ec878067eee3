//! A host behind SSH whose systemd and apt are small programs of the test: what it is told runs for real, by the same
//! shell and the same scripts, with these programs before the machine's own. They behave as `tests/cases/fake-systemd`
//! says systemd 252 does. Which boot it is, how long it is up, what runs and which shutdown is planned are files of the
//! test, too.

use std::{
    fs,
    io::Write,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use russh::keys::{PrivateKey, ssh_key::LineEnding};
use serde_json::{Value, json};
use tailops::model::{Connection, KeyReference, Registered, Scope, ScopeSet, SudoPolicy, Target, TargetKind};
use tempfile::TempDir;

use crate::sshd::{Settings, Sshd, new_key, pin_of};

/// An `apt-get` that fetches lists until the test opens the gate, and says so.
const APT: &str = r#"
case $1 in
indextargets) echo 'http://deb.example/debian stable' ;;
update)
	echo "fetching"
	while [ ! -e "$FAKE/gate" ]; do sleep 0.05; done
	echo 'Get:1 http://deb.example/debian stable InRelease' ;;
esac
"#;

/// What the scripts look at on a host, and the file of the test that stands in its place.
const PLACES: [(&str, &str); 5] = [
    ("/run/systemd/system", "systemd"),
    ("/run/systemd/shutdown/scheduled", "scheduled"),
    ("/proc/sys/kernel/random/boot_id", "boot_id"),
    ("/proc/uptime", "uptime"),
    ("/proc/[0-9]*/comm", "processes/[0-9]*/comm"),
];

/// The boot that a new host runs, and the one after that.
pub const BOOTS: [&str; 2] = ["3f0a3b0e-8c5a-4d8e-9f5e-0123456789ab", "4f0a3b0e-8c5a-4d8e-9f5e-0123456789ab"];

/// The host.
pub struct Host {
    directory: TempDir,
    pub sshd: Sshd,
    host_key: PrivateKey,
}

impl Host {
    /// Needs a runtime with more than one thread: commands run on the server's.
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        fs::create_dir_all(path.join("bin")).unwrap();
        fs::create_dir_all(path.join("systemd")).unwrap();
        for (name, body) in [
            ("apt-get", APT),
            ("systemd-run", include_str!("../cases/fake-systemd/systemd-run.sh")),
            ("systemctl", include_str!("../cases/fake-systemd/systemctl.sh")),
            ("journalctl", include_str!("../cases/fake-systemd/journalctl.sh")),
            ("shutdown", include_str!("../cases/fake-systemd/shutdown.sh")),
            ("busctl", include_str!("../cases/fake-systemd/busctl.sh")),
        ] {
            let file = path.join("bin").join(name);
            fs::write(&file, format!("#!/bin/sh\n{body}\n")).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(path.join("boot_id"), format!("{}\n", BOOTS[0])).unwrap();
        let (host_key, login_key) = (new_key(), new_key());
        let key = path.join("login_key");
        fs::write(&key, login_key.to_openssh(LineEnding::LF).unwrap().as_bytes()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let mut settings = Settings::new(&host_key, login_key.public_key());
        settings.answer = Some(std::sync::Arc::new(move |line: &str, input: &[u8]| {
            tokio::task::block_in_place(|| run(&path, line, input))
        }));
        Self { sshd: Sshd::start(settings).await, directory, host_key }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What a program wrote; nothing where it wrote nothing.
    pub fn kept(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Lets apt wait.
    pub fn close_gate(&self) {
        let _ = fs::remove_file(self.path("gate"));
    }

    /// Lets apt end.
    pub fn open_gate(&self) {
        fs::write(self.path("gate"), "").unwrap();
    }

    /// How many units are loaded.
    pub fn units(&self) -> usize {
        fs::read_dir(self.path("units")).map_or(0, Iterator::count)
    }

    /// Starts it anew: another boot, up for so many seconds, in which no unit is loaded and no shutdown is planned.
    pub fn reboot(&self, up_s: u64) {
        let _ = fs::remove_file(self.path("scheduled"));
        self.end_units();
        fs::write(self.path("uptime"), format!("{up_s}.50 1.00\n")).unwrap();
        fs::write(self.path("boot_id"), format!("{}\n", BOOTS[1])).unwrap();
    }

    /// Ends what units still run, and forgets all of them.
    fn end_units(&self) {
        for unit in fs::read_dir(self.path("units")).into_iter().flatten().flatten() {
            let pid = fs::read_to_string(unit.path().join("pid")).unwrap_or_default();
            let pid = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw);
            let _ = pid.map(|pid| rustix::process::kill_process_group(pid, rustix::process::Signal::KILL));
        }
        let _ = fs::remove_dir_all(self.path("units"));
    }

    /// The host as the target `web` of engagement `default`; a call there waits for a job one second.
    pub fn target(&self) -> Target {
        let connection = Connection {
            host: "127.0.0.1".into(),
            port: Some(self.sshd.address.port()),
            username: Some("ops".into()),
            key: Some(KeyReference::File(self.path("login_key"))),
            certificate: None,
            host_keys: vec![pin_of(self.host_key.public_key()).parse().unwrap()],
            node: None,
            jump: None,
            via: None,
            timeout: Duration::from_secs(20),
        };
        Target {
            id: "web".into(),
            kind: TargetKind::Ssh,
            engagement: "default".into(),
            capabilities: ScopeSet::new([Scope::SystemAdmin]),
            segment: None,
            tags: Vec::new(),
            roots: Vec::new(),
            timeout: Duration::from_secs(15),
            concurrency: 4,
            sudo: SudoPolicy::None,
            registered: Some(Box::new(Registered { connection: Some(connection), ..Registered::default() })),
        }
    }

    /// The same as an entry of a registry.
    pub fn entry(&self) -> Value {
        json!({
            "type": "remote", "executor": "ssh", "engagement": "default", "capabilities": ["system:admin"],
            "connection": {
                "host": "127.0.0.1", "port": self.sshd.address.port(), "username": "ops",
                "key_path": self.path("login_key"), "host_keys": [pin_of(self.host_key.public_key())],
            },
            "constraints": {"timeout": 15, "concurrency": 4},
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.open_gate();
        self.end_units();
    }
}

/// Runs `line` as sshd would, with the programs in `directory` before the machine's own.
fn run(directory: &std::path::Path, line: &str, input: &[u8]) -> (Vec<u8>, u32) {
    let here = directory.to_str().unwrap();
    let line = line.replacen("env -i ", &format!("env -i FAKE={here} "), 1);
    let line = line.replacen("PATH=", &format!("PATH={here}/bin:"), 1);
    let mut input = String::from_utf8(input.to_vec()).unwrap();
    for (place, stands_for) in PLACES {
        // How long a host is up must grow by itself where a script waits: the machine's own, unless a test says so.
        if place != "/proc/uptime" || directory.join(stands_for).exists() {
            input = input.replace(place, &format!("{here}/{stands_for}"));
        }
    }
    let mut child = Command::new("/bin/sh")
        .args(["-c", &line])
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let done = child.wait_with_output().unwrap();
    (done.stdout, done.status.code().and_then(|code| u32::try_from(code).ok()).unwrap_or(255))
}

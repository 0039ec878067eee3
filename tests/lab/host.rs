//! A host of the fleet: a real Debian with systemd as its first process and an sshd, in a container on a machine of the
//! lab, and a node of the tailnet beside it. Does to the host what its own root could; never what a gateway does there.

use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Mutex, PoisonError},
};

use crate::{
    daemon::Daemon,
    node::Node,
    run::{NAMESPACES, ip},
    wait::{until, until_some},
};

/// One of them, with its own files over a base that all share.
pub struct Host {
    pub node: Node,
    base: PathBuf,
    system: Mutex<Option<Daemon>>,
}

/// The first thing that hosts need, beside what the lab needs, and that is not here.
pub fn missing() -> Option<String> {
    let programs = [
        ("debootstrap", "debootstrap"),
        ("systemd-nspawn", "systemd-container"),
        ("nsenter", "util-linux"),
        ("ssh-keygen", "openssh-client"),
    ];
    let is_there = |program: &str| {
        let found = Command::new("sh").args(["-c", "command -v \"$0\"", program]).output();
        found.is_ok_and(|output| output.status.success())
    };
    let (program, package) = programs.into_iter().find(|(program, _)| !is_there(program))?;
    Some(format!("it needs `{program}` (package {package})"))
}

/// The tree of files that hosts start from; made if it is not there yet, which takes a minute.
pub fn base() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/debian-base");
    let output = Command::new(script).stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "scripts/debian-base failed");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

impl Host {
    /// Boots one on the machine of `node`, with a host key of its own, and waits until its sshd listens.
    pub fn boot(node: Node, base: &Path) -> Self {
        let host = Self { node, base: base.to_owned(), system: Mutex::new(None) };
        host.furnish();
        host.start();
        host
    }

    /// Its name, as it calls itself.
    pub fn name(&self) -> &str {
        &self.node.machine.name
    }

    fn directory(&self) -> PathBuf {
        self.node.machine.directory.join("host")
    }

    /// What a host has before its first boot.
    fn furnish(&self) {
        let upper = self.directory().join("upper");
        for directory in ["etc/ssh/sshd_config.d", "etc/systemd/system/multi-user.target.wants"] {
            fs::create_dir_all(upper.join(directory)).unwrap();
        }
        let name = self.name();
        fs::write(upper.join("etc/hosts"), format!("127.0.0.1 localhost {name}\n")).unwrap();
        // Whether and when it asks for packages is for the tests to say.
        for unit in ["ssh.socket", "systemd-firstboot.service", "apt-daily.timer", "apt-daily-upgrade.timer"] {
            symlink("/dev/null", upper.join("etc/systemd/system").join(unit)).unwrap();
        }
        let key = upper.join("etc/ssh/ssh_host_ed25519_key");
        keygen(&["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key.to_str().unwrap()]);
    }

    /// Switches it on, and waits until its sshd listens.
    pub fn start(&self) {
        let machine = &self.node.machine;
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={NAMESPACES}/{}", machine.namespace));
        command.args(["unshare", "--mount", "--propagation", "private", "sh"]);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/host.sh"));
        command.arg(&self.base).arg(self.directory()).args([&machine.namespace, &machine.name]).stdin(Stdio::null());
        let mut system = Daemon::start(command, self.directory().join("console"));
        until(&format!("{} has booted", self.name()), || {
            system.must_run();
            self.is_up()
        });
        *self.system.lock().unwrap_or_else(PoisonError::into_inner) = Some(system);
    }

    /// Whether its sshd has started. Not whether a network leads there.
    pub fn is_up(&self) -> bool {
        self.first_process().is_some() && self.try_sh("systemctl is-active --quiet ssh.service").status.success()
    }

    /// Switches it off in order, and waits until it is.
    pub fn stop(&self) {
        let system = self.system.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut system) = system {
            // systemd(1): what switches it off. From out here, as a process inside could be in its way.
            let pid = until_some("the host has a first process", || self.first_process());
            assert!(Command::new("kill").args(["-s", "RTMIN+4", &pid]).status().unwrap().success());
            system.wait();
        }
    }

    /// Switches it on and connects it, if it is off or cut off: what a test that failed may have left.
    pub fn restore(&self) {
        self.connect();
        let is_on = self.system.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if is_on {
            let start = "systemctl start ssh.service";
            until(&format!("{} is up", self.name()), || self.is_up() || self.try_sh(start).status.success());
        } else {
            self.start();
        }
    }

    /// Pulls the cable.
    pub fn cut(&self) {
        ip(&["-n", &self.node.machine.namespace, "link", "set", "eth0", "down"]);
    }

    /// Puts it in again.
    pub fn connect(&self) {
        ip(&["-n", &self.node.machine.namespace, "link", "set", "eth0", "up"]);
    }

    /// The process id, out here, of its first process: another one with each boot. Unlike a look inside, asking for it
    /// does not stand in the way of a host that goes down.
    pub fn first_process(&self) -> Option<String> {
        let output = Command::new("ip").args(["netns", "pids", &self.node.machine.namespace]).output().unwrap();
        let pids = String::from_utf8(output.stdout).unwrap();
        // proc(5): a process's ids, from the outermost namespace to its own.
        let is_first = |pid: &&str| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
            ids.split_whitespace().count() > 1 && ids.split_whitespace().next_back() == Some("1")
        };
        pids.lines().find(is_first).map(str::to_owned)
    }

    /// A command inside, as root.
    fn command(&self, program: &str) -> Command {
        let pid = until_some("the host has a first process", || self.first_process());
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid, "--all", "/usr/bin/env", "-i"]);
        command.args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C", program]).stdin(Stdio::null());
        command
    }

    /// Runs a script inside, as root.
    pub fn try_sh(&self, script: &str) -> Output {
        self.command("sh").args(["-euc", script]).output().unwrap()
    }

    /// Runs a script inside, as root, and returns what it prints. Fails the test if it fails.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        let output = self.try_sh(script);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {script}: {}: {said}", self.name(), output.status);
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Runs a script inside, as root, until what is returned is dropped.
    pub fn keep_running(&self, script: &str) -> Daemon {
        let mut command = self.command("sh");
        command.args(["-euc", script]);
        Daemon::start(command, self.directory().join("kept"))
    }

    /// Writes a file inside.
    #[track_caller]
    pub fn put(&self, path: &str, mode: u32, bytes: &[u8]) {
        let mut command = self.command("sh");
        command.args(["-euc", "umask 077; cat >\"$1\"; chmod \"$2\" \"$1\"", "sh", path, &format!("{mode:o}")]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        assert!(child.wait().unwrap().success(), "{path} was not written");
    }

    /// The only lines of its sshd's configuration that are the tests', in force.
    #[track_caller]
    pub fn configure_sshd(&self, lines: &str) {
        self.put("/etc/ssh/sshd_config.d/lab.conf", 0o600, lines.as_bytes());
        self.sh("sshd -t && systemctl reset-failed ssh.service; systemctl restart ssh.service");
    }

    /// The fingerprint of its host key, as OpenSSH prints it.
    #[track_caller]
    pub fn fingerprint(&self) -> String {
        let line = self.sh("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub");
        line.split_whitespace().nth(1).unwrap().to_owned()
    }

    /// Gives it another host key. Who is logged in is thrown out.
    #[track_caller]
    pub fn change_host_key(&self) {
        self.sh("cd /etc/ssh && rm ssh_host_ed25519_key* && ssh-keygen -q -t ed25519 -N '' -f ssh_host_ed25519_key");
        self.throw_out();
    }

    /// Ends every login, and starts its sshd anew; as often as is asked for, which systemd would else not do.
    #[track_caller]
    pub fn throw_out(&self) {
        self.sh("systemctl stop ssh.service; pkill -KILL -f '^sshd: ' || true; systemctl reset-failed ssh.service; systemctl start ssh.service");
    }

    /// The logins that its sshd took so far, as its log has them. By the name of who wrote, not by the unit: a session is
    /// moved out of sshd's as it begins, and where journald looks it up later than that, the line is the session's. First
    /// it writes what it was told by now.
    #[track_caller]
    pub fn logins(&self) -> String {
        self.sh("journalctl --sync; journalctl --identifier sshd --output cat --grep '^Accepted ' || true")
    }
}

/// The fingerprint of the key in a file out here.
#[track_caller]
pub fn fingerprint_of(file: &Path) -> String {
    let line = keygen(&["-l", "-f", file.to_str().unwrap()]);
    line.split_whitespace().nth(1).unwrap().to_owned()
}

/// Runs ssh-keygen(1) out here.
#[track_caller]
pub fn keygen(arguments: &[&str]) -> String {
    let output = Command::new("ssh-keygen").args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "ssh-keygen {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

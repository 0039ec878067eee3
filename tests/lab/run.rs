//! One run of the lab: its namespaces, its bridge and its directory, and that they go when it ends, however it ends.
//! Every name carries the process id of the test, so runs do not collide and what dead ones left can be told.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder},
    net::Ipv4Addr,
    os::unix::{fs::DirBuilderExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
};

use crate::machine::Machine;

/// Where namespaces have their names: ip-netns(8).
pub const NAMESPACES: &str = "/run/netns";
/// Holds one directory a run. Short, as a unix socket's path has at most 107 bytes; only root can make it.
pub const DIRECTORIES: &str = "/run/tailops-lab";

/// A run that has a bridge and may get machines.
pub struct Run {
    prefix: String,
    directory: PathBuf,
    machines: AtomicU8,
    reaper: Child,
}

impl Run {
    /// Sweeps what dead runs left, and begins one.
    pub fn begin() -> Self {
        sweep();
        let pid = std::process::id();
        let (prefix, directory) = (prefix(pid), directory(pid));
        // Before there is anything to take down.
        let mut reaper = reaper(&prefix, &directory);
        let reaper = reaper.stdin(Stdio::piped()).spawn().unwrap();
        fs::create_dir_all(DIRECTORIES).unwrap();
        DirBuilder::new().mode(0o700).create(&directory).unwrap();
        let run = Self { prefix, directory, machines: AtomicU8::new(0), reaper };
        let switch = run.namespace("sw");
        ip(&["netns", "add", &switch]);
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &switch, "link", "set", "br0", "up"]);
        run
    }

    /// Where the run keeps what it writes; nobody else may look into it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The name of the namespace that the machine `name` is.
    pub fn namespace(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Adds a machine: a namespace with one cable to the bridge, and no way out of it.
    pub fn machine(&self, name: &str) -> Machine {
        let number = self.machines.fetch_add(1, Ordering::SeqCst) + 1;
        let address = Ipv4Addr::new(10, 99, 0, number);
        let (switch, namespace) = (self.namespace("sw"), self.namespace(name));
        ip(&["netns", "add", &namespace]);
        // Both ends are born inside, so the machine's own namespace never sees them.
        ip(&["-n", &switch, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", &namespace]);
        ip(&["-n", &switch, "link", "set", name, "master", "br0", "up"]);
        ip(&["-n", &namespace, "address", "add", &format!("{address}/24"), "dev", "eth0"]);
        ip(&["-n", &namespace, "link", "set", "lo", "up"]);
        ip(&["-n", &namespace, "link", "set", "eth0", "up"]);
        Machine::new(name, namespace, address, self.directory.join(name))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        drop(self.reaper.stdin.take());
        let _ = self.reaper.wait();
    }
}

/// The beginning of every namespace's name in the run of this process.
pub fn prefix(pid: u32) -> String {
    format!("to{pid}-")
}

/// The directory of the run of this process.
pub fn directory(pid: u32) -> PathBuf {
    Path::new(DIRECTORIES).join(pid.to_string())
}

/// Takes down what runs left whose process no longer lives.
pub fn sweep() {
    for pid in left().into_iter().filter(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
        let status = reaper(&prefix(pid), &directory(pid)).stdin(Stdio::null()).status().unwrap();
        assert!(status.success(), "the leftovers of {pid} stay");
    }
}

/// The processes of which there are namespaces or a directory.
fn left() -> BTreeSet<u32> {
    let names = |folder| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let of_namespace = |name: &str| name.strip_prefix("to")?.split_once('-')?.0.parse().ok();
    let namespaces = names(NAMESPACES).filter_map(|name| of_namespace(name.to_str()?));
    let directories = names(DIRECTORIES).filter_map(|name| name.to_str()?.parse().ok());
    namespaces.chain(directories).collect()
}

/// The program that takes down a run at the end of its standard input. In a process group of its own: an interrupt at
/// the terminal is not for it.
fn reaper(prefix: &str, directory: &Path) -> Command {
    let mut command = Command::new("sh");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/reaper.sh")).arg(prefix).arg(directory);
    // Whoever reads the test's output would else wait for the reaper too.
    command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command
}

/// Runs ip(8).
#[track_caller]
pub fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
}

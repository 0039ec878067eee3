//! A node of the tailnet: tailscaled on a machine, with a device of the kernel's or all in user space.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::{
    control::{Control, Owner},
    daemon::Daemon,
    local_api,
    machine::Machine,
    parts::Parts,
    wait::{until, until_some},
};

/// What every node's environment has: the lab's relay speaks plain HTTP, and nothing may ask anybody outside.
pub const AMONG_OURSELVES: [&str; 5] = [
    "TS_DEBUG_USE_DERP_HTTP",
    "TS_ASSUME_NETWORK_UP_FOR_TEST",
    "TS_DISABLE_PORTMAPPER",
    "TS_NO_LOGS_NO_SUPPORT",
    "TS_PANIC_IF_HIT_MAIN_CONTROL",
];

/// How tailscaled handles packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A TUN device: the tailnet is an interface of the machine.
    Tun,
    /// Connections from the tailnet arrive from 127.0.0.1 at 127.0.0.1.
    Userspace,
}

/// One node that has joined.
pub struct Node {
    pub machine: Machine,
    mode: Mode,
    tailscaled: PathBuf,
    daemon: Mutex<Option<Daemon>>,
}

impl Node {
    /// Starts tailscaled on `machine`, joins as `owner`'s and waits until it runs.
    pub fn join(parts: &Parts, control: &Control, machine: Machine, owner: Owner, mode: Mode) -> Self {
        let node = Self { machine, mode, tailscaled: parts.tailscaled.clone(), daemon: Mutex::new(None) };
        node.start();
        let key = node.machine.write("key", &control.key(owner));
        let mut up = node.machine.command(&parts.tailscale);
        up.arg(format!("--socket={}", node.socket().display())).arg("up");
        up.arg(format!("--auth-key=file:{}", key.display()));
        up.arg(format!("--login-server={}", control.url())).arg(format!("--hostname={}", node.machine.name));
        up.args(["--accept-dns=false", "--netfilter-mode=off", "--timeout=30s"]);
        let output = up.output().unwrap();
        let name = &node.machine.name;
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        node.until_it_runs();
        node
    }

    /// Starts the daemon on the state it has.
    pub fn start(&self) {
        let directory = &self.machine.directory;
        let mut command = self.machine.command(&self.tailscaled);
        command.arg(match self.mode {
            Mode::Tun => "--tun=tailscale0",
            Mode::Userspace => "--tun=userspace-networking",
        });
        command.arg(format!("--statedir={}", directory.display())).arg(format!("--socket={}", self.socket().display()));
        command.args(["--port=41641", "--no-logs-no-support"]);
        command.envs(AMONG_OURSELVES.map(|name| (name, "true")));
        let mut daemon = Daemon::start(command, directory.join("log"));
        until("tailscaled answers", || {
            daemon.must_run();
            self.status().is_some()
        });
        *self.daemon.lock().unwrap_or_else(PoisonError::into_inner) = Some(daemon);
    }

    /// Waits until it is connected to the tailnet.
    pub fn until_it_runs(&self) {
        until(&format!("{} runs", self.machine.name), || {
            self.status().is_some_and(|status| status["BackendState"] == "Running" && status["Self"]["Online"] == true)
        });
    }

    /// SIGKILL, and waits until it is gone. What it knows stays on disk.
    pub fn kill(&self) {
        drop(self.daemon.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Starts it if it was killed, and lets it go on if it was stopped: what a test that failed may have left.
    pub fn restore(&self) {
        let daemon = self.daemon.lock().unwrap_or_else(PoisonError::into_inner);
        match daemon.as_ref() {
            Some(daemon) => daemon.signal(Signal::CONT),
            None => {
                drop(daemon);
                self.start();
            }
        }
        self.until_it_runs();
    }

    pub fn pid(&self) -> Pid {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner).as_ref().expect("it runs").pid()
    }

    /// The LocalAPI's. Reachable from every namespace, as it is a file.
    pub fn socket(&self) -> PathBuf {
        self.machine.directory.join("ts.sock")
    }

    pub fn status(&self) -> Option<Value> {
        local_api::status(&self.socket())
    }

    /// What the daemon knows of itself.
    #[track_caller]
    fn own(&self, key: &str) -> Value {
        self.status().expect("tailscaled answers")["Self"][key].clone()
    }

    /// The stable id: what records name it by.
    pub fn id(&self) -> String {
        self.own("ID").as_str().unwrap().to_owned()
    }

    /// Its MagicDNS name, without the dot at the end.
    pub fn dns_name(&self) -> String {
        self.own("DNSName").as_str().unwrap().trim_end_matches('.').to_owned()
    }

    /// Its tailnet addresses.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.own("TailscaleIPs").as_array().unwrap().iter().map(|ip| ip.as_str().unwrap().parse().unwrap()).collect()
    }

    pub fn ipv4(&self) -> IpAddr {
        self.addresses().into_iter().find(IpAddr::is_ipv4).expect("an IPv4 address")
    }

    pub fn ipv6(&self) -> IpAddr {
        self.addresses().into_iter().find(IpAddr::is_ipv6).expect("an IPv6 address")
    }

    /// Who has this address, as this node knows it: the status of the answer, and the answer.
    pub fn whois(&self, address: SocketAddr) -> (u16, Value) {
        local_api::whois(&self.socket(), address).expect("tailscaled answers")
    }

    /// Whether this node's map has a node of this stable id.
    pub fn knows(&self, id: &str) -> bool {
        let status = self.status();
        let peers = status.as_ref().and_then(|status| status["Peer"].as_object());
        peers.is_some_and(|peers| peers.values().any(|peer| peer["ID"] == id))
    }

    /// Waits until each lists the other: until then a connection may be lost.
    pub fn until_acquainted(&self, other: &Self) {
        let (own, others) = (self.id(), other.id());
        let what = format!("{} and {} know each other", self.machine.name, other.machine.name);
        until(&what, || self.knows(&others) && other.knows(&own));
    }

    /// The addresses this node's own resolver has for a name.
    pub fn resolve(&self, name: &str) -> Vec<IpAddr> {
        let path = format!("dns-query?name={name}.&type=A");
        let (status, body) = until_some("the resolver answers", || local_api::get(&self.socket(), &path));
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        let message = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, answer["Bytes"].as_str().unwrap());
        a_records(&message.unwrap())
    }
}

/// The addresses in a DNS answer to one question (RFC 1035, section 4).
fn a_records(message: &[u8]) -> Vec<IpAddr> {
    let number = |at: usize| usize::from(u16::from_be_bytes([message[at], message[at + 1]]));
    // A name ends with an empty label or points to where it goes on.
    let behind_name = |mut at: usize| loop {
        match message[at] {
            0 => return at + 1,
            length if length >= 0xc0 => return at + 2,
            length => at += 1 + usize::from(length),
        }
    };
    let (answers, mut at) = (number(6), behind_name(12) + 4);
    let mut found = Vec::new();
    for _ in 0..answers {
        at = behind_name(at);
        let (kind, length) = (number(at), number(at + 8));
        at += 10;
        if kind == 1 {
            found.push(IpAddr::from(<[u8; 4]>::try_from(&message[at..at + 4]).unwrap()));
        }
        at += length;
    }
    found
}

//! The fleet that the tests of remote hosts share: three real hosts on the tailnet, and a gateway on a node of its own
//! that operates them over SSH. One test has it at a time, as it has the lab.

mod certificates;
mod cuts;
mod impostors;
mod jobs;
mod jumps;
mod logins;
mod packages;
mod power;
mod prepared;
mod races;
mod reads;
mod rotation;
mod services;
mod sessions;
mod summary;

use std::{
    fs,
    path::PathBuf,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    approvals::decides,
    client::{self, Answer, http},
    control::{DOMAIN, Owner},
    gateway::Gateway,
    host::{self, Host, fingerprint_of, keygen},
    lab::{Lab, skipped, turn_under},
    node::{Mode, Node},
    policy::{self, PORT},
    site::host_section,
    wait::{until, until_some},
};

/// Hosts and their gateway.
pub struct Fleet {
    pub lab: &'static Lab,
    /// Where the gateway runs: tagged tag:tailops.
    pub ops: Node,
    pub gateway: Gateway,
    pub web1: Host,
    pub web2: Host,
    pub db1: Host,
    /// The agent's: bob answers for it.
    token: String,
    /// How many records there were when the present test began.
    before: usize,
    /// Entries of hosts that tests bring along and keep beyond their turn.
    guests: Mutex<Vec<Value>>,
    /// Whether a test has prepared a host for something else.
    altered: AtomicBool,
}

/// The login user of every host.
pub const USER: &str = "tailops";
/// How long a call may take: as long as a step may, and what it takes to find that a host has gone.
const LONG: Duration = Duration::from_secs(90);
/// The units of the hosts' sudoers, which tests bring along.
const UNITS: [&str; 4] = ["--unit", "lab", "--unit", "slow"];
/// The only directory of files of every host.
pub const FILES: &str = "/srv/files";

static FLEET: Mutex<Option<Fleet>> = Mutex::new(None);
static MISSING: OnceLock<Option<String>> = OnceLock::new();

/// Lends `work` the fleet, in its turn: every host is up, enrolled with the key it has, and logged in to by key.
pub fn lend(work: impl FnOnce(&mut Fleet)) {
    if skipped(&MISSING, "test of hosts in the lab", host::missing) {
        return;
    }
    let Some(lab) = turn_under(&policy()) else { return };
    // What a test that failed has left is put right before the next.
    let mut fleet = FLEET.lock().unwrap_or_else(PoisonError::into_inner);
    let fleet = fleet.get_or_insert_with(|| Fleet::start(lab.lab));
    fleet.begin();
    work(fleet);
}

impl Fleet {
    fn start(lab: &'static Lab) -> Self {
        let base = host::base();
        let join = |name, tag| Node::join(&lab.parts, &lab.control, lab.run.machine(name), Owner::Tag(tag), Mode::Tun);
        let (ops, hosts) = std::thread::scope(|scope| {
            let ops = scope.spawn(|| join("ops", "tag:tailops"));
            let hosts = ["web1", "web2", "db1"].map(|name| {
                let base = &base;
                scope.spawn(move || Host::boot(join(name, "tag:web"), base))
            });
            (ops.join().unwrap(), hosts.map(|host| host.join().unwrap()))
        });
        let [web1, web2, db1] = hosts;
        keygen(&["-q", "-t", "ed25519", "-N", "", "-C", "gateway", "-f", key_file(&ops).to_str().unwrap()]);
        let gateway = Gateway::start(&ops.machine, &host_section(&ops), &ssh_section(&ops));
        let token = gateway.mint(&["--scopes", "admin", "--bind", "tag:mcp-client", "--owner", "bob@example.com"]);
        let (guests, altered) = (Mutex::default(), AtomicBool::new(true));
        let fleet = Self { lab, ops, gateway, web1, web2, db1, token, before: 0, guests, altered };
        for host in fleet.hosts() {
            fleet.ops.until_acquainted(&host.node);
            host.configure_sshd("PasswordAuthentication no\n");
        }
        fleet
    }

    pub fn hosts(&self) -> [&Host; 3] {
        [&self.web1, &self.web2, &self.db1]
    }

    /// The script that `tailops target prepare` prints for the target `id`.
    #[track_caller]
    pub fn script(&self, id: &str, more: &[&str]) -> String {
        let configuration = self.gateway.configuration();
        let arguments = ["target", "prepare", id, "--config", configuration.to_str().unwrap()];
        self.gateway.run(&[&arguments, more].concat())
    }

    /// Runs such a script on a host as root, unchanged. The next test finds the host prepared for itself again.
    #[track_caller]
    pub fn prepare(&self, host: &Host, script: &str) {
        self.altered.store(true, Ordering::SeqCst);
        host.put("/root/prepare", 0o700, script.as_bytes());
        host.sh("/root/prepare");
    }

    /// Prepares every host for the target it is.
    fn prepare_all(&self) {
        for host in self.hosts() {
            self.prepare(host, &self.script(host.name(), &UNITS));
            host.sh(&format!("install -d -m 0755 -o {USER} -g {USER} {FILES}"));
        }
        self.altered.store(false, Ordering::SeqCst);
    }

    /// Begins a test.
    fn begin(&mut self) {
        for host in self.hosts() {
            host.restore();
            self.ops.until_acquainted(&host.node);
        }
        self.enrol(&[]);
        if self.altered.load(Ordering::SeqCst) {
            self.prepare_all();
        }
        let (agent, url) = (&self.lab.agent, self.url());
        let granted = || {
            let answer = agent.machine.call(&url, Some(&self.token), "token_inspect", json!({})).ok()?;
            let grants = &answer.body["result"]["structuredContent"]["data"]["peer"]["grants"];
            grants.to_string().contains("\"admin\"").then_some(())
        };
        until_some("the agent has its rights", granted);
        for host in self.hosts() {
            let asked = || of(host, json!({"sections": ["os"]}));
            let answered = || self.call("host_inspect", asked()).body["result"]["isError"] != true;
            until(&format!("{} answers", host.name()), answered);
        }
        self.before = self.gateway.records().len();
    }

    /// Boots a host that only the present test uses, and that stays when its turn is over: registered in each, so that
    /// others can have theirs while it is waited for.
    #[track_caller]
    pub fn welcome(&self, name: &str) -> Host {
        let host = Host::boot(self.lab.join(name, Owner::Tag("tag:web"), Mode::Tun), &host::base());
        self.ops.until_acquainted(&host.node);
        let mut entry = self.entry(&host);
        entry["metadata"]["tags"] = json!(["guest"]);
        self.guests.lock().unwrap().push(entry);
        self.enrol(&[]);
        self.prepare(&host, &self.script(host.name(), &UNITS));
        host
    }

    /// Puts the hosts into the registry, each with the host key it has now; `other` are entries that differ from that.
    #[track_caller]
    pub fn enrol(&self, other: &[(&str, Value)]) {
        let entries = self.hosts().into_iter().map(|host| self.entry(host));
        let entries = entries.chain(self.guests.lock().unwrap().clone());
        let mut targets: serde_json::Map<String, Value> =
            entries.map(|entry| (entry["id"].as_str().unwrap().to_owned(), entry)).collect();
        targets.extend(other.iter().map(|(name, entry)| ((*name).to_owned(), entry.clone())));
        let file = json!({"version": "1.0", "targets": targets});
        let path = self.ops.machine.write("registry.yaml", &serde_json::to_string_pretty(&file).unwrap());
        self.gateway.run(&["target", "import", "--prune", path.to_str().unwrap()]);
    }

    /// A host as it stands in the registry.
    #[track_caller]
    pub fn entry(&self, host: &Host) -> Value {
        json!({
            "id": host.name(),
            "type": "remote",
            "executor": "ssh",
            "connection": {
                "host": host.node.dns_name(),
                "username": USER,
                "key_path": key_file(&self.ops),
                "host_keys": [host.fingerprint()],
                "timeout": 10,
            },
            "capabilities": ["system:admin", "log:read", "network:diag", "file:write"],
            "constraints": {"timeout": 60, "concurrency": 8, "sudo_policy": "limited", "roots": [FILES]},
            "metadata": {"tags": ["lab"]},
        })
    }

    /// The list of host keys and certificates that count no more.
    pub fn revoked(&self) -> PathBuf {
        self.ops.machine.directory.join(REVOKED)
    }

    /// The fingerprint of the authority for host certificates.
    pub fn host_ca(&self) -> String {
        fingerprint_of(&self.ops.machine.directory.join(HOST_CA))
    }

    /// The public key of the authority for logins, without its comment.
    pub fn user_ca(&self) -> String {
        let line = fs::read_to_string(self.ops.machine.directory.join(USER_CA).with_extension("pub")).unwrap();
        line.rsplit_once(' ').unwrap().0.to_owned()
    }

    /// Where MCP clients connect.
    pub fn url(&self) -> String {
        format!("http://{}:{PORT}/mcp", self.ops.ipv4())
    }

    /// The agent calls a tool.
    #[track_caller]
    pub fn call(&self, tool: &str, arguments: Value) -> Answer {
        let (url, token) = (self.url(), Some(self.token.as_str()));
        let calling = async || {
            let http = http().timeout(LONG).build().unwrap();
            client::call(&http, &url, token, tool, arguments).await.unwrap()
        };
        self.lab.agent.machine.visit(calling)
    }

    /// The agent asks for something critical, alice agrees, and the agent does it: the answer to that.
    #[track_caller]
    pub fn call_approved(&self, tool: &str, arguments: Value) -> Answer {
        let asked = self.call(tool, arguments.clone());
        assert_eq!(asked.code(), "approval_required", "{}", asked.body);
        let asked = &asked.body["result"]["structuredContent"];
        let decided = decides(&self.ops.dns_name(), &self.lab.alice, asked, "approve");
        assert_eq!((decided.status, &decided.body["state"]), (200, &json!("approved")), "{}", decided.body);
        let mut arguments = arguments;
        arguments.as_object_mut().unwrap().insert("approval_id".to_owned(), asked["approval_id"].clone());
        self.call(tool, arguments)
    }

    /// Every record of the present test, oldest first.
    pub fn records(&self) -> Vec<Value> {
        self.gateway.records().split_off(self.before)
    }

    /// The last record of those that `are` so.
    #[track_caller]
    pub fn last_record(&self, are: impl Fn(&Value) -> bool) -> Value {
        until_some("there is such a record", || self.records().into_iter().rfind(|record| are(record)))
    }
}

/// The `[ssh]` section: an authority for the keys of hosts and one for logins, short patience with silence,
/// and much with hosts that tests break.
fn ssh_section(ops: &Node) -> String {
    let directory = &ops.machine.directory;
    for authority in [HOST_CA, USER_CA] {
        keygen(&["-q", "-t", "ed25519", "-N", "", "-C", authority, "-f", directory.join(authority).to_str().unwrap()]);
    }
    let host_ca = fs::read_to_string(directory.join(HOST_CA).with_extension("pub")).unwrap();
    format!(
        "[ssh]\nkeepalive = \"5s\"\nbreaker_failures = 100\nrevoked_keys = {:?}\n\n[[ssh.host_cas]]\nhosts = [\"*.{DOMAIN}\"]\npublic_key = {:?}\n\n\
         [ssh.ca]\nkey_file = {:?}\nsource_addresses = [\"{}/32\"]\n",
        ops.machine.write(REVOKED, ""),
        host_ca.trim(),
        directory.join(USER_CA),
        ops.ipv4(),
    )
}

/// Agents may do anything, as far as people agree; alice may agree.
fn policy() -> String {
    let agents = policy::gateway(&["tag:mcp-client"], json!({"scopes": ["admin"]}));
    policy::with(&[policy::alice(), agents, policy::targets()])
}

/// Files in the directory of the gateway's machine.
const HOST_CA: &str = "host_ca";
const USER_CA: &str = "user_ca";
const REVOKED: &str = "revoked";

/// What the gateway logs in with.
pub fn key_file(ops: &Node) -> PathBuf {
    ops.machine.directory.join("login")
}

/// The arguments of a call on `host`.
pub fn of(host: &Host, mut more: Value) -> Value {
    more.as_object_mut().unwrap().insert("target".to_owned(), host.name().into());
    more
}

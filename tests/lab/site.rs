//! A gateway on the tailnet, in one of the ways to be there, and what tests know of it. The checks that use it are the
//! same for every way.

use std::net::{IpAddr, SocketAddr, TcpListener};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    client::{Answer, Silence},
    gateway::Gateway,
    lab::Lab,
    machine::Machine,
    node::Node,
    policy::PORT,
    wait::{until, until_some},
};

/// How the gateway is on the tailnet: `node.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Through its machine's tailscaled.
    Host,
    /// As a node of its own.
    #[cfg(feature = "embedded")]
    Embedded,
}

/// A gateway that serves, and that alice and the agents can reach.
pub struct Site {
    pub lab: &'static Lab,
    pub way: Way,
    pub machine: &'static Machine,
    pub gateway: Gateway,
    /// Its node's stable id.
    pub id: String,
    /// Its MagicDNS name.
    pub name: String,
    pub addresses: Vec<IpAddr>,
    /// A token of alice's, to see whether she is served.
    token: String,
    /// How many records there were when the present test began.
    before: usize,
}

impl Site {
    /// Starts a gateway and waits until its node is on the tailnet.
    pub fn open(lab: &'static Lab, way: Way) -> Self {
        let (machine, hostname, section) = match way {
            Way::Host => (&lab.gateway.machine, lab.gateway.machine.name.clone(), host_section(&lab.gateway)),
            #[cfg(feature = "embedded")]
            Way::Embedded => {
                let (hostname, section) = embedded_section(lab);
                (&lab.embedded, hostname, section)
            }
        };
        let gateway = Gateway::start(machine, &section, &probes(lab));
        let seen = until_some("alice sees the gateway's node", || {
            let peers = lab.alice.status()?["Peer"].as_object()?.clone();
            peers.into_values().find(|peer| peer["HostName"] == hostname)
        });
        let text = |key: &str| seen[key].as_str().unwrap().trim_end_matches('.').to_owned();
        let ips = seen["TailscaleIPs"].as_array().unwrap();
        let addresses = ips.iter().map(|ip| ip.as_str().unwrap().parse().unwrap()).collect();
        let token = gateway.mint(&["--scopes", "readonly", "--bind", "user:alice@example.com"]);
        let (id, name) = (text("ID"), text("DNSName"));
        Self { lab, way, machine, gateway, id, name, addresses, token, before: 0 }
    }

    /// Begins a test: waits until the peers of the baseline policy are served, and forgets the records so far.
    pub fn begin(&mut self) {
        for node in [&self.lab.alice, &self.lab.agent, &self.lab.thief] {
            until(&format!("{} reaches the gateway", node.machine.name), || self.is_reached_by(node));
        }
        self.until_alice_is_served();
        self.before = self.gateway.records().len();
    }

    /// Ends a test, with the checks that hold for every one: nobody was taken for the gateway itself.
    pub fn end(&mut self) {
        for record in self.records() {
            let is_own = record["tailscale"]["tailscale_node_id"] == self.id.as_str();
            assert!(!is_own || record["code"] == "peer_own_node", "taken for the gateway: {record}");
        }
    }

    /// Waits until alice's calls are answered.
    #[track_caller]
    pub fn until_alice_is_served(&self) {
        let served = || self.call(&self.lab.alice, &self.token).is_ok_and(|answer| answer.status == 200);
        until("alice is served", served);
    }

    /// Every record of the present test, oldest first.
    pub fn records(&self) -> Vec<Value> {
        self.gateway.records().split_off(self.before)
    }

    /// Where `ip` of the gateway's node answers.
    pub fn address(&self, pick: impl Fn(&IpAddr) -> bool) -> SocketAddr {
        SocketAddr::new(*self.addresses.iter().find(|ip| pick(ip)).expect("such an address"), PORT)
    }

    pub fn ipv4(&self) -> SocketAddr {
        self.address(IpAddr::is_ipv4)
    }

    /// Where MCP clients connect.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.ipv4())
    }

    /// Whether packets get through; says nothing of rights.
    pub fn is_reached_by(&self, node: &Node) -> bool {
        node.machine.reaches(self.ipv4())
    }

    /// Something else that listens on the gateway's node, where anything else can.
    pub fn listens_beside(&self, port: u16) -> Option<TcpListener> {
        match self.way {
            Way::Host => Some(self.machine.listen(SocketAddr::new(self.ipv4().ip(), port))),
            #[cfg(feature = "embedded")]
            Way::Embedded => None,
        }
    }

    /// The process that holds the node.
    pub fn node_pid(&self) -> Pid {
        match self.way {
            Way::Host => self.lab.gateway.pid(),
            #[cfg(feature = "embedded")]
            Way::Embedded => until_some("the gateway has its node's process", || self.gateway.child("node")),
        }
    }

    /// SIGKILL to the process that holds the node.
    pub fn kill_node(&self) {
        match self.way {
            Way::Host => self.lab.gateway.kill(),
            #[cfg(feature = "embedded")]
            Way::Embedded => self.signal_node(Signal::KILL),
        }
    }

    /// Starts again what [`Self::kill_node`] killed, where that is not the gateway's own business.
    pub fn restore_node(&self) {
        match self.way {
            Way::Host => self.lab.gateway.restore(),
            #[cfg(feature = "embedded")]
            Way::Embedded => {}
        }
    }

    pub fn signal_node(&self, signal: Signal) {
        kill_process(self.node_pid(), signal).unwrap();
    }

    /// Makes a token for a peer, as `node:ID`, `user:LOGIN` or `tag:NAME`.
    #[track_caller]
    pub fn token(&self, scopes: &str, peer: &str) -> String {
        self.gateway.mint(&["--scopes", scopes, "--bind", peer])
    }

    /// Makes the shortest call there is, over a connection of its own.
    pub fn call(&self, node: &Node, token: &str) -> Result<Answer, Silence> {
        node.machine.call(&self.url(), Some(token), "token_inspect", json!({}))
    }

    /// The last record of those that `are` so. Waited for: the end of a call whose client has gone is written when the
    /// call has ended.
    #[track_caller]
    pub fn last_record(&self, are: impl Fn(&Value) -> bool) -> Value {
        until_some("there is such a record", || self.records().into_iter().rfind(|record| are(record)))
    }
}

/// The `[node]` section of a gateway that joins as a node of its own. The key brings the tags: headscale refuses a node
/// that asks for some.
#[cfg(feature = "embedded")]
fn embedded_section(lab: &Lab) -> (String, String) {
    static SITES: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
    // Another one each time, or the tailnet would add a number to the name.
    let hostname = format!("embedded{}", SITES.fetch_add(1, std::sync::atomic::Ordering::SeqCst));
    let key = lab.embedded.write("key", &lab.control.single_key("tag:tailops"));
    let section = format!(
        "mode = \"embedded\"\nhostname = {hostname:?}\nport = {PORT}\ncontrol_url = {:?}\nauth_key_file = {:?}\n\
         tags = [\"tag:tailops\"]\nadvertise_tags = false",
        lab.control.url(),
        key.to_str().unwrap()
    );
    (hostname, section)
}

/// The `[node]` section of a gateway that uses this node's daemon.
pub fn host_section(node: &Node) -> String {
    format!("mode = \"host\"\nsocket = {:?}\nport = {PORT}", node.socket().to_str().unwrap())
}

/// Where the target waits for the probe that never ends by itself.
pub fn slow(lab: &Lab) -> SocketAddr {
    SocketAddr::new(lab.web.machine.address.into(), 8099)
}

/// Lets the gateway call [`slow`].
fn probes(lab: &Lab) -> String {
    let slow = slow(lab);
    format!(
        "[probe]\nnetworks = [\"10.99.0.0/24\"]\n\n[probe.urls.slow]\nurl = \"http://{slow}/\"\napproval = \"waived\"\n"
    )
}

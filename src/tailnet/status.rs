//! What a node knows of itself and of its tailnet at one moment. Values only: nothing here decides who may do what.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

/// How far the node has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// There is no tailnet in this mode.
    Loopback,
    /// On the tailnet, with a network map.
    Running,
    /// Not yet on it.
    Starting,
    /// Its key is not accepted, or it has none: somebody must log it in.
    NeedsLogin,
    /// An admin of the tailnet must approve the device.
    NeedsApproval,
    /// Switched off.
    Stopped,
    /// The daemon cannot be asked; why.
    Unreachable(String),
}

/// Our own node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwnNode {
    /// Its stable id.
    pub id: String,
    /// Its MagicDNS name in full, without the last dot, e.g. `tailops.example.ts.net`.
    pub name: String,
    /// Its tags, sorted.
    pub tags: Vec<String>,
    /// Whose it is, where it is not tagged.
    pub user: Option<String>,
    /// Its addresses on the tailnet, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// When its key ends; none where it never does.
    pub key_expiry: Option<Timestamp>,
    /// The names it can have a certificate for.
    pub certificate_names: Vec<String>,
}

/// A peer in the network map, as the node lists it. Says nothing of its rights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodePeer {
    /// Its stable id.
    pub id: String,
    /// Its MagicDNS name in full, without the last dot.
    pub name: String,
    /// Its login, where it is not tagged.
    pub user: Option<String>,
    /// Its tags, sorted.
    pub tags: Vec<String>,
    /// Its addresses on the tailnet.
    pub addresses: Vec<IpAddr>,
    /// Its operating system.
    pub os: Option<String>,
    /// Whether the control server sees it.
    pub online: bool,
    /// Its SSH host keys, as lines of a public key file; only where it runs Tailscale SSH.
    pub ssh_host_keys: Vec<String>,
}

/// One look at the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// How far it has come.
    pub state: NodeState,
    /// Our own node, once there is a network map.
    pub own: Option<OwnNode>,
    /// The tailnet's name.
    pub tailnet: Option<String>,
    /// Every peer in the network map, by name.
    pub peers: Vec<NodePeer>,
    /// What the daemon itself finds wrong.
    pub warnings: Vec<String>,
    /// The daemon's version.
    pub version: Option<String>,
    /// Whether the daemon has no network device of its own, so that its peers come from loopback.
    pub userspace: bool,
}

impl NodeStatus {
    /// Before the first look, or without a tailnet.
    pub fn of_state(state: NodeState) -> Self {
        Self {
            state,
            own: None,
            tailnet: None,
            peers: Vec::new(),
            warnings: Vec::new(),
            version: None,
            userspace: false,
        }
    }

    /// Whether peers can be identified now: part of readiness.
    pub fn is_up(&self) -> bool {
        match self.state {
            NodeState::Loopback => true,
            NodeState::Running => self.own.is_some(),
            _ => false,
        }
    }

    /// The Hosts that name this node: its MagicDNS name in full and short, and its addresses, as a request's Host has
    /// them, lower case and without port.
    pub fn hosts(&self) -> Vec<String> {
        let Some(own) = &self.own else { return Vec::new() };
        let name = own.name.to_ascii_lowercase();
        let short = name.split('.').next().map(str::to_owned).filter(|short| *short != name);
        let addresses = own.addresses.iter().map(|address| match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        });
        Some(name).filter(|name| !name.is_empty()).into_iter().chain(short).chain(addresses).collect()
    }
}

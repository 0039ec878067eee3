//! Reads what `tailscale status --json` prints. Shows neither keys nor the login link. Parses text only.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most peers that are listed one by one.
const PEERS: usize = 200;

/// The host's own place on a tailnet.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Tailnet {
    /// Running, NeedsLogin, NeedsMachineAuth, Stopped or Starting
    pub(super) state: String,
    pub(super) version: Option<String>,
    pub(super) tailnet: Option<String>,
    pub(super) own: Option<Machine>,
    /// What the daemon finds wrong
    pub(super) health: Vec<String>,
    pub(super) peer_count: usize,
    pub(super) peers: Vec<Machine>,
}

#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Machine {
    pub(super) name: String,
    pub(super) os: Option<String>,
    pub(super) addresses: Vec<String>,
    pub(super) tags: Vec<String>,
    pub(super) online: bool,
    /// Where its packets go now, if not through a relay
    pub(super) direct: Option<String>,
    /// The relay it is nearest to
    pub(super) relay: Option<String>,
    pub(super) key_expiry: Option<String>,
    pub(super) exit_node: bool,
}

/// Every field is optional: versions differ, and a daemon that is not logged in leaves most out.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Status {
    version: Option<String>,
    backend_state: Option<String>,
    #[serde(rename = "Self")]
    own: Option<Node>,
    health: Option<Vec<String>>,
    current_tailnet: Option<Current>,
    peer: Option<BTreeMap<String, Option<Node>>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Current {
    name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Node {
    #[serde(rename = "DNSName")]
    dns_name: Option<String>,
    host_name: Option<String>,
    #[serde(rename = "OS")]
    os: Option<String>,
    #[serde(rename = "TailscaleIPs")]
    addresses: Option<Vec<String>>,
    tags: Option<Vec<String>>,
    online: Option<bool>,
    cur_addr: Option<String>,
    relay: Option<String>,
    key_expiry: Option<String>,
    exit_node: Option<bool>,
}

/// What was printed; none where it is not what the command prints.
pub(super) fn status(json: &str) -> Option<Tailnet> {
    let status: Status = serde_json::from_str(json).ok()?;
    let state = status.backend_state?;
    let mut peers: Vec<Machine> = status.peer.into_iter().flatten().filter_map(|(_, peer)| peer.map(machine)).collect();
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    let peer_count = peers.len();
    peers.truncate(PEERS);
    Some(Tailnet {
        state,
        version: status.version.and_then(filled),
        tailnet: status.current_tailnet.and_then(|current| current.name).and_then(filled),
        own: status.own.map(machine),
        health: status.health.unwrap_or_default(),
        peer_count,
        peers,
    })
}

fn machine(node: Node) -> Machine {
    let name = node.dns_name.and_then(filled).or(node.host_name).unwrap_or_default();
    Machine {
        name: name.trim_end_matches('.').to_owned(),
        os: node.os.and_then(filled),
        addresses: node.addresses.unwrap_or_default(),
        tags: node.tags.unwrap_or_default(),
        online: node.online.unwrap_or_default(),
        direct: node.cur_addr.and_then(filled),
        relay: node.relay.and_then(filled),
        key_expiry: node.key_expiry.and_then(filled),
        exit_node: node.exit_node.unwrap_or_default(),
    }
}

/// The text, unless it is empty.
fn filled(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

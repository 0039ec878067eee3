//! What daemons answer, as far as it is used here. Every field may be missing or null, and fields that are not known
//! are passed over: daemons of other versions say more, and less. What is missing is empty, never a guess.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The answer to WhoIs (`apitype.WhoIsResponse`).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::tailnet) struct WhoIs {
    #[serde(rename = "Node", deserialize_with = "or_default")]
    pub(in crate::tailnet) node: Node,
    #[serde(rename = "UserProfile", deserialize_with = "or_default")]
    pub(in crate::tailnet) user: UserProfile,
    /// What the tailnet policy grants it here: each capability with its values as they came.
    #[serde(rename = "CapMap", deserialize_with = "or_default")]
    pub(in crate::tailnet) capabilities: BTreeMap<String, Box<RawValue>>,
}

/// A node (`tailcfg.Node`).
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(in crate::tailnet) struct Node {
    #[serde(rename = "StableID", deserialize_with = "or_default")]
    pub(in crate::tailnet) stable_id: String,
    /// In full, with a dot at the end.
    #[serde(deserialize_with = "or_default")]
    pub(in crate::tailnet) name: String,
    #[serde(deserialize_with = "or_default")]
    pub(in crate::tailnet) computed_name: String,
    /// Who shared it with this tailnet; 0 where nobody did.
    #[serde(deserialize_with = "or_default")]
    pub(in crate::tailnet) sharer: i64,
    /// Prefixes of one address each.
    #[serde(deserialize_with = "or_default")]
    pub(in crate::tailnet) addresses: Vec<String>,
    /// The prefixes that it may send from.
    #[serde(rename = "AllowedIPs", deserialize_with = "or_default")]
    pub(in crate::tailnet) allowed_ips: Vec<String>,
    /// The prefixes that it routes for others.
    #[serde(deserialize_with = "or_default")]
    pub(in crate::tailnet) primary_routes: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(in crate::tailnet) tags: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(in crate::tailnet) hostinfo: Hostinfo,
    #[serde(deserialize_with = "or_default")]
    pub(in crate::tailnet) expired: bool,
    #[serde(rename = "UnsignedPeerAPIOnly", deserialize_with = "or_default")]
    pub(in crate::tailnet) unsigned: bool,
}

/// What a node says of itself (`tailcfg.Hostinfo`).
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(in crate::tailnet) struct Hostinfo {
    /// Here only because a node of this tailnet is shared with its user.
    #[serde(deserialize_with = "or_default")]
    pub(in crate::tailnet) sharee_node: bool,
}

/// A person (`tailcfg.UserProfile`), or the one stand-in for all tagged nodes.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(in crate::tailnet) struct UserProfile {
    #[serde(deserialize_with = "or_default")]
    pub(in crate::tailnet) login_name: String,
}

/// The daemon's status (`ipnstate.Status`).
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(in crate::tailnet) struct Status {
    #[serde(deserialize_with = "or_default")]
    pub(in crate::tailnet) version: String,
    /// Whether it has a network device of its own.
    #[serde(rename = "TUN", deserialize_with = "or_default")]
    pub(in crate::tailnet) tun: bool,
    #[serde(deserialize_with = "or_default")]
    pub(in crate::tailnet) backend_state: String,
    #[serde(rename = "AuthURL", deserialize_with = "or_default")]
    pub(in crate::tailnet) auth_url: String,
    #[serde(rename = "Self", deserialize_with = "or_default")]
    pub(in crate::tailnet) own: PeerStatus,
    #[serde(deserialize_with = "or_default")]
    pub(in crate::tailnet) health: Vec<String>,
    #[serde(rename = "MagicDNSSuffix", deserialize_with = "or_default")]
    pub(in crate::tailnet) magic_dns_suffix: String,
    #[serde(deserialize_with = "or_default")]
    pub(in crate::tailnet) current_tailnet: CurrentTailnet,
    #[serde(deserialize_with = "or_default")]
    pub(in crate::tailnet) cert_domains: Vec<String>,
    /// By node key.
    #[serde(deserialize_with = "or_default")]
    pub(in crate::tailnet) peer: BTreeMap<String, PeerStatus>,
    /// By user id.
    #[serde(deserialize_with = "or_default")]
    pub(in crate::tailnet) user: BTreeMap<String, UserProfile>,
}

/// The tailnet (`ipnstate.TailnetStatus`).
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(in crate::tailnet) struct CurrentTailnet {
    #[serde(deserialize_with = "or_default")]
    pub(in crate::tailnet) name: String,
    #[serde(rename = "MagicDNSSuffix", deserialize_with = "or_default")]
    pub(in crate::tailnet) magic_dns_suffix: String,
}

/// A node in the status (`ipnstate.PeerStatus`).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::tailnet) struct PeerStatus {
    #[serde(rename = "ID", deserialize_with = "or_default")]
    pub(in crate::tailnet) stable_id: String,
    #[serde(rename = "HostName", deserialize_with = "or_default")]
    pub(in crate::tailnet) host_name: String,
    /// In full, with a dot at the end.
    #[serde(rename = "DNSName", deserialize_with = "or_default")]
    pub(in crate::tailnet) dns_name: String,
    #[serde(rename = "OS", deserialize_with = "or_default")]
    pub(in crate::tailnet) os: String,
    #[serde(rename = "UserID", deserialize_with = "or_default")]
    pub(in crate::tailnet) user: i64,
    #[serde(rename = "TailscaleIPs", deserialize_with = "or_default")]
    pub(in crate::tailnet) addresses: Vec<String>,
    #[serde(rename = "Tags", deserialize_with = "or_default")]
    pub(in crate::tailnet) tags: Vec<String>,
    #[serde(rename = "Online", deserialize_with = "or_default")]
    pub(in crate::tailnet) online: bool,
    #[serde(rename = "sshHostKeys", deserialize_with = "or_default")]
    pub(in crate::tailnet) ssh_host_keys: Vec<String>,
    /// False where only the engine remembers it. Daemons that do not say list only the network map.
    #[serde(rename = "InNetworkMap")]
    pub(in crate::tailnet) in_network_map: Option<bool>,
    /// RFC 3339.
    #[serde(rename = "KeyExpiry", deserialize_with = "or_default")]
    pub(in crate::tailnet) key_expiry: String,
}

/// `null` is what Go writes for a list, a map or a pointer that is not there.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

//! `[node]`: how the service is on the network. Refuses an address that the mode does not have.

use std::{net::SocketAddr, path::PathBuf};

use super::{
    is_loopback,
    section::{Section, Value},
    settings::add_new,
};

/// How the service is on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// On this machine only.
    Loopback {
        /// Where: never empty, each passes [`is_loopback`].
        listen: Vec<SocketAddr>,
    },
    /// On the tailnet through a daemon of this machine.
    Host(HostNode),
    /// On the tailnet as a node of its own.
    Embedded(EmbeddedNode),
}

impl Node {
    /// The word used in configuration.
    pub fn mode(&self) -> &'static str {
        match self {
            Self::Loopback { .. } => "loopback",
            Self::Host(_) => "host",
            Self::Embedded(_) => "embedded",
        }
    }
}

/// The machine's own tailscaled, or any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostNode {
    /// The daemon's socket. Absolute.
    pub socket: PathBuf,
    /// The port on the node's tailnet addresses; on 127.0.0.1 where the daemon has no network device of its own.
    pub port: u16,
    /// Where to listen instead; none means the node's own tailnet addresses, which are followed when they change.
    pub listen: Option<Vec<SocketAddr>>,
}

/// A node of its own, held by a child process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedNode {
    /// The name it asks for.
    pub hostname: String,
    /// The port on its tailnet addresses.
    pub port: u16,
    /// The control server; none means Tailscale's own.
    pub control_url: Option<String>,
    /// What logs it in for the first time; none where its state already holds a key, or a person follows the link.
    pub credential: Option<NodeCredential>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Whether it asks for its tags when it logs in. A control server that takes tags from the key alone (headscale)
    /// refuses a node that asks.
    pub advertise_tags: bool,
    /// Whether the control server forgets it when it goes offline.
    pub ephemeral: bool,
    /// Whether its own logs are sent to Tailscale. A tailnet with network flow logs demands it.
    pub log_upload: bool,
}

/// A file with a secret that logs a node in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeCredential {
    /// An auth key.
    AuthKey(PathBuf),
    /// The secret of an OAuth client, which makes an auth key for the node's tags.
    OauthSecret(PathBuf),
}

/// The section.
pub(super) fn node(root: &mut Section<'_>) -> Node {
    let mut section = root.section("node");
    if let Some(mode) = section.value("mode") {
        mode.choice(&[("loopback", ())]);
    }
    let mut listen = Vec::new();
    if let Some(value) = section.value("listen") {
        let items = value.item_or_items("addresses");
        if items.is_empty() {
            value.refuse("must name at least one address, such as \"127.0.0.1:8080\"");
        }
        for item in items {
            if let Some(address) = address(&item) {
                add_new(&mut listen, address, &item);
            }
        }
    } else {
        listen.push(SocketAddr::from(([127, 0, 0, 1], 8080)));
    }
    section.finish();
    Node::Loopback { listen }
}

fn address(value: &Value<'_>) -> Option<SocketAddr> {
    let text = value.text("an address such as 127.0.0.1:8080")?;
    let Ok(address) = text.parse::<SocketAddr>() else {
        value.refuse(format_args!("{text:?} is no address with a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\""));
        return None;
    };
    if !is_loopback(address.ip()) {
        value.refuse(format_args!("mode loopback listens on 127.0.0.1 and [::1] only, not on {}", address.ip()));
        return None;
    }
    Some(address)
}

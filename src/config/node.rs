//! `[node]`: how the service is on the network. Refuses an address that the mode does not have.

use std::{net::SocketAddr, path::PathBuf};

use super::{
    is_loopback,
    section::{Section, Value},
    settings::{add_new, is_origin, plain_file},
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
    const MODES: [(&str, Mode); 3] = [("loopback", Mode::Loopback), ("host", Mode::Host), ("embedded", Mode::Embedded)];
    let mut section = root.section("node");
    let mode = section.value("mode").map_or(Mode::Loopback, |value| value.choice(&MODES).unwrap_or(Mode::Loopback));
    let listen = section.value("listen").map(|value| listen(&value, mode));
    let socket = section.value("socket").and_then(|value| file(&value, "\"/run/tailscale/tailscaled.sock\""));
    let port = section.number("port", PORT, 1..=u16::MAX);
    let embedded = embedded(&mut section, port, mode == Mode::Embedded);
    for (key, modes) in KEYS {
        if section.has(key) && !modes.contains(&mode) {
            let modes: Vec<&str> = modes.iter().map(|mode| mode.word()).collect();
            let modes = modes.join(" and ");
            section.refuse(key, format_args!("has no meaning in mode {}; it belongs to mode {modes}", mode.word()));
        }
    }
    section.finish();
    match mode {
        Mode::Loopback => {
            let default = || vec![SocketAddr::from(([127, 0, 0, 1], PORT))];
            Node::Loopback { listen: listen.unwrap_or_else(default) }
        }
        Mode::Host => {
            Node::Host(HostNode { socket: socket.unwrap_or_else(|| PathBuf::from(TAILSCALED)), port, listen })
        }
        Mode::Embedded => Node::Embedded(embedded),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Loopback,
    Host,
    Embedded,
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Host => "host",
            Self::Embedded => "embedded",
        }
    }
}

/// The modes that have each key. A key that would do nothing is refused: whoever wrote it expects something of it.
const KEYS: &[(&str, &[Mode])] = &[
    ("listen", &[Mode::Loopback, Mode::Host]),
    ("port", &[Mode::Host, Mode::Embedded]),
    ("socket", &[Mode::Host]),
    ("hostname", &[Mode::Embedded]),
    ("control_url", &[Mode::Embedded]),
    ("auth_key_file", &[Mode::Embedded]),
    ("oauth_secret_file", &[Mode::Embedded]),
    ("tags", &[Mode::Embedded]),
    ("advertise_tags", &[Mode::Embedded]),
    ("ephemeral", &[Mode::Embedded]),
    ("log_upload", &[Mode::Embedded]),
];

/// Where tailscaled listens for its clients unless it is told otherwise.
const TAILSCALED: &str = "/run/tailscale/tailscaled.sock";
const PORT: u16 = 8080;
const HOSTNAME: &str = "tailops";
const TAG: &str = "tag:tailops";

/// The keys of mode embedded; `used` where it is the mode.
fn embedded(section: &mut Section<'_>, port: u16, used: bool) -> EmbeddedNode {
    const WANTED: &str = "a name of 1 to 63 letters, digits and hyphens, such as \"tailops\"";
    let hostname = section.value("hostname").and_then(|value| {
        let text = value.text(WANTED)?;
        if is_label(text) {
            return Some(text.to_owned());
        }
        value.refuse(format_args!("{text:?} must be {WANTED}"));
        None
    });
    let control_url = section.value("control_url").and_then(|value| control_url(&value));
    let auth_key = section.value("auth_key_file").and_then(|value| file(&value, "\"/etc/tailops/auth-key\""));
    let secret = section.value("oauth_secret_file").and_then(|value| file(&value, "\"/etc/tailops/oauth-secret\""));
    if auth_key.is_some() && secret.is_some() {
        section.refuse("oauth_secret_file", "stands beside auth_key_file: one of them logs the node in");
    }
    let mut tags = Vec::new();
    let given = section.value("tags");
    match given.as_ref().and_then(|value| value.items("tags")) {
        Some(items) => {
            if used && items.is_empty() {
                // A node of a person loses its key after half a year, and acts with that person's rights meanwhile.
                section.refuse(
                    "tags",
                    "must name at least one tag, such as \"tag:tailops\": the gateway is no person's device",
                );
            }
            for item in items {
                if let Some(tag) = tag(&item) {
                    add_new(&mut tags, tag.to_owned(), &item);
                }
            }
        }
        None => tags.push(TAG.to_owned()),
    }
    let advertise_tags = section.flag("advertise_tags", true);
    if secret.is_some() && !advertise_tags {
        section.refuse("advertise_tags", "must be true with oauth_secret_file: such a secret makes keys for tags only");
    }
    EmbeddedNode {
        hostname: hostname.unwrap_or_else(|| HOSTNAME.to_owned()),
        port,
        control_url,
        credential: auth_key.map(NodeCredential::AuthKey).or(secret.map(NodeCredential::OauthSecret)),
        tags,
        advertise_tags,
        ephemeral: section.flag("ephemeral", false),
        log_upload: section.flag("log_upload", false),
    }
}

fn file(value: &Value<'_>, example: &str) -> Option<PathBuf> {
    let text = value.text("an absolute path")?;
    let path = plain_file(text);
    if path.is_none() {
        value.refuse(format_args!("{text:?} must be an absolute path in plain form, such as {example}"));
    }
    path
}

/// `https://HOST[:PORT]`; plain HTTP only to this machine and private addresses, as the node's own client takes it.
fn control_url(value: &Value<'_>) -> Option<String> {
    const WANTED: &str = "scheme, host and optional port alone, such as \"https://headscale.example.org\"";
    let text = value.text(WANTED)?;
    if is_origin(text) {
        return Some(text.to_owned());
    }
    value.refuse(format_args!("{text:?} must be {WANTED}"));
    None
}

/// One DNS label.
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A tag of the tailnet policy: `tag:` and a name that begins with a letter.
pub(super) fn tag<'a>(value: &Value<'a>) -> Option<&'a str> {
    const WANTED: &str = "a tag such as \"tag:mcp-client\"";
    let text = value.text(WANTED)?;
    if is_tag(text) {
        return Some(text);
    }
    value.refuse(format_args!("{text:?} must be {WANTED}: `tag:`, a letter, then letters, digits and hyphens"));
    None
}

/// Whether this is a tag of the tailnet policy.
pub fn is_tag(text: &str) -> bool {
    text.len() <= 64
        && text.strip_prefix("tag:").is_some_and(|name| {
            name.starts_with(|first: char| first.is_ascii_alphabetic())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
}

/// Where to listen, as far as the mode allows it.
fn listen(value: &Value<'_>, mode: Mode) -> Vec<SocketAddr> {
    let items = value.item_or_items("addresses");
    if items.is_empty() {
        value.refuse("must name at least one address, such as \"127.0.0.1:8080\"");
    }
    let mut listen = Vec::new();
    for item in items {
        if let Some(address) = address(&item, mode) {
            add_new(&mut listen, address, &item);
        }
    }
    listen
}

fn address(value: &Value<'_>, mode: Mode) -> Option<SocketAddr> {
    let text = value.text("an address such as 127.0.0.1:8080")?;
    let Ok(address) = text.parse::<SocketAddr>() else {
        value.refuse(format_args!("{text:?} is no address with a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\""));
        return None;
    };
    if mode == Mode::Loopback && !is_loopback(address.ip()) {
        value.refuse(format_args!("mode loopback listens on 127.0.0.1 and [::1] only, not on {}", address.ip()));
        return None;
    }
    Some(address)
}

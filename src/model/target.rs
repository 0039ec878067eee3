//! A target: something we operate.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use serde::Serialize;

use super::{EngagementId, HostKeyPin, ScopeSet, TargetId};

/// How a target is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetKind {
    /// The machine the gateway itself runs on.
    Local,
    /// A machine reached by SSH.
    Ssh,
    /// A Docker engine.
    Docker,
    /// An HTTP API.
    Http,
}

impl TargetKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Local, Self::Ssh, Self::Docker, Self::Http];

    /// The word used in configuration and replies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Ssh => "ssh",
            Self::Docker => "docker",
            Self::Http => "http",
        }
    }
}

/// How far `sudo -n` may be used on a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SudoPolicy {
    /// Never: commands run as the login user.
    #[default]
    None,
    /// For the exact command lines that the host's sudoers file lists.
    Limited,
    /// For every change: the host's sudoers file lets the login user run anything.
    Full,
}

impl SudoPolicy {
    /// The word used in configuration and replies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Limited => "limited",
            Self::Full => "full",
        }
    }

    /// Whether `sudo -n` is used at all.
    pub fn is_used(self) -> bool {
        self != Self::None
    }
}

/// What a registry says of a target beyond what the configuration file can.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    /// Where it is. None for the machine the gateway runs on.
    pub connection: Option<Connection>,
    /// The name the machine gives itself.
    pub hostname: Option<String>,
    /// What it runs, e.g. `ubuntu-22.04`.
    pub platform: Option<String>,
}

/// Where a target is and who logs in there. Holds no secret: a key is only referred to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// A host name or an address.
    pub host: String,
    /// The port, if it is not the usual one.
    pub port: Option<u16>,
    /// The login user.
    pub username: Option<String>,
    /// Where the key is.
    pub key: Option<KeyReference>,
    /// An OpenSSH certificate for that key.
    pub certificate: Option<PathBuf>,
    /// The host keys it was enrolled with. A host that shows none of them is not talked to.
    pub host_keys: Vec<HostKeyPin>,
    /// The stable id of its node on the tailnet, where the network map's host keys of that node may speak for it.
    pub node: Option<String>,
    /// The target that it is reached through.
    pub jump: Option<TargetId>,
    /// That target, once the registry has found it: of the same engagement, and itself reached by SSH.
    pub via: Option<Arc<Target>>,
    /// The longest connecting may take.
    pub timeout: Duration,
}

/// Where a key is. Neither the variable nor the file is read when a registry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyReference {
    /// An environment variable, written `${NAME}`, that names it.
    Variable(String),
    /// A file.
    File(PathBuf),
}

impl fmt::Display for KeyReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "${{{name}}}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// One target as configured. The registry hands it out only to its own engagement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its id, unique in the whole registry.
    pub id: TargetId,
    /// How it is reached.
    pub kind: TargetKind,
    /// The tenant it belongs to.
    pub engagement: EngagementId,
    /// What may be done to it, whatever a token says.
    pub capabilities: ScopeSet,
    /// A label site policy can select, e.g. `production-a`.
    pub segment: Option<String>,
    /// Free labels.
    pub tags: Vec<String>,
    /// The directories file tools stay inside: absolute and canonical, without a trailing slash.
    pub roots: Vec<PathBuf>,
    /// The longest one step may take.
    pub timeout: Duration,
    /// The most steps at the same time.
    pub concurrency: usize,
    /// Whether `sudo -n` is used for changes.
    pub sudo: SudoPolicy,
    /// What a registry says of it; none where the configuration file is all there is.
    pub registered: Option<Box<Registered>>,
}

impl Target {
    /// Where it is, as a registry says. None for the machine the gateway runs on.
    pub fn connection(&self) -> Option<&Connection> {
        self.registered.as_deref()?.connection.as_ref()
    }

    /// Whether it names a jump host that the registry could not find: there is no way to it, least of all a direct one.
    pub fn is_cut_off(&self) -> bool {
        self.connection().is_some_and(|connection| connection.jump.is_some() && connection.via.is_none())
    }
}

impl Connection {
    /// Whether both lead to the same place: the same host and port by the same way. A host key is enrolled for that.
    pub fn is_same_place(&self, other: &Self) -> bool {
        let port = |connection: &Self| connection.port.unwrap_or(22);
        self.host == other.host && port(self) == port(other) && self.jump == other.jump
    }
}

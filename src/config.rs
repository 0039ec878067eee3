//! The configuration: TOML text in, a validated [`Config`] or every problem out. Answers for defaults, ranges, unknown
//! keys and what a profile forbids. Reads no file, no environment and no secret; docs/configuration.md lists the keys.

mod approvals;
mod clear;
mod credentials;
mod files;
mod fleet;
mod guard;
mod node;
mod policy;
mod probe;
mod problem;
mod registry;
mod reload;
mod section;
mod settings;
mod show;
mod ssh;
mod tailnet;
mod tls;
mod yaml;

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use toml::de::DeTable;

use self::{problem::Report, section::Section};
use crate::model::{EngagementId, ProbeRules, Scope, ScopeSet, SudoPolicy, Target, TargetId, TargetKind};

pub use approvals::{Approvals, Notify, NotifyForm, Webhook};
pub use clear::ClearListener;
pub(crate) use clear::may_be_private;
pub use credentials::CredentialAges;
pub use files::{Files, Places, RootFault};
pub use fleet::{ID as ID_FORM, is_id};
pub use guard::{Guard, PiiAction};
pub use node::{EmbeddedNode, HostNode, Node, NodeCredential, is_tag};
pub use policy::{PolicyException, SiteFile, SitePolicy};
pub use problem::{Problem, Problems, did_you_mean};
pub use registry::{read_import, read_registry, registry_entry, registry_file};
pub use ssh::{HostCa, Ssh, UserCa};
pub use tailnet::{CAPABILITY, GrantsMode, Tailnet};
pub use tls::Tls;

/// Where the service keeps its state unless it is told.
pub const DATA_DIR: &str = "/var/lib/tailops";

/// Everything the service is told at start.
#[derive(Clone, Debug)]
pub struct Config {
    /// How strict it is.
    pub profile: Profile,
    /// Where it keeps its state. Absolute.
    pub data_dir: PathBuf,
    /// How it is on the network.
    pub node: Node,
    /// Which peers of the tailnet may come in, and with which rights.
    pub tailnet: Tailnet,
    /// Limits of HTTP itself.
    pub http: Http,
    /// Whether HTTP is wrapped in TLS, and with which certificate.
    pub tls: Tls,
    /// How often something may happen.
    pub limits: Limits,
    /// MCP sessions of older protocol revisions.
    pub sessions: Sessions,
    /// How operations are carried out.
    pub exec: Exec,
    /// How targets are reached over SSH.
    pub ssh: Ssh,
    /// How old the gateway's own secrets may grow.
    pub credentials: CredentialAges,
    /// What is taken out of answers.
    pub guard: Guard,
    /// What probes may reach.
    pub probe: ProbeRules,
    /// What may be written into files on targets.
    pub files: Files,
    /// Who may say yes, and how they are asked.
    pub approvals: Approvals,
    /// The service's own log.
    pub log: Log,
    /// The site's own rules.
    pub policy: SitePolicy,
    /// The tenants, by id.
    pub engagements: Vec<Engagement>,
    /// The targets, by id. Each belongs to one of `engagements`.
    pub targets: Vec<Target>,
    /// A registry file with more targets. Absolute.
    pub targets_file: Option<PathBuf>,
    /// The targets of that file; none until somebody has read it ([`Config::register`]).
    pub registered: Vec<Target>,
}

/// How strict the service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// For trying things out.
    Development,
    /// For use.
    Recommended,
    /// For use where an intruder is expected.
    Maximum,
}

impl Profile {
    /// Every profile, the most lenient first.
    pub const ALL: [Self; 3] = [Self::Development, Self::Recommended, Self::Maximum];

    /// The word used in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Recommended => "recommended",
            Self::Maximum => "maximum",
        }
    }

    /// The longest life a new token may have: 365 days, 30 days, 24 hours.
    pub fn max_token_ttl(self) -> Duration {
        let days = match self {
            Self::Development => 365,
            Self::Recommended => 30,
            Self::Maximum => 1,
        };
        Duration::from_hours(24 * days)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown profile {0:?}; the profiles are development, recommended and maximum")]
pub struct UnknownProfile(String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(text: &str) -> Result<Self, UnknownProfile> {
        Self::ALL.into_iter().find(|profile| profile.as_str() == text).ok_or_else(|| UnknownProfile(text.to_owned()))
    }
}

/// Whether loopback mode may listen on `ip`: exactly 127.0.0.1 or ::1. The rest of 127/8 and mapped addresses are
/// refused: nothing that merely looks local.
pub fn is_loopback(ip: IpAddr) -> bool {
    ip == IpAddr::V4(Ipv4Addr::LOCALHOST) || ip == IpAddr::V6(Ipv6Addr::LOCALHOST)
}

/// Limits of HTTP itself, all of them in force before a request is parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// The names a request's Host may have, lower case, without port.
    pub hosts: Vec<String>,
    /// The local users whose processes may relay requests of tailnet peers on a loopback listener, by uid: `tailscale
    /// serve` in front of the gateway, which runs as uid 0.
    pub trusted_proxies: BTreeSet<u32>,
    /// The values a request's Origin may have. A request without Origin comes from no browser and passes.
    pub origins: Vec<String>,
    /// The largest body, in bytes.
    pub max_body_bytes: usize,
    /// The largest request line and headers together, in bytes.
    pub max_header_bytes: usize,
    /// The most connections at the same time.
    pub max_connections: usize,
    /// The most connections of one peer at the same time.
    pub max_connections_per_peer: usize,
    /// The longest a request's headers may take.
    pub header_timeout: Duration,
    /// The longest a request's body may take.
    pub body_timeout: Duration,
    /// The longest a connection may be without a request.
    pub idle_timeout: Duration,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            hosts: ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).into(),
            trusted_proxies: BTreeSet::new(),
            origins: Vec::new(),
            max_body_bytes: 50_000_000,
            max_header_bytes: 16 << 10,
            max_connections: 512,
            max_connections_per_peer: 128,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(120),
        }
    }
}

/// How often something may happen, per token unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls of any kind, in the long run.
    pub calls_per_minute: NonZeroU32,
    /// Calls of any kind at once.
    pub calls_burst: NonZeroU32,
    /// Calls that change something.
    pub writes_per_minute: NonZeroU32,
    /// Calls of critical risk.
    pub critical_per_hour: NonZeroU32,
    /// Failed authentications, per peer.
    pub auth_failures_per_minute: NonZeroU32,
    /// Refusals of one source that are recorded one by one in a minute; the rest are counted in one record.
    pub refusals_recorded_per_minute: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        const fn times(count: u32) -> NonZeroU32 {
            NonZeroU32::MIN.saturating_add(count - 1)
        }
        Self {
            calls_per_minute: times(1200),
            calls_burst: times(120),
            writes_per_minute: times(30),
            critical_per_hour: times(10),
            auth_failures_per_minute: times(20),
            refusals_recorded_per_minute: times(10),
        }
    }
}

/// MCP sessions of older protocol revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// The most at the same time.
    pub max: usize,
    /// The most of one token at the same time.
    pub max_per_token: usize,
    /// How old one may grow.
    pub max_age: Duration,
    /// How long one may be unused.
    pub idle: Duration,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { max: 256, max_per_token: 32, max_age: Duration::from_hours(8), idle: Duration::from_mins(15) }
    }
}

/// How operations are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exec {
    /// The most steps at the same time, on all targets together.
    pub concurrency: usize,
    /// The longest a step waits for its turn.
    pub queue_timeout: Duration,
    /// How much of a step's standard output is kept, in bytes.
    pub max_stdout_bytes: usize,
    /// How much of a step's standard error is kept, in bytes.
    pub max_stderr_bytes: usize,
    /// How much a step may write at all before it is ended, in bytes.
    pub hard_output_bytes: u64,
}

impl Default for Exec {
    fn default() -> Self {
        Self {
            concurrency: 16,
            queue_timeout: Duration::from_secs(10),
            max_stdout_bytes: 1 << 20,
            max_stderr_bytes: 64 << 10,
            hard_output_bytes: 64 << 20,
        }
    }
}

/// The service's own log. Not the audit log, which nothing turns off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least level that is written: `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// Its form.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Auto }
    }
}

/// The form of the service's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// For programs: one object a line.
    Json,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engagement {
    /// Its id.
    pub id: EngagementId,
    /// The only tools its tokens may call; none means every tool.
    pub tools: Option<BTreeSet<String>>,
    /// Its own directory on this machine: a file root of its local targets, and of nobody else's.
    pub data_root: Option<PathBuf>,
}

/// Reads a configuration. `path` only names the file in problems; `tools` are the names of all tools.
///
/// Errors with every problem there is. Only a text that is not TOML is checked no further than its syntax.
pub fn load(path: &Path, text: &str, tools: &[&str]) -> Result<Config, Problems> {
    let report = Report::new(text);
    let (tree, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        report.add(error.span().unwrap_or(text.len()..text.len()), "", error.message());
    }
    // What the parser makes of a broken text is a guess, and not worth a report of its own.
    let empty = toml::Spanned::new(0..0, DeTable::new());
    let tree = if errors.is_empty() { &tree } else { &empty };
    let config = read(Section::root(&report, tree), tools);
    report.into_problems(path.display()).map_or(Ok(config), Err)
}

/// The whole file.
fn read(mut root: Section<'_>, tools: &[&str]) -> Config {
    let profile = settings::profile(&mut root);
    let engagements = fleet::engagements(&mut root, tools);
    let data_dir = settings::data_dir(&mut root);
    let targets = fleet::targets(&mut root, &engagements, &data_dir);
    let node = node::node(&mut root);
    let config = Config {
        profile,
        tailnet: tailnet::tailnet(&mut root, node.mode()),
        tls: tls::tls(&mut root, node.mode()),
        http: settings::http(&mut root, node.mode()),
        node,
        limits: settings::limits(&mut root, profile),
        sessions: settings::sessions(&mut root, profile),
        exec: settings::exec(&mut root),
        ssh: ssh::ssh(&mut root, profile),
        credentials: credentials::credentials(&mut root, profile),
        files: files::read(&mut root),
        guard: guard::guard(&mut root),
        probe: probe::probe(&mut root, &engagements),
        approvals: approvals::approvals(&mut root, profile),
        log: settings::log(&mut root, profile),
        policy: policy::policy(&mut root, tools),
        targets,
        data_dir,
        targets_file: settings::targets_file(&mut root),
        registered: Vec::new(),
        engagements,
    };
    root.finish();
    config
}

impl Config {
    /// What `serve --dev` uses: this machine as target `local` of engagement `default`, with everything that can be
    /// done to a host, files inside `data_dir`/files and /var/log, no sudo, and probes of this machine.
    pub fn development(data_dir: PathBuf, listen: SocketAddr) -> Self {
        let engagement = EngagementId::from("default");
        let local = Target {
            id: "local".into(),
            kind: TargetKind::Local,
            engagement: engagement.clone(),
            capabilities: ScopeSet::new([Scope::SystemAdmin, Scope::LogRead, Scope::NetworkDiag, Scope::FileWrite]),
            segment: None,
            tags: Vec::new(),
            roots: vec![data_dir.join("files"), PathBuf::from("/var/log")],
            timeout: fleet::TIMEOUT,
            concurrency: fleet::CONCURRENCY,
            sudo: SudoPolicy::None,
            registered: None,
        };
        Self {
            profile: Profile::Development,
            data_dir,
            node: Node::Loopback { listen: vec![listen] },
            tailnet: Tailnet::default(),
            tls: Tls::Off,
            http: Http::default(),
            limits: Limits::default(),
            sessions: Sessions::default(),
            exec: Exec::default(),
            ssh: Ssh::default(),
            credentials: CredentialAges::default(),
            files: Files::default(),
            guard: Guard::default(),
            probe: probe::development(),
            approvals: Approvals::default(),
            log: Log::default(),
            policy: SitePolicy::default(),
            engagements: vec![Engagement { id: engagement, tools: None, data_root: None }],
            targets: vec![local],
            targets_file: None,
            registered: Vec::new(),
        }
    }

    /// The ids of the engagements.
    pub fn engagement_ids(&self) -> Vec<EngagementId> {
        self.engagements.iter().map(|engagement| engagement.id.clone()).collect()
    }

    /// Takes over the targets of `targets_file`. Errors with the id of one that is configured already.
    pub fn register(&mut self, targets: Vec<Target>) -> Result<(), TargetId> {
        let taken = |target: &&Target| self.targets.iter().any(|known| known.id == target.id);
        if let Some(target) = targets.iter().find(taken) {
            return Err(target.id.clone());
        }
        self.registered = targets;
        Ok(())
    }
}

#[cfg(test)]
mod tests;

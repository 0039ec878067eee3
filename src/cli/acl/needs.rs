//! What one gateway needs of its tailnet policy, from its configuration and the command line. Pure; every text in it
//! has been checked for the dialect, so it can be written into a policy as it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
};

use anyhow::{anyhow, bail, ensure};
use clap::{Args, ValueEnum};

use crate::{
    config::{Config, GrantsMode, Node},
    model::{ScopeSet, Target, TargetKind},
};

/// The tag of a gateway whose configuration names none.
const TAG: &str = "tag:tailops";
/// The tag of agents, where nothing else is said.
const CLIENT: &str = "tag:mcp-client";

/// Whose policy language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Dialect {
    /// Tailscale's own control server
    Saas,
    /// Headscale
    Headscale,
}

/// What the command line says of the gateway and of those who use it.
#[derive(Args, Clone, Debug)]
pub(super) struct Wanted {
    /// The gateway's configuration
    #[arg(long, value_name = "FILE", default_value = "tailops.toml")]
    pub(super) config: PathBuf,
    /// Whose policy language
    #[arg(long, value_enum, default_value = "saas")]
    pub(super) dialect: Dialect,
    /// The gateway's tag [default: the first one of node.tags, or tag:tailops]
    #[arg(long, value_name = "TAG")]
    pub(super) tag: Option<String>,
    /// The gateway's port on the tailnet [default: node.port]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) port: Option<u16>,
    /// Who may give out the tags, e.g. alice@example.com or group:it; headscale needs it (may be repeated) [default:
    /// autogroup:admin]
    #[arg(long = "owner", value_name = "WHO")]
    pub(super) owners: Vec<String>,
    /// An agent's tag, a group or a user that may connect (may be repeated) [default: those of tailnet.require, or
    /// tag:mcp-client]
    #[arg(long, value_name = "WHO")]
    pub(super) clients: Vec<String>,
    /// What the clients may do at most
    #[arg(long, value_name = "SCOPES", default_value = "readonly", value_parser = ScopeSet::parse)]
    pub(super) scopes: ScopeSet,
    /// A tag, a group or a user that may also change something (may be repeated)
    #[arg(long, value_name = "WHO")]
    pub(super) operators: Vec<String>,
    /// What the operators may do at most
    #[arg(long, value_name = "SCOPES", default_value = "readonly,system:control", value_parser = ScopeSet::parse)]
    pub(super) operator_scopes: ScopeSet,
    /// A group or a user that decides on what waits for approval (may be repeated)
    #[arg(long, value_name = "WHO")]
    pub(super) approvers: Vec<String>,
    /// A member of a group that the policy is to define, e.g. group:ops=alice@example.com (may be repeated)
    #[arg(long = "member", value_name = "GROUP=USER")]
    pub(super) members: Vec<String>,
    /// The tag that every machine has that the gateway operates [default: the machines by their addresses]
    #[arg(long, value_name = "TAG")]
    pub(super) target_tag: Option<String>,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Needs {
    pub(super) dialect: Dialect,
    /// The gateway's tags; the first is the one that rules name.
    pub(super) tags: Vec<String>,
    pub(super) port: u16,
    pub(super) capability: String,
    /// Whether a peer without a rule of the capability is refused.
    pub(super) grants_required: bool,
    /// Who may give out tags; empty where that was not asked for.
    pub(super) owners: Vec<String>,
    pub(super) agents: Party,
    pub(super) operators: Party,
    pub(super) approvers: Party,
    /// The members of every group that the policy is to define.
    pub(super) groups: BTreeMap<String, Vec<String>>,
    pub(super) target_tag: Option<String>,
    /// The machines by the name they get in the policy.
    pub(super) hosts: BTreeMap<String, IpAddr>,
    /// What the gateway connects to: by port, the tag or the names of machines.
    pub(super) reach: BTreeMap<u16, BTreeSet<String>>,
    /// What the reader should know: what was left out, what will not work.
    pub(super) notes: Vec<String>,
}

/// Those with the same rights.
#[derive(Debug)]
pub(super) struct Party {
    /// Tags, groups and users.
    pub(super) who: Vec<String>,
    pub(super) scopes: ScopeSet,
}

impl Needs {
    /// What `config` and `wanted` need. With `owned`, it must also be known who gives out tags. Errors with the flag
    /// that is wrong and what would be right.
    pub(super) fn of(config: &Config, wanted: &Wanted, owned: bool) -> anyhow::Result<Self> {
        let (port, configured) = match &config.node {
            Node::Loopback { .. } => (None, Vec::new()),
            Node::Host(node) => (Some(node.port), Vec::new()),
            Node::Embedded(node) => (Some(node.port), node.tags.clone()),
        };
        let port = wanted.port.or(port).filter(|port| *port > 0);
        let port = port.ok_or_else(|| {
            anyhow!("--port: the configuration's node is in mode {}, which has no port on a tailnet: give --port PORT, or set node.mode to host or embedded", config.node.mode())
        })?;
        let tags = gateway_tags(wanted.tag.as_deref(), configured)?;
        let tailnet = &config.tailnet;
        let mut clients = wanted.clients.clone();
        if clients.is_empty() {
            clients.extend(tailnet.require_tags.iter().chain(&tailnet.require_users).cloned());
        }
        if clients.is_empty() {
            clients.push(CLIENT.to_owned());
        }
        let party = |flag: &str, given: &[String], scopes: ScopeSet| {
            ensure!(!scopes.is_empty(), "--{flag}: no scopes, and so no rights: name at least one");
            let mut who: Vec<String> = Vec::new();
            for one in given {
                principal(flag, one)?;
                ensure!(
                    !tags.contains(one),
                    "--{flag}: {one} is the gateway's own tag, and the gateway refuses itself"
                );
                if !who.contains(one) {
                    who.push(one.clone());
                }
            }
            Ok(Party { who, scopes })
        };
        let agents = party("clients", &clients, wanted.scopes)?;
        let operators = party("operators", &wanted.operators, wanted.operator_scopes)?;
        let approvers = party("approvers", &wanted.approvers, ScopeSet::new([crate::model::Scope::ApprovalRead]))?;
        if let Some(tag) = approvers.who.iter().find(|who| who.starts_with("tag:")) {
            bail!("--approvers: {tag} is a tag, and approving takes a person: name a group: or a user");
        }
        let owners = owners(wanted, owned)?;
        let target_tag = wanted.target_tag.clone();
        if let Some(tag) = &target_tag {
            ensure!(is_tag(tag), "--target-tag: {tag:?} is no tag, such as tag:server");
            ensure!(!tags.contains(tag), "--target-tag: {tag} is the gateway's own tag");
        }
        let mut needs = Self {
            dialect: wanted.dialect,
            tags,
            port,
            capability: tailnet.capability.clone(),
            grants_required: tailnet.grants == GrantsMode::Required,
            owners,
            agents,
            operators,
            approvers,
            groups: BTreeMap::new(),
            target_tag,
            hosts: BTreeMap::new(),
            reach: BTreeMap::new(),
            notes: Vec::new(),
        };
        needs.define_groups(&wanted.members)?;
        for target in config.targets.iter().chain(&config.registered) {
            needs.connect(target);
        }
        let required = || tailnet.require_tags.iter().chain(&tailnet.require_users);
        if required().next().is_some() {
            let shut_out =
                needs.clients().filter(|who| !who.starts_with("group:") && !required().any(|one| one == who));
            let notes: Vec<_> = shut_out
                .map(|who| format!("{who} is not in tailnet.require of the configuration: the gateway will refuse it"))
                .collect();
            needs.notes.extend(notes);
        }
        Ok(needs)
    }

    /// The tag that rules name.
    pub(super) fn tag(&self) -> &str {
        self.tags.first().map_or(TAG, String::as_str)
    }

    /// Everyone who connects, each once.
    pub(super) fn clients(&self) -> impl Iterator<Item = &str> {
        let mut seen = BTreeSet::new();
        let parties = [&self.agents, &self.operators, &self.approvers];
        parties.into_iter().flat_map(|party| &party.who).map(String::as_str).filter(move |who| seen.insert(*who))
    }

    /// A port of the gateway's machine that nobody needs.
    pub(super) fn other_port(&self) -> u16 {
        if self.port == 22 { 23 } else { 22 }
    }

    /// The groups that the policy is to define: all that are named. Tailscale brings in those of an identity provider,
    /// whose names have a domain, by itself.
    fn define_groups(&mut self, members: &[String]) -> anyhow::Result<()> {
        let named = self.clients().chain(self.owners.iter().map(String::as_str));
        let own = |who: &&str| who.starts_with("group:") && !(self.dialect == Dialect::Saas && who.contains('@'));
        let mut groups: BTreeMap<String, Vec<String>> =
            named.filter(own).map(|group| (group.to_owned(), Vec::new())).collect();
        for member in members {
            let (group, user) = member.split_once('=').ok_or_else(|| {
                anyhow!("--member: {member:?} must be a group and a user, such as group:ops=alice@example.com")
            })?;
            let Some(list) = groups.get_mut(group) else {
                bail!(
                    "--member: {group:?} is named by no other flag: name it with --clients, --operators, --approvers or --owner"
                );
            };
            ensure!(is_user(user), "--member: {user:?} is no user, such as alice@example.com");
            if !list.iter().any(|known| known == user) {
                list.push(user.to_owned());
            }
        }
        self.groups = groups;
        Ok(())
    }

    /// Adds the way to one target.
    fn connect(&mut self, target: &Target) {
        if target.kind == TargetKind::Local {
            return;
        }
        let connection = target.registered.as_ref().and_then(|registered| registered.connection.as_ref());
        let Some(connection) = connection else {
            self.notes.push(format!("target {}: the configuration does not say where it is; left out", target.id));
            return;
        };
        let port = connection.port.unwrap_or(match target.kind {
            TargetKind::Docker => 2376,
            TargetKind::Http => 443,
            TargetKind::Ssh | TargetKind::Local => 22,
        });
        let name = if let Some(tag) = &self.target_tag {
            tag.clone()
        } else if let Ok(address) = connection.host.parse::<IpAddr>() {
            if address.is_loopback() || address.is_unspecified() {
                self.notes.push(format!("target {}: {address} is the gateway's own machine; left out", target.id));
                return;
            }
            // A name that reads as an address would be taken for it.
            let id = target.id.as_str();
            let name = if id.parse::<IpAddr>().is_ok() { format!("host-{id}") } else { id.to_owned() };
            self.hosts.insert(name.clone(), address);
            name
        } else {
            self.notes.push(format!(
                "target {}: {:?} is a name, and a policy takes tags and addresses: give its machines a tag and --target-tag TAG, or write its address into the registry; left out",
                target.id, connection.host
            ));
            return;
        };
        self.reach.entry(port).or_default().insert(name);
    }
}

fn gateway_tags(given: Option<&str>, configured: Vec<String>) -> anyhow::Result<Vec<String>> {
    let tags = match given {
        None if configured.is_empty() => vec![TAG.to_owned()],
        None => configured,
        Some(tag) if configured.is_empty() || configured.iter().any(|known| known == tag) => {
            let others = configured.iter().filter(|other| *other != tag).cloned();
            std::iter::once(tag.to_owned()).chain(others).collect()
        }
        Some(tag) => bail!("--tag: {tag:?} is none of node.tags in the configuration: {}", configured.join(", ")),
    };
    match tags.iter().find(|tag| !is_tag(tag)) {
        Some(tag) => bail!("--tag: {tag:?} is no tag, such as {TAG}: letters, digits and hyphens, a letter first"),
        None => Ok(tags),
    }
}

fn owners(wanted: &Wanted, owned: bool) -> anyhow::Result<Vec<String>> {
    const ROLES: [&str; 4] = ["autogroup:owner", "autogroup:admin", "autogroup:it-admin", "autogroup:network-admin"];
    let mut owners = Vec::new();
    for owner in &wanted.owners {
        match wanted.dialect {
            Dialect::Headscale if owner.starts_with("autogroup:") => {
                bail!("--owner: headscale knows no {owner}: name users, such as alice@, or groups, such as group:it");
            }
            Dialect::Saas if ROLES.contains(&owner.as_str()) => {}
            _ => ensure!(
                is_user(owner) || is_group(owner),
                "--owner: {owner:?} must be a person or a group of people, such as alice@example.com or group:it: whoever owns a tag can be what the tag stands for"
            ),
        }
        if !owners.contains(owner) {
            owners.push(owner.clone());
        }
    }
    if owners.is_empty() && owned {
        ensure!(
            wanted.dialect == Dialect::Saas,
            "--owner: headscale knows no autogroup:admin, so say who gives out the tags: --owner alice@ or --owner group:it"
        );
        owners.push("autogroup:admin".to_owned());
    }
    Ok(owners)
}

/// Whether `who` may stand as a client: a tag, a group or a user, and nothing that stands for everybody.
fn principal(flag: &str, who: &str) -> anyhow::Result<()> {
    if who == "*" || who.starts_with("autogroup:") {
        bail!("--{flag}: {who} lets in everybody whom it stands for, now and later: name tags, groups or users");
    }
    ensure!(
        is_tag(who) || is_group(who) || is_user(who),
        "--{flag}: {who:?} must be a tag, a group or a user, such as tag:mcp-client, group:ops or alice@example.com"
    );
    Ok(())
}

fn is_tag(text: &str) -> bool {
    text.strip_prefix("tag:").is_some_and(|name| {
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })
}

fn is_group(text: &str) -> bool {
    text.strip_prefix("group:").is_some_and(|name| !name.is_empty() && name.chars().all(is_plain))
}

/// A login name: with an @ in it, which is all that sets it apart from a host's name.
fn is_user(text: &str) -> bool {
    text.split_once('@').is_some_and(|(name, domain)| !name.is_empty() && !domain.contains('@'))
        && !text.contains(':')
        && text.chars().all(is_plain)
}

fn is_plain(c: char) -> bool {
    !c.is_control() && !c.is_whitespace() && !matches!(c, '"' | '\\' | ',' | '*')
}

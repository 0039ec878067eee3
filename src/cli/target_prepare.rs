//! `tailops target prepare`: what a host needs so that the gateway can log in on it and do what the registry lets it, as
//! a script to be read and run there by its administrator. Connects to nothing and changes nothing here.

mod script;

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, anyhow, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::{
    Exit, say,
    sources::{Sources, invalid},
};
use crate::{
    config::{self, read_registry, registry_file},
    exec::public_key_of,
    model::{Connection, EngagementId, KeyReference, Network, Scope, SudoPolicy, Target, TargetKind},
    tools::{SudoRule, sudo_rules},
};

/// The port of SSH.
const PORT: u16 = 22;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The target's id
    id: String,
    /// The configuration whose [ssh] section counts: for the login user, and for the authority's public key
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A unit that may be controlled with sudo; can be given several times
    #[arg(long = "unit", value_name = "UNIT")]
    units: Vec<String>,
    /// A network that logins may come from, such as 100.64.0.7/32; can be given several times
    #[arg(long, value_name = "CIDR")]
    from: Vec<Network>,
    /// The public key file of the login key, where the key itself is elsewhere
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// Print only what is lacking, and exit with 1 if anything is
    #[arg(long, conflicts_with = "json")]
    check: bool,
    /// As an object: the script and its parts
    #[arg(long)]
    json: bool,
}

/// A file that the host needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct File {
    path: &'static str,
    mode: &'static str,
    content: String,
    why: String,
}

/// What the host needs.
#[derive(Debug, Serialize)]
struct Needs {
    target: String,
    user: String,
    groups: Vec<&'static str>,
    files: Vec<File>,
    /// What is lacking here, or worth a look.
    notes: Vec<String>,
}

/// Prints what the target `arguments.id` of `entries` needs: every target by its id, as it stands in a registry file.
pub(super) fn run(entries: &BTreeMap<String, Value>, arguments: &Arguments) -> Result<(), Exit> {
    let ssh = match &arguments.config {
        Some(file) => Sources::of(file).read().map_err(invalid)?.config.ssh,
        None => config::Ssh::default(),
    };
    let targets = entries.iter().map(|(id, entry)| read(id, entry)).collect::<anyhow::Result<Vec<_>>>()?;
    let needs = needs(&targets, &ssh, arguments)?;
    if arguments.check {
        for note in &needs.notes {
            say(note)?;
        }
        return match needs.notes.len() {
            0 => Ok(()),
            count => Err(Exit::with(1, anyhow!("{count} to look at before {} is prepared", arguments.id))),
        };
    }
    let script = script::of(&needs);
    if !arguments.json {
        return Ok(say(script.trim_end())?);
    }
    let mut object = serde_json::to_value(&needs).context("the parts of the script")?;
    if let Value::Object(object) = &mut object {
        object.insert("script".to_owned(), script.into());
    }
    Ok(say(object)?)
}

fn read(id: &str, entry: &Value) -> anyhow::Result<Target> {
    let engagement = entry.get("engagement").and_then(Value::as_str).unwrap_or_default();
    let engagement = EngagementId::from(engagement);
    let text = registry_file([(id, entry)]);
    let targets = read_registry(&PathBuf::from("registry"), &text, &engagement, std::slice::from_ref(&engagement));
    let targets = targets.map_err(|problems| anyhow!("target {id} is damaged in the registry: {problems}"))?;
    targets.into_iter().next().with_context(|| format!("target {id} is damaged in the registry"))
}

fn connection(target: &Target) -> Option<&Connection> {
    target.registered.as_ref()?.connection.as_ref()
}

fn needs(targets: &[Target], ssh: &config::Ssh, arguments: &Arguments) -> anyhow::Result<Needs> {
    let id = arguments.id.as_str();
    let target = targets.iter().find(|target| target.id.as_str() == id);
    let target =
        target.with_context(|| format!("there is no target {id:?}; `tailops target list` shows those there are"))?;
    let reached = connection(target).filter(|_| target.kind == TargetKind::Ssh);
    let reached = reached.with_context(|| format!("target {id} is not reached by SSH: there is nothing to prepare"))?;
    let user = reached.username.clone().unwrap_or_else(|| ssh.user.clone());
    ensure!(user != "root", "target {id} logs in as root: give it a user of its own, and sudo for what it changes");
    ensure!(
        is_user(&user),
        "the login user {user:?} must start with a-z or `_` and go on with a-z, 0-9, `_`, `-` and `.`: in sudoers another \
         name can mean something else"
    );
    let rules = match target.sudo {
        SudoPolicy::None => Vec::new(),
        SudoPolicy::Limited => {
            sudo_rules(&user, &target.capabilities, &arguments.units).map_err(|e| anyhow!("--unit: {e}"))?
        }
        SudoPolicy::Full => vec![everything(&user)],
    };
    let behind: Vec<String> = targets.iter().filter_map(|other| way_to(other, id)).collect();
    let (mut files, minted) = credential(reached, &user, ssh, &behind, arguments)?;
    files.push(File {
        path: script::CONFIGURATION,
        mode: "0644",
        content: script::sshd(&user, minted, &behind),
        why: "for this user alone: who may log in, and that logins run commands and nothing else".to_owned(),
    });
    if !rules.is_empty() {
        files.push(File {
            path: "/etc/sudoers.d/tailops",
            mode: "0440",
            content: script::sudoers(&rules),
            why: "the exact command lines of the tools that this target's capabilities allow".to_owned(),
        });
    }
    let mut groups = Vec::new();
    if target.capabilities.allows(Scope::LogRead) || target.capabilities.allows(Scope::SystemRead) {
        groups.push("systemd-journal");
    }
    let notes = notes(target, reached, ssh, &rules, arguments);
    Ok(Needs { target: id.to_owned(), user, groups, files, notes })
}

/// A name that sudoers takes for nothing but a user: an upper-case one is an alias there, and `ALL` is everybody.
fn is_user(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.".contains(&byte);
    first && name.len() <= 32 && name.bytes().all(rest)
}

fn everything(user: &str) -> SudoRule {
    SudoRule {
        tool: "every tool",
        line: format!("{user} ALL=(root) NOPASSWD: ALL"),
        beyond: "this is root without a password: limited is better",
        expression: false,
    }
}

/// Where `other` is, as seen from the target `id` that it is reached through.
fn way_to(other: &Target, id: &str) -> Option<String> {
    let connection = connection(other)?;
    if connection.jump.as_ref()?.as_str() != id {
        return None;
    }
    let port = connection.port.unwrap_or(PORT);
    let host = &connection.host;
    Some(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
}

/// The files that let `user` log in, and whether by a certificate. `behind` are the hosts that are reached through this
/// one.
fn credential(
    connection: &Connection,
    user: &str,
    ssh: &config::Ssh,
    behind: &[String],
    arguments: &Arguments,
) -> anyhow::Result<(Vec<File>, bool)> {
    if let Some(certificate) = &connection.certificate {
        anyhow::bail!(
            "this target logs in with the certificate {}: whoever made it knows what the host has to trust",
            certificate.display()
        );
    }
    let public = |path: &PathBuf| public_key_of(path).map_err(|why| anyhow!("{}: {why}", path.display()));
    let given = arguments.public_key.as_ref().map(|path| line_of(path)).transpose()?;
    if let Some(key) = &connection.key {
        let key = match (given, key) {
            (Some(key), _) => key,
            (None, KeyReference::File(path)) => public(path)?,
            (None, KeyReference::Variable(name)) => {
                anyhow::bail!(
                    "the key is where the variable {name} of the service says: name its .pub file with --public-key FILE"
                )
            }
        };
        let mut options = "restrict".to_owned();
        if !behind.is_empty() {
            options += ",port-forwarding";
            options.extend(behind.iter().map(|place| format!(",permitopen=\"{place}\"")));
        }
        if !arguments.from.is_empty() {
            let networks: Vec<String> = arguments.from.iter().map(ToString::to_string).collect();
            options += &format!(",from=\"{}\"", networks.join(","));
        }
        let content = format!("{options} {key} tailops\n");
        let why = "the login key; the file belongs to root, so that the login user cannot add another".to_owned();
        return Ok((vec![File { path: script::KEYS, mode: "0644", content, why }], false));
    }
    let ca = ssh.ca.as_ref().context(
        "the target names no key, so it is logged in on with a certificate: name the configuration with [ssh.ca] by --config FILE",
    )?;
    ensure!(
        arguments.from.is_empty(),
        "--from: where logins with a certificate may come from stands in the certificate: ssh.ca.source_addresses"
    );
    let key = match given {
        Some(key) => key,
        None => public(&ca.key_file)?,
    };
    let authority = File {
        path: script::AUTHORITY,
        mode: "0644",
        content: format!("{key} tailops user CA\n"),
        why: "the public key of the gateway's authority; it counts for this one user".to_owned(),
    };
    let principals = File {
        path: script::PRINCIPALS,
        mode: "0644",
        content: format!("{user}\n"),
        why: "the only principal that may log in as this user".to_owned(),
    };
    Ok((vec![authority, principals], true))
}

/// The public key in `path`, in its plain form.
fn line_of(path: &std::path::Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let key = ssh_key::PublicKey::from_openssh(text.trim());
    let mut key = key.map_err(|_| anyhow!("{}: holds no public key of OpenSSH in one line", path.display()))?;
    key.set_comment("");
    Ok(key.to_openssh()?)
}

fn notes(
    target: &Target,
    connection: &Connection,
    ssh: &config::Ssh,
    rules: &[SudoRule],
    arguments: &Arguments,
) -> Vec<String> {
    let mut notes = Vec::new();
    if connection.host_keys.is_empty() && connection.node.is_none() && ssh.host_cas.is_empty() {
        notes.push("no host key is enrolled: the gateway does not talk to this host yet".to_owned());
    }
    let changes = [Scope::SystemControl, Scope::SystemAdmin].into_iter().any(|scope| target.capabilities.allows(scope));
    if changes && target.sudo == SudoPolicy::None {
        notes.push(
            "its sudo policy is none: what only root may do is refused on it, whatever its capabilities".to_owned(),
        );
    }
    if changes && target.sudo == SudoPolicy::Limited && arguments.units.is_empty() {
        notes.push("no --unit is given: service_control and service_configure may touch no unit".to_owned());
    }
    if rules.iter().any(|rule| rule.expression) {
        notes.push(
            "some lines of sudoers are regular expressions: sudo 1.9.10 or later reads them, an older one refuses"
                .to_owned(),
        );
    }
    let mut beyond: Vec<&str> = rules.iter().map(|rule| rule.beyond).filter(|beyond| !beyond.is_empty()).collect();
    beyond.dedup();
    notes.extend(beyond.into_iter().map(|beyond| format!("sudo: {beyond}")));
    let anywhere = match &ssh.ca {
        Some(ca) if connection.key.is_none() => ca.source_addresses.is_empty(),
        _ => arguments.from.is_empty(),
    };
    if anywhere {
        notes.push("logins may come from anywhere: ssh.ca.source_addresses for certificates, --from for a key, would bind them to this gateway".to_owned());
    }
    notes
}

#[cfg(test)]
mod tests;

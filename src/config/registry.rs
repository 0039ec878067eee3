//! Registry files: targets as YAML, in the shape the predecessors used. Reads them into targets or every problem with
//! its line, and writes them back so that reading gives the same. Never reads a key or the variable that names one,
//! and never shows what stands where a reference to a key belongs.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use serde_json::{Map, Value as Json, json};
use toml::Spanned;

use super::{
    Problems,
    fleet::{CONCURRENCY, ID, TIMEOUT, capabilities, file_root, is_id, label, list, owner},
    problem::Report,
    section::{Section, Value},
    yaml,
};
use crate::model::{
    Connection, EngagementId, HostKeyPin, KeyReference, NotAPin, Registered, Scope, SudoPolicy, Target, TargetId,
    TargetKind, jumps,
};

/// The only version of the format.
const VERSION: &str = "1.0";
/// The longest connecting may take, unless the target says otherwise.
const CONNECT: Duration = Duration::from_secs(30);

/// Reads a registry file. Targets that name no engagement belong to `home`; `engagements` are those there are. `path`
/// only names the file in problems. Errors with every problem; a text that is not YAML is checked no further.
pub fn read_registry(
    path: &Path,
    text: &str,
    home: &EngagementId,
    engagements: &[EngagementId],
) -> Result<Vec<Target>, Problems> {
    read_beside(path, text, home, engagements, None)
}

/// Reads a registry file as [`read_registry`] does, and refuses jump hosts that can be none: they must be targets of the
/// file or among `others`. Of two of one id, the file's counts.
pub fn read_import(
    path: &Path,
    text: &str,
    home: &EngagementId,
    engagements: &[EngagementId],
    others: &[Target],
) -> Result<Vec<Target>, Problems> {
    read_beside(path, text, home, engagements, Some(others))
}

fn read_beside(
    path: &Path,
    text: &str,
    home: &EngagementId,
    engagements: &[EngagementId],
    others: Option<&[Target]>,
) -> Result<Vec<Target>, Problems> {
    let report = Report::new(text);
    let targets = match yaml::parse(text) {
        Ok(document) => {
            let table = Spanned::new(0..0, document.table());
            read(Section::root(&report, &table), home, engagements, others)
        }
        Err(error) => {
            report.add(error.place, "", error.message);
            Vec::new()
        }
    };
    report.into_problems(path.display()).map_or(Ok(targets), Err)
}

fn read(
    mut root: Section<'_>,
    home: &EngagementId,
    engagements: &[EngagementId],
    others: Option<&[Target]>,
) -> Vec<Target> {
    if let Some(value) = root.required("version", "\"1.0\"") {
        value.choice(&[(VERSION, ())]);
    }
    if root.value("targets").is_none() {
        root.required("targets", "{}");
    }
    let sections = root.named("targets");
    let mut named = Vec::new();
    let read = |(name, section)| target(name, section, home, engagements, &mut named);
    let targets: Vec<Target> = sections.into_iter().filter_map(read).collect();
    root.finish();
    if let Some(others) = others {
        let of = |id: &TargetId| targets.iter().chain(others).find(|target| target.id == *id);
        for (id, value) in named {
            if let Some(Err(fault)) = of(&id).map(|target| jumps(target, of)) {
                value.refuse(fault);
            }
        }
    }
    targets
}

/// One target; none only if something required is missing or wrong, which is then reported.
fn target<'d>(
    name: &str,
    mut section: Section<'d>,
    home: &EngagementId,
    engagements: &[EngagementId],
    jumps: &mut Vec<(TargetId, Value<'d>)>,
) -> Option<Target> {
    if !is_id(name) {
        section.refuse_name(format_args!("{name:?} is no name for a target: {ID}"));
    }
    if let Some(value) = section.value("id")
        && let Some(id) = value.text("the target's id")
        && id != name
    {
        value.refuse(format_args!("must be {name:?} as the target's key is, not {id:?}"));
    }
    let remote = section.required("type", "\"remote\"").and_then(|v| v.choice(&[("local", false), ("remote", true)]));
    let kinds = [TargetKind::Local, TargetKind::Ssh, TargetKind::Docker, TargetKind::Http].map(|k| (k.as_str(), k));
    let kind = section.required("executor", "\"ssh\"").and_then(|value| value.choice(&kinds));
    if let (Some(remote), Some(kind)) = (remote, kind)
        && remote == (kind == TargetKind::Local)
    {
        let right = if remote { "ssh, docker or http" } else { "local" };
        section.refuse("executor", format_args!("must be {right} where the type is {}", kind_of(remote)));
    }
    let engagement = match section.value("engagement") {
        Some(value) => owner(&value, engagements),
        None if engagements.contains(home) => Some(home.clone()),
        None => {
            section.refuse_name(format_args!("belongs to engagement {home}, which there is not"));
            None
        }
    };
    let capabilities = section.required("capabilities", "[\"system:read\"]").map(|value| capabilities(&value));
    let connection = connection(&mut section, kind, |jump| jumps.push((name.into(), jump)));
    let mut constraints = section.section("constraints");
    let timeout = constraints.number("timeout", TIMEOUT.as_secs(), 1..=3600);
    let concurrency = constraints.number("concurrency", CONCURRENCY, 1..=64);
    let policies = [SudoPolicy::None, SudoPolicy::Limited, SudoPolicy::Full].map(|policy| (policy.as_str(), policy));
    let sudo = constraints.value("sudo_policy").and_then(|value| value.choice(&policies)).unwrap_or_default();
    let roots = constraints.value("roots").map(|value| list(&value, "directories", file_root)).unwrap_or_default();
    constraints.finish();
    let mut metadata = section.section("metadata");
    let hostname = metadata.value("hostname").and_then(|value| host(&value));
    let platform = metadata.value("platform").and_then(|value| platform(&value));
    let segment = metadata.value("segment").and_then(|value| label(&value));
    let tags = metadata.value("tags").map(|value| list(&value, "tags", label)).unwrap_or_default();
    metadata.finish();
    section.finish();
    Some(Target {
        id: name.into(),
        kind: kind?,
        engagement: engagement?,
        capabilities: capabilities?,
        segment,
        tags,
        roots,
        timeout: Duration::from_secs(timeout),
        concurrency,
        sudo,
        registered: Some(Box::new(Registered { connection, hostname, platform })),
    })
}

fn kind_of(remote: bool) -> &'static str {
    if remote { "remote" } else { "local" }
}

fn connection<'d>(
    section: &mut Section<'d>,
    kind: Option<TargetKind>,
    jumps: impl FnOnce(Value<'d>),
) -> Option<Connection> {
    if kind == Some(TargetKind::Local) {
        if let Some(value) = section.value("connection") {
            value.refuse("a local target is the machine of the gateway and has no connection");
        }
        return None;
    }
    let mut section = section.section("connection");
    let address = section.required("host", "\"192.168.1.100\"").and_then(|value| host(&value));
    let port = section.value("port").map(|_| section.number("port", 22, 1..=u16::MAX));
    let username = section.value("username").and_then(|value| username(&value));
    let key = section.value("key_path").and_then(|value| key(&value));
    let timeout = section.number("timeout", CONNECT.as_secs(), 1..=300);
    let certificate = section.value("certificate_path").and_then(|value| plain_file(&value));
    let host_keys = section.value("host_keys").map(|value| list(&value, "host keys", pin)).unwrap_or_default();
    let node = section.value("node_id").and_then(|value| node_id(&value));
    let jump = section.value("jump").and_then(|value| Some((TargetId::from(label(&value)?), value)));
    let jump = jump.map(|(id, value)| {
        jumps(value);
        id
    });
    section.finish();
    let timeout = Duration::from_secs(timeout);
    Some(Connection { host: address?, port, username, key, certificate, host_keys, node, jump, via: None, timeout })
}

/// A host name or an address; nothing that a command could take for an option.
fn host(value: &Value<'_>) -> Option<String> {
    let text = value.text("a host name or address")?;
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_name = text.len() <= 253 && text.split('.').all(label);
    if !is_name && text.parse::<std::net::IpAddr>().is_err() {
        value
            .refuse(format_args!("{text:?} is no host name or address, such as \"web-1.example.org\" or \"10.0.0.5\""));
        return None;
    }
    Some(text.to_owned())
}

/// A login name.
pub(super) fn username(value: &Value<'_>) -> Option<String> {
    let text = value.text("a login name")?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if !(1..=32).contains(&text.len()) || !text.bytes().all(plain) || text.starts_with(['-', '.']) {
        value.refuse(format_args!(
            "{text:?} is no login name: 1 to 32 letters, digits, `_`, `-` and `.`, a letter, digit or `_` first"
        ));
        return None;
    }
    Some(text.to_owned())
}

fn platform(value: &Value<'_>) -> Option<String> {
    let text = value.text("a platform such as debian-12")?;
    if text.is_empty() || text.len() > 64 || !text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        value.refuse("must be 1 to 64 printable ASCII characters, such as \"debian-12\"");
        return None;
    }
    Some(text.to_owned())
}

/// A reference to a key. What stands there instead may be the key itself, so it is never shown.
fn key(value: &Value<'_>) -> Option<KeyReference> {
    const WANTED: &str = "must be a variable such as \"${SSH_KEY_WEB_1}\" or an absolute path in plain form; \
                          the key itself never stands in a registry";
    let text = value.text("a reference to a key")?;
    if let Some(name) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if (1..=128).contains(&name.len())
            && name.bytes().all(plain)
            && !name.starts_with(|first: char| first.is_ascii_digit())
        {
            return Some(KeyReference::Variable(name.to_owned()));
        }
    } else if let Some(path) = plain_path(text) {
        return Some(KeyReference::File(path));
    }
    value.refuse(WANTED);
    None
}

/// A file, named absolutely and in its one plain way.
fn plain_path(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let plain: PathBuf = path.components().collect();
    let up = path.components().any(|component| component == Component::ParentDir);
    let odd = text.contains('$') || text.chars().any(char::is_control) || text.len() > 4096;
    let is_plain =
        path.is_absolute() && !up && !odd && plain.as_os_str() == path.as_os_str() && path.file_name().is_some();
    is_plain.then_some(plain)
}

fn plain_file(value: &Value<'_>) -> Option<PathBuf> {
    let path = plain_path(value.text("the file of a certificate")?);
    if path.is_none() {
        value.refuse("must be an absolute path in plain form, such as \"/etc/tailops/web-1-cert.pub\"");
    }
    path
}

fn pin(value: &Value<'_>) -> Option<HostKeyPin> {
    let text = value.text("the fingerprint of a host key")?;
    text.parse().map_err(|fault: NotAPin| value.refuse(format_args!("{text:?} {fault}"))).ok()
}

/// A node's stable id, e.g. `nAbC1CNTRL`.
fn node_id(value: &Value<'_>) -> Option<String> {
    let text = value.text("a node's stable id")?;
    if !(1..=64).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        value.refuse(format_args!(
            "{text:?} is no stable id of a node: 1 to 64 letters and digits, as fleet_discover shows it"
        ));
        return None;
    }
    Some(text.to_owned())
}

/// A target's entry, as it stands in a registry file.
pub fn registry_entry(target: &Target) -> Json {
    let registered = target.registered.as_deref();
    let mut entry = Map::from_iter([
        ("id".to_owned(), json!(target.id)),
        ("type".to_owned(), json!(kind_of(target.kind != TargetKind::Local))),
        ("executor".to_owned(), json!(target.kind)),
        ("engagement".to_owned(), json!(target.engagement)),
    ]);
    if let Some(connection) = registered.and_then(|registered| registered.connection.as_ref()) {
        let connection = present([
            ("host", json!(connection.host)),
            ("port", json!(connection.port)),
            ("username", json!(connection.username)),
            ("key_path", json!(connection.key.as_ref().map(KeyReference::to_string))),
            ("certificate_path", json!(connection.certificate)),
            ("host_keys", json!(connection.host_keys.iter().map(ToString::to_string).collect::<Vec<_>>())),
            ("node_id", json!(connection.node)),
            ("jump", json!(connection.jump)),
            ("timeout", json!(connection.timeout.as_secs())),
        ]);
        entry.insert("connection".to_owned(), connection);
    }
    let granted: Vec<_> = target.capabilities.granted().map(Scope::as_str).collect();
    entry.insert("capabilities".to_owned(), json!(granted));
    let constraints = present([
        ("timeout", json!(target.timeout.as_secs())),
        ("concurrency", json!(target.concurrency)),
        ("sudo_policy", json!(target.sudo)),
        ("roots", json!(target.roots)),
    ]);
    entry.insert("constraints".to_owned(), constraints);
    let metadata = present([
        ("hostname", json!(registered.and_then(|registered| registered.hostname.as_ref()))),
        ("platform", json!(registered.and_then(|registered| registered.platform.as_ref()))),
        ("segment", json!(target.segment)),
        ("tags", json!(target.tags)),
    ]);
    entry.insert("metadata".to_owned(), metadata);
    Json::Object(entry)
}

/// An object of what there is: neither null nor an empty array.
fn present<const N: usize>(entries: [(&str, Json); N]) -> Json {
    let is_there = |value: &Json| !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty());
    entries.into_iter().filter(|(_, value)| is_there(value)).map(|(key, value)| (key.to_owned(), value)).collect()
}

/// A registry file of these entries: YAML, whose values are written as JSON, which is YAML too.
pub fn registry_file<'e>(entries: impl IntoIterator<Item = (&'e str, &'e Json)>) -> String {
    let entries: BTreeMap<_, _> = entries.into_iter().collect();
    let mut text = format!("version: \"{VERSION}\"\n");
    if entries.is_empty() {
        return text + "targets: {}\n";
    }
    text += "targets:\n";
    for (id, entry) in entries {
        text += &format!("  {}:\n", Json::from(id));
        for (key, value) in entry.as_object().into_iter().flatten() {
            text += &format!("    {}: {value}\n", key_text(key));
        }
    }
    text
}

/// `key` as YAML: as it is where it can be nothing else, and quoted otherwise, for it may be anybody's.
fn key_text(key: &str) -> String {
    match !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
        true => key.to_owned(),
        false => Json::from(key).to_string(),
    }
}

#[cfg(test)]
mod tests;

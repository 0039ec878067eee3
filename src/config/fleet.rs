//! `[engagements.NAME]` and `[targets.NAME]`: who owns what, and what may be done to it.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use super::{
    Engagement, files,
    problem::did_you_mean,
    section::{Section, Value},
    settings::add_new,
};
use crate::model::{EngagementId, Scope, ScopeSet, SudoPolicy, Target, TargetKind};

/// The longest one step may take, unless the target says otherwise.
pub(super) const TIMEOUT: Duration = Duration::from_secs(60);

/// The most steps at the same time, unless the target says otherwise.
pub(super) const CONCURRENCY: usize = 4;

/// The form of ids, segments and tags.
pub const ID: &str = "1 to 64 of a-z, 0-9, `.`, `_` and `-`, a letter or digit first";

/// The most tags or roots of one target.
const MOST: usize = 32;

/// Directories whose files are views of processes and devices: `/proc/self/root` alone leads out of any root.
const NOT_FILES: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Whether `text` has the form [`ID`].
pub fn is_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= 64
        && text.bytes().next().is_some_and(plain)
        && text.bytes().all(|byte| plain(byte) || matches!(byte, b'.' | b'_' | b'-'))
}

/// `[engagements]`. One with a wrong name is kept, so that its targets are not reported too.
pub(super) fn engagements(root: &mut Section<'_>, tools: &[&str]) -> Vec<Engagement> {
    let mut engagements = Vec::new();
    let mut places = Vec::new();
    for (name, mut section) in root.named("engagements") {
        if !is_id(name) {
            section.refuse_name(format_args!("{name:?} is no name for an engagement: {ID}"));
        }
        let tools = section.value("tools").map(|value| listed_tools(&value, tools));
        let data_root = section.value("data_root").and_then(|value| Some((file_root(&value)?, value)));
        section.finish();
        let (data_root, place) = data_root.unzip();
        engagements.push(Engagement { id: EngagementId::from(name), tools, data_root });
        places.push(place);
    }
    files::check_apart(&engagements, &places);
    engagements
}

fn listed_tools(value: &Value<'_>, known: &[&str]) -> BTreeSet<String> {
    let mut listed = Vec::new();
    for item in value.items("tool names").unwrap_or_default() {
        match item.text("a tool name") {
            Some(name) if known.contains(&name) => add_new(&mut listed, name.to_owned(), &item),
            Some(name) => {
                let hint = did_you_mean(name, known.iter().copied()).unwrap_or_default();
                item.refuse(format_args!("there is no tool {name:?}{hint}"));
            }
            None => {}
        }
    }
    listed.into_iter().collect()
}

/// `[targets]`.
pub(super) fn targets(root: &mut Section<'_>, engagements: &[Engagement], data_dir: &Path) -> Vec<Target> {
    let ids: Vec<_> = engagements.iter().map(|engagement| engagement.id.clone()).collect();
    let sections = root.named("targets");
    sections.into_iter().filter_map(|(name, section)| target(name, section, (engagements, &ids), data_dir)).collect()
}

/// One target; none only if something required is missing or wrong, which is then reported.
fn target(
    name: &str,
    mut section: Section<'_>,
    (engagements, ids): (&[Engagement], &[EngagementId]),
    data_dir: &Path,
) -> Option<Target> {
    if !is_id(name) {
        section.refuse_name(format_args!("{name:?} is no name for a target: {ID}"));
    }
    let kind = section.required("kind", "\"local\"").and_then(|value| value.choice(&[("local", TargetKind::Local)]));
    let engagement = section.required("engagement", "\"default\"").and_then(|value| owner(&value, ids));
    let capabilities = section.required("capabilities", "[\"system:read\"]").map(|value| capabilities(&value));
    let segment = section.value("segment").and_then(|value| label(&value));
    let tags = section.value("tags").map(|value| list(&value, "tags", label)).unwrap_or_default();
    let mut roots = section.value("roots").map(|value| list(&value, "directories", file_root)).unwrap_or_default();
    let timeout = section.duration("timeout", TIMEOUT, Duration::from_secs(1)..=Duration::from_hours(1));
    let concurrency = section.number("concurrency", CONCURRENCY, 1..=64);
    let policies = [("none", SudoPolicy::None), ("limited", SudoPolicy::Limited)];
    let sudo = section.value("sudo").and_then(|value| value.choice(&policies)).unwrap_or_default();
    if kind == Some(TargetKind::Local) {
        files::own_root(&section, &mut roots, engagement.as_ref(), engagements);
        files::check_state(&section, &roots, data_dir);
    }
    section.finish();
    Some(Target {
        id: name.into(),
        kind: kind?,
        engagement: engagement?,
        capabilities: capabilities?,
        segment,
        tags,
        roots,
        timeout,
        concurrency,
        sudo,
        registered: None,
    })
}

/// The engagement that a value names.
pub(super) fn owner(value: &Value<'_>, engagements: &[EngagementId]) -> Option<EngagementId> {
    let name = value.text("the name of an engagement")?;
    let found = engagements.iter().find(|engagement| engagement.as_str() == name);
    if found.is_none() {
        match did_you_mean(name, engagements.iter().map(EngagementId::as_str)) {
            Some(hint) => value.refuse(format_args!("there is no engagement {name:?}{hint}")),
            None if is_id(name) => {
                value.refuse(format_args!("there is no engagement {name:?}; add [engagements.{name}]"))
            }
            None => value.refuse(format_args!("{name:?} is no name for an engagement: {ID}")),
        }
    }
    found.cloned()
}

pub(super) fn capabilities(value: &Value<'_>) -> ScopeSet {
    let mut scopes = Vec::new();
    for item in value.items("scopes").unwrap_or_default() {
        match item.text("a scope such as system:read").map(Scope::parse) {
            Some(Ok(scope)) => add_new(&mut scopes, scope, &item),
            Some(Err(error)) => item.refuse(error),
            None => {}
        }
    }
    ScopeSet::new(scopes)
}

pub(super) fn label(value: &Value<'_>) -> Option<String> {
    let text = value.text("a label")?;
    if !is_id(text) {
        value.refuse(format_args!("{text:?} is no label: {ID}"));
        return None;
    }
    Some(text.to_owned())
}

/// The different items of an array.
pub(super) fn list<T: PartialEq>(value: &Value<'_>, what: &str, read: fn(&Value<'_>) -> Option<T>) -> Vec<T> {
    let items = value.items(what).unwrap_or_default();
    if items.len() > MOST {
        value.refuse(format_args!("must have at most {MOST} {what}, not {}", items.len()));
    }
    let mut list = Vec::new();
    for item in items {
        if let Some(read) = read(&item) {
            add_new(&mut list, read, &item);
        }
    }
    list
}

/// A directory that file tools stay inside.
pub(super) fn file_root(value: &Value<'_>) -> Option<PathBuf> {
    let directory = absolute_directory(value)?;
    if let Some(view) = NOT_FILES.iter().find(|view| directory.starts_with(view)) {
        value.refuse(format_args!("must not lie in {view}, which shows processes and devices and no files"));
        return None;
    }
    Some(directory)
}

/// An absolute path that is written in its one plain way and is not `/`.
pub(super) fn absolute_directory(value: &Value<'_>) -> Option<PathBuf> {
    const WANTED: &str = "an absolute directory such as /var/log";
    let text = value.text(WANTED)?;
    let path = Path::new(text);
    // Components drop `.`, doubled and trailing slashes.
    let plain: PathBuf = path.components().collect();
    if text.chars().any(char::is_control) || !path.is_absolute() {
        value.refuse(format_args!("{text:?} must be {WANTED}"));
    } else if path.components().any(|component| component == Component::ParentDir) {
        value.refuse(format_args!("{text:?} must not contain `..`"));
    } else if plain == Path::new("/") {
        value.refuse("must not be the whole file system: name a directory in it");
    } else if plain.as_os_str() != path.as_os_str() {
        value.refuse(format_args!("{text:?} must be written plainly: {:?}", plain.display().to_string()));
    } else {
        return Some(plain);
    }
    None
}

//! `[policy]`: where a site's rules stand, which hours they mean, and who is excepted until when. Reads no policy: what
//! the rules say is judged where they are loaded.

use std::{collections::BTreeSet, path::PathBuf};

use jiff::{Timestamp, tz::TimeZoneDatabase};

use super::{
    fleet::{absolute_directory, label, list},
    problem::did_you_mean,
    section::{Section, Value},
    settings::add_new,
};
use crate::model::TargetId;

/// The most exceptions there may be: each is looked at in every call.
const MOST: usize = 64;

/// The site's own rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SitePolicy {
    /// Holds the files of policies; none means that only the default set is in force.
    pub directory: Option<PathBuf>,
    /// What the files hold, where they were read together with the configuration.
    pub files: Option<Vec<SiteFile>>,
    /// The IANA name of the time zone that policies see hours in.
    pub time_zone: String,
    /// Who is excepted from what, until when.
    pub exceptions: Vec<PolicyException>,
}

impl Default for SitePolicy {
    fn default() -> Self {
        Self { directory: None, files: None, time_zone: "UTC".to_owned(), exceptions: Vec::new() }
    }
}

/// One file of policies, already read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteFile {
    /// Named in problems.
    pub name: String,
    /// Cedar.
    pub text: String,
}

/// One policy, left out for some calls until it expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyException {
    /// The id of the policy.
    pub policy: String,
    /// Who answers for it.
    pub owner: String,
    /// Why it is needed.
    pub reason: String,
    /// From when on it has no effect.
    pub expires: Timestamp,
    /// The only subject it is for.
    pub subject: Option<String>,
    /// The only targets it is for.
    pub targets: Option<BTreeSet<TargetId>>,
    /// The only tools it is for.
    pub tools: Option<BTreeSet<String>>,
}

/// `[policy]`.
pub(super) fn policy(root: &mut Section<'_>, tools: &[&str]) -> SitePolicy {
    let mut section = root.section("policy");
    let default = SitePolicy::default();
    let directory = section.value("directory").and_then(|value| absolute_directory(&value));
    let time_zone = section.value("time_zone").and_then(|value| zone(&value)).unwrap_or(default.time_zone);
    let items = section.value("exceptions").and_then(|value| {
        let items = value.items("exceptions")?;
        if items.len() > MOST {
            value.refuse(format_args!("must be at most {MOST}, not {}", items.len()));
        }
        Some(items)
    });
    let exceptions = items.unwrap_or_default().into_iter().filter_map(|item| exception(item.section(), tools));
    let exceptions = exceptions.collect();
    section.finish();
    SitePolicy { directory, files: None, time_zone, exceptions }
}

fn zone(value: &Value<'_>) -> Option<String> {
    let name = value.text("the name of a time zone such as \"Europe/Berlin\"")?;
    if TimeZoneDatabase::bundled().get(name).is_ok() {
        return Some(name.to_owned());
    }
    let known: Vec<String> = TimeZoneDatabase::bundled().available().map(|name| name.to_string()).collect();
    let hint = did_you_mean(name, known.iter().map(String::as_str))
        .unwrap_or_else(|| "; write \"UTC\" or a name such as \"Europe/Berlin\"".to_owned());
    value.refuse(format_args!("there is no time zone {name:?}{hint}"));
    None
}

/// One exception; none only if something required is missing or wrong, which is then reported.
fn exception(mut section: Section<'_>, tools: &[&str]) -> Option<PolicyException> {
    let policy =
        section.required("policy", "\"night-read-only\"").and_then(|value| words(&value, "the id of a policy"));
    let owner =
        section.required("owner", "\"maria@example.org\"").and_then(|value| words(&value, "who answers for it"));
    let reason = section.required("reason", "\"ticket OPS-7\"").and_then(|value| words(&value, "why it is needed"));
    let expires = section.required("expires", "\"2026-12-01T00:00:00Z\"").and_then(|value| moment(&value));
    let subject = section.value("subject").map(|value| words(&value, "the subject of a token"));
    let targets = section.value("targets").map(|value| target_ids(&value));
    let tools = section.value("tools").map(|value| listed(&value, "tool", tools));
    section.finish();
    Some(PolicyException {
        policy: policy?,
        owner: owner?,
        reason: reason?,
        expires: expires?,
        // One that cannot be read must not widen the exception to everybody.
        subject: subject.map_or(Some(None), |subject| subject.map(Some))?,
        targets,
        tools,
    })
}

fn words(value: &Value<'_>, wanted: &str) -> Option<String> {
    let text = value.text(wanted)?;
    if text.trim().is_empty() || text.len() > 300 || text.chars().any(char::is_control) {
        value.refuse(format_args!("must say {wanted} in one line of at most 300 bytes"));
        return None;
    }
    Some(text.trim().to_owned())
}

/// A moment, in UTC, so that nobody mistakes the hour at which an exception ends.
fn moment(value: &Value<'_>) -> Option<Timestamp> {
    const WANTED: &str = "a moment in UTC such as \"2026-12-01T00:00:00Z\"";
    let text = value.text(WANTED)?;
    let moment = text.parse().ok().filter(|_| text.ends_with('Z'));
    if moment.is_none() {
        value.refuse(format_args!("must be {WANTED}, not {text:?}"));
    }
    moment
}

/// Ids of targets. Which there are is known only where policies are loaded: some are imported.
fn target_ids(value: &Value<'_>) -> BTreeSet<TargetId> {
    if value.items("target names").as_ref().is_some_and(Vec::is_empty) {
        value.refuse("must name at least one target");
    }
    list(value, "target names", label).into_iter().map(TargetId::from).collect()
}

fn listed(value: &Value<'_>, what: &str, known: &[&str]) -> BTreeSet<String> {
    let mut listed = Vec::new();
    let items = value.items(&format!("{what} names"));
    if items.as_ref().is_some_and(Vec::is_empty) {
        value.refuse(format_args!("must name at least one {what}"));
    }
    for item in items.unwrap_or_default() {
        match item.text(&format!("a {what} name")) {
            Some(name) if known.contains(&name) => add_new(&mut listed, name.to_owned(), &item),
            Some(name) => {
                let hint = did_you_mean(name, known.iter().copied()).unwrap_or_default();
                item.refuse(format_args!("there is no {what} {name:?}{hint}"));
            }
            None => {}
        }
    }
    listed.into_iter().collect()
}

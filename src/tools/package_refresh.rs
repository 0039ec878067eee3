//! `package_refresh`: fetches the package lists (`apt-get update`) as a job and tells what each source answered. Installs
//! nothing.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError, apt,
    kit::{Host, arguments, data, schema_of, script},
    rights::{marked, mode_word, reason},
    service_control::lines,
    started::{Job, rule, started},
    systemd::{missing, section, sudo_word},
};
use crate::model::{
    Content, Effect, Missing, Operation, RawOutput, Risk, Scope, Script, Section, Step, Template, WaitsFor,
};

/// The tool.
pub(super) struct PackageRefresh;

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    target: String,
    /// Only name the sources
    #[serde(default)]
    dry_run: bool,
    /// Why, for the record
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    reason: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Data {
    /// Sources that are configured: address and suite
    sources: Vec<String>,
    /// Those that brought something new
    changed_sources: Vec<String>,
    /// Those that could not be had
    errors: Vec<SourceError>,
    /// Since the lists were fetched: before, and after a real run
    lists_age_s: Option<i64>,
    lists_age_after_s: Option<i64>,
    /// What fetches them; null on a dry run
    job: Option<Job>,
}

#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct SourceError {
    /// Null where apt names none
    source: Option<String>,
    message: String,
}

const SPEC: Spec = Spec {
    name: "package_refresh",
    title: "Refresh package lists",
    help: "Fetches the lists of available packages (apt-get update) and tells which sources changed or failed. Installs nothing.",
    scopes: &[Scope::SystemControl],
    risk: Risk::Moderate,
    effect: Effect::Write,
    kind: Kind::Host,
    idempotent: true,
    open_world: true,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

/// `$1` sudo|direct, `$2` seconds to wait for another apt, `$3` seconds to wait for the end, `$4` run|dry.
const TEMPLATE: Template = Template {
    id: "package_refresh.v1",
    stdin: false,
    body: concat!(include_str!("lists.sh"), include_str!("package_refresh/refresh.sh")),
};

/// The longest wait for another apt to give the lists free, in seconds.
const LOCK_S: u64 = 60;

/// What the script needs beside the waiting, in seconds.
const MARGIN_S: u64 = 10;

/// The longest that apt may take, in seconds: as in the script.
const JOB_S: u32 = 1800;

/// The arguments of systemd-run that sudoers has to allow.
pub(super) fn job_rule() -> String {
    rule(JOB_S, "apt-get update -q")
}

impl Tool for PackageRefresh {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        args.reason.as_deref().map_or(Ok(()), reason)?;
        let target = Host::find(context, &args.target)?;
        // The rest of the time is for fetching.
        let lock_s = (target.timeout.as_secs() / 3).min(LOCK_S);
        let wait_s = target.timeout.as_secs().saturating_sub(lock_s + MARGIN_S).max(1);
        let words =
            [sudo_word(&target).to_owned(), lock_s.to_string(), wait_s.to_string(), mode_word(args.dry_run).into()];
        let mut script = Script::new(&TEMPLATE, words);
        if !args.dry_run {
            script = script.about_job(WaitsFor::Unit);
        }
        let operation = SPEC.operation(context, Some(target), &args, vec![Step::Script(script)])?;
        Ok(marked(operation, args.reason, args.dry_run))
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let sections = script(raw, 0)?.sections();
        if let Some(Section { content: Err(reason), .. }) = section(&sections, "refresh") {
            return Err(ToolError::new("unsupported", format!("the target cannot refresh package lists: {reason}"))
                .hint("nothing was changed; the tool needs apt"));
        }
        let text = |name: &str| section(&sections, name).map(|section| section.text().into_owned());
        let age = |name: &str| text(name).and_then(|text| apt::age_s(&text));
        if text("sources").is_none() {
            return Err(ToolError::unreadable("no list of sources"));
        }
        let mut answer = Data {
            sources: lines(&sections, "sources"),
            changed_sources: Vec::new(),
            errors: Vec::new(),
            lists_age_s: age("age_before"),
            lists_age_after_s: age("age_after"),
            job: None,
        };
        let mut content = Content { partial: missing(&sections), changed: Some(false), ..Content::default() };
        if raw.operation.dry_run {
            content.data = data(&answer)?;
            return Ok(content);
        }
        let user = text("user").unwrap_or_default();
        let (job, unit) = started(&sections, user.trim(), &job_rule())?;
        if job.goes_on() {
            content.changed = None;
            content.warnings.push(job.note());
            answer.job = Some(job);
            content.data = data(&answer)?;
            return Ok(content);
        }
        let fine = unit.result == "success";
        let out = section(&sections, "out").and_then(|section| section.content.as_ref().ok());
        let Some(out) = out.filter(|out| !out.trim_ascii().is_empty()) else {
            return unread(content, answer, job, fine);
        };
        let out = String::from_utf8_lossy(out);
        let seen = sources(&out);
        if !fine && seen.is_empty() {
            return Err(refusal(&out));
        }
        for source in &seen {
            match source.kind {
                Answer::New => answer.changed_sources.push(source.name.clone()),
                Answer::Failed => answer
                    .errors
                    .push(SourceError { source: Some(source.name.clone()), message: source.message.clone() }),
                Answer::Same => {}
            }
        }
        answer.changed_sources.sort();
        answer.changed_sources.dedup();
        answer.errors.sort_by(|a, b| a.source.cmp(&b.source).then(a.message.cmp(&b.message)));
        answer.errors.dedup();
        // What apt says besides: an expired or unsigned archive is an error of a source, too.
        for line in out.lines() {
            match (line.strip_prefix("E: "), line.strip_prefix("W: ")) {
                (Some(message), _) => {
                    answer.errors.push(SourceError { source: None, message: message.to_owned() });
                }
                (_, Some(warning)) => content.warnings.push(warning.to_owned()),
                _ => {}
            }
        }
        if !fine || !answer.errors.is_empty() {
            content.warnings.push("not every source could be fetched: the lists of the others are new".into());
        }
        content.changed = Some(!answer.changed_sources.is_empty());
        answer.job = Some(job);
        content.data = data(&answer)?;
        Ok(content)
    }
}

/// What one source answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Same,
    New,
    Failed,
}

#[derive(Debug)]
struct Source {
    kind: Answer,
    /// Address and suite.
    name: String,
    message: String,
}

/// The lines of `apt-get update -q`: `Hit:1 URI SUITE …`, `Get:`, `Ign:`, `Err:`; what was wrong stands on indented
/// lines below an `Err:`.
fn sources(out: &str) -> Vec<Source> {
    // By number: the last line about an item tells what came of it, as in `Get:6 …` and then `Ign:6 …`.
    let mut items: BTreeMap<u32, Source> = BTreeMap::new();
    let mut at_fault = None;
    for line in out.lines() {
        if let Some(source) = at_fault.filter(|_| line.starts_with("  ")).and_then(|number| items.get_mut(&number)) {
            if !source.message.is_empty() {
                source.message.push(' ');
            }
            source.message.push_str(line.trim());
            continue;
        }
        at_fault = None;
        let Some((word, rest)) = line.split_once(':') else { continue };
        let kind = match word {
            "Hit" | "Ign" => Answer::Same,
            "Get" => Answer::New,
            "Err" => Answer::Failed,
            _ => continue,
        };
        let mut words = rest.split_whitespace();
        let (Some(number), Some(uri), Some(suite)) = (words.next(), words.next(), words.next()) else { continue };
        let Ok(number) = number.parse() else { continue };
        // Behind the suite's slash stands the component of a single list.
        let suite = if suite.starts_with("./") { suite } else { suite.split('/').next().unwrap_or(suite) };
        at_fault = (kind == Answer::Failed).then_some(number);
        items.insert(number, Source { kind, name: format!("{uri} {suite}"), message: String::new() });
    }
    items.into_values().collect()
}

/// The answer where the journal of the target cannot be read: apt ended, and what it said is not known.
fn unread(mut content: Content, mut answer: Data, job: Job, fine: bool) -> Result<Content, ToolError> {
    const HOW: &str = "what apt said is in the target's journal: its user needs the group systemd-journal to read it";
    if !fine {
        return Err(ToolError::new("apt_failed", "apt could not fetch the lists").hint(HOW));
    }
    if !content.partial.iter().any(|missing| missing.section == "out") {
        content.partial.push(Missing { section: "out".into(), reason: "unreadable".into() });
    }
    content.warnings.push(format!("which sources changed is not known; {HOW}"));
    content.changed = None;
    answer.job = Some(job);
    content.data = data(&answer)?;
    Ok(content)
}

fn refusal(out: &str) -> ToolError {
    let first = out.lines().find(|line| line.starts_with("E: ")).unwrap_or("apt gave no reason");
    if out.contains("Could not get lock") || out.contains("Unable to lock directory") {
        return ToolError::new("busy", format!("another program works on the package lists: {first}"))
            .hint("process_list match=apt shows it; try again later");
    }
    ToolError::new("apt_failed", first.to_owned())
}

#[cfg(test)]
mod tests;

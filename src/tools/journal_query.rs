//! `journal_query`: entries of a host's journal, newest first, or what they come down to. Never changes the journal and
//! never widens what the login user may read.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    kit::{Host, arguments, data, plain, schema_of, script, within},
    systemd::{all_kinds, missing, section, unit_name},
};
use crate::model::{Content, Effect, Missing, Operation, RawOutput, Risk, Scope, Script, Step, Template};

pub(super) mod entries;
mod summary;

use entries::Entry;
use summary::Group;

/// The tool.
pub(super) struct JournalQuery;

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Entries,
    Summary,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    target: String,
    #[serde(default = "mode")]
    mode: Mode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    unit: Option<String>,
    /// This or worse: 0-7, err, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    priority: Option<Priority>,
    /// RFC 3339 or ago: 90s, 2h
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    since: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    until: Option<String>,
    /// Text, any case
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    grep: Option<String>,
    /// 0, -1, id
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    boot: Option<String>,
    #[serde(default)]
    kernel: bool,
    #[serde(default = "limit")]
    #[schemars(range(min = 1, max = 1000))]
    limit: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    cursor: Option<String>,
}

fn mode() -> Mode {
    Mode::Entries
}

fn limit() -> u32 {
    100
}

/// A priority as it may be written.
#[derive(Clone, Deserialize, Serialize)]
#[serde(untagged)]
enum Priority {
    Number(u8),
    Name(String),
}

const PRIORITIES: &[&str] = &["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

impl Priority {
    fn level(&self) -> Result<u8, ToolError> {
        let level = match self {
            Self::Number(level) => Some(*level),
            Self::Name(name) => match PRIORITIES.iter().position(|known| known == name) {
                Some(level) => u8::try_from(level).ok(),
                None => name.parse().ok(),
            },
        };
        level.filter(|level| *level <= 7).ok_or_else(|| {
            ToolError::invalid("priority", format_args!("must be 0 to 7 or one of {}", PRIORITIES.join(", ")))
        })
    }
}

#[derive(Serialize, JsonSchema)]
struct Data {
    /// mode=entries: newest first
    entries: Vec<Entry>,
    /// mode=summary: most frequent first
    groups: Vec<Group>,
    /// mode=summary: how many entries, the newest, were grouped
    scanned: Option<usize>,
}

/// The most entries a summary is made of.
const SUMMARY_ENTRIES: u32 = 3000;

const SPEC: Spec = Spec {
    name: "journal_query",
    title: "Read the journal",
    help: "Journal, newest first; mode=summary groups and counts.",
    scopes: &[Scope::LogRead],
    risk: Risk::Moderate,
    effect: Effect::Read,
    kind: Kind::Host,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

/// The arguments are `journalctl`'s own, made by `plan`. What it says besides goes to standard error, where `render`
/// reads it.
const TEMPLATE: Template = Template {
    id: "journal_query.v1",
    stdin: false,
    body: concat!(include_str!("journal_query/access.sh"), include_str!("journal_query/query.sh")),
};

impl Tool for JournalQuery {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let mut args: Args = arguments(raw)?;
        within("limit", args.limit, 1..=1000)?;
        let mut given = Vec::new();
        if let Some(unit) = &mut args.unit {
            *unit = unit_name("unit", unit, all_kinds())?;
            given.push(format!("--unit={unit}"));
        }
        if let Some(priority) = &mut args.priority {
            let level = priority.level()?;
            *priority = Priority::Number(level);
            given.push(format!("--priority={level}"));
        }
        // What is recorded is the point in time, not how it was told.
        let mut span = Vec::new();
        let mut counts_back = false;
        for (field, text) in [("since", &mut args.since), ("until", &mut args.until)] {
            if let Some(text) = text {
                let time = point_in_time(field, text, context.now)?;
                counts_back |= text.parse::<Timestamp>().is_err();
                *text = time.to_string();
                given.push(format!("--{field}=@{}", time.as_second()));
                span.push(time);
            }
        }
        if let [since, until] = span.as_slice()
            && since > until
        {
            return Err(ToolError::invalid("since", "must not be after `until`"));
        }
        if let Some(text) = &args.grep {
            plain("grep", text, 200)?;
            if text.starts_with('-') {
                return Err(ToolError::invalid("grep", "must not start with a dash"));
            }
            given.push(format!("--grep={}", literal(text)));
            given.push("--case-sensitive=false".into());
        }
        if let Some(boot) = &args.boot {
            given.push(format!("--boot={}", boot_id(boot)?));
        }
        if args.kernel {
            // `--dmesg` would also narrow to this boot.
            given.push("_TRANSPORT=kernel".into());
        }
        // One more than wanted tells whether there is more.
        let mut count = args.limit + 1;
        if args.mode == Mode::Summary {
            count = SUMMARY_ENTRIES + 1;
            if args.cursor.is_some() {
                return Err(ToolError::invalid("cursor", "a summary has no pages; narrow since and until instead"));
            }
        }
        if let Some(cursor) = &args.cursor {
            // The page starts at the cursor's own entry, which is left out again: where that entry is gone, or does
            // not match, nothing else is skipped in its place.
            count += 1;
            given.push(format!("--cursor={}", checked_cursor(cursor)?));
        }
        given.insert(0, format!("--lines={count}"));
        let target = Host::find(context, &args.target)?;
        let operation =
            SPEC.operation(context, Some(target), &args, vec![Step::Script(Script::new(&TEMPLATE, given))])?;
        Ok(Operation { moment: counts_back.then_some(context.now), ..operation })
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let args: Args = arguments(&raw.operation.arguments)?;
        let output = script(raw, 0)?;
        let sections = output.sections();
        let text = section(&sections, "entries").map(|section| section.text().into_owned()).unwrap_or_default();
        let read = entries::read(&text);
        let mut content = Content { partial: missing(&sections), ..Content::default() };
        let gone = |reason: &str| Missing { section: "entries".into(), reason: reason.into() };
        let remarks = output.stderr.text();
        if remarks.contains("No such boot ID") || remarks.contains("is not available") {
            let message = remarks.lines().next().unwrap_or_default().to_owned();
            return Err(ToolError::new("not_found", message).hint("leave out boot for all boots the journal has"));
        }
        if content.partial.contains(&gone("permission_denied")) {
            let advice = "the login user sees its own messages at most: add it to group systemd-journal";
            content.warnings.push(advice.into());
        } else if content.partial.is_empty() {
            let status = section(&sections, "status").map(|section| section.text().trim().to_owned());
            // With --grep, 1 is also the status of nothing found.
            let fine = match status.as_deref() {
                Some("0") => true,
                Some("1") => args.grep.is_some() && remarks.trim().is_empty(),
                _ => false,
            };
            if !fine {
                content.partial.push(gone("journalctl_failed"));
                content.warnings.extend(remarks.lines().next().map(str::to_owned));
            }
        }
        let limit = args.limit as usize;
        let mut entries = read.entries;
        if read.broken {
            content.truncated = true;
            content.warnings.push("the answer was too long to be read in full; it ends early".into());
        }
        let shown = match args.mode {
            Mode::Entries => {
                entries.retain(|entry| args.cursor.as_deref() != Some(entry.cursor.as_str()));
                let more = entries.len() > limit || read.broken;
                entries.truncate(limit);
                content.next_cursor = entries.last().filter(|_| more).map(|entry| entry.cursor.clone());
                content.truncated |= more;
                let unread = entries.iter().filter(|entry| entry.message.is_none()).count();
                if unread > 0 {
                    content.warnings.push(format!("{unread} messages are null: longer than journalctl gives out"));
                }
                Data { entries, groups: Vec::new(), scanned: None }
            }
            Mode::Summary => {
                let most = SUMMARY_ENTRIES as usize;
                if entries.len() > most {
                    content.truncated = true;
                    content.warnings.push(format!("only the newest {most} entries were grouped"));
                }
                entries.truncate(most);
                let mut groups = summary::group(&entries);
                if groups.len() > limit {
                    content.truncated = true;
                    content.warnings.push(format!("{} rarer groups were left out", groups.len() - limit));
                    groups.truncate(limit);
                }
                Data { groups, scanned: Some(entries.len()), entries: Vec::new() }
            }
        };
        content.data = data(&shown)?;
        Ok(content)
    }
}

/// A point in time: RFC 3339, or a span before `now` such as `90s`, `-2h`, `1d12h`.
fn point_in_time(field: &str, text: &str, now: Timestamp) -> Result<Timestamp, ToolError> {
    let wrong = || {
        ToolError::invalid(field, "must be RFC 3339 such as 2026-11-21T08:00:00Z, or how long ago such as 2h, 1d12h")
    };
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time).filter(|time| time.as_second() >= 0).ok_or_else(wrong);
    }
    let mut rest = text.strip_prefix('-').unwrap_or(text);
    let mut seconds = 0_i64;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let unit = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, behind) = rest.split_at_checked(unit).ok_or_else(wrong)?;
        let scale = match behind.chars().next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3_600,
            Some('d') => 86_400,
            Some('w') => 604_800,
            _ => return Err(wrong()),
        };
        let number: i64 = number.parse().map_err(|_| wrong())?;
        seconds = number.checked_mul(scale).and_then(|more| seconds.checked_add(more)).ok_or_else(wrong)?;
        rest = behind.get(1..).unwrap_or_default();
    }
    let time = now.checked_sub(SignedDuration::from_secs(seconds)).map_err(|_| wrong())?;
    Some(time).filter(|time| time.as_second() >= 0).ok_or_else(wrong)
}

/// `text` as a PCRE2 pattern that matches exactly it: no pattern of a caller's is run on a target.
fn literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() * 2);
    for c in text.chars() {
        if c.is_ascii() && !c.is_ascii_alphanumeric() {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

fn boot_id(text: &str) -> Result<&str, ToolError> {
    let offset = text.strip_prefix('-').unwrap_or(text);
    let is_offset = (1..=4).contains(&offset.len()) && offset.bytes().all(|byte| byte.is_ascii_digit());
    let is_past = text == "0" || text.starts_with('-');
    let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if (is_offset && is_past) || is_id {
        return Ok(text);
    }
    Err(ToolError::invalid("boot", "must be 0, a negative number such as -1, or a boot id of 32 hex digits"))
}

fn checked_cursor(text: &str) -> Result<&str, ToolError> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"=;".contains(&byte));
    if plain && text.starts_with("s=") && text.len() <= 300 {
        return Ok(text);
    }
    Err(ToolError::invalid("cursor", "must be the next_cursor of an earlier answer with the same other arguments"))
}

#[cfg(test)]
mod tests;

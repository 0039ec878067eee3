//! `file_search`: which files below a directory have a name, a size, an age or a text in them. Never follows a link,
//! never leaves the filesystem it started on, and shows no line of a file that was not opened and checked first.

#[cfg(test)]
mod tests;

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    file_list::listing::{Entry, Listing},
    kit::{Host, arguments, data, plain, schema_of, script, within},
    paths,
};
use crate::model::{
    Content, Effect, Missing, Operation, RawOutput, Risk, Scope, Script, Step, Template, parse_duration,
};

/// The tool.
pub(super) struct FileSearch;

/// The most lines shown of one file.
const MOST_LINES: usize = 20;

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    target: String,
    /// Directory, absolute
    root: String,
    /// Pattern with * ? [ ]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    name: Option<String>,
    /// Fixed text in a line
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    contains: Option<String>,
    /// Bytes
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    min_size: Option<u64>,
    /// 24h, or RFC 3339
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    newer_than: Option<String>,
    /// 1 to 1000
    #[serde(default = "limit")]
    limit: u32,
}

fn limit() -> u32 {
    100
}

/// With `contains` the lines, else the entries.
#[derive(Serialize, JsonSchema)]
struct Data {
    root: String,
    /// Sorted by path; paths are below `root`.
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<Vec<Entry>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    matches: Option<Vec<Match>>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Match {
    /// Below `root`.
    path: String,
    /// From 1.
    line: u64,
    /// At most 1000 bytes.
    text: String,
}

const SPEC: Spec = Spec {
    name: "file_search",
    title: "Search files",
    help: "Finds files below a directory by name, size or age, or the lines that contain a text. Give at least one criterion.",
    scopes: &[Scope::FileRead],
    risk: Risk::Moderate,
    effect: Effect::Read,
    kind: Kind::Host,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

/// Arguments: PATH CONTAINS NAME MINSIZE NEWER LIMIT ROOT…; empty ones are not asked for.
///
/// Section `entries` is as in `file_list`. In `matches`, records end with NUL: `1PATH` begins a file, `2NUMBER:TEXT` is a
/// line of it, and the last is `0` with how each part ended and a dot for each file that could not be read.
const TEMPLATE: Template = Template {
    id: "file_search.v1",
    body: concat!(paths::walk!(), "\nheld_too='", paths::held!(), "'", include_str!("file_search.sh")),
    stdin: false,
};

impl Args {
    /// Errors unless something is asked for that `find` and `grep` take as it is meant. Since when, in seconds.
    fn check(&self, now: Timestamp) -> Result<Option<i64>, ToolError> {
        paths::plain_path("root", &self.root)?;
        within("limit", self.limit, 1..=1000)?;
        if let Some(name) = &self.name {
            plain("name", name, 255)?;
            if name.contains(['/', '\\']) {
                return Err(ToolError::invalid("name", "is matched against names alone: no slash, no backslash"));
            }
        }
        if let Some(contains) = &self.contains {
            plain("contains", contains, 200)?;
        }
        if let Some(size) = self.min_size {
            within("min_size", size, 0..=(1 << 53) - 1)?;
        }
        if self.name.is_none() && self.contains.is_none() && self.min_size.is_none() && self.newer_than.is_none() {
            return Err(ToolError::invalid("name", "give name, contains, min_size or newer_than"));
        }
        self.newer_than.as_deref().map(|since| start(since, now)).transpose()
    }
}

/// Seconds since 1970 of a time, or of a duration before `now`.
fn start(since: &str, now: Timestamp) -> Result<i64, ToolError> {
    let start = match parse_duration(since) {
        Ok(duration) => now.checked_sub(duration).ok(),
        Err(_) => since.parse::<Timestamp>().ok(),
    };
    let start = start.map(Timestamp::as_second).filter(|second| *second >= 0);
    start.ok_or_else(|| {
        ToolError::invalid("newer_than", "must be a duration such as 24h, or a time such as 2026-11-21T12:00:00Z")
    })
}

impl Tool for FileSearch {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        let since = args.check(context.now)?;
        let target = Host::find(context, &args.target)?;
        paths::under_roots("root", &args.root, &paths::roots(&target)?)?;
        let roots = paths::reach(context, &target)?;
        let own = [
            args.root.clone(),
            args.contains.clone().unwrap_or_default(),
            args.name.clone().unwrap_or_default(),
            args.min_size.unwrap_or_default().to_string(),
            since.map(|second| second.to_string()).unwrap_or_default(),
            args.limit.to_string(),
        ];
        let mut script = Script::new(&TEMPLATE, own.into_iter().chain(roots.iter().cloned()));
        script.limit = Some(Duration::from_secs(60));
        let places = std::iter::once(args.root.clone()).chain(roots).collect();
        let operation = SPEC.operation(context, Some(target), &args, vec![Step::Script(script)])?;
        let counts_back = args.newer_than.as_deref().is_some_and(|since| parse_duration(since).is_ok());
        Ok(Operation { places, moment: counts_back.then_some(context.now), ..operation })
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let args: Args = arguments(&raw.operation.arguments)?;
        let name = if args.contains.is_some() { "matches" } else { "entries" };
        let records = paths::section(script(raw, 0)?, name).map_err(about_root)?;
        let records = STANDARD.decode(records).map_err(|_| ToolError::unreadable("records are not base64"))?;
        let most = args.limit as usize;
        let mut content = Content::default();
        let answer = if args.contains.is_some() {
            let found = Found::read(&records, most)?;
            content.truncated = found.more;
            content.partial = found.partial;
            Data { root: args.root, entries: None, matches: Some(found.matches) }
        } else {
            let listing = Listing::read(&records, Some(&args.root), &[], most)?;
            content.truncated = listing.next.is_some();
            content.partial = listing.partial;
            Data { root: args.root, entries: Some(listing.entries), matches: None }
        };
        content.data = data(&answer)?;
        if content.truncated {
            content.warnings.push("there are more: narrow the search, or raise limit".to_owned());
        }
        Ok(content)
    }
}

/// The scripts' refusals speak of `path`, which is called `root` here.
fn about_root(mut error: ToolError) -> ToolError {
    error.message = error.message.replacen("`path`", "`root`", 1);
    error
}

/// The number and the text of a line as grep prints it.
fn numbered(record: &str) -> Option<(u64, &str)> {
    let (number, text) = record.split_once(':')?;
    Some((number.parse().ok()?, text))
}

/// The lines that were found.
#[derive(Debug, Default)]
struct Found {
    matches: Vec<Match>,
    partial: Vec<Missing>,
    /// Whether there are more than are here.
    more: bool,
}

impl Found {
    fn read(records: &[u8], most: usize) -> Result<Self, ToolError> {
        let mut found = Self::default();
        let (mut path, mut of_file, mut ended) = (None, 0, false);
        for record in records.split_inclusive(|byte| *byte == 0) {
            // Only the last one can be cut: by the cap on the output.
            let Some(record) = record.strip_suffix(b"\0") else { break };
            let text = String::from_utf8_lossy(record);
            if let Some(how) = text.strip_prefix('0') {
                ended = true;
                found.end(how);
            } else if let Some((line, text)) = text.strip_prefix('2').and_then(numbered) {
                let path = path.clone().ok_or_else(|| ToolError::unreadable("a line without its file"))?;
                of_file += 1;
                if found.matches.len() == most || of_file > MOST_LINES {
                    found.more = true;
                } else {
                    found.matches.push(Match { path, line, text: text.to_owned() });
                }
            } else if let Some(name) = text.strip_prefix('1') {
                (path, of_file) = (Some(name.to_owned()), 0);
            } else {
                return Err(ToolError::unreadable("a line of a match"));
            }
        }
        found.more |= !ended;
        Ok(found)
    }

    /// Takes how the parts of the search ended.
    fn end(&mut self, how: &str) {
        let mut note = |reason: &str| self.partial.push(Missing { section: "matches".into(), reason: reason.into() });
        if how.contains("=124 ") || how.ends_with("=124") {
            note("time_limit");
        }
        if how.contains('.') || how.contains("find=1 ") {
            note("permission_denied");
        }
    }
}

//! `disk_inspect`: how full the filesystems of the target's roots are, what below a directory takes most of the space,
//! and files that were deleted while a program holds them open. Names nothing outside the roots; changes nothing.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    kit::{Host, arguments, data, schema_of, script, within},
    paths,
};
use crate::model::{Content, Effect, Missing, Operation, RawOutput, Risk, Scope, Script, Step, Template};

/// The tool.
pub(super) struct DiskInspect;

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    target: String,
    /// Directory, absolute; without it: the roots
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    path: Option<String>,
    /// 1 to 5
    #[serde(default = "depth")]
    depth: u32,
    /// 1 to 100
    #[serde(default = "limit")]
    limit: u32,
}

fn depth() -> u32 {
    2
}

fn limit() -> u32 {
    20
}

#[derive(Debug, Serialize, JsonSchema)]
struct Data {
    /// One for each directory that was looked at.
    places: Vec<Place>,
    /// Deleted files below those directories that a program still holds open: their space is not free.
    deleted_open: Vec<Deleted>,
    /// The same on these filesystems, but elsewhere.
    deleted_elsewhere: Elsewhere,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Place {
    path: String,
    filesystem: Filesystem,
    /// What takes most space, largest first; directories with everything in them.
    top: Vec<Usage>,
}

/// Sizes in bytes.
#[derive(Debug, Serialize, JsonSchema)]
struct Filesystem {
    source: String,
    r#type: String,
    size: u64,
    used: u64,
    available: u64,
    /// None where the filesystem does not count them.
    inodes: Option<u64>,
    inodes_free: Option<u64>,
    mounted_on: String,
    #[serde(skip)]
    device: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Usage {
    path: String,
    /// On disk.
    bytes: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Deleted {
    /// Its name when it was deleted.
    path: String,
    /// On disk.
    bytes: u64,
    pid: u32,
    process: String,
}

#[derive(Debug, Default, Serialize, JsonSchema)]
struct Elsewhere {
    files: u64,
    bytes: u64,
}

const SPEC: Spec = Spec {
    name: "disk_inspect",
    title: "Inspect disk use",
    help: "What fills a filesystem: free space, the largest files and directories below path, and deleted files that are still open.",
    scopes: &[Scope::FileRead],
    risk: Risk::Moderate,
    effect: Effect::Read,
    kind: Kind::Host,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

/// Arguments: PATH DEPTH LIMIT ROOT…; an empty PATH means all roots.
///
/// Records end with NUL, their fields are separated by tabs. In `places`: `1NNN` is the filesystem of place NNN: device,
/// then what `df` says; `2NNN` bytes and a path below it; `0s NNN STATUS` how `du` ended there; `0m NNN REASON`: it cannot
/// be looked at. In `deleted`: `DEVICE INODE BLOCKS LINKS PID`, the program's name, the link's text.
const TEMPLATE: Template =
    Template { id: "disk_inspect.v1", body: concat!(paths::walk!(), include_str!("disk_inspect.sh")), stdin: false };

impl Tool for DiskInspect {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        within("depth", args.depth, 1..=5)?;
        within("limit", args.limit, 1..=100)?;
        if let Some(path) = &args.path {
            paths::plain_path("path", path)?;
        }
        let target = Host::find(context, &args.target)?;
        if let Some(path) = &args.path {
            paths::under_roots("path", path, &paths::roots(&target)?)?;
        }
        let roots = paths::reach(context, &target)?;
        let own = [args.path.clone().unwrap_or_default(), args.depth.to_string(), args.limit.to_string()];
        let mut script = Script::new(&TEMPLATE, own.into_iter().chain(roots.iter().cloned()));
        script.limit = Some(Duration::from_secs(60));
        let places = args.path.iter().chain(&roots).cloned().collect();
        let operation = SPEC.operation(context, Some(target), &args, vec![Step::Script(script)])?;
        Ok(Operation { places, ..operation })
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let args: Args = arguments(&raw.operation.arguments)?;
        let output = script(raw, 0)?;
        let decoded = |name| {
            let records = paths::section(output, name)?;
            STANDARD.decode(records).map_err(|_| ToolError::unreadable("records are not base64"))
        };
        // The path that was asked for comes first among the places; without one they are the roots.
        let starts = match &args.path {
            Some(path) => std::slice::from_ref(path),
            None => raw.operation.places.as_slice(),
        };
        let mut seen = Seen::default();
        for record in records(&decoded("places")?) {
            seen.place(&record, starts, args.limit as usize)
                .ok_or_else(|| ToolError::unreadable("what fills a place"))?;
        }
        let places: Vec<Place> = seen.places.into_values().collect();
        let (deleted_open, deleted_elsewhere) = deleted(&decoded("deleted")?, &places);
        let rights = paths::section(output, "rights")?;
        if rights.trim_ascii() != b"0" {
            // Only root sees what every process holds open.
            seen.partial.push(Missing { section: "deleted_open".into(), reason: "permission_denied".into() });
        }
        Ok(Content {
            truncated: seen.more,
            partial: seen.partial,
            ..Content::new(data(&Data { places, deleted_open, deleted_elsewhere })?)
        })
    }
}

/// The whole records of `bytes`, as text.
fn records(bytes: &[u8]) -> impl Iterator<Item = String> {
    let whole = bytes.split_inclusive(|byte| *byte == 0).filter_map(|record| record.strip_suffix(b"\0"));
    whole.map(|record| String::from_utf8_lossy(record).into_owned())
}

#[derive(Default)]
struct Seen {
    places: BTreeMap<usize, Place>,
    partial: Vec<Missing>,
    more: bool,
}

impl Seen {
    /// Takes a record of the section `places`; none if it cannot be read.
    fn place(&mut self, record: &str, starts: &[String], limit: usize) -> Option<()> {
        let fields: Vec<&str> = record.splitn(10, '\t').collect();
        match fields.as_slice() {
            ["0s", place, status] | ["0m", place, status] => {
                let start = starts.get(place.parse::<usize>().ok()?)?;
                let reason = match *status {
                    "0" => return Some(()),
                    "124" => "time_limit",
                    "1" | "denied" => "permission_denied",
                    "outside" => "symlink",
                    other => other,
                };
                self.partial.push(Missing { section: start.clone(), reason: reason.into() });
            }
            [place, device, source, kind, size, used, available, inodes, inodes_free, mounted_on]
                if place.starts_with('1') =>
            {
                let number = place.get(1..)?.parse().ok()?;
                let filesystem = Filesystem {
                    source: (*source).to_owned(),
                    r#type: (*kind).to_owned(),
                    size: size.parse().ok()?,
                    used: used.parse().ok()?,
                    available: available.parse().ok()?,
                    inodes: inodes.parse().ok(),
                    inodes_free: inodes_free.parse().ok(),
                    mounted_on: (*mounted_on).to_owned(),
                    device: device.parse().ok()?,
                };
                self.places.insert(number, Place { path: starts.get(number)?.clone(), filesystem, top: Vec::new() });
            }
            [place, bytes, path @ ..] if place.starts_with('2') => {
                let place = self.places.get_mut(&place.get(1..)?.parse().ok()?)?;
                let path = path.join("\t");
                let below = path.strip_prefix("./");
                // The directory itself is the sum of all.
                let Some(below) = below else { return Some(()) };
                if place.top.len() == limit {
                    self.more = true;
                } else {
                    place.top.push(Usage { path: below.to_owned(), bytes: bytes.parse().ok()? });
                }
            }
            _ => return None,
        }
        Some(())
    }
}

/// Deleted files below `places`, largest first, and how much there is elsewhere on their filesystems. Each file once,
/// however many hold it open.
fn deleted(bytes: &[u8], places: &[Place]) -> (Vec<Deleted>, Elsewhere) {
    let mut inside = BTreeMap::new();
    let mut outside = BTreeMap::new();
    for record in records(bytes) {
        let Some(((device, inode), found)) = held_open(&record) else { continue };
        let same = |place: &&Place| place.filesystem.device == device;
        if places.iter().filter(same).any(|place| Path::new(&found.path).starts_with(&place.path)) {
            inside.entry((device, inode)).or_insert(found);
        } else if places.iter().any(|place| same(&place)) {
            outside.insert((device, inode), found.bytes);
        }
    }
    let mut inside: Vec<Deleted> = inside.into_values().collect();
    inside.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    inside.truncate(100);
    (inside, Elsewhere { files: outside.len() as u64, bytes: outside.values().sum() })
}

/// One record of the section `deleted`; none where it is no deleted file of a filesystem.
fn held_open(record: &str) -> Option<((u64, u64), Deleted)> {
    let mut fields = record.splitn(3, '\t');
    let mut words = fields.next()?.split(' ');
    let (device, inode) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let blocks: u64 = words.next()?.parse().ok()?;
    // A name that only ends like one of a deleted file belongs to a file that is there.
    if words.next()? != "0" {
        return None;
    }
    let pid = words.next()?.parse().ok()?;
    let process = fields.next()?.to_owned();
    let path = fields.next()?.strip_suffix(" (deleted)")?.to_owned();
    Some(((device, inode), Deleted { path, bytes: blocks.saturating_mul(512), pid, process }))
}

//! `file_read`: a part of one regular file inside the target's roots. Never follows a link out of them, never uses
//! sudo, and tells nothing about a file before the opened file itself was checked.

#[cfg(test)]
mod tests;

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    kit::{Host, arguments, data, schema_of, script, within},
    paths,
};
use crate::model::{Content, Effect, Operation, RawOutput, Risk, Scope, Script, Step, Template, hex};

/// The tool.
pub(super) struct FileRead;

/// The largest offset: what every JSON reader holds exactly.
const MOST_OFFSET: u64 = (1 << 53) - 1;

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    target: String,
    /// Absolute
    path: String,
    #[serde(default)]
    mode: Mode,
    /// For range
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lines: Option<u32>,
    /// From 1
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start_line: Option<u32>,
    /// 1 to 262144
    #[serde(default = "max_bytes")]
    max_bytes: u32,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Head,
    Tail,
    Range,
    Lines,
}

fn max_bytes() -> u32 {
    16 * 1024
}

/// A part of a file.
#[derive(Serialize, JsonSchema)]
struct Data {
    /// As asked.
    path: String,
    /// Of the whole file, in bytes.
    size: u64,
    /// Last change of the content, RFC 3339, UTC.
    mtime: String,
    /// Permission bits, octal.
    mode: String,
    owner: String,
    encoding: Encoding,
    content: String,
    /// Of the bytes in `content`, hex.
    sha256: String,
    /// Where `content` starts in the file, in bytes.
    offset: u64,
    /// Whether `content` reaches the end of the file.
    eof: bool,
    /// Where to go on, with mode range.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_offset: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
enum Encoding {
    #[serde(rename = "utf-8")]
    Utf8,
    #[serde(rename = "base64")]
    Base64,
}

/// Arguments: PATH MODE START MAX ROOT…; START is a byte offset, or a line number where MODE is `lines`.
///
/// Reads at most one byte more than MAX, so that the reader knows whether there is more. `dd` seeks, so the tail of a
/// huge file costs no more than that of a small one. Base64, because no content can then pass for a section.
const TEMPLATE: Template = Template {
    id: "file_read.v1",
    body: concat!(
        paths::walk!(),
        r#"
path=$1 mode=$2 start=$3 max=$4; shift 4
walk "$path" "$@" || { missing file "$why"; return; }
[ "$name" ] && [ "$kind" = f ] || { missing file not_regular; return; }
held "$at" "$name" || { missing file denied; return; }
set -- $facts
[ "$1" = 1 ] || { missing file hard_link; return; }
size=$2 count=$((max + 1))
case $mode in
    tail)
        if [ "$size" -gt 0 ]; then
            [ "$size" -gt "$max" ] && start=$((size - max))
            count=$((size - start))
        fi;;
    lines)
        before=$((start - 1)) start=0
        if [ "$before" -gt 0 ]; then
            command exec 4<"/proc/self/fd/3" || { missing file denied; return; }
            set -- $(head -c 67108864 <&4 | head -n "$before" | wc -lc)
            [ "$1" -eq "$before" ] || [ "$2" -lt 67108864 ] || { missing file too_far; return; }
            start=$2
        fi;;
    *)
        [ "$size" -eq 0 ] || [ "$start" -le "$size" ] || start=$size;;
esac
section facts
printf '%s\n%s\n' "$facts" "$start"
section content
exec 6>&1
ended=$({ { dd bs=65536 skip="$start" count="$count" iflag=skip_bytes,count_bytes,fullblock status=none <&3; echo $? >&5; } | base64 -w 0 >&6; } 5>&1) &&
    [ "$ended" = 0 ] && section end
"#
    ),
    stdin: false,
};

const SPEC: Spec = Spec {
    name: "file_read",
    title: "Read a file",
    help: "Reads part of a file: head, tail, byte range or lines. Continue at next_offset with mode range.",
    scopes: &[Scope::FileRead],
    risk: Risk::High,
    effect: Effect::Read,
    kind: Kind::Host,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

impl Args {
    fn check(&self) -> Result<(), ToolError> {
        paths::plain_path("path", &self.path)?;
        within("max_bytes", self.max_bytes, 1..=262_144)?;
        if let Some(offset) = self.offset {
            within("offset", offset, 0..=MOST_OFFSET)?;
        }
        if let Some(lines) = self.lines {
            within("lines", lines, 1..=262_144)?;
        }
        if let Some(start) = self.start_line {
            within("start_line", start, 1..=u32::MAX)?;
        }
        let misplaced = match self.mode {
            Mode::Range if self.lines.is_some() => Some(("lines", "goes with mode head, tail or lines")),
            Mode::Head | Mode::Tail | Mode::Lines if self.offset.is_some() => Some(("offset", "goes with mode range")),
            Mode::Head | Mode::Tail | Mode::Range if self.start_line.is_some() => {
                Some(("start_line", "goes with mode lines"))
            }
            _ => None,
        };
        misplaced.map_or(Ok(()), |(field, wanted)| Err(ToolError::invalid(field, wanted)))
    }

    fn script(&self, roots: Vec<String>) -> Script {
        let (mode, start) = match self.mode {
            Mode::Tail => ("tail", 0),
            Mode::Lines => ("lines", u64::from(self.start_line.unwrap_or(1))),
            Mode::Head | Mode::Range => ("range", self.offset.unwrap_or(0)),
        };
        let own = [self.path.clone(), mode.to_owned(), start.to_string(), self.max_bytes.to_string()];
        let mut script = Script::new(&TEMPLATE, own.into_iter().chain(roots));
        // A FIFO that takes the file's place between look and open would keep the script waiting for its writer.
        script.limit = Some(Duration::from_secs(20));
        script
    }
}

impl Tool for FileRead {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        args.check()?;
        let target = Host::find(context, &args.target)?;
        paths::under_roots("path", &args.path, &paths::roots(&target)?)?;
        let roots = paths::reach(context, &target)?;
        let places = std::iter::once(args.path.clone()).chain(roots.iter().cloned()).collect();
        let script = args.script(roots);
        let operation = SPEC.operation(context, Some(target), &args, vec![Step::Script(script)])?;
        Ok(Operation { places, ..operation })
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let args: Args = arguments(&raw.operation.arguments)?;
        let output = script(raw, 0)?;
        let content = paths::section(output, "content")?;
        let content = STANDARD.decode(content).map_err(|_| ToolError::unreadable("content is not base64"))?;
        let facts = paths::section(output, "facts")?;
        let (facts, start) = Facts::read(&facts).ok_or_else(|| ToolError::unreadable("the file's facts"))?;
        let part = Part::cut(&args, start, content);
        let end = part.offset.saturating_add(part.bytes.len() as u64);
        let (encoding, text) = part.encode();
        let answer = Data {
            path: args.path,
            size: facts.size,
            mtime: facts.mtime,
            mode: facts.mode,
            owner: facts.owner,
            encoding,
            content: text,
            sha256: sha256(&part.bytes),
            offset: part.offset,
            eof: part.eof,
            next_offset: (!part.eof).then_some(end),
        };
        Ok(Content { truncated: part.truncated, ..Content::new(data(&answer)?) })
    }
}

/// What the target says about the opened file.
pub(super) struct Facts {
    pub(super) size: u64,
    pub(super) mtime: String,
    pub(super) mode: String,
    pub(super) owner: String,
}

impl Facts {
    /// `LINKS SIZE MTIME MODE OWNER`, then the place where the bytes that were read start, on a line of its own.
    fn read(text: &[u8]) -> Option<(Self, u64)> {
        let (facts, start) = std::str::from_utf8(text).ok()?.trim_end().split_once('\n')?;
        Some((Self::words(facts.as_bytes())?, start.parse().ok()?))
    }

    /// `LINKS SIZE MTIME MODE OWNER`.
    pub(super) fn words(text: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(text).ok()?.trim_end().split(' ').skip(1);
        Some(Self {
            size: words.next()?.parse().ok()?,
            mtime: Timestamp::from_second(words.next()?.parse().ok()?).ok()?.to_string(),
            mode: format!("{:0>4}", words.next()?),
            owner: words.next()?.to_owned(),
        })
    }

    /// Whether somebody may run the file.
    pub(super) fn runs(&self) -> bool {
        u32::from_str_radix(&self.mode, 8).is_ok_and(|mode| mode & 0o111 != 0)
    }
}

/// The part of the file that is returned.
struct Part {
    bytes: Vec<u8>,
    offset: u64,
    /// Whether it reaches the end of the file.
    eof: bool,
    /// Whether it is less than was asked for.
    truncated: bool,
}

impl Part {
    /// Cuts what was read, `bytes`, to what was asked for: not more than `max_bytes`, whole lines where lines were
    /// asked for, whole characters at the ends we cut ourselves.
    fn cut(args: &Args, start: u64, mut bytes: Vec<u8>) -> Self {
        let more = bytes.len() > args.max_bytes as usize;
        bytes.truncate(args.max_bytes as usize);
        let mut part = Self { bytes, offset: start, eof: !more, truncated: more };
        let lines = args.lines.map(|lines| lines as usize);
        if args.mode == Mode::Tail {
            part.keep_last(lines);
        } else if let Some(end) = lines.and_then(|lines| end_of_line(&part.bytes, lines)) {
            part.eof &= end == part.bytes.len();
            part.truncated = false;
            part.bytes.truncate(end);
        }
        if !part.eof
            && let Some(whole) = cut_character(&part.bytes)
        {
            part.bytes.truncate(whole);
        }
        part
    }

    /// The last `lines` lines, or, where they do not fit or were not asked for, all bytes from the first whole
    /// character on.
    fn keep_last(&mut self, lines: Option<usize>) {
        let skip = match lines.and_then(|lines| start_of_last(&self.bytes, lines)) {
            Some(start) => start,
            None if self.offset == 0 => 0,
            None => {
                self.truncated = true;
                self.bytes.iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count()
            }
        };
        self.bytes.drain(..skip);
        self.offset += skip as u64;
    }

    /// Text as it is; bytes that are not text in base64.
    fn encode(&self) -> (Encoding, String) {
        match std::str::from_utf8(&self.bytes) {
            Ok(text) if !text.contains('\0') => (Encoding::Utf8, text.to_owned()),
            _ => (Encoding::Base64, STANDARD.encode(&self.bytes)),
        }
    }
}

/// Where the first `lines` lines of `bytes` end, if it has as many.
fn end_of_line(bytes: &[u8], lines: usize) -> Option<usize> {
    let newline = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(lines.checked_sub(1)?)?;
    Some(newline.0 + 1)
}

/// Where the last `lines` lines of `bytes` start, if more stands before them. A newline at the very end belongs to
/// the last line.
fn start_of_last(bytes: &[u8], lines: usize) -> Option<usize> {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let newline = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').nth(lines.checked_sub(1)?)?;
    Some(newline.0 + 1)
}

/// The length of `bytes` without the UTF-8 character that was cut off at the end, if one was and something is left.
fn cut_character(bytes: &[u8]) -> Option<usize> {
    let error = std::str::from_utf8(bytes).err()?;
    (error.error_len().is_none() && error.valid_up_to() > 0).then(|| error.valid_up_to())
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

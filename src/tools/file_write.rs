//! `file_write`: puts a content in the place of one regular file inside the target's roots, as a whole or not at all.
//! Never follows a link to write, never makes a file that can be run, never uses sudo, and keeps what was there before.

#[cfg(test)]
mod tests;

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use ring::digest::{SHA256, digest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Kind, PlanContext, Settled, Spec, Tool, ToolError,
    file_read::Facts,
    kit::{Host, arguments, data, schema_of, script},
    media, paths,
    rights::reason,
};
use crate::model::{Content, Effect, Operation, RawOutput, Risk, Scope, Script, Step, Template, hex};

/// The tool.
pub(super) struct FileWrite;

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    #[default]
    Utf8,
    Base64,
}

// No bit lets anybody run the file, nor run it as somebody else. Not a doc comment: it would be in the schema.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
enum Mode {
    #[serde(rename = "0600")]
    Private,
    #[serde(rename = "0640")]
    GroupReads,
    #[default]
    #[serde(rename = "0644")]
    AllRead,
    #[serde(rename = "0660")]
    GroupWrites,
    #[serde(rename = "0664")]
    GroupWritesAllRead,
}

impl Mode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Private => "0600",
            Self::GroupReads => "0640",
            Self::AllRead => "0644",
            Self::GroupWrites => "0660",
            Self::GroupWritesAllRead => "0664",
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    target: String,
    /// Absolute
    path: String,
    /// At most 10 MB
    content: String,
    #[serde(default)]
    encoding: Encoding,
    /// Of what it replaces, or absent
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    expect_sha256: Option<String>,
    #[serde(default)]
    mode: Mode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    mime: Option<String>,
    #[serde(default)]
    dry_run: bool,
    reason: String,
}

/// The arguments as they are judged, shown and recorded: the content by its digest, which the target checks.
#[derive(Deserialize, Serialize, JsonSchema)]
struct Canonical {
    target: String,
    path: String,
    content_sha256: String,
    size: usize,
    mime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expect_sha256: Option<String>,
    mode: Mode,
    dry_run: bool,
    reason: String,
}

#[derive(Serialize, JsonSchema)]
struct Data {
    path: String,
    /// Of the new content, in bytes.
    size: usize,
    /// The media type it has.
    mime: String,
    /// Permission bits, octal.
    mode: String,
    /// Of what was there, hex; none if nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    before_sha256: Option<String>,
    /// Of the new content, hex.
    after_sha256: String,
    /// Where what was there is kept, until the next write.
    #[serde(skip_serializing_if = "Option::is_none")]
    backup: Option<String>,
}

const SPEC: Spec = Spec {
    name: "file_write",
    title: "Write a file",
    help: "Writes a whole file, atomically; the content before is kept as backup. Never executable.",
    scopes: &[Scope::FileWrite],
    risk: Risk::High,
    effect: Effect::Destructive,
    kind: Kind::Host,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

/// Arguments: DIR NAME MODE EXPECT SHA256 SIZE run|dry STEM ROOT…; EXPECT is a digest, `absent` or `any`; the content
/// comes on standard input. STEM is what the backup's name is made of.
///
/// The directory is the working directory from [`paths::walk`] on, whatever its name becomes. The content goes to a new
/// file in it, is compared with its digest there and takes the name only as the last step.
const TEMPLATE: Template = Template {
    id: "file_write.v1",
    body: concat!("main() {", paths::walk!(), include_str!("file_write.sh"), "}\nmain \"$@\"\n"),
    stdin: true,
};

/// The longest part of a name that the backup's name keeps, so that it is no longer than names may be.
const STEM: usize = 200;

/// The start of `name`, at most [`STEM`] bytes.
pub(super) fn stem(name: &str) -> &str {
    name.get(..name.floor_char_boundary(STEM)).unwrap_or(name)
}

/// Errors unless `text` is a digest, or, where that is meant, `absent`.
pub(super) fn expectation(text: Option<&str>, or_absent: bool) -> Result<String, ToolError> {
    match text {
        None => Ok("any".to_owned()),
        Some("absent") if or_absent => Ok("absent".to_owned()),
        Some(text) if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Ok(text.to_ascii_lowercase())
        }
        Some(_) => {
            let or = if or_absent { ", or the word absent" } else { "" };
            Err(ToolError::invalid("expect_sha256", format_args!("must be a SHA-256 in 64 hexadecimal digits{or}")))
        }
    }
}

impl Args {
    /// The bytes to write. `most` is the longest content there may be.
    fn bytes(&mut self, most: usize) -> Result<Vec<u8>, ToolError> {
        let text = std::mem::take(&mut self.content);
        let too_large = || {
            ToolError::new("file_too_large", format!("`content`: a file may have at most {most} bytes"))
                .hint("larger files come by packages, or by people")
        };
        let bytes = match self.encoding {
            Encoding::Utf8 => text.into_bytes(),
            // Checked first: what is too long is not decoded.
            Encoding::Base64 if text.len() > most.saturating_mul(4).div_ceil(3) + 3 => return Err(too_large()),
            Encoding::Base64 => STANDARD.decode(text).map_err(|_| {
                ToolError::invalid("content", "must be base64 (RFC 4648, with padding, without line breaks)")
            })?,
        };
        if bytes.len() > most { Err(too_large()) } else { Ok(bytes) }
    }
}

impl Tool for FileWrite {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judged(&self) -> Value {
        schema_of::<Canonical>()
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let mut args: Args = arguments(raw)?;
        reason(&args.reason)?;
        let expect = expectation(args.expect_sha256.as_deref(), true)?;
        let target = Host::find(context, &args.target)?;
        let (directory, name) = paths::file_in("path", &args.path, &target)?;
        let (directory, name) = (directory.to_owned(), name.to_owned());
        let roots = paths::reach(context, &target)?;
        let bytes = args.bytes(context.files.max_bytes)?;
        let canonical = Canonical {
            content_sha256: hex(digest(&SHA256, &bytes).as_ref()),
            size: bytes.len(),
            mime: media::judge(&name, &bytes, args.mime.as_deref(), context.files)?,
            target: args.target,
            path: args.path,
            expect_sha256: (expect != "any").then(|| expect.clone()),
            mode: args.mode,
            dry_run: args.dry_run,
            reason: args.reason,
        };
        let own = [
            directory,
            name.clone(),
            canonical.mode.as_str().to_owned(),
            expect,
            canonical.content_sha256.clone(),
            canonical.size.to_string(),
            if canonical.dry_run { "dry" } else { "run" }.to_owned(),
            stem(&name).to_owned(),
        ];
        let mut script = Script::new(&TEMPLATE, own.into_iter().chain(roots.iter().cloned()));
        script.limit = Some(Duration::from_secs(60));
        if !canonical.dry_run {
            script.stdin = Some(Bytes::from(bytes));
        }
        let places = std::iter::once(canonical.path.clone()).chain(roots).collect();
        let operation = SPEC.operation(context, Some(target), &canonical, vec![Step::Script(script)])?;
        Ok(Operation {
            dry_run: canonical.dry_run,
            effect: if canonical.dry_run { Effect::Read } else { SPEC.effect },
            reason: Some(canonical.reason),
            places,
            ..operation
        })
    }

    fn rechecks(&self) -> &'static [&'static str] {
        &["expect_sha256", "mode", "owner"]
    }

    fn settle(&self, arguments: &Map<String, Value>, preview: &Content) -> Result<Settled, ToolError> {
        let digest = preview.data.get("before_sha256").and_then(Value::as_str);
        let settled = Settled::unchanged(arguments).pin("expect_sha256", digest.unwrap_or("absent"));
        Ok(match &preview.before {
            Some(before) => settled.stay(before, &["mode", "owner"]),
            None => settled,
        })
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let args: Canonical = arguments(&raw.operation.arguments)?;
        let output = script(raw, 0)?;
        let before =
            Before::read(&paths::section(output, "before")?).ok_or_else(|| ToolError::unreadable("what was there"))?;
        let mut warnings = Vec::new();
        let mode = if args.dry_run {
            let room = String::from_utf8(paths::section(output, "room")?)
                .ok()
                .and_then(|room| room.trim().parse::<u64>().ok());
            if room.is_none_or(|room| room < (args.size as u64).saturating_add(before.size())) {
                warnings.push("the file system may not have room for the file and its backup".to_owned());
            }
            args.mode.as_str().to_owned()
        } else {
            let after =
                Facts::words(&paths::section(output, "after")?).ok_or_else(|| ToolError::unreadable("the new file"))?;
            if before.facts.as_ref().is_some_and(|facts| facts.owner != after.owner) {
                warnings.push(format!("the file belongs to {} now", after.owner));
            }
            after.mode
        };
        if let Some(facts) = before.facts.as_ref().filter(|facts| facts.runs()) {
            warnings.push(format!("what was there could be run (mode {}); the new file cannot", facts.mode));
        }
        let (directory, name) = args.path.rsplit_once('/').unwrap_or_default();
        let backup = before.facts.is_some().then(|| format!("{directory}/.{}.tailops-bak", stem(name)));
        let changed = !args.dry_run && before.sha256.as_ref() != Some(&args.content_sha256);
        let answer = Data {
            size: args.size,
            mime: args.mime,
            mode: mode.clone(),
            before_sha256: before.sha256.clone(),
            after_sha256: args.content_sha256.clone(),
            backup,
            path: args.path,
        };
        Ok(Content {
            changed: Some(changed),
            before: before.facts.map(|facts| {
                json!({"sha256": before.sha256, "size": facts.size, "mode": facts.mode, "owner": facts.owner, "mtime": facts.mtime})
            }),
            after: Some(json!({"sha256": args.content_sha256, "size": args.size, "mode": mode})),
            warnings,
            ..Content::new(data(&answer)?)
        })
    }
}

/// What was there before.
pub(super) struct Before {
    /// None where nothing was, or where it was not asked for.
    pub(super) sha256: Option<String>,
    pub(super) facts: Option<Facts>,
}

impl Before {
    /// The digest or a word on one line, the file's facts, or nothing, on the next.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut lines = text.lines();
        let sha256 = Some(lines.next()?).filter(|digest| digest.len() == 64).map(str::to_owned);
        let facts = match lines.next().unwrap_or_default() {
            "" => None,
            line => Some(Facts::words(line.as_bytes())?),
        };
        Some(Self { sha256, facts })
    }

    fn size(&self) -> u64 {
        self.facts.as_ref().map_or(0, |facts| facts.size)
    }
}

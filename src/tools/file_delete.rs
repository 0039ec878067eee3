//! `file_delete`: moves one regular file to the trash of its root. Never removes anything for good, never follows a
//! link, never uses sudo.

#[cfg(test)]
mod tests;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Kind, PlanContext, Settled, Spec, Tool, ToolError,
    file_write::{Before, expectation, stem},
    kit::{Host, arguments, data, schema_of, script},
    paths,
    rights::reason,
};
use crate::model::{Content, Effect, Operation, RawOutput, Risk, Scope, Script, Step, Template};

/// The tool.
pub(super) struct FileDelete;

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    target: String,
    /// Absolute
    path: String,
    /// Of what is deleted
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    expect_sha256: Option<String>,
    /// Only preview
    #[serde(default = "dry_run")]
    dry_run: bool,
    /// Why, for the record
    reason: String,
}

fn dry_run() -> bool {
    true
}

#[derive(Serialize, JsonSchema)]
struct Data {
    path: String,
    /// In bytes.
    size: u64,
    /// Of the content, hex; left out where the file is larger than 64 MiB and no digest was expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    before_sha256: Option<String>,
    /// Where the file is now; null on a dry run.
    trash: Option<String>,
}

const SPEC: Spec = Spec {
    name: "file_delete",
    title: "Delete a file",
    help: "Moves one file to the trash of its root (.tailops-trash), where people can restore it. Needs approval; a dry run shows what would go.",
    scopes: &[Scope::FileWrite],
    risk: Risk::Critical,
    effect: Effect::Destructive,
    kind: Kind::Host,
    idempotent: false,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

/// Arguments: DIR NAME EXPECT run|dry STEM ROOT…; EXPECT is a digest or `any`; the file's name in the trash is made of
/// the time on the target, a random number and STEM.
///
/// Both directories are held open by descriptor, and what was moved is compared with what was opened and judged.
const TEMPLATE: Template =
    Template { id: "file_delete.v1", body: concat!(paths::walk!(), include_str!("file_delete.sh")), stdin: false };

impl Tool for FileDelete {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        reason(&args.reason)?;
        let expect = expectation(args.expect_sha256.as_deref(), false)?;
        let target = Host::find(context, &args.target)?;
        let (directory, name) = paths::file_in("path", &args.path, &target)?;
        let roots = paths::reach(context, &target)?;
        let own = [
            directory.to_owned(),
            name.to_owned(),
            expect,
            if args.dry_run { "dry" } else { "run" }.to_owned(),
            stem(name).to_owned(),
        ];
        let mut script = Script::new(&TEMPLATE, own.into_iter().chain(roots.iter().cloned()));
        script.limit = Some(Duration::from_secs(60));
        let places = std::iter::once(args.path.clone()).chain(roots).collect();
        let operation = SPEC.operation(context, Some(target), &args, vec![Step::Script(script)])?;
        Ok(Operation {
            dry_run: args.dry_run,
            effect: if args.dry_run { Effect::Read } else { SPEC.effect },
            reason: Some(args.reason),
            places,
            ..operation
        })
    }

    fn rechecks(&self) -> &'static [&'static str] {
        &["expect_sha256", "size", "mode", "owner", "mtime"]
    }

    fn settle(&self, arguments: &Map<String, Value>, preview: &Content) -> Result<Settled, ToolError> {
        let before = preview.before.as_ref().ok_or_else(|| ToolError::unreadable("the file"))?;
        let settled = Settled::unchanged(arguments);
        Ok(match preview.data.get("before_sha256").and_then(Value::as_str) {
            Some(digest) => settled.pin("expect_sha256", digest).stay(before, &["size", "mode", "owner"]),
            // Too large to be read for a question: its time stands in for its content.
            None => settled.stay(before, &["size", "mode", "owner", "mtime"]),
        })
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let args: Args = arguments(&raw.operation.arguments)?;
        let output = script(raw, 0)?;
        let before = Before::read(&paths::section(output, "before")?);
        let Some(Before { sha256, facts: Some(facts) }) = before else {
            return Err(ToolError::unreadable("the file"));
        };
        let trash = if args.dry_run {
            None
        } else {
            let place = String::from_utf8_lossy(&paths::section(output, "trash")?).trim_end().to_owned();
            Some(place)
        };
        let after = trash.as_ref().map(|trash| json!({"trash": trash}));
        let answer = Data { path: args.path, size: facts.size, before_sha256: sha256.clone(), trash };
        Ok(Content {
            changed: Some(!args.dry_run),
            before: Some(
                json!({"sha256": sha256, "size": facts.size, "mode": facts.mode, "owner": facts.owner, "mtime": facts.mtime}),
            ),
            after,
            ..Content::new(data(&answer)?)
        })
    }
}

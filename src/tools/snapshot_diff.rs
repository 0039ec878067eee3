//! `snapshot_diff`: what differs between two snapshots, or between one and the targets as they are now. Changes nothing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    kit::{Host, answer, arguments, schema_of, within},
    snapshot_create::in_order,
};
use crate::model::{Content, Effect, Inventory, Operation, Question, RawOutput, Risk, Scope, SnapshotId, Step, Survey};

/// The tool.
pub(super) struct SnapshotDiff;

/// The word for the targets as they are.
const NOW: &str = "now";

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// The older snapshot
    a: String,
    /// The newer one, or now
    #[serde(default = "now")]
    b: String,
    /// Only this one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    target: Option<String>,
    /// Default: all that both have
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sections: Vec<Inventory>,
    /// Most differences, 1 to 2000
    #[serde(default = "limit")]
    limit: u32,
}

fn now() -> String {
    NOW.to_owned()
}

fn limit() -> u32 {
    200
}

/// The shape of the answer.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Data {
    a: Moment,
    b: Moment,
    /// Those that differ
    targets: Vec<Differing>,
    /// Differences in all
    total: u64,
    /// Targets without any
    unchanged: u32,
    only_in_a: Vec<String>,
    only_in_b: Vec<String>,
}

#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Moment {
    /// Null for now
    id: Option<String>,
    label: Option<String>,
    created_at: String,
}

#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Differing {
    id: String,
    /// By section: added, removed, and changed with both values
    sections: Map<String, Value>,
}

const SPEC: Spec = Spec {
    name: "snapshot_diff",
    title: "Compare snapshots",
    help: "What differs between two snapshots, or between one and now: packages, units, mounts, sockets, system fields.",
    scopes: &[Scope::FleetRead],
    risk: Risk::Low,
    effect: Effect::Read,
    kind: Kind::Gateway,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

impl Tool for SnapshotDiff {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let mut args: Args = arguments(raw)?;
        within("limit", args.limit, 1..=2000)?;
        args.sections = in_order("sections", &args.sections)?;
        let from = snapshot_id("a", &args.a)?;
        let to = if args.b == NOW { None } else { Some(snapshot_id("b", &args.b)?) };
        if to.as_ref() == Some(&from) {
            return Err(ToolError::invalid("b", "is the same snapshot as `a`"));
        }
        let target = args.target.as_deref().map(|id| Host::find(context, id)).transpose()?;
        let survey = Survey::Difference {
            from,
            to,
            target: target.map(|target| target.id.clone()),
            sections: args.sections.clone(),
            limit: args.limit,
        };
        SPEC.operation(context, None, &args, vec![Step::Gateway(Question::Survey(survey))])
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let mut answer = answer(raw)?.clone();
        let truncated = answer.as_object_mut().and_then(|answer| answer.remove("truncated")) == Some(true.into());
        let page = Content::page(answer).ok_or_else(|| ToolError::unreadable("not a page"))?;
        let mut content = Content { truncated, ..page };
        if truncated {
            content.warnings.push("there are more differences: a target, sections or a higher limit show them".into());
        }
        Ok(content)
    }
}

/// `text` as a snapshot's id. Errors name `field`.
pub(super) fn snapshot_id(field: &str, text: &str) -> Result<SnapshotId, ToolError> {
    SnapshotId::parse(text)
        .ok_or_else(|| ToolError::invalid(field, "must be the id of a snapshot, as snapshot_list shows it"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::rig::{fits_budget, plan_exactly},
        *,
    };

    const ID: &str = "0193f3a0000070008000000000000001";

    #[test]
    fn bad_ids_are_named() {
        for (args, field) in [
            (json!({"a": "now"}), "a"),
            (json!({"a": ID, "b": "later"}), "b"),
            (json!({"a": ID, "b": ID}), "b"),
            (json!({"a": ID, "sections": ["users"]}), "sections"),
        ] {
            let error = plan_exactly(&SnapshotDiff, &args).unwrap_err();
            assert!(error.message.contains(&format!("`{field}")), "{error}");
        }
        assert!(plan_exactly(&SnapshotDiff, &json!({"a": ID})).is_ok());
    }

    #[test]
    fn the_definition_is_short() {
        fits_budget(&SnapshotDiff);
    }
}

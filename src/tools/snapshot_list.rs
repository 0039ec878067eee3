//! `snapshot_list`: the snapshots that are kept of the caller's engagement, newest first.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    kit::{arguments, plain, schema_of, within},
    snapshot_diff::snapshot_id,
};
use crate::model::{Content, Effect, Operation, Question, RawOutput, Risk, Scope, SnapshotFilter, Step};

/// The tool.
pub(super) struct SnapshotList;

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// Only those labelled so
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    label: Option<String>,
    /// 1 to 200
    #[serde(default = "limit")]
    limit: u32,
    /// next_cursor of the page before
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    cursor: Option<String>,
}

fn limit() -> u32 {
    20
}

/// The shape of the answer.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Data {
    snapshots: Vec<Entry>,
    total: i64,
}

#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Entry {
    id: String,
    label: Option<String>,
    created_at: String,
    created_by: String,
    sections: Vec<String>,
    /// How many targets
    asked: i64,
    /// Of these, how many gave nothing
    failed: i64,
}

const SPEC: Spec = Spec {
    name: "snapshot_list",
    title: "List snapshots",
    help: "Lists the kept snapshots of the fleet, newest first, with the ids that snapshot_diff takes.",
    scopes: &[Scope::FleetRead],
    risk: Risk::Low,
    effect: Effect::Read,
    kind: Kind::Gateway,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

impl Tool for SnapshotList {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        within("limit", args.limit, 1..=200)?;
        args.label.as_deref().map_or(Ok(()), |label| plain("label", label, 64))?;
        let filter = SnapshotFilter {
            label: args.label.clone(),
            before: SPEC.place(args.cursor.as_ref(), |id| snapshot_id("cursor", id).ok())?,
            limit: args.limit,
        };
        SPEC.operation(context, None, &args, vec![Step::Gateway(Question::Snapshots(filter))])
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        SPEC.page(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::rig::fits_budget, *};

    #[test]
    fn the_definition_is_short() {
        fits_budget(&SnapshotList);
    }
}

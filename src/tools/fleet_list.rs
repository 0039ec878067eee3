//! `fleet_list`: the targets of the caller's engagement.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    kit::{answer, arguments, schema_of, within},
};
use crate::model::{Content, Effect, FleetFilter, Operation, Question, RawOutput, Risk, Scope, Step};

/// The tool.
pub(super) struct FleetList;

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// Only targets with this tag
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    /// Only targets in this segment
    #[serde(default, skip_serializing_if = "Option::is_none")]
    segment: Option<String>,
    /// Only targets of this kind, e.g. local
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// 1 to 200
    #[serde(default = "limit")]
    limit: u32,
    /// next_cursor of the page before
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

fn limit() -> u32 {
    50
}

/// The shape of the answer.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Data {
    targets: Vec<Entry>,
    total: u32,
}

#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Entry {
    id: String,
    kind: String,
    segment: Option<String>,
    tags: Vec<String>,
    capabilities: Vec<String>,
}

const SPEC: Spec = Spec {
    name: "fleet_list",
    title: "List targets",
    help: "Lists the targets you can operate, with kind, segment, tags and capabilities. Start here: every host tool needs a target id from this list.",
    scopes: &[Scope::FleetRead],
    risk: Risk::Low,
    effect: Effect::Read,
    kind: Kind::Gateway,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

impl Tool for FleetList {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        within("limit", args.limit, 1..=200)?;
        let filter = FleetFilter {
            tag: args.tag.clone(),
            segment: args.segment.clone(),
            kind: args.kind.clone(),
            after: args.cursor.as_deref().map(Into::into),
            limit: args.limit,
        };
        SPEC.operation(context, None, &args, vec![Step::Gateway(Question::Fleet(filter))])
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        Content::page(answer(raw)?.clone()).ok_or_else(|| ToolError::unreadable("not a page"))
    }
}

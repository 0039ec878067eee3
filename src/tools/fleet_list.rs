//! `fleet_list`: the targets of the caller's engagement, with how they did when they were last read. Reads none anew.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    kit::{arguments, schema_of, targets, within},
};
use crate::{
    config::is_id,
    model::{Content, Effect, FleetFilter, Health, Operation, Question, RawOutput, Risk, Scope, Step},
};

/// The tool.
pub(super) struct FleetList;

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    tag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    segment: Option<String>,
    /// E.g. local
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    kind: Option<String>,
    /// As last read
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Health")]
    health: Option<Health>,
    /// 1 to 200
    #[serde(default = "limit")]
    limit: u32,
    /// next_cursor of the page before
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
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
    /// With `health`: of how many targets that the rest selects nothing recent is known
    unknown: Option<u32>,
}

#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Entry {
    id: String,
    kind: String,
    segment: Option<String>,
    tags: Vec<String>,
    capabilities: Vec<String>,
    /// As last read; null where you may not read it
    health: Option<Health>,
    /// Null: never read
    facts_age_s: Option<i64>,
}

const SPEC: Spec = Spec {
    name: "fleet_list",
    title: "List targets",
    help: "Lists the targets you can operate, with kind, segment, tags, capabilities and health. Start here: every host tool needs a target id from this list.",
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
            health: args.health,
            after: SPEC.place(args.cursor.as_ref(), |id| is_id(id).then(|| id.into()))?,
            limit: args.limit,
            ..targets(args.tag.as_ref(), args.segment.as_ref(), args.kind.as_ref())
        };
        SPEC.operation(context, None, &args, vec![Step::Gateway(Question::Fleet(filter))])
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let mut content = SPEC.page(raw)?;
        let asked = raw.operation.arguments.get("health").and_then(Value::as_str);
        let unknown = content.data.get("unknown").and_then(Value::as_u64).unwrap_or_default();
        if unknown > 0 && asked != Some(Health::Unknown.as_str()) {
            let warning =
                format!("of {unknown} targets nothing recent is known; fleet_summarize with refresh reads them");
            content.warnings.push(warning);
        }
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::rig::{conforms, fits_budget, plan_exactly},
        *,
    };
    use crate::model::StepOutput;

    #[test]
    fn nobody_takes_what_is_not_known_for_well() {
        let shown = |health: &str, unknown: Value| {
            let operation = plan_exactly(&FleetList, &json!({"health": health})).unwrap();
            let data = json!({"targets": [], "total": 0, "unknown": unknown});
            conforms(&FleetList, &data);
            FleetList.render(&RawOutput { operation, outputs: vec![StepOutput::Answer(data)] }).unwrap().warnings
        };
        assert!(shown("critical", json!(3)).iter().any(|warning| warning.contains("of 3 targets nothing recent")));
        assert_eq!((shown("unknown", json!(3)), shown("ok", json!(0))), (Vec::new(), Vec::new()));
    }

    #[test]
    fn the_definition_is_short() {
        fits_budget(&FleetList);
    }
}

//! `fleet_summarize`: how the fleet does, worst first. From what is known, or read now on every target that the caller
//! may read; changes nothing on them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    kit::{arguments, schema_of, targets, within},
};
use crate::model::{Content, Effect, FleetFilter, Health, Operation, Question, RawOutput, Risk, Scope, Step, Survey};

/// The tool.
pub(super) struct FleetSummarize;

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    tag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    segment: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    kind: Option<String>,
    /// Read every target now, up to 50 s
    #[serde(default)]
    refresh: bool,
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
    /// Targets in all, and by health
    totals: Map<String, Value>,
    /// How many targets have each problem
    problems: Map<String, Value>,
    /// Worst first
    targets: Vec<Line>,
    /// Targets of one platform with other packages than most
    drift: Vec<Drift>,
    refreshed: bool,
}

#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Line {
    id: String,
    #[serde(flatten)]
    condition: Condition,
}

/// How one target does by what is known of it.
#[derive(Deserialize, Serialize, JsonSchema)]
pub(super) struct Condition {
    health: Health,
    platform: Option<String>,
    /// When its newest facts were read
    facts_at: Option<String>,
    facts_age_s: Option<i64>,
    /// Worst first
    findings: Vec<Finding>,
    /// Facts that could not be had
    unknown: Option<Vec<String>>,
}

#[derive(Deserialize, Serialize, JsonSchema)]
struct Finding {
    problem: String,
    health: Health,
    /// Units, mounts, or why it is unreachable
    what: Vec<String>,
    /// How many, percent or seconds
    number: u64,
    since: String,
}

#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Drift {
    platform: String,
    targets: u32,
    package_sets: u32,
    differ: u32,
    differing: Vec<String>,
}

const SPEC: Spec = Spec {
    name: "fleet_summarize",
    title: "Summarize the fleet",
    help: "How all targets do, worst first: unreachable, failed units, full disks, security updates, reboot needed, clock off. Without refresh: what was last read, with its age.",
    scopes: &[Scope::FleetRead],
    risk: Risk::Low,
    effect: Effect::Read,
    kind: Kind::Gateway,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

impl Tool for FleetSummarize {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        within("limit", args.limit, 1..=200)?;
        if args.refresh && args.cursor.is_some() {
            let wanted = "pages are of one reading: leave out refresh for the next page";
            return Err(ToolError::invalid("cursor", wanted));
        }
        let read = |place: &str| place.parse().ok().filter(|number| (1..=100_000).contains(number));
        let skip = SPEC.place(args.cursor.as_ref(), read)?.unwrap_or_default();
        let selected = targets(args.tag.as_ref(), args.segment.as_ref(), args.kind.as_ref());
        let filter = FleetFilter { limit: args.limit, ..selected };
        let survey = Survey::Summary { filter, refresh: args.refresh, skip };
        SPEC.operation(context, None, &args, vec![Step::Gateway(Question::Survey(survey))])
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let mut content = SPEC.page(raw)?;
        let unknown = content.data.pointer("/totals/unknown").and_then(Value::as_u64).unwrap_or_default();
        if unknown > 0 && content.data.get("refreshed") != Some(&Value::Bool(true)) {
            content
                .warnings
                .push(format!("of {unknown} targets nothing recent is known; refresh: true reads them now"));
        }
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::rig::{fits_budget, plan_exactly},
        *,
    };

    #[test]
    fn a_page_is_of_one_reading() {
        let error = plan_exactly(&FleetSummarize, &json!({"refresh": true, "cursor": "20"})).unwrap_err();
        assert!(error.message.contains("cursor"), "{error}");
        assert!(plan_exactly(&FleetSummarize, &json!({"cursor": "fleet_summarize:20"})).is_ok());
    }

    #[test]
    fn the_definition_is_short() {
        fits_budget(&FleetSummarize);
    }
}

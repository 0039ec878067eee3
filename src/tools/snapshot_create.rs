//! `snapshot_create`: keeps what targets are made of now, to be compared later. Writes only into the gateway's own
//! database; changes nothing on a target.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    kit::{arguments, plain, schema_of, targets},
    rights::marked,
};
use crate::model::{Content, Effect, Inventory, Operation, Question, RawOutput, Risk, Scope, Step, Survey};

/// The tool.
pub(super) struct SnapshotCreate;

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
    /// Default: all
    #[serde(default = "all")]
    sections: Vec<Inventory>,
    /// Your name for it, to find it by
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    label: Option<String>,
    /// Only show which targets
    #[serde(default)]
    dry_run: bool,
}

fn all() -> Vec<Inventory> {
    Inventory::ALL.to_vec()
}

/// The shape of the answer.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Data {
    /// Null on a dry run
    id: Option<String>,
    label: Option<String>,
    created_at: Option<String>,
    sections: Vec<String>,
    /// How many targets
    asked: u32,
    /// The first 200
    targets: Vec<String>,
    /// Older snapshots that went for this one
    dropped: Vec<String>,
}

const SPEC: Spec = Spec {
    name: "snapshot_create",
    title: "Take a snapshot",
    help: "Keeps what targets are made of now: system, packages, units, mounts, listening sockets. snapshot_diff compares it with later.",
    scopes: &[Scope::FleetRead],
    risk: Risk::Low,
    effect: Effect::Write,
    kind: Kind::Gateway,
    idempotent: false,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

impl Tool for SnapshotCreate {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let mut args: Args = arguments(raw)?;
        args.sections = in_order("sections", &args.sections)?;
        if args.sections.is_empty() {
            return Err(ToolError::invalid("sections", "must name at least one section, or be left out"));
        }
        args.label.as_deref().map_or(Ok(()), |label| plain("label", label, 64))?;
        let filter = targets(args.tag.as_ref(), args.segment.as_ref(), args.kind.as_ref());
        let survey = Survey::Snapshot { filter, sections: args.sections.clone(), label: args.label.clone() };
        let operation = SPEC.operation(context, None, &args, vec![Step::Gateway(Question::Survey(survey))])?;
        Ok(marked(operation, None, args.dry_run))
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let mut content = Content { changed: Some(!raw.operation.dry_run), ..SPEC.page(raw)? };
        let dropped = content.data.get("dropped").and_then(Value::as_array).map_or(0, Vec::len);
        if dropped > 0 {
            content.warnings.push(format!("only so many are kept: the oldest ({dropped}) went for this one"));
        }
        Ok(content)
    }
}

/// Each of `sections` once, in their own order.
pub(super) fn in_order(field: &str, sections: &[Inventory]) -> Result<Vec<Inventory>, ToolError> {
    if sections.len() > Inventory::ALL.len() {
        return Err(ToolError::invalid(field, "names a section twice"));
    }
    Ok(Inventory::ALL.into_iter().filter(|section| sections.contains(section)).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::rig::{fits_budget, plan_exactly},
        *,
    };

    #[test]
    fn a_dry_run_is_a_read() {
        let planned = |dry_run: bool| plan_exactly(&SnapshotCreate, &json!({"dry_run": dry_run})).unwrap();
        assert_eq!((planned(true).effect, planned(false).effect), (Effect::Read, Effect::Write));
    }

    #[test]
    fn sections_are_in_one_order() {
        let arguments = |sections| plan_exactly(&SnapshotCreate, &json!({"sections": sections})).unwrap().arguments;
        assert_eq!(arguments(json!(["packages", "os"])), arguments(json!(["os", "packages"])));
    }

    #[test]
    fn the_definition_is_short() {
        fits_budget(&SnapshotCreate);
    }
}

//! `gateway_inspect`: how is the gateway itself?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    kit::{answer, arguments, schema_of, words},
};
use crate::model::{Content, Effect, Operation, Question, RawOutput, Risk, Scope, Step};

/// The tool.
pub(super) struct GatewayInspect;

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// Default: all
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sections: Vec<Section>,
}

#[derive(Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Section {
    Version,
    Health,
    Config,
    Ages,
    Audit,
    Node,
    Peers,
}

/// The shape of the answer.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Data {
    #[serde(default)]
    version: Option<Map<String, Value>>,
    #[serde(default)]
    health: Option<Map<String, Value>>,
    #[serde(default)]
    config: Option<Map<String, Value>>,
    #[serde(default)]
    /// Of credentials
    ages: Option<Vec<Map<String, Value>>>,
    #[serde(default)]
    audit: Option<Map<String, Value>>,
    #[serde(default)]
    /// On the tailnet
    node: Option<Map<String, Value>>,
    #[serde(default)]
    /// Who would be let in, with which grants
    peers: Option<Map<String, Value>>,
}

const SPEC: Spec = Spec {
    name: "gateway_inspect",
    title: "Inspect the gateway",
    help: "Shows the gateway's version, health, configuration digest, ages of its credentials, the head of its audit log, its tailnet node and who may come in.",
    scopes: &[Scope::SecurityRead],
    risk: Risk::Low,
    effect: Effect::Read,
    kind: Kind::Gateway,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

impl Tool for GatewayInspect {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        let sections = words(&args.sections)?;
        SPEC.operation(context, None, &args, vec![Step::Gateway(Question::Gateway(sections))])
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        Content::page(answer(raw)?.clone()).ok_or_else(|| ToolError::unreadable("not an object"))
    }
}

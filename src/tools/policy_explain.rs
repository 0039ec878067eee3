//! `policy_explain`: what would policy say to this call? Nothing runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    APPROVAL_ID, Kind, PlanContext, Spec, Tool, ToolError, find,
    kit::{answer, arguments, schema_of},
};
use crate::model::{Content, Effect, Inquiry, Operation, Question, RawOutput, Risk, Scope, Step};

/// The tool.
pub(super) struct PolicyExplain;

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// The tool you would call
    tool: String,
    /// The arguments you would give it
    #[serde(default)]
    args: Map<String, Value>,
}

/// The shape of the answer.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Data {
    tool: String,
    /// allow, ask, deny or invalid
    decision: String,
    #[serde(default)]
    rule: Option<String>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
    /// Site policies that decided
    #[serde(default)]
    policies: Vec<String>,
    /// How many people must agree
    #[serde(default)]
    quorum: Option<u32>,
    /// What each yes must be: identity (of a connection) or signature (of an enrolled key)
    #[serde(default)]
    strength: Option<String>,
    checks: Vec<Check>,
    #[serde(default)]
    operation: Option<Map<String, Value>>,
}

#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Check {
    name: String,
    verdict: String,
    code: String,
    detail: String,
}

const SPEC: Spec = Spec {
    name: "policy_explain",
    title: "Explain a decision",
    help: "Says whether a call of yours would be allowed, would need approval or would be denied, with every check in order. Nothing runs.",
    scopes: &[Scope::PolicyRead],
    risk: Risk::Low,
    effect: Effect::Read,
    kind: Kind::Gateway,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

impl Tool for PolicyExplain {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        let asked = find(&args.tool)
            .ok_or_else(|| ToolError::invalid("tool", format_args!("there is no tool {:?}", args.tool)))?;
        if asked.spec().name == SPEC.name {
            return Err(ToolError::invalid("tool", "policy_explain does not explain itself"));
        }
        let mut wanted = args.args.clone();
        wanted.remove(APPROVAL_ID);
        let planned = asked.plan(&wanted, context).map_err(|error| (error.code, error.message));
        let inquiry = Inquiry { tool: args.tool.clone(), planned };
        SPEC.operation(context, None, &args, vec![Step::Gateway(Question::Policy(Box::new(inquiry)))])
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        Ok(Content::new(answer(raw)?.clone()))
    }
}

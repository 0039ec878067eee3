//! `token_inspect`: who am I and what may I do?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    kit::{answer, arguments, schema_of},
};
use crate::model::{Content, Effect, Operation, Question, RawOutput, Risk, Step};

/// The tool.
pub(super) struct TokenInspect;

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {}

/// The shape of the answer.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Data {
    jti: String,
    subject: String,
    owner: String,
    scopes: Vec<String>,
    engagement: String,
    targets: Option<Vec<String>>,
    tools: Option<Vec<String>>,
    paths: Option<Vec<String>>,
    issued: String,
    expires: String,
    expires_in_s: i64,
    binding: String,
    limits: Limits,
    peer: Peer,
}

#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Limits {
    calls_per_minute: u32,
    calls_burst: u32,
    writes_per_minute: u32,
    critical_per_hour: u32,
}

#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Peer {
    id: String,
    node: String,
    user: Option<String>,
    tags: Vec<String>,
    tailnet: Option<String>,
    /// What the tailnet policy grants this peer here; null where nothing narrows
    grants: Option<Vec<Grant>>,
}

#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Grant {
    scopes: Vec<String>,
    /// The only targets; null for all
    targets: Option<Vec<String>>,
    /// What its holder may approve
    approve: Option<Approves>,
}

#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Approves {
    risks: Option<Vec<String>>,
    segments: Option<Vec<String>>,
    tools: Option<Vec<String>>,
}

const SPEC: Spec = Spec {
    name: "token_inspect",
    title: "Inspect my token",
    help: "Shows who you are here: subject, scopes, engagement, expiry, limits, and the network identity of your connection.",
    scopes: &[],
    risk: Risk::Low,
    effect: Effect::Read,
    kind: Kind::Gateway,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

impl Tool for TokenInspect {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        SPEC.operation(context, None, &args, vec![Step::Gateway(Question::Token)])
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        Ok(Content::new(answer(raw)?.clone()))
    }
}

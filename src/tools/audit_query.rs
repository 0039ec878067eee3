//! `audit_query`: the records of the caller's engagement, newest first.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    kit::{arguments, schema_of, within, words},
};
use crate::{
    audit::Status,
    model::{AuditFilter, Content, Effect, Operation, Question, RawOutput, Risk, Scope, Step},
};

/// The tool.
pub(super) struct AuditQuery;

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    tool: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    target: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    status: Vec<Status>,
    /// RFC 3339, not before
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    since: Option<String>,
    /// RFC 3339, before
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    until: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    correlation_id: Option<String>,
    /// 1 to 200
    #[serde(default = "limit")]
    limit: u32,
    /// next_cursor of the last page
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
    records: Vec<Map<String, Value>>,
    log: Log,
}

#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Log {
    recording: bool,
    last_seq: i64,
    last_leaf_hash: Option<String>,
}

const SPEC: Spec = Spec {
    name: "audit_query",
    title: "Query the audit log",
    help: "Your engagement's records, newest first: who called what, and the end.",
    scopes: &[Scope::AuditRead],
    risk: Risk::Moderate,
    effect: Effect::Read,
    kind: Kind::Gateway,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

fn time(field: &str, text: Option<&String>) -> Result<Option<Timestamp>, ToolError> {
    let wanted = "must be a time with an offset such as 2026-01-31T08:00:00Z";
    text.map(|text| text.parse().map_err(|_| ToolError::invalid(field, wanted))).transpose()
}

impl Tool for AuditQuery {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        within("limit", args.limit, 1..=200)?;
        let filter = AuditFilter {
            subject: args.subject.clone(),
            tool: args.tool.clone(),
            target: args.target.clone(),
            status: words(&args.status)?,
            since: time("since", args.since.as_ref())?,
            until: time("until", args.until.as_ref())?,
            correlation_id: args.correlation_id.clone(),
            before: SPEC.place(args.cursor.as_ref(), |seq| seq.parse::<u64>().ok())?,
            limit: args.limit,
        };
        SPEC.operation(context, None, &args, vec![Step::Gateway(Question::Audit(filter))])
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        SPEC.page(raw)
    }
}

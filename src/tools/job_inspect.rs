//! `job_inspect`: how the caller's jobs stand. Of one it shows the end of its log and can wait for its end. Others' jobs
//! do not exist for the caller.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    kit::{arguments, schema_of, within},
};
use crate::model::{Content, Effect, JobFilter, JobId, Operation, Question, RawOutput, Risk, Step, is_job_id};

/// The tool.
pub(super) struct JobInspect;

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// None: list them
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    job_id: Option<String>,
    /// Seconds to wait for its end, 0 to 50
    #[serde(default)]
    wait_s: u32,
    /// Of its log, 0 to 1000
    #[serde(default = "lines")]
    lines: u32,
    /// Of the list, 1 to 100
    #[serde(default = "limit")]
    limit: u32,
    /// next_cursor of the page before
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    cursor: Option<String>,
}

fn lines() -> u32 {
    50
}

fn limit() -> u32 {
    20
}

/// The shape of the answer.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Data {
    /// The newest first
    jobs: Vec<Job>,
    /// The last lines of the job that was asked for
    log: Option<Vec<Line>>,
}

/// One job.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
pub(super) struct Job {
    id: String,
    tool: String,
    target: String,
    /// starting, running, succeeded, failed, cancelled, lost (gone, and nobody saw how) or not_started
    state: String,
    /// How it ended, in one word
    result: Option<String>,
    exit_status: Option<i32>,
    started_at: String,
    ended_at: Option<String>,
    /// When a planned shutdown is due
    due_at: Option<String>,
    old_boot_id: Option<String>,
    new_boot_id: Option<String>,
    /// How long the target was away
    down_s: Option<i64>,
    /// Whether somebody asked for its end
    cancelled: bool,
    /// Of the call that started it
    arguments: Map<String, Value>,
    correlation_id: String,
}

#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Line {
    at: Option<String>,
    text: String,
}

const SPEC: Spec = Spec {
    name: "job_inspect",
    title: "Inspect my jobs",
    help: "Shows work that outlives the call that started it: its state, exit status and log; wait_s waits for its end.",
    scopes: &[],
    risk: Risk::Low,
    effect: Effect::Read,
    kind: Kind::Gateway,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

/// `text` as the id of a job. Errors name `field`.
pub(super) fn job_id(field: &str, text: &str) -> Result<JobId, ToolError> {
    if is_job_id(text) {
        return Ok(text.into());
    }
    Err(ToolError::invalid(field, "must be the id of a job: 32 digits and letters from a to f"))
}

impl Tool for JobInspect {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        within("wait_s", args.wait_s, 0..=50)?;
        within("lines", args.lines, 0..=1000)?;
        within("limit", args.limit, 1..=100)?;
        if args.wait_s > 0 && args.job_id.is_none() {
            return Err(ToolError::invalid("wait_s", "waits for one job: name it by job_id"));
        }
        let filter = JobFilter {
            id: args.job_id.as_deref().map(|id| job_id("job_id", id)).transpose()?,
            wait_s: args.wait_s,
            lines: args.lines,
            after: SPEC.place(args.cursor.as_ref(), |id| job_id("cursor", id).ok())?,
            limit: args.limit,
        };
        SPEC.operation(context, None, &args, vec![Step::Gateway(Question::Jobs(filter))])
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        SPEC.page(raw)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tools::rig;

    #[test]
    fn it_waits_for_one_job_and_lists_many() {
        let asked = |args: Value| match rig::plan_exactly(&JobInspect, &args).unwrap().steps.remove(0) {
            Step::Gateway(Question::Jobs(filter)) => filter,
            other => panic!("{other:?}"),
        };
        assert_eq!(asked(json!({})), JobFilter { lines: 50, limit: 20, ..JobFilter::default() });
        let one = asked(json!({"job_id": rig::JOB, "wait_s": 50, "lines": 0}));
        assert_eq!((one.id.unwrap().as_str(), one.wait_s, one.lines), (rig::JOB, 50, 0));
        rig::fits_budget(&JobInspect);
    }
}

//! `job_cancel`: stops one of the caller's own jobs on its target, and looks again that it ended. Never another's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Settled, Spec, Tool, ToolError,
    job_inspect::{Job, job_id},
    kit::{answer, arguments, schema_of},
    rights::{marked, reason},
};
use crate::model::{Content, Effect, JobState, Operation, Question, RawOutput, Risk, Step};

/// The tool.
pub(super) struct JobCancel;

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    job_id: String,
    /// Only preview
    #[serde(default)]
    dry_run: bool,
    /// Why, 3 to 500 characters
    reason: String,
}

/// The shape of the answer.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Data {
    job: Job,
    /// Its state before
    was: String,
}

const SPEC: Spec = Spec {
    name: "job_cancel",
    title: "Cancel a job",
    help: "Stops one of your jobs on its target, and looks whether it ended. What it did so far stays done.",
    scopes: &[],
    risk: Risk::High,
    effect: Effect::Destructive,
    kind: Kind::Gateway,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

impl Tool for JobCancel {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        reason(&args.reason)?;
        let question = Question::JobCancel(job_id("job_id", &args.job_id)?);
        let operation = SPEC.operation(context, None, &args, vec![Step::Gateway(question)])?;
        Ok(marked(operation, Some(args.reason), args.dry_run))
    }

    fn rechecks(&self) -> &'static [&'static str] {
        &["was"]
    }

    fn settle(&self, arguments: &Map<String, Value>, preview: &Content) -> Result<Settled, ToolError> {
        Ok(Settled::unchanged(arguments).stay(&preview.data, &["was"]))
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let answer = answer(raw)?;
        let word = |at: &str| answer.pointer(at).and_then(Value::as_str).and_then(JobState::read);
        let (was, is) = (word("/was"), word("/job/state"));
        let (Some(was), Some(is)) = (was, is) else { return Err(ToolError::unreadable("how the job stands")) };
        let mut content = Content::new(answer.clone());
        content.changed = Some(was != is && is == JobState::Cancelled);
        if was.has_ended() {
            content.warnings.push("the job had ended before".into());
        } else if !raw.operation.dry_run && is != JobState::Cancelled {
            content.warnings.push("the job ended by itself before it could be stopped".into());
        }
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{model::StepOutput, tools::rig};

    #[test]
    fn only_what_was_stopped_is_a_change() {
        let answered = |dry: bool, was: &str, is: &str| {
            let wish = json!({"job_id": rig::JOB, "dry_run": dry, "reason": "took too long"});
            let operation = rig::plan_exactly(&JobCancel, &wish).unwrap();
            let answer = json!({"job": {"state": is}, "was": was});
            JobCancel.render(&RawOutput { operation, outputs: vec![StepOutput::Answer(answer)] }).unwrap()
        };
        assert_eq!(answered(false, "running", "cancelled").changed, Some(true));
        assert_eq!(answered(true, "running", "running").changed, Some(false));
        let late = answered(false, "running", "succeeded");
        assert_eq!((late.changed, late.warnings.len()), (Some(false), 1));
        assert!(answered(false, "failed", "failed").warnings[0].contains("had ended"));
        rig::fits_budget(&JobCancel);
    }
}

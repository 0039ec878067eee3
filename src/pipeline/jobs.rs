//! The station of calls that start jobs, and what the gateway answers about jobs. A job is shown to its owner only: the
//! same engagement and the same subject; for everybody else there is none of its id.

use std::time::Duration;

use serde_json::{Value, json};

use super::{CallError, ToolCall};
use crate::{
    auth::Caller,
    exec::Executors,
    fleet::{JobFault, Jobs},
    model::{JobFilter, JobId, Missing, Operation, Progress, RawOutput, WaitsFor, failpoint},
    policy::Permit,
    store::JobRow,
    tools::{ToolError, missing_right},
};

/// Runs what `permit` allows as a job: announced before anything runs, and what was seen of it kept before the answer.
pub(super) async fn run(
    (jobs, executors): (&Jobs, &Executors),
    caller: &Caller,
    call: &ToolCall,
    permit: Permit,
    waits_for: WaitsFor,
) -> Result<RawOutput, CallError> {
    let opened = jobs.open(caller, call.correlation, permit.operation(), waits_for).await?;
    failpoint("job-opened");
    let raw = executors.run_job(permit, &call.attribution(caller), &call.progress, opened.id()).await;
    failpoint("job-started");
    jobs.saw(&opened, raw.as_ref().ok()).await;
    failpoint("job-seen");
    Ok(raw?)
}

/// The caller's jobs that `filter` selects; of one, its log and, where it is asked to wait, its end.
pub(super) async fn listed(
    jobs: &Jobs,
    caller: &Caller,
    filter: &JobFilter,
    progress: &Progress,
) -> Result<Value, CallError> {
    let Some(id) = &filter.id else {
        let mut rows = jobs.all_of(caller, filter.after.as_ref(), filter.limit.saturating_add(1)).await?;
        let more = rows.len() > filter.limit as usize;
        rows.truncate(filter.limit as usize);
        let next = rows.last().filter(|_| more).map(|row| row.id.clone());
        let shown: Vec<Value> = rows.iter().map(shown).collect();
        return Ok(json!({"jobs": shown, "log": null, "next_cursor": next}));
    };
    let mut row = own(jobs, caller, id).await?;
    if !row.state.has_ended() {
        progress.begin(&row.target.as_str().into());
        row = jobs.wait(row, Duration::from_secs(filter.wait_s.into())).await?;
    }
    let mut partial = Vec::new();
    // A planned shutdown has no unit that could say anything.
    let lines = if row.waits_for == WaitsFor::Unit { filter.lines } else { 0 };
    let log = match lines {
        0 => None,
        lines => match jobs.log(&row, lines).await {
            Ok(log) => Some(log),
            Err(reason) => {
                partial.push(Missing { section: "log".into(), reason });
                None
            }
        },
    };
    Ok(json!({"jobs": [shown(&row)], "log": log, "next_cursor": null, "partial": partial}))
}

/// Stops the caller's job `id`; on a dry run, says how it stands.
pub(super) async fn cancelled(
    jobs: &Jobs,
    caller: &Caller,
    operation: &Operation,
    id: &JobId,
) -> Result<Value, CallError> {
    let row = own(jobs, caller, id).await?;
    let before = row.state;
    if operation.dry_run || row.state.has_ended() {
        return Ok(json!({"job": shown(&row), "was": before}));
    }
    let by = format!("{} ({})", caller.token().subject, caller.token().jti);
    let row = jobs.cancel(&row, &by).await.map_err(refused)?;
    Ok(json!({"job": shown(&row), "was": before}))
}

async fn own(jobs: &Jobs, caller: &Caller, id: &JobId) -> Result<JobRow, CallError> {
    jobs.of(caller, id).await?.ok_or_else(|| {
        let error = ToolError::new("not_found", format!("there is no job {id}"))
            .hint("job_inspect without a job_id lists your jobs");
        CallError::Failed { error, exec: Vec::new() }
    })
}

fn shown(row: &JobRow) -> Value {
    json!({
        "id": row.id,
        "tool": row.tool,
        "target": row.target,
        "state": row.state,
        "result": row.result,
        "exit_status": row.exit_status,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "due_at": row.due_at,
        "old_boot_id": row.boot_id.as_ref().filter(|_| row.waits_for != WaitsFor::Unit),
        "new_boot_id": row.new_boot_id,
        "down_s": row.down_s,
        "cancelled": row.cancelled_by.is_some(),
        "arguments": serde_json::from_str::<Value>(&row.operation).unwrap_or_default(),
        "correlation_id": row.correlation_id,
    })
}

fn refused(fault: JobFault) -> CallError {
    let text = fault.to_string();
    let error = match fault {
        JobFault::Store(error) => return error.into(),
        JobFault::NoTarget => ToolError::new("unknown_target", text),
        JobFault::Unasked(_) => {
            ToolError::new("unreachable", text).hint("the job goes on; job_inspect shows how it stands")
        }
        JobFault::Denied { user, command } => {
            let command: Vec<&str> = command.iter().map(String::as_str).collect();
            missing_right(&user, &command)
        }
        JobFault::StillRuns(_) => ToolError::new("still_running", text).hint("job_inspect shows how it stands"),
    };
    CallError::Failed { error, exec: Vec::new() }
}

//! What a look at a target says of a job. Pure: the row as it was, what was seen and when give the row as it is.

use jiff::{SignedDuration, Timestamp};

use super::Look;
use crate::{
    model::{JobSight, JobState, WaitsFor},
    store::JobRow,
};

/// A script is ended by the target itself within this time after its limit.
const SCRIPT_GRACE: SignedDuration = SignedDuration::from_secs(10);
/// How long a target may be away before its job is given up.
const PATIENCE: SignedDuration = SignedDuration::from_hours(24);
/// How long after a planned shutdown a target may take to be up again.
const BOOT_PATIENCE: SignedDuration = SignedDuration::from_mins(30);
/// How long after a planned shutdown a target that is not reached counts as off.
const OFF_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// The row after `look`.
pub(super) fn looked(row: &JobRow, look: &Look, now: Timestamp) -> JobRow {
    match look {
        Look::Seen(sight) => seen(row, sight, now),
        Look::Unasked(code) => unasked(row, code, now),
    }
}

/// The row of a job that never began, for the reason `why` (a code).
pub(super) fn not_started(row: &JobRow, now: Timestamp, why: &str) -> JobRow {
    JobRow { cleaned: true, ..ended(row, JobState::NotStarted, why, now) }
}

/// The row after the target showed `sight`.
pub(super) fn seen(row: &JobRow, sight: &JobSight, now: Timestamp) -> JobRow {
    match row.waits_for {
        WaitsFor::Unit => unit(row, sight, now),
        WaitsFor::Boot | WaitsFor::Down => boot(row, sight, now),
    }
}

fn ended(row: &JobRow, state: JobState, result: &str, now: Timestamp) -> JobRow {
    JobRow { state, result: Some(result.to_owned()), ended_at: Some(now), ..row.clone() }
}

/// Whether a script that was to start the job can still do so.
fn may_still_start(row: &JobRow, now: Timestamp) -> bool {
    now.duration_since(row.started_at) < SignedDuration::from_secs(row.script_s).saturating_add(SCRIPT_GRACE)
}

/// Whether the target has been up since the job was announced: only then would it still show a unit that began.
fn was_up(row: &JobRow, sight: &JobSight, now: Timestamp) -> bool {
    sight.uptime_s.is_some_and(|up| now.duration_since(row.started_at) <= SignedDuration::from_secs(up))
}

fn unit(row: &JobRow, sight: &JobSight, now: Timestamp) -> JobRow {
    if let Some(unit) = &sight.unit {
        let boot_id = sight.boot_id.clone().or_else(|| row.boot_id.clone());
        let known = JobRow { boot_id, seen_at: Some(now), exit_status: unit.exit_status, ..row.clone() };
        return match unit.state {
            Some(JobState::Succeeded) => ended(&known, JobState::Succeeded, &unit.result, now),
            Some(JobState::Failed) if row.cancelled_by.is_some() => {
                ended(&known, JobState::Cancelled, &unit.result, now)
            }
            Some(JobState::Failed) => ended(&known, JobState::Failed, &unit.result, now),
            _ => JobRow { state: JobState::Running, ..known },
        };
    }
    if !sight.is_gone() {
        return row.clone(); // systemd did not answer, which says nothing
    }
    let other_boot = sight.boot_id.is_some() && row.boot_id.is_some() && sight.boot_id != row.boot_id;
    match row.state {
        JobState::Starting if may_still_start(row, now) => row.clone(),
        JobState::Starting if was_up(row, sight, now) => not_started(row, now, "not_found"),
        // The boot that could have shown it is over.
        JobState::Starting => {
            JobRow { new_boot_id: sight.boot_id.clone(), cleaned: true, ..ended(row, JobState::Lost, "rebooted", now) }
        }
        _ if row.cancelled_by.is_some() => ended(row, JobState::Cancelled, "stopped", now),
        _ if other_boot => {
            JobRow { new_boot_id: sight.boot_id.clone(), cleaned: true, ..ended(row, JobState::Lost, "rebooted", now) }
        }
        _ => JobRow { cleaned: true, ..ended(row, JobState::Lost, "gone", now) },
    }
}

fn boot(row: &JobRow, sight: &JobSight, now: Timestamp) -> JobRow {
    // There is no unit to take away.
    let row = &JobRow { cleaned: true, ..row.clone() };
    let Some(running) = &sight.boot_id else { return row.clone() };
    let Some(old) = &row.boot_id else { return not_started(row, now, "unknown_boot") };
    if running != old {
        let up_since = sight.uptime_s.and_then(|up| now.checked_sub(SignedDuration::from_secs(up)).ok());
        let down = up_since.zip(row.seen_at).map(|(up, down)| up.duration_since(down).as_secs().max(0));
        let after = JobRow { new_boot_id: Some(running.clone()), down_s: down, ..row.clone() };
        return ended(&after, JobState::Succeeded, "rebooted", now);
    }
    let wanted = if row.waits_for == WaitsFor::Boot { "reboot" } else { "poweroff" };
    let due = match sight.planned.as_ref().filter(|(mode, _)| mode == wanted) {
        Some((_, at)) => {
            let due_at = at.or(row.due_at);
            return JobRow { state: JobState::Running, due_at, seen_at: Some(now), ..row.clone() };
        }
        None => row.due_at,
    };
    let seen = JobRow { seen_at: Some(now), ..row.clone() };
    match (row.state, due) {
        (JobState::Starting, _) if may_still_start(row, now) => row.clone(),
        (JobState::Starting, _) => not_started(row, now, "not_found"),
        _ if row.cancelled_by.is_some() => ended(&seen, JobState::Cancelled, "called_off", now),
        // At its time the plan is gone while the target still goes down.
        (_, Some(due)) if now >= due && now.duration_since(due) < BOOT_PATIENCE => seen,
        (_, Some(due)) if now >= due => ended(&seen, JobState::Failed, "still_up", now),
        _ => ended(&seen, JobState::Cancelled, "called_off", now),
    }
}

fn unasked(row: &JobRow, code: &str, now: Timestamp) -> JobRow {
    let since = |at: Timestamp, patience| now.duration_since(at) >= patience;
    match (row.waits_for, row.due_at) {
        (WaitsFor::Down, Some(due)) if code == "unreachable" && since(due, OFF_AFTER) => {
            ended(row, JobState::Succeeded, "unreachable", now)
        }
        (WaitsFor::Boot, Some(due)) if since(due, BOOT_PATIENCE) => ended(row, JobState::Lost, "not_back", now),
        _ if since(row.seen_at.unwrap_or(row.started_at), PATIENCE) => {
            JobRow { cleaned: true, ..ended(row, JobState::Lost, "unreachable", now) }
        }
        _ => row.clone(),
    }
}

#[cfg(test)]
mod tests;

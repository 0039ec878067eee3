//! What tools know of a job that their script started: its section of the output, how the answer shows it, and what a
//! host lets nobody start. Parses text only.

use schemars::JsonSchema;
use serde::Serialize;

use super::{ToolError, rights::denied, systemd::section};
use crate::model::{JobId, JobSight, JobState, Section, UnitSight};

/// A job, as the answer of the call that started it shows it.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Job {
    /// For job_inspect
    id: String,
    /// running, succeeded or failed
    state: &'static str,
    exit_status: Option<i32>,
}

/// The job that a script started, and how its unit stood at the end of the call; or why there is none. `rule` is what
/// sudoers would have to allow, behind the user and the program: [`rule`].
pub(super) fn started(sections: &[Section], user: &str, rule: &str) -> Result<(Job, UnitSight), ToolError> {
    let found = section(sections, "job").ok_or_else(|| ToolError::unreadable("the start of the job broke off"))?;
    if let Err(reason) = &found.content {
        return Err(ToolError::new("unsupported", format!("the target cannot run this as a job: {reason}"))
            .hint("nothing was changed; what may outlive a call needs systemd on the target"));
    }
    let sight = JobSight::read(&found.text());
    let text = |name: &str| section(sections, name).map(|section| section.text().trim().to_owned()).unwrap_or_default();
    match (sight.id, sight.unit, text("job_start").as_str()) {
        (Some(id), Some(unit), "0") => {
            let state = unit.state.ok_or_else(|| ToolError::unreadable("how the job stands"))?;
            Ok((Job { id: id.to_string(), state: state.as_str(), exit_status: unit.exit_status }, unit))
        }
        (Some(_), None, "0") => {
            Err(ToolError::new("unknown_outcome", "the job was started, and is gone from the target")
                .hint("look at the target before trying again"))
        }
        (None, ..) if text("job_start") == "0" => {
            Err(ToolError::new("unknown_outcome", "the job was started, and the target does not say how it stands")
                .hint("job_inspect shows it as soon as the target does"))
        }
        (_, _, "") => Err(ToolError::unreadable("the start of the job broke off")),
        (_, _, status) => Err(unstarted(user, status.parse().unwrap_or(1), &text("job_errors"), rule)),
    }
}

impl Job {
    /// One that was started and cannot have ended yet.
    pub(super) fn running(id: &JobId) -> Self {
        Self { id: id.to_string(), state: JobState::Running.as_str(), exit_status: None }
    }

    /// Whether the call ended before the job.
    pub(super) fn goes_on(&self) -> bool {
        self.state == JobState::Running.as_str()
    }

    /// What to tell the caller where it does.
    pub(super) fn note(&self) -> String {
        format!("the job goes on: job_inspect with job_id {} and wait_s waits for its end", self.id)
    }
}

fn unstarted(user: &str, status: i32, errors: &str, rule: &str) -> ToolError {
    if denied(status, errors) {
        return ToolError::new("permission_denied", format!("{user} may not run systemd-run for this")).hint(format!(
            "add this line to sudoers (1.9.10 or later) on the target, and set its sudo to limited: \
             {user} ALL=(root) NOPASSWD: /usr/bin/systemd-run {rule}"
        ));
    }
    let first = errors.lines().find(|line| !line.is_empty()).unwrap_or("no reason was given");
    if errors.contains("already loaded") {
        return ToolError::new("already_started", format!("the target has this job already: {first}"));
    }
    ToolError::new("job_failed", format!("the target did not start the job: {first}"))
}

/// The arguments that `sudoers(5)` has to allow systemd-run for a job that runs `command` (as a regular expression) for
/// at most `seconds`: one expression, as the name of the unit differs from job to job.
pub(super) fn rule(seconds: u32, command: &str) -> String {
    format!(
        "^--quiet --no-ask-password --unit=tailops-[0-9a-f]+ -p Type=exec -p RemainAfterExit=yes \
         -p RuntimeMaxSec={seconds} -E LC_ALL=C -E DEBIAN_FRONTEND=noninteractive -- {command}$"
    )
}

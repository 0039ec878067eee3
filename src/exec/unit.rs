//! Looking at the unit of a job, and ending it.
//!
//! These scripts run without a permit of their own, as the trial of a target does. Why they may: they act on nothing but
//! the unit that is named after a job (and, for a planned shutdown, on the one of its boot), a job exists only where a
//! permit started it, and they can only read how it stands, stop it and take it away. `fleet::jobs` alone calls them.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{ExecError, Executors, Watch, on_target};
use crate::model::{Attribution, JobId, Progress, Script, ScriptOutput, StepOutput, Target, Template, WaitsFor};

static LOOK: Template = Template { id: "job_look.v1", stdin: false, body: include_str!("unit/look.sh") };
static STOP: Template = Template { id: "job_stop.v1", stdin: false, body: include_str!("unit/stop.sh") };

/// The longest a look may take.
const LOOK_LIMIT: Duration = Duration::from_secs(20);

/// How a job is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStop<'a> {
    /// Its unit is stopped.
    Unit,
    /// Its unit, which has ended, is taken away; one that runs stays.
    Clean,
    /// The shutdown that was planned in this boot is called off.
    Shutdown(&'a str),
}

impl Executors {
    /// Looks how `job` stands on `target`, and at the last `lines` lines of its log. An error means that nothing ran.
    pub async fn look_at_job(
        &self,
        target: &Arc<Target>,
        job: &JobId,
        lines: u32,
        attribution: &Attribution,
    ) -> Result<ScriptOutput, ExecError> {
        let mut script = Script::new(&LOOK, [lines.to_string()]).about_job(WaitsFor::Unit);
        script.limit = Some(LOOK_LIMIT);
        self.about_job(target, job, &script, attribution).await
    }

    /// Ends `job` on `target`, and looks again. An error means that nothing ran.
    pub async fn stop_job(
        &self,
        target: &Arc<Target>,
        job: &JobId,
        how: JobStop<'_>,
        attribution: &Attribution,
    ) -> Result<ScriptOutput, ExecError> {
        let (word, boot) = match how {
            JobStop::Unit => ("unit", ""),
            JobStop::Clean => ("clean", ""),
            JobStop::Shutdown(boot) => ("shutdown", boot),
        };
        let script = Script::new(&STOP, [rights(target), word, boot]).about_job(WaitsFor::Unit);
        self.about_job(target, job, &script, attribution).await
    }

    async fn about_job(
        &self,
        target: &Arc<Target>,
        job: &JobId,
        script: &Script,
        attribution: &Attribution,
    ) -> Result<ScriptOutput, ExecError> {
        let backend = self.backend(target, target.kind)?;
        let (cancel, progress) = (CancellationToken::new(), Progress::default());
        let _place = self.queue.enter(target, &cancel).await?;
        let watch = Watch { attribution, cancel: &cancel, progress: &progress, job: Some(job) };
        match on_target(backend, target, script, watch).await {
            StepOutput::Script(output) => Ok(*output),
            _ => Err(ExecError::NoExecutor),
        }
    }
}

/// The word that tells a script whether to ask for more rights.
fn rights(target: &Target) -> &'static str {
    if target.sudo.is_used() { "sudo" } else { "direct" }
}

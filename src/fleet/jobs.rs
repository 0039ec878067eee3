//! Jobs: work on targets that outlives the call that started it.
//!
//! Answers for what is known of each: announced in the database before anything runs, watched until its end is seen on
//! the target, also by a gateway that was started since, and that end recorded in the audit log. Never starts anything:
//! only a permit does. Whose a job is never changes, and to everybody else it does not exist.

mod follow;
mod judge;
mod log;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

pub use self::log::LogLine;
use crate::{
    audit::{Audit, Unrecorded},
    auth::Caller,
    exec::{Executors, JobStop},
    guard::Guard,
    model::{
        Attribution, Clock, CorrelationId, EngagementId, JobId, JobSight, JobState, Operation, RawOutput, ScriptOutput,
        Step, StepOutcome, StepOutput, Target, WaitsFor, failpoint,
    },
    store::{JobRow, Store, StoreError},
};

/// Finds a target of an engagement, as it is configured now.
pub type FindTarget = Arc<dyn Fn(&EngagementId, &str) -> Option<Arc<Target>> + Send + Sync>;

/// Every job.
pub struct Jobs {
    store: Store,
    executors: Arc<Executors>,
    audit: Arc<Audit>,
    guard: Arc<Guard>,
    clock: Arc<dyn Clock>,
    targets: FindTarget,
    /// Jobs whose starting call still runs and sees to them.
    attended: Mutex<HashSet<String>>,
    /// Held while the end of a job is put on record.
    recording: tokio::sync::Mutex<()>,
    poke: Notify,
}

/// A job whose starting call runs: the follower leaves it alone until this is dropped.
pub struct Opened<'a> {
    jobs: &'a Jobs,
    row: JobRow,
    id: JobId,
}

impl Opened<'_> {
    /// Its id.
    pub fn id(&self) -> &JobId {
        &self.id
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.jobs.attended.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.row.id);
        self.jobs.poke.notify_one();
    }
}

/// Why nothing could be done about a job.
#[derive(Debug, thiserror::Error)]
pub enum JobFault {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The target is not configured any more.
    #[error("the target of the job is not there any more")]
    NoTarget,
    /// The target could not be asked.
    #[error("the target could not be asked: {0}")]
    Unasked(String),
    /// The login user may not end it.
    #[error("{user} may not stop the job on the target")]
    Denied {
        /// The login user.
        user: String,
        /// What the user may not run.
        command: Vec<String>,
    },
    /// It was told to stop, and still runs.
    #[error("the job still runs: {0}")]
    StillRuns(String),
}

/// What one look at a target found.
enum Look {
    /// What it shows.
    Seen(JobSight),
    /// It could not be asked, for this reason (a code).
    Unasked(&'static str),
}

impl Jobs {
    /// Kept in `store`, looked after through `executors`.
    pub fn new(
        (store, clock): (Store, Arc<dyn Clock>),
        executors: Arc<Executors>,
        (audit, guard): (Arc<Audit>, Arc<Guard>),
        targets: FindTarget,
    ) -> Self {
        let (attended, recording, poke) = (Mutex::default(), tokio::sync::Mutex::default(), Notify::new());
        Self { store, executors, audit, guard, clock, targets, attended, recording, poke }
    }

    /// What an operation waits for that starts a job; none for one that starts none.
    pub fn started_by(operation: &Operation) -> Option<WaitsFor> {
        operation.steps.iter().find_map(|step| match step {
            Step::Script(script) => script.job,
            _ => None,
        })
    }

    /// Announces the job that `operation` starts. Durable when it returns.
    pub async fn open(
        &self,
        caller: &Caller,
        correlation: CorrelationId,
        operation: &Operation,
        waits_for: WaitsFor,
    ) -> Result<Opened<'_>, StoreError> {
        let (id, token) = (JobId::random(), caller.token());
        let target = operation.target.as_ref();
        let shown = self.guard.arguments(&operation.arguments).arguments;
        let row = JobRow {
            id: id.to_string(),
            tool: operation.tool.to_owned(),
            target: target.map(|target| target.id.to_string()).unwrap_or_default(),
            engagement: operation.engagement.to_string(),
            subject: token.subject.clone(),
            owner: token.owner.clone(),
            jti: token.jti.to_string(),
            correlation_id: correlation.to_string(),
            operation: serde_json::Value::Object(shown).to_string(),
            script_s: target.map_or(0, |target| i64::try_from(target.timeout.as_secs()).unwrap_or(i64::MAX)),
            state: JobState::Starting,
            waits_for,
            // A call that ends a boot names it.
            boot_id: operation.arguments.get("boot_id").and_then(|boot| boot.as_str()).map(str::to_owned),
            new_boot_id: None,
            due_at: None,
            down_s: None,
            result: None,
            exit_status: None,
            cancelled_by: None,
            started_at: self.clock.now(),
            seen_at: None,
            ended_at: None,
            recorded: false,
            cleaned: false,
        };
        self.attended.lock().unwrap_or_else(PoisonError::into_inner).insert(row.id.clone());
        let opened = Opened { jobs: self, row, id };
        self.store.insert_job(&opened.row).await?;
        Ok(opened)
    }

    /// Keeps what the starting call saw of its job; `raw` is none where nothing ran. What it did not see, the follower
    /// finds out.
    pub async fn saw(&self, opened: &Opened<'_>, raw: Option<&RawOutput>) {
        let script = raw.and_then(|raw| raw.outputs.last()).and_then(|output| match output {
            StepOutput::Script(script) => Some(script.as_ref()),
            _ => None,
        });
        let (now, waits_for) = (self.clock.now(), opened.row.waits_for);
        let after = match script.map(|script| (script, &script.outcome)) {
            None => judge::not_started(&opened.row, now, "not_run"),
            Some((_, StepOutcome::NotStarted { code, .. })) => judge::not_started(&opened.row, now, code),
            Some((script, StepOutcome::Exited(_))) => match sight(script, "job") {
                None => judge::not_started(&opened.row, now, "refused"),
                Some(sight) if waits_for == WaitsFor::Unit && sight.is_gone() && start_failed(script) => {
                    judge::not_started(&opened.row, now, "refused")
                }
                Some(sight) => judge::seen(&opened.row, &sight, now),
            },
            Some(_) => return, // cut short: only the target knows
        };
        // The record of the call itself says that nothing was started.
        let recorded = after.state == JobState::NotStarted;
        if let Err(error) = self.settle(after, recorded).await {
            tracing::warn!(job = %opened.id, %error, "what became of a job could not be kept; it is looked for again");
        }
    }

    /// The caller's job `id`, as it is kept.
    pub async fn of(&self, caller: &Caller, id: &JobId) -> Result<Option<JobRow>, StoreError> {
        let token = caller.token();
        let row = self.store.job(id.as_str()).await?;
        Ok(row.filter(|row| row.engagement == token.engagement.as_str() && row.subject == token.subject))
    }

    /// The caller's jobs, the newest first: at most `limit`, those older than `after`.
    pub async fn all_of(&self, caller: &Caller, after: Option<&JobId>, limit: u32) -> Result<Vec<JobRow>, StoreError> {
        let token = caller.token();
        let after = after.map(JobId::as_str);
        self.store.jobs_of(token.engagement.as_str(), &token.subject, after, limit).await
    }

    /// Waits until the job of `row` has ended, at most `patience`, and says how it stands then.
    pub async fn wait(&self, mut row: JobRow, patience: Duration) -> Result<JobRow, StoreError> {
        let deadline = tokio::time::Instant::now() + patience;
        while !row.state.has_ended() {
            let attended = self.attended.lock().unwrap_or_else(PoisonError::into_inner).contains(&row.id);
            if !attended {
                let look = self.look(&row).await;
                self.settle(judge::looked(&row, &look, self.clock.now()), false).await?;
            }
            match self.store.job(&row.id).await? {
                Some(now) => row = now,
                None => break,
            }
            let now = tokio::time::Instant::now();
            if row.state.has_ended() || now >= deadline {
                break;
            }
            tokio::time::sleep_until(deadline.min(now + Duration::from_secs(1))).await;
        }
        Ok(row)
    }

    /// The last `lines` lines of what the job said on its target, or why they cannot be had.
    pub async fn log(&self, row: &JobRow, lines: u32) -> Result<Vec<LogLine>, String> {
        let target = self.target(row).ok_or_else(|| "no_target".to_owned())?;
        let job = JobId::from(row.id.as_str());
        let output = self.executors.look_at_job(&target, &job, lines, &attribution(row)).await;
        let output = output.map_err(|error| error.code().to_owned())?;
        match &output.outcome {
            StepOutcome::Exited(_) => log::lines(&output),
            StepOutcome::NotStarted { code, .. } => Err((*code).to_owned()),
            _ => Err("unasked".to_owned()),
        }
    }

    /// Ends the job of `row` because `by` asks, and says how it stands then.
    pub async fn cancel(&self, row: &JobRow, by: &str) -> Result<JobRow, JobFault> {
        let target = self.target(row).ok_or(JobFault::NoTarget)?;
        let mut marked = JobRow { cancelled_by: Some(by.to_owned()), ..row.clone() };
        if !self.store.mark_job(&row.id, by).await? {
            // It ended meanwhile, or somebody else asks for its end at the same time.
            marked = self.store.job(&row.id).await?.unwrap_or(marked);
            if marked.state.has_ended() {
                return Ok(marked);
            }
        }
        let boot = row.boot_id.clone().unwrap_or_default();
        let how = if row.waits_for == WaitsFor::Unit { JobStop::Unit } else { JobStop::Shutdown(&boot) };
        let id = JobId::from(row.id.as_str());
        let output = self.executors.stop_job(&target, &id, how, &attribution(row)).await;
        let output = match output {
            Ok(output) => output,
            Err(error) => return Err(self.unmark(row, JobFault::Unasked(error.to_string())).await),
        };
        match &output.outcome {
            StepOutcome::Exited(_) => {}
            StepOutcome::NotStarted { why, .. } => {
                return Err(self.unmark(row, JobFault::Unasked(why.clone())).await);
            }
            // It may have been stopped: the mark stays, and the follower finds out.
            _ => return Err(JobFault::Unasked("the connection was lost; the job may have been stopped".into())),
        }
        // One that ended by itself before it was told to is what it was.
        let before = sight(&output, "before").unwrap_or_default();
        let ended = before.unit.as_ref().and_then(|unit| unit.state).is_some_and(JobState::has_ended);
        let after = match ended {
            true => {
                self.store.unmark_job(&row.id).await?;
                judge::seen(&JobRow { cancelled_by: None, ..row.clone() }, &before, self.clock.now())
            }
            false => judge::seen(&marked, &sight(&output, "job").unwrap_or_default(), self.clock.now()),
        };
        if !after.state.has_ended() {
            let fault = refused(&output, row);
            return Err(self.unmark(row, fault).await);
        }
        self.settle(after.clone(), false).await?;
        Ok(self.store.job(&row.id).await?.unwrap_or(after))
    }

    /// Takes the mark off that somebody asked for the end of the job of `row`.
    async fn unmark(&self, row: &JobRow, fault: JobFault) -> JobFault {
        match self.store.unmark_job(&row.id).await {
            Ok(()) => fault,
            Err(error) => error.into(),
        }
    }

    async fn look(&self, row: &JobRow) -> Look {
        let Some(target) = self.target(row) else { return Look::Unasked("no_target") };
        let job = JobId::from(row.id.as_str());
        match self.executors.look_at_job(&target, &job, 0, &attribution(row)).await {
            Err(error) => Look::Unasked(error.code()),
            Ok(output) => match (&output.outcome, sight(&output, "job")) {
                (StepOutcome::Exited(_), Some(sight)) if sight.boot_id.is_some() => Look::Seen(sight),
                (StepOutcome::NotStarted { code, .. }, _) => Look::Unasked(code),
                _ => Look::Unasked("unasked"),
            },
        }
    }

    /// Keeps `row`; where that is its end, puts it on record (unless it is `recorded` elsewhere) and tidies up after it.
    async fn settle(&self, row: JobRow, recorded: bool) -> Result<(), StoreError> {
        let kept = self.store.update_job(&row).await?;
        if !kept || row.ended_at.is_none() {
            return Ok(());
        }
        if recorded {
            self.store.job_recorded(&row.id).await?;
        } else if let Err(Unrecorded) = self.record(&row).await? {
            tracing::warn!(job = row.id, "the end of a job cannot be recorded now; it is tried again");
        }
        self.poke.notify_one();
        Ok(())
    }

    /// Puts the end of the job of `row` on record, where it is not yet. Whoever waits for a job and the follower come upon
    /// its end at the same time, so it is one at a time, and the row is read again.
    async fn record(&self, row: &JobRow) -> Result<Result<(), Unrecorded>, StoreError> {
        let _turn = self.recording.lock().await;
        if self.store.job(&row.id).await?.is_some_and(|kept| kept.recorded) {
            return Ok(Ok(()));
        }
        // Also where an earlier gateway wrote it and died before it could note that.
        if !self.audit.has_end_of(row).await? {
            if let Err(unrecorded) = self.audit.job_ended(row).await {
                return Ok(Err(unrecorded));
            }
            failpoint("job-recorded");
        }
        self.store.job_recorded(&row.id).await?;
        Ok(Ok(()))
    }

    fn target(&self, row: &JobRow) -> Option<Arc<Target>> {
        (self.targets)(&row.engagement.as_str().into(), &row.target)
    }
}

/// What the section `name` of a script's output shows of a job.
fn sight(output: &ScriptOutput, name: &str) -> Option<JobSight> {
    let sections = output.sections();
    let section = sections.iter().rev().find(|section| section.name == name && section.content.is_ok())?;
    Some(JobSight::read(&section.text()))
}

fn text(output: &ScriptOutput, name: &str) -> String {
    let sections = output.sections();
    sections
        .iter()
        .find(|section| section.name == name)
        .map(|section| section.text().trim().to_owned())
        .unwrap_or_default()
}

fn start_failed(output: &ScriptOutput) -> bool {
    text(output, "job_start") != "0"
}

/// Why a job that was told to end goes on.
fn refused(output: &ScriptOutput, row: &JobRow) -> JobFault {
    let errors = text(output, "errors");
    let denied = ["password is required", "not allowed", "may not run", "uthentication required", "ccess denied"];
    if denied.iter().any(|text| errors.contains(text)) || errors.contains("sudo: ") {
        let command = match row.waits_for {
            WaitsFor::Unit => format!("/usr/bin/systemctl stop --no-ask-password -- tailops-{}.service", row.id),
            WaitsFor::Boot | WaitsFor::Down => "/usr/sbin/shutdown -c".to_owned(),
        };
        let command = command.split(' ').map(str::to_owned).collect();
        return JobFault::Denied { user: text(output, "user"), command };
    }
    JobFault::StillRuns(errors.lines().next().unwrap_or("it did not end in time").to_owned())
}

/// For whom a job is looked after: whose it is.
fn attribution(row: &JobRow) -> Attribution {
    Attribution {
        subject: row.subject.clone(),
        correlation: row.correlation_id.parse().unwrap_or_else(|_| CorrelationId::random()),
    }
}

#[cfg(test)]
mod tests;

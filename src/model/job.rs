//! A job: work on a target that outlives the call that started it. Values only: how a job stands, and what a target
//! shows of one, read from text.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::JobId;

/// How a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It was announced; whether the target began is not known yet.
    Starting,
    /// The target works on it.
    Running,
    /// It ended well.
    Succeeded,
    /// It ended badly.
    Failed,
    /// It was stopped because its owner asked.
    Cancelled,
    /// It is gone from the target, and nobody saw how it ended.
    Lost,
    /// It was announced and never began.
    NotStarted,
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 7] =
        [Self::Starting, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled, Self::Lost, Self::NotStarted];

    /// The word that is kept and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
            Self::NotStarted => "not_started",
        }
    }

    /// The state that `word` names.
    pub fn read(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether nothing more comes of it.
    pub fn has_ended(self) -> bool {
        !matches!(self, Self::Starting | Self::Running)
    }
}

/// What the end of a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// The end of its unit.
    Unit,
    /// That the target runs another boot.
    Boot,
    /// That the target is off.
    Down,
}

impl WaitsFor {
    /// The word that is kept.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Boot => "boot",
            Self::Down => "down",
        }
    }

    /// What `word` names.
    pub fn read(word: &str) -> Option<Self> {
        [Self::Unit, Self::Boot, Self::Down].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// What a target shows of one job: the section `job` of a script's output, `KEY=VALUE` lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobSight {
    /// The job that it is about.
    pub id: Option<JobId>,
    /// How its unit stands; none where there is no unit of this name.
    pub unit: Option<UnitSight>,
    /// The boot that runs.
    pub boot_id: Option<String>,
    /// For how long it has been running, in seconds.
    pub uptime_s: Option<i64>,
    /// A shutdown that was planned: `reboot` or `poweroff`, and when.
    pub planned: Option<(String, Option<Timestamp>)>,
}

/// How a unit stands, by systemd's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitSight {
    /// `running`, `succeeded` or `failed`.
    pub state: Option<JobState>,
    /// systemd's `Result`: `success`, `exit-code`, `signal`, `timeout`, …
    pub result: String,
    /// The exit status of its main process, or the signal that killed it.
    pub exit_status: Option<i32>,
}

impl JobSight {
    /// Whether the target was asked for the unit, and has none of this name.
    pub fn is_gone(&self) -> bool {
        self.id.is_some() && self.unit.is_none()
    }

    /// What `text` says. What is not understood is left out.
    pub fn read(text: &str) -> Self {
        let pairs: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let value = |key: &str| pairs.get(key).map(|value| value.trim()).filter(|value| !value.is_empty());
        let planned = value("MODE").map(|mode| {
            let at = value("USEC").and_then(|at| Timestamp::from_microsecond(at.parse().ok()?).ok());
            (mode.to_owned(), at)
        });
        let id = value("Id").and_then(|id| id.strip_prefix("tailops-")?.strip_suffix(".service"));
        Self {
            id: id.filter(|id| is_job_id(id)).map(Into::into),
            unit: unit(&value),
            boot_id: value("Boot").map(str::to_owned),
            uptime_s: value("Uptime").and_then(|seconds| seconds.parse().ok()),
            planned,
        }
    }
}

fn unit<'a>(value: &impl Fn(&str) -> Option<&'a str>) -> Option<UnitSight> {
    let (load, active, sub) = (value("LoadState")?, value("ActiveState")?, value("SubState").unwrap_or_default());
    let state = match (load, active, sub) {
        // The unit of a job stays after its end (RemainAfterExit): one that is inactive was stopped by somebody.
        ("not-found", ..) | (_, "inactive", _) => return None,
        (_, "failed", _) => Some(JobState::Failed),
        (_, "active", "exited") => Some(JobState::Succeeded),
        (_, "active" | "activating" | "deactivating" | "reloading", _) => Some(JobState::Running),
        _ => None,
    };
    let exit_status = value("ExecMainStatus").and_then(|status| status.parse().ok());
    Some(UnitSight {
        state,
        result: value("Result").unwrap_or_default().to_owned(),
        exit_status: exit_status.filter(|_| matches!(state, Some(JobState::Succeeded | JobState::Failed))),
    })
}

/// Whether `text` is the id of a job: 32 hex digits in small letters.
pub fn is_job_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(load: &str, active: &str, sub: &str, result: &str, status: &str) -> Option<UnitSight> {
        let id = "0123456789abcdef0123456789abcdef";
        let text = format!(
            "Id=tailops-{id}.service\nLoadState={load}\nActiveState={active}\nSubState={sub}\nResult={result}\n\
             ExecMainStatus={status}\n"
        );
        let sight = JobSight::read(&text);
        assert_eq!(sight.id.unwrap().as_str(), id);
        sight.unit
    }

    #[test]
    fn units_are_read_as_systemd_prints_them() {
        let state = |unit: Option<UnitSight>| unit.and_then(|unit| Some((unit.state?, unit.exit_status)));
        assert_eq!(state(seen("loaded", "active", "running", "success", "0")), Some((JobState::Running, None)));
        assert_eq!(state(seen("loaded", "active", "exited", "success", "0")), Some((JobState::Succeeded, Some(0))));
        assert_eq!(state(seen("loaded", "failed", "failed", "exit-code", "100")), Some((JobState::Failed, Some(100))));
        assert_eq!(
            state(seen("loaded", "deactivating", "stop-sigterm", "timeout", "15")),
            Some((JobState::Running, None))
        );
        assert_eq!(seen("not-found", "inactive", "dead", "success", "0"), None);
        assert_eq!(seen("loaded", "inactive", "dead", "success", "0"), None);
    }

    #[test]
    fn a_planned_shutdown_is_read() {
        let sight = JobSight::read("Boot=abc\nUptime=17\nUSEC=1795219200000000\nWARN_WALL=1\nMODE=reboot\n");
        let (mode, at) = sight.planned.unwrap();
        assert_eq!((mode.as_str(), at.unwrap().as_second()), ("reboot", 1_795_219_200));
        assert_eq!((sight.boot_id.as_deref(), sight.uptime_s, sight.unit), (Some("abc"), Some(17), None));
    }

    #[test]
    fn words_are_read_back() {
        for state in JobState::ALL {
            assert_eq!(JobState::read(state.as_str()), Some(state));
        }
        assert_eq!(JobState::read("done"), None);
        assert!(!is_job_id("0123456789ABCDEF0123456789abcdef") && !is_job_id("") && !is_job_id(&"a".repeat(33)));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\PC|\n|=){0,200}") {
            let _ = JobSight::read(&text);
        }
    }
}

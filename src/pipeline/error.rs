//! Why a call gave no answer: one variant a station, with a text for the caller and one for the audit log.

use std::{borrow::Cow, collections::BTreeMap};

use super::reply::Envelope;
use crate::{
    approval::{Asked, Unapproved},
    audit::{Execution, Outcome, Status, Unrecorded},
    exec::ExecError,
    limits::Limited,
    model::{ApprovalId, StepOutcome, Stopped},
    policy::Denial,
    tools::ToolError,
};

/// Why a call gave no answer.
#[derive(Debug)]
pub enum CallError {
    /// The log cannot take records; whether something ran before that was found out.
    AuditUnavailable {
        /// Whether the operation was started.
        ran: bool,
    },
    /// No tool of this name.
    UnknownTool(String),
    /// The arguments make no operation.
    Plan(ToolError),
    /// Too often.
    Limited(Limited),
    /// Policy said no.
    Denied {
        /// For programs.
        code: &'static str,
        /// Which check, and what it wanted.
        message: String,
    },
    /// No person said yes.
    Unapproved {
        /// How it stands.
        why: Unapproved,
        /// What ran to show people what they are asked about.
        exec: Vec<Execution>,
    },
    /// Its caller would rather not try now; the question stands as it stood.
    NotNow(ApprovalId),
    /// No executor ran it.
    NotRun(ExecError),
    /// A step did not come to its own end.
    Unfinished {
        /// How it ended.
        outcome: StepOutcome,
        /// Whether it could have changed something.
        changes: bool,
        /// What ran.
        exec: Vec<Execution>,
    },
    /// It ran, and the tool says that it did not work.
    Failed {
        /// What the tool says.
        error: ToolError,
        /// What ran.
        exec: Vec<Execution>,
    },
    /// The gateway's own database failed.
    Unavailable(String),
    /// A fault of ours.
    Internal,
}

impl From<Unrecorded> for CallError {
    fn from(Unrecorded: Unrecorded) -> Self {
        Self::AuditUnavailable { ran: false }
    }
}

impl From<ToolError> for CallError {
    fn from(error: ToolError) -> Self {
        Self::Plan(error)
    }
}

impl From<Limited> for CallError {
    fn from(limited: Limited) -> Self {
        Self::Limited(limited)
    }
}

impl From<Unapproved> for CallError {
    fn from(why: Unapproved) -> Self {
        Self::Unapproved { why, exec: Vec::new() }
    }
}

impl From<Denial> for CallError {
    fn from(denial: Denial) -> Self {
        Self::Denied { code: denial.code(), message: denial.message().into_owned() }
    }
}

impl From<ExecError> for CallError {
    fn from(error: ExecError) -> Self {
        Self::NotRun(error)
    }
}

impl CallError {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AuditUnavailable { .. } => "audit_unavailable",
            Self::UnknownTool(_) => "unknown_tool",
            Self::Plan(error) | Self::Failed { error, .. } => error.code,
            Self::Limited(_) => "rate_limited",
            Self::Denied { code, .. } => code,
            Self::Unapproved { why, .. } => why.code(),
            Self::NotNow(_) => "approval_pending",
            Self::NotRun(error) => error.code(),
            Self::Unfinished { outcome, .. } => match outcome {
                StepOutcome::Exited(_) => "failed",
                StepOutcome::Signalled(_) => "killed",
                StepOutcome::Stopped { limit: "time", .. } => "timed_out",
                StepOutcome::Stopped { limit: "cancelled", .. } => "cancelled",
                StepOutcome::Stopped { .. } => "output_limit",
                StepOutcome::Lost(_) => "unknown_outcome",
                StepOutcome::NotStarted { code, .. } => code,
            },
            Self::Unavailable(_) => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// For the caller: what is wrong, without anything of the gateway's inside.
    pub fn message(&self) -> Cow<'_, str> {
        match self {
            Self::AuditUnavailable { ran: true } => {
                "the operation was started, but its outcome could not be recorded; look at the target before trying again".into()
            }
            Self::AuditUnavailable { ran: false } => "calls cannot be recorded now, so none is made".into(),
            Self::UnknownTool(name) => format!("there is no tool {name:?}").into(),
            Self::Plan(error) | Self::Failed { error, .. } => error.message.as_str().into(),
            Self::Limited(limited) => limited.to_string().into(),
            Self::Denied { message, .. } => message.as_str().into(),
            Self::Unapproved { why, .. } => why.to_string().into(),
            Self::NotNow(id) => format!("nothing was tried: approval {id} stands as it stood").into(),
            Self::NotRun(error) => error.to_string().into(),
            Self::Unfinished { outcome, changes, .. } => unfinished(outcome, *changes).into(),
            Self::Unavailable(_) => "the gateway's database cannot be read now".into(),
            Self::Internal => "the gateway failed; the correlation id finds it in its log".into(),
        }
    }

    /// For the caller: what would help.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Plan(error) | Self::Failed { error, .. } => error.hint.as_deref(),
            Self::Denied { .. } => Some("policy_explain shows every check; token_inspect shows what this token may do"),
            Self::Unapproved { why, .. } => Some(why.hint()),
            Self::NotNow(_) => {
                Some("approval_list shows how it stands; the same call with this approval_id tries again")
            }
            Self::UnknownTool(_) => Some("tools/list shows the tools this token can use"),
            _ => None,
        }
    }

    /// What people were asked.
    pub fn asked(&self) -> Option<&Asked> {
        match self {
            Self::Unapproved { why: Unapproved::Required { asked, .. }, .. } => Some(asked),
            _ => None,
        }
    }

    /// Seconds to wait, where waiting helps.
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Limited(limited) => Some(limited.retry_after_s()),
            _ => None,
        }
    }

    /// What ran before it failed.
    pub fn exec(&self) -> &[Execution] {
        match self {
            Self::Unapproved { exec, .. } | Self::Unfinished { exec, .. } | Self::Failed { exec, .. } => exec,
            _ => &[],
        }
    }

    fn status(&self) -> Status {
        match self {
            Self::UnknownTool(_) | Self::Plan(_) => Status::Invalid,
            Self::Limited(_) => Status::Limited,
            Self::Unapproved { why: Unapproved::Required { .. }, .. } => Status::Asked,
            Self::Unapproved { why: Unapproved::NotRecorded(_) | Unapproved::Store(_), .. } => Status::Failed,
            Self::Denied { .. } | Self::Unapproved { .. } | Self::NotNow(_) => Status::Denied,
            Self::Unfinished { outcome: StepOutcome::Stopped { limit: "cancelled", .. }, .. }
            | Self::NotRun(ExecError::Cancelled) => Status::Cancelled,
            _ => Status::Failed,
        }
    }

    /// For the auditor: the caller's text, and what only the auditor may see.
    fn audit_text(&self) -> String {
        match self {
            Self::Unavailable(error) | Self::Unapproved { why: Unapproved::Store(error), .. } => {
                format!("{}: {error}", self.message())
            }
            Self::Unapproved { why: Unapproved::BreakGlass { why, .. }, .. } => format!("{}: {why}", self.message()),
            Self::Unfinished { outcome: StepOutcome::NotStarted { why, .. } | StepOutcome::Lost(why), .. } => {
                format!("{}: {why}", self.message())
            }
            _ => self.message().into_owned(),
        }
    }
}

fn unfinished(outcome: &StepOutcome, changes: bool) -> String {
    let what = match outcome {
        StepOutcome::Exited(code) => format!("the step ended with status {code}"),
        StepOutcome::Signalled(signal) => format!("the step was killed by signal {signal}"),
        StepOutcome::Stopped { limit, stopped } => {
            let why = match *limit {
                "time" => "the step ran over its time",
                "cancelled" => "the caller went away",
                _ => "the step gave too much output",
            };
            let how = match stopped {
                Stopped::Confirmed => "it was stopped",
                Stopped::Requested => "it was told to stop, and some process may be left",
            };
            format!("{why}; {how}")
        }
        StepOutcome::Lost(_) => "the connection was lost; whether the step ran is unknown".to_owned(),
        StepOutcome::NotStarted { code, .. } => format!("the step could not be started{}", kept_by(code)),
    };
    let started = !matches!(outcome, StepOutcome::NotStarted { .. });
    if changes && started { format!("{what}; look at the target before trying again") } else { what }
}

/// What kept a step from a target, in words that hold nothing of the host's and nothing of the gateway's inside.
fn kept_by(code: &str) -> &'static str {
    match code {
        "unreachable" => ": the target does not answer",
        "circuit_open" => {
            ": the target did not answer several times in a row, and is left alone for a while; call again later"
        }
        "busy" => ": too many connections are open, or being opened to the target; call again later",
        "host_key_unknown" => ": nothing speaks for the key that the target shows; a person has to enrol it",
        "host_key_mismatch" => ": the target shows another key than it was enrolled with; a person has to look why",
        "weak_algorithms" => ": the target offers no algorithm that is safe",
        "login_refused" => ": the target turned down the login",
        "no_session" => ": the target opens no session",
        "jump_unusable" => ": the target's jump host cannot be used",
        _ => "",
    }
}

/// How `result` stands in the log.
pub(super) fn outcome_of(result: &Result<Envelope, CallError>) -> Outcome {
    match result {
        Ok(envelope) => Outcome {
            status: Status::Ok,
            code: None,
            error: None,
            exec: envelope.exec.clone(),
            redactions: envelope.redactions.clone(),
        },
        Err(error) => Outcome {
            status: error.status(),
            code: Some(error.code()),
            error: (error.status() != Status::Asked).then(|| error.audit_text()),
            exec: error.exec().to_vec(),
            redactions: BTreeMap::new(),
        },
    }
}

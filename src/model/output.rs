//! What came back from running an operation, before anything of it may leave.

use std::{borrow::Cow, time::Duration};

use serde_json::Value;

use super::{Operation, ProbeEnd, ProbeOutput};

/// What the steps of one operation gave, with the operation itself. Raw: only `guard` turns it into something that
/// may leave.
#[derive(Debug)]
pub struct RawOutput {
    /// What ran.
    pub operation: Operation,
    /// One output a step that ran, two where a probe ended in a script; a step that failed is the last.
    pub outputs: Vec<StepOutput>,
}

/// What one step gave.
#[derive(Debug)]
pub enum StepOutput {
    /// A script ran, or failed to.
    Script(Box<ScriptOutput>),
    /// The gateway's answer to a question.
    Answer(Value),
    /// A probe was made.
    Probe(Box<ProbeOutput>),
}

impl StepOutput {
    /// How the step ended, if it did not come to an end by itself.
    pub fn unfinished(&self) -> Option<StepOutcome> {
        match self {
            Self::Script(script) if !matches!(script.outcome, StepOutcome::Exited(_)) => Some(script.outcome.clone()),
            Self::Probe(probe) => match probe.end {
                ProbeEnd::Stopped(stopped) => Some(StepOutcome::Stopped { limit: "cancelled", stopped }),
                _ => None,
            },
            Self::Script(_) | Self::Answer(_) => None,
        }
    }
}

/// What running one script gave.
#[derive(Debug)]
pub struct ScriptOutput {
    /// The template's id.
    pub template_id: &'static str,
    /// Hex SHA-256 of the command line that ran; empty where none could be made.
    pub argv_sha256: String,
    /// The random marker that opened sections in this run.
    pub marker: String,
    /// How it ended.
    pub outcome: StepOutcome,
    /// Standard output.
    pub stdout: Captured,
    /// Standard error.
    pub stderr: Captured,
    /// From start to end, queueing left out.
    pub duration: Duration,
    /// How the target was reached; none for the machine of the gateway.
    pub wire: Option<Wire>,
}

/// The connection that a step went over, for the record: what joins it with the target's own log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The login user.
    pub login: String,
    /// Fingerprint of the host key that the target proved to have.
    pub host_key: String,
    /// What spoke for that key.
    pub trust: HostTrust,
    /// What the target's log names the login by: the key id of a certificate, or the fingerprint of a key.
    pub credential: String,
}

/// What spoke for a host key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostTrust {
    /// A certificate by the authority whose key has this fingerprint.
    Certificate(String),
    /// The network map has it for the target's node.
    NetworkMap,
    /// It was pinned.
    Pin,
}

impl HostTrust {
    /// For programs and records.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Certificate(_) => "certificate",
            Self::NetworkMap => "network_map",
            Self::Pin => "pin",
        }
    }

    /// The fingerprint of the authority, where it was a certificate.
    pub fn authority(&self) -> Option<&str> {
        match self {
            Self::Certificate(authority) => Some(authority),
            Self::NetworkMap | Self::Pin => None,
        }
    }
}

/// The five ways a step ends. Only `NotStarted` is safe to retry unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// It ended with this exit status.
    Exited(i32),
    /// This signal ended it, and we did not send it.
    Signalled(i32),
    /// Its time or its output ran over a limit, or its caller went away, and we stopped it.
    Stopped {
        /// Which limit: `time`, `output` or `cancelled`.
        limit: &'static str,
        /// What is known of its end.
        stopped: Stopped,
    },
    /// The connection went away; what happened on the target is unknown.
    Lost(String),
    /// It never began.
    NotStarted {
        /// For programs: `not_started`, or what kept a target from being reached, e.g. `host_key_mismatch`.
        code: &'static str,
        /// For people.
        why: String,
    },
}

/// What is known after we asked a command to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Every process of its group is gone.
    Confirmed,
    /// Signals were sent; some process may be left.
    Requested,
}

/// A byte stream, kept at its head and tail where it is longer than the cap.
#[derive(Clone, Debug, Default)]
pub struct Captured {
    /// The first bytes.
    pub head: Vec<u8>,
    /// The last bytes, where something between was dropped; otherwise empty.
    pub tail: Vec<u8>,
    /// The length of the full stream in bytes.
    pub total: u64,
    /// Hex SHA-256 of the full stream.
    pub sha256: String,
}

impl Captured {
    /// How many bytes between head and tail were dropped.
    pub fn dropped(&self) -> u64 {
        self.total.saturating_sub((self.head.len() + self.tail.len()) as u64)
    }

    /// The kept bytes, with a line in place of what was dropped.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        if self.dropped() == 0 && self.tail.is_empty() {
            return Cow::Borrowed(&self.head);
        }
        let mut all = self.head.clone();
        if self.dropped() > 0 {
            all.extend_from_slice(format!("\n[… {} bytes dropped …]\n", self.dropped()).as_bytes());
        }
        all.extend_from_slice(&self.tail);
        Cow::Owned(all)
    }

    /// [`Self::bytes`] as text; bytes that are not UTF-8 become U+FFFD.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}

/// One section of a script's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// As the script named it.
    pub name: String,
    /// What it holds, or the reason it is missing.
    pub content: Result<Vec<u8>, String>,
}

impl Section {
    /// The content as text; empty where the section is missing.
    pub fn text(&self) -> Cow<'_, str> {
        self.content.as_ref().map(|bytes| String::from_utf8_lossy(bytes)).unwrap_or_default()
    }
}

impl StepOutcome {
    /// It never began, for a reason that has no code of its own.
    pub fn not_started(why: impl Into<String>) -> Self {
        Self::NotStarted { code: "not_started", why: why.into() }
    }
}

impl ScriptOutput {
    /// Whether it ended by itself with status 0.
    pub fn succeeded(&self) -> bool {
        self.outcome == StepOutcome::Exited(0)
    }

    /// The sections of standard output in the order they came. A section that was opened twice is kept twice; text
    /// before the first marker belongs to none. Lines that look like markers but do not carry this run's random
    /// marker are content.
    pub fn sections(&self) -> Vec<Section> {
        let bytes = self.stdout.bytes();
        let mut sections: Vec<Section> = Vec::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if let Some(name) = self.marked(line) {
                // `section` writes a newline before the marker so that it always stands at the start of a line.
                if let Some(Section { content: Ok(content), .. }) = sections.last_mut() {
                    content.pop_if(|byte| *byte == b'\n');
                }
                sections.push(match name.strip_prefix('!').and_then(|rest| rest.split_once(' ')) {
                    Some((name, reason)) => Section { name: name.into(), content: Err(reason.into()) },
                    None => Section { name: name.into(), content: Ok(Vec::new()) },
                });
            } else if let Some(Section { content: Ok(content), .. }) = sections.last_mut() {
                content.extend_from_slice(line);
            }
        }
        sections
    }

    fn marked<'a>(&self, line: &'a [u8]) -> Option<&'a str> {
        let rest = line.strip_prefix(self.marker.as_bytes())?.strip_prefix(b" ")?;
        std::str::from_utf8(rest.strip_suffix(b"\n").unwrap_or(rest)).ok()
    }
}

//! What a backend sends to a target to start one script: the same bytes for every backend. Sends nothing itself.

use std::time::Duration;

use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};

use crate::model::{Script, StepOutcome, hex};

/// `timeout` exits like this when the limit was reached: with 124, or, when it had to kill, as if killed itself. A script
/// that chooses the same status can be taken for it only if it ends just then.
pub(super) const TIMED_OUT: [StepOutcome; 3] =
    [StepOutcome::Exited(124), StepOutcome::Exited(137), StepOutcome::Signalled(9)];

/// A script ready to start.
pub(super) struct Launch {
    /// Opens sections of the output in this run only: 128 random bits in hex, so that no content can guess it.
    pub(super) marker: String,
    /// What the target's shell gets as its command.
    pub(super) line: String,
    /// What goes to its standard input.
    pub(super) input: Vec<u8>,
}

/// Why a script cannot be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaunchError {
    /// An argument that no command line can carry.
    #[error("{0}")]
    Quote(#[from] crate::model::QuoteError),
    /// Without a secret marker, content could pass for sections.
    #[error("the system gives no random numbers")]
    Random,
}

impl Launch {
    /// `script`, to be stopped on the target after `limit`.
    pub(super) fn new(script: &Script, limit: Duration) -> Result<Self, LaunchError> {
        let mut random = [0; 16];
        SystemRandom::new().fill(&mut random).map_err(|_| LaunchError::Random)?;
        let marker = hex(&random);
        let line = script.command_line(&marker, limit)?;
        Ok(Self { marker, line, input: script.input() })
    }

    /// Hex SHA-256 of the command line.
    pub(super) fn line_sha256(&self) -> String {
        hex(digest(&SHA256, self.line.as_bytes()).as_ref())
    }
}

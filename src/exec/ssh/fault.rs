//! Why a target was not reached over SSH. All of these come before a command is sent: nothing ran.

use std::io;

use crate::tailnet::DialError;

/// Why there is no connection to a target.
#[derive(Debug, thiserror::Error)]
pub enum SshFault {
    /// The registry does not say where it is.
    #[error("the registry does not say where the target is")]
    NoConnection,
    /// Nothing the gateway trusts speaks for the host's key.
    #[error(
        "the host shows a key that it was not enrolled with ({shown}); `tailops target scan` shows a host's keys, enrolling one is an act of its own"
    )]
    HostKeyUnknown {
        /// Fingerprint and algorithm of what it showed.
        shown: String,
    },
    /// The host shows another key than the one it was enrolled with.
    #[error(
        "the host shows the key {shown}, and was enrolled with {enrolled}: either it was built anew, or somebody stands between"
    )]
    HostKeyMismatch {
        /// Fingerprint and algorithm of what it showed.
        shown: String,
        /// What it was enrolled with.
        enrolled: String,
    },
    /// No algorithm that is safe is offered by both sides.
    #[error("the host offers no {what} that is safe: {offered}")]
    WeakAlgorithms {
        /// Of what kind: `key exchange`, `host key`, `cipher`, `MAC`.
        what: &'static str,
        /// What it offers.
        offered: String,
    },
    /// The gateway has nothing to log in with.
    #[error("the login key cannot be used: {0}")]
    Credential(String),
    /// The host does not take the login.
    #[error("the host refused the login as {user}")]
    AuthRefused {
        /// The login user.
        user: String,
    },
    /// It took too long.
    #[error("{0} took too long")]
    Timeout(&'static str),
    /// The tailnet does not lead there.
    #[error("the tailnet does not lead to the target: {0}")]
    Dial(#[from] DialError),
    /// The network does not lead there.
    #[error("the target cannot be reached: {0}")]
    Io(#[from] io::Error),
    /// The host broke the protocol or hung up.
    #[error("the connection failed: {0}")]
    Protocol(#[from] russh::Error),
}

impl SshFault {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoConnection => "no_connection",
            Self::HostKeyUnknown { .. } => "host_key_unknown",
            Self::HostKeyMismatch { .. } => "host_key_mismatch",
            Self::WeakAlgorithms { .. } => "weak_algorithms",
            Self::Credential(_) => "credential_unusable",
            Self::AuthRefused { .. } => "login_refused",
            Self::Timeout(_) | Self::Dial(_) | Self::Io(_) | Self::Protocol(_) => "unreachable",
        }
    }
}

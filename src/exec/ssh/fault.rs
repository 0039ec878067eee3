//! Why a target was not reached over SSH. All of these come before a command is sent: nothing ran.

use std::{io, sync::Arc, time::Duration};

use super::algorithms;
use crate::{model::TargetId, tailnet::DialError};

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
    /// The host shows a certificate that does not count, with a key that nothing else speaks for.
    #[error("the host shows the key {shown} with a certificate that does not count: {why}")]
    HostCertificate {
        /// Fingerprint and algorithm of the key in it.
        shown: String,
        /// What is wrong with it.
        why: String,
    },
    /// The host shows a key or a certificate that was revoked.
    #[error("the host shows the key {shown}, which was revoked, itself or its certificate")]
    HostKeyRevoked {
        /// Fingerprint and algorithm of the key.
        shown: String,
    },
    /// The list of what was revoked cannot be read, so no key can be said to count.
    #[error("the list of revoked keys cannot be used, so no host is trusted: {0}")]
    Revocations(String),
    /// An authority for host certificates has a key that is none.
    #[error("the key of an authority for host certificates cannot be used: {0}")]
    HostAuthority(String),
    /// No algorithm that is safe is offered by both sides.
    #[error("the host offers no {what} that is safe: {offered}")]
    WeakAlgorithms {
        /// Of what kind, e.g. `key exchange`, `host key`, `cipher`, `MAC`.
        what: &'static str,
        /// What it offers.
        offered: String,
    },
    /// The gateway has nothing to log in with. The text never names a file of the gateway.
    #[error("the login key cannot be used: {0}")]
    Credential(String),
    /// The host does not take the login.
    #[error("the host refused the login as {user}")]
    AuthRefused {
        /// The login user.
        user: String,
    },
    /// The host could not be reached several times in a row, and is left alone for a while.
    #[error("the host could not be reached {failures} times in a row; it is tried again in {} s", .again_in.as_secs_f64().ceil())]
    CircuitOpen {
        /// How often.
        failures: u32,
        /// For how long; zero while somebody finds out whether it is back.
        again_in: Duration,
    },
    /// As many connections are open or being opened as there may be, and none became free in time.
    #[error("too many connections: {0}")]
    Busy(&'static str),
    /// The host lets us in and opens no session.
    #[error("the host opens no session: {0}")]
    NoSession(String),
    /// The jump hosts of the target make no way.
    #[error("the target's jump hosts cannot be used: {0}")]
    Jump(String),
    /// The jump host before the target was not reached.
    #[error("at the jump host {host}: {fault}")]
    Via {
        /// The jump host.
        host: TargetId,
        /// Why not.
        fault: Arc<SshFault>,
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
    Protocol(russh::Error),
}

impl SshFault {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoConnection => "no_connection",
            Self::HostKeyUnknown { .. } => "host_key_unknown",
            Self::HostKeyMismatch { .. } => "host_key_mismatch",
            Self::HostCertificate { .. } => "host_certificate_invalid",
            Self::HostKeyRevoked { .. } => "host_key_revoked",
            Self::Revocations(_) => "revocation_unreadable",
            Self::HostAuthority(_) => "host_authority_unusable",
            Self::WeakAlgorithms { .. } => "weak_algorithms",
            Self::Credential(_) => "credential_unusable",
            Self::AuthRefused { .. } => "login_refused",
            Self::CircuitOpen { .. } => "circuit_open",
            Self::Busy(_) => "busy",
            Self::NoSession(_) => "no_session",
            Self::Jump(_) => "jump_unusable",
            Self::Via { fault, .. } => fault.code(),
            Self::Timeout(_) | Self::Dial(_) | Self::Io(_) | Self::Protocol(_) => "unreachable",
        }
    }

    /// Whether it says that the host itself cannot be reached. A refusal of ours or the host's is an answer: the host
    /// is there.
    pub(super) fn is_of_reach(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::Dial(_) | Self::Io(_) | Self::Protocol(_))
    }

    /// Whether the host answered.
    pub(super) fn is_an_answer(&self) -> bool {
        matches!(
            self,
            Self::HostKeyUnknown { .. }
                | Self::HostKeyMismatch { .. }
                | Self::HostKeyRevoked { .. }
                | Self::HostCertificate { .. }
                | Self::WeakAlgorithms { .. }
                | Self::AuthRefused { .. }
                | Self::NoSession(_)
        )
    }
}

impl From<russh::Error> for SshFault {
    fn from(error: russh::Error) -> Self {
        algorithms::nothing_in_common(&error).unwrap_or(Self::Protocol(error))
    }
}

//! Why a target was not reached over SSH. All of these come before a command is sent: nothing ran.

use std::io;

use super::algorithms;
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
            Self::Timeout(_) | Self::Dial(_) | Self::Io(_) | Self::Protocol(_) => "unreachable",
        }
    }
}

impl From<russh::Error> for SshFault {
    fn from(error: russh::Error) -> Self {
        algorithms::nothing_in_common(&error).unwrap_or(Self::Protocol(error))
    }
}

//! Whether a host is the one that was enrolled. The only place that says yes to a host's key, and it says no to
//! whatever it does not know.

use russh::keys::{HashAlg, PublicKeyOrCertificate};

use super::SshFault;
use crate::model::{Connection, HostKeyPin};

/// What a host may prove that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trust {
    pins: Vec<HostKeyPin>,
}

impl Trust {
    /// Of the target behind `connection`.
    pub(super) fn of(connection: &Connection) -> Self {
        Self { pins: connection.host_keys.clone() }
    }

    /// The pinned keys.
    pub(super) fn pins(&self) -> &[HostKeyPin] {
        &self.pins
    }

    /// The fingerprint of the key that `shown` is, if it is trusted.
    pub(super) fn check(&self, shown: &PublicKeyOrCertificate) -> Result<String, SshFault> {
        let key = shown.public_key();
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        let shown = format!("{fingerprint} {}", key.algorithm().as_str());
        if self.pins.is_empty() {
            return Err(SshFault::HostKeyUnknown { shown });
        }
        if self.pins.iter().any(|pin| pin.fingerprint == fingerprint) {
            return Ok(fingerprint);
        }
        let enrolled = self.pins.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Err(SshFault::HostKeyMismatch { shown, enrolled })
    }
}

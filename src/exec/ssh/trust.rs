//! Whether a host is the one that was enrolled. The only place that says yes to a host's key, and it says no to
//! whatever it does not know. Learns nothing: what a host shows once counts for nothing the next time.
//!
//! In this order, each enough by itself: a certificate by an authority that speaks for the host, the keys that the
//! network map has for its node, the keys that were pinned.

mod authority;
mod patterns;
mod revocations;
mod revoked;

use std::sync::Arc;

use jiff::Timestamp;
use russh::{
    Preferred,
    keys::{HashAlg, PublicKey, PublicKeyOrCertificate},
};

use self::{authority::Authority, patterns::PORT};
pub(super) use self::{authority::time, revocations::Revocations};
pub use self::{
    patterns::host_matches,
    revoked::{NotAList, RevokedKeys},
};
use super::{SshFault, algorithms};
use crate::{
    config,
    model::{Connection, HostKeyPin, HostTrust},
    tailnet::NodeStatus,
};

/// What a host may prove that it is. Two that are equal trust the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trust {
    host: String,
    port: u16,
    authorities: Vec<Authority>,
    /// Fingerprints of authorities that would speak for the host, were they not revoked.
    fallen: Vec<String>,
    /// The keys that the network map has for the node, as it writes them.
    lines: Vec<String>,
    /// Those that can be read.
    of_node: Vec<HostKeyPin>,
    pins: Vec<HostKeyPin>,
    revoked: Arc<RevokedKeys>,
}

/// A host that proved who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proven {
    /// The fingerprint of its key.
    pub(super) fingerprint: String,
    /// What spoke for it.
    pub(super) trust: HostTrust,
    /// When the proof ends: that of a certificate. A connection must not be used beyond it.
    pub(super) until: Option<Timestamp>,
}

impl Trust {
    /// Of the target behind `connection`, as `status` knows its node, where `revoked` does not count.
    pub(super) fn of(
        settings: &config::Ssh,
        connection: &Connection,
        status: &NodeStatus,
        revoked: Arc<RevokedKeys>,
    ) -> Result<Self, SshFault> {
        let (host, port) = (connection.host.clone(), connection.port.unwrap_or(PORT));
        let (mut authorities, mut fallen) = (Vec::new(), Vec::new());
        for ca in &settings.host_cas {
            let Some(authority) = Authority::covering(ca, &host, port).map_err(SshFault::HostAuthority)? else {
                continue;
            };
            let fingerprint = authority.fingerprint.to_string();
            match revoked.has_key(&fingerprint) {
                true => fallen.push(fingerprint),
                false => authorities.push(authority),
            }
        }
        let lines = lines_of(status, connection).to_vec();
        let read = lines.iter().filter_map(|line| PublicKey::from_openssh(line.trim()).ok());
        let of_node = read.map(|key| pin_of(&key)).collect();
        let pins = connection.host_keys.clone();
        Ok(Self { host, port, authorities, fallen, lines, of_node, pins, revoked })
    }

    /// Whether the same would come of the same `connection`, with what `status` and `revoked` are now.
    pub(super) fn holds(&self, status: &NodeStatus, connection: &Connection, revoked: &Arc<RevokedKeys>) -> bool {
        self.revoked == *revoked && self.lines == lines_of(status, connection)
    }

    /// The host and the port, as the registry has them.
    pub(super) fn place(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// What is offered to the host: certificates where an authority speaks for it, and of keys the known types first.
    pub(super) fn preferred(&self) -> Preferred {
        let known: Vec<_> = self.of_node.iter().chain(&self.pins).cloned().collect();
        algorithms::preferred(&known, !self.authorities.is_empty())
    }

    /// Judges what the host showed, at `now`. That it holds the key's private half is for the key exchange to check.
    ///
    /// A certificate that does not count takes nothing from the key in it: where that very key is pinned, or the
    /// network map has it, the host is who it was enrolled as. Nothing else makes up for a wrong certificate. What was
    /// revoked, key or certificate, is refused whatever else speaks for it.
    pub(super) fn check(&self, shown: &PublicKeyOrCertificate, now: Timestamp) -> Result<Proven, SshFault> {
        let key = shown.public_key();
        algorithms::acceptable(&key).map_err(|offered| SshFault::WeakAlgorithms { what: "host key", offered })?;
        let key = pin_of(&key);
        let (fingerprint, shown_key) = (key.fingerprint.clone(), key.to_string());
        let revoked = shown.certificate().is_some_and(|certificate| self.revoked.has_certificate(certificate));
        if revoked || self.revoked.has_key(&fingerprint) {
            return Err(SshFault::HostKeyRevoked { shown: shown_key });
        }
        let judged = shown
            .certificate()
            .map(|certificate| authority::judge(certificate, &self.authorities, (&self.host, self.port), now));
        if let Some(Ok((authority, until))) = judged {
            return Ok(Proven { fingerprint, trust: HostTrust::Certificate(authority), until });
        }
        for (known, trust) in [(&self.of_node, HostTrust::NetworkMap), (&self.pins, HostTrust::Pin)] {
            if known.iter().any(|known| is(known, &key)) {
                return Ok(Proven { fingerprint, trust, until: None });
            }
        }
        match judged {
            Some(Err(why)) => Err(SshFault::HostCertificate { shown: shown_key, why }),
            _ if self.is_enrolled() => {
                Err(SshFault::HostKeyMismatch { shown: shown_key, enrolled: self.enrolled().join(", ") })
            }
            _ => Err(SshFault::HostKeyUnknown { shown: shown_key }),
        }
    }

    /// Whether there is anything that the host could have shown.
    fn is_enrolled(&self) -> bool {
        !self.enrolled().is_empty()
    }

    /// What the host was enrolled with, in words.
    pub(super) fn enrolled(&self) -> Vec<String> {
        let keys = self.of_node.iter().chain(&self.pins).map(ToString::to_string);
        let authorities = self.authorities.iter().map(|authority| format!("certificates by {}", authority.fingerprint));
        let fallen = self.fallen.iter().map(|fallen| format!("certificates by {fallen}, which was revoked"));
        keys.chain(authorities).chain(fallen).collect()
    }
}

/// Whether `shown` is the known key: value and type.
fn is(known: &HostKeyPin, shown: &HostKeyPin) -> bool {
    known.fingerprint == shown.fingerprint && (known.algorithm.is_none() || known.algorithm == shown.algorithm)
}

/// `key` as a registry would pin it.
pub(super) fn pin_of(key: &PublicKey) -> HostKeyPin {
    HostKeyPin {
        fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
        algorithm: Some(algorithms::key_type(&key.algorithm()).to_owned()),
    }
}

/// The keys that the network map has for the node that `connection` names by its stable id. None while there is no
/// network map.
fn lines_of<'s>(status: &'s NodeStatus, connection: &Connection) -> &'s [String] {
    let Some(node) = connection.node.as_deref().filter(|_| status.is_up()) else { return &[] };
    let peer = status.peers.iter().find(|peer| peer.id == node);
    peer.map(|peer| peer.ssh_host_keys.as_slice()).unwrap_or_default()
}

#[cfg(test)]
mod tests;

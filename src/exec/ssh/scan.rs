//! Looking at a host's keys, as `ssh-keyscan` does: for people who are about to enrol it. Logs in nowhere, sends nothing
//! but the key exchange, and trusts nothing it sees.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use russh::{
    client,
    keys::{Algorithm, HashAlg, PublicKeyOrCertificate},
};
use tokio::time::timeout;

use super::{
    SshFault, algorithms, route,
    tether::tether,
    trust::{pin_of, time},
};
use crate::tailnet::Node;

/// A key that a host showed. It proved that it holds the private half; whose host it is, is not said by that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedKey {
    /// As a pin names it, e.g. `ssh-ed25519`; an RSA key is `ssh-rsa` whatever it signs with.
    pub algorithm: String,
    /// `SHA256:` and 43 characters.
    pub fingerprint: String,
    /// As a line of a public key file.
    pub public_key: String,
    /// The certificate it showed the key with, where it has one.
    pub certificate: Option<ScannedCertificate>,
}

/// What stands in a host certificate. Its signature is not checked: whether an authority counts is for `check` of the
/// trust. All of it is what the host wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedCertificate {
    /// The fingerprint of the authority that it says made it.
    pub authority: String,
    /// The hosts it is for, at most 16.
    pub principals: Vec<String>,
    /// Holds from then on.
    pub not_before: Option<Timestamp>,
    /// Holds before that; none is for ever.
    pub not_after: Option<Timestamp>,
}

/// The most principals of a certificate that are shown, and the most characters of each.
const SHOWN: (usize, usize) = (16, 128);

/// The keys of the SSH server on `port` of `host`, one of each type that tailops would accept, the best first. One
/// short connection for each type, one after the other, within `limit` all together.
///
/// An error says that there was no key to be seen. A host that has other keys only gives no keys and no error.
pub async fn scan(node: &dyn Node, host: &str, port: u16, limit: Duration) -> Result<Vec<ScannedKey>, SshFault> {
    let looking = async {
        let mut keys = Vec::new();
        for kind in kinds() {
            keys.extend(look(node, (host, port), kind).await?);
        }
        Ok(keys)
    };
    timeout(limit, looking).await.map_err(|_| SshFault::Timeout("scanning"))?
}

/// The algorithms of host keys, by type of key.
fn kinds() -> Vec<Vec<Algorithm>> {
    let mut kinds: Vec<Vec<Algorithm>> = Vec::new();
    for algorithm in algorithms::HOST_KEYS {
        let name = algorithms::key_type(&algorithm);
        let same = |kind: &&mut Vec<Algorithm>| kind.iter().any(|known| algorithms::key_type(known) == name);
        match kinds.iter_mut().find(same) {
            Some(kind) => kind.push(algorithm),
            None => kinds.push(vec![algorithm]),
        }
    }
    kinds
}

/// The key of this kind, if the host has one.
async fn look(
    node: &dyn Node,
    (host, port): (&str, u16),
    kind: Vec<Algorithm>,
) -> Result<Option<ScannedKey>, SshFault> {
    let config = client::Config { preferred: algorithms::offering(kind, true), ..client::Config::default() };
    let seen = Arc::new(Mutex::new(None));
    let (bytes, _tether) = tether(route::open(node, host, port, false).await?);
    let shaken = client::connect_stream(Arc::new(config), bytes, Looking { seen: seen.clone() }).await;
    let shown = mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    match (shown, shaken) {
        (Some(shown), _) => Ok(Some(shown)),
        (None, Err(russh::Error::NoCommonAlgo { kind: russh::AlgorithmKind::Key, .. })) => Ok(None),
        (None, Err(error)) => Err(error.into()),
        (None, Ok(_)) => Ok(None),
    }
}

/// Sees what a host shows, and ends the connection there.
struct Looking {
    seen: Arc<Mutex<Option<ScannedKey>>>,
}

impl client::Handler for Looking {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = scanned(shown);
        Ok(false)
    }
}

fn scanned(shown: &PublicKeyOrCertificate) -> Option<ScannedKey> {
    let key = shown.public_key();
    let (most, length) = SHOWN;
    let certificate = shown.certificate().map(|certificate| ScannedCertificate {
        authority: certificate.signature_key().fingerprint(HashAlg::Sha256).to_string(),
        principals: certificate
            .valid_principals()
            .iter()
            .take(most)
            .map(|principal| algorithms::printable(principal, length))
            .collect(),
        not_before: time(certificate.valid_after()),
        not_after: time(certificate.valid_before()),
    });
    let pin = pin_of(&key);
    let public_key = key.to_openssh().ok()?;
    // Of what is not accepted there is nothing to enrol.
    algorithms::acceptable(&key).ok()?;
    Some(ScannedKey { algorithm: pin.algorithm?, fingerprint: pin.fingerprint, public_key, certificate })
}

#[cfg(test)]
mod tests;

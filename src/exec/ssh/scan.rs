//! Looking at a host's keys, as `ssh-keyscan` does: for people who are about to enrol it. Logs in nowhere, sends nothing
//! but the key exchange, and trusts nothing it sees but where it is asked whether a certificate counts.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use russh::{
    client,
    keys::{Algorithm, Certificate, HashAlg, PublicKeyOrCertificate},
};
use tokio::time::timeout;

use super::{
    Ssh, SshFault, algorithms,
    greeting::Overheard,
    route::{self, Bytes},
    tether::tether,
    trust::{Revocations, Trust, pin_of, time},
    way::Way,
};
use crate::{
    config,
    model::{Attribution, Connection, HostTrust, Target},
    tailnet::{Node, NodeState, NodeStatus},
};

/// What a look at a host showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Its keys, one of each type that tailops would accept, the best first.
    pub keys: Vec<ScannedKey>,
    /// How its SSH server identifies itself, escaped where it is not printable ASCII: the host's own words.
    pub identification: Option<String>,
}

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
    /// That certificate, as it was shown.
    shown: Option<Certificate>,
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
pub async fn scan(node: &dyn Node, host: &str, port: u16, limit: Duration) -> Result<Scan, SshFault> {
    in_time(limit, every_kind(|| Box::pin(route::open(node, host, port, false)))).await
}

impl Ssh {
    /// The same, as `jump` sees it: its keys are proved and it is logged in to as for any target behind it.
    pub(super) async fn keys_behind(
        &self,
        jump: &Target,
        (host, port): (&str, u16),
        attribution: &Attribution,
        limit: Duration,
    ) -> Result<Scan, SshFault> {
        let looking = async {
            let way = Way::to_jump(self, jump, attribution)?;
            let lease = self.pool.jump(self, &way).await?;
            every_kind(|| Box::pin(lease.session.forward(host, port))).await
        };
        in_time(limit, looking).await
    }
}

async fn in_time(limit: Duration, looking: impl Future<Output = Result<Scan, SshFault>>) -> Result<Scan, SshFault> {
    timeout(limit, looking).await.map_err(|_| SshFault::Timeout("scanning"))?
}

/// What the host that `open` leads to shows of every type of key.
async fn every_kind<'a>(open: impl Fn() -> BoxFuture<'a, Result<Box<dyn Bytes>, SshFault>>) -> Result<Scan, SshFault> {
    let mut scan = Scan::default();
    for kind in kinds() {
        let (key, identification) = look(open().await?, kind).await?;
        scan.keys.extend(key);
        scan.identification = scan.identification.or(identification);
    }
    Ok(scan)
}

/// The fingerprint of the authority of `settings` by whose certificate the host that showed `key` is that of `connection`,
/// at `now`; an error says why there is none. Pins and the network map do not count here.
pub fn certified(
    settings: &config::Ssh,
    connection: &Connection,
    key: &ScannedKey,
    now: Timestamp,
) -> Result<String, SshFault> {
    let unknown = || SshFault::HostKeyUnknown { shown: format!("{} {}", key.fingerprint, key.algorithm) };
    let certificate = key.shown.clone().ok_or_else(unknown)?;
    let unpinned = Connection { host_keys: Vec::new(), node: None, ..connection.clone() };
    let revoked = Revocations::in_file(settings.revoked_keys.clone()).now()?;
    let trust = Trust::of(settings, &unpinned, &NodeStatus::of_state(NodeState::Stopped), revoked)?;
    match trust.check(&certificate.into(), now)?.trust {
        HostTrust::Certificate(authority) => Ok(authority),
        HostTrust::NetworkMap | HostTrust::Pin => Err(unknown()),
    }
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

/// The key of this kind, if the host at the end of `bytes` has one, and how it identifies itself.
async fn look(bytes: Box<dyn Bytes>, kind: Vec<Algorithm>) -> Result<(Option<ScannedKey>, Option<String>), SshFault> {
    let config = client::Config { preferred: algorithms::offering(kind, true), ..client::Config::default() };
    let seen = Arc::new(Mutex::new(None));
    let (bytes, _tether) = tether(bytes);
    let (bytes, overheard) = Overheard::new(bytes);
    let shaken = client::connect_stream(Arc::new(config), bytes, Looking { seen: seen.clone() }).await;
    let shown = mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    let identification = overheard.lock().unwrap_or_else(PoisonError::into_inner).identification();
    match (shown, shaken) {
        (Some(shown), _) => Ok((Some(shown), identification)),
        (None, Err(russh::Error::NoCommonAlgo { kind: russh::AlgorithmKind::Key, .. }) | Ok(_)) => {
            Ok((None, identification))
        }
        (None, Err(error)) => Err(error.into()),
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
    let algorithm = pin.algorithm?;
    let shown = shown.certificate().cloned();
    Some(ScannedKey { algorithm, fingerprint: pin.fingerprint, public_key, certificate, shown })
}

#[cfg(test)]
mod tests;

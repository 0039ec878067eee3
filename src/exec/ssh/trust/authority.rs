//! Host certificates: whether one was made by an authority of ours, for this host, and holds now. What it cannot tell
//! is no.

use jiff::Timestamp;
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey, ssh_key::Fingerprint};

use super::{
    super::algorithms,
    patterns::{host_matches, names},
};
use crate::config::HostCa;

/// The most of what a certificate names that is shown.
const SHOWN: usize = 120;

/// An authority whose host certificates count for the host at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authority {
    pub(super) fingerprint: Fingerprint,
}

impl Authority {
    /// The authority of `ca`, if it speaks for the host; an error where its key is none.
    pub(super) fn covering(ca: &HostCa, host: &str, port: u16) -> Result<Option<Self>, String> {
        let key = PublicKey::from_openssh(ca.public_key.trim()).map_err(|error| error.to_string())?;
        algorithms::acceptable(&key)?;
        let covers = host_matches(&ca.hosts, host, port);
        Ok(covers.then(|| Self { fingerprint: key.fingerprint(HashAlg::Sha256) }))
    }
}

/// By which authority `certificate` proves the host, at `now`, and until when; an error says why it does not. None is for
/// ever.
pub(super) fn judge(
    certificate: &Certificate,
    authorities: &[Authority],
    (host, port): (&str, u16),
    now: Timestamp,
) -> Result<(String, Option<Timestamp>), String> {
    let signer = certificate.signature_key().fingerprint(HashAlg::Sha256);
    if !authorities.iter().any(|authority| authority.fingerprint == signer) {
        return Err(format!("it was made by {signer}, which is no authority for this host"));
    }
    // RSA with SHA-1, which the library would still verify.
    if matches!(certificate.signature().algorithm(), Algorithm::Rsa { hash: None }) {
        return Err("it is signed with SHA-1".to_owned());
    }
    certificate.verify_signature().map_err(|_| "its signature is wrong".to_owned())?;
    // From here on everything in it is the authority's word.
    if !certificate.cert_type().is_host() {
        return Err("it is for a user, not for a host".to_owned());
    }
    let seconds = u64::try_from(now.as_second()).map_err(|_| "the clock is wrong".to_owned())?;
    if seconds < certificate.valid_after() {
        return Err(format!("it does not hold yet: {}", moment(certificate.valid_after())));
    }
    if seconds >= certificate.valid_before() {
        return Err(format!("it ended: {}", moment(certificate.valid_before())));
    }
    if let Some(option) = certificate.critical_options().keys().next() {
        return Err(format!("it has the critical option {}", algorithms::printable(option, SHOWN)));
    }
    // A certificate without principals is for every host there is, so for none.
    let ours = names(host, port);
    let named = |principal: &String| {
        let principal = principal.to_ascii_lowercase();
        ours.iter().any(|name| *name == principal.strip_suffix('.').unwrap_or(&principal))
    };
    let principals = certificate.valid_principals();
    if !principals.iter().any(named) {
        let of = if principals.is_empty() { "nobody in particular".to_owned() } else { principals.join(", ") };
        return Err(format!("it is for {}, not for {host}", algorithms::printable(&of, SHOWN)));
    }
    Ok((signer.to_string(), time(certificate.valid_before())))
}

/// A time of a certificate; none where it is beyond the calendar, as "for ever" is.
pub(in crate::exec::ssh) fn time(seconds: u64) -> Option<Timestamp> {
    i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok())
}

fn moment(seconds: u64) -> String {
    time(seconds).map_or_else(|| "never".to_owned(), |time| time.to_string())
}

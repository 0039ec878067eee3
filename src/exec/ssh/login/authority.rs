//! The gateway's own authority for logins: makes a certificate for one connection, that says for whom it is made, holds
//! for minutes and lets its holder run commands and nothing else. Keeps the authority's key in memory, and shows it to
//! nobody; the keys it certifies are made here and never stored.

use std::sync::Arc;

use jiff::Timestamp;
use russh::keys::{
    Algorithm, Certificate, HashAlg, PrivateKey,
    ssh_key::{self, certificate},
};

use super::key_file::{self, Unusable};
use crate::{
    config,
    model::{Attribution, EngagementId},
};

/// By how much a host's clock may be behind ours.
const SKEW_S: u64 = 60;
/// The longest a name in a key id gets: sshd cuts what makes its line too long.
const LONGEST_NAME: usize = 96;

/// What a login is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::exec::ssh) enum Purpose {
    /// To run commands.
    Commands,
    /// To reach another host through this one.
    Jump,
}

/// An authority whose public key the targets know.
pub(super) struct Authority {
    key: PrivateKey,
    ttl: std::time::Duration,
    source_addresses: String,
}

impl Authority {
    /// That of `settings`. Errors if its key cannot be used.
    pub(super) fn open(settings: &config::UserCa) -> Result<Self, Unusable> {
        let key = key_file::key(&settings.key_file)?;
        Ok(Self { key, ttl: settings.ttl, source_addresses: settings.source_addresses.join(",") })
    }

    /// The fingerprint of its public key.
    pub(super) fn fingerprint(&self) -> String {
        self.key.public_key().fingerprint(HashAlg::Sha256).to_string()
    }

    /// A new key, and a certificate for it: for `user` as the only principal, from now on.
    pub(super) fn mint(
        &self,
        user: &str,
        key_id: &str,
        purpose: Purpose,
        now: Timestamp,
    ) -> Result<(Arc<PrivateKey>, Certificate), ssh_key::Error> {
        let now = u64::try_from(now.as_second()).unwrap_or_default();
        let mut random = rand::rng();
        let key = PrivateKey::random(&mut random, Algorithm::Ed25519)?;
        let (from, until) = (now.saturating_sub(SKEW_S), now.saturating_add(self.ttl.as_secs()));
        let public = key.public_key().key_data().clone();
        let mut builder = certificate::Builder::new_with_random_nonce(&mut random, public, from, until)?;
        builder.serial(rand::random())?;
        builder.key_id(key_id)?;
        builder.cert_type(certificate::CertType::User)?;
        builder.valid_principal(user)?;
        if !self.source_addresses.is_empty() {
            builder.critical_option("source-address", self.source_addresses.as_str())?;
        }
        // Without an extension sshd gives neither a terminal nor forwarding of anything.
        if purpose == Purpose::Jump {
            builder.extension("permit-port-forwarding", "")?;
        }
        Ok((Arc::new(key), builder.sign(&self.key)?))
    }
}

/// What the target's log names a login by, and our record too.
pub(super) fn key_id(attribution: &Attribution, engagement: &EngagementId) -> String {
    format!(
        "tailops subject={} engagement={} correlation={}",
        plain(&attribution.subject),
        plain(engagement.as_str()),
        attribution.correlation
    )
}

/// `name` in characters that no log takes for something else: it stands in a line between blanks and parentheses.
fn plain(name: &str) -> String {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_.@:+/".contains(letter);
    name.chars().take(LONGEST_NAME).map(|letter| if fits(letter) { letter } else { '_' }).collect()
}

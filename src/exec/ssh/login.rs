//! Logging in: with the key that the registry names, with a certificate for it, or with a certificate that the gateway
//! makes for one connection. Never with a password, never with an agent, never with a SHA-1 signature.

mod authority;
mod key_file;
mod new_key;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use russh::{
    client::{AuthResult, Handle},
    keys::{Certificate, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey, agent::AgentIdentity},
};

pub(super) use self::authority::Purpose;
pub use self::new_key::LoginKey;
use self::{authority::Authority, key_file::Unusable};
use super::{SshFault, handler::Handler};
use crate::{
    config,
    model::{Attribution, Connection, EngagementId, KeyReference},
};

/// The longest key id that is recorded, in characters.
const LONGEST_ID: usize = 256;

/// What the gateway has to log in with on targets.
pub struct Credentials {
    user: String,
    variables: BTreeMap<String, PathBuf>,
    authority: Option<Arc<Authority>>,
}

/// Why the gateway's own authority cannot make certificates. Names no file: `ssh.ca.key_file` does.
#[derive(Debug, thiserror::Error)]
#[error("ssh.ca.key_file: {0}")]
pub struct AuthorityFault(String);

impl Credentials {
    /// Those of `settings`. Reads the authority's key, where there is one, and errors if it cannot be used: a service
    /// that was told to make certificates does not go on without.
    pub fn open(settings: &config::Ssh) -> Result<Self, AuthorityFault> {
        let authority = settings.ca.as_ref().map(Authority::open).transpose();
        let authority = authority.map_err(|fault| AuthorityFault(fault.to_string()))?.map(Arc::new);
        Ok(Self { authority, ..Self::of_files(settings) })
    }

    /// Those of `settings`, but for its authority.
    pub(super) fn of_files(settings: &config::Ssh) -> Self {
        Self { user: settings.user.clone(), variables: settings.key_variables.clone(), authority: None }
    }
}

/// The public key of the private key in `path`, as a line of OpenSSH without a comment: from the key itself, or from
/// the file beside it that ends in `.pub` where this user may not read the key. Errors say why neither can be had, and
/// name no file.
pub fn public_key_of(path: &Path) -> Result<String, String> {
    let mut public = match key_file::key(path) {
        Ok(key) => key.public_key().clone(),
        Err(Unusable::Owner { .. } | Unusable::Io(std::io::ErrorKind::PermissionDenied)) => {
            let beside = std::fs::read_to_string(format!("{}.pub", path.display()));
            let beside = beside.map_err(|error| format!("it is not yours to read, and its .pub file: {error}"))?;
            beside.trim().parse::<PublicKey>().map_err(|_| "its .pub file holds no public key".to_owned())?
        }
        Err(fault) => return Err(fault.to_string()),
    };
    public.set_comment("");
    public.to_openssh().map_err(|error| error.to_string())
}

/// How to log in on one target, before anything was read.
#[derive(Clone)]
pub(super) struct Login {
    user: String,
    identity: String,
    way: Way,
}

#[derive(Clone)]
enum Way {
    Files { key: PathBuf, certificate: Option<PathBuf> },
    Minted { authority: Arc<Authority>, key_id: String, purpose: Purpose },
}

impl Login {
    /// That of `connection`, whose target belongs to `engagement`, on behalf of `attribution`.
    pub(super) fn of(
        credentials: &Credentials,
        connection: &Connection,
        engagement: &EngagementId,
        attribution: &Attribution,
        purpose: Purpose,
    ) -> Result<Self, SshFault> {
        let user = connection.username.clone().unwrap_or_else(|| credentials.user.clone());
        let key = match &connection.key {
            Some(KeyReference::File(path)) => path.clone(),
            Some(KeyReference::Variable(name)) => credentials.variables.get(name).cloned().ok_or_else(|| {
                SshFault::Credential(format!(
                    "the variable {name} named no file by its absolute path when the gateway started"
                ))
            })?,
            None => {
                let missing = "the registry names no key, and the gateway has no ssh.ca to make a certificate by";
                let authority = credentials.authority.clone();
                let authority = authority.ok_or_else(|| SshFault::Credential(missing.to_owned()))?;
                let identity = format!("ca:{}:{purpose:?}:{}", authority.fingerprint(), attribution.subject);
                let key_id = authority::key_id(attribution, engagement);
                return Ok(Self { user, identity, way: Way::Minted { authority, key_id, purpose } });
            }
        };
        let stamped = |path: &PathBuf, private| {
            let stamp = key_file::stamp(path, private).map_err(|fault| unusable(path, &fault))?;
            Ok::<_, SshFault>(format!("{}:{stamp}", path.display()))
        };
        let mut identity = stamped(&key, true)?;
        if let Some(certificate) = &connection.certificate {
            identity += &format!(" {}", stamped(certificate, false)?);
        }
        Ok(Self { user, identity, way: Way::Files { key, certificate: connection.certificate.clone() } })
    }

    /// The login user.
    pub(super) fn user(&self) -> &str {
        &self.user
    }

    /// What a connection must have been made with to be used for this login: another key, the same file written anew,
    /// or another subject behind a certificate of ours is another identity. For comparing only: it names files.
    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    /// Reads or makes what is needed. `now` is when a certificate has to hold.
    pub(super) async fn prepare(self, now: Timestamp) -> Result<Prepared, SshFault> {
        let prepared = tokio::task::spawn_blocking(move || self.prepared(now)).await;
        prepared.map_err(|_| SshFault::Credential("reading it failed".to_owned()))?
    }

    fn prepared(self, now: Timestamp) -> Result<Prepared, SshFault> {
        let user = self.user;
        match self.way {
            Way::Minted { authority, key_id, purpose } => {
                let minted = authority.mint(&user, &key_id, purpose, now);
                let (key, certificate) =
                    minted.map_err(|error| SshFault::Credential(format!("no certificate can be made: {error}")))?;
                Ok(Prepared { user, key, certificate: Some(certificate) })
            }
            Way::Files { key: path, certificate } => {
                let key = key_file::key(&path).map_err(|fault| unusable(&path, &fault))?;
                let certificate = certificate
                    .map(|path| {
                        let now = u64::try_from(now.as_second()).unwrap_or_default();
                        let certificate = key_file::certificate(&path);
                        certificate
                            .and_then(|it| key_file::matches(&it, &key, &user, now).map(|()| it))
                            .map_err(|fault| unusable(&path, &fault))
                    })
                    .transpose()?;
                Ok(Prepared { user, key: Arc::new(key), certificate })
            }
        }
    }
}

/// The fault for a caller, without the file's name; the operator's log gets both.
fn unusable(path: &Path, fault: &Unusable) -> SshFault {
    tracing::warn!(path = %path.display(), why = %fault, "a login key cannot be used");
    SshFault::Credential(fault.to_string())
}

/// What one login is made with.
pub(super) struct Prepared {
    user: String,
    key: Arc<PrivateKey>,
    certificate: Option<Certificate>,
}

impl Prepared {
    /// The login user.
    pub(super) fn user(&self) -> &str {
        &self.user
    }

    /// The certificate, where there is one.
    #[cfg(test)]
    pub(super) fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// What the target's log names the login by: the key id of a certificate, or the fingerprint of a key.
    pub(super) fn credential(&self) -> String {
        match &self.certificate {
            Some(certificate) => {
                certificate.key_id().chars().filter(|letter| !letter.is_control()).take(LONGEST_ID).collect()
            }
            None => self.key.public_key().fingerprint(HashAlg::Sha256).to_string(),
        }
    }

    /// From when on a connection that was made with it may not be used any more. None for a key, which does not end.
    pub(super) fn expires(&self) -> Option<Timestamp> {
        let until = i64::try_from(self.certificate.as_ref()?.valid_before()).unwrap_or(i64::MAX);
        // What ends after the year 9999 does not end.
        Timestamp::from_second(until).ok()
    }

    /// Logs in on `handle`.
    pub(super) async fn authenticate(&self, handle: &mut Handle<Handler>) -> Result<(), SshFault> {
        let hash = if key_file::is_rsa(&self.key) { Some(rsa_hash(handle).await?) } else { None };
        let result = match &self.certificate {
            None => {
                let key = PrivateKeyWithHashAlg::new(self.key.clone(), hash);
                handle.authenticate_publickey(&self.user, key).await?
            }
            Some(certificate) if hash.is_some() => {
                // The plain way would offer the certificate as one that signs with SHA-1.
                let mut signer = RsaSigner(self.key.clone());
                let login = handle.authenticate_certificate_with(&self.user, certificate.clone(), hash, &mut signer);
                login.await.map_err(|NotSigned| SshFault::Credential("it cannot sign".to_owned()))?
            }
            Some(certificate) => {
                handle.authenticate_openssh_cert(&self.user, self.key.clone(), certificate.clone()).await?
            }
        };
        match result {
            AuthResult::Success => Ok(()),
            AuthResult::Failure { .. } => Err(SshFault::AuthRefused { user: self.user.clone() }),
        }
    }
}

/// The hash that the host takes RSA signatures with. A host that does not say knows SHA-512 since 2016.
async fn rsa_hash(handle: &Handle<Handler>) -> Result<HashAlg, SshFault> {
    match handle.best_supported_rsa_hash().await? {
        None => Ok(HashAlg::Sha512),
        Some(Some(hash)) => Ok(hash),
        Some(None) => Err(SshFault::WeakAlgorithms {
            what: "signature of an RSA login key",
            offered: "ssh-rsa, which is SHA-1, or none at all; an ed25519 key may do".to_owned(),
        }),
    }
}

/// Signs for an RSA certificate with the hash that was agreed on.
struct RsaSigner(Arc<PrivateKey>);

/// There is no signature.
struct NotSigned;

impl From<russh::SendError> for NotSigned {
    fn from(_: russh::SendError) -> Self {
        Self
    }
}

impl russh::Signer for RsaSigner {
    type Error = NotSigned;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        hash: Option<HashAlg>,
        mut data: Vec<u8>,
    ) -> Result<Vec<u8>, NotSigned> {
        let signature = key_file::sign(&self.0, hash, &data).ok_or(NotSigned)?;
        let length = u32::try_from(signature.len()).map_err(|_| NotSigned)?;
        data.extend(length.to_be_bytes());
        data.extend(signature);
        Ok(data)
    }
}

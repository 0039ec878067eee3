//! Private keys and certificates in files: which can be used, and why the others cannot. What it says of a file never
//! names the file: that goes to the operator's log alone.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

use russh::keys::{
    Algorithm, Certificate, PrivateKey, decode_secret_key,
    ssh_key::{self, certificate::CertType, private::KeypairData},
};
use secrecy::{ExposeSecret, SecretString};

use crate::store::{DirectoryError, check_private};

/// The largest file that is read: an RSA key of 16384 bits has 13 KiB.
const LARGEST: u64 = 64 << 10;
/// The shortest RSA key that counts, in bits.
const SHORTEST_RSA: u32 = 2048;

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("its file is open to others (mode {0:04o}): mode 0600 is right")]
    Open(u32),
    #[error("its file belongs to uid {owner}, and the gateway runs as uid {wanted}")]
    Owner { owner: u32, wanted: u32 },
    #[error("it is no regular file, or a link to one")]
    Kind,
    #[error("its file cannot be read: {0}")]
    Io(io::ErrorKind),
    #[error("it is protected by a passphrase, and nobody is there to type it: `ssh-keygen -p` takes it off")]
    Passphrase,
    #[error("it is no private key in a form of OpenSSH, PKCS#1, PKCS#8 or PuTTY")]
    NoKey,
    #[error("it is RSA of {0} bits: 2048 are the least, ed25519 is better")]
    Short(u32),
    #[error("keys of type {0} cannot be used: ed25519, ecdsa and rsa can")]
    Type(String),
    #[error("it is no certificate of OpenSSH")]
    NoCertificate,
    #[error("the certificate is one of a host, not of a user")]
    OfHost,
    #[error("the certificate is for another key")]
    OtherKey,
    #[error("the certificate does not name {0} as a principal")]
    Principal(String),
    #[error("the certificate is not valid now")]
    Expired,
}

impl From<DirectoryError> for Unusable {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::Mode { mode, .. } => Self::Open(mode),
            DirectoryError::Owner { owner, wanted, .. } => Self::Owner { owner, wanted },
            DirectoryError::Kind { .. } | DirectoryError::InUse { .. } => Self::Kind,
            DirectoryError::Io { error, .. } => Self::Io(error.kind()),
        }
    }
}

/// What changes when a file is replaced or written anew. Errors where a private file is not private.
pub(super) fn stamp(path: &Path, private: bool) -> Result<String, Unusable> {
    if private {
        check_private(path)?;
    }
    let found = fs::metadata(path).map_err(|error| Unusable::Io(error.kind()))?;
    let (modified, changed) = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
    Ok(format!("{}:{}:{}:{modified:?}:{changed:?}", found.dev(), found.ino(), found.size()))
}

fn read(path: &Path) -> Result<String, Unusable> {
    let failed = |error: io::Error| Unusable::Io(error.kind());
    let file = File::open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(Unusable::Kind);
    }
    // Room for all of it from the start: a buffer that grows leaves copies behind.
    let mut text = String::with_capacity(usize::try_from(LARGEST).unwrap_or_default());
    file.take(LARGEST).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// The private key in `path`, which nobody else can read.
pub(super) fn key(path: &Path) -> Result<PrivateKey, Unusable> {
    check_private(path)?;
    let text = SecretString::from(read(path)?);
    // What else the decoder says of a text it cannot read could show a part of it.
    let key = decode_secret_key(text.expose_secret(), None).map_err(|error| match error {
        russh::keys::Error::KeyIsEncrypted => Unusable::Passphrase,
        _ if text.expose_secret().contains("ENCRYPTED") => Unusable::Passphrase,
        _ => Unusable::NoKey,
    })?;
    match key.key_data() {
        KeypairData::Ed25519(_) | KeypairData::Ecdsa(_) => Ok(key),
        KeypairData::Rsa(pair) if pair.key_size() < SHORTEST_RSA => Err(Unusable::Short(pair.key_size())),
        KeypairData::Rsa(_) => Ok(key),
        KeypairData::Encrypted(_) => Err(Unusable::Passphrase),
        _ => Err(Unusable::Type(key.algorithm().to_string())),
    }
}

/// The certificate of a user in `path`.
pub(super) fn certificate(path: &Path) -> Result<Certificate, Unusable> {
    let certificate = Certificate::from_openssh(read(path)?.trim()).map_err(|_| Unusable::NoCertificate)?;
    if certificate.cert_type() != CertType::User {
        return Err(Unusable::OfHost);
    }
    Ok(certificate)
}

/// Errors unless `certificate` lets whoever has `key` log in as `user` at `now`, in seconds since 1970. Whether the
/// host knows its authority is the host's matter.
pub(super) fn matches(certificate: &Certificate, key: &PrivateKey, user: &str, now: u64) -> Result<(), Unusable> {
    if certificate.public_key() != key.public_key().key_data() {
        return Err(Unusable::OtherKey);
    }
    if !certificate.valid_principals().iter().any(|principal| principal == user) {
        return Err(Unusable::Principal(user.to_owned()));
    }
    if !(certificate.valid_after()..certificate.valid_before()).contains(&now) {
        return Err(Unusable::Expired);
    }
    Ok(())
}

/// Whether `key` signs with a hash that has to be agreed on.
pub(super) fn is_rsa(key: &PrivateKey) -> bool {
    matches!(key.algorithm(), Algorithm::Rsa { .. })
}

/// A signature of `data` by `key`, RSA with `hash`, as SSH encodes it.
pub(super) fn sign(key: &PrivateKey, hash: Option<ssh_key::HashAlg>, data: &[u8]) -> Option<Vec<u8>> {
    use russh::keys::signature::Signer;
    let signature: ssh_key::Signature = match key.key_data() {
        KeypairData::Rsa(pair) => (pair, hash).try_sign(data).ok()?,
        _ => key.try_sign(data).ok()?,
    };
    Vec::try_from(signature).ok()
}

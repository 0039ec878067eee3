//! A certificate with its key, checked as a whole: both can be read, belong together, and hold now. Never says anything
//! of the key but that.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use rustls::{
    Error,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};
use secrecy::ExposeSecret;

use crate::{
    model::Certificate,
    store::{DirectoryError, check_private},
    tailnet::CertificatePair,
};

/// Why a certificate is not served.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    /// The key's file is open to others.
    #[error("tls.key_file: {0}")]
    Private(#[from] DirectoryError),
    /// A file cannot be read.
    #[error("{key}: {}: {error}", path.display())]
    Io {
        /// The setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file holds something else.
    #[error("{key}: {} holds no {wanted} in PEM form", path.display())]
    Content {
        /// The setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// The key is another one's.
    #[error("the private key does not belong to the first certificate: the leaf must stand first, and be the key's")]
    Mismatch,
    /// The key's kind cannot be used.
    #[error("the private key cannot be used: {0}")]
    Key(String),
    /// What calls itself a certificate is none.
    #[error("the first certificate cannot be read")]
    Unreadable,
    /// Not yet.
    #[error("the certificate holds from {0} on: look at the clock, or wait")]
    Early(Timestamp),
    /// No longer.
    #[error("the certificate ended at {0}: renew it")]
    Ended(Timestamp),
    /// The certificate is for other names.
    #[error("the certificate of the node is not for its name {0}")]
    OtherName(String),
    /// There is no name to ask for.
    #[error("the node has no name to have a certificate for: is it on the tailnet, and HTTPS enabled for the tailnet?")]
    NoName,
    /// The node has none.
    #[error("the node gives no certificate: {0}")]
    Node(String),
    /// The node gives the one that is due.
    #[error("the node has not renewed its certificate yet")]
    NotRenewed,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Settings(String),
}

/// A certificate that can be served.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
    pub(super) sha256: String,
}

impl Pair {
    /// From two files in PEM form. The key's must be private.
    pub(super) fn read(certificate: &Path, key: &Path, now: Timestamp) -> Result<Self, TlsFault> {
        const CERTIFICATE: &str = "tls.certificate_file";
        const KEY: &str = "tls.key_file";
        let io = |key, path: &Path| {
            let path = path.to_owned();
            move |error| TlsFault::Io { key, path, error }
        };
        let content = |key, path: &Path, wanted| TlsFault::Content { key, path: path.to_owned(), wanted };
        let text = fs::read(certificate).map_err(io(CERTIFICATE, certificate))?;
        let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| content(CERTIFICATE, certificate, "certificate"))?;
        check_private(key)?;
        let text = fs::read(key).map_err(io(KEY, key))?;
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| content(KEY, key, "private key"))?;
        Self::checked(chain, key, now)
    }

    /// What the node handed out for `name`.
    pub(super) fn of_node(pair: CertificatePair, name: &str, now: Timestamp) -> Result<Self, TlsFault> {
        let chain: Vec<CertificateDer<'static>> = pair.chain.into_iter().map(CertificateDer::from).collect();
        let key =
            PrivateKeyDer::try_from(pair.key.expose_secret().to_vec()).map_err(|why| TlsFault::Key(why.into()))?;
        let leaf = chain.first().and_then(|leaf| Certificate::read(leaf)).ok_or(TlsFault::Unreadable)?;
        if !leaf.sans.iter().any(|san| san.eq_ignore_ascii_case(name)) {
            return Err(TlsFault::OtherName(name.to_owned()));
        }
        Self::checked(chain, key, now)
    }

    fn checked(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        now: Timestamp,
    ) -> Result<Self, TlsFault> {
        let leaf = chain.first().and_then(|leaf| Certificate::read(leaf)).ok_or(TlsFault::Unreadable)?;
        let (Some(from), Some(until)) = (leaf.not_before, leaf.not_after) else { return Err(TlsFault::Unreadable) };
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
            Error::InconsistentKeys(_) => TlsFault::Mismatch,
            Error::InvalidCertificate(_) => TlsFault::Unreadable,
            error => TlsFault::Key(error.to_string()),
        })?;
        if now < from {
            return Err(TlsFault::Early(from));
        }
        if now >= until {
            return Err(TlsFault::Ended(until));
        }
        Ok(Self { certified: Arc::new(certified), from, until, sha256: leaf.sha256 })
    }
}

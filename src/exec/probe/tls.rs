//! TLS handshakes that tell which certificate the server showed. [`look`] completes one with anybody and says whether it
//! was trusted; [`enter`] goes on only with a server that is.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, ProtocolVersion, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Fault, Progress};
use crate::model::{Certificate, Host, TlsFindings};

/// The longest text of an error, in characters.
const LONGEST: usize = 200;

/// Whom to trust.
pub(super) struct Trust {
    provider: Arc<CryptoProvider>,
    /// None where there is nobody to trust: then no certificate is.
    authorities: Option<Arc<WebPkiServerVerifier>>,
}

impl Trust {
    /// Trusts `roots`.
    pub(super) fn new(roots: RootCertStore) -> Self {
        let provider = Arc::new(ring::default_provider());
        let authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().ok();
        Self { provider, authorities }
    }

    /// Trusts whom this machine trusts. What cannot be read is trusted by nobody.
    pub(super) async fn of_this_machine() -> Self {
        let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
        let mut roots = RootCertStore::empty();
        if let Ok(found) = found {
            roots.add_parsable_certificates(found.certs);
        }
        Self::new(roots)
    }
}

/// Shakes hands with anybody, and notes the certificate and whether it is trusted.
pub(super) async fn look(stream: TcpStream, host: &Host, trust: &Trust, progress: &mut Progress) -> Result<(), Fault> {
    shake(stream, host, trust, false, progress).await.map(drop)
}

/// Shakes hands with a server that is trusted under this host's name.
pub(super) async fn enter(
    stream: TcpStream,
    host: &Host,
    trust: &Trust,
    progress: &mut Progress,
) -> Result<TlsStream<TcpStream>, Fault> {
    shake(stream, host, trust, true, progress).await
}

async fn shake(
    stream: TcpStream,
    host: &Host,
    trust: &Trust,
    strict: bool,
    progress: &mut Progress,
) -> Result<TlsStream<TcpStream>, Fault> {
    progress.stage = "tls";
    let failed = |reason: String| Fault::Failed("tls", reason);
    let name = server_name(host).ok_or_else(|| failed("the name cannot stand in a certificate".to_owned()))?;
    let witness = Arc::new(Witness {
        provider: trust.provider.clone(),
        authorities: trust.authorities.clone(),
        strict,
        seen: Mutex::default(),
    });
    let config = ClientConfig::builder_with_provider(trust.provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?;
    let mut config = config.dangerous().with_custom_certificate_verifier(witness.clone()).with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    if strict {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
    }
    let started = Instant::now();
    let shaken = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let mut findings = witness.seen.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
    let result = match shaken {
        Ok(stream) => {
            findings.took = Some(started.elapsed());
            findings.version = stream.get_ref().1.protocol_version().and_then(shown);
            Ok(stream)
        }
        Err(_) if findings.untrusted.is_some() => Err(failed("certificate_not_trusted".to_owned())),
        Err(error) => {
            let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
            let reason = tls.map_or_else(|| "connection_lost".to_owned(), |tls| tls.to_string());
            Err(failed(reason.chars().take(LONGEST).collect()))
        }
    };
    progress.findings.tls = Some(findings);
    result
}

fn server_name(host: &Host) -> Option<ServerName<'static>> {
    match host {
        Host::Address(ip) => Some(ServerName::from(*ip)),
        Host::Name(name) => ServerName::try_from(name.clone()).ok(),
    }
}

fn shown(version: ProtocolVersion) -> Option<&'static str> {
    match version {
        ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
        ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
        _ => None,
    }
}

/// Judges a server's certificate as anybody would, and keeps it together with the judgement.
#[derive(Debug)]
struct Witness {
    provider: Arc<CryptoProvider>,
    authorities: Option<Arc<WebPkiServerVerifier>>,
    /// Whether a judgement against the server ends the handshake.
    strict: bool,
    seen: Mutex<Option<TlsFindings>>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged = match &self.authorities {
            Some(authorities) => authorities.verify_server_cert(certificate, intermediates, name, ocsp, now),
            None => Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        };
        let untrusted = judged.as_ref().err().map(|error| error.to_string().chars().take(LONGEST).collect());
        let seen = TlsFindings { certificate: Certificate::read(certificate), untrusted, ..TlsFindings::default() };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        if self.strict { judged } else { Ok(ServerCertVerified::assertion()) }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

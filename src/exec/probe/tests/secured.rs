//! TLS: certificates that nobody vouches for, the wrong name, and one that is trusted.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio_rustls::TlsAcceptor;

use super::*;

/// A server with this certificate, which says 204 to whoever gets in.
async fn tls_server(certificate: CertificateDer<'static>, key: &KeyPair) -> Server {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Server::new(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut head = [0; 4];
            if stream.read_exact(&mut head).await.is_ok() {
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                let _ = stream.shutdown().await;
            }
        }
    })
    .await
}

fn https(server: &Server, name: &str) -> Probe {
    http(&format!("https://{name}:{}/", server.address.port()))
}

fn tls(server: &Server, name: &str) -> Probe {
    probe(ProbeKind::Tls { port: server.address.port() }, name)
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_shown_and_not_spoken_to() {
    let made = rcgen::generate_simple_self_signed(["web.example".to_owned()]).unwrap();
    let der = made.cert.der().clone();
    let server = tls_server(der.clone(), &made.signing_key).await;
    let prober = |answers| Prober::trusting(Scripted::new(answers), RootCertStore::empty());

    let output = made_by(&prober([vec![HERE]]), &tls(&server, "web.example")).await;
    let found = output.findings.tls.unwrap();
    let certificate = found.certificate.unwrap();
    assert_eq!((output.end, found.version), (ProbeEnd::Answered, Some("TLSv1.3")));
    assert!(found.untrusted.unwrap().contains("UnknownIssuer"));
    assert_eq!(certificate.sans, ["web.example"]);
    assert_eq!(certificate.sha256, hex(digest(&SHA256, &der).as_ref()));

    let output = made_by(&prober([vec![HERE]]), &https(&server, "web.example")).await;
    assert_eq!(failure(&output), ("tls", "certificate_not_trusted"));
    assert_eq!(output.findings.tls.unwrap().certificate.unwrap(), certificate);
    assert_eq!(output.findings.head, None);
}

#[tokio::test]
async fn a_trusted_certificate_holds_for_its_own_name_alone() {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["web.example".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let server = tls_server(leaf.der().clone(), &key).await;
    let prober = || {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        Prober::trusting(Scripted::new([vec![HERE]]), roots)
    };

    let output = made_by(&prober(), &https(&server, "web.example")).await;
    assert_eq!(output.end, ProbeEnd::Answered, "{output:?}");
    assert_eq!((output.findings.head.unwrap().status, output.findings.tls.unwrap().untrusted), (204, None));

    for other in ["other.example", "127.0.0.1"] {
        let output = made_by(&prober(), &https(&server, other)).await;
        assert_eq!(failure(&output), ("tls", "certificate_not_trusted"), "{other}");
        let output = made_by(&prober(), &tls(&server, other)).await;
        assert!(output.end == ProbeEnd::Answered && output.findings.tls.unwrap().untrusted.is_some(), "{other}");
    }
}

#[tokio::test]
async fn a_server_without_tls_fails_in_the_handshake() {
    let server = Server::saying("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let plain = Server::new(|mut stream| async move {
        let _ = stream.write_all(b"220 mail.example ESMTP\r\n").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    for (server, silent) in [(server, true), (plain, false)] {
        let prober = Prober::trusting(Scripted::new([]), RootCertStore::empty());
        let limit = Duration::from_millis(if silent { 300 } else { 10_000 });
        let output = prober.run(&tls(&server, "127.0.0.1"), limit, &CancellationToken::new()).await;
        assert_eq!(failure(&output).0, "tls");
        assert!(output.findings.tls.is_none_or(|found| found.certificate.is_none()));
    }
}

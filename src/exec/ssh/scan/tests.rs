//! What is seen of a host, and that nothing else happens to it.

use std::{sync::atomic::Ordering, time::Instant};

use russh::keys::{
    EcdsaCurve, PrivateKey,
    ssh_key::certificate::{Builder, CertType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::{
    exec::ssh::tests::sshd::{Settings, Sshd, new_key, pin_of},
    tailnet::Loopback,
};

async fn looked(port: u16, limit: Duration) -> Result<Vec<ScannedKey>, SshFault> {
    scanned_at(port, limit).await.map(|scan| scan.keys)
}

async fn scanned_at(port: u16, limit: Duration) -> Result<Scan, SshFault> {
    let node = Loopback::bind(&["127.0.0.1:0".parse().unwrap()]).await.unwrap();
    scan(&node, "127.0.0.1", port, limit).await
}

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn every_type_of_key_is_seen_and_nobody_logs_in() {
    let ecdsa = PrivateKey::random(&mut rand::rng(), Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 }).unwrap();
    let keys = [new_key(), ecdsa];
    let settings = Settings { host_keys: keys.to_vec(), ..Settings::new(&keys[0], new_key().public_key()) };
    settings.says.lock().unwrap().identification = Some("SSH-2.0-Old_1.0\tpatched".to_owned());
    let sshd = Sshd::start(settings).await;
    let Scan { keys: seen, identification } = scanned_at(sshd.address.port(), LIMIT).await.unwrap();
    assert_eq!(identification.as_deref(), Some("SSH-2.0-Old_1.0\\tpatched"));
    let pins: Vec<_> = seen.iter().map(|key| format!("{} {}", key.fingerprint, key.algorithm)).collect();
    assert_eq!(pins, keys.iter().map(|key| pin_of(key.public_key())).collect::<Vec<_>>());
    assert_eq!(seen[0].public_key, keys[0].public_key().to_openssh().unwrap());
    assert!(seen.iter().all(|key| key.certificate.is_none()));
    assert_eq!(sshd.seen.connections.load(Ordering::SeqCst), 5);
    assert!(sshd.seen.logins.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_certificate_is_shown_with_its_authority() {
    let (key, ca) = (new_key(), new_key());
    let mut builder = Builder::new(vec![1; 16], key.public_key().key_data().clone(), 1, u64::MAX - 1).unwrap();
    builder.cert_type(CertType::Host).unwrap().valid_principal("web\u{1b}[2J-1").unwrap();
    let certificate = builder.sign(&ca).unwrap();
    let settings = Settings { host_certificates: vec![certificate], ..Settings::new(&key, new_key().public_key()) };
    let sshd = Sshd::start(settings).await;
    let seen = looked(sshd.address.port(), LIMIT).await.unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!(format!("{} ssh-ed25519", seen[0].fingerprint), pin_of(key.public_key()));
    let certificate = seen[0].certificate.as_ref().unwrap();
    assert_eq!(certificate.authority, ca.public_key().fingerprint(HashAlg::Sha256).to_string());
    assert_eq!(certificate.principals, ["web?[2J-1"]);
    assert_eq!((certificate.not_before.unwrap().as_second(), certificate.not_after), (1, None));
}

#[tokio::test]
async fn where_nobody_listens_the_scan_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    assert_eq!(looked(port, LIMIT).await.unwrap_err().code(), "unreachable");
}

/// A host that says who it is, answers no key exchange, and waits until we hang up.
#[tokio::test]
async fn a_host_that_stalls_is_left_in_time_and_its_connection_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let host = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"SSH-2.0-stalls\r\n").await.unwrap();
        let mut all = Vec::new();
        // Ends when the other side closes.
        let _ = stream.read_to_end(&mut all).await;
    });
    let started = Instant::now();
    let fault = looked(port, Duration::from_millis(500)).await.unwrap_err();
    assert!(matches!(fault, SshFault::Timeout(_)), "{fault}");
    assert!(started.elapsed() < Duration::from_secs(10));
    timeout(Duration::from_secs(10), host).await.expect("the connection outlives the scan").unwrap();
}

//! HTTPS: which certificate is shown, and how another takes its place.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tailops::{config::Tls, tailnet::CertificatePair};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    harness::{Gateway, eventually, http_client, modern},
    scripted::{Said, Wire, gateway},
};

const NAME: &str = "tailops.example.ts.net";

/// An authority of the test's own.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// A leaf for the gateway's name that lives from an hour ago for `days`.
    fn leaf(&self, days: i64) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        params.not_before = std::time::SystemTime::now().into();
        params.not_before -= Duration::from_secs(3600);
        params.not_after = params.not_before + Duration::from_secs(u64::try_from(days).unwrap() * 86_400);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn pair(&self, days: i64) -> CertificatePair {
        let (leaf, key) = self.leaf(days);
        CertificatePair {
            chain: vec![leaf.der().to_vec(), self.issuer.der().to_vec()],
            key: key.serialize_der().into(),
        }
    }

    /// A client that trusts nobody else.
    fn client(&self, gateway: &Gateway) -> reqwest::Client {
        let root = reqwest::Certificate::from_der(self.issuer.der()).unwrap();
        http_client().tls_certs_only([root]).resolve(NAME, gateway.address).tls_info(true).build().unwrap()
    }
}

fn url(gateway: &Gateway, path: &str) -> String {
    format!("https://{NAME}:{}{path}", gateway.address.port())
}

/// The leaf that a new connection is shown.
async fn shown(authority: &Authority, gateway: &Gateway) -> Option<Vec<u8>> {
    let response = authority.client(gateway).get(url(gateway, "/healthz")).send().await.ok()?;
    let info = response.extensions().get::<reqwest::tls::TlsInfo>()?;
    Some(info.peer_certificate()?.to_vec())
}

struct Files {
    _directory: TempDir,
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn of(authority: &Authority) -> (Self, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let path = |name| directory.path().join(name);
        let files = Self { certificate: path("chain.pem"), key: path("key.pem"), _directory: directory };
        let leaf = files.write(authority);
        (files, leaf)
    }

    /// Another pair in the place of the first.
    fn write(&self, authority: &Authority) -> Vec<u8> {
        let (leaf, key) = authority.leaf(90);
        replace(&self.key, &key.serialize_pem());
        replace(&self.certificate, &(leaf.pem() + &authority.issuer.pem()));
        leaf.der().to_vec()
    }

    fn tls(&self) -> Tls {
        Tls::Files { certificate: self.certificate.clone(), key: self.key.clone() }
    }
}

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(new, path).unwrap();
}

#[tokio::test]
async fn calls_go_over_tls_and_nothing_goes_beside_it() {
    let authority = Authority::new();
    let (files, leaf) = Files::of(&authority);
    let (gateway, _) = gateway(Said::on_tailnet(None), |config| config.tls = files.tls()).await;
    let token = gateway.admin().await;
    let client = authority.client(&gateway);
    let answer = gateway.send(modern(&client, &url(&gateway, "/mcp"), Some(&token), "token_inspect", json!({}))).await;
    assert_eq!(answer.data()["peer"]["user"], "alice");
    assert_eq!(shown(&authority, &gateway).await, Some(leaf));
    let ready = gateway.send(client.get(url(&gateway, "/readyz")).bearer_auth(&token)).await;
    assert_eq!((ready.status, &ready.body["checks"]["tls"]), (200, &json!(true)));
    // Whoever does not trust the authority is not fooled, and plain HTTP gets no answer.
    let stranger = http_client().tls_certs_only([]).resolve(NAME, gateway.address).build().unwrap();
    assert!(stranger.get(url(&gateway, "/healthz")).send().await.is_err());
    let mut plain = Wire::to(&gateway).await;
    plain.send("GET /healthz HTTP/1.1\r\nHost: tailops\r\n", "").await.unwrap();
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: tailops\r\n\r\n").await.unwrap();
    let mut answered = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answered)).await.expect("still open");
    assert!(!String::from_utf8_lossy(&answered).contains("HTTP"), "{answered:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_cut_off_and_counts() {
    let authority = Authority::new();
    let (files, _) = Files::of(&authority);
    let (gateway, _) = gateway(Said::on_tailnet(None), |config| {
        config.tls = files.tls();
        // Long enough for the look at the places meanwhile, on a machine that is busy with other tests.
        config.http.header_timeout = Duration::from_secs(8);
        config.http.max_connections_per_peer = 2;
    })
    .await;
    let since = std::time::Instant::now();
    let (mut first, mut second) = (Wire::to(&gateway).await, Wire::to(&gateway).await);
    eventually("there is no place left", || async { shown(&authority, &gateway).await.is_none() }).await;
    first.closed().await;
    second.closed().await;
    assert!(since.elapsed() >= Duration::from_millis(900), "{:?}", since.elapsed());
    eventually("there is a place again", || async { shown(&authority, &gateway).await.is_some() }).await;
    gateway.stop().await;
}

#[tokio::test]
async fn files_that_change_are_served_and_connections_stay() {
    let authority = Authority::new();
    let (files, first) = Files::of(&authority);
    let (gateway, _) = gateway(Said::on_tailnet(None), |config| config.tls = files.tls()).await;
    let token = gateway.admin().await;
    let client = authority.client(&gateway);
    let call = || modern(&client, &url(&gateway, "/mcp"), Some(&token), "token_inspect", json!({}));
    let before = gateway.send(call()).await;
    assert_eq!(shown(&authority, &gateway).await, Some(first.clone()));
    // Half of a pair is not served, however often it is looked at.
    let (_, stray) = authority.leaf(90);
    replace(&files.key, &stray.serialize_pem());
    let since = std::time::Instant::now();
    while since.elapsed() < Duration::from_millis(2500) {
        assert_eq!(shown(&authority, &gateway).await, Some(first.clone()), "the pair before stays");
    }
    let second = files.write(&authority);
    eventually("the new pair is served", || async { shown(&authority, &gateway).await == Some(second.clone()) }).await;
    let after = gateway.send(call()).await;
    assert_eq!(peer_address(&gateway, &before).await, peer_address(&gateway, &after).await, "the same connection");
    gateway.stop().await;
}

async fn peer_address(gateway: &Gateway, answer: &crate::harness::Answer) -> Value {
    gateway.records_of(answer).await[0]["tailscale"]["address"].clone()
}

#[tokio::test]
async fn the_nodes_certificate_is_had_renewed_in_time_and_swapped() {
    let authority = Authority::new();
    let (gateway, said) = gateway(Said::on_tailnet(None), |config| config.tls = Tls::Node).await;
    let token = gateway.admin().await;
    assert_eq!(shown(&authority, &gateway).await, None, "there is none yet");
    let (give, issued) = (authority.pair(90), std::sync::Mutex::new(Vec::new()));
    let first = give.chain[0].clone();
    issued.lock().unwrap().push(give);
    *said.issued.lock().unwrap() = Box::new(move |name| match (name, issued.lock().unwrap().pop()) {
        (NAME, Some(pair)) => Ok(pair),
        _ => Err("the authority is down".to_owned()),
    });
    eventually("it has one", || async { shown(&authority, &gateway).await == Some(first.clone()) }).await;
    let client = authority.client(&gateway);
    let ready = async || gateway.send(client.get(url(&gateway, "/readyz")).bearer_auth(&token)).await;
    assert_eq!(ready().await.status, 200);
    // Two thirds of its life have gone, and the authority is down: nobody is troubled with that yet.
    gateway.clock.advance(Duration::from_secs(65 * 86_400));
    let token = gateway.admin().await;
    let ready = async || gateway.send(client.get(url(&gateway, "/readyz")).bearer_auth(&token)).await;
    assert_eq!((ready().await.status, shown(&authority, &gateway).await), (200, Some(first.clone())));
    gateway.clock.advance(Duration::from_secs(20 * 86_400));
    let token = gateway.admin().await;
    let ready = async || gateway.send(client.get(url(&gateway, "/readyz")).bearer_auth(&token)).await;
    let ends = ready().await;
    assert_eq!((ends.status, &ends.body["checks"]["tls"]), (503, &json!(false)), "it is about to end");
    // By this clock, which is ahead, the new one must still hold.
    let give = authority.pair(900);
    let (second, issued) = (give.chain[0].clone(), std::sync::Mutex::new(Some(give)));
    *said.issued.lock().unwrap() = Box::new(move |_| issued.lock().unwrap().take().ok_or("one is enough".to_owned()));
    eventually("it has another", || async { shown(&authority, &gateway).await == Some(second.clone()) }).await;
    assert_eq!(ready().await.status, 200);
    // Another name wants another certificate, at once.
    let give = authority.pair(900);
    let (third, issued) = (give.chain[0].clone(), std::sync::Mutex::new(Some(give)));
    *said.issued.lock().unwrap() = Box::new(move |_| issued.lock().unwrap().take().ok_or("one is enough".to_owned()));
    said.status_is(|status| {
        status.own.as_mut().unwrap().certificate_names = vec![NAME.to_uppercase()];
    });
    eventually("it has a third", || async { shown(&authority, &gateway).await == Some(third.clone()) }).await;
    gateway.stop().await;
}

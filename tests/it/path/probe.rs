//! What probes may reach, through the whole gateway. Names are scripted; every server listens on loopback.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
};

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tailops::{
    config::Config,
    exec::Resolver,
    model::{AddressRules, ProbeRules, UrlRule},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::harness::{Answer, Gateway};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Gives these answers in this order, then none; counts.
pub(super) struct Names {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
    asked: Mutex<usize>,
}

impl Names {
    pub(super) fn new<const N: usize>(answers: [&[&str]; N]) -> Arc<Self> {
        let answers = answers.map(|answer| answer.iter().map(|ip| ip.parse().unwrap()).collect());
        Arc::new(Self { answers: Mutex::new(answers.into()), asked: Mutex::default() })
    }

    pub(super) fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }
}

impl Resolver for Names {
    fn lookup<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        *self.asked.lock().unwrap() += 1;
        let answer = self.answers.lock().unwrap().pop_front();
        Box::pin(async move { answer.ok_or_else(|| io::Error::other("the script has ended")) })
    }
}

/// Says `answer` to every request, and counts them.
pub(super) struct Server {
    pub(super) port: u16,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn saying(answer: impl Into<String>) -> Self {
        let answer = answer.into();
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(speak(stream, answer.clone(), seen.clone()));
            }
        });
        Self { port, requests, task }
    }

    pub(super) fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

async fn speak(mut stream: TcpStream, answer: String, seen: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    seen.lock().unwrap().push(String::from_utf8(head).unwrap());
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// Probes may reach these networks and call these URLs.
pub(super) fn rules(networks: &[&str], urls: &[(&str, bool)]) -> ProbeRules {
    ProbeRules {
        addresses: Arc::new(AddressRules::new(networks.iter().map(|network| network.parse().unwrap()))),
        urls: urls
            .iter()
            .map(|(url, waived)| UrlRule { url: url.parse().unwrap(), waived: *waived, engagements: None })
            .collect(),
    }
}

/// Only 127.0.0.1, and these URLs without approval.
fn here(urls: &[&str]) -> impl FnOnce(&mut Config) {
    let urls: Vec<(&str, bool)> = urls.iter().map(|url| (*url, true)).collect();
    let rules = rules(&["127.0.0.1/32"], &urls);
    move |config| config.probe = rules
}

/// A GET.
async fn http(gateway: &Gateway, url: &str, from: &str) -> Answer {
    let token = gateway.admin().await;
    gateway.call(&token, "http_probe", json!({"target": "local", "url": url, "from": from, "method": "GET"})).await
}

async fn network(gateway: &Gateway, arguments: Value) -> Answer {
    let token = gateway.admin().await;
    let mut call = json!({"target": "local"});
    for (key, value) in arguments.as_object().unwrap() {
        call[key] = value.clone();
    }
    gateway.call(&token, "network_probe", call).await
}

/// Whether the target had the program that the probe needs. Any other gap fails the test.
#[track_caller]
fn complete(answer: &Answer) -> bool {
    answer.data();
    let partial = &answer.content()["partial"];
    assert!(partial.is_null() || partial[0]["reason"] == "missing_tool", "{:?}", answer.body);
    partial.is_null()
}

/// What ran, as the record has it.
async fn ran(gateway: &Gateway, answer: &Answer) -> Vec<(String, String)> {
    let records = gateway.records_of(answer).await;
    let exec = records[0]["exec"].as_array().cloned().unwrap_or_default();
    let word = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
    exec.iter().map(|entry| (word(entry, "template_id"), word(entry, "outcome"))).collect()
}

#[tokio::test]
async fn the_machine_itself_and_metadata_services_are_refused_though_the_list_has_them() {
    let server = Server::saying(OK).await;
    let at = |host: &str| format!("http://{host}:{}/", server.port);
    let hosts = ["127.0.0.1", "[::1]", "169.254.169.254", "10.0.0.1", "100.64.0.1", "[fd00:ec2::254]"];
    let urls: Vec<String> = hosts.iter().map(|host| at(host)).collect();
    let listed: Vec<(&str, bool)> = urls.iter().map(|url| (url.as_str(), true)).collect();
    let rules = rules(&[], &listed);
    let gateway = Gateway::with(|config| config.probe = rules).await;
    for from in ["gateway", "target"] {
        for url in &urls {
            let answer = http(&gateway, url, from).await;
            assert_eq!(answer.code(), "address_refused", "{url} {answer:?}");
            assert_eq!(ran(&gateway, &answer).await, []);
        }
        for host in hosts {
            let call = json!({"kind": "tcp", "host": host, "port": server.port, "from": from});
            let answer = network(&gateway, call).await;
            assert_eq!(answer.code(), "address_refused", "{host} {answer:?}");
        }
        for url in
            [at("localhost"), at("2130706433"), at("0x7f.1"), at("127.1"), at("[::ffff:127.0.0.1]"), at("a@127.0.0.1")]
        {
            let code = http(&gateway, &url, from).await.code().to_owned();
            assert!(["invalid_arguments", "address_refused"].contains(&code.as_str()), "{url}: {code}");
        }
    }
    assert_eq!(server.requests(), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused_after_one_look() {
    let server = Server::saying(OK).await;
    let url = format!("http://web.example:{}/", server.port);
    for addresses in
        [&["127.0.0.1"][..], &["8.8.8.8", "10.0.0.1"], &["::1"], &["::ffff:127.0.0.1"], &["169.254.169.254"]]
    {
        for from in ["gateway", "target"] {
            // The second answer is one that would be taken if anybody asked again.
            let names = Names::new([addresses, &["127.0.0.1"]]);
            let rules = rules(&[], &[(&url, true)]);
            let gateway = Gateway::resolving_by(names.clone(), |config| config.probe = rules).await;
            let answer = http(&gateway, &url, from).await;
            assert_eq!((answer.code(), names.asked()), ("address_refused", 1), "{answer:?}");
            assert_eq!(ran(&gateway, &answer).await, [("probe.http.v1".to_owned(), "refused:address".to_owned())]);
            let message = answer.content()["message"].as_str().unwrap();
            assert!(message.contains("web.example") && !message.contains(addresses[0]), "{message}");
            gateway.stop().await;
        }
    }
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn a_name_that_moves_is_used_as_it_was_checked() {
    let server = Server::saying(OK).await;
    let url = format!("http://web.example:{}/", server.port);
    for from in ["gateway", "target"] {
        let names = Names::new([&["127.0.0.1"], &["127.0.0.2"], &["127.0.0.2"]]);
        let gateway = Gateway::resolving_by(names.clone(), here(&[&url])).await;
        let answer = http(&gateway, &url, from).await;
        let data = answer.data();
        if complete(&answer) {
            assert_eq!((&data["status"], &data["address"]), (&json!(200), &json!("127.0.0.1")), "{data}");
            assert!(
                data["timings"]["resolve_ms"].is_number() && data["timings"]["first_byte_ms"].is_number(),
                "{data}"
            );
        }
        assert_eq!(names.asked(), 1);
        gateway.stop().await;
    }
    let requests = server.requests.lock().unwrap();
    assert!(requests.iter().all(|head| head.to_lowercase().contains(&format!("host: web.example:{}", server.port))));
}

#[tokio::test]
async fn a_redirect_inside_is_told_and_not_followed() {
    let inside = Server::saying(OK).await;
    let location = format!("http://127.0.0.1:{}/private?token=x", inside.port);
    let server =
        Server::saying(format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")).await;
    let url = format!("http://127.0.0.1:{}/", server.port);
    let gateway = Gateway::with(here(&[&url])).await;
    for from in ["gateway", "target"] {
        let answer = http(&gateway, &url, from).await;
        let data = answer.data();
        if complete(&answer) {
            assert_eq!(data["status"], 302, "{data}");
            assert_eq!(data["redirect_to"], json!(location.split('?').next().unwrap()));
        }
    }
    assert_eq!(inside.requests(), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn a_listed_url_needs_a_person_unless_that_is_waived() {
    let server = Server::saying("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nSet-Cookie: a=b\r\n\r\n").await;
    let base = format!("http://127.0.0.1:{}", server.port);
    let (asked, open) = (format!("{base}/"), format!("{base}/open"));
    let rules = rules(&["127.0.0.1/32"], &[(&asked, false), (&open, true)]);
    let gateway = Gateway::with(|config| config.probe = rules).await;
    let token = gateway.admin().await;

    let answer = http(&gateway, &asked, "gateway").await;
    assert_eq!(answer.code(), "approval_unavailable");
    assert_eq!((ran(&gateway, &answer).await, server.requests()), (vec![], 0));
    // As the refusal's hint says, a dry run needs nobody, and sends nothing.
    let answer = gateway.call(&token, "http_probe", json!({"target": "local", "url": asked, "dry_run": true})).await;
    assert_eq!((&answer.data()["address"], &answer.data()["status"]), (&json!("127.0.0.1"), &Value::Null));
    assert_eq!(answer.content()["dry_run"], true);
    for url in
        [format!("{base}/open?x=1"), format!("https://127.0.0.1:{}/open", server.port), "http://a.example/".into()]
    {
        let answer = http(&gateway, &url, "gateway").await;
        assert_eq!(answer.code(), "not_allowlisted");
        assert!(answer.content()["hint"].as_str().unwrap().contains("probe.urls"));
    }
    assert_eq!(server.requests(), 0);

    let call = json!({"target": "local", "url": open, "from": "gateway", "expect_status": 200});
    let answer = gateway.call(&token, "http_probe", call).await;
    let data = answer.data();
    assert_eq!((&data["status"], &data["as_expected"], &data["error"]), (&json!(503), &json!(false), &Value::Null));
    assert_eq!((&data["headers"], &data["tls"]), (&json!({"content-length": "0"}), &Value::Null));
    assert_eq!(ran(&gateway, &answer).await, [("probe.http.v1".to_owned(), "answered".to_owned())]);
    let record = &gateway.records_of(&answer).await[0];
    assert_eq!(record["exec"][0]["argv_sha256"].as_str().unwrap().len(), 64);
    assert!(server.requests.lock().unwrap()[0].starts_with("HEAD /open HTTP/1.1\r\n"));
    gateway.stop().await;
}

#[tokio::test]
async fn nothing_configured_means_nothing_can_be_called() {
    let gateway = Gateway::with(|config| config.probe = ProbeRules::default()).await;
    let answer = http(&gateway, "https://www.example.org/", "gateway").await;
    assert_eq!(answer.code(), "not_allowlisted");
    gateway.stop().await;
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_a_result() {
    let made = rcgen::generate_simple_self_signed(["web.example".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let _ = stream.read_u8().await;
                }
            });
        }
    });
    let url = format!("https://web.example:{port}/");
    let names = Names::new([&["127.0.0.1"]; 4]);
    let gateway = Gateway::resolving_by(names.clone(), here(&[&url])).await;
    for from in ["gateway", "target"] {
        let answer = network(&gateway, json!({"kind": "tls", "host": "web.example", "port": port, "from": from})).await;
        let data = answer.data();
        if complete(&answer) {
            assert_eq!((&data["ok"], &data["tls"]["trusted"]), (&json!(true), &json!(false)), "{data}");
            let cert = &data["tls"]["cert"];
            assert_eq!(cert["sans"], json!(["web.example"]));
            assert!(cert["subject"].as_str().unwrap().contains("CN=") && cert["not_after"].is_string());
            assert_eq!(cert["fingerprint"].as_str().unwrap().len(), 64);
        }
        let answer = http(&gateway, &url, from).await;
        let data = answer.data();
        if complete(&answer) {
            let error = json!({"stage": "tls", "reason": "certificate_not_trusted"});
            assert_eq!((&data["error"], &data["status"]), (&error, &Value::Null), "{data}");
            assert_eq!(data["tls"]["trusted"], false);
        }
    }
    assert_eq!(names.asked(), 4);
    serving.abort();
    gateway.stop().await;
}

#[tokio::test]
async fn ports_names_and_echoes_are_probed_from_both_sides() {
    let server = Server::saying(OK).await;
    let closed = TcpListener::bind((HERE, 0)).await.unwrap().local_addr().unwrap().port();
    let names = Names::new([&["127.0.0.1"]; 8]);
    let gateway = Gateway::resolving_by(names.clone(), here(&[])).await;
    for from in ["gateway", "target"] {
        let tcp = |port: u16| json!({"kind": "tcp", "host": "web.example", "port": port, "count": 2, "from": from});
        let answer = network(&gateway, tcp(server.port)).await;
        let data = answer.data();
        if complete(&answer) {
            assert_eq!(
                (&data["ok"], &data["loss"], &data["addresses"]),
                (&json!(true), &json!(0.0), &json!(["127.0.0.1"]))
            );
            assert!(data["rtt_ms"]["avg"].as_f64().unwrap() < 1000.0, "{data}");
        }
        let answer = network(&gateway, tcp(closed)).await;
        if complete(&answer) {
            let error = json!({"stage": "connect", "reason": "connection_refused"});
            assert_eq!((&answer.data()["ok"], &answer.data()["error"]), (&json!(false), &error));
            assert_eq!(answer.data()["loss"], 1.0);
        }
        for kind in ["ping", "trace"] {
            let answer = network(&gateway, json!({"kind": kind, "host": "127.0.0.1", "from": from})).await;
            let data = answer.data();
            // Not every machine has the programs; where one is missing the answer says so and nothing else.
            let missing = json!([{"section": kind, "reason": "missing_tool"}]);
            assert!(data["ok"].is_boolean() != (answer.content()["partial"] == missing), "{:?}", answer.body);
            let scripts = ran(&gateway, &answer).await;
            assert_eq!(scripts[0], (format!("probe.{kind}.v1"), "aimed".to_owned()));
            assert_eq!(scripts[1].0, "network_probe.v1");
        }
    }
    let answer = network(&gateway, json!({"kind": "dns", "host": "web.example", "from": "gateway"})).await;
    assert_eq!((&answer.data()["ok"], &answer.data()["addresses"]), (&json!(true), &json!(["127.0.0.1"])));
    assert_eq!(names.asked(), 5);
    gateway.stop().await;
}

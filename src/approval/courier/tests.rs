//! Deliveries to real servers on loopback that take messages, refuse them, say nothing, break off or are not whom they
//! say they are.

use std::{
    collections::VecDeque,
    fs,
    os::unix::fs::PermissionsExt,
    sync::atomic::{AtomicI64, Ordering},
};

use axum::{
    Router,
    body::Bytes,
    extract::State as Extracted,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use jiff::SignedDuration;
use serde_json::Value;
use tokio::{io::AsyncWriteExt, net::TcpListener};

use super::*;
use crate::{
    approval::notify::example,
    config::{Approvals, Notify, Webhook},
    model::Vote,
};

/// A clock that tests move.
#[derive(Default)]
struct Hand(AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + self.0.load(Ordering::SeqCst)).unwrap()
    }
}

/// The other end: answers with these statuses, then 200, and keeps what came.
#[derive(Clone, Default)]
struct Ear {
    answers: Arc<Mutex<VecDeque<u16>>>,
    heard: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

impl Ear {
    async fn on(self, path: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(self);
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}{path}")
    }

    fn answering(statuses: &[u16]) -> Self {
        Self { answers: Arc::new(Mutex::new(statuses.iter().copied().collect())), heard: Arc::default() }
    }

    fn count(&self) -> usize {
        self.heard.lock().unwrap().len()
    }

    fn bodies(&self) -> Vec<Value> {
        let heard = self.heard.lock().unwrap();
        heard.iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect()
    }
}

async fn answer(Extracted(ear): Extracted<Ear>, headers: HeaderMap, body: Bytes) -> Response {
    ear.heard.lock().unwrap().push((headers, body));
    let status = ear.answers.lock().unwrap().pop_front().unwrap_or(200);
    if status == 302 {
        return (StatusCode::FOUND, [("location", "/elsewhere")]).into_response();
    }
    if status == 0 {
        std::future::pending::<()>().await;
    }
    StatusCode::from_u16(status).unwrap().into_response()
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const FAST: Pace =
    Pace { first: Duration::from_millis(10), longest: Duration::from_millis(40), patience: Duration::from_millis(500) };

struct Rig {
    couriers: Arc<Couriers>,
    clock: Arc<Hand>,
    _folder: tempfile::TempDir,
}

impl Rig {
    fn told_at(url: &str) -> Self {
        Self::new(&RootCertStore::empty(), |_| Approvals {
            notify: vec![Notify {
                name: "phones".to_owned(),
                url: url.to_owned(),
                form: NotifyForm::Json,
                token_file: None,
            }],
            ..Approvals::default()
        })
    }

    fn asked_at(url: &str) -> Self {
        Self::asked_trusting(url, &RootCertStore::empty())
    }

    fn asked_trusting(url: &str, roots: &RootCertStore) -> Self {
        Self::new(roots, |folder| {
            let secret_file = folder.join("secret");
            fs::write(&secret_file, SECRET).unwrap();
            fs::set_permissions(&secret_file, fs::Permissions::from_mode(0o600)).unwrap();
            let identity = "maria@example.org".to_owned();
            let webhook = Webhook { name: "duty".to_owned(), url: url.to_owned(), secret_file, identity };
            Approvals { webhooks: vec![webhook], ..Approvals::default() }
        })
    }

    fn new(roots: &RootCertStore, settings: impl FnOnce(&std::path::Path) -> Approvals) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(Hand::default());
        let settings = settings(folder.path());
        let shared: Arc<dyn Clock> = clock.clone();
        let webhooks = Webhooks::open(&settings, shared.clone()).unwrap();
        let couriers = Couriers::open_trusting(roots, &settings, &webhooks, &shared, FAST).unwrap();
        Self { couriers: Arc::new(couriers), clock, _folder: folder }
    }

    fn question(&self, id: &str) -> Box<crate::store::ApprovalRow> {
        Box::new(example(id, self.clock.now().checked_add(SignedDuration::from_mins(15)).unwrap()))
    }

    fn ask(&self, id: &str) {
        self.couriers.tell(News::Asked(self.question(id)));
    }

    fn decide(&self, id: &str, settled: bool) {
        let by = "bob@example.org".to_owned();
        self.couriers.tell(News::Decided { question: self.question(id), vote: Vote::Approve, by, settled });
    }

    fn health(&self) -> Health {
        self.couriers.health().remove(0)
    }

    fn why(&self) -> String {
        self.health().last_failure.unwrap().1
    }

    /// Ends every delivery, and returns once it did.
    async fn stop(self) {
        let stop = CancellationToken::new();
        stop.cancel();
        self.couriers.follow(stop).await;
        assert_eq!(self.health().pending, 0);
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited)
        .await
        .unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

#[tokio::test]
async fn it_is_sent_until_it_is_taken_each_time_sealed_anew() {
    let ear = Ear::answering(&[500, 404, 302]);
    let rig = Rig::asked_at(&ear.clone().on("/hook").await);
    rig.ask("a");
    until("it failed", || rig.health().failing_since.is_some()).await;
    assert!(!rig.couriers.are_fine());
    rig.clock.0.fetch_add(7, Ordering::SeqCst);
    until("it is taken", || rig.health().pending == 0).await;
    let health = rig.health();
    assert!(rig.couriers.are_fine() && health.last_success.is_some() && health.missed == 0, "{health:?}");
    // A redirect was not followed: four requests, all of them alike but for their time.
    assert_eq!(ear.count(), 4);
    let bodies = ear.bodies();
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    let heard = ear.heard.lock().unwrap().clone();
    let seal = crate::approval::seal::Seal::of(SECRET.as_bytes());
    for (headers, body) in &heard {
        let text = |name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!(text("x-tailops-signature"), seal.sign(&text("x-tailops-timestamp"), body));
    }
    assert_ne!(heard[0].0["x-tailops-timestamp"], heard[3].0["x-tailops-timestamp"]);
    rig.stop().await;
}

#[tokio::test]
async fn once_it_is_decided_nothing_is_sent_any_more() {
    let ear = Ear::answering(&[500; 10_000]);
    let rig = Rig::asked_at(&ear.clone().on("/").await);
    rig.ask("a");
    rig.ask("b");
    until("both were tried", || ear.bodies().iter().any(|body| body["id"] == "b") && ear.count() > 3).await;
    rig.decide("a", false);
    assert_eq!(rig.health().pending, 2, "one of two that have to agree ends nothing");
    rig.decide("a", true);
    until("only one waits", || rig.health().pending == 1).await;
    let before = ear.count();
    until("the other is tried again", || ear.count() > before + 3).await;
    let later = ear.bodies().split_off(before + 1);
    assert!(later.iter().all(|body| body["id"] == "b"), "{later:?}");
    rig.couriers.tell(News::Expired(rig.question("b")));
    until("none waits", || rig.health().pending == 0).await;
    // A webhook is asked and told nothing else.
    assert!(ear.bodies().iter().all(|body| body["event"] == "asked"));
    rig.stop().await;
}

#[tokio::test]
async fn what_expires_untaken_is_missed_and_that_is_told_until_it_is_heard() {
    let ear = Ear::answering(&[503; 3]);
    let rig = Rig::told_at(&ear.clone().on("/").await);
    rig.ask("a");
    until("it failed", || ear.count() >= 1).await;
    rig.clock.0.fetch_add(16 * 60, Ordering::SeqCst);
    until("it is heard that something was missed", || rig.health().last_success.is_some()).await;
    let health = rig.health();
    assert_eq!((health.missed, health.pending, health.failing_since), (1, 0, None), "{health:?}");
    let last = ear.bodies().pop().unwrap();
    assert_eq!((&last["event"], &last["count"]), (&"missed".into(), &1.into()), "{last}");
    rig.stop().await;
}

#[tokio::test]
async fn whoever_is_told_hears_how_it_ended() {
    let ear = Ear::default();
    let rig = Rig::told_at(&ear.clone().on("/topic").await);
    rig.ask("a");
    until("asked", || ear.count() == 1).await;
    rig.decide("a", true);
    until("decided", || ear.count() == 2).await;
    rig.couriers.tell(News::Expired(rig.question("b")));
    until("expired", || ear.count() == 3).await;
    let events: Vec<_> = ear.bodies().iter().map(|body| body["event"].as_str().unwrap().to_owned()).collect();
    assert_eq!(events, ["asked", "decided", "expired"]);
    rig.stop().await;
}

#[tokio::test]
async fn silence_a_broken_answer_and_nobody_there_are_failures() {
    let silent = Ear::answering(&[0; 100]);
    let rig = Rig::told_at(&silent.clone().on("/").await);
    rig.ask("a");
    until("it took too long", || rig.health().failing_since.is_some()).await;
    assert_eq!(rig.why(), "it did not answer in time");
    rig.stop().await;

    // Accepts, and says what is no HTTP.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let garbage = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(b"\x00\xff approve 200 OK\r\n\r\n{\"decision\":\"approve\"}").await;
        }
    });
    let rig = Rig::told_at(&format!("http://{address}/hunter2"));
    rig.ask("a");
    until("it was no answer", || rig.health().failing_since.is_some()).await;
    assert!(!rig.why().contains("hunter2") && rig.health().last_success.is_none(), "{}", rig.why());
    rig.stop().await;
    garbage.abort();
    let _ = garbage.await;

    // Nobody listens there any more.
    let rig = Rig::told_at(&format!("http://{address}/hunter2"));
    rig.ask("a");
    until("nobody is there", || rig.health().failing_since.is_some()).await;
    assert!(rig.why().contains("refused") && !rig.why().contains("hunter2"), "{}", rig.why());
    rig.stop().await;
}

#[tokio::test]
async fn a_certificate_of_somebody_else_is_nobody() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], made.signing_key.serialize_der().try_into().unwrap())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://127.0.0.1:{}/", listener.local_addr().unwrap().port());
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = [0; 2048];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut head).await;
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
            let _ = stream.shutdown().await;
        }
    });
    let trusting = |certificate: &rcgen::Certificate| {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        roots
    };
    let rig = Rig::asked_trusting(&url, &trusting(&other.cert));
    rig.ask("a");
    until("it is refused", || rig.health().failing_since.is_some()).await;
    assert!(rig.why().contains("certificate"), "{}", rig.why());
    rig.stop().await;
    let rig = Rig::asked_trusting(&url, &trusting(&made.cert));
    rig.ask("a");
    until("it is taken", || rig.health().last_success.is_some()).await;
    rig.stop().await;
    serving.abort();
}

#[tokio::test]
async fn too_many_messages_are_counted_and_nobody_waits() {
    let ear = Ear::answering(&[0; 10_000]);
    let rig = Rig::told_at(&ear.clone().on("/").await);
    for number in 0..MOST + 5 {
        rig.ask(&number.to_string());
    }
    let health = rig.health();
    assert_eq!((health.pending, health.missed), (MOST, 5), "{health:?}");
    assert_eq!(rig.why(), "too many messages wait for it");
    assert!(!rig.couriers.are_fine());
    // No more of them are on their way than may be at once.
    until("some are on their way", || ear.count() >= AT_ONCE).await;
    rig.stop().await;
    assert!(ear.count() <= AT_ONCE, "{}", ear.count());
}

#[tokio::test]
async fn a_stop_ends_deliveries_and_nothing_is_taken_after_it() {
    let ear = Ear::answering(&[0; 100]);
    let rig = Rig::told_at(&ear.clone().on("/").await);
    rig.ask("a");
    until("it is on its way", || ear.count() == 1).await;
    let (couriers, clock) = (rig.couriers.clone(), rig.clock.clone());
    tokio::time::timeout(FAST.patience, rig.stop()).await.unwrap();
    couriers.tell(News::Asked(Box::new(example("b", clock.now()))));
    assert_eq!(couriers.health()[0].pending, 0);
}

#[test]
fn secrets_that_two_share_or_that_are_missing_stop_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let webhook = |name: &str, secret_file| Webhook {
        name: name.to_owned(),
        url: "http://127.0.0.1:1/".to_owned(),
        secret_file,
        identity: "maria@example.org".to_owned(),
    };
    let clock: Arc<dyn Clock> = Arc::new(Hand::default());
    let open = |webhooks| {
        let settings = Approvals { webhooks, ..Approvals::default() };
        Webhooks::open(&settings, clock.clone()).map(drop).unwrap_err().to_string()
    };
    let shared = open(vec![webhook("a", file("a", SECRET)), webhook("b", file("b", &format!("{SECRET}\n")))]);
    assert_eq!(shared, "approvals.webhooks: a and b have the same secret: each could speak as the other");
    let missing = open(vec![webhook("a", folder.path().join("none"))]);
    assert!(missing.starts_with("approvals.webhooks: a: "), "{missing}");

    let notify = |token_file| Notify {
        name: "phones".to_owned(),
        url: "http://127.0.0.1:1/".to_owned(),
        form: NotifyForm::Ntfy,
        token_file: Some(token_file),
    };
    for token in [file("two", "two words"), file("empty", ""), folder.path().join("none")] {
        let settings = Approvals { notify: vec![notify(token)], ..Approvals::default() };
        let webhooks = Webhooks::open(&settings, clock.clone()).unwrap();
        let fault = Couriers::open(&settings, &webhooks, &clock, FAST).map(drop).unwrap_err().to_string();
        assert!(fault.starts_with("approvals.notify: phones: "), "{fault}");
    }
    let settings = Approvals {
        notify: vec![Notify { url: "https://127.0.0.1:1/".into(), token_file: None, ..notify(folder.path().into()) }],
        ..Approvals::default()
    };
    let webhooks = Webhooks::open(&settings, clock.clone()).unwrap();
    let fault =
        Couriers::open_trusting(&RootCertStore::empty(), &settings, &webhooks, &clock, FAST).map(drop).unwrap_err();
    assert!(fault.to_string().contains("no root certificates are installed"), "{fault}");
}

#[test]
fn pauses_are_cut_by_at_most_half() {
    let pause = Duration::from_secs(60);
    for _ in 0..200 {
        let cut = cut(pause);
        assert!(cut <= pause && cut >= pause / 2, "{cut:?}");
    }
}

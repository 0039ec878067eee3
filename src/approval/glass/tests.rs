//! Making a pass, and who may close its review: the refusals first.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use futures_util::{FutureExt, future::BoxFuture};
use jiff::SignedDuration;
use secrecy::ExposeSecret;
use serde_json::json;
use tempfile::TempDir;

use super::{
    super::{Begun, Recorder, Unreviewed},
    *,
};
use crate::{
    auth::{Binding, MintRequest, mint},
    config::{self, Tailnet, Webhook},
    model::{Clock, ScopeSet, SystemClock},
    store::Store,
    tailnet::{Grants, Loopback, Peer, read_grants},
};

#[derive(Default)]
struct Ahead(AtomicI64);

impl Ahead {
    fn go(&self, by: SignedDuration) {
        self.0.fetch_add(by.as_secs(), Ordering::SeqCst);
    }
}

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now().checked_add(SignedDuration::from_secs(self.0.load(Ordering::SeqCst))).unwrap()
    }
}

/// Remembers each event as text.
#[derive(Default)]
struct Log {
    full: AtomicBool,
    lines: Mutex<Vec<String>>,
}

impl Recorder for Log {
    fn record<'a>(&'a self, event: Event<'a>) -> BoxFuture<'a, Result<(), NotRecorded>> {
        if self.full.load(Ordering::SeqCst) {
            return async { Err(NotRecorded) }.boxed();
        }
        let code = event.refused.as_ref().map_or("ok", |(code, _)| code);
        let marked = event.approval.as_ref().is_some_and(|approval| approval.break_glass);
        let line = format!("{} {code} {marked} {}", event.act, Value::Object(event.details));
        self.lines.lock().unwrap().push(line);
        async { Ok(()) }.boxed()
    }

    fn begin<'a>(&'a self, _: Event<'a>) -> BoxFuture<'a, Result<Begun, NotRecorded>> {
        async { Err(NotRecorded) }.boxed()
    }

    fn finish<'a>(&'a self, _: Begun, _: Event<'a>) -> BoxFuture<'a, Result<(), NotRecorded>> {
        async { Err(NotRecorded) }.boxed()
    }

    fn cleaned(&self, text: &str) -> String {
        text.replace("hunter2", "[gone]")
    }
}

struct Site {
    directory: TempDir,
    store: Store,
    clock: Arc<Ahead>,
    log: Arc<Log>,
    approvals: Approvals,
    settings: config::Approvals,
}

impl Site {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).await.unwrap();
        let (clock, log) = (Arc::new(Ahead::default()), Arc::new(Log::default()));
        let approvals = open(&store, &clock, &log).await;
        Self { directory, store, clock, log, approvals, settings: config::Approvals::default() }
    }

    /// As after a restart of the service.
    async fn restart(&mut self) {
        self.approvals = open(&self.store, &self.clock, &self.log).await;
    }

    async fn make(&self) -> Result<MadePass, NoPass> {
        self.approvals.make_pass(&root(), &wish()).await
    }

    async fn close(&self, person: &Person, id: &str) -> Result<(), Unreviewed> {
        let closed = self.approvals.close_review(&self.settings, person, id, "looked at it").await?;
        assert!(!closed.open && !closed.may_close);
        Ok(())
    }

    /// A pass whose time is over, used by an agent of carol's from dave's node where `used`.
    async fn over(&self, used: bool) -> String {
        let id = self.make().await.unwrap().id;
        if used {
            let used_by = json!({"jti": "j", "subject": "agent", "owner": "Carol@example.org", "peer": "n1",
                "login": "dave@example.org", "engagement": "default", "tool": "file_delete", "target": "web-1",
                "segment": "staging", "risk": "high"});
            let usage = PassUse {
                used_at: self.clock.now(),
                used_by: used_by.to_string(),
                operation_hash: "ab".repeat(32),
                correlation_id: CorrelationId::random().to_string(),
                shown: json!({"tool": "file_delete"}).to_string(),
            };
            assert!(self.store.use_pass(&id, &usage).await.unwrap());
        } else {
            self.clock.go(SignedDuration::from_mins(16));
        }
        id
    }

    fn last(&self) -> String {
        self.log.lines.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

async fn open(store: &Store, clock: &Arc<Ahead>, log: &Arc<Log>) -> Approvals {
    let node = Arc::new(Loopback::bind(&["127.0.0.1:0".parse().unwrap()]).await.unwrap());
    Approvals::open(store.clone(), node, clock.clone(), log.clone()).await.unwrap()
}

fn root() -> Person {
    Person::on_host(0, "root")
}

fn wish() -> PassWish {
    PassWish { reason: "the database is down".to_owned(), ttl: LONGEST_PASS, subject: None }
}

fn of_tailnet(login: &str, rules: Value) -> Person {
    let address: SocketAddr = "100.64.0.9:1".parse().unwrap();
    let peer = Peer {
        id: "n9".to_owned(),
        node: "phone".to_owned(),
        user: Some(login.to_owned()),
        tags: Vec::new(),
        tailnet: None,
        address,
        uid: None,
        grants: read_grants(Some(rules.as_array().unwrap()), &Tailnet::default()).unwrap(),
    };
    Person::of(&peer).unwrap()
}

fn invalid(result: Result<MadePass, NoPass>) -> &'static str {
    match result {
        Err(NoPass::Invalid { field, .. }) => field,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn only_a_local_user_at_the_control_socket_makes_a_pass() {
    let site = Site::new().await;
    let alice = of_tailnet("alice@example.org", json!([{"approve": true}]));
    let mut local = alice.peer().unwrap().clone();
    (local.uid, local.grants) = (Some(0), Grants::Unrestricted);
    for person in [alice, Person::of(&local).unwrap(), Person::behind_webhook("hook", "root")] {
        assert_eq!(site.approvals.make_pass(&person, &wish()).await.unwrap_err(), NoPass::Elsewhere, "{person:?}");
    }
    assert_eq!(site.approvals.open_reviews().await.unwrap(), 0);
    assert!(site.log.lines.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_wish_that_is_wrong_is_refused_by_its_field() {
    let site = Site::new().await;
    let long = "x".repeat(501);
    for reason in ["", "  ", "no", "two\nlines", long.as_str()] {
        let wish = PassWish { reason: reason.to_owned(), ..wish() };
        assert_eq!(invalid(site.approvals.make_pass(&root(), &wish).await), "reason", "{reason:?}");
    }
    for ttl in [Duration::ZERO, Duration::from_secs(901), Duration::MAX] {
        let wish = PassWish { ttl, ..wish() };
        assert_eq!(invalid(site.approvals.make_pass(&root(), &wish).await), "ttl_s", "{ttl:?}");
    }
    let wish = PassWish { subject: Some("nobody".to_owned()), ..wish() };
    assert_eq!(invalid(site.approvals.make_pass(&root(), &wish).await), "subject");
    let request = MintRequest {
        subject: "nobody".to_owned(),
        owner: "tester".to_owned(),
        scopes: ScopeSet::parse("readonly").unwrap(),
        engagement: "default".into(),
        targets: None,
        tools: None,
        paths: None,
        ttl: Duration::from_secs(60),
        binding: Binding::LocalUser(0),
    };
    let caps = ("development", Duration::from_secs(3600));
    mint(&site.store, site.directory.path(), request, caps, site.clock.now()).await.unwrap();
    site.approvals.make_pass(&root(), &wish).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_made() {
    let site = Site::new().await;
    site.log.full.store(true, Ordering::SeqCst);
    assert_eq!(site.make().await.unwrap_err(), NoPass::NotRecorded(NotRecorded));
    assert_eq!(site.approvals.open_reviews().await.unwrap(), 0);
}

#[tokio::test]
async fn there_is_one_at_a_time_and_a_clock_that_is_set_back_extends_none() {
    let mut site = Site::new().await;
    let first = site.make().await.unwrap();
    let refused = site.make().await.unwrap_err();
    assert!(matches!(&refused, NoPass::Live { id, .. } if *id == first.id), "{refused:?}");
    // Fourteen minutes on, and an hour back: no time is won, by a restart neither.
    site.clock.go(SignedDuration::from_mins(14));
    assert_eq!(site.make().await.unwrap_err().code(), "pass_live");
    site.clock.go(SignedDuration::from_mins(-60));
    site.restart().await;
    assert!(site.approvals.ticking.now() >= first.expires.checked_sub(SignedDuration::from_secs(61)).unwrap());
    site.clock.go(SignedDuration::from_mins(62));
    site.make().await.unwrap();
    assert_eq!(site.approvals.open_reviews().await.unwrap(), 2);
}

#[tokio::test]
async fn nothing_that_is_kept_holds_the_credential() {
    let site = Site::new().await;
    let made = site.make().await.unwrap();
    let credential = made.credential.expose_secret();
    assert!(credential.len() == 46 && credential.starts_with("bg_"), "{credential}");
    assert!(!format!("{made:?}").contains(credential));
    assert!(site.last().contains("the database is down"));
    let secret = credential.strip_prefix("bg_").unwrap();
    assert!(!site.last().contains(secret));
    assert!(site.last().starts_with("break_glass.make ok true "), "{}", site.last());
    let row = site.store.pass(&made.id).await.unwrap().unwrap();
    assert!(!format!("{row:?}").contains(secret));
    let shown = Credential::shown(&format!(" {credential}\n")).unwrap();
    assert_eq!(site.store.pass_by_credential(&shown.0).await.unwrap(), Some(row));
    // What looks like one is taken for one, however it is written.
    assert!(Credential::shown(&credential.to_uppercase()).is_some_and(|other| other != shown));
    assert_eq!(Credential::shown("k3vd-9w2m-7qtp"), None);
}

#[tokio::test]
async fn who_made_it_or_had_it_used_does_not_close_its_review() {
    let mut site = Site::new().await;
    let everybody = ["root", "root@example.org", "carol@example.org", "DAVE@example.org", "carol"];
    site.settings.approvers = everybody.map(str::to_owned).into();
    let id = site.over(true).await;
    for login in everybody {
        let rules = json!([{"approve": true}]);
        for person in [of_tailnet(login, rules), Person::on_host(7, login)] {
            assert_eq!(site.close(&person, &id).await.unwrap_err(), Unreviewed::Own, "{login}");
            assert!(site.last().starts_with("review.close own_review true "), "{}", site.last());
            let seen = site.approvals.reviews(&site.settings, &person, Some(true), 10).await.unwrap();
            assert!(seen.len() == 1 && !seen[0].may_close);
        }
    }
    assert_eq!(site.approvals.open_reviews().await.unwrap(), 1);
}

#[tokio::test]
async fn who_may_not_approve_what_is_critical_there_does_not_learn_of_a_review() {
    let mut site = Site::new().await;
    site.settings.webhooks = vec![Webhook {
        name: "hook".to_owned(),
        url: "http://127.0.0.1:1".to_owned(),
        secret_file: "/nowhere".into(),
        identity: "eve@example.org".to_owned(),
    }];
    let (used, unused) = (site.over(true).await, site.over(false).await);
    let none = [
        json!([{"scopes": ["admin"]}]),
        json!([{"approve": {"risks": ["high"]}}]),
        json!([{"approve": {"tools": ["file_write"]}}]),
    ];
    let elsewhere =
        [json!([{"approve": true, "targets": ["web-2"]}]), json!([{"approve": true, "engagements": ["other"]}])];
    for (id, rules) in none
        .iter()
        .flat_map(|rules| [(&used, rules), (&unused, rules)])
        .chain(elsewhere.iter().map(|rules| (&used, rules)))
    {
        let eve = of_tailnet("eve@example.org", rules.clone());
        assert_eq!(site.close(&eve, id).await.unwrap_err(), Unreviewed::Hidden(id.clone()), "{rules}");
        assert!(site.last().starts_with("review.close review_unknown true "), "{}", site.last());
        let seen = site.approvals.reviews(&site.settings, &eve, None, 10).await.unwrap();
        assert!(seen.iter().all(|view| view.id != *id), "{rules}");
    }
    let hook = Person::behind_webhook("hook", "eve@example.org");
    assert_eq!(site.close(&hook, &unused).await.unwrap_err(), Unreviewed::Hidden(unused.clone()));
    assert_eq!(site.close(&Person::on_host(7, "eve"), &unused).await.unwrap_err(), Unreviewed::NotNamed);
    // On the host all are seen, whoever may close them.
    assert_eq!(site.approvals.reviews(&site.settings, &Person::on_host(7, "eve"), None, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_review_is_closed_once_with_a_comment_and_not_while_the_pass_is_good() {
    let site = Site::new().await;
    let bob = of_tailnet("bob@example.org", json!([{"approve": {"risks": ["critical"]}}]));
    let id = site.make().await.unwrap().id;
    assert!(matches!(site.close(&bob, &id).await, Err(Unreviewed::Live(_))));
    let unknown = site.close(&bob, "0000-0000-0000").await.unwrap_err();
    assert_eq!(unknown.code(), "review_unknown");
    site.clock.go(SignedDuration::from_mins(16));
    for comment in ["", "ok", " a ", "two\nlines"] {
        let refused = site.approvals.close_review(&site.settings, &bob, &id, comment).await.unwrap_err();
        assert!(matches!(refused, Unreviewed::Invalid { field: "comment", .. }), "{comment:?}");
    }
    site.log.full.store(true, Ordering::SeqCst);
    assert_eq!(site.close(&bob, &id).await.unwrap_err().code(), "audit_unavailable");
    site.log.full.store(false, Ordering::SeqCst);
    assert_eq!(site.approvals.open_reviews().await.unwrap(), 1);
    assert!(site.approvals.reviews(&site.settings, &bob, Some(true), 10).await.unwrap()[0].may_close);

    let secret = "the password hunter2 was left there";
    site.approvals.close_review(&site.settings, &bob, &id, secret).await.unwrap();
    assert!(site.last().starts_with("review.close ok true "), "{}", site.last());
    assert_eq!(site.close(&bob, &id).await.unwrap_err(), Unreviewed::Closed);
    assert_eq!(site.approvals.open_reviews().await.unwrap(), 0);
    let closed = site.approvals.reviews(&site.settings, &bob, Some(false), 10).await.unwrap();
    assert_eq!(
        (closed[0].closed_by.as_deref(), closed[0].comment.as_deref()),
        (Some("bob@example.org"), Some("the password [gone] was left there"))
    );
    // What is in the database stays as it is, whatever the program does.
    let usage = PassUse {
        used_at: site.clock.now(),
        used_by: "{}".to_owned(),
        operation_hash: String::new(),
        correlation_id: String::new(),
        shown: String::new(),
    };
    assert!(!site.store.use_pass(&id, &usage).await.unwrap());
    assert!(!site.store.close_review(&id, site.clock.now(), "eve", "again").await.unwrap());
}

#[tokio::test]
async fn a_use_that_cannot_be_read_leaves_a_review_that_nobody_closes() {
    let mut site = Site::new().await;
    site.settings.approvers = ["bob".to_owned()].into();
    let id = site.make().await.unwrap().id;
    let usage = PassUse {
        used_at: site.clock.now(),
        used_by: r#"{"jti": 1}"#.to_owned(),
        operation_hash: String::new(),
        correlation_id: String::new(),
        shown: "{}".to_owned(),
    };
    assert!(site.store.use_pass(&id, &usage).await.unwrap());
    assert_eq!(site.close(&Person::on_host(7, "bob"), &id).await.unwrap_err(), Unreviewed::NotNamed);
}

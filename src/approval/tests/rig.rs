//! What the tests of approvals stand on: a clock that goes where it is told, a tailnet of a few people, a record that can
//! fail, policies that ask more or less, and callers made by the only way there is.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::{
    approval::{
        Agreement, Approvals, Asked, Asking, Ballot, Begun, Event, NotRecorded, Paper, Person, Recorder, Unapproved,
        Undecided,
    },
    auth::{self, Authenticator, Binding, Caller, MintRequest},
    config,
    model::{
        ApprovalId, Clock, CorrelationId, Effect, Operation, Risk, Scope, ScopeSet, SudoPolicy, Target, TargetKind,
        Vote,
    },
    policy::{Decision, Pending, Permit, Policy, SitePolicy, SiteSource, ToolFacts},
    store::{self, Store},
    tailnet::{Approves, Connection, Grant, Grants, Node, NodePeer, NodeState, NodeStatus, Peer, Unidentified},
};

/// A clock that goes where it is told.
#[derive(Default)]
pub(super) struct Told(AtomicI64);

impl Told {
    pub(super) fn move_by(&self, minutes: i64) {
        self.0.fetch_add(minutes * 60, Ordering::SeqCst);
    }
}

impl Clock for Told {
    fn now(&self) -> Timestamp {
        let start: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        start.checked_add(SignedDuration::from_secs(self.0.load(Ordering::SeqCst))).unwrap()
    }
}

/// A tailnet of people, each on one node.
#[derive(Default)]
pub(super) struct Net(Mutex<BTreeMap<IpAddr, Peer>>);

impl Net {
    pub(super) fn change(&self, change: impl FnOnce(&mut BTreeMap<IpAddr, Peer>)) {
        change(&mut self.0.lock().unwrap());
    }

    pub(super) fn join(&self, peer: Peer) {
        self.change(|peers| drop(peers.insert(peer.address.ip(), peer)));
    }
}

impl Node for Net {
    fn mode(&self) -> &'static str {
        "scripted"
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        vec![SocketAddr::from(([127, 0, 0, 1], 8080))]
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(std::future::pending())
    }

    fn identify<'a>(&'a self, peer: SocketAddr, _: SocketAddr) -> BoxFuture<'a, Result<Peer, Unidentified>> {
        self.peer_at(peer.ip())
    }

    fn peer_at(&self, address: IpAddr) -> BoxFuture<'_, Result<Peer, Unidentified>> {
        let found = self.0.lock().unwrap().get(&address).cloned();
        Box::pin(async move { found.ok_or(Unidentified::UnknownPeer(SocketAddr::new(address, 0))) })
    }

    fn status(&self) -> Arc<NodeStatus> {
        Arc::new(NodeStatus::of_state(NodeState::Running))
    }

    fn peers(&self) -> BoxFuture<'_, Vec<(NodePeer, Result<Peer, Unidentified>)>> {
        let node = |peer: &Peer| NodePeer {
            id: peer.id.clone(),
            name: peer.node.clone(),
            user: peer.user.clone(),
            tags: peer.tags.clone(),
            addresses: vec![peer.address.ip()],
            os: None,
            online: true,
            ssh_host_keys: Vec::new(),
        };
        let peers = self.0.lock().unwrap().values().map(|peer| (node(peer), Ok(peer.clone()))).collect();
        Box::pin(async move { peers })
    }
}

/// One event as it was recorded.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Noted {
    pub(super) act: &'static str,
    pub(super) id: String,
    pub(super) by: Option<String>,
    pub(super) refused: Option<&'static str>,
    pub(super) details: Map<String, Value>,
    /// `event`, `begun` or `finished`.
    pub(super) sort: &'static str,
}

/// A record that counts, and fails where it is told to.
#[derive(Default)]
pub(super) struct Notes {
    noted: Mutex<Vec<Noted>>,
    broken: AtomicBool,
}

impl Notes {
    pub(super) fn breaks(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }

    pub(super) fn all(&self) -> Vec<Noted> {
        self.noted.lock().unwrap().clone()
    }

    /// How many of `act` were not refused.
    pub(super) fn count(&self, act: &str) -> usize {
        self.all().iter().filter(|noted| noted.act == act && noted.refused.is_none()).count()
    }

    fn keep(&self, event: Event<'_>, sort: &'static str) -> Result<(), NotRecorded> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(NotRecorded);
        }
        self.noted.lock().unwrap().push(Noted {
            act: event.act,
            id: event.approval.map(|approval| approval.id).unwrap_or_default(),
            by: event.by.map(|person| person.login().to_owned()),
            refused: event.refused.map(|(code, _)| code),
            details: event.details,
            sort,
        });
        Ok(())
    }
}

impl Recorder for Notes {
    fn record<'a>(&'a self, event: Event<'a>) -> BoxFuture<'a, Result<(), NotRecorded>> {
        let kept = self.keep(event, "event");
        Box::pin(async move { kept })
    }

    fn begin<'a>(&'a self, event: Event<'a>) -> BoxFuture<'a, Result<Begun, NotRecorded>> {
        let kept = self.keep(event, "begun");
        Box::pin(async move { kept.map(|()| Begun(1)) })
    }

    fn finish<'a>(&'a self, _: Begun, event: Event<'a>) -> BoxFuture<'a, Result<(), NotRecorded>> {
        let kept = self.keep(event, "finished");
        Box::pin(async move { kept })
    }

    fn cleaned(&self, text: &str) -> String {
        text.replace("hunter2", "‹redacted›")
    }
}

/// A login on a node of its own, with these rules.
pub(super) fn person(host: u8, login: &str, rules: Vec<Grant>) -> Peer {
    Peer {
        id: format!("n{host}"),
        node: format!("node-{host}"),
        user: Some(login.to_owned()),
        tags: Vec::new(),
        tailnet: Some("example.ts.net".to_owned()),
        address: SocketAddr::from(([100, 64, 0, host], 1)),
        uid: None,
        grants: Grants::Rules(rules),
    }
}

/// A tagged node.
pub(super) fn tagged(host: u8, rules: Vec<Grant>) -> Peer {
    Peer { user: None, tags: vec!["tag:agent".to_owned()], ..person(host, "", rules) }
}

/// A rule that lets its holder say yes to everything.
pub(super) fn approves() -> Grant {
    let approve = Approves { risks: None, segments: None, tools: None };
    Grant { scopes: ScopeSet::default(), targets: None, engagements: None, approve: Some(approve) }
}

/// How much policy asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Strict {
    One,
    Two,
    Signed,
}

fn policy(strict: Strict) -> &'static Policy {
    static POLICIES: OnceLock<[Policy; 3]> = OnceLock::new();
    let made = |more: &str| {
        let rule = format!(
            "@id(\"more\") @ask(\"more\") {more} forbid (principal, action, resource) unless {{ context.approved }};"
        );
        let files = [config::SiteFile { name: "site.cedar".to_owned(), text: rule }];
        let input = json!({"type": "object"});
        let (effect, risk) = (Effect::Destructive, Risk::Critical);
        let tool = ToolFacts { name: "test", effect, risk, on_target: true, scopes: &[], input };
        let files = if more.is_empty() { &[] } else { files.as_slice() };
        let now = Told::default().now();
        let source = SiteSource { tools: &[tool], files, inventory: None, time_zone: "UTC", exceptions: &[], now };
        Policy::new([("test".into(), None)], SitePolicy::load(&source).unwrap())
    };
    let [one, two, signed] =
        POLICIES.get_or_init(|| [made(""), made("@approvers(\"2\")"), made("@strength(\"signature\")")]);
    match strict {
        Strict::One => one,
        Strict::Two => two,
        Strict::Signed => signed,
    }
}

pub(super) fn target(segment: Option<&str>) -> Target {
    Target {
        id: "web".into(),
        kind: TargetKind::Local,
        engagement: "test".into(),
        capabilities: ScopeSet::default(),
        segment: segment.map(str::to_owned),
        tags: Vec::new(),
        roots: Vec::new(),
        timeout: Duration::from_secs(60),
        concurrency: 1,
        sudo: SudoPolicy::None,
        registered: None,
    }
}

/// What a call wants: `variant` stands in its arguments.
pub(super) fn operation(variant: u8, target: Target) -> Operation {
    Operation {
        tool: "test",
        target: Some(Arc::new(target)),
        engagement: "test".into(),
        scopes: &[],
        effect: Effect::Destructive,
        risk: Risk::Critical,
        raised: None,
        asks: None,
        dry_run: false,
        reason: Some("a test".to_owned()),
        arguments: Map::from_iter([("variant".to_owned(), json!(variant))]),
        moment: None,
        places: Vec::new(),
        steps: Vec::new(),
    }
}

/// A caller on `peer`, whose token `owner` made.
pub(super) async fn caller(peer: Peer, owner: &str) -> Caller {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let clock = Arc::new(Told::default());
    let request = MintRequest {
        subject: "agent".into(),
        owner: owner.into(),
        scopes: ScopeSet::new([Scope::FleetRead]),
        engagement: "test".into(),
        targets: None,
        tools: None,
        paths: None,
        ttl: Duration::from_secs(3600),
        binding: Binding::Node(peer.id.clone()),
    };
    let minted =
        auth::mint(&store, folder.path(), request, ("test", Duration::from_secs(7200)), clock.now()).await.unwrap();
    let checker = Authenticator::open(store, folder.path().into(), clock).await.unwrap();
    let peer = Peer { grants: Grants::Unrestricted, ..peer };
    checker.authenticate(&Arc::new(peer), Some(minted.token.expose_secret())).await.unwrap()
}

/// Approvals on a database of their own.
pub(super) struct Rig {
    folder: TempDir,
    pub(super) clock: Arc<Told>,
    pub(super) net: Arc<Net>,
    pub(super) notes: Arc<Notes>,
    pub(super) settings: config::Approvals,
    pub(super) approvals: Approvals,
    pub(super) store: Store,
    pub(super) strict: Strict,
    pub(super) segment: Option<&'static str>,
    /// What the preview finds.
    pub(super) world: u8,
}

impl Rig {
    /// With alice, bob and carol, who may say yes to everything, and mallory, who may not.
    pub(super) async fn new() -> Self {
        let (folder, clock, notes) = (tempfile::tempdir().unwrap(), Arc::new(Told::default()), Arc::<Notes>::default());
        let net = Arc::<Net>::default();
        for (host, name) in (1..).zip(["alice", "bob", "carol", "mallory"]) {
            let rules = if name == "mallory" { Vec::new() } else { vec![approves()] };
            net.join(person(host, &format!("{name}@example.org"), rules));
        }
        let store = Store::open(&empty(folder.path()).await).await.unwrap();
        let approvals = Approvals::open(store.clone(), net.clone(), clock.clone(), notes.clone()).await.unwrap();
        // Half a minute more than whole minutes, by which the tests move the clock.
        let settings = config::Approvals { ttl: Duration::from_secs(15 * 60 + 30), ..config::Approvals::default() };
        let (strict, segment, world) = (Strict::One, None, 0);
        Self { folder, clock, net, notes, settings, approvals, store, strict, segment, world }
    }

    pub(super) async fn restart(&mut self) {
        self.store.close().await;
        self.store = Store::open(self.folder.path()).await.unwrap();
        let approvals =
            Approvals::open(self.store.clone(), self.net.clone(), self.clock.clone(), self.notes.clone()).await;
        self.approvals = approvals.unwrap();
    }

    pub(super) fn pending(&self, caller: &Caller, variant: u8) -> Pending {
        match policy(self.strict).decide(caller, operation(variant, target(self.segment)), self.clock.now()) {
            Decision::Ask(pending) => pending,
            other => panic!("{:?}", other.trace()),
        }
    }

    pub(super) fn paper(&self, caller: &Caller, variant: u8) -> Paper {
        let world = Map::from_iter([("found".to_owned(), json!(self.world))]);
        Paper::of(caller, &operation(variant, target(self.segment)), &world).unwrap()
    }

    /// What a call without an approval comes to.
    pub(super) async fn ask(&self, caller: &Caller, variant: u8) -> Result<Asked, Unapproved> {
        let (pending, paper) = (self.pending(caller, variant), self.paper(caller, variant));
        self.approvals.answerable(&self.settings, caller, &pending).await?;
        self.approvals.ask(&self.settings, asking(caller, &pending, &paper)).await
    }

    /// The first half of what a call with an approval comes to.
    pub(super) async fn agreed(
        &self,
        caller: &Caller,
        id: &str,
        variant: u8,
    ) -> Result<(Agreement, Pending), Unapproved> {
        let (pending, paper, id) = (self.pending(caller, variant), self.paper(caller, variant), ApprovalId::from(id));
        self.approvals.settled(&self.settings, &id, caller, &pending).await?;
        let asking = asking(caller, &pending, &paper);
        let agreement = self.approvals.agreed(&self.settings, &id, &asking).await?;
        Ok((agreement, pending))
    }

    /// The second half.
    pub(super) async fn take(&self, caller: &Caller, ready: (Agreement, Pending)) -> Result<Permit, Unapproved> {
        self.approvals.take(&self.settings, &ready.0, caller, ready.1).await
    }

    /// What a call with an approval comes to.
    pub(super) async fn used(&self, caller: &Caller, id: &str, variant: u8) -> Result<Permit, Unapproved> {
        self.take(caller, self.agreed(caller, id, variant).await?).await
    }

    /// Who is on the node `host`.
    pub(super) async fn on(&self, host: u8) -> Option<Person> {
        Person::of(&self.net.peer_at(IpAddr::from([100, 64, 0, host])).await.ok()?).ok()
    }

    /// The people of the rig.
    pub(super) async fn bob(&self) -> Person {
        self.on(2).await.unwrap()
    }

    pub(super) async fn carol(&self) -> Person {
        self.on(3).await.unwrap()
    }

    pub(super) async fn vote(&self, person: &Person, asked: &Asked, vote: Vote) -> Result<(), Undecided> {
        self.approvals.decide(&self.settings, person, &ballot(asked, vote)).await.map(drop)
    }

    pub(super) async fn state(&self, id: &str) -> String {
        self.store.approval(id).await.unwrap().unwrap().state
    }
}

/// Puts an empty database into `folder`: a copy of one, as making one takes its time.
async fn empty(folder: &Path) -> PathBuf {
    static EMPTY: OnceCell<Vec<u8>> = OnceCell::const_new();
    let bytes = EMPTY.get_or_init(async || {
        let first = tempfile::tempdir().unwrap();
        Store::open(first.path()).await.unwrap().close().await;
        fs::read(first.path().join(store::FILE)).unwrap()
    });
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join(store::FILE)).unwrap();
    file.write_all(bytes.await).unwrap();
    folder.to_owned()
}

pub(super) fn ballot(asked: &Asked, vote: Vote) -> Ballot {
    Ballot {
        id: asked.id.clone(),
        vote,
        operation_hash: asked.operation_hash.clone(),
        comment: String::new(),
        signature: None,
    }
}

fn asking<'a>(caller: &'a Caller, pending: &'a Pending, paper: &'a Paper) -> Asking<'a> {
    let correlation = CorrelationId::random();
    Asking { caller, pending, paper, shown: paper.document(), preview: None, correlation }
}

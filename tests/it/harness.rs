//! Starts gateways and stops them. Never builds a caller, a decision or a record by hand.

mod calling;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde_json::Value;
use tailops::{
    app::{App, open_directory},
    approval::Approvals,
    config::{Config, Tailnet},
    exec::{Resolver, SystemResolver},
    model::{Clock, SystemClock},
    store::Store,
    tailnet::{Connection, Grants, Node, NodePeer, NodeState, NodeStatus, Peer, Stream, Unidentified, read_grants},
};
use tempfile::TempDir;
use tokio::net::TcpListener;

pub use self::calling::{Answer, Grant, call_of, correlation_of, legacy_era, modern_era, records};
pub use crate::request::modern;

/// The secret that tests plant: nothing that leaves may hold it.
pub const PLANTED: &str = "hunter2-planted-Zx81";

/// A clock that tests move.
#[derive(Default)]
pub struct TestClock {
    ahead_ms: AtomicI64,
}

impl TestClock {
    pub fn advance(&self, by: Duration) {
        self.ahead_ms.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let ahead = jiff::SignedDuration::from_millis(self.ahead_ms.load(Ordering::SeqCst));
        SystemClock.now().checked_add(ahead).unwrap()
    }
}

pub type Script = Box<dyn Fn(SocketAddr) -> Result<Peer, Unidentified> + Send + Sync>;

/// A node whose peers are who the test says.
pub struct ScriptedNode {
    listener: TcpListener,
    whois: Arc<Mutex<Script>>,
    facts: Arc<Mutex<NodeFacts>>,
}

type Seen = Vec<(NodePeer, Result<Peer, Unidentified>)>;

/// What a scripted node says of itself and its peers.
struct NodeFacts {
    status: NodeStatus,
    peers: Box<dyn Fn() -> Seen + Send>,
    believed_for: Option<Duration>,
}

impl Default for NodeFacts {
    fn default() -> Self {
        Self { status: NodeStatus::of_state(NodeState::Loopback), peers: Box::new(Vec::new), believed_for: None }
    }
}

impl Node for ScriptedNode {
    fn mode(&self) -> &'static str {
        "scripted"
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.listener.local_addr().unwrap()]
    }

    fn status(&self) -> Arc<NodeStatus> {
        Arc::new(self.facts.lock().unwrap().status.clone())
    }

    fn peers(&self) -> BoxFuture<'_, Seen> {
        Box::pin(async { (self.facts.lock().unwrap().peers)() })
    }

    fn peer_at(&self, address: IpAddr) -> BoxFuture<'_, Result<Peer, Unidentified>> {
        let peers = (self.facts.lock().unwrap().peers)();
        let known = peers.into_iter().filter_map(|(_, peer)| peer.ok()).find(|peer| peer.address.ip() == address);
        Box::pin(async move { known.ok_or(Unidentified::UnknownPeer(SocketAddr::new(address, 0))) })
    }

    fn believed_for(&self) -> Option<Duration> {
        self.facts.lock().unwrap().believed_for
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async {
            let (stream, peer) = self.listener.accept().await?;
            let local = stream.local_addr()?;
            Ok(Connection { stream: Stream::Tcp(stream), peer, local })
        })
    }

    fn identify<'a>(&'a self, peer: SocketAddr, _: SocketAddr) -> BoxFuture<'a, Result<Peer, Unidentified>> {
        Box::pin(async move { (self.whois.lock().unwrap())(peer) })
    }

    fn identify_relayed(&self, address: IpAddr) -> BoxFuture<'_, Result<Peer, Unidentified>> {
        Box::pin(async move { (self.whois.lock().unwrap())(SocketAddr::new(address, 0)) })
    }
}

/// An HTTP client to be, with the one TLS provider there is; no proxy of the environment stands in its way.
pub fn http_client() -> reqwest::ClientBuilder {
    // An error says that another test installed it before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy()
}

/// The peer most tests come from.
pub const ALICE: u32 = 4001;

pub fn alice(address: SocketAddr) -> Peer {
    peer_of(ALICE, "alice", address)
}

pub fn peer_of(uid: u32, user: &str, address: SocketAddr) -> Peer {
    Peer {
        id: format!("uid:{uid}"),
        node: "laptop".to_owned(),
        user: Some(user.to_owned()),
        tags: Vec::new(),
        tailnet: None,
        address,
        uid: Some(uid),
        grants: Grants::Unrestricted,
    }
}

/// Who is behind a node of the tailnet: a login, or tags.
pub enum Behind<'a> {
    User(&'a str),
    Tags(&'a [&'a str]),
}

/// A peer of the tailnet, with these grants and its own address there.
pub fn tailnet_peer(id: &str, node: &str, behind: Behind<'_>, grants: Grants, address: &str) -> Peer {
    let (user, tags) = match behind {
        Behind::User(login) => (Some(login.to_owned()), Vec::new()),
        Behind::Tags(tags) => (None, tags.iter().map(|tag| (*tag).to_owned()).collect()),
    };
    Peer {
        id: id.to_owned(),
        node: node.to_owned(),
        user,
        tags,
        tailnet: Some("example.ts.net".to_owned()),
        address: address.parse().unwrap(),
        uid: None,
        grants,
    }
}

/// The grants that a tailnet policy with these rules hands a peer.
pub fn grants(rules: Value) -> Grants {
    read_grants(Some(rules.as_array().unwrap()), &Tailnet::default()).unwrap()
}

/// A running gateway.
pub struct Gateway {
    app: Option<App>,
    store: Store,
    pub config: Config,
    pub clock: Arc<TestClock>,
    pub directory: TempDir,
    pub address: SocketAddr,
    whois: Arc<Mutex<Script>>,
    facts: Arc<Mutex<NodeFacts>>,
    pub http: reqwest::Client,
}

impl Gateway {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts a gateway whose configuration `adjust` changed.
    pub async fn with(adjust: impl FnOnce(&mut Config)) -> Self {
        let (directory, config) = Self::directory(adjust);
        Self::on(directory, config).await
    }

    /// Starts a gateway whose configuration `adjust` changed, and whose names are resolved by `resolver`.
    pub async fn resolving_by(resolver: Arc<dyn Resolver>, adjust: impl FnOnce(&mut Config)) -> Self {
        let (directory, config) = Self::directory(adjust);
        Self::on_resolving_by(directory, config, resolver).await
    }

    fn directory(adjust: impl FnOnce(&mut Config)) -> (TempDir, Config) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap().join("data");
        let mut config = Config::development(path.clone(), "127.0.0.1:0".parse().unwrap());
        adjust(&mut config);
        (directory, config)
    }

    /// Starts a gateway on a directory that may hold an earlier one's data.
    pub async fn on(directory: TempDir, config: Config) -> Self {
        Self::on_resolving_by(directory, config, Arc::new(SystemResolver)).await
    }

    async fn on_resolving_by(directory: TempDir, config: Config, resolver: Arc<dyn Resolver>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script: Script = Box::new(|address| Ok(alice(address)));
        let whois = Arc::new(Mutex::new(script));
        let status = NodeStatus::of_state(NodeState::Loopback);
        let facts = NodeFacts { status, peers: Box::new(Vec::new), believed_for: None };
        let facts = Arc::new(Mutex::new(facts));
        let node = Arc::new(ScriptedNode { listener, whois: whois.clone(), facts: facts.clone() });
        Self::joined(directory, config, (node, address), (whois, facts), resolver).await
    }

    /// Starts a gateway on `node` itself; nothing of it is scripted here.
    pub async fn on_node(node: Arc<dyn Node>, adjust: impl FnOnce(&mut Config)) -> Self {
        let (directory, config) = Self::directory(adjust);
        let address = node.addresses()[0];
        let facts = NodeFacts::default();
        let script: Script = Box::new(|_| Err(Unidentified::NotFound));
        let unused = (Arc::new(Mutex::new(script)), Arc::new(Mutex::new(facts)));
        Self::joined(directory, config, (node, address), unused, Arc::new(SystemResolver)).await
    }

    /// Starts a gateway on `node`, whose peers are whom `whois` says.
    pub async fn over_node(node: Arc<dyn Node>, whois: Arc<Mutex<Script>>, adjust: impl FnOnce(&mut Config)) -> Self {
        let (directory, config) = Self::directory(adjust);
        let address = node.addresses()[0];
        let facts = NodeFacts::default();
        let facts = Arc::new(Mutex::new(facts));
        Self::joined(directory, config, (node, address), (whois, facts), Arc::new(SystemResolver)).await
    }

    async fn joined(
        directory: TempDir,
        config: Config,
        (node, address): (Arc<dyn Node>, SocketAddr),
        (whois, facts): (Arc<Mutex<Script>>, Arc<Mutex<NodeFacts>>),
        resolver: Arc<dyn Resolver>,
    ) -> Self {
        let lock = open_directory(&config.data_dir).unwrap();
        std::fs::create_dir_all(config.data_dir.join("files")).unwrap();
        let clock = Arc::new(TestClock::default());
        let app = App::start_resolving_by(&config, node, clock.clone(), lock, resolver).await.unwrap();
        let store = app.store().clone();
        let http = http_client().build().unwrap();
        Self { app: Some(app), store, config, clock, directory, address, whois, facts, http }
    }

    /// Says who peers are from now on.
    pub fn peers_are(&self, script: impl Fn(SocketAddr) -> Result<Peer, Unidentified> + Send + Sync + 'static) {
        *self.whois.lock().unwrap() = Box::new(script);
    }

    /// Says that everybody is this peer from now on, on new connections.
    pub fn everybody_is(&self, peer: Peer) {
        self.peers_are(move |_| Ok(peer.clone()));
    }

    /// Says that this peer is at the other end from now on, and connects anew: who it is is asked once a connection.
    pub fn visited_by(&mut self, peer: Peer) {
        self.everybody_is(peer);
        self.http = http_client().build().unwrap();
    }

    /// Says what the node knows of itself and its tailnet from now on.
    pub fn status_is(&self, status: NodeStatus) {
        self.facts.lock().unwrap().status = status;
    }

    /// Says what the tailnet knows of each peer from now on.
    pub fn peers_may(&self, peers: impl Fn() -> Vec<(NodePeer, Result<Peer, Unidentified>)> + Send + 'static) {
        self.facts.lock().unwrap().peers = Box::new(peers);
    }

    /// Says how long an identity may be believed from now on.
    #[allow(dead_code, reason = "for the tests of live connections")]
    pub fn believed_for(&self, time: Option<Duration>) {
        self.facts.lock().unwrap().believed_for = time;
    }

    /// The running gateway's questions to people.
    pub fn approvals(&self) -> &Approvals {
        self.app.as_ref().unwrap().approvals()
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Stops the gateway and returns its directory, after the checks that hold for every test: no intent without
    /// outcome, no planted secret in the log, a dense sequence.
    pub async fn stop(mut self) -> (TempDir, Config) {
        self.app.take().unwrap().stop().await;
        let store = Store::open(&self.config.data_dir).await.unwrap();
        assert_eq!(store.leaf_reader().open_intents().await.unwrap(), vec![]);
        let leaves = records(&store, true).await;
        for (n, leaf) in leaves.iter().enumerate() {
            assert_eq!(leaf["seq"], n + 1);
            assert!(!leaf.to_string().contains(PLANTED), "a planted secret is in the log: {leaf}");
        }
        store.close().await;
        (std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap()), self.config.clone())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.app.is_some() && !std::thread::panicking() {
            panic!("the test did not end with `stop`, which checks the log");
        }
    }
}

/// Waits until `condition` holds; fails the test after half a minute.
pub async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Asks again and again until `condition` holds; fails the test where it did not for what was asked `limit` from now, or
/// later. How long an answer takes is the machine's affair, not the promise's.
pub async fn within<F: Future<Output = bool>>(limit: Duration, what: &str, condition: impl Fn() -> F) {
    let began = tokio::time::Instant::now();
    loop {
        let asked = began.elapsed();
        if condition().await {
            return;
        }
        assert!(asked < limit, "not yet after {asked:?}: {what}");
    }
}

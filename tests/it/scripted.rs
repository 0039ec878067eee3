//! A node whose answers a test changes while connections are open, and a connection that is seen byte by byte.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tailops::{
    app::{App, StartError, open_directory},
    config::Config,
    tailnet::{CertificatePair, Connection, Node, NodeState, NodeStatus, OwnNode, Peer, Stream, Unidentified},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::harness::{Gateway, Script, TestClock, alice};

type Relayed = Box<dyn Fn(IpAddr) -> Result<Peer, Unidentified> + Send + Sync>;
type Issued = Box<dyn Fn(&str) -> Result<CertificatePair, String> + Send + Sync>;

/// Whom the node does not answer about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    No,
    About(u16),
    AboutAll,
}

/// What a node says, which tests change.
pub struct Said {
    pub whois: Arc<Mutex<Script>>,
    pub relayed: Mutex<Relayed>,
    pub status: Mutex<Arc<NodeStatus>>,
    pub believed_for: Option<Duration>,
    pub silence: watch::Sender<Silence>,
    pub issued: Mutex<Issued>,
    pub asked: AtomicUsize,
}

impl Said {
    /// A node on a tailnet whose identities hold for `believed_for`; alice is the only peer.
    pub fn on_tailnet(believed_for: Option<Duration>) -> Self {
        let whois: Script = Box::new(|address| Ok(alice(address)));
        Self {
            whois: Arc::new(Mutex::new(whois)),
            relayed: Mutex::new(Box::new(|ip| Err(Unidentified::UnknownPeer(SocketAddr::new(ip, 0))))),
            status: Mutex::new(Arc::new(running())),
            believed_for,
            silence: watch::Sender::new(Silence::No),
            issued: Mutex::new(Box::new(|_| Err("HTTPS is not enabled".to_owned()))),
            asked: AtomicUsize::new(0),
        }
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub fn status_is(&self, change: impl FnOnce(&mut NodeStatus)) {
        let mut status = self.status.lock().unwrap();
        let mut fresh = (**status).clone();
        change(&mut fresh);
        *status = Arc::new(fresh);
    }

    async fn answers_about(&self, port: u16) {
        let mut silence = self.silence.subscribe();
        let speaks = |silence: &Silence| *silence == Silence::No || matches!(silence, Silence::About(p) if *p != port);
        silence.wait_for(speaks).await.unwrap();
    }
}

/// A node called `tailops` that is up.
pub fn running() -> NodeStatus {
    let own = OwnNode {
        id: "nSELF".to_owned(),
        name: "tailops.example.ts.net".to_owned(),
        tags: vec!["tag:tailops".to_owned()],
        user: None,
        addresses: vec!["100.64.0.1".parse().unwrap(), "fd7a:115c:a1e0::1".parse().unwrap()],
        key_expiry: None,
        certificate_names: vec!["tailops.example.ts.net".to_owned()],
    };
    NodeStatus { own: Some(own), ..NodeStatus::of_state(NodeState::Running) }
}

struct TailnetNode {
    listener: TcpListener,
    /// Where it says that it listens.
    claimed: SocketAddr,
    said: Arc<Said>,
}

impl Node for TailnetNode {
    fn mode(&self) -> &'static str {
        "scripted"
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.claimed]
    }

    fn status(&self) -> Arc<NodeStatus> {
        self.said.status.lock().unwrap().clone()
    }

    fn believed_for(&self) -> Option<Duration> {
        self.said.believed_for
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async {
            let (stream, peer) = self.listener.accept().await?;
            let local = stream.local_addr()?;
            Ok(Connection { stream: Stream::Tcp(stream), peer, local })
        })
    }

    fn identify<'a>(&'a self, peer: SocketAddr, _: SocketAddr) -> BoxFuture<'a, Result<Peer, Unidentified>> {
        Box::pin(async move {
            self.said.asked.fetch_add(1, Ordering::SeqCst);
            self.said.answers_about(peer.port()).await;
            (self.said.whois.lock().unwrap())(peer)
        })
    }

    fn identify_relayed(&self, address: IpAddr) -> BoxFuture<'_, Result<Peer, Unidentified>> {
        Box::pin(async move {
            self.said.asked.fetch_add(1, Ordering::SeqCst);
            self.said.answers_about(0).await;
            (self.said.relayed.lock().unwrap())(address)
        })
    }

    fn certificate<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<CertificatePair, String>> {
        Box::pin(async move { (self.said.issued.lock().unwrap())(name) })
    }
}

/// A gateway on a scripted tailnet. Its Host is `tailops`.
pub async fn gateway(said: Said, adjust: impl FnOnce(&mut Config)) -> (Gateway, Arc<Said>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let said = Arc::new(said);
    let claimed = listener.local_addr().unwrap();
    let node = TailnetNode { listener, claimed, said: said.clone() };
    (Gateway::over_node(Arc::new(node), said.whois.clone(), adjust).await, said)
}

/// Why a gateway whose node says that it listens on `claimed` does not start. None where it does.
pub async fn not_started(said: Said, claimed: &str, adjust: impl FnOnce(&mut Config)) -> Option<StartError> {
    let directory = tempfile::tempdir().unwrap();
    let mut config = Config::development(directory.path().join("data"), "127.0.0.1:0".parse().unwrap());
    adjust(&mut config);
    let lock = open_directory(&config.data_dir).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = TailnetNode { listener, claimed: claimed.parse().unwrap(), said: Arc::new(said) };
    match App::start(&config, Arc::new(node), Arc::new(TestClock::default()), lock).await {
        Ok(app) => {
            app.stop().await;
            None
        }
        Err(error) => Some(error),
    }
}

/// One connection, whose requests go out as they are written here.
pub struct Wire {
    stream: TcpStream,
}

impl Wire {
    pub async fn to(gateway: &Gateway) -> Self {
        Self { stream: TcpStream::connect(gateway.address).await.unwrap() }
    }

    pub fn port(&self) -> u16 {
        self.stream.local_addr().unwrap().port()
    }

    /// Sends a request without waiting for its answer.
    pub async fn send(&mut self, head: &str, body: &str) -> io::Result<()> {
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        self.stream.write_all(request.as_bytes()).await
    }

    /// The next answer: status, head and body. None where the connection was closed without one.
    pub async fn answer(&mut self) -> Option<(u16, String, String)> {
        let read = async {
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"\r\n\r\n") {
                bytes.push(self.stream.read_u8().await.ok()?);
            }
            let head = String::from_utf8(bytes).unwrap();
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            self.stream.read_exact(&mut body).await.ok()?;
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            Some((status, head, String::from_utf8(body).unwrap()))
        };
        tokio::time::timeout(Duration::from_secs(20), read).await.expect("neither answered nor closed for 20 s")
    }

    /// Calls a tool over this very connection.
    pub async fn call(&mut self, token: &str, tool: &str, arguments: Value) -> Option<(u16, Value)> {
        self.call_with("Host: tailops\r\n", token, tool, arguments).await
    }

    /// The same with other headers.
    pub async fn call_with(
        &mut self,
        headers: &str,
        token: &str,
        tool: &str,
        arguments: Value,
    ) -> Option<(u16, Value)> {
        let (head, body) = request(headers, token, tool, &arguments);
        self.send(&head, &body).await.ok()?;
        let (status, _, body) = self.answer().await?;
        Some((status, serde_json::from_str(&body).unwrap_or(Value::Null)))
    }

    /// Waits until the other side closes.
    pub async fn closed(&mut self) {
        let mut rest = Vec::new();
        // A reset is a close too.
        let _ = tokio::time::timeout(Duration::from_secs(20), self.stream.read_to_end(&mut rest))
            .await
            .expect("still open after 20 s");
    }
}

/// Head and body of a tool call of the 2026-07-28 revision; `headers` has the Host.
pub fn request(headers: &str, token: &str, tool: &str, arguments: &Value) -> (String, String) {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": tool, "arguments": arguments,
        "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}},
    }});
    let head = format!(
        "POST /mcp HTTP/1.1\r\n{headers}Authorization: Bearer {token}\r\nMCP-Protocol-Version: 2026-07-28\r\n\
         Mcp-Method: tools/call\r\nMcp-Name: {tool}\r\nAccept: application/json, text/event-stream\r\n\
         Content-Type: application/json\r\n"
    );
    (head, body.to_string())
}

/// A server that takes a connection and says nothing: a TLS probe of it reads for as long as it is let.
pub struct Mute {
    listener: TcpListener,
}

impl Mute {
    pub async fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    /// The arguments of a `network_probe` that waits for it.
    pub fn probe(&self) -> Value {
        let port = self.listener.local_addr().unwrap().port();
        json!({"target": "local", "kind": "tls", "host": "127.0.0.1", "port": port, "from": "gateway"})
    }

    /// Waits until a probe has come.
    pub async fn reached(&self) -> TcpStream {
        let accepted = tokio::time::timeout(Duration::from_secs(10), self.listener.accept()).await;
        accepted.expect("no probe came").unwrap().0
    }
}

/// Waits until the probe on `stream` has ended.
pub async fn ended(mut stream: TcpStream) {
    let mut bytes = Vec::new();
    let _ =
        tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut bytes)).await.expect("it still reads");
}

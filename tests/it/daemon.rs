//! A scripted tailnet daemon: a server on a unix socket that answers as a test says, also what no daemon would. Written
//! on bare streams, so that it can break off anywhere.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UnixListener},
    task::{JoinHandle, JoinSet},
};

/// What one request gets.
#[derive(Clone, Debug)]
pub enum Reply {
    /// 200 with this.
    Json(Value),
    /// A status with this text.
    Status(u16, String),
    /// These bytes as they are, and no more: the connection ends.
    Raw(Vec<u8>),
    /// As the other says, then the connection ends without a word.
    Last(Box<Reply>),
    /// The connection is handed over with this greeting; then every byte comes back.
    Echo(&'static str),
    /// Nothing, ever.
    Hang,
}

type Script = Box<dyn Fn(&str) -> Reply + Send + Sync>;

#[derive(Default)]
struct Seen {
    script: Mutex<Option<Script>>,
    heads: Mutex<Vec<String>>,
    connections: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
}

/// The daemon. It and all its connections end when it is dropped.
pub struct Daemon {
    path: PathBuf,
    seen: Arc<Seen>,
    serving: Option<JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

impl Daemon {
    /// Answers as `script` says; it is given the head of the request.
    pub fn start(script: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tailscaled.sock");
        let seen = Arc::new(Seen::default());
        let mut daemon = Self { path, seen, serving: None, _directory: directory };
        daemon.answers(script);
        daemon.resume();
        daemon
    }

    /// Answers as `script` says from now on.
    pub fn answers(&self, script: impl Fn(&str) -> Reply + Send + Sync + 'static) {
        *self.seen.script.lock().unwrap() = Some(Box::new(script));
    }

    /// Ends, with all connections, as a daemon that is killed: its socket stays behind.
    pub async fn kill(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// Serves again, at the same place.
    pub fn resume(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let listener = UnixListener::bind(&self.path).unwrap();
        let seen = self.seen.clone();
        self.serving = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, seen.clone()));
            }
        }));
    }

    /// The same daemon on a port of 127.0.0.1 besides.
    pub async fn port(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = self.seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, seen.clone()));
            }
        });
        port
    }

    pub fn socket(&self) -> &Path {
        &self.path
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.seen.heads.lock().unwrap().clone()
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// The most requests that were open at the same time.
    pub fn most_at_once(&self) -> usize {
        self.seen.most.load(Ordering::SeqCst)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, seen: Arc<Seen>) {
    seen.connections.fetch_add(1, Ordering::SeqCst);
    while let Some(head) = head(&mut stream).await {
        seen.heads.lock().unwrap().push(head.clone());
        let mut reply = (seen.script.lock().unwrap().as_ref().unwrap())(&head);
        let open = seen.now.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most.fetch_max(open, Ordering::SeqCst);
        // Others get their turn while this one is open.
        tokio::task::yield_now().await;
        let mut last = false;
        while let Reply::Last(inner) = reply {
            (reply, last) = (*inner, true);
        }
        let bytes = match &reply {
            Reply::Json(value) => answer(200, "application/json", &value.to_string()),
            Reply::Status(status, text) => answer(*status, "text/plain; charset=utf-8", text),
            Reply::Raw(bytes) => bytes.clone(),
            Reply::Echo(greeting) => {
                format!("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: ts-dial\r\n\r\n{greeting}")
                    .into_bytes()
            }
            Reply::Hang | Reply::Last(_) => std::future::pending().await,
        };
        let written = stream.write_all(&bytes).await;
        seen.now.fetch_sub(1, Ordering::SeqCst);
        if let Reply::Echo(_) = reply {
            let (mut from, mut to) = tokio::io::split(stream);
            let _ = tokio::io::copy(&mut from, &mut to).await;
            return;
        }
        if written.is_err() || last || matches!(reply, Reply::Raw(_)) {
            return;
        }
    }
}

fn answer(status: u16, content: &str, text: &str) -> Vec<u8> {
    let length = text.len();
    format!("HTTP/1.1 {status} As scripted\r\nContent-Type: {content}\r\nContent-Length: {length}\r\n\r\n{text}").into()
}

async fn head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

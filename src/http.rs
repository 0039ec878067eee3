//! HTTP: accepts connections, identifies their peers, and lets requests in one by one. The order on every request is
//! peer, Host and Origin, token, limit, body, and only then the protocol.

mod body;
mod connection;
mod enter;
mod refuse;
mod threads;
mod upload;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router, middleware,
    routing::{any, get},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::connection::{Paced, Phase};
pub use self::threads::Threads;
use crate::{
    audit::Audit,
    auth::Authenticator,
    config::Http,
    limits::Limits,
    mcp::Endpoint,
    model::CorrelationId,
    tailnet::{Connection, Node, Peer, Unidentified},
};

/// Everything a request meets on its way in.
pub struct Front {
    /// The limits.
    pub settings: Http,
    /// The longest content of a file that is written, in bytes.
    pub max_file_bytes: usize,
    /// Checks tokens.
    pub authenticator: Arc<Authenticator>,
    /// Counts.
    pub limits: Arc<Limits>,
    /// Records refusals.
    pub audit: Arc<Audit>,
    /// What is behind.
    pub endpoint: Endpoint,
    /// Connections that are open now.
    pub connections: Arc<AtomicUsize>,
}

/// What is known of the connection that a request came over.
struct Line {
    address: SocketAddr,
    peer: Result<Arc<Peer>, Unidentified>,
    phase: Phase,
}

/// Serves the connections of `node` on `threads` until `stop`, then lets requests in flight end for `grace`.
pub async fn serve(
    node: Arc<dyn Node>,
    front: Arc<Front>,
    threads: Arc<Threads>,
    stop: CancellationToken,
    grace: Duration,
) -> io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(enter::healthz))
        .route("/readyz", get(enter::readyz))
        .route("/mcp", any(enter::mcp))
        .fallback(enter::not_found)
        .layer(middleware::from_fn_with_state(front.clone(), enter::enter))
        .with_state(front.clone());
    let open = TaskTracker::new();
    let peers = Arc::new(PerPeer::default());
    while let Some(accepted) = stop.run_until_cancelled(node.accept()).await {
        let connection = accepted?;
        let Some(counted) = Counted::take(&front.connections, front.settings.max_connections) else {
            // Closed without a word: an answer would cost what the limit is there to save.
            tracing::warn!("too many open connections: one more was closed");
            continue;
        };
        let (node, front, router, peers, stop) =
            (node.clone(), front.clone(), router.clone(), peers.clone(), stop.clone());
        let thread = threads.next().ok_or_else(|| io::Error::other("there is no thread to serve on"))?;
        open.spawn_on(
            async move {
                // Given back however the task ends.
                let _counted = counted;
                serve_connection(connection, &*node, &front, router, &peers, stop).await;
            },
            thread,
        );
    }
    open.close();
    if tokio::time::timeout(grace, open.wait()).await.is_err() {
        tracing::warn!("some connections did not end in time");
    }
    Ok(())
}

async fn serve_connection(
    connection: Connection,
    node: &dyn Node,
    front: &Front,
    router: Router,
    peers: &PerPeer,
    stop: CancellationToken,
) {
    let peer = connection.identify(node).await.map(Arc::new);
    let key = peer.as_ref().map_or_else(|_| connection.peer.ip().to_string(), |peer| peer.id.clone());
    let Some(_held) = peers.take(key, front.settings.max_connections_per_peer) else {
        tracing::warn!("too many open connections of one peer: one more was closed");
        return;
    };
    let phase = Phase::default();
    let line = Arc::new(Line { address: connection.peer, peer, phase: phase.clone() });
    let stream = match connection.stream.adopt() {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "a connection could not be taken over");
            return;
        }
    };
    let io = Paced::new(stream, phase, front.settings.header_timeout);
    let service = tower_service(router, line);
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        // Between requests this is the idle time; once a head has begun, `Paced` gives it less.
        .header_read_timeout(front.settings.idle_timeout)
        .max_buf_size(front.settings.max_header_bytes.max(8192))
        .serve_connection(TokioIo::new(io), service);
    let mut served = std::pin::pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended");
    }
}

type Service = TowerToHyperService<middleware::AddExtension<Router, Arc<Line>>>;

fn tower_service(router: Router, line: Arc<Line>) -> Service {
    use tower_layer::Layer;
    TowerToHyperService::new(axum::Extension(line).layer(router))
}

/// One place among all connections; free again when dropped.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn take(open: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let counted = Self(open.clone());
        (open.fetch_add(1, Ordering::Relaxed) < most).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts connections by peer.
#[derive(Default)]
struct PerPeer {
    open: Mutex<HashMap<String, usize>>,
}

struct Held<'a> {
    peers: &'a PerPeer,
    key: String,
}

impl PerPeer {
    fn take(&self, key: String, most: usize) -> Option<Held<'_>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(key.clone()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Held { peers: self, key })
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut open = self.peers.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.key);
            }
        }
    }
}

/// The header that joins a reply to the audit log.
const CORRELATION_ID: &str = "x-correlation-id";

fn correlation_header(correlation: CorrelationId) -> hyper::header::HeaderValue {
    hyper::header::HeaderValue::from_str(&correlation.to_string())
        .unwrap_or_else(|_| hyper::header::HeaderValue::from_static("unknown"))
}

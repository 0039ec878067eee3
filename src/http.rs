//! HTTP: accepts connections, identifies their peers, and lets requests in one by one. The order on every request is
//! peer, Host and Origin, token or person, limit, body, and only then the protocol or the people's API.

mod api;
mod body;
mod clear;
mod connection;
mod control;
mod count;
mod enter;
mod identity;
mod names;
mod people;
mod refuse;
mod relay;
mod threads;
mod tls;
mod upload;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize},
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
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    api::Desk,
    clear::refuse_clear,
    control::{CONTROL, Control, Reporter, at_socket},
    threads::Threads,
    tls::{Certificates, TlsFault},
};
use self::{
    connection::{Paced, Phase},
    count::{Counted, PerPeer},
    identity::{Identity, Loss},
    names::Names,
    relay::Relayed,
};
use crate::{
    audit::Audit,
    auth::Authenticator,
    config::Http,
    limits::Limits,
    mcp::Endpoint,
    model::{Clock, CorrelationId},
    tailnet::{Connection, Node, Relays},
};

/// The most connections that the node is asked about for the first time at once.
const IDENTIFYING: usize = 64;

/// Everything a request meets on its way in.
pub struct Front {
    /// The limits.
    pub settings: Http,
    /// The longest content of a file that is written, in bytes.
    pub max_file_bytes: usize,
    /// Where connections come from.
    pub node: Arc<dyn Node>,
    /// Wraps connections, unless they are plain.
    pub tls: Option<Arc<Certificates>>,
    /// Checks tokens.
    pub authenticator: Arc<Authenticator>,
    /// Counts.
    pub limits: Arc<Limits>,
    /// Records refusals.
    pub audit: Arc<Audit>,
    /// Tells whether a certificate still holds.
    pub clock: Arc<dyn Clock>,
    /// What is behind, for agents.
    pub endpoint: Endpoint,
    /// What is behind, for people.
    pub desk: Desk,
    /// What connections share.
    pub lines: Lines,
}

/// What connections share.
pub struct Lines {
    open: Arc<AtomicUsize>,
    peers: Arc<PerPeer>,
    identifying: Semaphore,
    names: Names,
    relays: Relays,
    relayed: Relayed,
}

impl Lines {
    /// For `settings`. `open` is the number of connections that are open now.
    pub fn new(settings: &Http, open: Arc<AtomicUsize>) -> Self {
        Self {
            open,
            peers: Arc::default(),
            identifying: Semaphore::new(IDENTIFYING),
            names: Names::new(settings.hosts.clone()),
            relays: Relays::new(settings.trusted_proxies.clone()),
            relayed: Relayed::new(),
        }
    }
}

/// What is known of the connection that a request came over.
struct Line {
    address: SocketAddr,
    identity: Identity,
    phase: Phase,
}

/// Serves the node's connections on `threads` until `stop`, then lets requests in flight end for `grace`.
pub async fn serve(
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
        .with_state(front.clone())
        .merge(api::router(front.desk.clone()))
        .layer(middleware::from_fn_with_state(front.clone(), enter::enter));
    let open = TaskTracker::new();
    while let Some(accepted) = stop.run_until_cancelled(front.node.accept()).await {
        let connection = accepted?;
        let Some(counted) = Counted::take(&front.lines.open, front.settings.max_connections) else {
            // Closed without a word: an answer would cost what the limit is there to save.
            tracing::warn!("too many open connections: one more was closed");
            continue;
        };
        let (front, router, stop) = (front.clone(), router.clone(), stop.clone());
        let thread = threads.next().ok_or_else(|| io::Error::other("there is no thread to serve on"))?;
        open.spawn_on(
            async move {
                // Given back however the task ends.
                let _counted = counted;
                serve_connection(connection, &front, router, stop).await;
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

async fn serve_connection(connection: Connection, front: &Front, router: Router, stop: CancellationToken) {
    let (lines, settings, address) = (&front.lines, &front.settings, connection.peer);
    let take = |key| {
        let held = lines.peers.take(key, settings.max_connections_per_peer);
        if held.is_none() {
            tracing::warn!("too many open connections of one peer: one more was closed");
        }
        held
    };
    lines.names.follow(&front.node.status());
    // Before it is known whose it is, one address must not take every place.
    let Some(waiting) = take(format!("unidentified {}", address.ip())) else { return };
    let identity = Identity::of(&connection, front).await;
    let held = identity.key(address).map(take);
    if matches!(held, Some(None)) {
        return;
    }
    drop(waiting);
    let line = Arc::new(Line { address, identity, phase: Phase::default() });
    let stream = match connection.stream.adopt() {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "a connection could not be taken over");
            return;
        }
    };
    let Some(certificates) = &front.tls else { return carry(stream, line, front, router, stop).await };
    let shaken = timeout(settings.header_timeout, certificates.accept(stream));
    match stop.run_until_cancelled(shaken).await {
        Some(Ok(Ok(stream))) => carry(stream, line, front, router, stop).await,
        Some(Ok(Err(error))) => tracing::debug!(%error, "a TLS handshake failed"),
        Some(Err(_)) => tracing::debug!("a TLS handshake took too long"),
        None => {}
    }
}

/// Serves the requests on `stream` until it ends, or until its peer lost something.
async fn carry<S>(stream: S, line: Arc<Line>, front: &Front, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let lost = {
        let io = Paced::new(stream, line.phase.clone(), front.settings.header_timeout);
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            // Between requests this is the idle time; once a head has begun, `Paced` gives it less.
            .header_read_timeout(front.settings.idle_timeout)
            .max_buf_size(front.settings.max_header_bytes.max(8192))
            .serve_connection(TokioIo::new(io), tower_service(router, line.clone()));
        let mut served = std::pin::pin!(served);
        let mut kept = std::pin::pin!(line.identity.until_lost(front));
        let mut stopping = false;
        loop {
            tokio::select! {
                biased;
                result = served.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "a connection ended");
                    }
                    break None;
                }
                loss = kept.as_mut() => break Some(loss),
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    served.as_mut().graceful_shutdown();
                }
            }
        }
        // What was served is dropped here: the connection is closed, and what it read stops. A write goes on in its own
        // task.
    };
    if let Some(lost) = lost {
        front.lost(&line, lost).await;
    }
}

impl Front {
    /// The connection was closed because its peer lost something: so are the peer's sessions, and that is recorded.
    async fn lost(&self, line: &Line, loss: Loss) {
        let Loss { peer, code, reason } = loss;
        tracing::warn!(
            code,
            reason,
            node = peer.node,
            node_id = peer.id,
            "a peer lost its rights; its connection was closed"
        );
        self.endpoint.end_sessions_of(&peer).await;
        let relayed = if line.identity.is_relay() { ", relayed" } else { "" };
        let reason = format!("the peer lost its rights while it was connected{relayed}: {reason}");
        if let Err(error) = self.audit.lost(&peer, code, &reason).await {
            tracing::error!(%error, "that a peer lost its rights could not be recorded");
        }
    }
}

type Service = TowerToHyperService<middleware::AddExtension<Router, Arc<Line>>>;

fn tower_service(router: Router, line: Arc<Line>) -> Service {
    use tower_layer::Layer;
    TowerToHyperService::new(axum::Extension(line).layer(router))
}

/// The header that joins a reply to the audit log.
const CORRELATION_ID: &str = "x-correlation-id";

fn correlation_header(correlation: CorrelationId) -> hyper::header::HeaderValue {
    hyper::header::HeaderValue::from_str(&correlation.to_string())
        .unwrap_or_else(|_| hyper::header::HeaderValue::from_static("unknown"))
}

//! The Model Context Protocol: the only module that knows its SDK. Translates between the wire and the pipeline, in
//! both eras (2026-07-28 stateless; older handshakes with sessions); decides nothing.

mod asking;
mod catalogue;
mod completion;
mod progress;
mod prompts;
mod resources;
mod server;
mod sessions;
mod waiting;

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, header};
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService,
    session::local::{LocalSessionManager, SessionConfig},
};
use tokio_util::sync::CancellationToken;

use self::{catalogue::Catalogue, server::Server, sessions::Sessions};
use crate::{auth::Caller, config, pipeline::Pipeline, tailnet::Peer};

const SESSION_ID: &str = "mcp-session-id";

/// The endpoint. Cheap to clone.
#[derive(Clone)]
pub struct Endpoint {
    service: StreamableHttpService<Server, LocalSessionManager>,
    sessions: Arc<Sessions>,
}

/// What the HTTP layer found out about a request's body without understanding it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It opens a session: an `initialize` request of the older handshake.
    Session,
    /// Anything else.
    Other,
}

impl Endpoint {
    /// The endpoint in front of `pipeline`. `stop` ends every open stream and session.
    pub fn new(pipeline: Arc<Pipeline>, settings: config::Sessions, stop: CancellationToken) -> Self {
        let mut session_config = SessionConfig::default();
        session_config.keep_alive = Some(settings.idle);
        session_config.init_timeout = Some(Duration::from_secs(10));
        let mut manager = LocalSessionManager::default();
        manager.session_config = session_config;
        let manager = Arc::new(manager);
        let sessions = Arc::new(Sessions::new(manager.clone(), settings));
        let server = Server::new(pipeline, Arc::new(Catalogue::new()));
        // Host, Origin and size are checked for every route before this one, and refusals there are recorded.
        let config = StreamableHttpServerConfig::default()
            .with_json_response(true)
            .with_max_request_body_bytes(usize::MAX)
            .disable_allowed_hosts()
            .with_cancellation_token(stop);
        let service = StreamableHttpService::new(move || Ok(server.clone()), manager, config);
        Self { service, sessions }
    }

    /// Answers one request of `caller`, whose body was read and checked.
    pub async fn answer(&self, caller: &Caller, mut request: Request<Full<Bytes>>, opening: Opening) -> Response<Body> {
        let jti = &caller.token().jti;
        let session = header_text(request.headers(), SESSION_ID).map(str::to_owned);
        if let Some(id) = &session {
            let Some(ended) = self.sessions.of(id, caller).await else {
                // A session of another token or peer looks exactly like one that does not exist.
                return plain(StatusCode::NOT_FOUND, "Not Found: Session not found");
            };
            request.extensions_mut().insert(ended);
        }
        let opens = opening == Opening::Session && session.is_none();
        if opens && !self.sessions.admits(jti).await {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "too many open sessions: close one, or wait for one to end");
        }
        accept_both(request.headers_mut());
        let closes = request.method() == Method::DELETE;
        let mut response = self.service.handle(request).await.map(Body::new);
        if opens && let Some(id) = header_text(response.headers(), SESSION_ID) {
            self.sessions.opened(id, caller);
        }
        if closes
            && response.status().is_success()
            && let Some(id) = &session
        {
            self.sessions.closed(id);
            // The SDK says 202; some clients take only 200 or 204 for done.
            *response.status_mut() = StatusCode::NO_CONTENT;
        }
        response
    }

    /// Ends the sessions of a peer that lost something, and at once what they read.
    pub async fn end_sessions_of(&self, peer: &Peer) {
        self.sessions.end_those_of(peer).await;
    }

    /// Ends sessions that are over their age, until `stop`.
    pub async fn expire_sessions(&self, stop: CancellationToken) {
        self.sessions.expire_until(stop).await;
    }
}

/// Some clients ask for `*/*`, which the protocol's two media types satisfy.
fn accept_both(headers: &mut HeaderMap) {
    let any = headers.get_all(header::ACCEPT).iter().all(|accept| accept.as_bytes() == b"*/*");
    if any {
        let both = header::HeaderValue::from_static("application/json, text/event-stream");
        headers.insert(header::ACCEPT, both);
    }
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
}

//! The session of a client that opened one by `initialize`: its headers, and opening it anew after the gateway forgot
//! it. The client notices nothing: its own `initialize` is sent again, and the answer kept from it.

use bytes::Bytes;
use futures_util::StreamExt;
use hyper::{HeaderMap, header::HeaderValue};
use reqwest::Response;
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};

use super::{
    answer,
    link::{Failure, Link},
};

const SESSION_ID: &str = "mcp-session-id";
const PROTOCOL_VERSION: &str = "mcp-protocol-version";

/// The session, if there is one.
pub(super) struct Session {
    state: Mutex<State>,
    opened: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// Counts the openings.
    generation: u64,
    headers: HeaderMap,
    /// The client's own.
    initialize: Option<Bytes>,
    /// Whether the client said `notifications/initialized`.
    ready: bool,
}

/// Why a session could not be opened anew.
pub(super) enum NotOpened {
    /// No answer.
    Failed(Failure),
    /// The gateway refused.
    Refused(Response),
}

impl Session {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), opened: watch::Sender::new(0) }
    }

    /// What a request in the session carries, and which opening that is of. Waits while it is being opened anew.
    pub(super) async fn headers(&self) -> (u64, HeaderMap) {
        let state = self.state.lock().await;
        (state.generation, state.headers.clone())
    }

    /// Changes with every opening.
    pub(super) fn openings(&self) -> watch::Receiver<u64> {
        self.opened.subscribe()
    }

    /// The client said that it is ready.
    pub(super) async fn is_ready(&self) {
        self.state.lock().await.ready = true;
    }

    /// Takes up the session that `initialize`, answered with `headers` and `answer`, opened.
    pub(super) async fn opened(&self, initialize: Bytes, headers: &HeaderMap, answer: &str) {
        let mut state = self.state.lock().await;
        state.initialize = Some(initialize);
        state.ready = false;
        self.take_up(&mut state, headers, answer);
    }

    fn take_up(&self, state: &mut State, headers: &HeaderMap, answer: &str) {
        state.generation += 1;
        state.headers = HeaderMap::new();
        if let Some(id) = headers.get(SESSION_ID) {
            state.headers.insert(SESSION_ID, id.clone());
        }
        let answer: Value = serde_json::from_str(answer).unwrap_or_default();
        let version = answer.pointer("/result/protocolVersion").and_then(Value::as_str);
        if let Some(version) = version.and_then(|version| HeaderValue::from_str(version).ok()) {
            state.headers.insert(PROTOCOL_VERSION, version);
        }
        self.opened.send_replace(state.generation);
    }

    /// Opens the session anew, unless somebody did so since `seen`. False where the client never opened one.
    pub(super) async fn reopen(&self, link: &Link, seen: u64) -> Result<bool, NotOpened> {
        let mut state = self.state.lock().await;
        if state.generation != seen {
            return Ok(true);
        }
        let Some(initialize) = state.initialize.clone() else { return Ok(false) };
        let response = link.post(&HeaderMap::new(), &initialize).await.map_err(NotOpened::Failed)?;
        if !response.status().is_success() {
            return Err(NotOpened::Refused(response));
        }
        let headers = response.headers().clone();
        let mut messages = answer::messages(response);
        let answer = loop {
            match messages.next().await {
                Some(Ok(message)) if message.answers => break message.text,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => {
                    return Err(NotOpened::Failed(Failure::Unreachable("it opened no session".into())));
                }
            }
        };
        self.take_up(&mut state, &headers, &answer);
        if state.ready {
            let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string();
            let response = link.post(&state.headers, &ready.into()).await.map_err(NotOpened::Failed)?;
            if !response.status().is_success() {
                return Err(NotOpened::Refused(response));
            }
        }
        Ok(true)
    }
}

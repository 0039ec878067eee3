//! A gateway that lies: it shows what the test says, and counts the decisions that reach it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Json, Router,
    http::StatusCode,
    response::Redirect,
    routing::{get, post},
};
use serde_json::{Value, json};
use tailops::{approval::hash_of, model::canonical_json};
use tokio::net::TcpListener;

pub struct Liar {
    pub url: String,
    decisions: Arc<AtomicUsize>,
    serving: tokio::task::JoinHandle<()>,
}

impl Liar {
    /// One that knows only the question `view`.
    pub async fn showing(view: Value) -> Self {
        let decisions = Arc::new(AtomicUsize::new(0));
        let (all, one, after, counted) = (view.clone(), view.clone(), view, decisions.clone());
        let decide = async move || {
            counted.fetch_add(1, Ordering::SeqCst);
            Json(after)
        };
        let router = Router::new()
            .route("/api/v1/approvals", get(async move || Json(json!({"approvals": [all]}))))
            .route("/api/v1/approvals/moved", get(async || Redirect::temporary("http://127.0.0.1:1/elsewhere")))
            .route("/api/v1/approvals/rude", get(async || (StatusCode::FORBIDDEN, Json(rude()))))
            .route("/api/v1/approvals/{id}", get(async move || Json(one)))
            .route("/api/v1/approvals/{id}/decision", post(decide))
            .route("/api/v1/whoami", get(async || Json(json!({"login": "maria"}))));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, decisions, serving }
    }

    pub fn decisions(&self) -> usize {
        self.decisions.load(Ordering::SeqCst)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn rude() -> Value {
    json!({"code": "own_request", "message": "\u{1b}[2Jno\u{202e}", "correlation_id": "c\u{9b}1A"})
}

/// A question all of whose texts are `text`, with the hash that belongs to it.
pub fn question(text: &str) -> Value {
    let operation = json!({
        "v": 1, "tool": text, "arguments": {"path": text, text: [text]}, "target": {"id": text}, "steps": [text],
        "engagement": text, "reason": text, "world": {},
        "caller": {"jti": text, "subject": text, "owner": text, "peer": text, "login": null},
    });
    json!({
        "id": "k3vd-9w2m-7qtp", "state": "pending", "kind": "call",
        "operation_hash": hash_of(&canonical_json(&operation).unwrap()), "operation": operation,
        "preview": {"data": text, text: {"before": text}}, "why": text,
        "trace": [{"name": text, "verdict": "ask", "code": text, "detail": text}],
        "quorum": 1, "strength": "identity", "engagement": text, "tool": text, "target": text, "segment": text,
        "risk": text, "subject": text, "owner": text, "peer": text, "login": null, "correlation_id": "c",
        "gateway": "http://127.0.0.1", "nonce": "0011223344556677",
        "votes": [{"login": text, "vote": "approve", "strength": "signature", "comment": text, "key_id": text,
            "at": "2026-11-21T18:01:00Z"}],
        "created_at": "2026-11-21T18:00:00Z", "expires_at": "2096-11-21T18:15:00Z", "ended_at": null,
        "may_decide": true,
    })
}

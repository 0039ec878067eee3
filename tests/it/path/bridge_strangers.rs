//! `tailops stdio` before servers that are not this gateway: what they may send, and where the token must not go.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    bridged::{Bridge, legacy_call, modern_call, token_file},
    harness::eventually,
};

type Heard = Arc<Mutex<Vec<(String, HeaderMap, Value)>>>;

/// A server that answers each POST by `answer`, and each GET by a stream of what `says`.
struct Stranger {
    url: String,
    heard: Heard,
    task: JoinHandle<()>,
}

impl Stranger {
    async fn start(says: &'static str, answer: impl Fn(&Value) -> Response + Clone + Send + Sync + 'static) -> Self {
        let heard = Heard::default();
        let (posts, gets) = (heard.clone(), heard.clone());
        let on_post = async move |headers: HeaderMap, body: Bytes| {
            let message: Value = serde_json::from_slice(&body).unwrap();
            posts.lock().unwrap().push(("POST".to_owned(), headers, message.clone()));
            answer(&message)
        };
        let on_get = async move |headers: HeaderMap| {
            gets.lock().unwrap().push(("GET".to_owned(), headers, Value::Null));
            ([(header::CONTENT_TYPE, "text/event-stream")], says)
        };
        let router = Router::new().route("/mcp", post(on_post).get(on_get));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, heard, task }
    }

    fn heard(&self) -> Vec<(String, HeaderMap, Value)> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn bridge(stranger: &Stranger) -> (tempfile::TempDir, Bridge) {
    let folder = tempfile::tempdir().unwrap();
    let file = token_file(folder.path(), "tailops_k.a.b");
    let bridge = Bridge::start(&stranger.url, &file);
    (folder, bridge)
}

fn json_text(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

#[tokio::test]
async fn what_a_server_says_by_itself_reaches_the_client_and_its_answer_the_server() {
    const SAYS: &str = "event: message\ndata: {\"jsonrpc\":\"2.0\",\ndata: \"method\":\"notifications/tools/list_changed\"}\n\n\
                        : alive\n\ndata:\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":99,\"method\":\"ping\"}\n\n";
    let stranger = Stranger::start(SAYS, |message| match message["method"].as_str() {
        Some("initialize") => {
            // Spread over lines, as only some servers write.
            let result = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "a", "version": "1"}});
            let body = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
            ([("mcp-session-id", "s-1")], json_text(format!("{body:#}"))).into_response()
        }
        Some("tools/call") => {
            let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": {"text": "a\nb"}});
            let note = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {}});
            let events = format!("id: 1\ndata:\n\ndata: {note}\n\nid: 2\ndata: {answer}\n\n");
            ([(header::CONTENT_TYPE, "text/event-stream")], events).into_response()
        }
        _ => StatusCode::ACCEPTED.into_response(),
    })
    .await;
    let (_folder, mut bridge) = bridge(&stranger);
    bridge.initialize().await;
    assert_eq!(bridge.next().await["method"], "notifications/tools/list_changed");
    assert_eq!(bridge.next().await["id"], 99);
    bridge.send(json!({"jsonrpc": "2.0", "id": 99, "result": {}})).await;
    eventually("the server has the answer", async || {
        stranger.heard().iter().any(|(_, _, message)| message["id"] == 99)
    })
    .await;
    bridge.send(legacy_call(1, "x", json!({}))).await;
    assert_eq!(bridge.next().await["method"], "notifications/message");
    assert_eq!(bridge.next().await["result"]["text"], "a\nb");
    for (method, headers, message) in stranger.heard() {
        assert_eq!(headers["authorization"], "Bearer tailops_k.a.b");
        let opens = message["method"] == "initialize";
        let named = headers.get("mcp-session-id").map(|id| id.to_str().unwrap());
        assert_eq!(named, (!opens).then_some("s-1"), "{method} {message}");
        assert_eq!(headers.contains_key("mcp-protocol-version"), !opens, "{method} {message}");
        assert!(!headers.contains_key("mcp-method"), "the older revisions know no such header");
    }
    assert_eq!(bridge.end().await.0.code(), Some(0));
}

#[tokio::test]
async fn the_token_follows_no_redirect() {
    let elsewhere = Stranger::start("", |_| StatusCode::ACCEPTED.into_response()).await;
    let to = elsewhere.url.clone();
    let stranger = Stranger::start("", move |_| {
        (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to.clone())]).into_response()
    })
    .await;
    let (_folder, mut bridge) = bridge(&stranger);
    let answer = bridge.ask(modern_call(1, "x", json!({}))).await;
    assert_eq!(
        (&answer["error"]["code"], &answer["error"]["data"]["code"]),
        (&json!(307), &json!("http_307")),
        "{answer}"
    );
    bridge.end().await;
    assert_eq!((stranger.heard().len(), elsewhere.heard().len()), (1, 0));
}

#[tokio::test]
async fn answers_that_are_none_become_errors_and_are_asked_for_once() {
    for (status, kind, body, code) in [
        (502, "text/html", "<h1>Bad Gateway</h1>", "http_502"),
        (500, "application/json", "{\"a\":", "http_500"),
        (202, "application/json", "", "http_202"),
        (200, "text/html", "<h1>It works!</h1>", "unknown_outcome"),
        (200, "text/event-stream", ": nothing more\n\n", "unknown_outcome"),
        (200, "text/event-stream", "data: {\"jsonrpc\":\"2.0\",\"met\n\n", "unknown_outcome"),
    ] {
        let stranger = Stranger::start("", move |_| {
            (StatusCode::from_u16(status).unwrap(), [(header::CONTENT_TYPE, kind)], body).into_response()
        })
        .await;
        let (_folder, mut bridge) = bridge(&stranger);
        let answer = bridge.ask(modern_call(1, "Zoë", json!({}))).await;
        assert_eq!(answer["error"]["data"]["code"], code, "{status} {body}: {answer}");
        bridge.end().await;
        let heard = stranger.heard();
        assert_eq!(heard.len(), 1, "{status} {body}");
        let headers = &heard[0].1;
        assert_eq!(
            (&headers["mcp-method"], &headers["mcp-protocol-version"]),
            (&"tools/call".parse().unwrap(), &"2026-07-28".parse().unwrap())
        );
        assert_eq!(headers["mcp-name"], "=?base64?Wm/Dqw==?=");
    }
}

//! Progress of long calls: only for those who ask, strictly forward, not too often, and never what was read.

use serde_json::{Value, json};

use crate::{
    bridged::{Bridge, legacy_call, modern_call, token_file, watched},
    child::Prey,
    harness::{Gateway, PLANTED},
};

/// What the gateway answers to `message` over HTTP: its media type and the messages in it.
async fn post(gateway: &Gateway, token: &str, message: &Value) -> (String, Vec<Value>) {
    let request = gateway.http.post(gateway.url("/mcp")).bearer_auth(token).json(message);
    let request = request
        .header("Accept", "application/json, text/event-stream")
        .header("MCP-Protocol-Version", "2026-07-28")
        .header("Mcp-Method", "tools/call")
        .header("Mcp-Name", message["params"]["name"].as_str().unwrap());
    let response = request.send().await.unwrap();
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    let text = response.text().await.unwrap();
    let messages = if kind == "application/json" {
        vec![serde_json::from_str(&text).unwrap()]
    } else {
        text.lines()
            .filter_map(|line| line.strip_prefix("data:").map(str::trim).filter(|data| !data.is_empty()))
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    };
    (kind, messages)
}

#[track_caller]
fn moves_forward(notifications: &[Value], token: &str) {
    let mut last = -1.0;
    for notification in notifications {
        assert_eq!(notification["method"], "notifications/progress", "{notification}");
        let params = &notification["params"];
        assert_eq!(params["progressToken"], token);
        let progress = params["progress"].as_f64().unwrap();
        assert!(progress >= last + 0.9 || last < 0.0, "{last} then {progress}: at most one a second");
        last = progress;
        let message = params["message"].as_str().unwrap();
        assert!(message.starts_with("running on local") && message.ends_with(" read"), "{message}");
    }
}

#[tokio::test]
async fn without_a_token_the_answer_is_one_plain_object() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    let (kind, messages) = post(&gateway, &token, &modern_call(1, "process_list", json!({"target": "local"}))).await;
    assert_eq!((kind.as_str(), messages.len()), ("application/json", 1));
    // What the gateway answers by itself has no progress to show.
    let own = watched(modern_call(2, "token_inspect", json!({})), "p");
    assert_eq!(post(&gateway, &token, &own).await.0, "application/json");
    // Neither has what is refused.
    let nowhere = watched(modern_call(3, "process_list", json!({"target": "nowhere"})), "p");
    assert_eq!(post(&gateway, &token, &nowhere).await.0, "application/json");
    gateway.stop().await;
}

#[tokio::test]
async fn with_a_token_a_long_call_tells_where_it_runs_and_for_how_long() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    let prey = Prey::stubborn();
    // It watches for two seconds whether the process ends.
    let call = watched(modern_call(1, "process_signal", prey.arguments("TERM")), "p-1");
    let (kind, messages) = post(&gateway, &token, &call).await;
    assert_eq!(kind, "text/event-stream");
    let (answer, notifications) = messages.split_last().unwrap();
    assert_eq!(answer["result"]["structuredContent"]["ok"], true, "{answer}");
    assert!((2..=4).contains(&notifications.len()), "{notifications:?}");
    moves_forward(notifications, "p-1");
    gateway.stop().await;
}

async fn through_the_bridge(legacy: bool) {
    let gateway = Gateway::start().await;
    let file = token_file(gateway.directory.path(), &gateway.admin().await);
    let secret = std::path::Path::new(&gateway.config.data_dir).join("files/note");
    std::fs::write(&secret, format!("password={PLANTED}\n")).unwrap();
    let mut bridge = Bridge::start(&gateway.url("/mcp"), &file);
    if legacy {
        bridge.initialize().await;
    }
    let call = if legacy { legacy_call } else { modern_call };
    let prey = Prey::stubborn();
    bridge.send(watched(call(1, "process_signal", prey.arguments("TERM")), "slow")).await;
    let read = json!({"target": "local", "path": secret.to_str().unwrap()});
    bridge.send(watched(call(2, "file_read", read), "read")).await;
    let (mut slow, mut quick, mut answers) = (Vec::new(), Vec::new(), 0);
    while answers < 2 {
        let message = bridge.next().await;
        assert!(!message.to_string().contains(PLANTED), "{message}");
        match message["params"]["progressToken"].as_str() {
            Some("slow") => slow.push(message),
            Some("read") => quick.push(message),
            _ => {
                assert_eq!(message["result"]["structuredContent"]["ok"], true, "{message}");
                answers += 1;
            }
        }
    }
    assert!(slow.len() >= 2 && quick.len() == 1, "{slow:?} {quick:?}");
    moves_forward(&slow, "slow");
    moves_forward(&quick, "read");
    let (_, rest) = bridge.end().await;
    assert!(rest.is_empty(), "nothing comes after the answers: {rest:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn it_comes_through_the_bridge_in_a_session() {
    through_the_bridge(true).await;
}

#[tokio::test]
async fn it_comes_through_the_bridge_without_one() {
    through_the_bridge(false).await;
}

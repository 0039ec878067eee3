//! `tailops stdio` between a client and a gateway: what it refuses, what it never does twice, what it carries.

use std::{fs, net::SocketAddr, num::NonZeroU32, os::unix::fs::PermissionsExt, process::Command, time::Duration};

use rmcp::{ClientServiceExt, model::ClientConfig, service::ClientLifecycleMode};
use serde_json::{Value, json};
use tailops::model::{Clock, SystemClock};
use tokio::net::TcpSocket;

use crate::{
    bridged::{Bridge, Relay, cancel, command, legacy_call, modern, modern_call, token_file, watched},
    child::BINARY,
    harness::{Gateway, Grant, call_of, eventually, legacy_era, modern_era},
};

async fn calls_on_record(gateway: &Gateway, tool: &str) -> Vec<Value> {
    gateway.records().await.into_iter().filter(|record| record["tool"] == tool).collect()
}

#[test]
fn it_starts_with_no_token_that_others_can_read_and_no_way_where_they_could() {
    let folder = tempfile::tempdir().unwrap();
    let file = token_file(folder.path(), "tailops_k.secret.mac");
    let run =
        |url: &str| Command::new(BINARY).args(["stdio", "--url", url, "--token-file"]).arg(&file).output().unwrap();
    let refused = |url: &str, wanted: &str| {
        let output = run(url);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{text}");
        assert!(text.contains(wanted) && !text.contains("secret"), "{text}");
    };
    refused("http://gateway.example/mcp", "use https");
    refused("http://10.1.2.3/mcp", "use https");
    refused("https://a:secret@gateway.example/mcp", "more than an address");
    refused("gateway", "--url");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    refused("http://127.0.0.1:1/mcp", "chmod 0600");
    fs::remove_file(&file).unwrap();
    refused("http://127.0.0.1:1/mcp", "agent-token");
}

#[tokio::test]
async fn what_is_no_message_is_answered_and_the_rest_goes_on() {
    let gateway = Gateway::start().await;
    let file = token_file(gateway.directory.path(), &gateway.admin().await);
    let mut bridge = Bridge::start(&gateway.url("/mcp"), &file);
    bridge.write("{broken").await;
    assert_eq!(bridge.next().await["error"]["code"], -32700);
    bridge.write("").await;
    bridge.write(r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#).await;
    assert_eq!(bridge.next().await["error"]["code"], -32600);
    // Two parsers could read this in two ways: the gateway refuses it, under the request's own id.
    bridge.write(r#"{"jsonrpc":"2.0","id":7,"method":"tools/list","method":"ping"}"#).await;
    let refused = bridge.next().await;
    assert_eq!((&refused["id"], &refused["error"]["data"]["code"]), (&json!(7), &json!("repeated_key")), "{refused}");
    let answer = bridge.ask(modern_call(2, "token_inspect", json!({}))).await;
    assert_eq!(answer["result"]["structuredContent"]["ok"], true, "{answer}");
    let unknown = bridge.ask(modern(3, "no/such", json!({}))).await;
    assert_eq!(unknown["error"]["code"], -32601, "{unknown}");
    let (status, rest) = bridge.end().await;
    assert_eq!((status.code(), rest.len()), (Some(0), 0), "{rest:?}");
    gateway.stop().await;
}

async fn the_real_client_through_the_bridge(mode: ClientLifecycleMode) {
    let gateway = Gateway::start().await;
    let file = token_file(gateway.directory.path(), &gateway.mint(Grant::scopes("readonly")).await);
    let mut child = command(&gateway.url("/mcp"), &file).spawn().unwrap();
    let pipes = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
    let client = ClientConfig::default().serve_with_lifecycle(pipes, mode).await.unwrap();
    let tools = client.list_all_tools().await.unwrap();
    assert!(tools.iter().any(|tool| tool.name == "host_inspect"));
    let calls = (0..8).map(|_| client.call_tool(call_of("token_inspect", json!({}))));
    for result in futures_util::future::join_all(calls).await {
        assert_eq!(result.unwrap().structured_content.unwrap()["data"]["subject"], "agent");
    }
    let host = client.call_tool(call_of("host_inspect", json!({"target": "local"}))).await.unwrap();
    assert_eq!(host.is_error, Some(false), "{host:?}");
    let refused = client.call_tool(call_of("audit_query", json!({}))).await.unwrap();
    assert_eq!(refused.structured_content.unwrap()["code"], "insufficient_scope");
    client.cancel().await.unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(0), "it ends with its client");
    assert_eq!(calls_on_record(&gateway, "token_inspect").await.len(), 8);
    gateway.stop().await;
}

#[tokio::test]
async fn the_real_client_with_the_older_handshake() {
    the_real_client_through_the_bridge(legacy_era()).await;
}

#[tokio::test]
async fn the_real_client_with_the_stateless_revision() {
    the_real_client_through_the_bridge(modern_era()).await;
}

#[tokio::test]
async fn a_refused_token_is_an_error_and_a_new_one_is_read_from_the_file() {
    let gateway = Gateway::start().await;
    let (narrow, admin) = (gateway.mint(Grant::scopes("fleet:read")).await, gateway.admin().await);
    let file = token_file(gateway.directory.path(), &admin[..admin.len() - 1]);
    let mut bridge = Bridge::start(&gateway.url("/mcp"), &file);
    let refused = bridge.ask(modern_call(1, "token_inspect", json!({}))).await;
    let error = &refused["error"];
    assert_eq!((&error["code"], &error["data"]["code"]), (&json!(401), &json!("invalid_token")), "{refused}");
    assert!(error["data"]["correlation_id"].is_string() && error["data"]["hint"].is_string(), "{refused}");
    token_file(gateway.directory.path(), &narrow);
    let answer = bridge.ask(modern_call(2, "token_inspect", json!({}))).await;
    assert_eq!(answer["result"]["structuredContent"]["data"]["scopes"], json!(["fleet:read"]), "{answer}");
    // Rotation: the old one is revoked, the new one lies there; no call fails.
    let jti = answer["result"]["structuredContent"]["data"]["jti"].as_str().unwrap().to_owned();
    token_file(gateway.directory.path(), &admin);
    gateway.store().revoke_tokens(Some(&jti), SystemClock.now(), "tester").await.unwrap();
    eventually("the new token is in use", async || {
        let answer = gateway.call(&narrow, "token_inspect", json!({})).await;
        answer.status == 401
    })
    .await;
    let answer = bridge.ask(modern_call(3, "token_inspect", json!({}))).await;
    assert_eq!(answer["result"]["structuredContent"]["data"]["scopes"], json!(["admin"]), "{answer}");
    assert_eq!(bridge.end().await.0.code(), Some(0));
    gateway.stop().await;
}

/// A session belongs to the token that opened it: under the new token it is opened anew.
#[tokio::test]
async fn a_token_is_rotated_in_the_middle_of_a_session() {
    let gateway = Gateway::start().await;
    let (old, new) = (gateway.admin().await, gateway.mint(Grant::scopes("fleet:read")).await);
    let file = token_file(gateway.directory.path(), &old);
    let mut bridge = Bridge::start(&gateway.url("/mcp"), &file);
    bridge.initialize().await;
    let answer = bridge.ask(legacy_call(1, "token_inspect", json!({}))).await;
    let jti = answer["result"]["structuredContent"]["data"]["jti"].as_str().unwrap().to_owned();
    token_file(gateway.directory.path(), &new);
    gateway.store().revoke_tokens(Some(&jti), SystemClock.now(), "tester").await.unwrap();
    eventually("the old token is refused", async || gateway.call(&old, "token_inspect", json!({})).await.status == 401)
        .await;
    let answer = bridge.ask(legacy_call(2, "token_inspect", json!({}))).await;
    assert_eq!(answer["result"]["structuredContent"]["data"]["scopes"], json!(["fleet:read"]), "{answer}");
    assert_eq!(bridge.end().await.0.code(), Some(0));
    gateway.stop().await;
}

#[tokio::test]
async fn a_limit_is_an_error_that_says_when_to_come_back() {
    let gateway = Gateway::with(|config| {
        config.limits.calls_per_minute = NonZeroU32::new(6).unwrap();
        config.limits.calls_burst = NonZeroU32::new(2).unwrap();
        config.http.max_body_bytes = 4096;
    })
    .await;
    let file = token_file(gateway.directory.path(), &gateway.admin().await);
    let mut bridge = Bridge::start(&gateway.url("/mcp"), &file);
    let long = bridge.ask(modern_call(1, "token_inspect", json!({"x": "y".repeat(5000)}))).await;
    assert_eq!(
        (&long["error"]["code"], &long["error"]["data"]["code"]),
        (&json!(413), &json!("body_too_long")),
        "{long}"
    );
    bridge.ask(modern_call(2, "token_inspect", json!({}))).await;
    let limited = bridge.ask(modern_call(3, "token_inspect", json!({}))).await;
    let data = &limited["error"]["data"];
    assert_eq!((&limited["error"]["code"], &data["code"]), (&json!(429), &json!("rate_limited")), "{limited}");
    assert!(data["retry_after_s"].as_u64().is_some_and(|wait| (1..=10).contains(&wait)), "{limited}");
    bridge.end().await;
    gateway.stop().await;
}

#[tokio::test]
async fn one_that_may_have_been_sent_is_not_sent_again_and_its_outcome_is_unknown() {
    let gateway = Gateway::start().await;
    let file = token_file(gateway.directory.path(), &gateway.admin().await);
    let relay = Relay::to(gateway.address).await;
    relay.cut(true);
    let mut bridge = Bridge::start(&relay.url(), &file);
    let answer = bridge.ask(modern_call(1, "token_inspect", json!({}))).await;
    assert_eq!(answer["error"]["data"]["code"], "unknown_outcome", "{answer}");
    assert!(answer["error"]["code"].as_i64().unwrap() > 0 && answer["error"]["data"]["hint"].is_string(), "{answer}");
    assert_eq!((relay.answered(), calls_on_record(&gateway, "token_inspect").await.len()), (1, 1));
    relay.cut(false);
    let answer = bridge.ask(modern_call(2, "token_inspect", json!({}))).await;
    assert_eq!(answer["result"]["structuredContent"]["ok"], true, "{answer}");
    assert_eq!(calls_on_record(&gateway, "token_inspect").await.len(), 2);
    bridge.end().await;
    gateway.stop().await;
}

/// An address that is taken, and where nobody listens yet.
fn deaf() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test]
async fn one_that_was_not_sent_waits_a_little_for_its_gateway() {
    let gateway = Gateway::start().await;
    let file = token_file(gateway.directory.path(), &gateway.admin().await);
    let (socket, address) = deaf();
    let mut bridge = Bridge::start(&format!("http://{address}/mcp"), &file);
    bridge.send(modern_call(1, "token_inspect", json!({}))).await;
    bridge.write("{").await;
    assert_eq!(bridge.next().await["error"]["code"], -32700, "other messages go on meanwhile");
    let relay = Relay::on(socket.listen(16).unwrap(), gateway.address);
    assert_eq!(bridge.next().await["result"]["structuredContent"]["ok"], true);
    assert_eq!(calls_on_record(&gateway, "token_inspect").await.len(), 1);
    bridge.end().await;
    drop(relay);
    gateway.stop().await;
}

#[tokio::test]
async fn without_a_gateway_the_error_says_that_nothing_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let file = token_file(folder.path(), "tailops_k.a.b");
    let (_socket, address) = deaf();
    let mut bridge = Bridge::start(&format!("http://{address}/mcp"), &file);
    let answer = bridge.ask(modern_call(1, "token_inspect", json!({}))).await;
    assert_eq!(answer["error"]["data"]["code"], "unreachable", "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("nothing was sent"), "{answer}");
    assert_eq!(bridge.end().await.0.code(), Some(0));
}

/// Calls, replaces the gateway behind the same address by one that knows no sessions, and calls again.
async fn over_a_restart(legacy: bool) {
    let call = |id: u64| if legacy { legacy_call } else { modern_call }(id, "token_inspect", json!({}));
    let gateway = Gateway::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = token_file(folder.path(), &gateway.admin().await);
    let relay = Relay::to(gateway.address).await;
    let mut bridge = Bridge::start(&relay.url(), &file);
    if legacy {
        bridge.initialize().await;
    }
    assert_eq!(bridge.ask(call(1)).await["result"]["structuredContent"]["ok"], true);
    let (directory, config) = gateway.stop().await;
    let gateway = Gateway::on(directory, config).await;
    relay.lead_to(gateway.address);
    // Two at once: the session is opened anew once.
    bridge.send(call(2)).await;
    bridge.send(call(3)).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let answer = bridge.next().await;
        assert_eq!(answer["result"]["structuredContent"]["ok"], true, "{answer}");
        ids.push(answer["id"].as_u64().unwrap());
    }
    ids.sort_unstable();
    assert_eq!(ids, [2, 3]);
    let (status, rest) = bridge.end().await;
    assert_eq!((status.code(), rest.len()), (Some(0), 0), "the client saw nothing of it: {rest:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_restart_goes_unnoticed_in_a_session() {
    over_a_restart(true).await;
}

#[tokio::test]
async fn a_restart_goes_unnoticed_without_one() {
    over_a_restart(false).await;
}

/// Begins a read, waits until it runs on the target, and stops it by what `stop` writes.
async fn a_stopped_read(legacy: bool, by_cancelling: bool) {
    let gateway = Gateway::start().await;
    let file = token_file(gateway.directory.path(), &gateway.admin().await);
    let mut bridge = Bridge::start(&gateway.url("/mcp"), &file);
    if legacy {
        bridge.initialize().await;
    }
    let call = if legacy { legacy_call } else { modern_call };
    bridge.send(watched(call(1, "process_list", json!({"target": "local"})), "p")).await;
    let running = bridge.next().await;
    assert_eq!(running["params"]["progressToken"], "p", "{running}");
    if by_cancelling {
        bridge.send(cancel(1)).await;
        let answer = bridge.ask(call(2, "token_inspect", json!({}))).await;
        assert_eq!(answer["result"]["structuredContent"]["ok"], true, "the cancelled one has no answer: {answer}");
    }
    let (status, rest) = bridge.end().await;
    assert_eq!((status.code(), rest), (Some(0), Vec::new()));
    eventually("the read is on record", async || !calls_on_record(&gateway, "process_list").await.is_empty()).await;
    let records = calls_on_record(&gateway, "process_list").await;
    assert_eq!((&records[0]["status"], &records[0]["code"]), (&json!("cancelled"), &json!("cancelled")), "{records:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_cancellation_reaches_the_running_step_in_a_session() {
    a_stopped_read(true, true).await;
}

#[tokio::test]
async fn a_cancellation_reaches_the_running_step_without_one() {
    a_stopped_read(false, true).await;
}

#[tokio::test]
async fn a_client_that_goes_stops_its_reads_in_a_session() {
    a_stopped_read(true, false).await;
}

#[tokio::test]
async fn a_client_that_goes_stops_its_reads_without_one() {
    a_stopped_read(false, false).await;
}

#[tokio::test]
async fn the_session_ends_with_its_client() {
    let gateway = Gateway::with(|config| config.sessions.max_per_token = 1).await;
    let file = token_file(gateway.directory.path(), &gateway.admin().await);
    for _ in 0..3 {
        let mut bridge = Bridge::start(&gateway.url("/mcp"), &file);
        bridge.initialize().await;
        let answer = bridge.ask(legacy_call(1, "token_inspect", json!({}))).await;
        assert_eq!(answer["result"]["structuredContent"]["ok"], true, "{answer}");
        assert_eq!(bridge.end().await.0.code(), Some(0));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn an_id_in_use_is_refused_and_the_first_request_is_answered() {
    let gateway = Gateway::start().await;
    let file = token_file(gateway.directory.path(), &gateway.admin().await);
    let mut bridge = Bridge::start(&gateway.url("/mcp"), &file);
    bridge.send(modern_call(1, "process_list", json!({"target": "local"}))).await;
    let refused = bridge.ask(modern_call(1, "token_inspect", json!({}))).await;
    assert_eq!(refused["error"]["code"], -32600, "{refused}");
    assert_eq!(bridge.next().await["result"]["structuredContent"]["target"], "local");
    bridge.end().await;
    assert_eq!(calls_on_record(&gateway, "token_inspect").await.len(), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn the_token_is_in_no_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = token_file(folder.path(), "tailops_k.in-the-file.mac");
    let mut child = command("http://127.0.0.1:1/mcp", &file).spawn().unwrap();
    let pid = child.id().unwrap();
    let read = |what: &str| fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
    let is_tailops = async || read("cmdline").starts_with(BINARY.as_bytes());
    eventually("the program has started", is_tailops).await;
    let shown = [read("cmdline"), read("environ")].concat();
    assert!(!String::from_utf8_lossy(&shown).contains("in-the-file"));
    child.kill().await.unwrap();
    let _ = tokio::time::timeout(Duration::from_secs(5), child.wait()).await;
}

//! The limits before anything is parsed.

use std::time::Duration;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{Gateway, eventually, modern, peer_of};

/// Reads until the other side closes; the text and how long it took.
async fn until_closed(stream: &mut TcpStream) -> (String, Duration) {
    let started = tokio::time::Instant::now();
    let mut bytes = Vec::new();
    // A reset is a close too.
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes))
        .await
        .expect("still open after 20 s");
    (String::from_utf8_lossy(&bytes).into_owned(), started.elapsed())
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let gateway = Gateway::with(|config| config.http.max_body_bytes = 1000).await;
    let token = gateway.admin().await;
    let fits = json!({"tool": "fleet_list", "args": {"tag": "x".repeat(300)}});
    gateway.call(&token, "policy_explain", fits).await.data();
    let answer = gateway.call(&token, "policy_explain", json!({"tool": "x".repeat(1000)})).await;
    assert_eq!((answer.status, answer.code()), (413, "body_too_long"));
    assert_eq!(gateway.records_of(&answer).await.len(), 1);
    // A declared length is enough: not one byte of the body is sent.
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: 1001\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let (text, _) = until_closed(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 413"), "{text}");
    // And without a declared length the count decides.
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..3 {
        stream.write_all(format!("190\r\n{}\r\n", "x".repeat(400)).as_bytes()).await.unwrap();
    }
    let (text, _) = until_closed(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 413"), "{text}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_head_that_comes_drop_by_drop_is_cut_off_and_an_idle_connection_is_not() {
    let gateway = Gateway::with(|config| {
        config.http.header_timeout = Duration::from_millis(400);
        config.http.idle_timeout = Duration::from_secs(5);
    })
    .await;
    let mut slow = TcpStream::connect(gateway.address).await.unwrap();
    let started = tokio::time::Instant::now();
    let drip = async {
        for byte in b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ".iter().cycle() {
            if slow.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), drip).await.expect("the drip was never cut off");
    assert!(started.elapsed() >= Duration::from_millis(390), "{:?}", started.elapsed());
    // Keep-alive between requests lasts longer than a head may take.
    let mut idle = TcpStream::connect(gateway.address).await.unwrap();
    for _ in 0..2 {
        idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = [0; 256];
        let n = idle.read(&mut answer).await.unwrap();
        assert!(String::from_utf8_lossy(&answer[..n]).starts_with("HTTP/1.1 200"));
        tokio::time::sleep(Duration::from_millis(800)).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_call_may_take_longer_than_a_head() {
    let gateway = Gateway::with(|config| config.http.header_timeout = Duration::from_millis(150)).await;
    let token = gateway.admin().await;
    // It measures for half a second; twice, as the second request comes over the same connection.
    for _ in 0..2 {
        gateway.call(&token, "process_list", json!({"target": "local", "limit": 1})).await.data();
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let gateway = Gateway::with(|config| config.http.body_timeout = Duration::from_millis(300)).await;
    let token = gateway.admin().await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: 100\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let (text, _) = until_closed(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 408") && text.contains("body_too_slow"), "{text}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused() {
    let gateway = Gateway::with(|config| config.http.max_header_bytes = 8192).await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "x".repeat(20_000));
    let _ = stream.write_all(head.as_bytes()).await;
    let (text, _) = until_closed(&mut stream).await;
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 431"), "{text}");
    gateway.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_the_end() {
    let gateway = Gateway::with(|config| config.http.idle_timeout = Duration::from_millis(300)).await;
    let mut idle = TcpStream::connect(gateway.address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let (text, took) = until_closed(&mut idle).await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(took >= Duration::from_millis(290), "{took:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn connections_are_counted_by_peer() {
    counted(10, 3, false).await;
}

#[tokio::test]
async fn connections_are_counted_in_all() {
    counted(3, 10, true).await;
}

/// Three connections fit and a fourth does not, until they are gone.
async fn counted(in_all: usize, by_peer: usize, each_another: bool) {
    let gateway = Gateway::with(|config| {
        config.http.max_connections = in_all;
        config.http.max_connections_per_peer = by_peer;
    })
    .await;
    if each_another {
        gateway.peers_are(|address| Ok(peer_of(u32::from(address.port()), "somebody", address)));
    }
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = [0; 256];
        assert!(stream.read(&mut answer).await.unwrap() > 0);
        held.push(stream);
    }
    let mut fourth = TcpStream::connect(gateway.address).await.unwrap();
    let _ = fourth.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(until_closed(&mut fourth).await.0, "");
    held.clear();
    eventually("a place is free again", || async {
        gateway.http.get(gateway.url("/healthz")).send().await.is_ok_and(|response| response.status() == 200)
    })
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn keys_that_two_parsers_could_read_differently_are_refused() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    let bodies = [
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","method":"tools/list"}"#, "repeated_key"),
        (r#"{"jsonrpc":"2.0","id":1,"params":{"arguments":{"target":"a","Target":"b"}}}"#, "repeated_key"),
        (r#"{"jsonrpc":"2.0","id":1"#, "not_json"),
        ("", "not_json"),
    ];
    for (body, code) in bodies {
        let request = modern(&gateway.http, &gateway.url("/mcp"), Some(&token), "token_inspect", json!({}));
        let answer = gateway.send(request.body(body)).await;
        assert_eq!((answer.status, answer.code()), (400, code), "{body}");
        assert_eq!(gateway.records_of(&answer).await.len(), 1);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn headers_that_contradict_the_body_are_refused() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    let request = modern(&gateway.http, &gateway.url("/mcp"), Some(&token), "token_inspect", json!({}));
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "audit_query", "arguments": {},
        "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}}});
    let answer = gateway.send(request.json(&body)).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    let records = gateway.records().await;
    assert_eq!(records.iter().filter(|record| record["kind"] == "call").count(), 0, "nothing was called");
    assert_eq!(records.iter().filter(|record| record["code"] == "protocol").count(), 1);
    gateway.stop().await;
}

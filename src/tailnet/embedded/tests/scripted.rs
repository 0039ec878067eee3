//! A stand-in for the node's process: this test binary, started again as `scripted_node`. It speaks the same protocol
//! and does what its hostname says, so that supervision and refusals are tested without Go.

use std::{collections::BTreeMap, io::Write, os::unix::process::parent_id, path::PathBuf, process::exit};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
};

use super::super::{child::Launch, proxy_header::tests::header};

/// Makes a run of this test binary the node.
const SWITCH: &str = "TAILOPS_SCRIPTED_NODE";
/// The name of the test below.
const NAME: &str = "tailnet::embedded::tests::scripted::scripted_node";

pub(super) fn launch() -> Launch {
    Launch {
        program: PathBuf::from("/proc/self/exe"),
        arguments: ["--exact", NAME, "--nocapture", "--test-threads=1"].map(Into::into).to_vec(),
        environment: vec![(SWITCH.into(), "1".into())],
    }
}

/// What its node knows: itself, alice, and a peer with a name of its own.
pub(super) fn status(state: &str) -> Value {
    let node = |id: &str, name: &str, ip: &str, tags: Value| {
        json!({"ID": id, "DNSName": format!("{name}.lab.test."), "HostName": name, "UserID": 1, "TailscaleIPs": [ip],
               "Tags": tags, "Online": true, "InNetworkMap": true})
    };
    json!({
        "Version": "1.98.9", "TUN": false, "BackendState": state,
        "Self": node("nGATEWAY", "gateway", "100.64.0.1", json!(["tag:tailops"])),
        "CurrentTailnet": {"Name": "lab", "MagicDNSSuffix": "lab.test"},
        "CertDomains": ["gateway.lab.test"],
        "Peer": {"nodekey:1": node("nALICE", "alice", "100.64.0.2", json!(null)),
                 "nodekey:2": node("nWEB", "web1", "100.64.0.3", json!(["tag:web"]))},
        "User": {"1": {"LoginName": "alice@example.com"}},
    })
}

fn whois(id: &str, name: &str, ip: &str) -> Value {
    json!({"Node": {"StableID": id, "Name": format!("{name}.lab.test."), "Addresses": [format!("{ip}/32")]},
           "UserProfile": {"LoginName": "alice@example.com"}, "CapMap": null})
}

/// A certificate of its own making, key first, as a node sends it.
fn certificate() -> String {
    let made = rcgen::generate_simple_self_signed(["gateway.lab.test".to_owned()]).unwrap();
    format!("{}{}", made.signing_key.serialize_pem(), made.cert.pem())
}

/// Not a test, but the node's process: passes at once unless it was started as such.
#[test]
fn scripted_node() {
    #[expect(clippy::disallowed_methods, reason = "tells the node's process from a test")]
    if std::env::var_os(SWITCH).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(be_the_node());
        exit(0);
    }
}

async fn be_the_node() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let configuration: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(configuration["parent"], parent_id());
    let script = configuration["hostname"].as_str().unwrap().to_owned();
    let dir = configuration["dir"].as_str().unwrap().to_owned();
    std::fs::write(format!("{dir}/seen.json"), seen(&configuration).to_string()).unwrap();
    // Each life leaves a line.
    let lives = format!("{dir}/lives");
    let before = std::fs::read_to_string(&lives).unwrap_or_default();
    std::fs::write(&lives, format!("{before}{}\n", std::process::id())).unwrap();
    if script == "dies" {
        exit(3);
    }
    let state = match script.as_str() {
        "logged-out" => "NeedsLogin",
        "stopped-by-flow-logs" => "Stopped",
        _ => "Running",
    };
    tokio::spawn(serve_localapi(UnixListener::bind("localapi.sock").unwrap(), state));
    tokio::spawn(serve_dials(UnixListener::bind("dial.sock").unwrap()));
    // On a line of its own: the test harness has begun one.
    let url = if state == "NeedsLogin" { "https://login.example.com/a/1" } else { "" };
    let error = if state == "Stopped" { "tailnet requires logging to be enabled" } else { "" };
    let report = json!({"state": state, "auth_url": url, "error": error, "version": "1.98.9"});
    std::io::stdout().write_all(format!("\n{report}\n").as_bytes()).unwrap();
    tokio::spawn(hand_over(script.clone()));
    let over = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    over.await.unwrap().unwrap();
    if script == "stubborn" {
        std::future::pending::<()>().await;
    }
}

/// The configuration as it came, the environment and the modes that the gateway must have set.
fn seen(configuration: &Value) -> Value {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &str| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    #[expect(clippy::disallowed_methods, reason = "shows the environment that it got")]
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    json!({"configuration": configuration, "environment": environment, "directory": mode("."),
           "socket": mode("accept.sock"), "arguments": std::env::args().collect::<Vec<_>>()})
}

/// Connections from the tailnet: alice's says hello and echoes.
async fn hand_over(script: String) {
    let peer = if script == "speaks-for-self" { "100.64.0.1:5000" } else { "100.64.0.2:5000" };
    let port = if script == "wrong-port" { 22 } else { 8080 };
    let mut gateway = UnixStream::connect("accept.sock").await.unwrap();
    let local = std::net::SocketAddr::from(([100, 64, 0, 1], port));
    gateway.write_all(&header(peer.parse().unwrap(), local)).await.unwrap();
    gateway.write_all(b"hello").await.unwrap();
    let (mut from, mut to) = gateway.split();
    let _ = tokio::io::copy(&mut from, &mut to).await;
}

/// One line in, "ok" out, then an echo. Port 1 is closed.
async fn serve_dials(listener: UnixListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            let answer = if line.ends_with(":1\n") { "error connection refused\n" } else { "ok\n" };
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.write_all(line.as_bytes()).await.unwrap();
            let (mut from, mut to) = tokio::io::split(stream);
            let _ = tokio::io::copy(&mut from, &mut to).await;
        });
    }
}

async fn serve_localapi(listener: UnixListener, state: &'static str) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            loop {
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let target = head.split(' ').nth(1).unwrap().to_owned();
                let (code, body) = match target.as_str() {
                    target if target.contains("/status") => (200, status(state).to_string()),
                    target if target.contains("100.64.0.2") => {
                        (200, whois("nALICE", "alice", "100.64.0.2").to_string())
                    }
                    target if target.contains("100.64.0.3") => (200, whois("nWEB", "web1", "100.64.0.3").to_string()),
                    target if target.contains("100.64.0.1") => {
                        (200, whois("nGATEWAY", "gateway", "100.64.0.1").to_string())
                    }
                    "/localapi/v0/cert/gateway.lab.test?type=pair" => (200, certificate()),
                    _ => (404, "no match for IP:port".to_owned()),
                };
                let answer = format!("HTTP/1.1 {code} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
    }
}

//! The client against a scripted daemon: what it sends, what it takes, and that no answer, no silence and no end of a
//! daemon is taken for knowledge.

use std::time::Instant;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    daemon::{Daemon, Reply},
    *,
};

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn client(daemon: &Daemon) -> LocalApi {
    LocalApi::new(DaemonAddress::Socket { path: daemon.socket().to_owned(), process: None })
}

async fn ask(daemon: &Daemon) -> Result<WhoIs, LocalApiError> {
    client(daemon).whois(address("100.64.0.7:4711")).await
}

/// Which kind of failure it is.
fn kind(error: &LocalApiError) -> &'static str {
    match error {
        LocalApiError::NotFound => "not found",
        LocalApiError::Denied(_) => "denied",
        LocalApiError::BadRequest(_) => "bad request",
        LocalApiError::Daemon(..) => "daemon",
        LocalApiError::TimedOut(_) => "timed out",
        LocalApiError::Io(_) => "io",
        LocalApiError::OtherProcess { .. } => "other process",
        LocalApiError::Nonsense(_) => "nonsense",
    }
}

fn ivysaur() -> Reply {
    Reply::Json(json!({"Node": {"StableID": "n7ETArqRfp11CNTRL"}}))
}

#[tokio::test]
async fn every_status_is_a_different_failure() {
    for (status, text, expected) in [
        (404, "no match for IP:port\n", "not found"),
        (403, "invalid localapi request\n", "denied"),
        (401, "auth required\n", "denied"),
        (400, "invalid 'addr' parameter\n", "bad request"),
        (500, "JSON encoding error\n", "daemon"),
        (503, "", "daemon"),
        (204, "", "daemon"),
        (301, "elsewhere", "daemon"),
    ] {
        let daemon = Daemon::start(move |_| Reply::Status(status, text.to_owned()));
        let error = ask(&daemon).await.unwrap_err();
        assert_eq!(kind(&error), expected, "{status}: {error}");
        assert!(error.to_string().contains(text.trim()) || status == 404, "{error}");
    }
}

#[tokio::test]
async fn what_the_daemon_says_is_shown_in_one_bounded_line() {
    let daemon = Daemon::start(|_| Reply::Status(403, format!("\x1b[31mno{}\nTailscale-User: root", "x".repeat(9000))));
    let LocalApiError::Denied(text) = ask(&daemon).await.unwrap_err() else { panic!("not denied") };
    assert!(text.starts_with("[31mnoxx") && text.len() == SHOWN && text.chars().all(|c| !c.is_control()), "{text:?}");
}

#[tokio::test]
async fn answers_that_make_no_sense_are_no_answers() {
    let ok = |body: &str| Reply::Status(200, body.to_owned());
    for reply in [
        ok(""),
        ok("<html>captive portal</html>"),
        ok("[]"),
        ok("\"n1\""),
        ok("{\"Node\":{\"StableID\":\"n1\"}"),
        ok("{\"Node\":{\"StableID\":\"n1\"}} {}"),
        ok("{\"Node\":{\"StableID\":7}}"),
        ok("{\"Node\":{\"StableID\":\"n1\",\"StableID\":\"n2\"}}"),
        ok("{\"Node\":{\"Tags\":\"tag:admin\"}}"),
        ok("{\"Node\":{\"UnsignedPeerAPIOnly\":\"no\"}}"),
        ok("{\"CapMap\":[]}"),
        ok(&"[".repeat(100_000)),
        ok(&format!("{{\"Node\":{{\"Name\":\"{}\"}}}}", "x".repeat(MOST_WHOIS))),
    ] {
        let daemon = Daemon::start(move |_| reply.clone());
        let error = ask(&daemon).await.unwrap_err();
        assert_eq!(kind(&error), "nonsense", "{error}");
        assert!(error.to_string().len() < 2 * SHOWN, "{error}");
    }
}

#[tokio::test]
async fn a_daemon_that_breaks_off_has_said_nothing() {
    let whole = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"Node\":{\"StableID\":\"n1\"}}";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n19\r\n{\"Node\":{\"StableID\":\"n1\"}}";
    for raw in ["", "HTT", "HTTP/1.1 200 OK\r\n", whole, chunked, "SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 2000 OK\r\n\r\n"]
    {
        let daemon = Daemon::start(move |_| Reply::Raw(raw.into()));
        let error = ask(&daemon).await.unwrap_err();
        assert_eq!(kind(&error), "io", "{raw:?}: {error}");
    }
    let head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n{{}}", "x".repeat(1 << 20));
    let daemon = Daemon::start(move |_| Reply::Raw(head.clone().into()));
    assert_eq!(kind(&ask(&daemon).await.unwrap_err()), "io");
}

#[tokio::test]
async fn no_daemon_is_an_error_at_once() {
    let mut daemon = Daemon::start(|_| ivysaur());
    let api = client(&daemon);
    api.whois(address("100.64.0.7:1")).await.unwrap();
    daemon.kill().await;
    assert_eq!(kind(&api.whois(address("100.64.0.7:1")).await.unwrap_err()), "io");
    assert_eq!(kind(&api.status(true).await.unwrap_err()), "io");
    daemon.resume();
    api.whois(address("100.64.0.7:1")).await.unwrap();
    std::fs::remove_file(daemon.socket()).unwrap();
    assert_eq!(kind(&ask(&daemon).await.unwrap_err()), "io");
}

#[tokio::test]
async fn a_daemon_that_is_silent_or_slow_runs_out_of_time() {
    let silent = Daemon::start(|_| Reply::Hang);
    let begun = Instant::now();
    assert_eq!(kind(&ask(&silent).await.unwrap_err()), "timed out");
    assert!(begun.elapsed() < ANSWER_WITHIN * 2, "{:?}", begun.elapsed());
    // Nothing is left of those who gave up: the next is served.
    let api = client(&silent);
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..3 * AT_ONCE {
        let api = api.clone();
        asked.spawn(async move { api.whois(address("100.64.0.7:1")).await.map(drop).map_err(|error| kind(&error)) });
    }
    let begun = Instant::now();
    while let Some(answer) = asked.join_next().await {
        assert_eq!(answer.unwrap(), Err("timed out"));
    }
    assert!(begun.elapsed() < ANSWER_WITHIN * 2, "waiting for a turn counts");
    silent.answers(|_| ivysaur());
    assert_eq!(api.whois(address("100.64.0.7:1")).await.unwrap().node.stable_id, "n7ETArqRfp11CNTRL");
}

#[tokio::test]
async fn the_request_is_one_that_every_daemon_takes() {
    let daemon = Daemon::start(|_| ivysaur());
    let api = client(&daemon);
    for (asked, sent) in [
        ("100.64.0.7:4711", "100.64.0.7%3A4711"),
        ("100.64.0.7:0", "100.64.0.7"),
        ("[::ffff:100.64.0.7]:4711", "100.64.0.7%3A4711"),
        ("[fd7a:115c:a1e0::7]:4711", "%5Bfd7a%3A115c%3Aa1e0%3A%3A7%5D%3A4711"),
        ("[fd7a:115c:a1e0::7]:0", "fd7a%3A115c%3Aa1e0%3A%3A7"),
        ("[fe80::1%3]:9", "%5Bfe80%3A%3A1%5D%3A9"),
        ("127.0.0.1:60000", "127.0.0.1%3A60000"),
    ] {
        api.whois(address(asked)).await.unwrap();
        let head = daemon.heads().pop().unwrap();
        assert_eq!(
            head.to_ascii_lowercase(),
            format!("get /localapi/v0/whois?proto=tcp&addr={sent} http/1.1\r\nhost: local-tailscaled.sock\r\n\r\n")
                .to_ascii_lowercase()
        );
    }
    api.status(true).await.unwrap();
    api.status(false).await.unwrap();
    let heads = daemon.heads();
    assert!(heads[heads.len() - 2].starts_with("GET /localapi/v0/status HTTP/1.1\r\n"));
    assert!(heads[heads.len() - 1].starts_with("GET /localapi/v0/status?peers=false HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_password_goes_to_a_daemon_that_asks_for_one() {
    let daemon = Daemon::start(|_| ivysaur());
    let address_of = DaemonAddress::Loopback { port: daemon.port().await, password: "0123abcd".to_owned().into() };
    let api = LocalApi::new(address_of);
    api.whois(address("100.64.0.7:1")).await.unwrap();
    let head = daemon.heads().pop().unwrap().to_ascii_lowercase();
    assert!(head.contains("\r\nsec-tailscale: localapi\r\n") && head.contains("\r\nhost: local-tailscaled.sock\r\n"));
    // ":0123abcd", padded as RFC 7617 has it.
    assert!(daemon.heads().pop().unwrap().contains("Basic OjAxMjNhYmNk\r\n"), "{head}");
    assert!(!format!("{api:?}").contains("0123abcd"));
}

#[tokio::test]
async fn connections_are_used_again_and_replaced_when_they_have_died() {
    let daemon = Daemon::start(|_| ivysaur());
    let api = client(&daemon);
    for _ in 0..20 {
        api.whois(address("100.64.0.7:1")).await.unwrap();
    }
    assert_eq!(daemon.connections(), 1);
    // Also after an answer that is a refusal.
    daemon.answers(|_| Reply::Status(404, "no match for IP:port".to_owned()));
    for _ in 0..20 {
        assert_eq!(kind(&api.whois(address("100.64.0.7:1")).await.unwrap_err()), "not found");
    }
    assert_eq!(daemon.connections(), 1);
    daemon.answers(|_| Reply::Last(Box::new(ivysaur())));
    for _ in 0..20 {
        api.whois(address("100.64.0.7:1")).await.unwrap();
    }
    assert!((19..=21).contains(&daemon.connections()), "{}", daemon.connections());
}

#[tokio::test]
async fn a_restarted_daemon_is_asked_over_new_connections() {
    let mut daemon = Daemon::start(|_| ivysaur());
    let api = client(&daemon);
    let many = || async {
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let api = api.clone();
            asked.spawn(async move { api.whois(address("100.64.0.7:1")).await.map(drop) });
        }
        while let Some(answer) = asked.join_next().await {
            answer.unwrap().unwrap();
        }
    };
    many().await;
    assert!(daemon.most_at_once() <= AT_ONCE && daemon.connections() <= AT_ONCE);
    daemon.kill().await;
    daemon.resume();
    many().await;
}

#[tokio::test]
async fn who_stops_waiting_leaves_no_half_answer_to_the_next() {
    let daemon = Daemon::start(|head| if head.contains("100.64.0.8") { Reply::Hang } else { ivysaur() });
    let api = client(&daemon);
    api.whois(address("100.64.0.7:1")).await.unwrap();
    for _ in 0..AT_ONCE * 2 {
        let given_up = tokio::time::timeout(Duration::from_millis(5), api.whois(address("100.64.0.8:1"))).await;
        assert!(given_up.is_err());
        assert_eq!(api.whois(address("100.64.0.7:1")).await.unwrap().node.stable_id, "n7ETArqRfp11CNTRL");
    }
}

/// The socket's process is this one.
#[tokio::test]
async fn another_process_on_the_socket_is_told_nothing() {
    let daemon = Daemon::start(|_| ivysaur());
    let of =
        |process| LocalApi::new(DaemonAddress::Socket { path: daemon.socket().to_owned(), process: Some(process) });
    let own = std::process::id();
    of(own).whois(address("100.64.0.7:1")).await.unwrap();
    let asked = daemon.heads().len();
    for other in [own + 1, 1, 0, u32::MAX] {
        let api = of(other);
        assert_eq!(kind(&api.whois(address("100.64.0.7:1")).await.unwrap_err()), "other process");
        assert_eq!(kind(&api.dial([100, 64, 0, 7].into(), 22).await.unwrap_err()), "other process");
    }
    assert_eq!(daemon.heads().len(), asked);
}

#[tokio::test]
async fn a_dialled_connection_loses_no_byte() {
    let daemon = Daemon::start(|_| Reply::Echo("SSH-2.0-OpenSSH_9.2\r\n"));
    let mut stream = client(&daemon).dial("fd7a:115c:a1e0::7".parse().unwrap(), 22).await.unwrap();
    let head = daemon.heads().pop().unwrap();
    for line in
        ["POST /localapi/v0/dial HTTP/1.1", "Dial-Host: fd7a:115c:a1e0::7", "Dial-Port: 22", "Dial-Network: tcp"]
    {
        assert!(head.contains(&format!("{line}\r\n")), "{head}");
    }
    for line in ["Host: local-tailscaled.sock", "Connection: upgrade", "Upgrade: ts-dial"] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{head}");
    }
    stream.write_all(b"hello").await.unwrap();
    let mut heard = [0; 26];
    stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"SSH-2.0-OpenSSH_9.2\r\nhello");
}

#[tokio::test]
async fn a_daemon_that_does_not_dial_over_the_tailnet_is_not_believed() {
    let raw = |text: &str| Reply::Raw(text.into());
    for (reply, expected) in [
        (raw("HTTP/1.1 200 OK\r\nDial-Self: true\r\nDial-Addr: 192.168.1.1:22\r\nContent-Length: 0\r\n\r\n"), "denied"),
        (raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "nonsense"),
        (raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"), "nonsense"),
        (raw("HTTP/1.1 101 Switching Protocols\r\n\r\n"), "nonsense"),
        (raw("HTTP/1.1 100 Continue\r\n\r\n"), "nonsense"),
        (raw("HTTP/2 101\r\nUpgrade: ts-dial\r\n\r\n"), "nonsense"),
        (raw("HTTP/1.1 10"), "io"),
        (raw(""), "io"),
        (raw(&format!("HTTP/1.1 101 X\r\nX: {}", "x".repeat(MOST_HEAD_OF_DIAL))), "nonsense"),
        (Reply::Status(502, "dial failure: connection refused".to_owned()), "daemon"),
        (Reply::Status(403, "denied".to_owned()), "denied"),
        (Reply::Status(404, String::new()), "not found"),
    ] {
        let shown = format!("{reply:?}");
        let daemon = Daemon::start(move |_| reply.clone());
        let error = client(&daemon).dial([100, 64, 0, 7].into(), 22).await.unwrap_err();
        assert_eq!(kind(&error), expected, "{shown}: {error}");
    }
}

const MOST_HEAD_OF_DIAL: usize = 9000;

/// The shapes of each version: what its daemon writes, cut to what matters and with fields that no other version has.
#[test]
fn answers_of_every_version_are_understood() {
    let read = |text: &str| serde_json::from_str::<WhoIs>(text).unwrap();
    let user = read(include_str!("../../../tests/cases/localapi/whois-user-saas.json"));
    assert_eq!(
        (user.node.stable_id.as_str(), user.user.login_name.as_str()),
        ("n7ETArqRfp11CNTRL", "thor@example.org")
    );
    assert_eq!(user.node.name, "ivysaur.tail78f774.ts.net.");
    assert!(user.node.tags.is_empty() && user.capabilities.contains_key("tailscale.com/cap/kubernetes"));
    let tagged = read(include_str!("../../../tests/cases/localapi/whois-tagged-headscale.json"));
    assert_eq!(tagged.node.tags, ["tag:mcp-client"]);
    let shared = read(include_str!("../../../tests/cases/localapi/whois-shared.json"));
    assert_eq!(shared.node.sharer, 9_223_372_036_854_775_806);
    let sharee = read(include_str!("../../../tests/cases/localapi/whois-sharee.json"));
    assert!(sharee.node.hostinfo.sharee_node);
    let router = read(include_str!("../../../tests/cases/localapi/whois-router.json"));
    assert_eq!(router.node.primary_routes, ["10.1.0.0/16"]);
    let unsigned = read(include_str!("../../../tests/cases/localapi/whois-unsigned.json"));
    assert!(unsigned.node.unsigned);
    let old = read(include_str!("../../../tests/cases/localapi/whois-1.74.json"));
    assert!(old.node.stable_id == "nOld" && old.capabilities.is_empty() && old.node.tags.is_empty());
    let new = read(include_str!("../../../tests/cases/localapi/whois-1.102.json"));
    assert_eq!(new.capabilities["tailops.dev/cap/gateway"].get(), "null");

    let read = |text: &str| serde_json::from_str::<Status>(text).unwrap();
    let running = read(include_str!("../../../tests/cases/localapi/status-1.98.json"));
    assert!(running.tun && running.backend_state == "Running" && running.peer.len() == 3);
    assert_eq!(running.own.addresses, ["100.64.0.2", "fd7a:115c:a1e0::2"]);
    let login = read(include_str!("../../../tests/cases/localapi/status-needs-login.json"));
    assert!(login.backend_state == "NeedsLogin" && login.peer.is_empty() && login.own.stable_id.is_empty());
    assert!(read("{}").backend_state.is_empty());
}

/// Whatever is null or missing is empty.
#[test]
fn nulls_are_nothing() {
    let whois: WhoIs = serde_json::from_value(json!({
        "Node": {"StableID": null, "Name": null, "Sharer": null, "Addresses": null, "AllowedIPs": null, "Tags": null,
            "PrimaryRoutes": null, "Hostinfo": null, "Expired": null, "UnsignedPeerAPIOnly": null, "ComputedName": null},
        "UserProfile": {"LoginName": null, "Groups": null}, "CapMap": null,
    }))
    .unwrap();
    assert!(whois.node.stable_id.is_empty() && whois.capabilities.is_empty());
    serde_json::from_value::<WhoIs>(json!({"Node": null, "UserProfile": null})).unwrap();
    let status: Status = serde_json::from_value(json!({
        "Version": null, "TUN": null, "BackendState": null, "Self": null, "Health": null, "CurrentTailnet": null,
        "CertDomains": null, "Peer": null, "User": null,
    }))
    .unwrap();
    assert!(!status.tun);
}

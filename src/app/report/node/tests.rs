//! Every state of a node, its key and its certificate, with what mends it.

use std::fs;

use super::*;
use crate::model::Level;

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn own() -> OwnNode {
    OwnNode {
        id: "n1".into(),
        name: "tailops.example.ts.net".into(),
        tags: vec!["tag:tailops".into()],
        user: None,
        addresses: vec!["100.64.0.1".parse().unwrap(), "fd7a:115c:a1e0::1".parse().unwrap()],
        key_expiry: None,
        certificate_names: Vec::new(),
    }
}

fn running(own: OwnNode) -> NodeStatus {
    NodeStatus { own: Some(own), tailnet: Some("example".into()), ..NodeStatus::of_state(NodeState::Running) }
}

fn level_of(lines: &[Line], subject: Subject) -> Level {
    lines.iter().filter(|line| line.subject == subject).map(|line| line.level).max().unwrap()
}

#[test]
fn only_a_node_with_a_network_map_is_well() {
    let lines = node_lines("host", &running(own()), &Wanted::default(), now());
    assert!(lines.iter().all(|line| line.level == Level::Ok), "{lines:?}");
    assert!(lines[0].finding.contains("tailops.example.ts.net") && lines[0].finding.contains("100.64.0.1"));
    for (state, mend) in [
        (NodeState::Running, "control server"),
        (NodeState::Starting, "wait"),
        (NodeState::NeedsLogin, "link"),
        (NodeState::NeedsApproval, "admin console"),
        (NodeState::Stopped, "tailscale up"),
        (NodeState::Unreachable("no such file".into()), "systemctl status tailscaled"),
    ] {
        let lines = node_lines("host", &NodeStatus::of_state(state.clone()), &Wanted::default(), now());
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].level == Level::Fail && lines[0].mend.as_ref().unwrap().contains(mend), "{lines:?}");
        let embedded = node_lines("embedded", &NodeStatus::of_state(state), &Wanted::default(), now());
        assert!(!embedded[0].mend.as_ref().unwrap().contains("tailscaled"), "{embedded:?}");
    }
}

#[test]
fn a_login_link_is_passed_on() {
    let warnings = vec!["log the node in: open https://login.example/a/1".to_owned()];
    let status = NodeStatus { warnings, ..NodeStatus::of_state(NodeState::NeedsLogin) };
    let lines = node_lines("embedded", &status, &Wanted::default(), now());
    assert!(lines[0].mend.as_ref().unwrap().ends_with("open https://login.example/a/1"), "{lines:?}");
    assert_eq!(lines.len(), 1, "once is enough");
}

#[test]
fn keys_that_end_and_nodes_of_users_are_told() {
    let ends = |end: &str| {
        let own = OwnNode { key_expiry: Some(end.parse().unwrap()), ..own() };
        level_of(&node_lines("host", &running(own), &Wanted::default(), now()), Subject::KeyExpiry)
    };
    assert_eq!(ends("2026-11-21T12:00:00Z"), Level::Fail);
    assert_eq!(ends("2026-12-05T11:59:59Z"), Level::Warn);
    assert_eq!(ends("2026-12-05T12:00:00Z"), Level::Ok);
    let of_user = OwnNode { tags: Vec::new(), user: Some("alice@example.org".into()), ..own() };
    let lines = node_lines("host", &running(of_user), &Wanted::default(), now());
    assert_eq!(level_of(&lines, Subject::Tags), Level::Warn);
    assert!(lines.iter().any(|line| line.finding.contains("alice@example.org")));
    let wanted = Wanted { tags: vec!["tag:tailops".into(), "tag:prod".into()], hostname: Some("tailops".into()) };
    let lines = node_lines("embedded", &running(own()), &wanted, now());
    assert!(lines.iter().any(|line| line.subject == Subject::Tags && line.finding.contains("lacks tag:prod")));
    assert_eq!(level_of(&lines, Subject::Name), Level::Ok);
    let second = OwnNode { name: "tailops-1.example.ts.net".into(), ..own() };
    assert_eq!(level_of(&node_lines("embedded", &running(second), &wanted, now()), Subject::Name), Level::Warn);
    let nameless = OwnNode { name: String::new(), ..own() };
    assert_eq!(level_of(&node_lines("embedded", &running(nameless), &wanted, now()), Subject::Name), Level::Warn);
}

#[test]
fn what_the_daemon_finds_wrong_is_passed_on() {
    let status = NodeStatus { warnings: vec!["no DERP".into()], version: Some("1.98".into()), ..running(own()) };
    let lines = node_lines("host", &status, &Wanted::default(), now());
    assert!(lines.iter().any(|line| line.level == Level::Warn && line.finding == "no DERP"));
    assert_eq!(lines.iter().filter(|line| line.subject == Subject::Daemon).count(), 1);
}

#[test]
fn plain_http_where_others_reach_it_fails() {
    let status = running(own());
    let at = |address: &str, tls: &Tls| listeners(&[address.parse().unwrap()], &status, tls).level;
    for (address, level) in [
        ("127.0.0.1:8080", Level::Ok),
        ("100.64.0.1:8080", Level::Ok),
        ("[fd7a:115c:a1e0::1]:80", Level::Ok),
        ("100.64.0.2:80", Level::Fail),
        ("0.0.0.0:80", Level::Fail),
        ("192.0.2.1:80", Level::Fail),
    ] {
        assert_eq!(at(address, &Tls::Off), level, "{address}");
        assert_eq!(at(address, &Tls::Node), Level::Ok, "{address}");
    }
    assert_eq!(listeners(&[], &status, &Tls::Off).level, Level::Fail);
}

#[test]
fn certificates_are_read_and_their_end_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("chain.pem");
    let tls = Tls::Files { certificate: path.clone(), key: directory.path().join("key.pem") };
    let level = |now| tls_lines(&tls, None, None, now)[0].level;
    assert_eq!(level(now()), Level::Fail, "there is no file");
    fs::write(&path, "rubbish").unwrap();
    assert_eq!(level(now()), Level::Fail);
    let mut parameters = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2026, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2026, 12, 31);
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(&path, parameters.self_signed(&key).unwrap().pem()).unwrap();
    assert_eq!(level(now()), Level::Ok);
    assert_eq!(level("2026-12-20T00:00:00Z".parse().unwrap()), Level::Warn);
    assert_eq!(level("2026-12-31T00:00:00Z".parse().unwrap()), Level::Fail);
    let without = running(own());
    assert_eq!(tls_lines(&Tls::Node, None, Some(&without), now())[0].level, Level::Fail);
    let with = running(OwnNode { certificate_names: vec!["tailops.example.ts.net".into()], ..own() });
    assert_eq!(tls_lines(&Tls::Node, None, Some(&with), now())[0].level, Level::Ok);
    let served = |end: &str, tls: &Tls| tls_lines(tls, Some(end.parse().unwrap()), None, now())[0].level;
    assert_eq!(served("2027-01-01T00:00:00Z", &tls), Level::Ok, "what is served counts, not what lies in the file");
    assert_eq!(served("2026-11-22T00:00:00Z", &Tls::Node), Level::Warn);
    assert_eq!(served("2026-11-21T00:00:00Z", &Tls::Node), Level::Fail);
    assert_eq!(tls_lines(&Tls::Off, None, None, now())[0].level, Level::Ok);
}

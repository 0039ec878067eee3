//! What the status says of daemons in every state, and which peers a name finds.

use serde_json::{Value, json};

use super::*;

fn read(text: &str) -> NodeStatus {
    NodeStatus::read(&serde_json::from_str(text).unwrap())
}

fn running() -> NodeStatus {
    read(include_str!("../../../tests/cases/localapi/status-1.98.json"))
}

#[test]
fn a_running_daemon_says_who_it_is_and_who_is_there() {
    let status = running();
    assert!(status.is_up() && !status.userspace);
    assert_eq!(
        (status.tailnet.as_deref(), status.version.as_deref()),
        (Some("tail78f774.ts.net"), Some("1.98.9-t0123456789"))
    );
    let own = status.own.as_ref().unwrap();
    assert_eq!((own.id.as_str(), own.name.as_str()), ("nSelfCNTRL", "tailops.tail78f774.ts.net"));
    assert_eq!((own.tags.join(" "), &own.user), ("tag:gateway tag:tailops".to_owned(), &None));
    assert_eq!(own.key_expiry.unwrap().to_string(), "2027-03-01T00:00:00Z");
    assert_eq!(own.certificate_names, ["tailops.tail78f774.ts.net"]);
    assert_eq!(
        status.hosts(),
        ["tailops.tail78f774.ts.net", "tailops", "100.64.0.2", "[fd7a:115c:a1e0::2]"].map(str::to_owned)
    );
    // The engine remembers one more, which is not in the network map.
    let peers: Vec<(&str, Option<&str>)> =
        status.peers.iter().map(|peer| (peer.name.as_str(), peer.user.as_deref())).collect();
    assert_eq!(peers, [("agent.tail78f774.ts.net", None), ("ivysaur.tail78f774.ts.net", Some("thor@example.org"))]);
    assert_eq!(status.peers[1].ssh_host_keys.len(), 1);
    assert_eq!((status.peers[0].online, status.peers[1].online), (false, true));
}

#[test]
fn only_running_with_an_identity_is_up() {
    let with = |state: &str, own: Value| read(&json!({"BackendState": state, "Self": own}).to_string());
    let known = || json!({"ID": "n1", "TailscaleIPs": ["fd7a:115c:a1e0::2", "100.64.0.2"]});
    assert!(with("Running", known()).is_up());
    for (state, expected) in [
        ("NeedsLogin", NodeState::NeedsLogin),
        ("NeedsMachineAuth", NodeState::NeedsApproval),
        ("Stopped", NodeState::Stopped),
        ("Starting", NodeState::Starting),
        ("NoState", NodeState::Starting),
        ("running", NodeState::Starting),
        ("", NodeState::Starting),
    ] {
        let status = with(state, known());
        assert_eq!((status.is_up(), status.state), (false, expected), "{state}");
    }
    for own in [json!(null), json!({}), json!({"ID": "n1"}), json!({"TailscaleIPs": ["100.64.0.2"]})] {
        assert!(!with("Running", own).is_up());
    }
    assert_eq!(with("Running", known()).own.unwrap().addresses[0], IpAddr::from([100, 64, 0, 2]), "IPv4 first");
    assert_eq!(
        read(include_str!("../../../tests/cases/localapi/status-needs-login.json")).state,
        NodeState::NeedsLogin
    );
}

#[test]
fn a_time_that_there_is_not_is_no_expiry() {
    let own = |expiry: Value| json!({"ID": "n1", "TailscaleIPs": ["100.64.0.2"], "KeyExpiry": expiry});
    for expiry in [json!("0001-01-01T00:00:00Z"), json!(null), json!(""), json!("soon")] {
        let status = read(&json!({"BackendState": "Running", "Self": own(expiry)}).to_string());
        assert_eq!(status.own.unwrap().key_expiry, None);
    }
}

#[test]
fn a_name_finds_one_peer_or_none() {
    let status = running();
    for host in [
        "ivysaur",
        "IVYSAUR",
        "ivysaur.",
        "ivysaur.tail78f774.ts.net",
        "ivysaur.tail78f774.ts.net.",
        "100.107.148.59",
        "fd7a:115c:a1e0::a737:943b",
        "[fd7a:115c:a1e0::a737:943b]",
        "::ffff:100.107.148.59",
    ] {
        assert_eq!(status.peer(host).map(|peer| peer.id.as_str()), Some("n7ETArqRfp11CNTRL"), "{host}");
    }
    for host in [
        "",
        ".",
        "localhost",
        "127.0.0.1",
        "::1",
        "10.0.0.1",
        "100.64.0.2",
        "tailops",
        "gone",
        "100.64.0.99",
        "ivysaur.other.ts.net",
        "ivysaur.tail78f774",
        "n7ETArqRfp11CNTRL",
        "0.0.0.0",
    ] {
        assert_eq!(status.peer(host), None, "{host}");
    }
    // A node shared in from another tailnet is found by its full name only; two of one name are none.
    let mut status = running();
    let mut foreign = status.peers[1].clone();
    foreign.id = "nOther".to_owned();
    foreign.name = "box.other.ts.net".to_owned();
    status.peers.push(foreign.clone());
    assert_eq!(status.peer("box"), None);
    assert_eq!(status.peer("box.other.ts.net").unwrap().id, "nOther");
    foreign.name = "agent.tail78f774.ts.net".to_owned();
    status.peers.push(foreign);
    assert_eq!(status.peer("agent"), None);
}

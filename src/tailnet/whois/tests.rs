//! Everyone who may not come in, each for the reason that fits, and that nothing but the daemon's own words counts.

use serde_json::{Value, json};

use super::{super::OwnNode, *};
use crate::{config::GrantsMode, tailnet::NodeState};

const FROM: &str = "100.64.0.7:4711";

fn status() -> NodeStatus {
    let mut status = NodeStatus::of_state(NodeState::Running);
    status.tailnet = Some("example.org".to_owned());
    status.own = Some(OwnNode {
        id: "nSelfCNTRL".to_owned(),
        name: "tailops.tail78f774.ts.net".to_owned(),
        tags: vec!["tag:tailops".to_owned()],
        user: None,
        addresses: vec!["100.64.0.2".parse().unwrap()],
        key_expiry: None,
        certificate_names: Vec::new(),
    });
    status
}

/// Lets everyone in who is somebody, so that each test shows its own reason.
fn settings() -> Tailnet {
    Tailnet { grants: GrantsMode::Optional, ..Tailnet::default() }
}

fn read_as(answer: Value, settings: &Tailnet) -> Result<Peer, Unidentified> {
    let answer: WhoIs = serde_json::from_str(&answer.to_string()).unwrap();
    read(&answer, &status(), settings, Some(FROM.parse().unwrap()))
}

/// Alice's laptop, with these fields of its node changed.
fn laptop(changed: Value) -> Value {
    let mut node = json!({
        "StableID": "nAlice", "Name": "laptop.tail78f774.ts.net.", "ComputedName": "laptop",
        "Addresses": ["100.64.0.7/32", "fd7a:115c:a1e0::7/128"],
        "AllowedIPs": ["100.64.0.7/32", "fd7a:115c:a1e0::7/128"],
    });
    node.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
    json!({"Node": node, "UserProfile": {"LoginName": "alice@example.com"}})
}

#[track_caller]
fn refused(answer: Value, settings: &Tailnet) -> &'static str {
    let shown = answer.to_string();
    let error = read_as(answer, settings).expect_err(&shown);
    // Whoever is known stands in the record, without any right.
    if let Some(peer) = error.peer() {
        assert_eq!(peer.grants, Grants::Rules(Vec::new()));
        assert!(!peer.id.is_empty() && peer.tailnet.as_deref() == Some("example.org"));
    }
    error.code()
}

#[test]
fn a_person_is_known_by_the_login_and_a_tagged_node_by_its_tags_alone() {
    let peer = read_as(laptop(json!({})), &settings()).unwrap();
    let expected = Peer {
        id: "nAlice".to_owned(),
        node: "laptop.tail78f774.ts.net".to_owned(),
        user: Some("alice@example.com".to_owned()),
        tags: Vec::new(),
        tailnet: Some("example.org".to_owned()),
        address: FROM.parse().unwrap(),
        uid: None,
        grants: Grants::Unrestricted,
    };
    assert_eq!(peer, expected);
    // Whatever stands in the profile of a tagged node: it is nobody's.
    for login in ["tagged-devices", "alice@example.com", ""] {
        let mut answer = laptop(json!({"Tags": ["tag:z", "", "tag:a", "tag:z"]}));
        answer["UserProfile"]["LoginName"] = login.into();
        let peer = read_as(answer, &settings()).unwrap();
        assert_eq!((peer.user, peer.tags), (None, vec!["tag:a".to_owned(), "tag:z".to_owned()]));
    }
}

#[test]
fn what_makes_no_identity_names_nobody() {
    let everything = Tailnet { allow_shared: true, ..settings() };
    for (what, answer) in [
        ("no stable id", laptop(json!({"StableID": ""}))),
        ("stable id null", laptop(json!({"StableID": null}))),
        ("nothing at all", json!({})),
        ("no node", json!({"Node": null, "UserProfile": {"LoginName": "alice@example.com"}})),
        ("no user", json!({"Node": {"StableID": "n1"}})),
        ("user null", json!({"Node": {"StableID": "n1"}, "UserProfile": null})),
        ("empty login", json!({"Node": {"StableID": "n1"}, "UserProfile": {"LoginName": ""}})),
        // The stand-in of tagged nodes, for a node without tags.
        ("no tags", json!({"Node": {"StableID": "n1"}, "UserProfile": {"LoginName": "tagged-devices"}})),
        (
            "empty tag",
            json!({"Node": {"StableID": "n1", "Tags": [""]}, "UserProfile": {"LoginName": "tagged-devices"}}),
        ),
    ] {
        assert_eq!(refused(answer, &everything), "peer_nameless", "{what}");
    }
}

#[test]
fn our_own_node_is_no_peer_and_nobody_is_while_we_do_not_know_it() {
    let all = Tailnet { allow_shared: true, allow_routers: ["nSelfCNTRL".to_owned()].into(), ..settings() };
    assert_eq!(refused(laptop(json!({"StableID": "nSelfCNTRL"})), &all), "peer_own_node");
    assert_eq!(refused(laptop(json!({"StableID": "nSelfCNTRL", "Tags": ["tag:tailops"]})), &all), "peer_own_node");
    let answer: WhoIs = serde_json::from_str(&laptop(json!({})).to_string()).unwrap();
    let blind = NodeStatus::of_state(NodeState::Running);
    let error = read(&answer, &blind, &settings(), Some(FROM.parse().unwrap())).unwrap_err();
    assert_eq!(error.code(), "peer_daemon_failed");
}

#[test]
fn nodes_of_other_tailnets_stay_out_unless_they_are_allowed() {
    let sharee = json!({"Hostinfo": {"ShareeNode": true}});
    for foreign in [json!({"Sharer": 7}), json!({"Sharer": -1}), sharee] {
        assert_eq!(refused(laptop(foreign.clone()), &settings()), "peer_shared_in", "{foreign}");
        read_as(laptop(foreign), &Tailnet { allow_shared: true, ..settings() }).unwrap();
    }
}

#[test]
fn who_routes_for_others_stays_out_unless_it_is_listed() {
    for routes in [
        json!({"PrimaryRoutes": ["10.1.0.0/16"]}),
        json!({"PrimaryRoutes": ["100.64.0.9/32"]}),
        json!({"AllowedIPs": ["100.64.0.7/32", "192.168.0.0/24"]}),
        json!({"AllowedIPs": ["100.64.0.7/32", "192.168.0.9/32"]}),
        json!({"AllowedIPs": ["0.0.0.0/0", "::/0", "100.64.0.7/32"]}),
        json!({"AllowedIPs": ["100.64.0.0/10"]}),
        json!({"AllowedIPs": ["100.64.0.8/31"]}),
        // An IPv4 network behind a router, in its IPv6 form.
        json!({"AllowedIPs": ["fd7a:115c:a1e0:b1a:0:7:a01:0/112"]}),
        json!({"AllowedIPs": ["fd7a:115c:a1e0:b1a:0:7:a01:1/128"]}),
        json!({"AllowedIPs": ["100.64.0.7/032"]}),
        json!({"AllowedIPs": ["nonsense"]}),
    ] {
        assert_eq!(refused(laptop(routes.clone()), &settings()), "peer_router", "{routes}");
        let listed = Tailnet { allow_routers: ["nAlice".to_owned()].into(), ..settings() };
        read_as(laptop(routes.clone()), &listed).unwrap();
        let other = Tailnet { allow_routers: ["nBob".to_owned()].into(), ..settings() };
        assert_eq!(refused(laptop(routes), &other), "peer_router");
    }
    // A service that the node offers has an address of the tailnet's own; one that says nothing has its own only.
    for own in [
        json!({"AllowedIPs": ["100.64.0.7/32", "100.100.7.7/32", "fd7a:115c:a1e0::abcd/128"]}),
        json!({"AllowedIPs": []}),
        json!({"AllowedIPs": null}),
    ] {
        read_as(laptop(own), &settings()).unwrap();
    }
}

#[test]
fn nodes_outside_tailnet_lock_and_with_expired_keys_stay_out() {
    assert_eq!(refused(laptop(json!({"UnsignedPeerAPIOnly": true})), &settings()), "peer_unsigned");
    assert_eq!(refused(laptop(json!({"Expired": true})), &settings()), "peer_expired");
}

#[test]
fn only_the_tags_and_users_that_are_required_come_in() {
    let of = |tags: &[&str], users: &[&str]| Tailnet {
        require_tags: tags.iter().map(ToString::to_string).collect(),
        require_users: users.iter().map(ToString::to_string).collect(),
        ..settings()
    };
    let agent = || laptop(json!({"Tags": ["tag:agent", "tag:ci"]}));
    for (settings, person, tagged) in [
        (of(&[], &[]), true, true),
        (of(&["tag:agent"], &[]), false, true),
        (of(&["tag:other", "tag:ci"], &[]), false, true),
        (of(&["tag:other"], &[]), false, false),
        (of(&["alice@example.com"], &[]), false, false),
        (of(&[], &["alice@example.com"]), true, false),
        (of(&[], &["Alice@example.com"]), false, false),
        (of(&["tag:agent"], &["alice@example.com"]), true, true),
        (of(&[], &["tagged-devices", "tag:agent"]), false, false),
    ] {
        for (answer, comes_in) in [(laptop(json!({})), person), (agent(), tagged)] {
            match read_as(answer, &settings) {
                Ok(_) => assert!(comes_in, "{settings:?}"),
                Err(error) => assert!(!comes_in && error.code() == "peer_tag", "{settings:?}: {error}"),
            }
        }
    }
}

#[test]
fn rights_come_from_our_capability_alone() {
    let required = Tailnet::default();
    let with = |capabilities: &str| {
        let answer = laptop(json!({})).to_string();
        format!("{},\"CapMap\":{capabilities}}}", answer.strip_suffix('}').unwrap())
    };
    let code = |answer: String| {
        let answer: WhoIs = serde_json::from_str(&answer).unwrap();
        read(&answer, &status(), &required, Some(FROM.parse().unwrap())).unwrap_err().code()
    };
    for nothing in ["null", "{}", "{\"example.com/cap/other\":[{\"scopes\":[\"admin\"]}]}"] {
        assert_eq!(code(with(nothing)), "peer_no_grant", "{nothing}");
    }
    assert_eq!(code(with("{\"tailops.dev/cap/gateway\":null}")), "peer_no_grant");
    for bad in
        ["{}", "true", "\"admin\"", "[{\"scopes\":[\"fleet:read\"],\"scopes\":[\"admin\"]}]", "[{\"a\":1,\"A\":2}]"]
    {
        assert_eq!(code(with(&format!("{{\"tailops.dev/cap/gateway\":{bad}}}"))), "peer_bad_grant", "{bad}");
    }
}

#[test]
fn a_relayed_peer_is_shown_with_its_own_address() {
    let answer: WhoIs = serde_json::from_str(&laptop(json!({})).to_string()).unwrap();
    let peer = read(&answer, &status(), &settings(), None).unwrap();
    assert_eq!(peer.address, "100.64.0.7:0".parse().unwrap());
    let answer: WhoIs = serde_json::from_str(&laptop(json!({"Addresses": []})).to_string()).unwrap();
    assert_eq!(read(&answer, &status(), &settings(), None).unwrap_err().code(), "peer_nameless");
}

#[test]
fn the_name_is_the_fullest_there_is() {
    for (name, computed, shown) in
        [("laptop.example.ts.net.", "laptop", "laptop.example.ts.net"), ("", "laptop", "laptop"), (".", "", "nAlice")]
    {
        let answer = laptop(json!({"Name": name, "ComputedName": computed}));
        assert_eq!(read_as(answer, &settings()).unwrap().node, shown);
    }
}

/// As real daemons write them.
#[test]
fn the_captured_answers_are_judged() {
    for (text, code) in [
        (include_str!("../../../tests/cases/localapi/whois-user-saas.json"), None),
        (include_str!("../../../tests/cases/localapi/whois-user-headscale-1.98.json"), None),
        (include_str!("../../../tests/cases/localapi/whois-tagged-headscale.json"), None),
        (include_str!("../../../tests/cases/localapi/whois-1.74.json"), None),
        (include_str!("../../../tests/cases/localapi/whois-1.102.json"), None),
        (include_str!("../../../tests/cases/localapi/whois-shared.json"), Some("peer_shared_in")),
        (include_str!("../../../tests/cases/localapi/whois-sharee.json"), Some("peer_shared_in")),
        (include_str!("../../../tests/cases/localapi/whois-router.json"), Some("peer_router")),
        (include_str!("../../../tests/cases/localapi/whois-unsigned.json"), Some("peer_unsigned")),
    ] {
        let answer: WhoIs = serde_json::from_str(text).unwrap();
        let read = read(&answer, &status(), &settings(), None);
        assert_eq!(read.as_ref().err().map(Unidentified::code), code, "{text}");
    }
}

//! `network_inspect` on hostile arguments, hostile output and this machine.

use std::net::TcpListener;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::tools::rig;

fn shown(arguments: Value, sections: &[(&str, &[u8])]) -> Content {
    let operation = rig::plan(&NetworkInspect, arguments).unwrap();
    let content = NetworkInspect.render(&rig::pretend(operation, sections, "")).unwrap();
    rig::conforms(&NetworkInspect, &content.data);
    content
}

#[test]
fn wrong_arguments_are_named() {
    for (arguments, field) in [
        (json!({"sections": []}), "sections"),
        (json!({"sections": ["packets"]}), "sections"),
        (json!({"sections": ["dns"], "port": 22}), "sections"),
        (json!({"port": 0}), "port"),
        (json!({"port": 65536}), "port"),
        (json!({"process": ""}), "process"),
        (json!({"process": "a\u{1b}"}), "process"),
        (json!({"host": "x"}), "host"),
    ] {
        let error = rig::plan(&NetworkInspect, arguments).unwrap_err();
        assert!(error.code == "invalid_arguments" && error.message.contains(field), "{field}: {error}");
    }
    rig::fits_budget(&NetworkInspect);
}

#[test]
fn the_firewall_needs_a_second_scope_and_is_not_asked_for_by_itself() {
    let all = rig::plan(&NetworkInspect, json!({})).unwrap();
    assert_eq!(all.scopes, [Scope::NetworkRead]);
    assert!(!all.arguments["sections"].as_array().unwrap().contains(&json!("firewall")));
    let firewall = rig::plan(&NetworkInspect, json!({"sections": ["firewall"]})).unwrap();
    assert_eq!(firewall.scopes, [Scope::NetworkRead, Scope::SecurityRead]);
}

#[test]
fn a_listener_of_ours_is_seen_with_its_port() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let content = rig::call(&NetworkInspect, json!({"port": port})).unwrap();
    let listen = content.data["listen"].as_array().unwrap();
    assert!(listen.iter().any(|socket| socket["address"] == "127.0.0.1" && socket["port"] == port), "{listen:#?}");
    let interfaces = content.data["interfaces"].as_array().unwrap();
    assert!(interfaces.iter().any(|interface| interface["name"] == "lo"));
    assert!(content.data["routes"].is_array() && content.data["counters"].is_object());
}

#[test]
fn the_firewall_of_this_machine_is_shown_or_missing_with_a_reason() {
    let content = rig::call(&NetworkInspect, json!({"sections": ["firewall"]})).unwrap();
    assert_eq!(content.data["firewall"].is_null(), !content.partial.is_empty());
}

#[test]
fn output_that_is_not_what_it_should_be_is_missing_not_empty() {
    let all: &[(&str, &[u8])] = &[("interfaces.ip", b"{not json"), ("neighbours.ip", b"{}"), ("dns", b"\xff\xfe")];
    let content = shown(json!({}), all);
    let names: Vec<&str> = content.partial.iter().map(|missing| missing.section.as_str()).collect();
    assert_eq!(names, ["interfaces", "routes", "neighbours", "counters", "sockets"]);
    assert!(content.data["interfaces"].is_null());
}

#[test]
fn an_answer_that_was_cut_says_so() {
    let operation = rig::plan(&NetworkInspect, json!({"sections": ["sockets"]})).unwrap();
    let sockets: &[(&str, &[u8])] = &[("sockets.listen", b"tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:*\ntcp LIST")];
    let content = NetworkInspect.render(&rig::dropping(rig::pretend(operation, sockets, ""), 900)).unwrap();
    assert!(content.truncated);
    assert_eq!(content.data["listen"].as_array().unwrap().len(), 1);
}

#[test]
fn filters_hold_for_both_ends_and_for_processes() {
    let sockets: &[(&str, &[u8])] = &[
        (
            "sockets.listen",
            b"tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:((\"sshd\",pid=39,fd=3))\nudp UNCONN 0 0 [::]:53 [::]:*\n",
        ),
        ("sockets.other", b"tcp ESTAB 0 0 10.0.0.1:40000 10.0.0.2:22\ntcp ESTAB 0 0 10.0.0.1:40001 10.0.0.2:80\n"),
    ];
    let all = shown(json!({"sections": ["sockets"]}), sockets);
    assert_eq!(all.data["conns_summary"], json!({"ESTAB": 2}));
    assert!(all.data["connections"].is_null());
    let port = shown(json!({"sections": ["sockets"], "port": 22}), sockets);
    assert_eq!(
        (port.data["listen"].as_array().unwrap().len(), port.data["connections"].as_array().unwrap().len()),
        (1, 1)
    );
    let process = shown(json!({"sections": ["sockets"], "process": "ssh"}), sockets);
    assert_eq!(process.data["listen"][0]["pid"], 39);
    assert_eq!(process.data["listen"].as_array().unwrap().len(), 1);
}

proptest! {
    #[test]
    fn no_output_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), old: bool) {
        let parts = ["interfaces", "routes", "neighbours", "sockets", "dns", "counters", "firewall"];
        let operation = rig::plan(&NetworkInspect, json!({"sections": parts})).unwrap();
        let names = match old {
            false => ["interfaces.ip", "routes.ip4", "neighbours.ip", "dns", "sockets.listen", "firewall.nft", "counters.dev"],
            true => ["interfaces.sys", "routes.proc4", "neighbours.proc", "routes.proc6", "sockets.tcp6", "firewall.iptables", "counters.snmp"],
        };
        let sections: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, bytes.as_slice())).collect();
        let _ = NetworkInspect.render(&rig::pretend(operation, &sections, ""));
    }
}

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
    assert_eq!(names, ["interfaces", "routes", "neighbours", "counters", "tailnet", "sockets"]);
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

#[test]
fn a_tailnet_is_shown_without_keys_and_login_links() {
    let printed = json!({
        "Version": "1.98.9-t1", "BackendState": "Running", "AuthURL": "https://login.example/a/secret",
        "Self": {"ID": "n1", "DNSName": "web.example.ts.net.", "OS": "linux", "TailscaleIPs": ["100.64.0.9"],
                 "Tags": ["tag:web"], "Online": true, "PublicKey": "nodekey:00"},
        "Health": ["no relay"], "CurrentTailnet": {"Name": "example"}, "Later": {"unknown": [1]},
        "Peer": {"nodekey:02": {"HostName": "b", "DNSName": "b.example.ts.net.", "CurAddr": "192.0.2.1:1", "Online": false},
                 "nodekey:01": {"HostName": "a", "DNSName": "", "Relay": "fra", "TailscaleIPs": null}, "nodekey:03": null},
    });
    let text = printed.to_string();
    let sections: &[(&str, &[u8])] = &[("tailnet", text.as_bytes())];
    let content = shown(json!({"sections": ["tailnet"]}), sections);
    let tailnet = &content.data["tailnet"];
    assert_eq!(
        (&tailnet["state"], &tailnet["tailnet"], &tailnet["peer_count"]),
        (&json!("Running"), &json!("example"), &json!(2))
    );
    assert_eq!((&tailnet["own"]["name"], &tailnet["own"]["tags"]), (&json!("web.example.ts.net"), &json!(["tag:web"])));
    assert_eq!((&tailnet["peers"][0]["name"], &tailnet["peers"][1]["direct"]), (&json!("a"), &json!("192.0.2.1:1")));
    let all = content.data.to_string();
    assert!(!all.contains("secret") && !all.contains("nodekey"), "{all}");
    for (text, works) in
        [("{\"BackendState\":\"NeedsLogin\",\"Peer\":null,\"Self\":null}", true), ("{}", false), ("[]", false)]
    {
        let sections: &[(&str, &[u8])] = &[("tailnet", text.as_bytes())];
        let content = shown(json!({"sections": ["tailnet"]}), sections);
        assert_eq!((content.data["tailnet"].is_object(), content.partial.is_empty()), (works, works), "{text}");
    }
    let many: std::collections::BTreeMap<_, _> =
        (0..250).map(|n| (format!("k{n}"), json!({"HostName": format!("h{n}")}))).collect();
    let text = json!({"BackendState": "Running", "Peer": many}).to_string();
    let content = shown(json!({"sections": ["tailnet"]}), &[("tailnet", text.as_bytes())]);
    assert!(content.truncated && content.data["tailnet"]["peers"].as_array().unwrap().len() == 200);
    assert_eq!(content.data["tailnet"]["peer_count"], 250);
}

#[test]
fn the_tailnet_of_a_host_is_what_its_own_command_says() {
    let directory = tempfile::tempdir().unwrap();
    let stand_in = |body: &str| {
        let path = directory.path().join("tailscale");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let found = format!("PATH={}:/usr/sbin:/usr/bin:/sbin:/bin", directory.path().display());
        let operation = rig::plan(&NetworkInspect, json!({"sections": ["tailnet"]})).unwrap();
        let Some(Step::Script(script)) = operation.steps.first() else { panic!("no script") };
        // A script sets its own PATH: the directory of the stand-in is put in front of it there.
        let text = script.template.body.replace("case $part in", &format!("{found}\ncase $part in"));
        assert_ne!(text, script.template.body);
        let body: &'static str = Box::leak(text.into_boxed_str());
        let template: &'static Template = Box::leak(Box::new(Template { id: "test", stdin: false, body }));
        let script = Script::new(template, ["direct", "tailnet"]);
        let operation = Operation { steps: vec![Step::Script(script)], ..operation };
        NetworkInspect.render(&rig::Rig::new().run(operation)).unwrap()
    };
    let content = stand_in("echo '{\"BackendState\":\"Stopped\"}'");
    assert_eq!(content.data["tailnet"]["state"], "Stopped", "{content:?}");
    let content = stand_in("exit 1");
    assert_eq!(content.partial[0].reason, "daemon_unreachable", "{content:?}");
    let large = "case $3 in --peers=false) echo '{\"BackendState\":\"Running\"}';; *) head -c 300000 /dev/zero | tr '\\0' x;; esac";
    let content = stand_in(large);
    assert_eq!(
        (&content.data["tailnet"]["state"], content.partial[0].reason.as_str()),
        (&json!("Running"), "too_many")
    );
}

proptest! {
    #[test]
    fn no_output_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), old: bool) {
        let parts = ["interfaces", "routes", "neighbours", "sockets", "dns", "counters", "firewall", "tailnet"];
        let operation = rig::plan(&NetworkInspect, json!({"sections": parts})).unwrap();
        let names = match old {
            false => ["interfaces.ip", "routes.ip4", "neighbours.ip", "dns", "sockets.listen", "firewall.nft", "counters.dev", "tailnet"],
            true => ["interfaces.sys", "routes.proc4", "neighbours.proc", "routes.proc6", "sockets.tcp6", "firewall.iptables", "counters.snmp", "tailnet"],
        };
        let sections: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, bytes.as_slice())).collect();
        let _ = NetworkInspect.render(&rig::pretend(operation, &sections, ""));
    }
}

//! The lab itself: it is up, nothing leads out of it, nodes know whom they meet, and a policy is in force soon after it
//! is written.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use serde_json::{Value, json};

use crate::{
    client::Silence,
    control::{DOMAIN, Owner},
    gateway::Gateway,
    lab::{Lab, turn},
    node::{Mode, Node},
    over::retire,
    policy,
    site::Way,
    wait::until,
};

fn nodes(lab: &Lab) -> [&Node; 6] {
    [&lab.alice, &lab.bob, &lab.agent, &lab.thief, &lab.gateway, &lab.web]
}

#[test]
fn nodes_know_whom_they_may_meet() {
    let Some(lab) = turn() else { return };
    let alice = SocketAddr::new(lab.alice.ipv4(), 0);
    let (status, whois) = lab.gateway.whois(alice);
    assert_eq!(status, 200, "{whois}");
    assert_eq!(whois["UserProfile"]["LoginName"], "alice@example.com");
    assert_eq!(whois["Node"]["StableID"], lab.alice.id());
    assert_eq!(whois["Node"]["Tags"], Value::Null);
    assert_eq!(whois["CapMap"][policy::CAPABILITY], json!([{"scopes": ["admin"], "approve": true}]));

    let (_, whois) = lab.gateway.whois(SocketAddr::new(lab.agent.ipv6(), 0));
    assert_eq!(whois["Node"]["StableID"], lab.agent.id());
    assert_eq!(whois["Node"]["Tags"], json!(["tag:mcp-client"]));
    assert_eq!(whois["UserProfile"]["LoginName"], "tagged-devices");

    let bob = lab.bob.id();
    assert!(!lab.gateway.knows(&bob), "no grant, no acquaintance");
    assert_eq!(lab.gateway.whois(SocketAddr::new(lab.bob.ipv4(), 0)).0, 404);

    let name = lab.gateway.dns_name();
    assert_eq!(name, format!("gateway.{DOMAIN}"));
    assert_eq!(lab.alice.resolve(&name), [lab.gateway.ipv4()]);
    assert_eq!(lab.alice.resolve(&format!("nobody.{DOMAIN}")), [] as [IpAddr; 0]);
}

#[test]
fn nothing_leads_out_of_the_lab() {
    let Some(lab) = turn() else { return };
    for machine in nodes(&lab).map(|node| &node.machine).into_iter().chain([&lab.control.machine]) {
        // Of a public address there is no route at all.
        let output = machine.command("ip").args(["route", "get", "192.0.2.1"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("unreachable"), "{}: {said}", machine.name);
    }
}

#[test]
fn a_policy_is_in_force_soon_after_it_is_written() {
    let Some(lab) = turn() else { return };
    let address = SocketAddr::new(lab.gateway.ipv4(), 9000);
    let _listener = lab.gateway.machine.listen(address);
    assert!(lab.alice.machine.connect(address).is_err(), "a port that no grant names");
    lab.control.set_policy(&policy::with(&[policy::network(&["alice@"], "tag:tailops", 9000)]));
    until("alice is let in", || lab.alice.machine.reaches(address));
    assert!(lab.agent.machine.connect(address).is_err(), "somebody whom no grant names");
    lab.control.set_policy(&policy::with(&[policy::network(&["bob@"], "tag:tailops", 9000)]));
    until("alice is kept out", || !lab.alice.machine.reaches(address));
    until("bob is let in", || lab.bob.machine.reaches(address));

    let wrong = policy::with(&[json!({"src": ["tag:nobody"], "dst": ["tag:tailops"], "ip": ["tcp:1"]})]);
    let said = lab.control.check_policy(&wrong).unwrap_err();
    assert!(said.contains("tag:nobody"), "{said}");
    lab.control.check_policy(&policy::baseline()).unwrap();
}

#[test]
fn a_node_in_user_space_hands_connections_to_its_loopback() {
    let Some(lab) = turn() else { return };
    let listener = lab.web.machine.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 22)));
    let address = SocketAddr::new(lab.web.ipv4(), 22);
    let mut near = None;
    until("the gateway reaches its target", || {
        near = lab.gateway.machine.connect(address).ok();
        near.is_some()
    });
    let (mut far, peer) = listener.accept().unwrap();
    assert_eq!(peer.ip(), Ipv4Addr::LOCALHOST);
    // By the port on loopback, for as long as the connection lasts.
    let (status, whois) = lab.web.whois(peer);
    assert_eq!((status, &whois["Node"]["StableID"]), (200, &json!(lab.gateway.id())));
    let mut near = near.unwrap();
    near.write_all(b"to the target").unwrap();
    near.shutdown(std::net::Shutdown::Write).unwrap();
    let mut said = String::new();
    far.read_to_string(&mut said).unwrap();
    assert_eq!(said, "to the target");
    // A program of that machine is nobody the tailnet knows.
    let local = lab.web.machine.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, 22))).unwrap();
    assert_eq!(lab.web.whois(local.local_addr().unwrap()).0, 404);
}

#[test]
fn a_killed_daemon_comes_back_as_the_same_node() {
    let Some(lab) = turn() else { return };
    let id = lab.bob.id();
    lab.bob.kill();
    assert!(lab.bob.status().is_none());
    lab.bob.start();
    lab.bob.until_it_runs();
    assert_eq!(lab.bob.id(), id);
}

#[test]
fn a_node_that_expires_or_is_deleted_is_soon_nobody() {
    let Some(lab) = turn() else { return };
    let guest = lab.join("guest", Owner::Tag("tag:mcp-client"), Mode::Userspace);
    lab.gateway.until_acquainted(&guest);
    let (id, address) = (guest.id(), SocketAddr::new(guest.ipv4(), 0));
    lab.control.expire(&id);
    until("the gateway's node sees it expired", || lab.gateway.whois(address).1["Node"]["Expired"] == true);
    lab.control.delete(&id);
    until("the gateway's node forgets it", || !lab.gateway.knows(&id));
    assert_eq!(lab.gateway.whois(address).0, 404);
}

#[test]
fn a_gateway_on_loopback_serves_its_machine_and_no_node() {
    let Some(lab) = turn() else { return };
    retire(Way::Host, &lab);
    let machine = &lab.gateway.machine;
    let gateway = Gateway::start(machine, "mode = \"loopback\"\nlisten = \"127.0.0.1:8080\"", "");
    let token = gateway.mint(&["--scopes", "readonly"]);
    let answer = machine.call("http://127.0.0.1:8080/mcp", Some(&token), "token_inspect", json!({})).unwrap();
    assert_eq!(answer.data()["subject"], "lab");
    machine.converse("http://127.0.0.1:8080/mcp", &token, async |client| {
        assert!(client.list_all_tools().await.unwrap().iter().any(|tool| tool.name == "token_inspect"));
    });
    let answer = machine.call("http://127.0.0.1:8080/mcp", None, "token_inspect", json!({})).unwrap();
    assert_eq!((answer.status, answer.code()), (401, "missing_token"));
    let url = format!("http://{}:8080/mcp", lab.gateway.ipv4());
    let answer = lab.alice.machine.call(&url, Some(&token), "token_inspect", json!({}));
    assert_eq!(answer.unwrap_err(), Silence::Refused, "nothing listens on the tailnet's address");
    let records = gateway.records();
    let calls: Vec<&Value> = records.iter().filter(|record| record["tool"] == "token_inspect").collect();
    assert_eq!(calls.len(), 1, "{records:?}");
    assert_eq!(calls[0]["tailscale"]["tailscale_node_id"], "uid:0");
    gateway.stop();
}

//! The policy that `tailops acl print` makes: headscale takes it as it is, runs its test rows, and it holds on the wire.

use std::net::SocketAddr;

use serde_json::json;

use crate::{client::Silence, policy::PORT, site::Site, wait::until};

over_every_way![the_printed_policy_is_taken_as_it_is_and_holds];

/// Who is who in the lab, for `acl print` and `acl check`.
const PEOPLE: [&str; 8] = [
    "--owner",
    "alice@example.com",
    "--clients",
    "tag:mcp-client",
    "--operators",
    "group:ops",
    "--member",
    "group:ops=alice@example.com",
];

fn the_printed_policy_is_taken_as_it_is_and_holds(site: &Site) {
    let lab = site.lab;
    let printed = site.gateway.policy(&PEOPLE);
    lab.control.check_policy(&printed).unwrap_or_else(|error| panic!("{error}\n{printed}"));
    let (approved, said) = site.gateway.approves_of(&printed, &PEOPLE);
    assert!(approved, "{said}");
    // Its test rows are run, and would find it out.
    let other = printed.replace(&format!("tcp:{PORT}"), &format!("tcp:{}", PORT + 1));
    assert!(lab.control.check_policy(&other).unwrap_err().contains("test"), "{other}");

    lab.control.set_policy(&printed);
    let (of_agent, of_alice) = (site.token("admin", "tag:mcp-client"), site.token("admin", "user:alice@example.com"));
    let of_bob = site.token("admin", "user:bob@example.com");
    // Of all that the policy changes, this is learnt last or at the same time: alice may no longer probe.
    let probe = json!({"target": "local", "from": "gateway", "kind": "tcp", "host": "10.99.0.1", "port": 8080});
    let probed = || lab.alice.machine.call(&site.url(), Some(&of_alice), "network_probe", probe.clone());
    until("the policy is in force", || probed().is_ok_and(|answer| answer.code() == "insufficient_grant"));

    site.call(&lab.alice, &of_alice).unwrap().data();
    site.call(&lab.agent, &of_agent).unwrap().data();
    assert_eq!(site.call(&lab.bob, &of_bob).unwrap_err(), Silence::Unreachable);
    // The rows that deny: nothing but the gateway's port.
    let elsewhere = SocketAddr::new(site.ipv4().ip(), 22);
    let _listener = site.listens_beside(22);
    for node in [&lab.alice, &lab.agent] {
        assert!(!node.machine.reaches(elsewhere), "{}", node.machine.name);
    }
}

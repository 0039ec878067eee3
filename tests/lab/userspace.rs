//! Host mode where the daemon has no network device: connections from the tailnet come from loopback, so what is on
//! loopback itself must not pass for them.

use serde_json::{Value, json};

use crate::{control::Owner, gateway::Gateway, lab::turn, node::Mode, policy::PORT, site::host_section, wait::until};

#[test]
fn peers_are_told_from_programs_of_the_same_machine() {
    let Some(lab) = turn() else { return };
    let node = lab.join("inner", Owner::Tag("tag:tailops"), Mode::Userspace);
    let gateway = Gateway::start(&node.machine, &host_section(&node), "");
    node.until_acquainted(&lab.alice);
    let mint = |peer: &str| gateway.mint(&["--scopes", "readonly", "--bind", peer]);
    let (of_alice, url) = (mint("user:alice@example.com"), format!("http://{}:{PORT}/mcp", node.ipv4()));
    until("alice reaches the gateway", || {
        lab.alice
            .machine
            .call(&url, Some(&of_alice), "token_inspect", json!({}))
            .is_ok_and(|answer| answer.status == 200)
    });

    let near = format!("http://127.0.0.1:{PORT}/mcp");
    for token in [of_alice, mint("tag:tailops")] {
        let answer = node.machine.call(&near, Some(&token), "token_inspect", json!({})).unwrap();
        assert_eq!((answer.status, answer.code()), (403, "peer_unknown"));
    }
    let records = gateway.records();
    let calls: Vec<&Value> = records.iter().filter(|record| record["tool"] == "token_inspect").collect();
    assert!(!calls.is_empty());
    for call in calls {
        assert_eq!(call["tailscale"]["tailscale_node_id"], lab.alice.id(), "{call}");
    }
    gateway.stop();
}

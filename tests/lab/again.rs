//! A gateway that is stopped and started again: the same node, the same tokens, the same log.

use serde_json::json;

use crate::{
    over::lend,
    site::{Site, Way},
};

#[test]
fn a_gateway_in_host_mode_goes_on_where_it_was() {
    lend(Way::Host, starts_again);
}

/// Its key was for one use, which it has had, and in its place is one that the control server never made.
#[cfg(feature = "embedded")]
#[test]
fn an_embedded_gateway_goes_on_where_it_was() {
    lend(Way::Embedded, |site| {
        site.lab
            .embedded
            .write("key", "hskey-auth-000000000000-0000000000000000000000000000000000000000000000000000000000000000");
        starts_again(site);
    });
}

fn starts_again(site: &mut Site) {
    let lab = site.lab;
    let token = site.token("readonly", "user:alice@example.com");
    site.gateway.again(site.machine);
    site.begin();
    site.call(&lab.alice, &token).unwrap().data();

    let status = lab.alice.status().unwrap();
    let peers = status["Peer"].as_object().unwrap().values();
    let named: Vec<_> = peers.filter(|peer| peer["DNSName"] == format!("{}.", site.name)).collect();
    assert_eq!(named.len(), 1, "{named:?}");
    assert_eq!(named[0]["ID"], site.id);
    let record = site.last_record(|record| record["tool"] == "token_inspect");
    assert_eq!(record["tailscale"]["tailscale_node_id"], json!(lab.alice.id()));
}

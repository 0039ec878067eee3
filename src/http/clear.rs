//! No plain HTTP where others could read it: checked against the addresses that the node really has.

use std::net::SocketAddr;

use crate::{
    config::{ClearListener, Tls},
    tailnet::NodeStatus,
};

/// Refuses a listener without TLS on any address that is neither loopback nor the node's own on the tailnet.
pub fn refuse_clear(listening: &[SocketAddr], status: &NodeStatus, tls: &Tls) -> Result<(), ClearListener> {
    let private = |address: &&SocketAddr| {
        let ip = address.ip().to_canonical();
        ip.is_loopback() || status.own.as_ref().is_some_and(|own| own.addresses.contains(&ip))
    };
    match listening.iter().find(|address| !private(address)) {
        Some(&address) if *tls == Tls::Off => Err(ClearListener(address)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tailnet::{NodeState, OwnNode};

    #[test]
    fn p12_an_address_of_the_tailnets_range_must_be_the_nodes_own() {
        let own = OwnNode {
            id: "nSELF".to_owned(),
            name: "tailops.example.ts.net".to_owned(),
            tags: Vec::new(),
            user: None,
            addresses: vec!["100.64.0.1".parse().unwrap(), "fd7a:115c:a1e0::1".parse().unwrap()],
            key_expiry: None,
            certificate_names: Vec::new(),
        };
        let up = NodeStatus { own: Some(own), ..NodeStatus::of_state(NodeState::Running) };
        let refused = |address: &str, status: &NodeStatus, tls: Tls| {
            let listening = ["127.0.0.1:8080".parse().unwrap(), address.parse().unwrap()];
            refuse_clear(&listening, status, &tls).is_err()
        };
        for address in ["100.64.0.1:1", "[fd7a:115c:a1e0::1]:1", "[::ffff:100.64.0.1]:1", "[::1]:1"] {
            assert!(!refused(address, &up, Tls::Off), "{address}");
        }
        for address in ["100.64.0.2:1", "0.0.0.0:1", "[::]:1", "192.168.1.4:1", "[fd7a:115c:a1e0::2]:1"] {
            assert!(refused(address, &up, Tls::Off), "{address}");
            assert!(!refused(address, &up, Tls::Node), "{address}");
        }
        let unknown = NodeStatus::of_state(NodeState::Starting);
        assert!(refused("100.64.0.1:1", &unknown, Tls::Off), "an address that nobody vouches for");
    }
}

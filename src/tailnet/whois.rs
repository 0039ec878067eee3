//! Who a peer is and whether it may come in: from the daemon's answer, our own node and the configuration, and nothing
//! else. What is missing makes nobody; a name that others can speak under names nobody either.

use std::net::{IpAddr, SocketAddr};

use super::{
    Grants, NodeStatus, NotAdmitted, Peer, Unidentified, grants,
    localapi::{Node, WhoIs},
};
use crate::config::Tailnet;

/// The login that control servers write for every tagged node. Nobody has it.
const TAGGED: &str = "tagged-devices";

/// The peer at `address`, of whom the daemon says `answer`. None stands for an address that only the node's own tells:
/// its first one on the tailnet, with port 0.
pub(super) fn read(
    answer: &WhoIs,
    status: &NodeStatus,
    settings: &Tailnet,
    address: Option<SocketAddr>,
) -> Result<Peer, Unidentified> {
    let node = &answer.node;
    if node.stable_id.is_empty() {
        return Err(Unidentified::Nameless("it has no stable id".to_owned()));
    }
    let mut tags: Vec<String> = node.tags.iter().filter(|tag| !tag.is_empty()).cloned().collect();
    tags.sort_unstable();
    tags.dedup();
    let login = Some(&answer.user.login_name).filter(|login| !login.is_empty() && *login != TAGGED);
    if tags.is_empty() && login.is_none() {
        return Err(Unidentified::Nameless(format!("node {} has neither tags nor a user", node.stable_id)));
    }
    let first = || node.addresses.iter().find_map(|prefix| host_of(prefix)).map(|ip| SocketAddr::new(ip, 0));
    let Some(address) = address.or_else(first) else {
        return Err(Unidentified::Nameless(format!("node {} has no address", node.stable_id)));
    };
    let mut peer = Peer {
        id: node.stable_id.clone(),
        node: name_of(node).to_owned(),
        user: login.filter(|_| tags.is_empty()).cloned(),
        tags,
        tailnet: status.tailnet.clone(),
        address,
        uid: None,
        // Until it is admitted it has no rights, also in the record of its refusal.
        grants: Grants::Rules(Vec::new()),
    };
    let Some(own) = &status.own else {
        return Err(Unidentified::Daemon("it does not know its own node yet".to_owned()));
    };
    match admit(answer, &peer, &own.id, settings) {
        Ok(grants) => {
            peer.grants = grants;
            Ok(peer)
        }
        Err(why) => Err(Unidentified::NotAdmitted { peer: Box::new(peer), why }),
    }
}

/// What `peer` may do here, if it may come in. The first reason against it counts.
fn admit(answer: &WhoIs, peer: &Peer, own: &str, settings: &Tailnet) -> Result<Grants, NotAdmitted> {
    let node = &answer.node;
    if peer.id == own {
        return Err(NotAdmitted::OwnNode);
    }
    if (node.sharer != 0 || node.hostinfo.sharee_node) && !settings.allow_shared {
        return Err(NotAdmitted::SharedIn);
    }
    if routes_for_others(node) && !settings.allow_routers.contains(&peer.id) {
        return Err(NotAdmitted::Router);
    }
    if node.unsigned {
        return Err(NotAdmitted::Unsigned);
    }
    if node.expired {
        return Err(NotAdmitted::Expired);
    }
    let all = settings.require_tags.is_empty() && settings.require_users.is_empty();
    let listed = peer.tags.iter().any(|tag| settings.require_tags.contains(tag))
        || peer.user.as_ref().is_some_and(|user| settings.require_users.contains(user));
    if !all && !listed {
        return Err(NotAdmitted::NotRequired);
    }
    grants::read_text(answer.capabilities.get(&settings.capability).map(|raw| raw.get()), settings)
}

/// The MagicDNS name in full, without the last dot; what stands in for it where there is no MagicDNS.
fn name_of(node: &Node) -> &str {
    let names = [node.name.trim_end_matches('.'), node.computed_name.trim_end_matches('.')];
    names.into_iter().find(|name| !name.is_empty()).unwrap_or(&node.stable_id)
}

/// Whether traffic of others can come from it: it is a subnet router or exit node, or may send from addresses that no
/// single node has.
fn routes_for_others(node: &Node) -> bool {
    let own = |prefix: &String| node.addresses.contains(prefix) || host_of(prefix).is_some_and(is_node_address);
    !node.primary_routes.is_empty() || !node.allowed_ips.iter().all(own)
}

/// The address in a prefix that holds only one.
fn host_of(prefix: &str) -> Option<IpAddr> {
    let (address, bits) = prefix.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    (bits == if address.is_ipv4() { "32" } else { "128" }).then_some(address)
}

/// Whether an address is one that tailnets give to nodes, and to the services that nodes offer.
pub(super) fn is_node_address(address: IpAddr) -> bool {
    /// In `fd7a:115c:a1e0::/48`, this /64 stands for the IPv4 networks behind routers.
    const BEHIND_ROUTERS: u16 = 0xb1a;
    match address.to_canonical() {
        // 100.64.0.0/10
        IpAddr::V4(address) => matches!(address.octets(), [100, 64..=127, ..]),
        IpAddr::V6(address) => match address.segments() {
            [0xfd7a, 0x115c, 0xa1e0, network, ..] => network != BEHIND_ROUTERS,
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests;

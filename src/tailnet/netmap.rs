//! Reads a daemon's status into ours, and finds peers in it by name or address. Never asks anybody.

use std::net::IpAddr;

use super::{
    NodePeer, NodeState, NodeStatus, OwnNode,
    localapi::{PeerStatus, Status},
};

impl NodeStatus {
    /// The status as the daemon has it now.
    pub(super) fn read(answer: &Status) -> Self {
        let own = own_node(answer);
        let state = match answer.backend_state.as_str() {
            // Without an identity of its own there is no network map yet.
            "Running" if own.is_some() => NodeState::Running,
            "NeedsLogin" => NodeState::NeedsLogin,
            "NeedsMachineAuth" => NodeState::NeedsApproval,
            "Stopped" => NodeState::Stopped,
            _ => NodeState::Starting,
        };
        // The organisation's name comes last: headscale gives the control server's host for it.
        let tailnet =
            [&answer.current_tailnet.magic_dns_suffix, &answer.magic_dns_suffix, &answer.current_tailnet.name];
        let mut peers: Vec<NodePeer> = answer
            .peer
            .values()
            .filter(|peer| peer.in_network_map != Some(false) && !peer.stable_id.is_empty())
            .map(|peer| node_peer(peer, answer))
            .collect();
        peers.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Self {
            state,
            own,
            tailnet: tailnet.into_iter().find(|name| !name.is_empty()).cloned(),
            peers,
            warnings: answer.health.clone(),
            version: Some(answer.version.clone()).filter(|version| !version.is_empty()),
            userspace: !answer.tun,
        }
    }

    /// The peer with this MagicDNS name, in full or, on this tailnet, short, or with this address.
    pub(super) fn peer(&self, host: &str) -> Option<&NodePeer> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        if let Some(address) = address.map(|address| address.to_canonical()) {
            return self.peers.iter().find(|peer| peer.addresses.contains(&address));
        }
        let domain = self.own.as_ref().and_then(|own| own.name.split_once('.')).map(|(_, domain)| domain);
        let mut named = self.peers.iter().filter(|peer| {
            let short =
                peer.name.split_once('.').filter(|(_, of)| domain.is_some_and(|own| of.eq_ignore_ascii_case(own)));
            !host.is_empty()
                && (peer.name.eq_ignore_ascii_case(host)
                    || short.is_some_and(|(short, _)| short.eq_ignore_ascii_case(host)))
        });
        // Two of one name are none.
        named.next().filter(|_| named.next().is_none())
    }
}

/// The daemon's own node; none while it has no identity and no address.
fn own_node(answer: &Status) -> Option<OwnNode> {
    let own = &answer.own;
    let mut addresses = addresses(own);
    addresses.sort_by_key(IpAddr::is_ipv6);
    let known = !own.stable_id.is_empty() && !addresses.is_empty();
    known.then(|| OwnNode {
        id: own.stable_id.clone(),
        name: without_dot(&own.dns_name),
        tags: sorted(&own.tags),
        user: user(own, answer),
        addresses,
        // Go writes the year 1 for a time that there is not.
        key_expiry: own.key_expiry.parse().ok().filter(|expiry: &jiff::Timestamp| expiry.as_second() > 0),
        certificate_names: answer.cert_domains.iter().map(|name| without_dot(name)).collect(),
    })
}

fn node_peer(peer: &PeerStatus, answer: &Status) -> NodePeer {
    let names = [without_dot(&peer.dns_name), peer.host_name.clone()];
    NodePeer {
        id: peer.stable_id.clone(),
        name: names.into_iter().find(|name| !name.is_empty()).unwrap_or_default(),
        user: user(peer, answer),
        tags: sorted(&peer.tags),
        addresses: addresses(peer),
        os: Some(peer.os.clone()).filter(|os| !os.is_empty()),
        online: peer.online,
        ssh_host_keys: peer.ssh_host_keys.clone(),
    }
}

/// Whose it is; a tagged node is nobody's.
fn user(peer: &PeerStatus, answer: &Status) -> Option<String> {
    let user = answer.user.get(&peer.user.to_string()).filter(|_| peer.tags.is_empty())?;
    Some(user.login_name.clone()).filter(|login| !login.is_empty())
}

fn addresses(peer: &PeerStatus) -> Vec<IpAddr> {
    peer.addresses.iter().filter_map(|address| address.parse().ok()).collect()
}

fn sorted(tags: &[String]) -> Vec<String> {
    let mut tags = tags.to_vec();
    tags.sort_unstable();
    tags
}

fn without_dot(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests;

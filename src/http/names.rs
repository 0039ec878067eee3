//! The names a request's Host may have, against DNS rebinding: those that are configured, and those that the node has on
//! its tailnet now. Never asks the node: it is told.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use arc_swap::ArcSwap;
use hyper::{HeaderMap, Uri, header, http::uri::Authority};

use crate::tailnet::{NodeState, NodeStatus};

/// The names.
pub(super) struct Names {
    configured: Vec<String>,
    known: ArcSwap<Known>,
}

#[derive(PartialEq, Eq)]
struct Known {
    /// Whether there is a tailnet: then the names of loopback are for relays alone.
    on_tailnet: bool,
    /// Learned from the node.
    own: Vec<String>,
}

impl Names {
    /// `configured`, and nothing learned yet.
    pub(super) fn new(configured: Vec<String>) -> Self {
        // Until the node was looked at, it is taken for one on a tailnet, which is the stricter of the two.
        Self { configured, known: ArcSwap::from_pointee(Known { on_tailnet: true, own: Vec::new() }) }
    }

    /// Takes over the node's names.
    pub(super) fn follow(&self, status: &NodeStatus) {
        let fresh = Known { on_tailnet: status.state != NodeState::Loopback, own: status.hosts() };
        if **self.known.load() != fresh {
            self.known.store(Arc::new(fresh));
        }
    }

    /// Whether the request is for us: it has one Host, and that is one of the names. A request line that names a host
    /// must name one of ours too. `relayed` allows the names of loopback on a tailnet.
    pub(super) fn accept(&self, uri: &Uri, headers: &HeaderMap, relayed: bool) -> bool {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().ok().and_then(|text| text.parse::<Authority>().ok()),
            _ => None,
        };
        host.is_some_and(|host| self.has(&host, relayed))
            && uri.authority().is_none_or(|authority| self.has(authority, relayed))
    }

    fn has(&self, authority: &Authority, relayed: bool) -> bool {
        // `ours@evil` and `evil@ours` are read differently by different programs.
        if authority.as_str().contains('@') {
            return false;
        }
        let host = authority.host();
        let host = host.strip_suffix('.').unwrap_or(host);
        let known = self.known.load();
        let named = |name: &String| same(host, name);
        known.own.iter().any(named)
            || self.configured.iter().any(|name| named(name) && (relayed || !known.on_tailnet || !is_local(name)))
    }
}

/// Whether both are the same name, or the same address however IPv6 is spelled.
fn same(host: &str, name: &str) -> bool {
    host.eq_ignore_ascii_case(name) || (host.starts_with('[') && ipv6(host).is_some_and(|ip| Some(ip) == ipv6(name)))
}

fn ipv6(text: &str) -> Option<Ipv6Addr> {
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// Whether a name means the machine that looks it up.
fn is_local(name: &str) -> bool {
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        || ipv6(name).is_some_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Http, tailnet::OwnNode};

    fn names(state: NodeState) -> Names {
        let mut hosts = Http::default().hosts;
        hosts.push("gateway.example.org".to_owned());
        let names = Names::new(hosts);
        names.follow(&status(state, "Tailops.Example.ts.net"));
        names
    }

    fn status(state: NodeState, name: &str) -> NodeStatus {
        let own = OwnNode {
            id: "nSELF".to_owned(),
            name: name.to_owned(),
            tags: vec!["tag:tailops".to_owned()],
            user: None,
            addresses: vec!["100.64.0.1".parse().unwrap(), "fd7a:115c:a1e0::1".parse().unwrap()],
            key_expiry: None,
            certificate_names: Vec::new(),
        };
        let own = (state != NodeState::Loopback).then_some(own);
        NodeStatus { own, ..NodeStatus::of_state(state) }
    }

    fn accepted(names: &Names, host: &str, relayed: bool) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        names.accept(&Uri::from_static("/mcp"), &headers, relayed)
    }

    #[test]
    fn p15_the_nodes_names_are_learned() {
        let names = names(NodeState::Running);
        for host in [
            "tailops.example.ts.net",
            "TAILOPS.example.ts.net:8080",
            "tailops.example.ts.net.",
            "tailops.example.ts.net.:443",
            "tailops",
            "tailops:8080",
            "100.64.0.1",
            "100.64.0.1:8080",
            "[fd7a:115c:a1e0::1]",
            "[fd7a:115c:a1e0:0:0:0:0:1]:8080",
            "gateway.example.org:1",
        ] {
            assert!(accepted(&names, host, false), "{host}");
        }
        names.follow(&status(NodeState::Running, "tailops-1.example.ts.net"));
        assert!(accepted(&names, "tailops-1", false) && !accepted(&names, "tailops", false), "the name has changed");
    }

    #[test]
    fn p15_any_other_name_is_refused() {
        let names = names(NodeState::Running);
        for host in [
            "",
            ".",
            "evil.example",
            "tailops.evil.example",
            "tailops.example.ts.net.evil.example",
            "tailops.example.ts.net..",
            "tailops@evil.example",
            "evil@tailops",
            "evil:x@tailops:8080",
            "100.64.0.2",
            "[fd7a:115c:a1e0::2]",
            "fd7a:115c:a1e0::1",
            "[::ffff:100.64.0.1]",
            "1681915905",
        ] {
            assert!(!accepted(&names, host, false) && !accepted(&names, host, true), "{host}");
        }
        for hosts in [vec![], vec!["tailops", "tailops"], vec!["tailops", "evil.example"]] {
            let mut headers = HeaderMap::new();
            for host in &hosts {
                headers.append(header::HOST, host.parse().unwrap());
            }
            assert!(!names.accept(&Uri::from_static("/"), &headers, false), "{hosts:?}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "tailops".parse().unwrap());
        assert!(
            !names.accept(&Uri::from_static("http://evil.example/"), &headers, false),
            "the request line counts too"
        );
        assert!(names.accept(&Uri::from_static("http://tailops:80/"), &headers, false));
    }

    #[test]
    fn p15_on_a_tailnet_loopback_names_are_for_relays() {
        for host in ["localhost", "127.0.0.1:8080", "[::1]:8080", "[0:0:0:0:0:0:0:1]"] {
            assert!(!accepted(&names(NodeState::Running), host, false), "{host}");
            assert!(accepted(&names(NodeState::Running), host, true), "{host}");
            assert!(accepted(&names(NodeState::Loopback), host, false), "{host}");
            assert!(!accepted(&Names::new(Http::default().hosts), host, false), "{host}: before the first look");
        }
        assert!(!accepted(&names(NodeState::Loopback), "tailops", false));
    }
}

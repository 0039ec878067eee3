//! Whom a tailnet policy lets reach what, as far as its text alone says: groups, hosts, tags, autogroups, networks,
//! ports and protocols. What depends on something else (which node has an address, who is in a synchronised group) is
//! said to be unknown, never guessed.

use std::net::IpAddr;

use super::hujson::{Document, Node};
use crate::model::Network;

/// An answer that may be unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Answer {
    No,
    Unknown,
    Yes,
}

impl Answer {
    fn of(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }

    /// Yes where one is, else unknown where one is.
    pub(super) fn any(answers: impl IntoIterator<Item = Self>) -> Self {
        answers.into_iter().max().unwrap_or(Self::No)
    }

    /// No where one is, else unknown where one is.
    pub(super) fn all(answers: impl IntoIterator<Item = Self>) -> Self {
        answers.into_iter().min().unwrap_or(Self::Yes)
    }
}

/// A device that rules may name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Device<'a> {
    /// One with these tags, and an address nobody knows here.
    Tagged(&'a [String]),
    /// The one with this address.
    At(IpAddr),
}

/// One rule that opens something: a grant, or an entry of `acls`.
#[derive(Debug)]
pub(super) struct Rule<'d> {
    pub(super) node: &'d Node,
    pub(super) src: Vec<&'d str>,
    /// What it opens, with the ports of each.
    to: Vec<(&'d str, Ports<'d>)>,
    /// Whether it holds only for some devices or some ways.
    pub(super) conditional: bool,
}

/// Ports as they are written.
#[derive(Clone, Debug)]
enum Ports<'d> {
    /// `ip` of a grant: each with its protocol.
    Grant(Vec<&'d str>),
    /// Behind the colon of an entry of `acls`, and that entry's `proto`.
    Acl(&'d str, Option<&'d str>),
}

/// Everything that a policy opens, in its order. A grant without `ip` opens nothing, so it has no ports.
pub(super) fn rules<'d>(document: &'d Document<'_>) -> Vec<Rule<'d>> {
    let conditional = |node: &Node| ["srcPosture", "via"].iter().any(|name| node.get(name).is_some());
    let grants = document.list("grants").iter().map(|node| {
        let ports = Ports::Grant(node.texts("ip"));
        let to = node.texts("dst").into_iter().map(|dst| (dst, ports.clone())).collect();
        Rule { node, src: node.texts("src"), to, conditional: conditional(node) }
    });
    let acls = document.list("acls").iter().filter(|node| node.get("action").and_then(Node::text) == Some("accept"));
    let acls = acls.map(|node| {
        let proto = node.get("proto").and_then(Node::text);
        let to = node.texts("dst").into_iter().filter_map(|dst| dst.rsplit_once(':'));
        let to = to.map(|(dst, ports)| (dst, Ports::Acl(ports, proto))).collect();
        Rule { node, src: node.texts("src"), to, conditional: conditional(node) }
    });
    grants.chain(acls).collect()
}

impl Rule<'_> {
    /// Whether it opens this TCP port of this device. A condition makes a yes unknown.
    pub(super) fn opens(&self, document: &Document<'_>, device: Device<'_>, port: u16) -> Answer {
        let opened = self.to.iter().map(|(dst, ports)| Answer::all([selects(document, dst, device), ports.hold(port)]));
        let opened = Answer::any(opened);
        if self.conditional { opened.min(Answer::Unknown) } else { opened }
    }

    /// Whether its source has this tag, group or user.
    pub(super) fn admits(&self, document: &Document<'_>, who: &str) -> Answer {
        Answer::any(self.src.iter().map(|selector| includes(document, selector, who)))
    }

    /// Whether it names this device by nothing but what stands for many.
    pub(super) fn names_everything(&self) -> bool {
        self.to.iter().any(|(dst, _)| *dst == "*")
    }

    /// Whether it opens every port of every device.
    pub(super) fn opens_everything(&self) -> bool {
        self.to
            .iter()
            .any(|(dst, ports)| *dst == "*" && ports.hold(1) == Answer::Yes && ports.hold(65535) == Answer::Yes)
    }
}

impl Ports<'_> {
    fn hold(&self, port: u16) -> Answer {
        match self {
            Self::Grant(list) => Answer::any(list.iter().map(|entry| match entry.split_once(':') {
                Some((proto, ports)) => Answer::all([is_tcp(proto), range(ports, port)]),
                None => range(entry, port),
            })),
            Self::Acl(ports, proto) => {
                let ports = Answer::any(ports.split(',').map(|part| range(part.trim(), port)));
                Answer::all([proto.map_or(Answer::Yes, is_tcp), ports])
            }
        }
    }
}

fn is_tcp(proto: &str) -> Answer {
    match proto {
        "tcp" | "6" | "*" => Answer::Yes,
        "udp" | "17" | "icmp" | "1" | "ipv6-icmp" | "58" | "sctp" | "132" | "igmp" | "ipv4" | "ip-in-ip" | "egp"
        | "igp" | "gre" | "esp" | "ah" => Answer::No,
        other => other.parse::<u8>().map_or(Answer::Unknown, |_| Answer::No),
    }
}

fn range(ports: &str, port: u16) -> Answer {
    if ports == "*" {
        return Answer::Yes;
    }
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) => Answer::of((first..=last).contains(&port)),
        _ => Answer::Unknown,
    }
}

/// The addresses that a text names: an address, a network, or the name of one in `hosts`.
fn network(document: &Document<'_>, selector: &str) -> Option<Network> {
    let parse = |text: &str| {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), |bits| bits.parse::<u32>().ok()).filter(|bits| *bits <= most)?;
        // Control servers ignore the bits behind the prefix.
        let first = match address {
            IpAddr::V4(ip) => {
                IpAddr::from((ip.to_bits() & u32::MAX.checked_shl(most - bits).unwrap_or(0)).to_be_bytes())
            }
            IpAddr::V6(ip) => {
                IpAddr::from((ip.to_bits() & u128::MAX.checked_shl(most - bits).unwrap_or(0)).to_be_bytes())
            }
        };
        format!("{first}/{bits}").parse::<Network>().ok()
    };
    let named = document.map("hosts").iter().find(|host| host.name == selector).and_then(|host| host.value.text());
    parse(named.unwrap_or(selector.trim_start_matches('[').trim_end_matches(']')))
}

/// Whether a network has every address of a tailnet.
fn is_whole_tailnet(network: &Network) -> bool {
    let ends = [["100.64.0.0", "100.127.255.255"], ["fd7a:115c:a1e0::", "fd7a:115c:a1e0:ffff:ffff:ffff:ffff:ffff"]];
    ends.iter().any(|ends| ends.iter().all(|end| end.parse().is_ok_and(|ip| network.contains(ip))))
}

/// Whether `selector`, as a destination, means this device.
fn selects(document: &Document<'_>, selector: &str, device: Device<'_>) -> Answer {
    if selector == "*" {
        return Answer::Yes;
    }
    match device {
        Device::Tagged(tags) => {
            if selector.starts_with("tag:") {
                return Answer::of(tags.iter().any(|tag| tag == selector));
            }
            match selector {
                "autogroup:tagged" => return Answer::Yes,
                // These stand for the devices of people, or for what is not in the tailnet.
                "autogroup:member" | "autogroup:self" | "autogroup:internet" => return Answer::No,
                _ => {}
            }
            if selector.starts_with("group:") || selector.starts_with("svc:") || selector.contains('@') {
                return Answer::No;
            }
            network(document, selector).filter(is_whole_tailnet).map_or(Answer::Unknown, |_| Answer::Yes)
        }
        Device::At(address) => match network(document, selector) {
            Some(network) => Answer::of(network.contains(address)),
            None if selector == "autogroup:self" || selector.starts_with("svc:") => Answer::No,
            None => Answer::Unknown,
        },
    }
}

/// Whether `selector`, as a source, means this tag, group or user: for a group, everybody in it.
fn includes(document: &Document<'_>, selector: &str, who: &str) -> Answer {
    if selector == who || matches!(selector, "*" | "autogroup:danger-all") {
        return Answer::Yes;
    }
    let tagged = who.starts_with("tag:");
    if let Some(network) = network(document, selector) {
        return if is_whole_tailnet(&network) { Answer::Yes } else { Answer::Unknown };
    }
    if let Some(group) = document.map("groups").iter().find(|group| group.name == selector) {
        let users: Vec<&str> = group.value.items().iter().filter_map(Node::text).collect();
        return match document.map("groups").iter().find(|group| group.name == who) {
            Some(own) => {
                let own = own.value.items();
                Answer::of(
                    !own.is_empty() && own.iter().all(|user| user.text().is_some_and(|user| users.contains(&user))),
                )
            }
            None if who.starts_with("group:") => Answer::Unknown,
            None => Answer::of(!tagged && users.contains(&who)),
        };
    }
    match selector {
        "autogroup:tagged" => Answer::of(tagged),
        "autogroup:member" => Answer::of(!tagged),
        _ if selector.starts_with("tag:") => Answer::No,
        // Another user; a group that somebody else fills.
        _ if selector.contains('@') && !selector.starts_with("group:") => {
            if who.starts_with("group:") {
                Answer::Unknown
            } else {
                Answer::No
            }
        }
        _ if tagged && (selector.starts_with("group:") || selector.starts_with("autogroup:")) => Answer::No,
        _ => Answer::Unknown,
    }
}

/// Whether a grant's destinations mean this device, whatever its ports.
pub(super) fn means(document: &Document<'_>, grant: &Node, device: Device<'_>) -> Answer {
    Answer::any(grant.texts("dst").into_iter().map(|dst| selects(document, dst, device)))
}

/// How many a source stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// Everybody, or everybody of one sort.
    Everybody,
    /// Whoever has an address: no identity.
    Addresses,
    /// Those who are named.
    Named,
}

pub(super) fn width(document: &Document<'_>, selector: &str) -> Width {
    let everybody =
        ["*", "autogroup:danger-all", "autogroup:member", "autogroup:members", "autogroup:tagged", "autogroup:shared"];
    if everybody.contains(&selector) {
        return Width::Everybody;
    }
    match network(document, selector) {
        Some(network) if is_whole_tailnet(&network) => Width::Everybody,
        Some(_) => Width::Addresses,
        None if selector.starts_with("ipset:") => Width::Addresses,
        None => Width::Named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"{
        "groups": {"group:ops": ["a@x.org", "b@x.org"], "group:few": ["a@x.org"], "group:none": []},
        "hosts": {"one": "100.64.0.1", "lan": "10.0.0.0/8", "all": "0.0.0.0/0"},
    }"#;

    #[test]
    fn who_is_in_a_source() {
        let document = Document::read(POLICY).unwrap();
        let (yes, no, unknown) = (Answer::Yes, Answer::No, Answer::Unknown);
        for (selector, who, wanted) in [
            ("*", "tag:a", yes),
            ("autogroup:danger-all", "a@x.org", yes),
            ("tag:a", "tag:a", yes),
            ("tag:a", "tag:b", no),
            ("tag:a", "a@x.org", no),
            ("autogroup:tagged", "tag:a", yes),
            ("autogroup:tagged", "a@x.org", no),
            ("autogroup:member", "tag:a", no),
            ("autogroup:member", "a@x.org", yes),
            ("autogroup:admin", "a@x.org", unknown),
            ("autogroup:admin", "tag:a", no),
            ("group:ops", "a@x.org", yes),
            ("group:ops", "c@x.org", no),
            ("group:ops", "tag:a", no),
            ("group:ops", "group:few", yes),
            ("group:few", "group:ops", no),
            ("group:ops", "group:none", no),
            ("group:ops", "group:synced@x.org", unknown),
            ("group:synced@x.org", "a@x.org", unknown),
            ("a@x.org", "b@x.org", no),
            ("a@x.org", "group:ops", unknown),
            ("100.64.0.7", "tag:a", unknown),
            ("one", "tag:a", unknown),
            ("all", "tag:a", yes),
            ("100.65.0.1/10", "tag:a", yes),
            ("100.64.0.0/11", "tag:a", unknown),
            ("fd7a:115c:a1e0::/48", "tag:a", yes),
            ("::1/0", "tag:a", yes),
            ("100.64.0.0/10", "tag:a", yes),
            ("ipset:x", "a@x.org", unknown),
        ] {
            assert_eq!(includes(&document, selector, who), wanted, "{selector} {who}");
        }
    }

    #[test]
    fn what_a_destination_means() {
        let document = Document::read(POLICY).unwrap();
        let tags = ["tag:gw".to_owned()];
        for (selector, tagged, at) in [
            ("*", Answer::Yes, Answer::Yes),
            ("tag:gw", Answer::Yes, Answer::Unknown),
            ("tag:other", Answer::No, Answer::Unknown),
            ("autogroup:tagged", Answer::Yes, Answer::Unknown),
            ("autogroup:member", Answer::No, Answer::Unknown),
            ("autogroup:self", Answer::No, Answer::No),
            ("svc:mcp", Answer::No, Answer::No),
            ("a@x.org", Answer::No, Answer::Unknown),
            ("one", Answer::Unknown, Answer::Yes),
            ("100.64.0.1", Answer::Unknown, Answer::Yes),
            ("100.64.0.2", Answer::Unknown, Answer::No),
            ("lan", Answer::Unknown, Answer::No),
            ("all", Answer::Yes, Answer::Yes),
            ("100.64.0.0/10", Answer::Yes, Answer::Yes),
            ("nobody-knows", Answer::Unknown, Answer::Unknown),
        ] {
            assert_eq!(selects(&document, selector, Device::Tagged(&tags)), tagged, "{selector}");
            let address = "100.64.0.1".parse().unwrap();
            assert_eq!(selects(&document, selector, Device::At(address)), at, "{selector}");
        }
    }

    #[test]
    fn which_ports_are_opened() {
        let grant = |entry| Ports::Grant(vec![entry]).hold(443);
        let acl = |ports, proto| Ports::Acl(ports, proto).hold(443);
        for open in ["*", "443", "80-443", "tcp:443", "tcp:1-65535", "tcp:*", "6:443", "*:443"] {
            assert_eq!(grant(open), Answer::Yes, "{open}");
        }
        for shut in ["80", "444-500", "udp:443", "udp:*", "icmp:*", "tcp:80", "500-80", "47:*"] {
            assert_eq!(grant(shut), Answer::No, "{shut}");
        }
        for odd in ["https", "tcp:https", "new:443", ""] {
            assert_eq!(grant(odd), Answer::Unknown, "{odd}");
        }
        assert_eq!(Ports::Grant(Vec::new()).hold(443), Answer::No, "a grant without ip opens nothing");
        assert_eq!((acl("22,443", None), acl("22,80-90", None)), (Answer::Yes, Answer::No));
        assert_eq!(
            (acl("*", Some("udp")), acl("*", Some("tcp")), acl("ssh", None)),
            (Answer::No, Answer::Yes, Answer::Unknown)
        );
    }
}

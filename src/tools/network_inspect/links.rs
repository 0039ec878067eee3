//! Reads interfaces, routes, neighbours, resolver settings and counters: from `ip -j` or, without iproute2, from
//! `/proc/net` and `/sys/class/net` (`proc(5)`). Parses text only.

use std::{collections::BTreeMap, net::Ipv6Addr};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::sockets::hex_address;

#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Interface {
    pub(super) name: String,
    /// up, down or unknown
    pub(super) state: String,
    pub(super) mac: Option<String>,
    pub(super) mtu: Option<u64>,
    /// With prefix length
    pub(super) addresses: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Route {
    /// With prefix length, or `default`
    pub(super) destination: String,
    pub(super) gateway: Option<String>,
    pub(super) interface: Option<String>,
    pub(super) source: Option<String>,
    pub(super) table: String,
    pub(super) metric: Option<u64>,
    /// 4 or 6
    pub(super) family: u8,
}

#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Neighbour {
    pub(super) address: String,
    pub(super) mac: Option<String>,
    pub(super) interface: Option<String>,
    pub(super) state: Option<String>,
}

/// From resolv.conf(5).
#[derive(Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Dns {
    pub(super) nameservers: Vec<String>,
    pub(super) search: Vec<String>,
    pub(super) options: Vec<String>,
}

/// Since the interface came up.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Traffic {
    pub(super) interface: String,
    pub(super) rx_bytes: u64,
    pub(super) rx_packets: u64,
    pub(super) rx_errors: u64,
    pub(super) rx_dropped: u64,
    pub(super) tx_bytes: u64,
    pub(super) tx_packets: u64,
    pub(super) tx_errors: u64,
    pub(super) tx_dropped: u64,
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).map(str::to_owned)
}

/// The objects of a JSON array, as `ip -j` prints; none if it is no array. `ip` prints nothing at all for an empty list.
fn objects(json: &str) -> Option<Vec<Value>> {
    if json.trim().is_empty() { Some(Vec::new()) } else { serde_json::from_str(json).ok() }
}

/// `ip -j addr`.
pub(super) fn interfaces_from_ip(json: &str) -> Option<Vec<Interface>> {
    let one = |link: &Value| {
        let addresses = link.get("addr_info").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let address = |info: &Value| Some(format!("{}/{}", text(info, "local")?, info.get("prefixlen")?.as_u64()?));
        Some(Interface {
            name: text(link, "ifname")?,
            state: text(link, "operstate").unwrap_or_else(|| "unknown".into()).to_lowercase(),
            mac: text(link, "address"),
            mtu: link.get("mtu").and_then(Value::as_u64),
            addresses: addresses.iter().filter_map(address).collect(),
        })
    };
    // `ip -j addr` may print an empty object for an interface that vanished meanwhile.
    Some(objects(json)?.iter().filter_map(one).collect())
}

/// Lines `NAME STATE MTU MAC` and `/proc/net/if_inet6`.
pub(super) fn interfaces_from_sys(links: &str, inet6: &str) -> Vec<Interface> {
    let of_link = |name: &str| {
        let address = |line: &str| {
            let mut words = line.split_whitespace();
            let bits = u128::from_str_radix(words.next()?, 16).ok()?;
            let prefix = u8::from_str_radix(words.nth(1)?, 16).ok()?;
            (words.nth(2)? == name).then(|| format!("{}/{prefix}", Ipv6Addr::from_bits(bits)))
        };
        inet6.lines().filter_map(address).collect()
    };
    let one = |line: &str| {
        let mut words = line.split(' ');
        let (name, state, mtu) = (words.next()?, words.next()?, words.next()?);
        let mac = words.next().filter(|mac| !mac.is_empty()).map(str::to_owned);
        let (name, state) = (name.to_owned(), state.to_owned());
        Some(Interface { addresses: of_link(&name), name, state, mac, mtu: mtu.parse().ok() })
    };
    links.lines().filter_map(one).collect()
}

/// `ip -j route show table all` of one family, without the kernel's own local, broadcast and multicast routes.
pub(super) fn routes_from_ip(json: &str, family: u8) -> Option<Vec<Route>> {
    let one = |route: &Value| {
        if matches!(text(route, "type").as_deref(), Some("local" | "broadcast" | "multicast" | "anycast")) {
            return None;
        }
        Some(Route {
            destination: text(route, "dst")?,
            gateway: text(route, "gateway"),
            interface: text(route, "dev"),
            source: text(route, "prefsrc"),
            table: text(route, "table").unwrap_or_else(|| "main".into()),
            metric: route.get("metric").and_then(Value::as_u64),
            family,
        })
    };
    Some(objects(json)?.iter().filter_map(one).collect())
}

/// `/proc/net/route`: the main table, IPv4.
pub(super) fn routes_from_proc4(table: &str) -> Vec<Route> {
    let one = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [interface, destination, gateway, _flags, _references, _use, metric, mask, ..] = words.as_slice() else {
            return None;
        };
        let prefix = u32::from_str_radix(mask, 16).ok()?.count_ones();
        let destination = hex_address(destination)?;
        let gateway = hex_address(gateway)?;
        Some(Route {
            destination: if prefix == 0 { "default".into() } else { format!("{destination}/{prefix}") },
            gateway: (!gateway.is_unspecified()).then(|| gateway.to_string()),
            interface: Some((*interface).to_owned()),
            source: None,
            table: "main".into(),
            metric: metric.parse().ok(),
            family: 4,
        })
    };
    table.lines().skip(1).filter_map(one).collect()
}

/// `/proc/net/ipv6_route`, without local routes (flag 0x80000000) and multicast.
pub(super) fn routes_from_proc6(table: &str) -> Vec<Route> {
    let one = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [destination, prefix, _source, _source_prefix, gateway, metric, _references, _use, flags, interface] =
            words.as_slice()
        else {
            return None;
        };
        let address = |text: &str| u128::from_str_radix(text, 16).ok().map(Ipv6Addr::from_bits);
        let prefix = u8::from_str_radix(prefix, 16).ok()?;
        let (destination, gateway) = (address(destination)?, address(gateway)?);
        let is_local = u32::from_str_radix(flags, 16).ok()? & 0x8000_0000 != 0;
        // The kernel closes the table with a reject route on lo for everything else.
        if is_local || destination.is_multicast() || *interface == "lo" {
            return None;
        }
        Some(Route {
            destination: if prefix == 0 { "default".into() } else { format!("{destination}/{prefix}") },
            gateway: (!gateway.is_unspecified()).then(|| gateway.to_string()),
            interface: Some((*interface).to_owned()),
            source: None,
            table: "main".into(),
            metric: u64::from_str_radix(metric, 16).ok(),
            family: 6,
        })
    };
    table.lines().filter_map(one).collect()
}

/// `ip -j neigh`.
pub(super) fn neighbours_from_ip(json: &str) -> Option<Vec<Neighbour>> {
    let one = |neighbour: &Value| {
        Some(Neighbour {
            address: text(neighbour, "dst")?,
            mac: text(neighbour, "lladdr"),
            interface: text(neighbour, "dev"),
            state: neighbour.get("state").and_then(|state| state.get(0)).and_then(Value::as_str).map(str::to_owned),
        })
    };
    Some(objects(json)?.iter().filter_map(one).collect())
}

/// `/proc/net/arp`: IPv4 only.
pub(super) fn neighbours_from_proc(table: &str) -> Vec<Neighbour> {
    let one = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [address, _kind, flags, mac, _mask, interface] = words.as_slice() else { return None };
        let complete = *flags != "0x0";
        Some(Neighbour {
            address: (*address).to_owned(),
            mac: complete.then(|| (*mac).to_owned()),
            interface: Some((*interface).to_owned()),
            state: None,
        })
    };
    table.lines().skip(1).filter_map(one).collect()
}

/// `/etc/resolv.conf`. The last `search` or `domain` line counts, every `nameserver` and `options` line does.
pub(super) fn dns(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let keyword = words.next();
        let values = words.map(str::to_owned);
        match keyword {
            Some("nameserver") => dns.nameservers.extend(values.take(1)),
            Some("search" | "domain") => dns.search = values.collect(),
            Some("options") => dns.options.extend(values),
            _ => {}
        }
    }
    dns
}

/// `/proc/net/dev`.
pub(super) fn traffic(table: &str) -> Vec<Traffic> {
    let one = |line: &str| {
        let (interface, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers.split_whitespace().map_while(|number| number.parse().ok()).collect();
        let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped, ..] =
            *numbers.as_slice()
        else {
            return None;
        };
        let interface = interface.trim().to_owned();
        Some(Traffic {
            interface,
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
        })
    };
    table.lines().filter_map(one).collect()
}

/// `/proc/net/snmp`: pairs of lines, names then numbers, as `TcpRetransSegs`.
pub(super) fn protocols(table: &str) -> BTreeMap<String, i64> {
    let mut counters = BTreeMap::new();
    let mut lines = table.lines();
    while let (Some(names), Some(numbers)) = (lines.next(), lines.next()) {
        let (Some((protocol, names)), Some((_, numbers))) = (names.split_once(':'), numbers.split_once(':')) else {
            continue;
        };
        for (name, number) in names.split_whitespace().zip(numbers.split_whitespace()) {
            if let Ok(number) = number.parse() {
                counters.insert(format!("{protocol}{name}"), number);
            }
        }
    }
    counters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_proc() {
        let routes = routes_from_proc4(
            "Iface\tDestination\tGateway\neth0\t00000000\t010200C0\t0003\t0\t0\t5\t00000000\t0\t0\t0\neth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\nbroken\n",
        );
        assert_eq!(routes.len(), 2);
        assert_eq!(
            (&*routes[0].destination, routes[0].gateway.as_deref(), routes[0].metric),
            ("default", Some("192.0.2.1"), Some(5))
        );
        assert_eq!(routes[1].destination, "192.0.2.0/24");
        let six = routes_from_proc6(
            "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth0\n00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000003 00000000 80200001 lo\n",
        );
        assert_eq!(six.len(), 1);
        assert_eq!((&*six[0].destination, six[0].metric), ("fd00::/64", Some(256)));
        let arp = neighbours_from_proc(
            "IP address HW\n192.0.2.1 0x1 0x2 02:fc:00:00:00:05 * eth0\n192.0.2.9 0x1 0x0 00:00:00:00:00:00 * eth0\n",
        );
        assert_eq!((arp[0].mac.as_deref(), arp[1].mac.as_deref()), (Some("02:fc:00:00:00:05"), None));
        let links = interfaces_from_sys(
            "lo unknown 65536 00:00:00:00:00:00\ntun0 up 1500 \n",
            "00000000000000000000000000000001 01 80 10 80       lo\n",
        );
        assert_eq!((&links[0].addresses[..], links[1].mac.as_deref()), (&["::1/128".to_owned()][..], None));
    }

    #[test]
    fn resolver_and_counters() {
        let dns = dns("# c\nnameserver 192.0.2.1 x\nsearch a b\ndomain c\noptions ndots:2 rotate\n");
        assert_eq!(
            (dns.nameservers, dns.search, dns.options.len()),
            (vec!["192.0.2.1".to_owned()], vec!["c".to_owned()], 2)
        );
        let traffic = traffic("Inter-| Receive\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n x: 1\n");
        assert_eq!((traffic.len(), traffic[0].rx_dropped, traffic[0].tx_bytes), (1, 4, 9));
        let protocols = protocols("Tcp: RetransSegs MaxConn\nTcp: 7 -1\nodd\n");
        assert_eq!((protocols["TcpRetransSegs"], protocols["TcpMaxConn"]), (7, -1));
    }
}

//! Plain HTTP where anybody could read it: which listeners of a configuration that would be. Answers for what the text
//! alone shows; whether an address of the tailnet's ranges is really the node's own, only the node knows.

use std::net::{IpAddr, SocketAddr};

use super::{Config, Node, Tls};

/// A listener that would carry plain HTTP over a network that others share.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "refused to serve plain HTTP on {0}, which is neither loopback nor an address of the node on the tailnet: leave \
     node.listen out, or name an address of the node or 127.0.0.1 there, or set tls.certificate_from"
)]
pub struct ClearListener(pub SocketAddr);

impl Config {
    /// The first listener that must not be without TLS, whatever the node's addresses are.
    pub fn clear_listener(&self) -> Option<ClearListener> {
        let Node::Host(host) = &self.node else { return None };
        let listen = host.listen.as_ref().filter(|_| self.tls == Tls::Off)?;
        listen.iter().find(|address| !may_be_private(address.ip())).copied().map(ClearListener)
    }
}

/// Whether `ip` is loopback or in one of the ranges that tailnets have their addresses from.
pub(crate) fn may_be_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || matches!(ip.octets(), [100, 64..=127, _, _]),
        IpAddr::V6(ip) => ip.is_loopback() || matches!(ip.segments(), [0xfd7a, 0x115c, 0xa1e0, ..]),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::HostNode;

    fn refused(listen: &str, tls: Tls) -> bool {
        let mut config = Config::development(PathBuf::from("/x"), "127.0.0.1:1".parse().unwrap());
        let listen = Some(vec!["127.0.0.1:8080".parse().unwrap(), listen.parse().unwrap()]);
        config.node = Node::Host(HostNode { socket: PathBuf::from("/run/x"), port: 8080, listen });
        config.tls = tls;
        config.clear_listener().is_some()
    }

    #[test]
    fn p12_plain_http_stays_on_loopback_and_the_tailnet() {
        for address in [
            "0.0.0.0:8080",
            "[::]:8080",
            "[::ffff:0.0.0.0]:8080",
            "192.168.1.4:8080",
            "10.0.0.1:80",
            "203.0.113.9:8080",
            "100.63.255.255:8080",
            "100.128.0.1:8080",
            "[fe80::1]:8080",
            "[fd00::1]:8080",
            "[fd7a:115c:a1e1::1]:8080",
            "[2001:db8::1]:8080",
            "[::ffff:10.0.0.1]:8080",
        ] {
            assert!(refused(address, Tls::Off), "{address}");
            assert!(!refused(address, Tls::Node), "{address}");
        }
        for address in
            ["127.0.0.1:1", "127.0.0.2:1", "[::1]:1", "100.64.0.1:1", "100.127.255.254:1", "[fd7a:115c:a1e0::1]:1"]
        {
            assert!(!refused(address, Tls::Off), "{address}");
        }
    }

    #[test]
    fn p12_the_reason_names_the_address_and_the_ways_out() {
        let text = ClearListener("0.0.0.0:8080".parse().unwrap()).to_string();
        for part in ["0.0.0.0:8080", "node.listen", "127.0.0.1", "tls.certificate_from"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

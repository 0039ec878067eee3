//! Reads sockets as `ss -H -O` prints them or as `/proc/net/{tcp,tcp6,udp,udp6}` lists them (`proc(5)`). Parses text only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use schemars::JsonSchema;
use serde::Serialize;

/// One socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Socket {
    /// tcp or udp
    pub(super) protocol: String,
    /// In the words of `ss`: LISTEN, ESTAB, TIME-WAIT, UNCONN, ...
    pub(super) state: String,
    pub(super) address: String,
    /// Null where any port is meant
    pub(super) port: Option<u16>,
    pub(super) peer_address: Option<String>,
    pub(super) peer_port: Option<u16>,
    /// Null where the login user may not see it
    pub(super) process: Option<String>,
    pub(super) pid: Option<u32>,
}

impl Socket {
    /// Whether it waits for others rather than talks to one.
    pub(super) fn listens(&self) -> bool {
        matches!(self.state.as_str(), "LISTEN" | "UNCONN")
    }
}

/// One line of `ss -H -O -tunap`: protocol, state, two queues, local, peer, processes.
pub(super) fn from_ss(line: &str) -> Option<Socket> {
    let mut words = line.split_whitespace();
    let (protocol, state) = (words.next()?, words.next()?);
    let (_received, _sent) = (words.next()?, words.next()?);
    let (address, port) = endpoint(words.next()?)?;
    let (peer_address, peer_port) = endpoint(words.next()?)?;
    let (process, pid) = line.split_once("users:((\"").and_then(|(_, users)| owner(users)).unzip();
    Some(Socket {
        protocol: protocol.to_owned(),
        state: state.to_owned(),
        address,
        port,
        peer_address: peer_port.is_some().then_some(peer_address),
        peer_port,
        process,
        pid,
    })
}

/// The first of `ss`'s users: `NAME",pid=N,fd=…`.
fn owner(users: &str) -> Option<(String, u32)> {
    let (name, rest) = users.split_once("\",pid=")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((name.to_owned(), digits.parse().ok()?))
}

fn endpoint(text: &str) -> Option<(String, Option<u16>)> {
    let (address, port) = text.rsplit_once(':')?;
    let port = match port {
        "*" => None,
        port => Some(port.parse().ok()?),
    };
    Some((address.replace(['[', ']'], ""), port))
}

/// The states of `/proc/net/tcp` by number (the kernel's `tcp_states.h`), in the words of `ss`.
const STATES: &[&str] = &[
    "ESTAB",
    "SYN-SENT",
    "SYN-RECV",
    "FIN-WAIT-1",
    "FIN-WAIT-2",
    "TIME-WAIT",
    "UNCONN",
    "CLOSE-WAIT",
    "LAST-ACK",
    "LISTEN",
    "CLOSING",
];

/// One line of `/proc/net/PROTOCOL`; none for its heading.
pub(super) fn from_proc(protocol: &str, line: &str) -> Option<Socket> {
    let mut words = line.split_whitespace().skip(1);
    let (address, port) = hex_endpoint(words.next()?)?;
    let (peer_address, peer_port) = hex_endpoint(words.next()?)?;
    let number = usize::from_str_radix(words.next()?, 16).ok()?;
    let state = STATES.get(number.checked_sub(1)?)?;
    Some(Socket {
        protocol: protocol.trim_end_matches('6').to_owned(),
        state: (*state).to_owned(),
        address: address.to_string(),
        port: Some(port),
        peer_address: (peer_port != 0).then(|| peer_address.to_string()),
        peer_port: Some(peer_port).filter(|port| *port != 0),
        process: None,
        pid: None,
    })
}

fn hex_endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    Some((hex_address(address)?, u16::from_str_radix(port, 16).ok()?))
}

/// An address as the kernel prints it in `/proc/net`: 32-bit words in the machine's byte order, which is little-endian on
/// every machine that is supported.
pub(super) fn hex_address(text: &str) -> Option<IpAddr> {
    let word = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::swap_bytes);
    match text.len() {
        8 => word(text).map(|word| Ipv4Addr::from_bits(word).into()),
        32 => {
            let mut bits = 0_u128;
            for start in [0, 8, 16, 24] {
                bits = bits << 32 | u128::from(word(text.get(start..start + 8)?)?);
            }
            Some(Ipv6Addr::from_bits(bits).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_ss() {
        let listen = from_ss(r#"tcp   LISTEN 0      128             [::]:22            [::]:*    users:(("ssh d",pid=39,fd=4),("x",pid=1,fd=2))"#).unwrap();
        assert!(listen.listens());
        assert_eq!((&*listen.address, listen.port, listen.peer_address.as_deref()), ("::", Some(22), None));
        assert_eq!((listen.process.as_deref(), listen.pid), (Some("ssh d"), Some(39)));
        let talk = from_ss("tcp ESTAB 0 0 127.0.0.1%lo:5000 10.0.0.1:443").unwrap();
        assert!(!talk.listens() && talk.process.is_none());
        assert_eq!((talk.peer_address.as_deref(), talk.peer_port), (Some("10.0.0.1"), Some(443)));
        for bad in ["", "tcp LISTEN 0 0 nowhere x", "tcp LISTEN 0 0 a:99999 b:*", "[… 3 bytes dropped …]"] {
            assert_eq!(from_ss(bad), None, "{bad}");
        }
    }

    #[test]
    fn lines_of_proc() {
        let line = "   0: 0100007F:46A0 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111643";
        let socket = from_proc("tcp", line).unwrap();
        assert_eq!((&*socket.address, socket.port, &*socket.state), ("127.0.0.1", Some(18080), "LISTEN"));
        let six = "  1: 00000000000000000000000001000000:0016 0000000000000000FFFF00000100007F:D431 01 0:0";
        let socket = from_proc("tcp6", six).unwrap();
        assert_eq!((&*socket.address, &*socket.protocol), ("::1", "tcp"));
        assert_eq!(socket.peer_address.as_deref(), Some("::ffff:127.0.0.1"));
        assert_eq!(from_proc("tcp", "  sl  local_address rem_address   st"), None);
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "\\PC{0,80}") {
            let _ = (from_ss(&line), from_proc("tcp", &line), hex_address(&line));
        }
    }
}

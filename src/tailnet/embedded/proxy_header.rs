//! The header that the node's process puts before each connection: the addresses that its network stack knows, in the
//! PROXY protocol, version 2 (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, section 2.2). Takes
//! exactly what our own sender makes, and never reads a byte of what follows.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const COMMAND: u8 = 0x21;
/// TCP over IPv4, and how long its addresses are.
const TCP4: (u8, u16) = (0x11, 12);
/// TCP over IPv6, and how long its addresses are.
const TCP6: (u8, u16) = (0x21, 36);

/// Why a header is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    /// It does not come, or stops.
    #[error("the header does not come: {0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("this is no PROXY header of version 2 for a TCP connection")]
    Form,
    /// An address that no peer can have.
    #[error("the header names an address that no connection on a tailnet can have: {0}")]
    Address(SocketAddr),
}

/// Reads the header: the peer's end, then ours.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<(SocketAddr, SocketAddr), HeaderError> {
    let mut head = [0; 16];
    stream.read_exact(&mut head).await?;
    let mut addresses = vec![0; length(head)?];
    stream.read_exact(&mut addresses).await?;
    let (peer, local) = ends(&addresses).ok_or(HeaderError::Form)?;
    for end in [peer, local] {
        let ip = end.ip();
        let mapped = matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
        if end.port() == 0 || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || mapped {
            return Err(HeaderError::Address(end));
        }
    }
    Ok((peer, local))
}

/// How many bytes of addresses follow.
fn length(head: [u8; 16]) -> Result<usize, HeaderError> {
    let [signature @ .., command, family, high, low] = head;
    let stated = (family, u16::from_be_bytes([high, low]));
    if signature == SIGNATURE && command == COMMAND && [TCP4, TCP6].contains(&stated) {
        Ok(usize::from(stated.1))
    } else {
        Err(HeaderError::Form)
    }
}

fn ends(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (addresses, ports) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    let (from, to) = addresses.split_at_checked(addresses.len() / 2)?;
    let &[a, b, c, d] = ports else { return None };
    Some((
        SocketAddr::new(address(from)?, u16::from_be_bytes([a, b])),
        SocketAddr::new(address(to)?, u16::from_be_bytes([c, d])),
    ))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = || <[u8; 4]>::try_from(bytes).map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
    let sixteen = |_| <[u8; 16]>::try_from(bytes).map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes)));
    four().or_else(sixteen).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header as the specification has it.
    pub(in crate::tailnet::embedded) fn header(peer: SocketAddr, local: SocketAddr) -> Vec<u8> {
        let (family, length) = if peer.is_ipv4() { TCP4 } else { TCP6 };
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([COMMAND, family]);
        bytes.extend(length.to_be_bytes());
        for end in [peer, local] {
            match end.ip() {
                IpAddr::V4(ip) => bytes.extend(ip.octets()),
                IpAddr::V6(ip) => bytes.extend(ip.octets()),
            }
        }
        bytes.extend(peer.port().to_be_bytes());
        bytes.extend(local.port().to_be_bytes());
        bytes
    }

    fn parsed(mut bytes: &[u8]) -> (Result<(SocketAddr, SocketAddr), HeaderError>, &[u8]) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        (runtime.block_on(read(&mut bytes)), bytes)
    }

    fn ends_of(version: u8) -> (SocketAddr, SocketAddr) {
        match version {
            4 => ("100.64.0.2:51234".parse().unwrap(), "100.64.0.1:8080".parse().unwrap()),
            _ => ("[fd7a:115c:a1e0::2]:51234".parse().unwrap(), "[fd7a:115c:a1e0::1]:8080".parse().unwrap()),
        }
    }

    #[test]
    fn the_bytes_that_the_go_side_writes_are_read() {
        // What proxyHeader (node/go/proxy.go) makes of 100.64.0.2:51234 and 100.64.0.1:8080.
        let bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x64\x40\0\x02\x64\x40\0\x01\xc8\x22\x1f\x90GET /";
        let (ends, rest) = parsed(bytes);
        assert_eq!(ends.unwrap(), ends_of(4));
        assert_eq!(rest, b"GET /", "nothing that follows is touched");
        let (peer, local) = ends_of(6);
        assert_eq!(parsed(&header(peer, local)).0.unwrap(), (peer, local));
    }

    #[test]
    fn every_other_form_is_refused() {
        let (peer, local) = ends_of(4);
        let good = header(peer, local);
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        for (bytes, what) in [
            (with(0, b'X'), "another signature"),
            (with(12, 0x20), "command LOCAL"),
            (with(12, 0x11), "version 1"),
            (with(13, 0x12), "UDP"),
            (with(13, 0x31), "a unix socket"),
            (with(13, 0x00), "unspecified"),
            (with(13, 0x21), "IPv6 with the length of IPv4"),
            (with(15, 13), "longer: a TLV"),
            (with(15, 11), "shorter"),
            (with(14, 1), "far longer"),
            (b"PROXY TCP4 100.64.0.2 100.64.0.1 51234 8080\r\n".to_vec(), "version 1 text"),
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "no header"),
        ] {
            assert!(matches!(parsed(&bytes).0, Err(HeaderError::Form)), "{what}");
        }
        for end in 0..good.len() {
            assert!(matches!(parsed(&good[..end]).0, Err(HeaderError::Io(_))), "cut at {end}");
        }
    }

    #[test]
    fn addresses_that_no_peer_has_are_refused() {
        let (_, local) = ends_of(4);
        for bad in ["0.0.0.0:1", "127.0.0.1:1", "224.0.0.1:1", "100.64.0.2:0"] {
            let bad: SocketAddr = bad.parse().unwrap();
            assert!(matches!(parsed(&header(bad, local)).0, Err(HeaderError::Address(found)) if found == bad), "{bad}");
            assert!(parsed(&header(local, bad)).0.is_err(), "{bad} as our end");
        }
        let (_, local) = ends_of(6);
        for bad in ["[::]:1", "[::1]:1", "[ff02::1]:1", "[::ffff:100.64.0.2]:1"] {
            assert!(parsed(&header(bad.parse().unwrap(), local)).0.is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_two_addresses_come_through(peer: [u8; 4], local: [u8; 4], ports: (u16, u16), rest: Vec<u8>) {
            let ends = (SocketAddr::new(peer.into(), ports.0), SocketAddr::new(local.into(), ports.1));
            let mut bytes = header(ends.0, ends.1);
            bytes.extend(&rest);
            match parsed(&bytes) {
                (Ok(found), left) => prop_assert_eq!((found, left), (ends, rest.as_slice())),
                (Err(HeaderError::Address(bad)), _) => prop_assert!(bad == ends.0 || bad == ends.1),
                (Err(error), _) => prop_assert!(false, "{}", error),
            }
        }

        #[test]
        fn no_bytes_make_it_fail_in_another_way(bytes: Vec<u8>) {
            let _ = parsed(&bytes);
        }
    }
}

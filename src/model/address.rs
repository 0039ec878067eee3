//! Which addresses a probe may connect to. Pure: judges addresses, looks nothing up and knows no names.
//!
//! Refused is whatever is not plainly a public address. A site can allow private, loopback and tailnet addresses;
//! nothing allows link-local ones, metadata services or an address that hides another.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A range of addresses, such as `10.1.0.0/16`. The bits behind the prefix are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// A text that is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an address and the length of its prefix, such as \"10.1.0.0/16\", with zeros behind the prefix")]
pub struct NotANetwork;

impl Network {
    const fn v4(address: [u8; 4], bits: u8) -> Self {
        let [a, b, c, d] = address;
        Self { address: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits }
    }

    const fn v6(address: u128, bits: u8) -> Self {
        Self { address: IpAddr::V6(Ipv6Addr::from_bits(address)), bits }
    }

    /// Whether `ip` lies in it. Addresses of the other family never do, mapped ones included.
    pub fn contains(&self, ip: IpAddr) -> bool {
        prefix(ip, self.bits) == Some(numbered(self.address)) && ip.is_ipv4() == self.address.is_ipv4()
    }

    /// Whether all of `other` lies in it.
    fn covers(&self, other: &Self) -> bool {
        self.bits <= other.bits && self.contains(other.address)
    }
}

/// The address as a number, IPv4 at the top, so that prefixes of both families are counted alike.
fn numbered(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// The first `bits` of `ip`; none where it has fewer.
fn prefix(ip: IpAddr, bits: u8) -> Option<u128> {
    if bits > if ip.is_ipv4() { 32 } else { 128 } {
        return None;
    }
    // A shift by the whole width is none at all: then nothing is left of the address.
    let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
    Some(numbered(ip) & mask)
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, bits) = text.split_once('/').ok_or(NotANetwork)?;
        let plain = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let bits = bits.parse::<u8>().ok().filter(|_| plain).ok_or(NotANetwork)?;
        if prefix(address, bits) != Some(numbered(address)) {
            return Err(NotANetwork);
        }
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// What nothing allows, after the IANA registries of special-purpose addresses and the clouds' own pages. Those that
/// lie in a range of [`LOCAL`] are services of the machine the gateway runs on.
const NEVER: &[(Network, &str)] = &[
    (Network::v4([0, 0, 0, 0], 8), "an unspecified address"),
    (Network::v4([100, 100, 100, 100], 32), "the tailnet node's own service address"),
    (Network::v4([100, 100, 100, 200], 32), "a metadata service"),
    (Network::v4([168, 63, 129, 16], 32), "a metadata service"),
    (Network::v4([169, 254, 0, 0], 16), "a link-local address, where metadata services are"),
    (Network::v4([192, 0, 0, 0], 24), "a reserved address"),
    (Network::v4([192, 0, 2, 0], 24), "a documentation address"),
    (Network::v4([192, 88, 99, 0], 24), "a 6to4 relay"),
    (Network::v4([198, 18, 0, 0], 15), "a benchmarking address"),
    (Network::v4([198, 51, 100, 0], 24), "a documentation address"),
    (Network::v4([203, 0, 113, 0], 24), "a documentation address"),
    (Network::v4([224, 0, 0, 0], 4), "a multicast address"),
    (Network::v4([255, 255, 255, 255], 32), "the broadcast address"),
    (Network::v4([240, 0, 0, 0], 4), "a reserved address"),
    (Network::v6(0, 128), "an unspecified address"),
    (Network::v6(0, 96), "an IPv4 address in IPv6 clothing"),
    (Network::v6(0xffff << 32, 96), "an IPv4 address in IPv6 clothing"),
    (Network::v6(0x0064_ff9b_0001 << 80, 48), "a local NAT64 address"),
    (Network::v6(0x0100 << 112, 48), "a discard address"),
    (Network::v6(0x2001_0000 << 96, 32), "a Teredo address"),
    (Network::v6(0x2001_0000 << 96, 23), "a reserved address"),
    (Network::v6(0x2001_0db8 << 96, 32), "a documentation address"),
    (Network::v6(0x2002 << 112, 16), "a 6to4 address"),
    (Network::v6(0x3fff << 112, 20), "a documentation address"),
    (Network::v6(0xfd00_0ec2 << 96, 32), "a metadata service"),
    (Network::v6((0xfd20_00ce << 96) | 0x254, 128), "a metadata service"),
    (Network::v6((0xfd7a_115c_a1e0 << 80) | 0x53, 128), "the tailnet node's own service address"),
    (Network::v6(0xfe80 << 112, 10), "a link-local address, where metadata services are"),
    (Network::v6(0xfec0 << 112, 10), "a site-local address"),
    (Network::v6(0xff00 << 112, 8), "a multicast address"),
];

/// What a site may allow.
const LOCAL: &[(Network, &str)] = &[
    (Network::v4([127, 0, 0, 0], 8), "a loopback address"),
    (Network::v6(1, 128), "a loopback address"),
    (Network::v4([10, 0, 0, 0], 8), "a private address"),
    (Network::v4([172, 16, 0, 0], 12), "a private address"),
    (Network::v4([192, 168, 0, 0], 16), "a private address"),
    (Network::v4([100, 64, 0, 0], 10), "a shared or tailnet address"),
    (Network::v6(0xfc00 << 112, 7), "a private address"),
];

/// Public IPv6 addresses are here; the rest is not given out.
const GLOBAL: Network = Network::v6(0x2000 << 112, 3);

/// Translates to the IPv4 address in the last 32 bits (RFC 6052).
const NAT64: Network = Network::v6(0x0064_ff9b << 96, 96);

/// An address that a probe must not connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRefused {
    /// What it is, with its article: `a loopback address`.
    pub what: &'static str,
    /// Whether the site's configuration could allow it.
    pub configurable: bool,
}

/// The networks that may be reached although they are not public. The default allows none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRules {
    networks: Vec<Network>,
}

impl AddressRules {
    /// Allows `networks` besides public addresses. What can never be reached stays so inside them.
    pub fn new(networks: impl IntoIterator<Item = Network>) -> Self {
        Self { networks: networks.into_iter().collect() }
    }

    /// What is allowed besides public addresses.
    pub fn networks(&self) -> &[Network] {
        &self.networks
    }

    /// Why `network` can be no entry of the list: what it is instead. A network that holds public addresses is none,
    /// so that a slip in its length does not open the gate.
    pub fn unfit(network: &Network) -> Option<&'static str> {
        if let Some((_, what)) = NEVER.iter().find(|(never, _)| never.covers(network) && !network.contains(LOOPBACK6)) {
            return Some(what);
        }
        let local = LOCAL.iter().any(|(local, _)| local.covers(network));
        (!local).then_some("not within loopback, private or shared addresses")
    }

    /// Errors unless a probe may connect to `ip`.
    pub fn check(&self, ip: IpAddr) -> Result<(), AddressRefused> {
        if let Some(what) = named(NEVER, ip).filter(|_| ip != LOOPBACK6) {
            return Err(AddressRefused { what, configurable: false });
        }
        if let Some(what) = named(LOCAL, ip) {
            let allowed = self.networks.iter().any(|network| network.contains(ip));
            return if allowed { Ok(()) } else { Err(AddressRefused { what, configurable: true }) };
        }
        if NAT64.contains(ip) {
            // The gateway cannot tell how a translator reaches a private address, so only public ones pass.
            let inner = Ipv4Addr::from_bits((numbered(ip) & 0xffff_ffff) as u32);
            return match Self::default().check(inner.into()) {
                Ok(()) => Ok(()),
                Err(_) => Err(AddressRefused { what: "a NAT64 form of a refused address", configurable: false }),
            };
        }
        if ip.is_ipv6() && !GLOBAL.contains(ip) {
            return Err(AddressRefused { what: "an address that is not given out", configurable: false });
        }
        Ok(())
    }
}

const LOOPBACK6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn named(table: &[(Network, &'static str)], ip: IpAddr) -> Option<&'static str> {
    table.iter().find(|(network, _)| network.contains(ip)).map(|(_, what)| *what)
}

#[cfg(test)]
mod tests;

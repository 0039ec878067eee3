//! The host of a probe: a DNS name or a literal address, in one spelling only. Pure; resolves nothing.
//!
//! Resolvers and URL parsers differ in what they take for an address (`127.1`, `0x7f000001`, `2130706433`), so
//! everything that any of them could is refused here unless it is the address's plain spelling.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

/// What a probe is aimed at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A literal address.
    Address(IpAddr),
    /// A name in lower case: ASCII labels of letters, digits and hyphens, the last one no number.
    Name(String),
}

/// A text that is no acceptable host: says what would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HostFault(&'static str);

impl FromStr for Host {
    type Err = HostFault;

    fn from_str(text: &str) -> Result<Self, HostFault> {
        if !text.is_ascii() {
            return Err(HostFault("must be ASCII: write an international name in its xn-- form"));
        }
        if text.contains('%') {
            return Err(HostFault("must be without percent signs: neither zones nor encoded characters are taken"));
        }
        if text.contains('@') {
            return Err(HostFault("must be a host alone, without a user"));
        }
        let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        if bracketed.is_some() || text.contains(':') {
            let address = bracketed.unwrap_or(text).parse::<Ipv6Addr>();
            return address
                .map(|ip| Self::Address(ip.into()))
                .map_err(|_| HostFault("must be a host alone: a name, an IPv4 address or an IPv6 address"));
        }
        // Takes four decimal numbers without leading zeros and nothing else.
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address));
        }
        let name = text.to_ascii_lowercase();
        if name.ends_with('.') {
            return Err(HostFault("must be without a dot at its end"));
        }
        if name.len() > 253 || !name.split('.').all(is_label) {
            return Err(HostFault("must be a name of letters, digits, hyphens and dots, or an address"));
        }
        let last = name.rsplit('.').next().unwrap_or_default();
        let hexadecimal =
            last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if hexadecimal || last.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(HostFault("must be a name or four decimal numbers: its last part is a number"));
        }
        if last == "localhost" {
            return Err(HostFault("must not be localhost: write 127.0.0.1 or ::1, where the configuration allows it"));
        }
        Ok(Self::Name(name))
    }
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

impl fmt::Display for Host {
    /// As it stands in a URL: IPv6 addresses in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Address(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests;

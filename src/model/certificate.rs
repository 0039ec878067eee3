//! What a server's certificate says of itself. Answers for reading it; says nothing of whether it can be trusted.

use std::net::{Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use x509_parser::{extensions::GeneralName, prelude::FromDer, x509::X509Name};

use super::hex;

/// The most alternative names that are kept, and the longest text of any kind, in characters. Public certificates stay
/// far below; the rest is a server's own doing.
const MOST_NAMES: usize = 100;
const LONGEST: usize = 300;

/// The parts of a certificate that tell whose it is and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whose.
    pub subject: String,
    /// Signed by whom.
    pub issuer: String,
    /// The names and addresses it holds for.
    pub sans: Vec<String>,
    /// From when.
    pub not_before: Option<Timestamp>,
    /// Until when.
    pub not_after: Option<Timestamp>,
    /// Hex SHA-256 of the whole certificate.
    pub sha256: String,
}

impl Certificate {
    /// Reads one in DER. None where it is no certificate.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(der).ok()?;
        let sans = certificate.subject_alternative_name().ok().flatten();
        let names = sans.iter().flat_map(|sans| &sans.value.general_names);
        let time = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
        Some(Self {
            subject: shown(certificate.subject()),
            issuer: shown(certificate.issuer()),
            sans: names.filter_map(name).take(MOST_NAMES).collect(),
            not_before: time(certificate.validity().not_before),
            not_after: time(certificate.validity().not_after),
            sha256: hex(digest(&SHA256, der).as_ref()),
        })
    }
}

fn shown(name: &X509Name<'_>) -> String {
    name.to_string().chars().take(LONGEST).collect()
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.chars().take(LONGEST).collect()),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(|bytes| Ipv4Addr::from(bytes).to_string());
            four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(|bytes| Ipv6Addr::from(bytes).to_string())).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_tells_its_names_and_dates() {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let read = Certificate::read(made.cert.der()).unwrap();
        assert_eq!(read.sans, ["a.example", "127.0.0.1"]);
        assert!(read.subject.contains("CN=") && read.subject == read.issuer, "{read:?}");
        assert!(read.not_before < read.not_after && read.not_after.is_some());
        assert_eq!(read.sha256, hex(digest(&SHA256, made.cert.der()).as_ref()));
    }

    #[test]
    fn what_is_no_certificate_is_none() {
        for bytes in [&b""[..], b"\x30", b"\x30\x82\xff\xff", b"certificate"] {
            assert_eq!(Certificate::read(bytes), None);
        }
    }
}

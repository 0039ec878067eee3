//! Tests of reading and judging certificates. The handshakes are in the tests of the whole gateway.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::*;
use crate::tailnet::CertificatePair;

/// The middle of the life of what [`params`] makes.
const NOW: &str = "2030-01-31T00:00:00Z";

/// From the first of January to the first of March.
fn params(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2030, 1, 1), date_time_ymd(2030, 3, 1));
    params
}

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

struct Files {
    _directory: TempDir,
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new(certificate: &str, key: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (certificate_file, key_file) = (directory.path().join("chain.pem"), directory.path().join("key.pem"));
        fs::write(&certificate_file, certificate).unwrap();
        fs::write(&key_file, key).unwrap();
        fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
        Self { _directory: directory, certificate: certificate_file, key: key_file }
    }

    fn fault(&self, now: &str) -> String {
        Pair::read(&self.certificate, &self.key, at(now)).unwrap_err().to_string()
    }
}

#[test]
fn a_pair_that_belongs_together_and_holds_is_served() {
    let key = KeyPair::generate().unwrap();
    let made = params(&["tailops.example.ts.net"]).self_signed(&key).unwrap();
    let files = Files::new(&made.pem(), &key.serialize_pem());
    let pair = Pair::read(&files.certificate, &files.key, at(NOW)).unwrap();
    assert_eq!((pair.from, pair.until), (at("2030-01-01T00:00:00Z"), at("2030-03-01T00:00:00Z")));
    assert_eq!(pair.certified.cert.first().unwrap(), made.der());
    // 59 days: due with 19 days and 16 hours left, about to end with 5 days, 21 hours and 36 minutes.
    assert_eq!(pair.before_end(RENEWED), at("2030-02-09T08:00:00Z"));
    assert_eq!(pair.before_end(ENDING), at("2030-02-23T02:24:00Z"));
}

#[test]
fn what_cannot_be_served_is_refused_with_the_reason() {
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let made = params(&["tailops"]).self_signed(&key).unwrap();
    let (certificate, key, other) = (made.pem(), key.serialize_pem(), other.serialize_pem());
    for (files, now, reason) in [
        (Files::new(&certificate, &other), NOW, "does not belong"),
        (Files::new(&certificate, &key), "2029-12-31T23:59:59Z", "holds from 2030-01-01"),
        (Files::new(&certificate, &key), "2030-03-01T00:00:00Z", "ended at 2030-03-01"),
        (Files::new("", &key), NOW, "tls.certificate_file: "),
        (Files::new(&key, &key), NOW, "holds no certificate"),
        (Files::new(&certificate, ""), NOW, "tls.key_file: "),
        (Files::new(&certificate, &certificate), NOW, "holds no private key"),
        (Files::new("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &key), NOW, "cannot be read"),
    ] {
        let fault = files.fault(now);
        assert!(fault.contains(reason), "{reason}: {fault}");
        assert!(!fault.contains("PRIVATE KEY"), "{fault}");
    }
    let files = Files::new(&certificate, &key);
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(files.fault(NOW).contains("chmod 0600"), "{}", files.fault(NOW));
    fs::remove_file(&files.key).unwrap();
    assert!(files.fault(NOW).contains("key.pem"), "{}", files.fault(NOW));
    fs::remove_file(&files.certificate).unwrap();
    assert!(files.fault(NOW).contains("chain.pem"), "{}", files.fault(NOW));
}

#[test]
fn a_certificate_of_the_node_is_for_its_name_and_its_key() {
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let made = params(&["tailops.example.ts.net"]).self_signed(&key).unwrap();
    let pair = |key: Vec<u8>| CertificatePair { chain: vec![made.der().to_vec()], key: key.into() };
    let fault = |pair, name| Pair::of_node(pair, name, at(NOW)).unwrap_err();
    assert!(Pair::of_node(pair(key.serialize_der()), "Tailops.example.ts.net", at(NOW)).is_ok());
    assert!(matches!(fault(pair(key.serialize_der()), "other.example.ts.net"), TlsFault::OtherName(_)));
    assert!(matches!(fault(pair(other.serialize_der()), "tailops.example.ts.net"), TlsFault::Mismatch));
    assert!(matches!(fault(pair(vec![1, 2, 3]), "tailops.example.ts.net"), TlsFault::Key(_)));
    let nothing = CertificatePair { chain: Vec::new(), key: key.serialize_der().into() };
    assert!(matches!(fault(nothing, "tailops.example.ts.net"), TlsFault::Unreadable));
}

#[test]
fn plain_http_needs_no_certificate() {
    assert!(Certificates::open(&Tls::Off, at(NOW)).unwrap().is_none());
    let unknown = Certificates::open(&Tls::Node, at(NOW)).unwrap().unwrap();
    assert!(!unknown.hold(at(NOW)) && unknown.until().is_none(), "there is none yet");
}

//! Who is trusted, and above all who is not.

use std::fs;

use proptest::prelude::*;
use russh::keys::{
    Algorithm, Certificate, PrivateKey,
    ssh_key::certificate::{Builder, CertType},
};
use tempfile::TempDir;

use super::*;
use crate::{
    config::HostCa,
    exec::ssh::tests::sshd::new_key,
    tailnet::{NodePeer, NodeState},
};

/// 2026-01-01T00:00:00Z.
const NOW: i64 = 1_767_225_600;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

/// A certificate for `web-1` by `ca`, an hour old and good for another; `change` spoils it.
pub(super) fn certificate(ca: &PrivateKey, key: &PublicKey, change: impl FnOnce(&mut Builder)) -> Certificate {
    dated(ca, key, (-3600, 3600), |builder| {
        builder.cert_type(CertType::Host).unwrap().valid_principal("web-1").unwrap();
        builder.key_id("web-1 of 2026").unwrap().serial(7).unwrap();
        change(builder);
    })
}

fn dated(ca: &PrivateKey, key: &PublicKey, (from, to): (i64, i64), change: impl FnOnce(&mut Builder)) -> Certificate {
    let at = |offset: i64| u64::try_from(NOW + offset).unwrap();
    let nonce = vec![1; 16];
    let mut builder = Builder::new(nonce, key.key_data().clone(), at(from), at(to)).unwrap();
    change(&mut builder);
    builder.sign(ca).unwrap()
}

/// What a gateway knows of `web-1`.
struct World {
    settings: config::Ssh,
    connection: Connection,
    status: NodeStatus,
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        let connection = Connection {
            host: "web-1".into(),
            port: None,
            username: None,
            key: None,
            certificate: None,
            host_keys: Vec::new(),
            node: None,
            jump: None,
            via: None,
            timeout: std::time::Duration::from_secs(1),
        };
        Self {
            settings: config::Ssh::default(),
            connection,
            status: NodeStatus::of_state(NodeState::Loopback),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn pinning(mut self, key: &PrivateKey) -> Self {
        self.connection.host_keys.push(pin_of(key.public_key()));
        self
    }

    fn certified_by(mut self, ca: &PrivateKey, hosts: &[&str]) -> Self {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        self.settings.host_cas.push(HostCa { hosts, public_key: ca.public_key().to_openssh().unwrap() });
        self
    }

    fn revoking(mut self, lines: &str) -> Self {
        let path = self.folder.path().join("revoked");
        fs::write(&path, lines).unwrap();
        self.settings.revoked_keys = Some(path);
        self
    }

    /// The node `id` is on the tailnet with `key`; the target is the node `n1`.
    fn on_the_tailnet(mut self, id: &str, key: &PrivateKey) -> Self {
        self.connection.node = Some("n1".into());
        self.status.peers.push(NodePeer {
            id: id.into(),
            name: "web-1.example.ts.net".into(),
            user: None,
            tags: Vec::new(),
            addresses: Vec::new(),
            os: None,
            online: true,
            ssh_host_keys: vec!["not a key".into(), key.public_key().to_openssh().unwrap()],
        });
        self
    }

    fn check(&self, shown: impl Into<PublicKeyOrCertificate>) -> Result<Proven, SshFault> {
        self.trust()?.check(&shown.into(), now())
    }

    fn trust(&self) -> Result<Trust, SshFault> {
        let revoked = Revocations::in_file(self.settings.revoked_keys.clone()).now()?;
        Trust::of(&self.settings, &self.connection, &self.status, revoked)
    }

    /// The code of the refusal, and its text.
    fn refuses(&self, shown: impl Into<PublicKeyOrCertificate>) -> (&'static str, String) {
        let fault = self.check(shown).unwrap_err();
        (fault.code(), fault.to_string())
    }
}

fn shown(key: &PrivateKey) -> PublicKey {
    key.public_key().clone()
}

#[test]
fn a_host_that_nobody_enrolled_is_unknown() {
    let (code, text) = World::new().refuses(shown(&new_key()));
    assert_eq!(code, "host_key_unknown");
    assert!(text.contains("SHA256:"), "{text}");
}

#[test]
fn only_the_very_key_that_was_pinned_counts() {
    let (key, other) = (new_key(), new_key());
    let world = World::new().pinning(&key);
    assert_eq!(
        world.check(shown(&key)).unwrap(),
        Proven { fingerprint: pin_of(key.public_key()).fingerprint, trust: HostTrust::Pin, until: None }
    );
    let (code, text) = world.refuses(shown(&other));
    assert_eq!(code, "host_key_mismatch");
    assert!(
        text.contains(&pin_of(key.public_key()).to_string()) && text.contains(&pin_of(other.public_key()).to_string())
    );
}

#[test]
fn a_key_of_another_type_is_another_key() {
    let key =
        PrivateKey::random(&mut rand::rng(), Algorithm::Ecdsa { curve: russh::keys::EcdsaCurve::NistP256 }).unwrap();
    assert_eq!(World::new().pinning(&new_key()).refuses(shown(&key)).0, "host_key_mismatch");
    let mut world = World::new().pinning(&key);
    world.connection.host_keys[0].algorithm = Some("ssh-ed25519".into());
    assert_eq!(world.refuses(shown(&key)).0, "host_key_mismatch");
    world.connection.host_keys[0].algorithm = None;
    assert!(world.check(shown(&key)).is_ok());
}

#[test]
fn the_network_map_speaks_for_the_node_of_the_target_only() {
    let key = new_key();
    let proven = World::new().on_the_tailnet("n1", &key).check(shown(&key)).unwrap();
    assert_eq!(proven.trust, HostTrust::NetworkMap);
    assert_eq!(World::new().on_the_tailnet("n2", &key).refuses(shown(&key)).0, "host_key_unknown");
    let mut unnamed = World::new().on_the_tailnet("n1", &key);
    unnamed.connection.node = None;
    assert_eq!(unnamed.refuses(shown(&key)).0, "host_key_unknown");
    let mut down = World::new().on_the_tailnet("n1", &key);
    down.status.state = NodeState::Unreachable("gone".into());
    assert_eq!(down.refuses(shown(&key)).0, "host_key_unknown");
    let other = World::new().on_the_tailnet("n1", &key);
    assert_eq!(other.refuses(shown(&new_key())).0, "host_key_mismatch");
    // The server of the operating system has keys of its own, which were pinned.
    let pinned = new_key();
    assert!(World::new().on_the_tailnet("n1", &key).pinning(&pinned).check(shown(&pinned)).is_ok());
}

#[test]
fn a_certificate_of_an_authority_for_the_host_is_enough_until_it_ends() {
    let (ca, key) = (new_key(), new_key());
    for world in [
        World::new().certified_by(&ca, &["web-*"]),
        // A host that was built anew, with a new key and a certificate for it.
        World::new().certified_by(&ca, &["web-1"]).pinning(&new_key()),
    ] {
        let proven = world.check(certificate(&ca, key.public_key(), |_| {})).unwrap();
        assert_eq!(proven.fingerprint, pin_of(key.public_key()).fingerprint);
        assert_eq!(proven.until, Some(Timestamp::from_second(NOW + 3600).unwrap()));
    }
}

#[test]
fn a_certificate_may_name_the_host_with_its_port() {
    let (ca, key) = (new_key(), new_key());
    let made = dated(&ca, key.public_key(), (-1, 1), |builder| {
        builder.cert_type(CertType::Host).unwrap().valid_principal("[WEB-1]:2222").unwrap();
    });
    let mut world = World::new().certified_by(&ca, &["*"]);
    assert_eq!(world.refuses(made.clone()).0, "host_certificate_invalid");
    world.connection.port = Some(2222);
    assert!(world.check(made).is_ok());
}

/// Each is refused, unless the key in it was pinned: a certificate takes nothing from a key that was enrolled.
#[test]
fn a_certificate_that_does_not_hold_here_counts_for_nothing() {
    let (ca, other, key) = (new_key(), new_key(), new_key());
    let public = key.public_key();
    let host = |builder: &mut Builder| {
        builder.cert_type(CertType::Host).unwrap().valid_principal("web-1").unwrap();
    };
    let to = |principal: &'static str| {
        move |builder: &mut Builder| {
            builder.cert_type(CertType::Host).unwrap().valid_principal(principal).unwrap();
        }
    };
    let cases = [
        ("which is no authority", certificate(&other, public, |_| {})),
        ("it ended", dated(&ca, public, (-7200, 0), host)),
        ("does not hold yet", dated(&ca, public, (1, 7200), host)),
        ("not for web-1", dated(&ca, public, (-1, 1), to("web-2"))),
        ("not for web-1", dated(&ca, public, (-1, 1), to("web-*"))),
        ("not for web-1", dated(&ca, public, (-1, 1), to("*"))),
        ("not for web-1", dated(&ca, public, (-1, 1), to("web-1,web-2"))),
        (
            "nobody in particular",
            dated(&ca, public, (-1, 1), |builder| {
                builder.cert_type(CertType::Host).unwrap().all_principals_valid().unwrap();
            }),
        ),
        (
            "for a user",
            dated(&ca, public, (-1, 1), |builder| {
                builder.cert_type(CertType::User).unwrap().valid_principal("web-1").unwrap();
            }),
        ),
        (
            "critical option",
            certificate(&ca, public, |builder| {
                builder.critical_option("force-command", "id").unwrap();
            }),
        ),
    ];
    for (why, made) in cases {
        let world = World::new().certified_by(&ca, &["web-*"]);
        let (code, text) = world.refuses(made.clone());
        assert_eq!(code, "host_certificate_invalid", "{why}");
        assert!(text.contains(why), "{why}: {text}");
        // A pin of another key does not help it, one of this very key does.
        assert_eq!(world.pinning(&new_key()).refuses(made.clone()).0, "host_certificate_invalid", "{why}");
        let pinned = World::new().certified_by(&ca, &["web-*"]).pinning(&key);
        assert_eq!(pinned.check(made.clone()).unwrap().until, None, "{why}");
        let of_node = World::new().certified_by(&ca, &["web-*"]).on_the_tailnet("n1", &key);
        assert!(of_node.check(made).is_ok(), "{why}");
    }
}

#[test]
fn a_certificate_with_a_changed_byte_is_refused() {
    let (ca, key) = (new_key(), new_key());
    let made = certificate(&ca, key.public_key(), |_| {});
    let mut bytes = made.to_bytes().unwrap();
    let at = bytes.windows(5).position(|window| window == b"web-1").unwrap();
    bytes[at] = b'W';
    let world = World::new().certified_by(&ca, &["web-1"]);
    let (code, text) = world.refuses(Certificate::from_bytes(&bytes).unwrap());
    assert_eq!(code, "host_certificate_invalid");
    assert!(text.contains("signature"), "{text}");
}

#[test]
fn an_authority_speaks_only_for_its_hosts() {
    let (ca, key) = (new_key(), new_key());
    for hosts in [&["db-*"][..], &["web-*", "!web-1"], &[]] {
        let world = World::new().certified_by(&ca, hosts);
        assert_eq!(world.refuses(certificate(&ca, key.public_key(), |_| {})).0, "host_certificate_invalid");
    }
}

#[test]
fn a_host_that_should_show_a_certificate_and_shows_a_key_is_a_mismatch() {
    let (code, text) = World::new().certified_by(&new_key(), &["*"]).refuses(shown(&new_key()));
    assert_eq!(code, "host_key_mismatch");
    assert!(text.contains("certificates by SHA256:"), "{text}");
}

#[test]
fn certificates_are_asked_for_where_an_authority_speaks_for_the_host() {
    let (ca, key) = (new_key(), new_key());
    let offered = |world: &World| world.trust().unwrap().preferred().host_key_certificates.len();
    assert_eq!(offered(&World::new().pinning(&key)), 0);
    assert_eq!(offered(&World::new().certified_by(&ca, &["db-*"])), 0);
    assert_eq!(offered(&World::new().certified_by(&ca, &["web-*"])), 6);
    let line = ca.public_key().to_openssh().unwrap();
    assert_eq!(offered(&World::new().certified_by(&ca, &["web-*"]).revoking(&line)), 0);
}

#[test]
fn what_was_revoked_is_refused_whatever_speaks_for_it() {
    let (ca, key) = (new_key(), new_key());
    let of_ca = pin_of(ca.public_key()).fingerprint;
    let everything = || World::new().certified_by(&ca, &["*"]).pinning(&key).on_the_tailnet("n1", &key);
    let made = || certificate(&ca, key.public_key(), |_| {});
    assert!(everything().revoking("# nothing\n").check(made()).is_ok());
    for lines in [
        key.public_key().to_openssh().unwrap(),
        pin_of(key.public_key()).fingerprint,
        format!("serial: {of_ca} 7"),
        format!("serial: {of_ca} 1-9"),
        format!("key-id: {of_ca} web-1 of 2026"),
    ] {
        assert_eq!(everything().revoking(&lines).refuses(made()).0, "host_key_revoked", "{lines}");
    }
    assert_eq!(everything().revoking(&pin_of(key.public_key()).fingerprint).refuses(shown(&key)).0, "host_key_revoked");
    // Another authority's serial numbers, and other numbers of this one.
    let of_other = pin_of(new_key().public_key()).fingerprint;
    for lines in [format!("serial: {of_other} 7"), format!("serial: {of_ca} 8-9"), format!("key-id: {of_ca} web-1")] {
        assert!(everything().revoking(&lines).check(made()).is_ok(), "{lines}");
    }
}

#[test]
fn an_authority_that_was_revoked_speaks_for_nobody() {
    let (ca, key) = (new_key(), new_key());
    let world = World::new().certified_by(&ca, &["*"]).revoking(&ca.public_key().to_openssh().unwrap());
    assert_eq!(world.refuses(certificate(&ca, key.public_key(), |_| {})).0, "host_certificate_invalid");
    let (code, text) = world.refuses(shown(&key));
    assert_eq!(code, "host_key_mismatch");
    assert!(text.contains("which was revoked"), "{text}");
    // The pin was not made by the authority, and outlives it.
    assert!(world.pinning(&key).check(shown(&key)).is_ok());
}

#[test]
fn nothing_is_trusted_while_the_list_of_revoked_keys_cannot_be_read() {
    let key = new_key();
    let mut missing = World::new().pinning(&key).revoking("");
    assert!(missing.check(shown(&key)).is_ok());
    fs::remove_file(missing.settings.revoked_keys.as_ref().unwrap()).unwrap();
    assert_eq!(missing.refuses(shown(&key)).0, "revocation_unreadable");
    missing.settings.revoked_keys = Some(missing.folder.path().to_owned());
    assert_eq!(missing.refuses(shown(&key)).0, "revocation_unreadable");
    for lines in ["SSHKRL\n\0\0\0\0\u{1}", "ssh-ed25519 AAAA", "what", "serial: 7"] {
        let (code, text) = World::new().pinning(&key).revoking(lines).refuses(shown(&key));
        assert_eq!(code, "revocation_unreadable", "{lines:?}");
        assert!(text.contains("revoked:"), "{text}");
    }
}

#[test]
fn an_authority_without_a_key_is_an_error_and_no_gap() {
    let key = new_key();
    let mut world = World::new().pinning(&key);
    world.settings.host_cas.push(HostCa { hosts: vec!["*".into()], public_key: "ssh-ed25519 AAAA".into() });
    assert_eq!(world.refuses(shown(&key)).0, "host_authority_unusable");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever else is configured, a key counts only if it is pinned, the node's, or in a good certificate.
    #[test]
    fn no_key_counts_that_nobody_enrolled(pinned: bool, on_node: bool, certified: bool, good: bool, ours: bool) {
        let (ca, key, other) = (new_key(), new_key(), new_key());
        let mut world = World::new().pinning(if pinned { &key } else { &other });
        world = world.on_the_tailnet("n1", if on_node { &key } else { &other });
        world = world.certified_by(&ca, &[if ours { "web-*" } else { "db-*" }]);
        let counts = pinned || on_node || (certified && good && ours);
        let checked = match certified {
            true => world.check(certificate(if good { &ca } else { &other }, key.public_key(), |_| {})),
            false => world.check(shown(&key)),
        };
        prop_assert_eq!(checked.is_ok(), counts);
    }
}

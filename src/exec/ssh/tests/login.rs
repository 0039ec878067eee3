//! What the gateway logs in with: which files are refused before anything is connected, which keys work, and what a
//! certificate of its own authority says and allows.

use std::{collections::BTreeMap, fs::Permissions, path::PathBuf};

use jiff::{SignedDuration, Timestamp};
use russh::keys::{
    Algorithm, Certificate, EcdsaCurve, HashAlg, PublicKey,
    ssh_key::certificate::{Builder, CertType},
};

use super::*;
use crate::{
    config::UserCa,
    exec::ssh::login::{Credentials, Login, Purpose},
    model::{Attribution, CorrelationId},
};

const RSA: &str = include_str!("rsa_2048");
const SHORT_RSA: &str = include_str!("rsa_1024");

/// A clock that stands.
struct Still(Timestamp);

impl Clock for Still {
    fn now(&self) -> Timestamp {
        self.0
    }
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn text_of(key: &PrivateKey) -> String {
    key.to_openssh(LineEnding::LF).unwrap().to_string()
}

/// The private key of the rig's connection, as written by the rig.
fn key_of(connection: &Connection) -> (PathBuf, PrivateKey) {
    let Some(KeyReference::File(path)) = &connection.key else { panic!("{connection:?}") };
    (path.clone(), PrivateKey::from_openssh(fs::read(path).unwrap()).unwrap())
}

/// A certificate for `key` by `ca`, valid from an hour ago to `until_s` seconds from now.
fn certified(ca: &PrivateKey, key: &PublicKey, kind: CertType, principal: &str, until_s: i64) -> Certificate {
    let now = SystemClock.now().as_second();
    let (from, until) = (u64::try_from(now - 3600).unwrap(), u64::try_from(now + until_s).unwrap());
    let mut builder = Builder::new_with_random_nonce(&mut rand::rng(), key.key_data().clone(), from, until).unwrap();
    builder.key_id("maria's laptop").unwrap().cert_type(kind).unwrap().valid_principal(principal).unwrap();
    builder.sign(ca).unwrap()
}

/// Puts a certificate beside the key of `connection`.
fn certify(connection: &mut Connection, certificate: &Certificate) {
    let (path, _) = key_of(connection);
    let path = path.with_file_name("login_key-cert.pub");
    fs::write(&path, certificate.to_openssh().unwrap()).unwrap();
    connection.certificate = Some(path);
}

fn why(output: &ScriptOutput) -> (&'static str, String) {
    match &output.outcome {
        StepOutcome::NotStarted { code, why } => (code, why.clone()),
        other => panic!("{other:?}"),
    }
}

/// That a rig changed by `change` is refused with `wanted`, and nothing was connected.
async fn unusable(wanted: &str, change: impl FnOnce(&mut Connection)) {
    let rig = rig(|_, connection| change(connection)).await;
    let (code, why) = why(&rig.run(&Script::new(&ECHO, ["x"])).await);
    assert_eq!(code, "credential_unusable", "{wanted}: {why}");
    assert!(why.contains(wanted), "{wanted}: {why}");
    assert!(!why.contains(rig._folder.path().to_str().unwrap()), "a reply names no file of the gateway: {why}");
    assert_eq!(rig.sshd.seen.connections.load(Ordering::SeqCst), 0, "{wanted}");
}

#[tokio::test]
async fn a_key_that_others_could_have_is_refused_before_anything_is_connected() {
    for mode in [0o644, 0o640, 0o604, 0o660, 0o601] {
        unusable("open to others", |connection| {
            fs::set_permissions(key_of(connection).0, Permissions::from_mode(mode)).unwrap();
        })
        .await;
    }
    unusable("no regular file", |connection| {
        let (path, _) = key_of(connection);
        let link = path.with_file_name("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        connection.key = Some(KeyReference::File(link));
    })
    .await;
    unusable("no regular file", |connection| {
        connection.key = Some(KeyReference::File(key_of(connection).0.parent().unwrap().to_owned()));
    })
    .await;
    unusable("cannot be read", |connection| fs::remove_file(key_of(connection).0).unwrap()).await;
}

#[tokio::test]
async fn what_is_no_key_to_log_in_with_says_why() {
    unusable("no private key", |connection| write(&key_of(connection).0, "hunter2 hunter2\n", 0o600)).await;
    unusable("no private key", |connection| write(&key_of(connection).0, "", 0o600)).await;
    unusable("RSA of 1024 bits", |connection| write(&key_of(connection).0, SHORT_RSA, 0o600)).await;
    unusable("passphrase", |connection| {
        let (path, key) = key_of(connection);
        write(&path, &text_of(&key.encrypt(&mut rand::rng(), "hunter2").unwrap()), 0o600);
    })
    .await;
    unusable("the registry names no key", |connection| connection.key = None).await;
    unusable("the variable WEB_KEY named no file", |connection| {
        connection.key = Some(KeyReference::Variable("WEB_KEY".into()));
    })
    .await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_taken_is_refused_before_anything_is_connected() {
    let ca = new_key();
    for (wanted, kind, principal, until_s) in [
        ("not valid now", CertType::User, "ops", -60),
        ("does not name ops", CertType::User, "root", 60),
        ("one of a host", CertType::Host, "ops", 60),
    ] {
        unusable(wanted, |connection| {
            let key = key_of(connection).1;
            certify(connection, &certified(&ca, key.public_key(), kind, principal, until_s));
        })
        .await;
    }
    unusable("for another key", |connection| {
        certify(connection, &certified(&ca, new_key().public_key(), CertType::User, "ops", 60));
    })
    .await;
    unusable("no certificate", |connection| {
        let (path, _) = key_of(connection);
        connection.certificate = Some(path);
    })
    .await;
}

#[tokio::test]
async fn every_kind_of_key_logs_in_by_itself_and_by_a_certificate() {
    let ecdsa = [EcdsaCurve::NistP256, EcdsaCurve::NistP384, EcdsaCurve::NistP521];
    let mut keys: Vec<PrivateKey> = ecdsa
        .into_iter()
        .map(|curve| PrivateKey::random(&mut rand::rng(), Algorithm::Ecdsa { curve }).unwrap())
        .collect();
    keys.extend([new_key(), PrivateKey::from_openssh(RSA).unwrap()]);
    let ca = new_key();
    for key in &keys {
        for with_certificate in [false, true] {
            let rig = rig(|settings, connection| {
                write(&key_of(connection).0, &text_of(key), 0o600);
                settings.authorized.clear();
                if with_certificate {
                    settings.user_ca = Some(ca.public_key().clone());
                    certify(connection, &certified(&ca, key.public_key(), CertType::User, "ops", 60));
                } else {
                    settings.authorized.push(key.public_key().clone());
                }
            })
            .await;
            let output = rig.run(&Script::new(&ECHO, ["x"])).await;
            assert_eq!(output.outcome, StepOutcome::Exited(3), "{} {with_certificate}", key.algorithm());
            let wanted = match with_certificate {
                true => "maria's laptop".to_owned(),
                false => key.public_key().fingerprint(HashAlg::Sha256).to_string(),
            };
            let wire = output.wire.unwrap();
            assert_eq!(wire.credential, wanted);
            assert_eq!(*rig.sshd.seen.logins.lock().unwrap(), [("ops".to_owned(), wanted)]);
        }
    }
}

#[tokio::test]
async fn a_variable_leads_to_a_file_that_is_held_to_the_same() {
    let mut rig = rig(|_, _| {}).await;
    let connection = rig.target.registered.as_mut().unwrap().connection.as_mut().unwrap();
    let (path, _) = key_of(connection);
    connection.key = Some(KeyReference::Variable("WEB_KEY".into()));
    let variables = BTreeMap::from([("WEB_KEY".to_owned(), path.clone())]);
    let settings = config::Ssh { key_variables: variables, ..config::Ssh::default() };
    rig.ssh = rig.ssh.logging_in_with(Credentials::open(&settings).unwrap());
    assert_eq!(rig.run(&Script::new(&ECHO, ["x"])).await.outcome, StepOutcome::Exited(3));
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let (code, why) = why(&rig.run(&Script::new(&ECHO, ["x"])).await);
    assert_eq!(code, "credential_unusable");
    assert!(why.contains("mode 0644"), "{why}");
}

/// A rig whose target names no key, and the authority whose certificates the gateway makes.
async fn minting(source: &[&str], change: impl FnOnce(&mut Settings, &PrivateKey)) -> (Rig, Credentials, PathBuf) {
    let ca = new_key();
    let mut rig = rig(|settings, connection| {
        connection.key = None;
        settings.authorized.clear();
        settings.user_ca = Some(ca.public_key().clone());
        change(settings, &ca);
    })
    .await;
    let path = rig._folder.path().join("ca");
    write(&path, &text_of(&ca), 0o600);
    let source_addresses = source.iter().map(|network| (*network).to_owned()).collect();
    let ca = UserCa { key_file: path.clone(), ttl: Duration::from_mins(5), source_addresses };
    let settings = config::Ssh { ca: Some(ca), ..config::Ssh::default() };
    rig.ssh = rig.ssh.logging_in_with(Credentials::open(&settings).unwrap());
    (rig, Credentials::open(&settings).unwrap(), path)
}

#[tokio::test]
async fn a_certificate_of_our_own_says_who_asked_and_allows_nothing_more() {
    let (rig, ..) = minting(&["100.64.0.7/32", "127.0.0.0/8"], |_, _| {}).await;
    let before = SystemClock.now().as_second();
    let output = rig.run(&Script::new(&ECHO, ["x"])).await;
    assert_eq!(output.outcome, StepOutcome::Exited(3));
    let wire = output.wire.unwrap();
    assert_eq!(*rig.sshd.seen.logins.lock().unwrap(), [("ops".to_owned(), wire.credential.clone())]);
    let shown = rig.sshd.seen.certificates.lock().unwrap();
    let [certificate] = &shown[..] else { panic!("{shown:?}") };
    assert_eq!(certificate.key_id(), wire.credential);
    let id = certificate.key_id().strip_prefix("tailops subject=test engagement=test correlation=").unwrap();
    assert_eq!(id.len(), CorrelationId::random().to_string().len(), "{id}");
    assert_eq!(certificate.valid_principals(), ["ops"]);
    assert_eq!(certificate.critical_options().len(), 1);
    assert_eq!(certificate.critical_options().get("source-address").unwrap(), "100.64.0.7/32,127.0.0.0/8");
    assert!(certificate.extensions().is_empty(), "no terminal, no forwarding");
    assert_ne!(certificate.serial(), 0);
    let (from, until) = (certificate.valid_after(), certificate.valid_before());
    assert_eq!(until - from, 300 + 60);
    assert!((0..30).contains(&(i64::try_from(from).unwrap() + 60 - before)));
}

#[tokio::test]
async fn a_host_that_does_not_know_our_authority_or_its_user_refuses() {
    let other = new_key();
    let (rig, ..) = minting(&[], |settings, _| settings.user_ca = Some(other.public_key().clone())).await;
    assert_eq!(why(&rig.run(&Script::new(&ECHO, ["x"])).await).0, "login_refused");
    let (mut rig, ..) = minting(&[], |_, _| {}).await;
    let day = SignedDuration::from_hours(24);
    rig.ssh.clock = Arc::new(Still(SystemClock.now() - day));
    assert_eq!(why(&rig.run(&Script::new(&ECHO, ["x"])).await).0, "login_refused", "it ended yesterday");
    rig.ssh.clock = Arc::new(Still(SystemClock.now() + day));
    assert_eq!(why(&rig.run(&Script::new(&ECHO, ["x"])).await).0, "login_refused", "it begins tomorrow");
    assert!(rig.sshd.seen.commands.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_authority_that_others_could_have_stops_the_gateway() {
    let (_rig, _, path) = minting(&[], |_, _| {}).await;
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let ca = UserCa { key_file: path.clone(), ttl: Duration::from_mins(5), source_addresses: Vec::new() };
    let settings = config::Ssh { ca: Some(ca), ..config::Ssh::default() };
    let fault = Credentials::open(&settings).err().unwrap().to_string();
    assert!(fault.contains("ssh.ca.key_file") && fault.contains("mode 0640"), "{fault}");
    write(&path, SHORT_RSA, 0o600);
    assert!(Credentials::open(&settings).err().unwrap().to_string().contains("1024 bits"));
    write(&path, RSA, 0o600);
    assert!(Credentials::open(&settings).is_ok());
}

fn login(credentials: &Credentials, connection: &Connection, subject: &str, purpose: Purpose) -> Login {
    let attribution = Attribution { subject: subject.into(), correlation: CorrelationId::random() };
    Login::of(credentials, connection, &"default".into(), &attribution, purpose).ok().unwrap()
}

#[tokio::test]
async fn whoever_may_share_a_connection_has_the_same_identity() {
    let (rig, credentials, _) = minting(&[], |_, _| {}).await;
    let mut connection = rig.target.registered.as_ref().unwrap().connection.clone().unwrap();
    let identity = |connection: &Connection, subject, purpose| {
        login(&credentials, connection, subject, purpose).identity().to_owned()
    };
    let maria = identity(&connection, "maria", Purpose::Commands);
    assert_eq!(identity(&connection, "maria", Purpose::Commands), maria, "whatever the call");
    assert_ne!(identity(&connection, "mario", Purpose::Commands), maria);
    assert_ne!(identity(&connection, "maria", Purpose::Jump), maria);

    let path = rig._folder.path().join("login_key");
    connection.key = Some(KeyReference::File(path.clone()));
    let by_file = identity(&connection, "maria", Purpose::Commands);
    assert_ne!(by_file, maria);
    assert_eq!(identity(&connection, "mario", Purpose::Commands), by_file, "a host cannot tell them apart either");
    let fresh = path.with_file_name("fresh");
    write(&fresh, &text_of(&new_key()), 0o600);
    fs::rename(&fresh, &path).unwrap();
    assert_ne!(identity(&connection, "maria", Purpose::Commands), by_file, "the key was rotated");
    certify(&mut connection, &certified(&new_key(), new_key().public_key(), CertType::User, "ops", 60));
    let certified_by = identity(&connection, "maria", Purpose::Commands);
    assert!(certified_by.starts_with(&path.display().to_string()) && certified_by.contains("-cert.pub"));
}

#[tokio::test]
async fn only_a_way_through_a_host_may_be_forwarded_and_ids_hold_no_tricks() {
    let (rig, credentials, _) = minting(&[], |_, _| {}).await;
    let connection = rig.target.registered.as_ref().unwrap().connection.clone().unwrap();
    let now = SystemClock.now();
    let hostile = format!("a) ID b\n\u{1b}[2J\u{202e} subject=x {}", "y".repeat(500));
    for (purpose, wanted) in [(Purpose::Commands, 0), (Purpose::Jump, 1)] {
        let prepared = login(&credentials, &connection, &hostile, purpose).prepare(now).await.ok().unwrap();
        let certificate = prepared.certificate().unwrap();
        assert_eq!(certificate.extensions().len(), wanted, "{purpose:?}");
        assert!(certificate.extensions().keys().all(|name| name == "permit-port-forwarding"));
        let id = prepared.credential();
        assert_eq!(id, certificate.key_id());
        let words: Vec<&str> = id.split(' ').collect();
        assert_eq!(words.len(), 4, "{id}");
        assert!(words[1].starts_with("subject=a__ID_b___2J__subject_x_yyy") && words[1].len() < 120, "{id}");
        assert!(id.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '), "{id}");
        assert_eq!(prepared.expires(), Some(Timestamp::from_second(now.as_second() + 300).unwrap()));
        assert_eq!(prepared.user(), "ops");
    }
}

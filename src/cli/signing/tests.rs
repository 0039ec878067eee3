//! Keys that must not sign, and those that do: also by an agent, of which one is played here.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::{Path, PathBuf},
    thread,
};

use ssh_key::{Algorithm, EcdsaCurve, LineEnding, PrivateKey, rand_core::OsRng};
use tempfile::TempDir;

use super::{
    ApproverKey, HashAlg, NAMESPACE, Signature, Statement, read_signature, sign_with_agent, sign_with_file,
    to_be_signed,
};
use crate::model::Vote;

fn statement() -> Statement {
    let expires = "2026-11-21T18:41:45Z".parse().unwrap();
    let hash = "a".repeat(64);
    Statement::new("k3vd", &hash, Vote::Approve, "00112233445566778899aabbccddeeff", "http://t", expires).unwrap()
}

fn file(directory: &TempDir, text: &str, mode: u32) -> PathBuf {
    let path = directory.path().join(format!("key-{mode:o}"));
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn made(kind: Algorithm) -> (PrivateKey, ApproverKey) {
    let key = PrivateKey::random(&mut OsRng, kind).unwrap();
    let public = ApproverKey::parse(&key.public_key().to_openssh().unwrap()).unwrap();
    (key, public)
}

#[test]
fn a_key_that_others_can_read_or_that_is_none_signs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (private, public) = made(Algorithm::Ed25519);
    let text = private.to_openssh(LineEnding::LF).unwrap();
    let why = |path: &Path| format!("{:#}", sign_with_file(&statement(), path).unwrap_err());
    for mode in [0o640, 0o604, 0o620, 0o601] {
        let why = why(&file(&directory, &text, mode));
        assert!(why.contains("chmod 600"), "{mode:o}: {why}");
    }
    assert!(why(&file(&directory, &public.line(), 0o600)).contains("public key"));
    assert!(why(&file(&directory, "hello", 0o600)).contains("ssh-keygen -t ed25519"));
    assert!(why(&file(&directory, &"x".repeat(20 << 10), 0o600)).contains("longer"));
    assert!(why(&directory.path().join("none")).contains("No such file"));
    assert!(why(directory.path()).contains("must be a file"));
    let p521 = PrivateKey::random(&mut OsRng, Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 }).unwrap();
    let p521 = p521.to_openssh(LineEnding::LF).unwrap();
    assert!(why(&file(&directory, &p521, 0o600)).contains("not ecdsa-sha2-nistp521"));
    let good = sign_with_file(&statement(), &file(&directory, &text, 0o600)).unwrap();
    Signature::parse(&good).unwrap().check(&statement(), &public).unwrap();
}

#[test]
fn a_signature_that_was_made_by_hand_is_looked_at_before_it_is_sent() {
    let directory = tempfile::tempdir().unwrap();
    let (private, _) = made(Algorithm::Ed25519);
    let sign = |namespace: &str, text: &str| {
        let signed = private.sign(namespace, ssh_key::HashAlg::Sha512, text.as_bytes()).unwrap();
        file(&directory, &signed.to_pem(LineEnding::LF).unwrap(), 0o644)
    };
    let text = statement().to_string();
    let why = |path: &Path| read_signature(&statement(), path).unwrap_err().to_string();
    assert!(why(&sign("file", &text)).contains("namespace"));
    assert!(why(&sign("tailops-approval", text.trim_end())).contains("--print"));
    assert!(why(&sign("tailops-approval", &text.replace("approve", "deny"))).contains("opposite"));
    assert!(read_signature(&statement(), &sign("tailops-approval", &text)).is_ok());
}

/// An agent that holds `key`, for one connection after another.
fn agent(directory: &TempDir, key: PrivateKey) -> PathBuf {
    let path = directory.path().join("agent");
    let listener = UnixListener::bind(&path).unwrap();
    let held = key.public_key().to_bytes().unwrap();
    let string = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut length = [0; 4];
            if stream.read_exact(&mut length).is_err() {
                continue;
            }
            let mut request = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut request).unwrap();
            assert_eq!(request[0], 13, "only signatures are asked for");
            let asked = string(&held);
            let answer = if request[1..].starts_with(&asked) {
                let data = &request[1 + asked.len() + 4..request.len() - 4];
                assert_eq!(data, to_be_signed(&statement()).unwrap());
                let signed = key.sign(NAMESPACE, HashAlg::Sha512, statement().to_string().as_bytes()).unwrap();
                let signed: Vec<u8> = signed.signature().clone().try_into().unwrap();
                [&[14][..], &string(&signed)].concat()
            } else {
                vec![5]
            };
            stream.write_all(&string(&answer)).unwrap();
        }
    });
    path
}

#[test]
fn the_agent_signs_with_the_enrolled_key_that_it_holds_and_with_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let (private, held) = made(Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 });
    let (_, other) = made(Algorithm::Ed25519);
    let socket = agent(&directory, private);
    assert_eq!(sign_with_agent(&statement(), &socket, &[]).unwrap(), None);
    assert_eq!(sign_with_agent(&statement(), &socket, std::slice::from_ref(&other)).unwrap(), None);
    let text = sign_with_agent(&statement(), &socket, &[other, held.clone()]).unwrap().unwrap();
    Signature::parse(&text).unwrap().check(&statement(), &held).unwrap();
    let nobody = directory.path().join("nobody");
    assert!(format!("{:#}", sign_with_agent(&statement(), &nobody, &[held]).unwrap_err()).contains("SSH_AUTH_SOCK"));
}

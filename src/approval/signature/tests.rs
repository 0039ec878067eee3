//! Signatures that do not count, each for its reason, and the kinds that do. Hardware keys are played by software that
//! signs in their format (PROTOCOL.u2f).

use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use ssh_key::{
    Algorithm, EcdsaCurve, HashAlg, PrivateKey, PublicKey, Signature as Raw, SshSig,
    public::{Ed25519PublicKey, KeyData, SkEcdsaSha2NistP256, SkEd25519},
    rand_core::OsRng,
};

use super::{BEGIN, BadSignature, END, Signature, armored, to_be_signed};
use crate::{
    approval::{ApproverKey, NAMESPACE, Statement, UnfitKey},
    model::Vote,
};

const KINDS: [Algorithm; 3] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
];

fn statement() -> Statement {
    about("k3vd-9w2m-7qtp", 'a', "https://tailops.example.ts.net", 0)
}

fn about(id: &str, hash: char, gateway: &str, later: i64) -> Statement {
    let hash = hash.to_string().repeat(64);
    let expires = jiff::Timestamp::from_second(1_800_000_000 + later).unwrap();
    Statement::new(id, &hash, Vote::Approve, "00112233445566778899aabbccddeeff", gateway, expires).unwrap()
}

fn key(kind: &Algorithm) -> (PrivateKey, ApproverKey) {
    let key = PrivateKey::random(&mut OsRng, kind.clone()).unwrap();
    let public = ApproverKey::parse(&key.public_key().to_openssh().unwrap()).unwrap();
    (key, public)
}

fn signed(key: &PrivateKey, namespace: &str, hash: HashAlg, text: &str) -> String {
    key.sign(namespace, hash, text.as_bytes()).unwrap().to_pem(ssh_key::LineEnding::LF).unwrap()
}

fn checked(text: &str, statement: &Statement, key: &ApproverKey) -> Result<(), BadSignature> {
    Signature::parse(text)?.check(statement, key)
}

/// The armored text of `blob`.
fn wrapped(blob: &[u8]) -> String {
    let base64 = STANDARD.encode(blob);
    let lines: Vec<&str> = base64.as_bytes().chunks(70).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))
}

fn blob_of(text: &str) -> Vec<u8> {
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(body).unwrap()
}

#[test]
fn a_signature_over_anything_else_does_not_count() {
    for kind in KINDS {
        let (private, public) = key(&kind);
        let own = statement();
        let good = signed(&private, NAMESPACE, HashAlg::Sha512, &own.to_string());
        let others = [
            about("k3vd-9w2m-7qtq", 'a', own.gateway(), 0),
            about(own.id(), 'b', own.gateway(), 0),
            about(own.id(), 'a', "https://other.example.ts.net", 0),
            about(own.id(), 'a', own.gateway(), 1),
        ];
        for other in &others {
            assert_eq!(checked(&good, other, &public), Err(BadSignature::DoesNotFit), "{kind}: {other}");
        }
        assert_eq!(checked(&good, &own.turned_around(), &public), Err(BadSignature::TurnedAround), "{kind}");
        let (_, stranger) = key(&kind);
        assert_eq!(checked(&good, &own, &stranger), Err(BadSignature::OtherKey(public.id())), "{kind}");
        let elsewhere = signed(&private, "file", HashAlg::Sha512, &own.to_string());
        assert_eq!(checked(&elsewhere, &own, &public), Err(BadSignature::Namespace), "{kind}");
        let longer = signed(&private, "tailops-approval2", HashAlg::Sha512, &own.to_string());
        assert_eq!(checked(&longer, &own, &public), Err(BadSignature::Namespace), "{kind}");
        assert_eq!(checked(&good, &own, &public), Ok(()), "{kind}");
        let sha256 = signed(&private, NAMESPACE, HashAlg::Sha256, &own.to_string());
        assert_eq!(checked(&sha256, &own, &public), Ok(()), "{kind}");
        let crlf = good.replace('\n', "\r\n");
        assert_eq!(checked(&crlf, &own, &public), Ok(()), "{kind}");
        let raw = private.sign(NAMESPACE, HashAlg::Sha512, own.to_string().as_bytes()).unwrap();
        assert_eq!(armored(&public, raw.signature()).unwrap(), raw.to_pem(ssh_key::LineEnding::LF).unwrap(), "{kind}");
    }
}

/// What lies beside the signed bytes could be changed without anybody's key, so there is one way to write each.
#[test]
fn only_the_one_form_is_read() {
    let (private, public) = key(&Algorithm::Ed25519);
    let own = statement();
    let good = signed(&private, NAMESPACE, HashAlg::Sha512, &own.to_string());
    let blob = blob_of(&good);
    assert_eq!(wrapped(&blob), good);
    let edited = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut blob = blob.clone();
        edit(&mut blob);
        wrapped(&blob)
    };
    let reserved = 6 + 4 + 4 + 51 + 4 + NAMESPACE.len();
    let bad = [
        ("empty", String::new()),
        ("too long", format!("{good}{}", "\n".repeat(8 << 10))),
        ("text before", format!("hello\n{good}")),
        ("text behind", format!("{good}hello\n")),
        ("two of them", format!("{good}{good}")),
        ("another label", good.replace("SSH SIGNATURE", "PGP SIGNATURE")),
        ("another width", {
            let body = STANDARD.encode(&blob);
            let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
            format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))
        }),
        ("version 0", edited(&|blob| blob[9] = 0)),
        ("version 2", edited(&|blob| blob[9] = 2)),
        ("longer key", edited(&|blob| blob[13] += 1)),
        (
            "reserved",
            edited(&|blob| {
                blob[reserved + 3] = 1;
                blob.insert(reserved + 4, 0);
            }),
        ),
        ("bytes behind", edited(&|blob| blob.push(0))),
        ("cut", edited(&|blob| blob.truncate(blob.len() - 1))),
        (
            "other hash",
            edited(&|blob| {
                let at = reserved + 4 + 4;
                blob[at..at + 6].copy_from_slice(b"sha384");
            }),
        ),
    ];
    for (what, text) in bad {
        assert_eq!(checked(&text, &own, &public), Err(BadSignature::Unreadable), "{what}");
    }
    for at in 0..blob.len() {
        let flipped = edited(&|blob| blob[at] ^= 1);
        assert!(checked(&flipped, &own, &public).is_err(), "byte {at} was changed and nobody saw it");
    }
    assert_eq!(checked(&good, &own, &public), Ok(()));
}

/// A security key in software.
enum Token {
    Ed25519(Box<Ed25519KeyPair>),
    Ecdsa(Box<EcdsaKeyPair>),
}

impl Token {
    fn both() -> [Self; 2] {
        let random = SystemRandom::new();
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let ecdsa = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        [
            Self::Ed25519(Box::new(Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).unwrap())),
            Self::Ecdsa(Box::new(
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ecdsa.as_ref(), &random).unwrap(),
            )),
        ]
    }

    fn public(&self, application: &str) -> PublicKey {
        let data = match self {
            Self::Ed25519(pair) => {
                let key = Ed25519PublicKey::try_from(pair.public_key().as_ref()).unwrap();
                KeyData::SkEd25519(SkEd25519::new(key, application))
            }
            Self::Ecdsa(pair) => {
                let point = ssh_key::sec1::EncodedPoint::<ssh_key::sec1::consts::U32>::from_bytes(pair.public_key());
                KeyData::SkEcdsaSha2NistP256(SkEcdsaSha2NistP256::new(point.unwrap(), application))
            }
        };
        PublicKey::new(data, "")
    }

    fn sign(&self, application: &str, flags: u8, counter: u32, message: &[u8]) -> Raw {
        let mut data = digest(&SHA256, application.as_bytes()).as_ref().to_vec();
        let trailer: Vec<u8> = [flags].into_iter().chain(counter.to_be_bytes()).collect();
        data.extend(&trailer);
        data.extend(digest(&SHA256, message).as_ref());
        let (algorithm, mut bytes) = match self {
            Self::Ed25519(pair) => (Algorithm::SkEd25519, pair.sign(&data).as_ref().to_vec()),
            Self::Ecdsa(pair) => {
                let signature = pair.sign(&SystemRandom::new(), &data).unwrap();
                let mut bytes = Vec::new();
                for half in signature.as_ref().chunks(32) {
                    let short: Vec<u8> = half.iter().copied().skip_while(|byte| *byte == 0).collect();
                    let sign = short.first().is_some_and(|byte| byte & 0x80 != 0);
                    let number: Vec<u8> = sign.then_some(0).into_iter().chain(short).collect();
                    super::put(&mut bytes, &number).unwrap();
                }
                (Algorithm::SkEcdsaSha2NistP256, bytes)
            }
        };
        bytes.extend(trailer);
        Raw::new(algorithm, bytes).unwrap()
    }
}

#[test]
fn a_hardware_key_counts_only_when_it_was_touched() {
    for token in Token::both() {
        let public = ApproverKey::parse(&token.public("ssh:").to_openssh().unwrap()).unwrap();
        assert!(public.is_hardware());
        let own = statement();
        let message = to_be_signed(&own).unwrap();
        let made = |flags, counter| armored(&public, &token.sign("ssh:", flags, counter, &message)).unwrap();
        for flags in [0, 4, 0xfe] {
            assert_eq!(checked(&made(flags, 7), &own, &public), Err(BadSignature::Untouched), "{flags}");
        }
        for (flags, counter) in [(1, 0), (5, 7), (1, u32::MAX)] {
            assert_eq!(checked(&made(flags, counter), &own, &public), Ok(()), "{flags} {counter}");
        }
        let mut raised = blob_of(&made(0, 7));
        let at = raised.len() - 5;
        raised[at] = 1;
        assert_eq!(checked(&wrapped(&raised), &own, &public), Err(BadSignature::DoesNotFit), "the flags are signed");
        let elsewhere = armored(&public, &token.sign("ssh:other", 1, 7, &message)).unwrap();
        assert_eq!(checked(&elsewhere, &own, &public), Err(BadSignature::DoesNotFit));
        assert_eq!(checked(&made(1, 7), &own.turned_around(), &public), Err(BadSignature::TurnedAround));
        let web = token.public("webauthn.example.org").to_openssh().unwrap();
        assert_eq!(ApproverKey::parse(&web), Err(UnfitKey::Application));
    }
}

/// The same numbers, said to be by another kind of key.
#[test]
fn a_signature_of_another_kind_than_its_key_is_not_read() {
    let (_, public) = key(&Algorithm::Ed25519);
    let [token, _] = Token::both();
    let raw = token.sign("ssh:", 1, 1, &to_be_signed(&statement()).unwrap());
    assert_eq!(armored(&public, &raw), None);
    let odd = SshSig::new(public.data().clone(), NAMESPACE, HashAlg::Sha512, raw).unwrap();
    let text = odd.to_pem(ssh_key::LineEnding::LF).unwrap();
    assert_eq!(Signature::parse(&text), Err(BadSignature::Unreadable));
}

#[test]
fn what_is_no_key_of_an_approver_is_refused_with_its_reason() {
    let (private, public) = key(&Algorithm::Ed25519);
    let line = public.line();
    let body = line.split(' ').nth(1).unwrap();
    let refused = |text: &str| ApproverKey::parse(text).unwrap_err();
    let kind = |name: &str| UnfitKey::Kind(name.to_owned());
    assert_eq!(refused(""), UnfitKey::NotOneLine);
    assert_eq!(refused("ssh-ed25519"), UnfitKey::NotOneLine);
    assert_eq!(refused(&format!("{line}\n{line}")), UnfitKey::NotOneLine);
    assert_eq!(refused(&format!("{line} \u{1b}[31m")), UnfitKey::NotOneLine);
    assert_eq!(refused(&format!("{line} {}", "a".repeat(2048))), UnfitKey::NotOneLine);
    assert_eq!(refused(&format!("no-pty {line}")), UnfitKey::Options);
    assert_eq!(refused(&format!("command=\"rm -rf /\" {line}")), UnfitKey::Options);
    assert_eq!(refused(&format!("ssh-ed25519-cert-v01@openssh.com {body}")), UnfitKey::Certificate);
    assert_eq!(refused(&format!("ssh-rsa {body}")), kind("ssh-rsa"));
    assert_eq!(refused(&format!("ssh-dss {body}")), kind("ssh-dss"));
    assert_eq!(refused(&format!("ecdsa-sha2-nistp521 {body}")), kind("ecdsa-sha2-nistp521"));
    assert_eq!(refused(&format!("ecdsa-sha2-nistp256 {body}")), UnfitKey::Damaged, "the name and the bytes differ");
    assert_eq!(refused("ssh-ed25519 AAAA"), UnfitKey::Damaged);
    assert_eq!(refused(&format!("ssh-ed25519  {body}")), UnfitKey::Damaged);
    assert_eq!(refused(&format!("{line}AAAA")), UnfitKey::Damaged);
    let file = private.to_openssh(ssh_key::LineEnding::LF).unwrap();
    assert_eq!(refused(&file), UnfitKey::Private);
    for good in [line.clone(), format!("{line}\n"), format!("{line} maria@laptop\r\n"), format!("{line} two words")] {
        assert_eq!(ApproverKey::parse(&good).unwrap(), public, "{good:?}");
    }
    assert_eq!(public.id(), private.fingerprint(HashAlg::Sha256).to_string());
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,600}", blob in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Signature::parse(&text).is_err());
        prop_assert!(Signature::parse(&wrapped(&blob)).is_err());
        let _ = ApproverKey::parse(&text);
        let _ = ApproverKey::parse(&format!("ssh-ed25519 {}", STANDARD.encode(&blob)));
    }
}

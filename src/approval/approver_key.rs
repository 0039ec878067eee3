//! A public key whose signatures can count as a person's: read strictly from one line of OpenSSH. Knows no person and
//! checks no signature.

use base64::{Engine, engine::general_purpose::STANDARD};
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, PublicKey, public::KeyData};

use crate::model::hex;

/// The longest line that is read, in bytes. Those of the kinds that count are below 400.
const LONGEST: usize = 2048;
/// What an application of a hardware key starts with, so that a key made for a website does not count.
const APPLICATION: &str = "ssh:";

/// One public key of a kind that counts: `ssh-ed25519`, `ecdsa-sha2-nistp256`, `ecdsa-sha2-nistp384`,
/// `sk-ssh-ed25519@openssh.com` or `sk-ecdsa-sha2-nistp256@openssh.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApproverKey(PublicKey);

/// Why a line is no key that counts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnfitKey {
    /// More than a line, or none.
    #[error("must be one line as `ssh-keygen` writes it to a .pub file: type, base64, comment")]
    NotOneLine,
    /// Something stands before the key.
    #[error("must not have options before the key, as a line of authorized_keys can")]
    Options,
    /// A certificate.
    #[error("must be a plain key: a certificate is no key of an approver")]
    Certificate,
    /// A private key.
    #[error("must be the public key, the file that ends in .pub: keep the private one to yourself")]
    Private,
    /// A kind that does not count.
    #[error("must be of type ssh-ed25519, ecdsa-sha2-nistp256, ecdsa-sha2-nistp384 or one of their sk- forms, not {0}")]
    Kind(String),
    /// A hardware key for something else than SSH.
    #[error("must be a hardware key for SSH: its application must start with `ssh:`")]
    Application,
    /// A point of small order: a signature for it can be made up.
    #[error("is no honest key: anybody could sign for it")]
    Weak,
    /// Its bytes are no key.
    #[error("is no public key: its base64 is damaged")]
    Damaged,
}

impl ApproverKey {
    /// Reads one line of OpenSSH, with or without a comment, which is dropped.
    pub fn parse(line: &str) -> Result<Self, UnfitKey> {
        if line.contains("PRIVATE KEY-----") {
            return Err(UnfitKey::Private);
        }
        let line = line.trim_end_matches(['\n', '\r']);
        if line.len() > LONGEST || line.chars().any(char::is_control) {
            return Err(UnfitKey::NotOneLine);
        }
        let mut words = line.split(' ');
        let (Some(kind), Some(body)) = (words.next(), words.next()) else { return Err(UnfitKey::NotOneLine) };
        match kind.parse::<Algorithm>() {
            Ok(kind) if counts(&kind) => {}
            _ if kind.contains("-cert-v") => return Err(UnfitKey::Certificate),
            Ok(Algorithm::Other(_)) | Err(_) if line.split(' ').skip(1).any(is_kind) => return Err(UnfitKey::Options),
            _ => return Err(UnfitKey::Kind(named(kind))),
        }
        let key = PublicKey::from_openssh(line).map_err(|_| UnfitKey::Damaged)?;
        let key = Self::of(key.key_data()).map_err(|kind| kind.unwrap_or(UnfitKey::Damaged))?;
        // One key has one line: nothing lies behind it or in its lengths.
        let same = key.0.to_bytes().is_ok_and(|bytes| STANDARD.encode(bytes) == body);
        if same { Ok(key) } else { Err(UnfitKey::Damaged) }
    }

    /// The key that a signature brought. Errors for a kind that does not count; without a reason where it is damaged.
    pub(super) fn of(data: &KeyData) -> Result<Self, Option<UnfitKey>> {
        let kind = data.algorithm();
        if !counts(&kind) {
            return Err(Some(UnfitKey::Kind(named(kind.as_str()))));
        }
        let point: &[u8] = match data {
            KeyData::SkEd25519(key) => key.public_key().0.as_slice(),
            KeyData::Ed25519(key) => key.0.as_slice(),
            _ => &[],
        };
        if is_weak(point) {
            return Err(Some(UnfitKey::Weak));
        }
        let application = match data {
            KeyData::SkEd25519(key) => key.application(),
            KeyData::SkEcdsaSha2NistP256(key) => key.application(),
            KeyData::Ed25519(_) | KeyData::Ecdsa(_) => APPLICATION,
            _ => return Err(None),
        };
        if !application.starts_with(APPLICATION) {
            return Err(Some(UnfitKey::Application));
        }
        Ok(Self(PublicKey::new(data.clone(), "")))
    }

    /// Its fingerprint, `SHA256:…` as `ssh-keygen -l` prints it.
    pub fn id(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }

    /// Its type, e.g. `ssh-ed25519`.
    pub fn kind(&self) -> String {
        self.0.algorithm().as_str().to_owned()
    }

    /// The line of OpenSSH, without a comment.
    pub fn line(&self) -> String {
        let body = self.0.to_bytes().map(|bytes| STANDARD.encode(bytes)).unwrap_or_default();
        format!("{} {body}", self.kind())
    }

    /// The key itself.
    pub fn data(&self) -> &KeyData {
        self.0.key_data()
    }

    /// Whether it lies in hardware that wants a touch for each signature.
    pub fn is_hardware(&self) -> bool {
        matches!(self.data(), KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_))
    }
}

/// Whether signatures of this kind of key count. P-521, RSA and DSA do not: one short list is easier to trust.
fn counts(kind: &Algorithm) -> bool {
    matches!(
        kind,
        Algorithm::Ed25519
            | Algorithm::SkEd25519
            | Algorithm::SkEcdsaSha2NistP256
            | Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 | EcdsaCurve::NistP384 }
    )
}

/// Whether these are the bytes of a point of Ed25519 whose order divides eight, in any of their encodings.
fn is_weak(point: &[u8]) -> bool {
    let Some((last, rest)) = point.split_last() else { return false };
    // The highest bit is the sign of x, which makes no difference.
    let unsigned: Vec<u8> = rest.iter().copied().chain([last & 0x7f]).collect();
    SMALL_ORDER.contains(&hex(&unsigned).as_str())
}

/// The y of those points, little-endian: 0, 1 and -1, the two of order eight, and what 0 and 1 are modulo the prime.
const SMALL_ORDER: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

/// Whether a word is the name of a kind of key.
fn is_kind(word: &str) -> bool {
    matches!(word.parse::<Algorithm>(), Ok(kind) if !matches!(kind, Algorithm::Other(_)))
}

/// A name for a message, or a word for what is none.
fn named(kind: &str) -> String {
    let plain = !kind.is_empty() && kind.len() <= 64 && kind.bytes().all(|byte| byte.is_ascii_graphic());
    if plain { kind.to_owned() } else { "something else".to_owned() }
}

#[cfg(test)]
mod tests {
    use ssh_key::{
        Algorithm, HashAlg, PublicKey, Signature, SshSig,
        public::{Ed25519PublicKey, KeyData},
    };

    use super::{ApproverKey, SMALL_ORDER, UnfitKey};

    fn bytes(hex: &str, sign: u8) -> [u8; 32] {
        let mut bytes: [u8; 32] = std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap());
        bytes[31] |= sign;
        bytes
    }

    /// For each of these a signature over some text can be made without any private key, which is why they are refused.
    #[test]
    fn a_key_that_anybody_can_sign_for_is_refused() {
        for (hex, sign) in SMALL_ORDER.iter().flat_map(|hex| [(hex, 0), (hex, 0x80)]) {
            let data = KeyData::Ed25519(Ed25519PublicKey(bytes(hex, sign)));
            let key = PublicKey::new(data.clone(), "");
            assert_eq!(ApproverKey::parse(&key.to_openssh().unwrap()), Err(UnfitKey::Weak), "{hex} {sign}");
            // Not every encoding is one to the verifier; those that are can be signed for: R of small order and s = 0.
            let made_up = |text: u32, r: &&str| {
                let signature = [bytes(r, 0), [0; 32]].concat();
                let signature = Signature::new(Algorithm::Ed25519, signature).unwrap();
                let sig = SshSig::new(data.clone(), "x", HashAlg::Sha512, signature).unwrap();
                key.verify("x", &text.to_be_bytes(), &sig).is_ok()
            };
            let forged = (0..400).any(|text| SMALL_ORDER.iter().any(|r| made_up(text, r)));
            assert!(forged || sign != 0, "{hex} is not of small order");
        }
    }
}

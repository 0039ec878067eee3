//! Signatures of people: SSHSIG as OpenSSH makes it (PROTOCOL.sshsig), read strictly and checked against a statement and
//! a key that is already trusted. Knows no person; says no word of its own on whether a key is enrolled.
//!
//! The crate `ssh-key` reads and does the mathematics. What it leaves open is closed here: the version, the reserved
//! field, bytes that no length accounts for, the kind of the signature against the key's, and the touch of a hardware key.

use base64::{Engine, engine::general_purpose::STANDARD};
use ssh_key::{Algorithm, HashAlg, PublicKey, Signature as Raw, SshSig};

use super::{
    approver_key::{ApproverKey, UnfitKey},
    statement::{NAMESPACE, Statement},
};

/// The longest armored text that is read, in bytes. Those of the kinds that count are below 1000.
const LONGEST: usize = 8 << 10;
/// The bytes of a signature of a hardware key behind the signature proper: flags and counter.
const TRAILER: usize = 5;
/// Of the flags: somebody was there and touched it.
const TOUCHED: u8 = 1;

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
const MAGIC: &[u8] = b"SSHSIG";
/// Where OpenSSH breaks the base64.
const WIDTH: usize = 70;

/// A signature that was read, and is not checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    sig: SshSig,
    key: ApproverKey,
    text: String,
}

/// Why a signature does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// It cannot be read.
    #[error("it must be an armored SSH signature, exactly as `ssh-keygen -Y sign` writes it")]
    Unreadable,
    /// Made for something else.
    #[error("it was not made for the namespace {NAMESPACE}")]
    Namespace,
    /// Its key is of a kind that does not count.
    #[error("its key {0}")]
    Key(#[from] UnfitKey),
    /// Another key made it.
    #[error("the key {0} made it, which is not the one asked for")]
    OtherKey(String),
    /// A hardware key signed without a touch.
    #[error("its hardware key was not touched: make the key without no-touch-required")]
    Untouched,
    /// The opposite was signed.
    #[error("it says the opposite: the decision was turned around after signing")]
    TurnedAround,
    /// Something else was signed.
    #[error(
        "it is over something else: another approval, operation, nonce, gateway or expiry than this approval has, or by \
         another key than it names"
    )]
    DoesNotFit,
}

impl Signature {
    /// Reads an armored signature. Errors unless it is, byte for byte but for line ends, how OpenSSH writes it, for our
    /// namespace, by a kind of key that counts.
    pub fn parse(armored: &str) -> Result<Self, BadSignature> {
        if armored.len() > LONGEST {
            return Err(BadSignature::Unreadable);
        }
        let text = armored.replace("\r\n", "\n");
        let sig = SshSig::from_pem(&text).map_err(|_| BadSignature::Unreadable)?;
        let key = ApproverKey::of(sig.public_key()).map_err(|why| why.map_or(BadSignature::Unreadable, Into::into))?;
        if sig.namespace() != NAMESPACE {
            return Err(BadSignature::Namespace);
        }
        let canonical = armored_of(&key, sig.hash_alg(), sig.signature()).ok_or(BadSignature::Unreadable)?;
        // Also what the reader passes over: other versions, a reserved field, lengths that do not fit.
        if canonical.trim_end() != text.trim_end() || sig.signature().algorithm() != key.data().algorithm() {
            return Err(BadSignature::Unreadable);
        }
        Ok(Self { sig, key, text: canonical })
    }

    /// The key that it says made it.
    pub fn key(&self) -> &ApproverKey {
        &self.key
    }

    /// Its armored form, with LF at each line's end.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether `key` made it over `statement`, and somebody touched the key where it lies in hardware.
    pub fn check(&self, statement: &Statement, key: &ApproverKey) -> Result<(), BadSignature> {
        if self.key != *key {
            return Err(BadSignature::OtherKey(self.key.id()));
        }
        if key.is_hardware() {
            let bytes = self.sig.signature_bytes();
            let flags = bytes.len().checked_sub(TRAILER).and_then(|at| bytes.get(at));
            if flags.is_none_or(|flags| flags & TOUCHED == 0) {
                return Err(BadSignature::Untouched);
            }
        }
        if self.covers(statement) {
            Ok(())
        } else if self.covers(&statement.turned_around()) {
            Err(BadSignature::TurnedAround)
        } else {
            Err(BadSignature::DoesNotFit)
        }
    }

    fn covers(&self, statement: &Statement) -> bool {
        let key = PublicKey::new(self.key.data().clone(), "");
        key.verify(NAMESPACE, statement.to_string().as_bytes(), &self.sig).is_ok()
    }
}

/// The bytes that a key signs for `statement`: what an agent is handed.
pub fn to_be_signed(statement: &Statement) -> Option<Vec<u8>> {
    SshSig::signed_data(NAMESPACE, HashAlg::Sha512, statement.to_string().as_bytes()).ok()
}

/// The armored form of a signature that `key` made over [`to_be_signed`]. None where it is of another kind than the key.
pub fn armored(key: &ApproverKey, signature: &Raw) -> Option<String> {
    if signature.algorithm() != key.data().algorithm() {
        return None;
    }
    armored_of(key, HashAlg::Sha512, signature)
}

fn armored_of(key: &ApproverKey, hash: HashAlg, signature: &Raw) -> Option<String> {
    let mut blob = MAGIC.to_vec();
    blob.extend(SshSig::VERSION.to_be_bytes());
    put(&mut blob, &PublicKey::new(key.data().clone(), "").to_bytes().ok()?)?;
    put(&mut blob, NAMESPACE.as_bytes())?;
    put(&mut blob, b"")?;
    put(&mut blob, hash.as_str().as_bytes())?;
    put(&mut blob, &wire(signature)?)?;
    let base64 = STANDARD.encode(blob);
    let mut text = format!("{BEGIN}\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, next) = rest.split_at_checked(WIDTH).unwrap_or((rest, ""));
        text.push_str(line);
        text.push('\n');
        rest = next;
    }
    text.push_str(END);
    text.push('\n');
    Some(text)
}

/// `signature` as it stands in a blob. By hand: the crate writes those of `sk-ecdsa` without the place of their trailer.
fn wire(signature: &Raw) -> Option<Vec<u8>> {
    let algorithm = signature.algorithm();
    let hardware = matches!(algorithm, Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256);
    let bytes = signature.as_bytes();
    let trailer = if hardware { TRAILER } else { 0 };
    let (proper, trailer) = bytes.split_at_checked(bytes.len().checked_sub(trailer)?)?;
    let mut out = Vec::new();
    put(&mut out, algorithm.as_str().as_bytes())?;
    put(&mut out, proper)?;
    out.extend(trailer);
    Some(out)
}

/// A string of SSH: its length and its bytes.
fn put(out: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    out.extend(u32::try_from(bytes.len()).ok()?.to_be_bytes());
    out.extend(bytes);
    Some(())
}

#[cfg(test)]
mod tests;

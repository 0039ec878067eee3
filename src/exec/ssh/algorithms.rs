//! What is negotiated: modern algorithms only, and of host keys those first that the host was enrolled with. Offers
//! nothing for the sake of old hosts, and has no setting that would.

use std::borrow::Cow;

use russh::{
    AlgorithmKind, Preferred, cipher, compression, kex,
    keys::{Algorithm, EcdsaCurve, HashAlg, PublicKey, agent::AgentSessionBinding, ssh_key::public::KeyData},
    mac,
};

use super::SshFault;
use crate::model::HostKeyPin;

/// Key exchanges. No Diffie-Hellman over a prime field: every OpenSSH since 6.5 has Curve25519. Strict key exchange is
/// asked for, so that a peer in between cannot drop the first messages unseen.
const KEY_EXCHANGES: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
];

/// Ciphers. AES-GCM stands first: it is sound also with a host that has no strict key exchange.
const CIPHERS: &[cipher::Name] =
    &[cipher::AES_256_GCM, cipher::CHACHA20_POLY1305, cipher::AES_256_CTR, cipher::AES_128_CTR];

/// MACs for ciphers that need one: SHA-2 over what was encrypted.
const MACS: &[mac::Name] = &[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM];

/// Host keys, the best first. No `ssh-rsa`: that is RSA with SHA-1.
pub(super) const HOST_KEYS: [Algorithm; 6] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// The shortest RSA key.
const RSA_BITS: u32 = 2048;

/// The most names of algorithms that are shown, and the most characters of each.
const SHOWN: (usize, usize) = (8, 48);

/// What is offered to a host that was enrolled with the keys `known`: the types of those first, so that a host with
/// several keys shows one that is known. Before them the types of certificates, where `certified`.
pub(super) fn preferred(known: &[HostKeyPin], certified: bool) -> Preferred {
    let is_known = |algorithm: &Algorithm| {
        let name = key_type(algorithm);
        known.iter().any(|pin| pin.algorithm.as_deref() == Some(name))
    };
    let (first, rest): (Vec<_>, Vec<_>) = HOST_KEYS.into_iter().partition(is_known);
    offering(first.into_iter().chain(rest).collect(), certified)
}

/// What is offered, with the host keys `keys` and no others; as certificates too, where `certified`.
pub(super) fn offering(keys: Vec<Algorithm>, certified: bool) -> Preferred {
    Preferred {
        kex: Cow::Borrowed(KEY_EXCHANGES),
        host_key_certificates: Cow::Owned(if certified { keys.clone() } else { Vec::new() }),
        key: Cow::Owned(keys),
        cipher: Cow::Borrowed(CIPHERS),
        mac: Cow::Borrowed(MACS),
        // Compressed output tells by its length what is in it, and can be made to grow.
        compression: Cow::Borrowed(&[compression::NONE]),
    }
}

/// The name of a key of this kind: for RSA `ssh-rsa`, whatever it signs with.
pub(super) fn key_type(algorithm: &Algorithm) -> &str {
    match algorithm {
        Algorithm::Rsa { .. } => "ssh-rsa",
        other => other.as_str(),
    }
}

/// Whether a key, a host's or an authority's, is of a kind that may be trusted at all. The error says what it is.
///
/// What was negotiated does not say it: the library takes any key that signs the exchange.
pub(super) fn acceptable(key: &PublicKey) -> Result<(), String> {
    let name = key_type(&key.algorithm()).to_owned();
    match key.key_data() {
        KeyData::Rsa(rsa) if rsa.key_size() < RSA_BITS => {
            Err(format!("an RSA key of {} bits, fewer than {RSA_BITS}", rsa.key_size()))
        }
        _ if HOST_KEYS.iter().any(|algorithm| key_type(algorithm) == name) => Ok(()),
        _ => Err(format!("a key of the type {}", printable(&name, SHOWN.1))),
    }
}

/// Whether the host signed the key exchange with what was offered. The library verifies whatever signature it finds,
/// also RSA with SHA-1; its name stands at the beginning.
pub(super) fn signed_well(binding: Option<&AgentSessionBinding>) -> Result<(), SshFault> {
    let signature = binding.map(AgentSessionBinding::signature).unwrap_or_default();
    let name = signature.split_first_chunk::<4>().and_then(|(length, rest)| {
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        std::str::from_utf8(rest.get(..length)?).ok()
    });
    let offered = name.unwrap_or("none");
    if HOST_KEYS.iter().any(|algorithm| algorithm.as_str() == offered) {
        return Ok(());
    }
    Err(SshFault::WeakAlgorithms { what: "signature of the host", offered: printable(offered, SHOWN.1) })
}

/// Why a host that offers nothing in common is refused; none where the error is another one.
pub(super) fn nothing_in_common(error: &russh::Error) -> Option<SshFault> {
    let russh::Error::NoCommonAlgo { kind, theirs, .. } = error else { return None };
    let what = match kind {
        AlgorithmKind::Kex => "key exchange",
        AlgorithmKind::Key => "host key",
        AlgorithmKind::Cipher => "cipher",
        AlgorithmKind::Mac => "MAC",
        AlgorithmKind::Compression => "compression",
    };
    let (most, length) = SHOWN;
    let mut offered: Vec<_> = theirs.iter().take(most).map(|name| printable(name, length)).collect();
    if let Some(left @ 1..) = theirs.len().checked_sub(most) {
        offered.push(format!("and {left} more"));
    }
    Some(SshFault::WeakAlgorithms { what, offered: offered.join(", ") })
}

/// At most `most` characters of what a host wrote, without any that could do something where it is shown.
pub(super) fn printable(text: &str, most: usize) -> String {
    let clean = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    text.chars().take(most).map(clean).collect()
}

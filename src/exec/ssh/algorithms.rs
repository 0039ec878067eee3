//! What is negotiated: modern algorithms only, and of host keys those first that the host was enrolled with. Offers
//! nothing for the sake of old hosts, and has no setting that would.

use std::borrow::Cow;

use russh::{
    AlgorithmKind, Preferred, cipher, compression, kex,
    keys::{Algorithm, EcdsaCurve, HashAlg, PublicKey, ssh_key::public::KeyData},
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

/// Whether the host signed the key exchange with what was offered: `signature` begins with the algorithm's name. The
/// library verifies whatever signature it finds, also RSA with SHA-1.
pub(super) fn signed_well(signature: &[u8]) -> Result<(), SshFault> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use russh::keys::PrivateKey;

    use super::*;

    fn signature(name: &str) -> Vec<u8> {
        let mut bytes = u32::try_from(name.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend(name.as_bytes());
        bytes.extend([0, 0, 0, 1, 7]);
        bytes
    }

    #[test]
    fn nothing_old_is_offered() {
        let offered = preferred(&[], true);
        let names: Vec<String> = (offered.kex.iter().map(|name| name.as_ref().to_owned()))
            .chain(offered.key.iter().map(ToString::to_string))
            .chain(offered.host_key_certificates.iter().map(Algorithm::to_certificate_type))
            .chain(offered.cipher.iter().map(|name| name.as_ref().to_owned()))
            .chain(offered.mac.iter().map(|name| name.as_ref().to_owned()))
            .chain(offered.compression.iter().map(|name| name.as_ref().to_owned()))
            .collect();
        for name in &names {
            let old =
                ["sha1", "cbc", "md5", "diffie-hellman", "nistp256@", "ssh-rsa", "dss", "zlib", "3des", "arcfour"];
            assert!(!old.iter().any(|old| name.contains(old)), "{name}");
        }
        assert_eq!(names.len(), 5 + 6 + 6 + 4 + 2 + 1, "{names:?}");
        // What the page says is what is offered.
        let page = include_str!("../../../docs/ssh-trust.md");
        for name in names.iter().filter(|name| !name.contains("-cert-") && *name != "none") {
            assert!(page.contains(&format!("`{name}`")), "docs/ssh-trust.md does not name {name}");
        }
    }

    #[test]
    fn the_type_of_a_known_key_comes_first() {
        let pin = |name: &str| HostKeyPin { fingerprint: "SHA256:x".into(), algorithm: Some(name.into()) };
        let first = |pins: &[HostKeyPin]| preferred(pins, false).key[0].to_string();
        assert_eq!(first(&[]), "ssh-ed25519");
        assert_eq!(first(&[pin("ecdsa-sha2-nistp384")]), "ecdsa-sha2-nistp384");
        assert_eq!(first(&[pin("ssh-rsa")]), "rsa-sha2-512");
        assert_eq!(preferred(&[pin("ssh-rsa")], false).key.len(), 6);
        assert!(preferred(&[pin("ssh-rsa")], false).host_key_certificates.is_empty());
    }

    #[test]
    fn a_key_exchange_signed_with_sha1_is_refused() {
        for name in ["rsa-sha2-512", "rsa-sha2-256", "ssh-ed25519", "ecdsa-sha2-nistp256"] {
            assert!(signed_well(&signature(name)).is_ok(), "{name}");
        }
        for bytes in [signature("ssh-rsa"), signature("ssh-dss"), signature(""), vec![], vec![0, 0, 0, 9], vec![255; 8]]
        {
            assert_eq!(signed_well(&bytes).unwrap_err().code(), "weak_algorithms", "{bytes:?}");
        }
    }

    #[test]
    fn only_kinds_of_keys_that_are_offered_are_taken() {
        let of = |algorithm| PrivateKey::random(&mut rand::rng(), algorithm).unwrap().public_key().clone();
        assert_eq!(acceptable(&of(Algorithm::Ed25519)), Ok(()));
        assert_eq!(acceptable(&of(Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 })), Ok(()));
        let hardware = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAICFo/k5LU8863u66YC9eUO2170QduohPURkQnbLa/dczAAAABHNzaDo=";
        let why = acceptable(&PublicKey::from_openssh(hardware).unwrap()).unwrap_err();
        assert!(why.contains("sk-ssh-ed25519"), "{why}");
    }

    proptest! {
        #[test]
        fn what_a_host_wrote_is_shown_short_and_harmless(text: String) {
            let shown = printable(&text, 40);
            prop_assert!(shown.len() <= 40 && shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        }
    }
}

//! What is negotiated: modern algorithms only, and of host keys those first that the host was enrolled with.

use std::borrow::Cow;

use russh::{
    Preferred,
    keys::{Algorithm, EcdsaCurve, HashAlg},
};

use crate::model::HostKeyPin;

/// Host keys, the best first. No `ssh-rsa`: that is RSA with SHA-1.
const HOST_KEYS: [Algorithm; 6] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// What is offered to a host that was enrolled with `pins`: the types of those keys first, so that a host with several
/// keys shows one that is known.
pub(super) fn preferred(pins: &[HostKeyPin]) -> Preferred {
    let known = |algorithm: &Algorithm| {
        let name = match algorithm {
            Algorithm::Rsa { .. } => "ssh-rsa",
            other => other.as_str(),
        };
        pins.iter().any(|pin| pin.algorithm.as_deref() == Some(name))
    };
    let (first, rest): (Vec<_>, Vec<_>) = HOST_KEYS.into_iter().partition(known);
    Preferred { key: Cow::Owned(first.into_iter().chain(rest).collect()), ..Preferred::DEFAULT }
}

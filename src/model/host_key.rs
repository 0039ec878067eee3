//! Pinned host keys: which SSH host key a target was enrolled with. Only fingerprints, never keys; compares, and opens
//! no connection.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

/// One enrolled host key: its SHA-256 fingerprint as OpenSSH prints it, and its algorithm where that is known.
///
/// Written `SHA256:<base64 without padding>`, or that and, after a blank, the algorithm's name, e.g. `ssh-ed25519`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostKeyPin {
    /// `SHA256:` and 43 characters.
    pub fingerprint: String,
    /// As SSH names it, e.g. `ssh-ed25519`; an RSA key is `ssh-rsa` whatever it signs with.
    pub algorithm: Option<String>,
}

/// A text that is no pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is no fingerprint of a host key: write it as `ssh-keygen -lf` prints it, e.g. \
     \"SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU\", with the key's algorithm behind it if you know it"
)]
pub struct NotAPin;

/// The host key algorithms there are, without certificates: what a pin may name.
const ALGORITHMS: [&str; 7] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

impl FromStr for HostKeyPin {
    type Err = NotAPin;

    fn from_str(text: &str) -> Result<Self, NotAPin> {
        let (fingerprint, algorithm) = match text.split_once(' ') {
            Some((fingerprint, algorithm)) => (fingerprint, Some(algorithm)),
            None => (text, None),
        };
        let digest = fingerprint.strip_prefix("SHA256:").ok_or(NotAPin)?;
        let digest = STANDARD_NO_PAD.decode(digest).map_err(|_| NotAPin)?;
        if digest.len() != 32 || algorithm.is_some_and(|name| !ALGORITHMS.contains(&name)) {
            return Err(NotAPin);
        }
        Ok(Self { fingerprint: fingerprint.to_owned(), algorithm: algorithm.map(str::to_owned) })
    }
}

impl fmt::Display for HostKeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint)?;
        self.algorithm.as_ref().map_or(Ok(()), |algorithm| write!(f, " {algorithm}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";

    #[test]
    fn a_pin_is_a_whole_fingerprint_and_at_most_an_algorithm_that_exists() {
        for text in [
            "",
            "SHA256:",
            "MD5:d4:1d:8c:d9:8f:00:b2:04:e9:80:09:98:ec:f8:42:7e",
            "sha256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
            "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSu",
            "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU ",
            "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU ssh-dss",
            "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU ssh-ed25519 x",
        ] {
            assert_eq!(text.parse::<HostKeyPin>(), Err(NotAPin), "{text:?}");
        }
    }

    #[test]
    fn a_pin_is_written_as_it_is_read() {
        for text in [EMPTY.to_owned(), format!("{EMPTY} ssh-ed25519")] {
            assert_eq!(text.parse::<HostKeyPin>().unwrap().to_string(), text);
        }
    }
}

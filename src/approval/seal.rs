//! The secret that a webhook shares with the gateway, and what is made of it: HMAC-SHA-256 over a time and a body. Never
//! shows the secret. docs/webhooks.md has the format, byte by byte.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use ring::hmac;
use secrecy::{ExposeSecret, SecretString};

use crate::{
    model::hex,
    store::{DirectoryError, check_private},
};

/// Carries the time of a message, in seconds since 1970 in UTC.
pub const TIMESTAMP: &str = "x-tailops-timestamp";
/// Carries its seal.
pub const SIGNATURE: &str = "x-tailops-signature";
/// Stands before the hexadecimal digits.
const VERSION: &str = "v1=";
/// The shortest secret, in bytes: what is guessed offline has to be long.
const SHORTEST: usize = 32;
/// The longest secret, in bytes.
const LONGEST: usize = 1024;

/// Why a secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretFault {
    /// Others can read it, or it is no file.
    #[error(transparent)]
    Private(#[from] DirectoryError),
    /// It cannot be read.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It holds something else.
    #[error("{path}: must hold {wanted} in one line of visible ASCII characters")]
    Form {
        /// Which file.
        path: PathBuf,
        /// What would be right.
        wanted: &'static str,
    },
}

/// The one line that `file` holds, which must be private.
pub(super) fn read_secret(file: &Path, shortest: usize, wanted: &'static str) -> Result<SecretString, SecretFault> {
    check_private(file)?;
    let failed = |error| SecretFault::Io { path: file.to_owned(), error };
    let mut text = String::new();
    let most = LONGEST as u64 + 2; // and the end of its line
    File::open(file).map_err(failed)?.take(most).read_to_string(&mut text).map_err(failed)?;
    let text = SecretString::from(text);
    let line = text.expose_secret().trim_end_matches(['\n', '\r']);
    let fits = (shortest..=LONGEST).contains(&line.len()) && line.bytes().all(|byte| byte.is_ascii_graphic());
    if !fits {
        return Err(SecretFault::Form { path: file.to_owned(), wanted });
    }
    Ok(SecretString::from(line))
}

/// Seals what goes out with one secret, and tells what came in with the same.
pub(super) struct Seal(hmac::Key);

impl Seal {
    /// With the secret in `file`.
    pub(super) fn read(file: &Path) -> Result<Self, SecretFault> {
        let secret = read_secret(file, SHORTEST, "a secret of 32 to 1024 bytes")?;
        Ok(Self::of(secret.expose_secret().as_bytes()))
    }

    pub(super) fn of(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The value of [`SIGNATURE`] for `body` at `timestamp`, the value of [`TIMESTAMP`].
    pub(super) fn sign(&self, timestamp: &str, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(timestamp.as_bytes());
        context.update(b".");
        context.update(body);
        format!("{VERSION}{}", hex(context.sign().as_ref()))
    }

    /// Whether `signature` is that of `body` at `timestamp`. Takes as long for a wrong one as for the right one.
    pub(super) fn verifies(&self, timestamp: &str, signature: &Signature, body: &[u8]) -> bool {
        let message = [timestamp.as_bytes(), b".", body].concat();
        hmac::verify(&self.0, &message, &signature.0).is_ok()
    }

    /// Whether `other` was made of the same secret.
    pub(super) fn is_that_of(&self, other: &Self) -> bool {
        hmac::verify(&self.0, b"", hmac::sign(&other.0, b"").as_ref()).is_ok()
    }
}

/// The bytes behind `v1=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Signature([u8; 32]);

impl Signature {
    /// Reads `v1=` and exactly 64 hexadecimal digits in lower case.
    pub(super) fn read(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(VERSION)?.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(bytes))
    }
}

/// The seconds that `text` says: 1 to 12 digits without a sign or a zero in front, so that a time has one spelling.
pub(super) fn seconds(text: &str) -> Option<i64> {
    let plain = (1..=12).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    (plain && !text.starts_with('0')).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_secret_is_private_long_and_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        let good = "0123456789abcdef0123456789abcdef";
        let write = |text: &str, mode: u32| {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            Seal::read(&file)
        };
        for mode in [0o640, 0o604, 0o666] {
            let error = write(good, mode).err().expect("refused").to_string();
            assert!(error.contains("0600") && !error.contains(good), "{error}");
        }
        let long = "x".repeat(LONGEST + 1);
        for text in
            ["", "\n", &good[1..], "two words of enough length, and more", &format!("{good}\n{good}\n"), "ü", &long]
        {
            let error = write(text, 0o600).err().expect("refused").to_string();
            assert!(error.contains("must hold a secret of 32 to 1024 bytes"), "{error}");
        }
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(Seal::read(&link).is_err() && Seal::read(&folder.path().join("none")).is_err());
        let (plain, ended) = (write(good, 0o600).unwrap(), write(&format!("{good}\n"), 0o400).unwrap());
        assert!(plain.is_that_of(&ended) && !plain.is_that_of(&Seal::of(b"another")));
    }

    #[test]
    fn headers_have_one_spelling() {
        let seal = Seal::of(b"secret");
        let signature = seal.sign("1790000000", b"{}");
        let read = Signature::read(&signature).unwrap();
        assert!(seal.verifies("1790000000", &read, b"{}"));
        for (timestamp, body) in
            [("1790000001", "{}"), ("179000000", "0.{}"), ("1790000000", "{} "), ("1790000000", "")]
        {
            assert!(!seal.verifies(timestamp, &read, body.as_bytes()), "{timestamp} {body}");
        }
        assert!(!Seal::of(b"secreT").verifies("1790000000", &read, b"{}"));
        let digits = signature.strip_prefix("v1=").unwrap();
        for odd in
            ["", "v1=", digits, &format!("v2={digits}"), &format!("v1={digits}0"), &format!("v1={}", &digits[1..])]
        {
            assert_eq!(Signature::read(odd), None, "{odd}");
        }
        for odd in [
            signature.to_uppercase(),
            format!(" {signature}"),
            format!("{signature},{signature}"),
            format!("v1=é{}", &digits[2..]),
        ] {
            assert_eq!(Signature::read(&odd), None, "{odd}");
        }
        for odd in ["", "0", "-1", "+1", " 1", "1 ", "01", "1.0", "1e9", "1790000000000", "٣"] {
            assert_eq!(seconds(odd), None, "{odd}");
        }
        assert_eq!(seconds("1790000000"), Some(1_790_000_000));
    }

    proptest! {
        #[test]
        fn whatever_stands_in_the_headers_is_read_in_one_way_or_not_at_all(text in "\\PC{0,80}|(v1=)?[0-9a-fA-F]{60,66}|[0-9+ -]{1,14}") {
            if let Some(Signature(bytes)) = Signature::read(&text) {
                prop_assert_eq!(format!("v1={}", hex(&bytes)), text.clone());
            }
            if let Some(seconds) = seconds(&text) {
                prop_assert_eq!(seconds.to_string(), text);
            }
        }
    }
}

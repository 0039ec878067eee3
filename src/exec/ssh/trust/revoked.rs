//! Keys and certificates that do not count any more, whoever vouches for them. Reads a file of lines; what it cannot
//! read to the last line it does not read at all.

use std::{collections::HashSet, fs::File, io::Read, path::Path};

use russh::keys::{Certificate, HashAlg, PublicKey};

use crate::model::HostKeyPin;

/// The longest such file.
const MOST_BYTES: u64 = 4 << 20;
/// What a key revocation list in OpenSSH's binary form begins with.
const BINARY: &[u8] = b"SSHKRL\n\0";

/// What was revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevokedKeys {
    /// Fingerprints of keys: a host's or an authority's.
    keys: HashSet<String>,
    /// Of certificates: the authority's fingerprint, and the first and last serial number.
    serials: Vec<(String, u64, u64)>,
    /// Of certificates: the authority's fingerprint, and the key id.
    ids: HashSet<(String, String)>,
}

/// Why a list was not read. The file's path is added by whoever reads it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAList {
    /// It cannot be read at all.
    #[error("it cannot be read: {0}")]
    Io(String),
    /// Nobody revokes that much by hand.
    #[error("it is longer than 4 MiB")]
    Long,
    /// The other format.
    #[error(
        "it is a binary key revocation list: write a text file with a line for each key, fingerprint, serial number or key id"
    )]
    Binary,
    /// A line that says nothing.
    #[error("line {line}: {why}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong and what would be right.
        why: &'static str,
    },
}

impl RevokedKeys {
    /// Reads the file at `path`.
    pub fn load(path: &Path) -> Result<Self, NotAList> {
        let io = |error: std::io::Error| NotAList::Io(error.to_string());
        // A pipe would be waited for.
        if !path.metadata().map_err(io)?.is_file() {
            return Err(NotAList::Io("it is no file".to_owned()));
        }
        let mut bytes = Vec::new();
        File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes)).map_err(io)?;
        Self::read(&bytes)
    }

    /// Reads a list: a line is empty, a comment behind `#`, a public key, a fingerprint,
    /// `serial: SHA256:<authority> <first>[-<last>]` or `key-id: SHA256:<authority> <id>`.
    pub fn read(bytes: &[u8]) -> Result<Self, NotAList> {
        if bytes.starts_with(BINARY) {
            return Err(NotAList::Binary);
        }
        if u64::try_from(bytes.len()).is_ok_and(|length| length > MOST_BYTES) {
            return Err(NotAList::Long);
        }
        let mut list = Self::default();
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let wrong = |why| NotAList::Line { line: index + 1, why };
            let line = std::str::from_utf8(line).map_err(|_| wrong("it is not UTF-8"))?.trim();
            if !line.is_empty() && !line.starts_with('#') {
                list.take(line).map_err(wrong)?;
            }
        }
        Ok(list)
    }

    fn take(&mut self, line: &str) -> Result<(), &'static str> {
        if let Some(rest) = line.strip_prefix("serial:") {
            let (authority, serials) = of_authority(rest)?;
            let (first, last) = serials.split_once('-').unwrap_or((&serials, &serials));
            let number = |text: &str| {
                let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                digits.then(|| text.parse::<u64>().ok()).flatten()
            };
            let (first, last) = number(first)
                .zip(number(last))
                .filter(|(first, last)| first <= last)
                .ok_or("a serial number is digits, a range of them is `first-last`")?;
            self.serials.push((authority, first, last));
        } else if let Some(rest) = line.strip_prefix("key-id:") {
            let (authority, id) = of_authority(rest)?;
            self.ids.insert((authority, id));
        } else if line.starts_with("SHA256:") {
            self.keys.insert(fingerprint(line)?);
        } else {
            let key = PublicKey::from_openssh(line).map_err(
                |_| "it is no public key as OpenSSH writes it, no `SHA256:` fingerprint, no `serial:` and no `key-id:`",
            )?;
            self.keys.insert(key.fingerprint(HashAlg::Sha256).to_string());
        }
        Ok(())
    }

    /// Whether the key with this fingerprint, a host's or an authority's, was revoked.
    pub fn has_key(&self, fingerprint: &str) -> bool {
        self.keys.contains(fingerprint)
    }

    /// Whether this very certificate was revoked, by its serial number or its key id. Says nothing of the keys.
    pub fn has_certificate(&self, certificate: &Certificate) -> bool {
        let authority = certificate.signature_key().fingerprint(HashAlg::Sha256).to_string();
        let serial = certificate.serial();
        let by_serial = |(of, first, last): &(String, u64, u64)| *of == authority && (*first..=*last).contains(&serial);
        self.serials.iter().any(by_serial) || self.ids.contains(&(authority.clone(), certificate.key_id().to_owned()))
    }
}

/// The authority that a line begins with, and the rest of the line.
fn of_authority(rest: &str) -> Result<(String, String), &'static str> {
    let (authority, rest) = rest
        .trim_start()
        .split_once(char::is_whitespace)
        .ok_or("it names the authority first: its `SHA256:` fingerprint, a blank, and what is revoked of it")?;
    Ok((fingerprint(authority)?, rest.trim_start().to_owned()))
}

fn fingerprint(text: &str) -> Result<String, &'static str> {
    match text.parse::<HostKeyPin>() {
        Ok(HostKeyPin { fingerprint, algorithm: None }) => Ok(fingerprint),
        _ => Err("a fingerprint is `SHA256:` and 43 characters, as `ssh-keygen -lf` prints it"),
    }
}

#[cfg(test)]
mod tests;

//! Login keys as files: what one is, and making one. Never shows a private key, and never replaces a file.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use russh::keys::{
    Algorithm, HashAlg, PrivateKey, PublicKey,
    ssh_key::{self, LineEnding},
};

use super::key_file;

/// The public part of a login key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginKey {
    /// A line of OpenSSH without a comment.
    pub line: String,
    /// `SHA256:` and 43 characters.
    pub fingerprint: String,
}

impl LoginKey {
    /// That of the private key in `path`. Errors say why the key cannot be used, and name no file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let key = key_file::key(path).map_err(|fault| fault.to_string())?;
        Self::of(key.public_key().clone()).map_err(|error| error.to_string())
    }

    /// Makes a new ed25519 key in `path`, which must not be there: mode 0600, on disk when this returns. Errors name no
    /// file.
    pub fn make(path: &Path) -> Result<Self, String> {
        let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).map_err(|error| error.to_string())?;
        let text = key.to_openssh(LineEnding::LF).map_err(|error| error.to_string())?;
        let made = Self::of(key.public_key().clone()).map_err(|error| error.to_string())?;
        write_new(path, text.as_bytes()).map_err(|error| error.to_string())?;
        Ok(made)
    }

    fn of(mut key: PublicKey) -> Result<Self, ssh_key::Error> {
        key.set_comment("");
        Ok(Self { line: key.to_openssh()?, fingerprint: key.fingerprint(HashAlg::Sha256).to_string() })
    }
}

fn write_new(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_new_key_is_private_can_be_used_and_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let made = LoginKey::make(&path).unwrap();
        assert_eq!(LoginKey::read(&path).unwrap(), made);
        assert!(made.line.starts_with("ssh-ed25519 ") && made.line.split(' ').count() == 2, "{}", made.line);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let before = fs::read(&path).unwrap();
        assert!(LoginKey::make(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), before);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let refused = LoginKey::read(&path).unwrap_err();
        assert!(refused.contains("0644") && !refused.contains(folder.path().to_str().unwrap()), "{refused}");
    }
}

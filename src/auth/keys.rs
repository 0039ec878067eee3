//! The signing keys: 256 random bits each in a file of mode 0600 in `DIR/keys` (mode 0700), named by key id. The
//! table says which are current; a key file without a row, or a row without its file, signs and verifies nothing.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};

use crate::store::{DirectoryError, Store, StoreError, check_private, prepare_directory};

/// The keys that sign and verify now.
#[derive(Debug)]
pub struct KeyRing {
    keys: HashMap<String, RingKey>,
    current: String,
}

#[derive(Debug)]
struct RingKey {
    key: hmac::Key,
    retires_at: Option<Timestamp>,
}

/// Why keys could not be loaded or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The directory or a file is not private.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key file cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A key file holds something else.
    #[error("{} is not a key: restore it, or run `tailops token rotate-key` and mint new tokens", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// There is no current key.
    #[error("there is no current signing key: run `tailops token rotate-key`")]
    NoCurrent,
    /// The system has no randomness.
    #[error("the system's random generator failed")]
    Random,
}

impl KeyRing {
    /// Loads the keys that are valid at `now`; makes the first one where the installation has none.
    pub async fn open(store: &Store, directory: &Path, now: Timestamp) -> Result<Self, KeyError> {
        prepare_directory(&directory.join("keys"))?;
        let mut rows = store.token_keys().await?;
        if rows.is_empty() {
            rotate_key(store, directory, now, Duration::ZERO).await?;
            rows = store.token_keys().await?;
        }
        let mut ring = Self { keys: HashMap::new(), current: String::new() };
        for row in rows {
            if row.retires_at.is_some_and(|retires_at| retires_at <= now) {
                continue;
            }
            let key = read_key(&key_path(directory, &row.key_id))?;
            if row.retires_at.is_none() {
                ring.current.clone_from(&row.key_id);
            }
            ring.keys.insert(row.key_id, RingKey { key, retires_at: row.retires_at });
        }
        if ring.current.is_empty() { Err(KeyError::NoCurrent) } else { Ok(ring) }
    }

    /// The key to verify with, if `key_id` still verifies at `now`.
    pub fn verifying(&self, key_id: &str, now: Timestamp) -> Option<&hmac::Key> {
        let found = self.keys.get(key_id)?;
        found.retires_at.is_none_or(|retires_at| now < retires_at).then_some(&found.key)
    }

    /// The id of the key to sign with, and the key.
    pub fn signing(&self) -> Result<(&str, &hmac::Key), KeyError> {
        let key = self.keys.get(&self.current).ok_or(KeyError::NoCurrent)?;
        Ok((&self.current, &key.key))
    }
}

/// Makes a new current key. Those before it verify for `grace` more; with no grace every token they signed stops
/// working. Returns the new key's id.
pub async fn rotate_key(store: &Store, directory: &Path, now: Timestamp, grace: Duration) -> Result<String, KeyError> {
    let keys = directory.join("keys");
    prepare_directory(&keys)?;
    let random = SystemRandom::new();
    let (mut secret, mut id) = ([0_u8; 32], [0_u8; 4]);
    random.fill(&mut secret).and_then(|()| random.fill(&mut id)).map_err(|_| KeyError::Random)?;
    let key_id = format!("k{:08x}", u32::from_be_bytes(id));
    let path = key_path(directory, &key_id);
    let failed = |error| KeyError::File { path: path.clone(), error };
    // The file is on disk before the row names it: a crash between leaves a file that nothing trusts.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
    let text = format!("{}\n", URL_SAFE_NO_PAD.encode(secret));
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::File::open(&keys).and_then(|directory| directory.sync_all()).map_err(failed)?;
    let retire = now.checked_add(grace).unwrap_or(Timestamp::MAX);
    store.add_token_key(&key_id, now, retire).await?;
    Ok(key_id)
}

fn key_path(directory: &Path, key_id: &str) -> PathBuf {
    directory.join("keys").join(format!("{key_id}.key"))
}

fn read_key(path: &Path) -> Result<hmac::Key, KeyError> {
    check_private(path)?;
    let text = fs::read_to_string(path).map_err(|error| KeyError::File { path: path.to_owned(), error })?;
    match URL_SAFE_NO_PAD.decode(text.trim_end()) {
        Ok(secret) if secret.len() == 32 => Ok(hmac::Key::new(hmac::HMAC_SHA256, &secret)),
        _ => Err(KeyError::Damaged { path: path.to_owned() }),
    }
}

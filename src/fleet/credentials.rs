//! The long-lived secrets of the gateway itself: which there are, what they are used for, and how old they are. Looks at
//! files and at what is known of them, changes none, and shows of a key its fingerprint alone.

mod listed;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;

pub use self::listed::{Credential, CredentialKind, CredentialState, KnownBy};
use super::Registry;
use crate::{
    config::{Config, CredentialAges, Node, NodeCredential, Tls},
    exec::LoginKey,
    model::{KeyReference, Target},
    store::{Store, StoreError, check_private},
};

/// How far in the future the moment may lie that a secret is said to be of.
const AHEAD: i64 = 300;

/// Where the gateway's secrets are, as it was started.
#[derive(Clone, Debug)]
pub struct Secrets {
    files: Vec<Place>,
    variables: BTreeMap<String, PathBuf>,
}

/// One secret in a file.
#[derive(Clone, Debug)]
struct Place {
    kind: CredentialKind,
    /// What it is called where nothing public names it.
    name: String,
    file: PathBuf,
    used_by: BTreeSet<String>,
}

impl Secrets {
    /// Those that `config` names, but for the login keys of targets, which change with the registry.
    pub fn of(config: &Config) -> Self {
        let place = |kind, name: &str, file: &Path| Place {
            kind,
            name: name.to_owned(),
            file: file.to_owned(),
            used_by: BTreeSet::new(),
        };
        let mut files = Vec::new();
        files.extend(config.ssh.ca.as_ref().map(|ca| place(CredentialKind::SshCa, "ssh.ca", &ca.key_file)));
        let approvals = &config.approvals;
        for webhook in &approvals.webhooks {
            files.push(place(CredentialKind::WebhookSecret, &webhook.name, &webhook.secret_file));
        }
        for told in &approvals.notify {
            files.extend(told.token_file.as_ref().map(|file| place(CredentialKind::NotifyToken, &told.name, file)));
        }
        if let Tls::Files { key, .. } = &config.tls {
            files.push(place(CredentialKind::TlsKey, "tls", key));
        }
        if let Node::Embedded(node) = &config.node {
            match &node.credential {
                Some(NodeCredential::AuthKey(file)) => {
                    files.push(place(CredentialKind::NodeCredential, "auth key", file));
                }
                Some(NodeCredential::OauthSecret(file)) => {
                    files.push(place(CredentialKind::NodeCredential, "OAuth client", file));
                }
                None => {}
            }
        }
        Self { files, variables: config.ssh.key_variables.clone() }
    }

    /// The file of the login key of `target`, if it logs in by one.
    pub fn login_key<'a>(&'a self, target: &'a Target) -> Option<&'a Path> {
        match target.connection()?.key.as_ref()? {
            KeyReference::File(file) => Some(file),
            KeyReference::Variable(name) => self.variables.get(name).map(PathBuf::as_path),
        }
    }

    /// Every secret there is at `now`, the worst first. `registry` says which login keys there are, `ages` how old any of
    /// them may be.
    pub async fn look(
        &self,
        registry: &Registry,
        ages: CredentialAges,
        store: &Store,
        now: Timestamp,
    ) -> Result<Vec<Credential>, StoreError> {
        let mut made = BTreeMap::new();
        for (fingerprint, at) in store.keys_made().await? {
            let damaged = StoreError::Damaged { table: "key_rotation", column: "swapped_at" };
            made.insert(fingerprint, at.parse::<Timestamp>().map_err(|_| damaged)?);
        }
        let places = self.places(registry);
        let looked = tokio::task::spawn_blocking(move || {
            let read = |place| seen(place, &made, ages, now);
            places.into_iter().map(read).collect::<Vec<Credential>>()
        });
        let mut found = looked.await.map_err(|error| StoreError::File(io::Error::other(error)))?;
        for key in store.token_keys().await? {
            if key.retires_at.is_some_and(|retires| retires <= now) {
                continue;
            }
            let mut row = Credential::new(CredentialKind::TokenKey, &key.key_id);
            row.retires_at = key.retires_at;
            // One that retires signs nothing any more, and goes by itself.
            let most = if key.retires_at.is_some() { None } else { ages.other };
            found.push(aged(row, key.created_at, KnownBy::Record, most, now));
        }
        found.sort_by(|a, b| (b.state, a.kind, &a.name, &a.file).cmp(&(a.state, b.kind, &b.name, &b.file)));
        Ok(found)
    }

    /// Every file, each once for each kind of use.
    fn places(&self, registry: &Registry) -> Vec<Place> {
        let mut keys: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
        for target in registry.all() {
            if let Some(file) = self.login_key(target) {
                keys.entry(file.to_owned()).or_default().insert(target.id.as_str().to_owned());
            }
        }
        let keys = keys.into_iter().map(|(file, used_by)| Place {
            kind: CredentialKind::LoginKey,
            name: String::new(),
            file,
            used_by,
        });
        self.files.iter().cloned().chain(keys).collect()
    }
}

/// What `place` holds.
fn seen(place: Place, made: &BTreeMap<String, Timestamp>, ages: CredentialAges, now: Timestamp) -> Credential {
    let Place { kind, name, file, used_by } = place;
    let mut row = Credential::new(kind, &name);
    row.file = Some(file.display().to_string());
    row.used_by = used_by.into_iter().collect();
    let most = if kind.is_ssh() { ages.ssh_key } else { ages.other };
    row.max_age_s = most.map(|most| most.as_secs());
    let modified = modified(&file);
    if kind.is_ssh() {
        match LoginKey::read(&file) {
            Ok(key) => row.fingerprint = Some(key.fingerprint),
            Err(why) => return row.unreadable(why),
        }
    } else if kind != CredentialKind::NodeCredential
        && let Err(fault) = check_private(&file)
    {
        // The names of files stand in the row already.
        return row.unreadable(without(&fault.to_string(), &file));
    }
    let recorded = row.fingerprint.as_ref().and_then(|fingerprint| made.get(fingerprint));
    match (recorded, modified) {
        (Some(at), _) => aged(row, *at, KnownBy::Record, most, now),
        (None, Ok(at)) => aged(row, at, KnownBy::File, most, now),
        (None, Err(error)) => row.unreadable(format!("its file cannot be read: {}", error.kind())),
    }
}

fn without(text: &str, file: &Path) -> String {
    text.replace(&file.display().to_string(), "its file")
}

/// When the file was last written. Errors where it cannot be opened.
fn modified(file: &Path) -> io::Result<Timestamp> {
    let modified = File::open(file).and_then(|file| file.metadata())?;
    if !modified.is_file() {
        return Err(fs::metadata(file).err().unwrap_or_else(|| io::Error::from(io::ErrorKind::InvalidInput)));
    }
    Timestamp::try_from(modified.modified()?).map_err(io::Error::other)
}

/// `row` with its age, and what that means where it may be `most`.
fn aged(mut row: Credential, made: Timestamp, known_by: KnownBy, most: Option<Duration>, now: Timestamp) -> Credential {
    let age = now.as_second() - made.as_second();
    (row.made_at, row.known_by) = (Some(made), Some(known_by));
    row.max_age_s = most.map(|most| most.as_secs());
    if age < -AHEAD {
        return row.unreadable("it is said to be of a time that has not come: its age is not known".to_owned());
    }
    let age = u64::try_from(age).unwrap_or_default();
    row.age_s = Some(age);
    row.state = match row.max_age_s {
        Some(most) if age > most => CredentialState::Overdue,
        // The last fifth is for whoever has to do something about it.
        Some(most) if age >= most - most / 5 => CredentialState::Due,
        _ => CredentialState::Ok,
    };
    row
}

#[cfg(test)]
mod tests;

//! Logging in: with the key that the registry names. Never with a password, never with an agent.

use std::sync::Arc;

use russh::{
    client::{AuthResult, Handle},
    keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg},
};

use super::{SshFault, handler::Handler};
use crate::{
    config,
    model::{Attribution, Connection, KeyReference},
    store::check_private,
};

/// What a login is made with.
pub(super) struct Login {
    /// The login user.
    pub(super) user: String,
    key: Arc<PrivateKey>,
}

impl Login {
    /// That of `connection`, made for `attribution`.
    pub(super) fn of(
        settings: &config::Ssh,
        connection: &Connection,
        _attribution: &Attribution,
    ) -> Result<Self, SshFault> {
        let user = connection.username.clone().unwrap_or_else(|| settings.user.clone());
        let Some(KeyReference::File(path)) = &connection.key else {
            return Err(SshFault::Credential("the registry names no key file".to_owned()));
        };
        let unusable = |error: &dyn std::fmt::Display| SshFault::Credential(format!("{}: {error}", path.display()));
        check_private(path).map_err(|error| unusable(&error))?;
        let text = std::fs::read_to_string(path).map_err(|error| unusable(&error))?;
        let key = russh::keys::decode_secret_key(&text, None).map_err(|error| unusable(&error))?;
        Ok(Self { user, key: Arc::new(key) })
    }

    /// What the target's log names the login by.
    pub(super) fn credential(&self) -> String {
        self.key.public_key().fingerprint(HashAlg::Sha256).to_string()
    }

    /// Logs in on `handle`.
    pub(super) async fn authenticate(&self, handle: &mut Handle<Handler>) -> Result<(), SshFault> {
        let hash = match self.key.algorithm().is_rsa() {
            true => Some(HashAlg::Sha512),
            false => None,
        };
        let key = PrivateKeyWithHashAlg::new(self.key.clone(), hash);
        match handle.authenticate_publickey(&self.user, key).await? {
            AuthResult::Success => Ok(()),
            AuthResult::Failure { .. } => Err(SshFault::AuthRefused { user: self.user.clone() }),
        }
    }
}

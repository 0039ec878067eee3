//! A person who decides: known by a tailnet login, or as a local user by the kernel. Never a tagged node, and never
//! known by anything that was only said.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::tailnet::{Grants, Peer};

/// Somebody who may be asked.
#[derive(Clone, Debug)]
pub struct Person {
    login: String,
    place: Place,
    peer: Option<Peer>,
    /// What the tailnet policy gives a signer who is not at their own node.
    rights: Option<Grants>,
}

/// Where a person's word came from, kept with it so that the right can be looked for again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", tag = "kind", deny_unknown_fields)]
pub enum Place {
    /// A node of the tailnet.
    Tailnet {
        /// Its stable id.
        node: String,
        /// Its address there.
        address: IpAddr,
    },
    /// A connection over loopback.
    Loopback {
        /// The local user who owns it.
        uid: u32,
    },
    /// The control socket on the gateway's own host.
    Host {
        /// The local user who owns the connection.
        uid: u32,
    },
    /// A webhook, by its name in the configuration.
    Webhook {
        /// Its name.
        name: String,
    },
}

/// A peer that is nobody who could decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("only people decide: this is a tagged node or nobody's")]
pub struct NotAPerson;

impl Person {
    /// The person behind `peer`.
    pub fn of(peer: &Peer) -> Result<Self, NotAPerson> {
        let login = peer.user.clone().filter(|login| peer.tags.is_empty() && !login.is_empty()).ok_or(NotAPerson)?;
        let place = match peer.uid {
            Some(uid) => Place::Loopback { uid },
            None => Place::Tailnet { node: peer.id.clone(), address: peer.address.ip() },
        };
        Ok(Self { login, place, peer: Some(peer.clone()), rights: None })
    }

    /// The local user `uid`, called `name`, at the control socket.
    pub fn on_host(uid: u32, name: &str) -> Self {
        Self { login: name.to_owned(), place: Place::Host { uid }, peer: None, rights: None }
    }

    /// The person that the webhook `name` decides as.
    pub fn behind_webhook(name: &str, identity: &str) -> Self {
        Self { login: identity.to_owned(), place: Place::Webhook { name: name.to_owned() }, peer: None, rights: None }
    }

    /// The same, with the connection that their word came over, for the record: it gives no right.
    pub fn over(self, peer: Option<&Peer>) -> Self {
        Self { peer: peer.cloned(), ..self }
    }

    /// The same place, as the owner of an enrolled key whose signature was checked, with the rights of one of their nodes
    /// where they have one: only on the gateway's own host, where a local user can hold a key of somebody who has a login
    /// on the tailnet.
    pub(super) fn signing_as(mut self, login: &str, rights: Option<&Grants>) -> Self {
        if matches!(self.place, Place::Host { .. }) {
            login.clone_into(&mut self.login);
            self.rights = rights.cloned();
        }
        self
    }

    /// The login, as the network or the kernel writes it.
    pub fn login(&self) -> &str {
        &self.login
    }

    /// The login folded, by which people are told apart: `Maria@Example.org` is `maria@example.org`.
    pub fn folded(&self) -> String {
        folded(&self.login)
    }

    /// The login as those that may be the same person's are compared.
    pub(super) fn blurred(&self) -> String {
        blurred(&self.login)
    }

    /// Where the word comes from.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The other end of the connection; none on the control socket.
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// The rules of the tailnet policy; none where there are none for this connection.
    pub(super) fn grants(&self) -> Option<&Grants> {
        // A webhook's connection is not its person's.
        let peer = self.peer.as_ref().filter(|_| !matches!(self.place, Place::Webhook { .. }));
        peer.map(|peer| &peer.grants).or(self.rights.as_ref())
    }
}

/// `login` in the form in which two logins are compared where one gives a right: they differ at most in the case of
/// ASCII letters. A letter that only looks like another, or that Unicode folds into it, is another letter.
pub fn folded(login: &str) -> String {
    login.to_ascii_lowercase()
}

/// `login` in the form in which two logins are compared where being the same takes a right away: whoever could be the
/// same person is taken for them.
pub(super) fn blurred(login: &str) -> String {
    login.trim().to_uppercase().to_lowercase()
}

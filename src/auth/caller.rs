//! Who is calling: the peer the network named and the token that was checked, together.

use std::sync::Arc;

use super::Claims;
use crate::tailnet::Peer;

/// A peer with a valid token bound to it. Made only by [`super::Authenticator`].
#[derive(Clone, Debug)]
pub struct Caller {
    peer: Arc<Peer>,
    token: Arc<Claims>,
}

impl Caller {
    pub(super) fn new(peer: Arc<Peer>, token: Arc<Claims>) -> Self {
        Self { peer, token }
    }

    /// The other end of the connection.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What the token says.
    pub fn token(&self) -> &Claims {
        &self.token
    }
}

//! A caller is a peer with a checked token.
use std::sync::Arc;

use tailops::{
    auth::{Caller, Claims},
    tailnet::Peer,
};

fn forged(peer: Arc<Peer>, token: Arc<Claims>) -> Caller {
    Caller::new(peer, token)
}

fn main() {}

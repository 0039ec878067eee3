//! How we are on the network and who is at the other end of a connection.

use std::net::SocketAddr;

/// Who is at the other end of a connection, as the network tells it. Never made from anything a client sent.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Stable id: `uid:1000` on loopback.
    pub id: String,
    /// Host or node name.
    pub node: String,
    /// The login, for a person's device.
    pub user: Option<String>,
    /// The tags, for a tagged device.
    pub tags: Vec<String>,
    /// The tailnet's name.
    pub tailnet: Option<String>,
    /// Address and port of the connection.
    pub address: SocketAddr,
    /// On loopback: the user id that owns the client's socket.
    pub uid: Option<u32>,
}

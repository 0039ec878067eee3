//! The bytes to a host: through the tailnet where the host is a peer, by the machine's own network otherwise. Knows
//! nothing of SSH.

use std::net::IpAddr;

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::SshFault;
use crate::{
    model::Network,
    tailnet::{DialError, Node},
};

/// A connection's bytes.
pub(super) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// Port `port` of `host`, which is a peer of the tailnet if `peer` says so. What is of the tailnet is reached through
/// `node` alone: a name or address that only looks like it must not lead elsewhere.
pub(super) async fn open(node: &dyn Node, host: &str, port: u16, peer: bool) -> Result<Box<dyn Bytes>, SshFault> {
    match node.dial(host, port).await {
        Ok(stream) => return Ok(Box::new(stream)),
        Err(DialError::NotAPeer(_)) if !peer && !is_of_tailnets(host) => {}
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

/// Whether only a tailnet can lead to `host`.
fn is_of_tailnets(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    match host.parse::<IpAddr>() {
        Ok(address) => ["100.64.0.0/10", "fd7a:115c:a1e0::/48"]
            .into_iter()
            .filter_map(|network| network.parse::<Network>().ok())
            .any(|network| network.contains(address.to_canonical())),
        Err(_) => host.to_ascii_lowercase().ends_with(".ts.net"),
    }
}

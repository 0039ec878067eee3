//! One connection to a daemon, and where the daemon is. Answers for talking to the process that is meant, where that is
//! known. Knows no question and no answer.

use std::path::PathBuf;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http1::{Builder, SendRequest},
};
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::{TcpStream, UnixStream};

use super::{LocalApiError, broken};
use crate::tailnet::Stream;

/// The only Host that every daemon takes.
pub(super) const HOST: &str = "local-tailscaled.sock";

/// The most that a head of an answer may take, in bytes.
const MOST_HEAD: usize = 64 << 10;

/// Where a daemon answers.
#[derive(Clone, Debug)]
pub enum DaemonAddress {
    /// On a unix socket.
    Socket {
        /// Where.
        path: PathBuf,
        /// The process that must listen there; none where any may, as the directory is the system's.
        process: Option<u32>,
    },
    /// On 127.0.0.1, for whoever has the password.
    Loopback {
        /// The port.
        port: u16,
        /// The password. Whoever listens on the port is told it.
        password: SecretString,
    },
}

impl DaemonAddress {
    /// What a request to it carries besides Host. Never Origin or Referer: with them it refuses.
    pub(super) fn headers(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Socket { .. } => Vec::new(),
            Self::Loopback { password, .. } => {
                let word = STANDARD.encode(format!(":{}", password.expose_secret()));
                vec![("Sec-Tailscale", "localapi".to_owned()), ("Authorization", format!("Basic {word}"))]
            }
        }
    }

    /// A connection to it. Whether it is the right process is known before a byte is sent.
    pub(super) async fn connect(&self) -> Result<Stream, LocalApiError> {
        match self {
            Self::Loopback { port, .. } => {
                TcpStream::connect(("127.0.0.1", *port)).await.map(Stream::Tcp).map_err(LocalApiError::Io)
            }
            Self::Socket { path, process } => {
                let stream = UnixStream::connect(path).await.map_err(LocalApiError::Io)?;
                if let Some(expected) = *process {
                    let found = stream.peer_cred().map_err(LocalApiError::Io)?.pid();
                    if found.and_then(|found| u32::try_from(found).ok()) != Some(expected) {
                        return Err(LocalApiError::OtherProcess { expected, found });
                    }
                }
                Ok(Stream::Unix(stream))
            }
        }
    }
}

/// An HTTP/1.1 connection.
#[derive(Debug)]
pub(super) struct Link {
    sender: SendRequest<Empty<Bytes>>,
}

impl Link {
    /// Connects; the connection is driven on the runtime that this is called on, until the link is dropped.
    pub(super) async fn open(daemon: &DaemonAddress) -> Result<Self, LocalApiError> {
        let stream = daemon.connect().await?;
        let handshake = Builder::new().max_buf_size(MOST_HEAD).handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(|error| broken(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the tailnet daemon ended");
            }
        });
        Ok(Self { sender })
    }

    /// The head of the answer to `request`.
    pub(super) async fn send(&mut self, request: Request<Empty<Bytes>>) -> hyper::Result<Response<Incoming>> {
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }

    /// Whether another request may be sent, as far as it is known now.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }
}

//! Asks a tailnet daemon what it knows: the client of its LocalAPI. Answers for deadlines, bounds, and the difference
//! between a daemon that does not know, one that refuses and one that fails. Never decides who may come in, and changes
//! nothing at the daemon.

mod answers;
mod certificate;
mod dial;
mod link;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, StatusCode, body::Incoming};
use serde::de::DeserializeOwned;
use tokio::{runtime::Handle, sync::Semaphore, time::timeout};

pub(super) use self::answers::{Node, PeerStatus, Status, WhoIs};
pub use self::link::DaemonAddress;
use self::link::Link;

/// For an answer to WhoIs and to status.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// For a connection to a peer.
const DIAL_WITHIN: Duration = Duration::from_secs(10);
/// The most questions at once. The daemon answers WhoIs under a lock of its own, so more would only wait there.
const AT_ONCE: usize = 8;
/// The most connections to peers that are being made at once.
const DIALS_AT_ONCE: usize = 32;
/// The longest answer to WhoIs and the longest status, in bytes; a status has about 1.5 KB for each peer.
const MOST_WHOIS: usize = 1 << 20;
const MOST_STATUS: usize = 64 << 20;
/// The most that is read of a refusal, in bytes, and the most of it that is shown, in characters.
const MOST_REFUSAL: usize = 4096;
const SHOWN: usize = 200;

/// Why the daemon gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum LocalApiError {
    /// 404: it does not know what was asked for.
    #[error("it knows nothing of this")]
    NotFound,
    /// 401 or 403: it does not answer us.
    #[error("it refuses to answer: {0}")]
    Denied(String),
    /// 400: it does not understand the question.
    #[error("it does not understand the question: {0}")]
    BadRequest(String),
    /// Any other status that is no success.
    #[error("it failed with status {0}: {1}")]
    Daemon(u16, String),
    /// No answer in time; waiting for a turn counts.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// It cannot be reached, or hung up.
    #[error("it cannot be reached: {0}")]
    Io(io::Error),
    /// Another process listens on its socket.
    #[error("process {found:?} listens on its socket, not process {expected}")]
    OtherProcess {
        /// Who should.
        expected: u32,
        /// Who does, where the kernel can tell.
        found: Option<i32>,
    },
    /// An answer that makes no sense: not JSON, or too long.
    #[error("its answer makes no sense: {0}")]
    Nonsense(String),
}

/// A client of one daemon. Clones share its connections and limits.
#[derive(Clone, Debug)]
pub struct LocalApi(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    daemon: DaemonAddress,
    /// Where the connections live: who asks may be on a runtime that ends earlier.
    runtime: Handle,
    turns: Semaphore,
    dials: Semaphore,
    idle: Mutex<Vec<Link>>,
}

impl LocalApi {
    /// A client that is not connected yet. Its connections live on the runtime that this is called on.
    pub fn new(daemon: DaemonAddress) -> Self {
        Self(Arc::new(Shared {
            daemon,
            runtime: Handle::current(),
            turns: Semaphore::new(AT_ONCE),
            dials: Semaphore::new(DIALS_AT_ONCE),
            idle: Mutex::new(Vec::new()),
        }))
    }

    /// Who is at `address`: the node with this tailnet address, whatever the port, or the peer of the connection that
    /// a daemon without a network device relays from this loopback address.
    pub(super) async fn whois(&self, address: SocketAddr) -> Result<WhoIs, LocalApiError> {
        self.get(&whois_target(address), MOST_WHOIS).await
    }

    /// What the daemon knows of its own node and, where `peers` says so, of every peer.
    pub(super) async fn status(&self, peers: bool) -> Result<Status, LocalApiError> {
        let target = if peers { "/localapi/v0/status" } else { "/localapi/v0/status?peers=false" };
        self.get(target, MOST_STATUS).await
    }

    async fn get<T: DeserializeOwned>(&self, target: &str, most: usize) -> Result<T, LocalApiError> {
        let answer = timeout(ANSWER_WITHIN, self.fetch(target, most));
        let body = answer.await.map_err(|_| LocalApiError::TimedOut(ANSWER_WITHIN))??;
        // serde would take a list for an object, its items for the fields in their order.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(LocalApiError::Nonsense("it is no JSON object".to_owned()));
        }
        serde_json::from_slice(&body).map_err(|error| LocalApiError::Nonsense(shown(error.to_string().as_bytes())))
    }

    async fn fetch(&self, target: &str, most: usize) -> Result<Vec<u8>, LocalApiError> {
        // Closed never: the semaphore lives as long as the client.
        let _turn = self.0.turns.acquire().await.map_err(|error| broken(&error))?;
        let (link, response) = self.send(target).await?;
        let status = response.status();
        let most = if status == StatusCode::OK { most } else { MOST_REFUSAL };
        let (body, whole) = read(response, most).await?;
        // One that is still in the middle of an answer is of no more use.
        if whole && link.is_open() {
            let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < AT_ONCE {
                idle.push(link);
            }
        }
        match status {
            StatusCode::OK if whole => Ok(body),
            StatusCode::OK => Err(LocalApiError::Nonsense(format!("it is longer than {most} bytes"))),
            status => Err(refusal(status.as_u16(), &body)),
        }
    }

    /// Asks over a connection that waits, or else over a new one. A connection may have died while it waited, so the
    /// first failure before any answer is no answer yet.
    async fn send(&self, target: &str) -> Result<(Link, Response<Incoming>), LocalApiError> {
        let waiting = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(mut link) = waiting
            && let Ok(response) = link.send(self.request(target)?).await
        {
            return Ok((link, response));
        }
        let mut link = self.0.connect().await?;
        let response = link.send(self.request(target)?).await.map_err(|error| broken(&error))?;
        Ok((link, response))
    }

    fn request(&self, target: &str) -> Result<Request<Empty<Bytes>>, LocalApiError> {
        let request = Request::get(target).header("Host", link::HOST);
        let request = self.0.daemon.headers().into_iter().fold(request, |request, (name, value)| {
            let mut value = hyper::header::HeaderValue::from_str(&value).unwrap_or_else(|_| {
                // Base64 and constants are always header values.
                hyper::header::HeaderValue::from_static("")
            });
            value.set_sensitive(true);
            request.header(name, value)
        });
        request.body(Empty::new()).map_err(|error| broken(&error))
    }
}

impl Shared {
    /// A new connection, driven on the client's own runtime.
    async fn connect(self: &Arc<Self>) -> Result<Link, LocalApiError> {
        let shared = Arc::clone(self);
        let connecting = self.runtime.spawn(async move { Link::open(&shared.daemon).await });
        // Whoever stops waiting drops the handle; the connection is then made in vain, and closed.
        connecting.await.map_err(|error| broken(&error))?
    }
}

/// The question for `address`, as the daemon parses it: an IPv6 address in brackets, a mapped one as the IPv4 address.
fn whois_target(address: SocketAddr) -> String {
    let shown = match (address.ip().to_canonical(), address.port()) {
        (ip, 0) => ip.to_string(),
        (IpAddr::V4(ip), port) => format!("{ip}:{port}"),
        (IpAddr::V6(ip), port) => format!("[{ip}]:{port}"),
    };
    let shown = shown.replace('[', "%5B").replace(']', "%5D").replace(':', "%3A");
    // Without the protocol a daemon looks in its tables for UDP too, which takes it twice as long.
    format!("/localapi/v0/whois?proto=tcp&addr={shown}")
}

/// The body, at most `most` bytes of it, and whether that is all.
async fn read(response: Response<Incoming>, most: usize) -> Result<(Vec<u8>, bool), LocalApiError> {
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        let (room, fits) = (most - bytes.len(), data.len() <= most - bytes.len());
        bytes.extend_from_slice(data.get(..room).unwrap_or(data));
        if !fits {
            return Ok((bytes, false));
        }
    }
    Ok((bytes, true))
}

fn refusal(status: u16, text: &[u8]) -> LocalApiError {
    match status {
        400 => LocalApiError::BadRequest(shown(text)),
        401 | 403 => LocalApiError::Denied(shown(text)),
        404 => LocalApiError::NotFound,
        status => LocalApiError::Daemon(status, shown(text)),
    }
}

/// The first line of what the daemon said, without anything that moves a cursor.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.lines().next().unwrap_or_default().chars().filter(|letter| !letter.is_control()).take(SHOWN).collect()
}

fn broken(error: &dyn std::error::Error) -> LocalApiError {
    // hyper keeps the cause apart from its own words.
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    LocalApiError::Io(io::Error::other(format!("{error}{cause}")))
}

#[cfg(test)]
#[path = "../../tests/it/daemon.rs"]
#[allow(unreachable_pub, dead_code, reason = "shared with the tests of the whole gateway")]
pub(super) mod daemon;
#[cfg(test)]
mod tests;

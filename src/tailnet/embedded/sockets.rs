//! The unix sockets between the gateway and the node's process: a fresh directory that only our user can enter, and on
//! each socket the check that the process at the other end is the right one. A process of the same user can open the
//! directory; it gets no further.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    net::SocketAddr,
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::OFlags;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    time::timeout,
};

use super::proxy_header;
use crate::tailnet::{Connection, DialError, Stream};

/// How long the header of an accepted connection may take: the process writes it at once.
const HEADER_WITHIN: Duration = Duration::from_secs(2);
/// How long the process may take for a connection to a peer; it gives up earlier itself.
const DIALLED_WITHIN: Duration = Duration::from_secs(13);
/// The longest answer to a dial, in bytes.
const MOST_ANSWER: usize = 512;

/// The directory with the sockets.
#[derive(Debug)]
pub(super) struct Sockets {
    path: PathBuf,
    /// Open: sockets are named through it, since the name of a socket may have at most 107 bytes.
    directory: File,
}

impl Sockets {
    /// Makes the directory at `path` anew, and the socket that accepted connections come over.
    pub(super) fn fresh(path: &Path) -> io::Result<(Self, UnixListener)> {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        DirBuilder::new().mode(0o700).create(path)?;
        let flags = i32::try_from((OFlags::DIRECTORY | OFlags::NOFOLLOW).bits()).unwrap_or_default();
        let directory = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let sockets = Self { path: path.to_owned(), directory };
        let accept = sockets.socket("accept.sock");
        let listener = UnixListener::bind(&accept)?;
        fs::set_permissions(&accept, Permissions::from_mode(0o600))?;
        Ok((sockets, listener))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A name of one of the sockets that this process can use.
    pub(super) fn socket(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.directory.as_raw_fd()))
    }

    /// A connection through `process` to `address`, of which it must be known that it is a peer's.
    pub(super) async fn dial(&self, process: u32, address: SocketAddr) -> Result<Stream, DialError> {
        let failed = |source| DialError::Io { address: address.to_string(), source };
        let dialled = timeout(DIALLED_WITHIN, async {
            let mut stream = UnixStream::connect(self.socket("dial.sock")).await.map_err(failed)?;
            is_process(&stream, process).map_err(|error| DialError::Node(error.to_string()))?;
            stream.write_all(format!("{address}\n").as_bytes()).await.map_err(failed)?;
            let answer = line(&mut stream).await.map_err(failed)?;
            match answer.strip_prefix("error ") {
                None if answer == "ok" => Ok(Stream::Unix(stream)),
                Some(why) => Err(failed(io::Error::other(why.to_owned()))),
                None => Err(DialError::Node("its answer makes no sense".to_owned())),
            }
        });
        dialled.await.unwrap_or_else(|_| Err(DialError::Node("no answer in time".to_owned())))
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        // What stays is removed at the next start.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The tailnet connection that `process` hands over on `stream`, for our `port`. Nothing of it is read but the header.
pub(super) async fn accepted(mut stream: UnixStream, process: u32, port: u16) -> io::Result<Connection> {
    is_process(&stream, process)?;
    let header = timeout(HEADER_WITHIN, proxy_header::read(&mut stream)).await.map_err(io::Error::from)?;
    let (peer, local) = header.map_err(io::Error::other)?;
    if local.port() != port {
        return Err(io::Error::other(format!("it was made to port {}, not {port}", local.port())));
    }
    Ok(Connection { stream: Stream::Unix(stream), peer, local })
}

/// Whether the kernel says that `process` is at the other end.
fn is_process(stream: &UnixStream, process: u32) -> io::Result<()> {
    let found = stream.peer_cred()?.pid();
    if found.and_then(|found| u32::try_from(found).ok()) == Some(process) {
        return Ok(());
    }
    let found = found.map_or_else(|| "an unknown process".to_owned(), |found| format!("process {found}"));
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("{found} is at the other end, not the node's process {process}"),
    ))
}

/// One line, and not a byte of what follows.
async fn line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    while line.len() < MOST_ANSWER {
        match stream.read_u8().await? {
            b'\n' => return String::from_utf8(line).map_err(io::Error::other),
            byte => line.push(byte),
        }
    }
    Err(io::Error::other("an answer without an end"))
}

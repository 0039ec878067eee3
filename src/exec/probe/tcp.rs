//! Connections to an address that was checked. Takes no name.

use std::{
    io::{self, ErrorKind},
    net::IpAddr,
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{Fault, Progress};

/// The longest one connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// The same for each of several.
const TRY_LIMIT: Duration = Duration::from_secs(1);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// One connection.
pub(super) async fn connect(address: IpAddr, port: u16, progress: &mut Progress) -> Result<TcpStream, Fault> {
    progress.stage = "connect";
    dial(address, port, CONNECT_LIMIT, progress).await.map_err(|reason| Fault::Failed("connect", reason.to_owned()))
}

/// `count` connections, one after the other, each closed at once. Fails only if none was made.
pub(super) async fn tries(address: IpAddr, port: u16, count: u32, progress: &mut Progress) -> Result<(), Fault> {
    progress.stage = "connect";
    let mut last = "timed_out";
    for tried in 0..count {
        if tried > 0 {
            sleep(PAUSE).await;
        }
        if let Err(reason) = dial(address, port, TRY_LIMIT, progress).await {
            last = reason;
        }
    }
    if progress.findings.connects.is_empty() { Err(Fault::Failed("connect", last.to_owned())) } else { Ok(()) }
}

async fn dial(address: IpAddr, port: u16, limit: Duration, progress: &mut Progress) -> Result<TcpStream, &'static str> {
    let started = Instant::now();
    progress.findings.tried += 1;
    let stream = match timeout(limit, TcpStream::connect((address, port))).await {
        Ok(stream) => stream.map_err(|error| word(&error))?,
        Err(_) => return Err("timed_out"),
    };
    progress.findings.connects.push(started.elapsed());
    Ok(stream)
}

/// Why a connection failed, in a word.
fn word(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection_refused",
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => "connection_reset",
        ErrorKind::HostUnreachable => "host_unreachable",
        ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable => "network_unreachable",
        ErrorKind::PermissionDenied => "not_permitted",
        ErrorKind::TimedOut => "timed_out",
        _ => "connection_failed",
    }
}

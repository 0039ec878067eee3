//! Asks a tailscaled over its socket, as its own command line does. For what a test must know; the gateway has a client
//! of its own.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::Value;

/// The status and the body of a GET; none where the daemon does not answer. `path` is what follows `/localapi/v0/`.
pub fn get(socket: &Path, path: &str) -> Option<(u16, String)> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    // With HTTP/1.0 the answer ends with the connection and is never chunked.
    write!(stream, "GET /localapi/v0/{path} HTTP/1.0\r\nHost: local-tailscaled.sock\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split_whitespace().nth(1)?.parse().ok()?, body.to_owned()))
}

/// The daemon's status; none where it does not answer.
pub fn status(socket: &Path) -> Option<Value> {
    match get(socket, "status")? {
        (200, body) => serde_json::from_str(&body).ok(),
        _ => None,
    }
}

/// Who has this address: the status, and what is known.
pub fn whois(socket: &Path, address: SocketAddr) -> Option<(u16, Value)> {
    let (status, body) = get(socket, &format!("whois?proto=tcp&addr={address}"))?;
    Some((status, serde_json::from_str(&body).unwrap_or(Value::String(body))))
}

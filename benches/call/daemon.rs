//! The scripted tailnet: a daemon in userspace mode that answers, on a unix socket, what a real one answered, with a rule
//! for this gateway. Every loopback address is its one peer; it knows nobody else. Runs as a child of the benchmark, from
//! the same binary. Never opens a connection, and is on no network.

use std::{io::Read, net::SocketAddr};

use anyhow::{Context, Result};
use axum::{
    Router,
    body::{Body, Bytes},
    http::{StatusCode, Uri, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::stream::{self, StreamExt};

/// Makes the benchmark be the daemon instead; the path of its socket follows.
pub(crate) const ARGUMENT: &str = "--be-the-daemon";

/// The stable id of its one peer.
pub(crate) const PEER: &str = "n7ETArqRfp11CNTRL";
/// The name of the gateway's node in the answers.
pub(crate) const NAME: &str = "tailops.tail78f774.ts.net";

const STATUS: &str = include_str!("daemon/status.json");
const WHOIS: &str = include_str!("daemon/whois.json");
/// The first thing a bus says: the node runs (`ipn.Running`). Nothing ever changes after that.
const NOTIFY: &str = "{\"Version\":\"1.98.9-t0000000000\",\"State\":6}\n";

/// Answers on a new unix socket at `socket` and says so on standard output. Ends with its standard input, and so with
/// the process that started it.
pub(crate) fn serve(socket: &str) -> Result<()> {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let router = Router::new()
            .route("/localapi/v0/status", get(|| async { json(STATUS) }))
            .route("/localapi/v0/whois", get(async |uri: Uri| whois(uri.query().unwrap_or_default())))
            .route("/localapi/v0/watch-ipn-bus", get(|| async { bus() }));
        let listener = tokio::net::UnixListener::bind(socket).with_context(|| socket.to_owned())?;
        println!("{socket}");
        Ok(axum::serve(listener, router).await?)
    })
}

/// Who is at the `addr` of this query.
fn whois(query: &str) -> Response {
    let address = query.split('&').find_map(|part| part.strip_prefix("addr=")).unwrap_or_default();
    let address = address.replace("%3A", ":").replace("%5B", "[").replace("%5D", "]");
    match address.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => json(WHOIS),
        Ok(_) => (StatusCode::NOT_FOUND, "no match for IP:port").into_response(),
        Err(_) => (StatusCode::BAD_REQUEST, "invalid 'addr' parameter").into_response(),
    }
}

/// A bus that says one thing and then nothing, for as long as somebody listens.
fn bus() -> Response {
    let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(NOTIFY.as_bytes()))]);
    Body::from_stream(first.chain(stream::pending())).into_response()
}

fn json(text: &'static str) -> Response {
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}

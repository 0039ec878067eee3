//! One HTTP/1.1 request and the head of its answer. The body is left where it is: the connection is closed instead.

use std::pin::pin;

use http_body_util::Empty;
use hyper::{Request, Response, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use super::{Fault, Progress};
use crate::model::{HttpHead, HttpMethod, HttpUrl, SHOWN_HEADERS};

/// The longest head, in bytes, and the most headers.
const HEAD_LIMIT: usize = 16 << 10;
const MOST_HEADERS: usize = 64;

/// The longest value of a header that is shown, in characters.
const LONGEST: usize = 300;

/// Asks for `url` on `stream`.
pub(super) async fn head(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    url: &HttpUrl,
    method: HttpMethod,
    progress: &mut Progress,
) -> Result<(), Fault> {
    progress.stage = "http";
    let failed = |reason: &str| Fault::Failed("http", reason.to_owned());
    let request = Request::builder()
        .method(method.as_str())
        .uri(url.path_and_query())
        .header(header::HOST, url.authority())
        .header(header::USER_AGENT, concat!("tailops/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| failed("request_not_possible"))?;
    let started = Instant::now();
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_LIMIT)
        .max_headers(MOST_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| failed("connection_lost"))?;
    let mut connection = pin!(connection);
    let mut answer = pin!(sender.send_request(request));
    let answer = tokio::select! {
        biased;
        answer = answer.as_mut() => answer,
        // What the connection had for us when it ended is waiting.
        _ = connection.as_mut() => answer.await,
    };
    let answer = answer.map_err(|error| failed(word(&error)))?;
    progress.findings.head = Some(HttpHead { first_byte: started.elapsed(), ..read(&answer) });
    Ok(())
}

fn read<B>(answer: &Response<B>) -> HttpHead {
    let text = |name: &str| {
        let value = answer.headers().get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).chars().take(LONGEST).collect::<String>())
    };
    HttpHead {
        status: answer.status().as_u16(),
        location: text("location"),
        headers: SHOWN_HEADERS.into_iter().filter_map(|name| Some((name, text(name)?))).collect(),
        ..HttpHead::default()
    }
}

/// Why there is no answer, in a word.
fn word(error: &hyper::Error) -> &'static str {
    if error.is_parse_too_large() {
        "head_too_large"
    } else if error.is_parse() {
        "not_http"
    } else if error.is_incomplete_message() {
        "connection_closed"
    } else {
        "connection_lost"
    }
}

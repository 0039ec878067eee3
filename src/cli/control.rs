//! The command line's end of the control socket: asks the service that runs on a data directory. Starts nothing.

use std::{io, path::Path, time::Duration};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::http::{CONTROL, at_socket};

/// The longest the service may take to answer.
const DEADLINE: Duration = Duration::from_secs(65);
/// The longest answer that is taken, in bytes.
const LONGEST: usize = 16 << 20;

/// What the service on `directory` answers to a request for `path`; none where no service listens there.
pub(super) async fn ask(directory: &Path, path: &str) -> anyhow::Result<Option<Bytes>> {
    let Some((status, body)) = request(directory, Method::GET, path, &[], Bytes::new()).await? else { return Ok(None) };
    ensure!(status == StatusCode::OK, "the service answers {status}: {}", String::from_utf8_lossy(&body).trim());
    Ok(Some(body))
}

/// The status and the body that the service on `directory` answers to any request; none where no service listens there.
pub(super) async fn request(
    directory: &Path,
    method: Method,
    path: &str,
    headers: &[(&'static str, &'static str)],
    body: Bytes,
) -> anyhow::Result<Option<(StatusCode, Bytes)>> {
    let socket = directory.join(CONTROL);
    // Connecting to a Unix socket that nobody is behind fails at once.
    let stream = at_socket(&socket, |name| std::os::unix::net::UnixStream::connect(name));
    let stream = match stream {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            bail!("{} is for the service's own user and root: run this as one of them", socket.display());
        }
        Err(error) => return Err(error).with_context(|| socket.display().to_string()),
    };
    stream.set_nonblocking(true)?;
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body))?;
    let answered = tokio::time::timeout(DEADLINE, exchange(UnixStream::from_std(stream)?, request)).await;
    answered.context("the service did not answer in time: look at its log")?.map(Some)
}

async fn exchange(stream: UnixStream, request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, Bytes)> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST).collect().await;
        Ok((status, body.map_err(|error| anyhow::anyhow!(error))?.to_bytes()))
    };
    // The exchange goes on only while somebody drives the connection.
    let (answer, _) = tokio::join!(exchange, connection);
    answer
}

//! The way to the gateway: one HTTP client, one token. Knows when a request was certainly not sent, which alone is sent
//! again; keeps the token out of everything but the header, and sends it nowhere but to the one address.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use hyper::{
    HeaderMap, Method, StatusCode,
    header::{self, HeaderValue},
};
use reqwest::{Client, Response, Url};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, sleep};

/// How long a gateway that cannot be reached is tried again.
const PATIENCE: Duration = Duration::from_secs(6);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const CONNECT: Duration = Duration::from_secs(5);
/// Below the gateway's own limit for idle connections, so that none is used that it is about to close.
const IDLE: Duration = Duration::from_secs(10);
/// Longer texts are no tokens.
const TOKEN_BYTES: usize = 16 << 10;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// No connection came about: nothing was sent.
    #[error("the gateway cannot be reached, and nothing was sent: {0}")]
    Unreachable(String),
    /// The connection went away after the request may have gone out.
    #[error("the connection was lost before the answer came; whether the request took effect is unknown")]
    Unknown,
    /// There is no token to send.
    #[error("the token cannot be read, and nothing was sent: {0:#}")]
    Token(anyhow::Error),
}

/// The way to one gateway.
pub(super) struct Link {
    http: Client,
    url: Url,
    file: PathBuf,
    token: Mutex<SecretString>,
}

impl Link {
    /// The way to `url` with the token in `file`, over `proxy` where one is named. Errors before anything is sent.
    pub(super) fn new(url: Url, file: PathBuf, proxy: Option<&str>) -> anyhow::Result<Self> {
        check(&url)?;
        let token = Mutex::new(read_token(&file)?);
        let mut builder = Client::builder()
            .tls_backend_preconfigured(tls(&url)?)
            // Redirects would carry the token elsewhere, and repeats would do things twice.
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .http1_only()
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .tcp_keepalive(Duration::from_secs(30))
            .no_proxy();
        if let Some(proxy) = proxy {
            builder = builder.proxy(reqwest::Proxy::all(proxy).context("--proxy")?);
        }
        Ok(Self { http: builder.build()?, url, file, token })
    }

    /// Posts one message. Tried again while no connection comes about, and once with a newly read token.
    pub(super) async fn post(&self, headers: &HeaderMap, body: &Bytes) -> Result<Response, Failure> {
        self.send(Method::POST, headers, Some(body), PATIENCE).await
    }

    /// Asks for the session's own stream.
    pub(super) async fn listen(&self, headers: &HeaderMap) -> Result<Response, Failure> {
        self.send(Method::GET, headers, None, Duration::ZERO).await
    }

    /// Closes the session.
    pub(super) async fn close(&self, headers: &HeaderMap) -> Result<Response, Failure> {
        self.send(Method::DELETE, headers, None, Duration::ZERO).await
    }

    async fn send(
        &self,
        method: Method,
        headers: &HeaderMap,
        body: Option<&Bytes>,
        patience: Duration,
    ) -> Result<Response, Failure> {
        let deadline = Instant::now() + patience;
        let mut pause = FIRST_PAUSE;
        let mut token_is_new = false;
        loop {
            let mut request = self.http.request(method.clone(), self.url.clone()).headers(headers.clone());
            request = request.header(header::AUTHORIZATION, self.bearer()?);
            request = match body {
                Some(body) => request
                    .header(header::CONTENT_TYPE, "application/json")
                    .header(header::ACCEPT, "application/json, text/event-stream")
                    .body(body.clone()),
                None => request.header(header::ACCEPT, "text/event-stream"),
            };
            match request.send().await {
                // A 401 says that nothing was done.
                Ok(response) if response.status() == StatusCode::UNAUTHORIZED && !token_is_new => {
                    if !self.reread() {
                        return Ok(response);
                    }
                    token_is_new = true;
                }
                Ok(response) => return Ok(response),
                Err(error) if error.is_connect() => {
                    if Instant::now() + pause > deadline {
                        return Err(Failure::Unreachable(innermost(&error)));
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(_) => return Err(Failure::Unknown),
            }
        }
    }

    fn bearer(&self) -> Result<HeaderValue, Failure> {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
            .map_err(|_| Failure::Token(anyhow::anyhow!("{} holds something else", self.file.display())))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Reads the token again; whether it is another one now.
    fn reread(&self) -> bool {
        let Ok(new) = read_token(&self.file) else { return false };
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = token.expose_secret() != new.expose_secret();
        *token = new;
        changed
    }
}

/// Refuses addresses where the token would be readable on the way.
pub(in crate::cli) fn check(url: &Url) -> anyhow::Result<()> {
    ensure!(
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none(),
        "--url holds more than an address: write it as https://HOST:PORT/mcp"
    );
    let host = url.host_str().context("--url names no host: write it as https://HOST:PORT/mcp")?;
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_private_way(host) => Ok(()),
        "http" => bail!(
            "--url: the token would go to {host} readable for everybody on the way; plain http is only for loopback \
             and tailnet addresses (100.64.0.0/10, *.ts.net): use https"
        ),
        other => bail!("--url: {other} is neither https nor http"),
    }
}

/// Whether plain HTTP to `host` stays on this machine or inside WireGuard.
fn is_private_way(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) => is_inside(address),
        Err(_) => name == "localhost" || name.ends_with(".ts.net"),
    }
}

/// Whether what goes to `address` stays on this machine or inside WireGuard.
pub(in crate::cli) fn is_inside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [a, b, ..] = address.octets();
            address.is_loopback() || (a == 100 && b & 0xc0 == 64)
        }
        // Tailscale's own range.
        IpAddr::V6(address) => address.is_loopback() || address.segments().starts_with(&[0xfd7a, 0x115c, 0xa1e0]),
    }
}

/// The token in `file`, which must be private.
fn read_token(file: &Path) -> anyhow::Result<SecretString> {
    crate::store::check_private(file)?;
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let token = text.trim();
    let plausible =
        !token.is_empty() && token.len() <= TOKEN_BYTES && token.bytes().all(|byte| byte.is_ascii_graphic());
    ensure!(plausible, "{} does not hold a token, alone on one line", file.display());
    Ok(SecretString::from(token))
}

/// TLS with the machine's own root certificates.
pub(in crate::cli) fn tls(url: &Url) -> anyhow::Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    if url.scheme() == "https" {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        ensure!(!roots.is_empty(), "no root certificates are installed: install ca-certificates, or set SSL_CERT_FILE");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// The cause that says most.
pub(in crate::cli) fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_goes_in_clear_only_where_nobody_reads_it() {
        for good in [
            "http://127.0.0.1:8080/mcp",
            "http://localhost:8080/mcp",
            "http://[::1]:8080/mcp",
            "http://100.101.102.103/mcp",
            "http://[fd7a:115c:a1e0::53]/mcp",
            "http://gw.tail1234.ts.net/mcp",
            "https://gateway.example/mcp",
        ] {
            check(&good.parse().unwrap()).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        for bad in [
            "http://gateway.example/mcp",
            "http://10.0.0.1/mcp",
            "http://100.63.0.1/mcp",
            "http://100.128.0.1/mcp",
            "http://evil-ts.net/mcp",
            "http://gw.ts.net.evil.example/mcp",
            "http://localhost.evil.example/mcp",
            "http://[fd7a:115c:a1e1::1]/mcp",
            "http://0x7f.1.evil/mcp",
            "ftp://127.0.0.1/mcp",
            "https://user:secret@gateway.example/mcp",
            "https://gateway.example/mcp?token=x",
        ] {
            assert!(check(&bad.parse().unwrap()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_token_file_is_private_and_holds_a_token_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let write = |text: &str, mode: u32| {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            read_token(&file)
        };
        assert_eq!(write("tailops_k1.abc.def\n", 0o600).unwrap().expose_secret(), "tailops_k1.abc.def");
        assert!(write("tailops_k1.abc.def\n", 0o400).is_ok());
        for mode in [0o640, 0o604, 0o666] {
            let error = write("tailops_k1.abc.def\n", mode).unwrap_err().to_string();
            assert!(error.contains("chmod 0600") && !error.contains("abc"), "{error}");
        }
        for text in ["", "\n", "two words", "a\nb", "Bearer x", "ü", &"a".repeat(TOKEN_BYTES + 1)] {
            let error = write(text, 0o600).unwrap_err().to_string();
            assert!(error.contains("does not hold a token"), "{error}");
        }
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(read_token(&link).is_err());
    }
}

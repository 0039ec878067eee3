//! The people's side of a gateway's API, as the command line uses it: over the tailnet, or over the control socket on
//! the gateway's own host. Who is asking is for the connection to tell, so nothing that is sent here names or proves a
//! person; decides nothing, and follows no redirect.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow, bail, ensure};
use bytes::Bytes;
use clap::Args;
use hyper::{Method, StatusCode, header};
use reqwest::{Client, Url};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    Exit, control, data_directory,
    stdio::{innermost, is_inside, tls},
    visible::visible,
};

/// Below it is everything that people ask.
const API: &str = "/api/v1";
/// Sent with every request: a page in a browser cannot send it to a gateway that did not agree.
const HEADER: (&str, &str) = ("x-tailops-request", "1");
const CONNECT: Duration = Duration::from_secs(5);
/// The longest a gateway may take to answer.
const DEADLINE: Duration = Duration::from_secs(65);
/// The longest answer that is taken, in bytes.
const LONGEST: usize = 16 << 20;

/// Which gateway is meant.
#[derive(Args, Debug)]
pub(super) struct Reach {
    /// The gateway, e.g. http://tailops:8080; without it, the one on this machine that --data-dir names
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<Url>,
}

/// The way to one gateway.
pub(super) struct Gateway(Way);

enum Way {
    Http { http: Client, origin: Url },
    Socket(PathBuf),
}

/// What a gateway says where it does not do what was asked.
#[derive(Clone, Debug, Deserialize, thiserror::Error)]
pub(super) struct Refusal {
    /// For programs.
    pub(super) code: String,
    /// In words.
    pub(super) message: String,
    /// Finds it in the audit log.
    #[serde(default)]
    pub(super) correlation_id: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", visible(&self.message), visible(&self.code))?;
        if let Some(id) = &self.correlation_id {
            write!(f, ", on record as {}", visible(id))?;
        }
        f.write_str(")")?;
        advice(&self.code).map_or(Ok(()), |advice| write!(f, "\n{advice}"))
    }
}

/// What to do about the refusal `code`.
fn advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "approval_unknown" => "`tailops approvals --state all` lists those that you may know of",
        "approval_denied" | "approval_expired" | "approval_used" => "it is over: whoever asked can ask anew",
        "not_an_approver" => "a rule of the tailnet policy with `approve`, or approvals.approvers, gives the right",
        "own_request" => "somebody else who has the right must decide",
        "signature_required" => {
            "sign it: with --key FILE, or a key in ssh-agent; `tailops approver list` shows which keys count"
        }
        "operation_changed" => "run the command again: it shows what is asked now",
        "own_review" => "somebody else who may approve critical operations must look at it",
        "host_only" => "it is for the gateway's own machine, where the service's user and root may ask it",
        "audit_unavailable" => "the gateway's log says why it cannot record; nothing was decided",
        _ => return None,
    })
}

impl Gateway {
    /// The gateway at `url`, or the one that runs on the data directory. Nothing is sent yet.
    pub(super) async fn reach(directory: Option<&Path>, reach: &Reach) -> Result<Self, Exit> {
        match (&reach.url, directory) {
            (Some(_), Some(_)) => {
                Err(Exit::with(2, anyhow!("--url and --data-dir name two gateways: give one of them")))
            }
            (Some(url), None) => Ok(Self(over_http(url).await?)),
            (None, directory) => Ok(Self(Way::Socket(data_directory(directory)?))),
        }
    }

    /// The data directory of a gateway on this machine.
    pub(super) fn directory(&self) -> Option<&Path> {
        match &self.0 {
            Way::Socket(directory) => Some(directory),
            Way::Http { .. } => None,
        }
    }

    /// Asks for what `path` names below the API, e.g. `["approvals", id]`; each part is one segment, whatever it holds.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, &str)]) -> anyhow::Result<T> {
        self.send(Method::GET, path, query, Bytes::new()).await
    }

    /// Sends `body` to `path`.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> anyhow::Result<T> {
        self.send(Method::POST, path, &[], serde_json::to_vec(body)?.into()).await
    }

    /// Takes away what `path` names.
    pub(super) async fn delete<T: DeserializeOwned>(&self, path: &[&str]) -> anyhow::Result<T> {
        self.send(Method::DELETE, path, &[], Bytes::new()).await
    }

    /// Errors with a [`Refusal`] where the gateway gave one.
    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<T> {
        let (status, body) = match &self.0 {
            Way::Http { http, origin } => carried(http, method, address(origin, path, query)?, body).await?,
            Way::Socket(directory) => {
                let url = address(&Url::parse("http://localhost")?, path, query)?;
                let target = url.query().map_or(url.path().to_owned(), |query| format!("{}?{query}", url.path()));
                let headers = [HEADER, (header::CONTENT_TYPE.as_str(), "application/json")];
                let headers = if body.is_empty() { headers.get(..1).unwrap_or_default() } else { &headers };
                let answered = control::request(directory, method, &target, headers, body).await?;
                answered.with_context(|| {
                    let shown = directory.display();
                    format!("no gateway runs on {shown}: start it, or name another with --data-dir or --url")
                })?
            }
        };
        understood(status, &body)
    }
}

/// The address of `path` on the gateway.
fn address(origin: &Url, path: &[&str], query: &[(&str, &str)]) -> anyhow::Result<Url> {
    let mut url = origin.join(API)?;
    match url.path_segments_mut() {
        Ok(mut segments) => drop(segments.extend(path)),
        Err(()) => bail!("--url names no gateway"),
    }
    // These would be taken for the folder itself, or the one above.
    ensure!(!path.iter().any(|part| matches!(*part, "" | "." | "..")), "there is nothing called {path:?}");
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url)
}

/// A client for `url` and nothing else.
async fn over_http(url: &Url) -> Result<Way, Exit> {
    let wrong = |why: &str| Exit::with(2, anyhow!("--url {url}: {why}"));
    let host = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https"));
    let host = host.ok_or_else(|| wrong("must be an address such as http://tailops:8080"))?;
    // The address of a client is an easy thing to paste.
    let bare = matches!(url.path(), "/" | "/mcp") && url.query().is_none() && url.fragment().is_none();
    if !bare || !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("must hold an address and nothing else, such as http://tailops:8080"));
    }
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls(url)?)
        // Whoever answers elsewhere would see what is decided, and could show anything.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .http1_only()
        .connect_timeout(CONNECT)
        .timeout(DEADLINE)
        .no_proxy();
    if url.scheme() == "http" {
        let port = url.port_or_known_default().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let found: Vec<SocketAddr> = tokio::net::lookup_host((bare, port))
            .await
            .with_context(|| format!("--url {url}: {host} has no address"))?
            .collect();
        if let Some(outside) = found.iter().map(SocketAddr::ip).find(|address| !is_inside(address.to_canonical())) {
            return Err(wrong(&refused(host, outside)));
        }
        // What was looked at is what is connected to.
        if bare.parse::<IpAddr>().is_err() {
            builder = builder.resolve_to_addrs(host, &found);
        }
    }
    let http = builder.build().context("the HTTP client cannot be made")?;
    Ok(Way::Http { http, origin: url.clone() })
}

fn refused(host: &str, outside: IpAddr) -> String {
    let what = if outside.to_string() == host { host.to_owned() } else { format!("{host} is {outside}, which") };
    format!(
        "{what} is not on the tailnet, and whoever is on the way could change what you are shown; plain http is only \
         for loopback and tailnet addresses (100.64.0.0/10): use https"
    )
}

async fn carried(http: &Client, method: Method, url: Url, body: Bytes) -> anyhow::Result<(StatusCode, Bytes)> {
    let asks = method == Method::GET;
    let mut request = http.request(method, url.clone()).header(HEADER.0, HEADER.1);
    if !body.is_empty() {
        request = request.header(header::CONTENT_TYPE, "application/json").body(body);
    }
    let lost = |error: reqwest::Error| match error.is_connect() {
        true => anyhow!(
            "{} cannot be reached: {}: is the gateway running, and is the address right?",
            url.origin().ascii_serialization(),
            innermost(&error)
        ),
        false if asks => anyhow!("the connection was lost before the answer came: {}", innermost(&error)),
        false => anyhow!(
            "the connection was lost before the answer came: look whether it counted before you do it again ({})",
            innermost(&error)
        ),
    };
    let mut response = request.send().await.map_err(lost)?;
    let (status, mut taken) = (response.status(), Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        ensure!(taken.len() + chunk.len() <= LONGEST, "the answer is longer than {LONGEST} bytes");
        taken.extend_from_slice(&chunk);
    }
    Ok((status, taken.into()))
}

/// What a gateway answered, or why it did not.
fn understood<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> anyhow::Result<T> {
    /// The most of a stranger's answer that is shown, in characters.
    const SHOWN: usize = 200;
    if status.is_success() {
        return serde_json::from_slice(body)
            .context("the gateway's answer is none that this tailops knows: are both of the same version?");
    }
    if let Ok(refusal) = serde_json::from_slice::<Refusal>(body) {
        return Err(refusal.into());
    }
    let text: String = String::from_utf8_lossy(body).trim().chars().take(SHOWN).collect();
    bail!("HTTP {status}: {}: is this the address of a tailops gateway?", visible(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(result: Result<Way, Exit>) -> Option<u8> {
        result.err().map(|exit| exit.code)
    }

    #[tokio::test]
    async fn what_people_decide_goes_in_clear_only_inside_the_tailnet() {
        for bad in [
            "http://10.0.0.1:8080",
            "http://192.0.2.7",
            "http://[2001:db8::1]:8080",
            "http://100.63.0.1",
            "ftp://127.0.0.1",
            "http://user@127.0.0.1",
            "http://127.0.0.1/elsewhere",
            "http://127.0.0.1/?x=1",
            "data:text/plain,x",
        ] {
            assert_eq!(code(over_http(&bad.parse().unwrap()).await), Some(2), "{bad}");
        }
        for good in ["http://127.0.0.1:8080", "http://localhost:1/mcp", "http://[::1]:80", "http://100.101.102.103"] {
            assert_eq!(code(over_http(&good.parse().unwrap()).await), None, "{good}");
        }
    }

    #[test]
    fn each_part_of_a_path_stays_one() {
        let origin = "http://tailops:8080/mcp".parse().unwrap();
        let of = |path: &[&str], query: &[(&str, &str)]| address(&origin, path, query).map(String::from);
        assert_eq!(of(&["whoami"], &[]).unwrap(), "http://tailops:8080/api/v1/whoami");
        assert_eq!(
            of(&["approver-keys", "SHA256:a/b+c"], &[]).unwrap(),
            "http://tailops:8080/api/v1/approver-keys/SHA256:a%2Fb+c"
        );
        assert_eq!(
            of(&["approvals", "?state=x#y", "decision"], &[("state", "a&b")]).unwrap(),
            "http://tailops:8080/api/v1/approvals/%3Fstate=x%23y/decision?state=a%26b"
        );
        for folder in ["", ".", ".."] {
            assert!(of(&["approvals", folder], &[]).is_err(), "{folder:?}");
        }
    }

    #[test]
    fn a_refusal_is_told_with_its_code_and_harmlessly() {
        let told = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            format!("{:#}", understood::<serde_json::Value>(status, body.as_bytes()).unwrap_err())
        };
        let body = r#"{"code":"own_request","message":"no\u001b[2J","correlation_id":"c1"}"#;
        let text = told(403, body);
        for wanted in ["own_request", "c1", "somebody else", "no\\u{1b}[2J"] {
            assert!(text.contains(wanted), "{wanted} in {text}");
        }
        let text = told(502, &format!("\u{1b}]0;x\u{7}{}", "y".repeat(9000)));
        assert!(text.contains("502") && !text.contains('\u{1b}') && text.len() < 500, "{text}");
        assert!(told(200, "<html>").contains("same version"));
    }
}

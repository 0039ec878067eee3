//! One POST to one address: sent once, within ten seconds, to that address and nowhere else, and taken only if the answer
//! is 2xx. Reads no answer, follows no redirect, and says in no error where it went.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::HeaderMap;
use reqwest::{
    Client, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect, retry,
};
use rustls::{ClientConfig, RootCertStore};

use crate::config::may_be_private;

/// The longest that making a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Why an address cannot be called at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressFault {
    /// It is no URL.
    #[error("its url is none")]
    Url,
    /// No certificate could be checked.
    #[error("no root certificates are installed: install ca-certificates, or set SSL_CERT_FILE")]
    Roots,
    /// The client cannot be made.
    #[error("no HTTP client can be made for it: {0}")]
    Client(String),
}

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Untaken {
    /// The answer is another than 2xx.
    #[error("it answered with status {0}")]
    Status(u16),
    /// There was none in time.
    #[error("it did not answer in time")]
    Timeout,
    /// No connection came about, or it broke.
    #[error("{0}")]
    Connection(String),
}

/// The way to one address.
pub(super) struct Post {
    http: Client,
    url: Url,
}

impl Post {
    /// The way to `url`, whose certificate is checked against `roots`; each message may take `most`.
    pub(super) fn new(url: &str, roots: RootCertStore, most: Duration) -> Result<Self, AddressFault> {
        let url: Url = url.parse().map_err(|_| AddressFault::Url)?;
        let secure = url.scheme() == "https";
        if secure && roots.is_empty() {
            return Err(AddressFault::Roots);
        }
        let failed = |error: &dyn std::fmt::Display| AddressFault::Client(error.to_string());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut builder = Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("tailops/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            // Each repetition has its own time and its own seal.
            .retry(retry::never())
            .http1_only()
            .no_proxy()
            .connect_timeout(CONNECT.min(most))
            .timeout(most)
            // Messages are rare, and an answer is not read to its end.
            .pool_max_idle_per_host(0);
        builder = if secure { builder.https_only(true) } else { builder.dns_resolver(Arc::new(PrivateWay)) };
        Ok(Self { http: builder.build().map_err(|error| failed(&error))?, url })
    }

    /// Sends it once.
    pub(super) async fn send(&self, headers: HeaderMap, body: Bytes) -> Result<(), Untaken> {
        let sent = self.http.post(self.url.clone()).headers(headers).body(body).send().await;
        match sent {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(Untaken::Status(answer.status().as_u16())),
            Err(error) if error.is_timeout() => Err(Untaken::Timeout),
            Err(error) => Err(Untaken::Connection(innermost(&error.without_url()))),
        }
    }
}

/// The certificates of the machine.
pub(super) fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Resolves names for plain HTTP: only to loopback and into the tailnet, whatever a name looks like.
struct PrivateWay;

impl Resolve for PrivateWay {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let private =
                private(found).ok_or("its name stands for no address of loopback or the tailnet: use https")?;
            Ok(Box::new(private.into_iter()) as Addrs)
        })
    }
}

/// Those of `found` that plain HTTP may go to; none where there are none.
fn private(found: impl Iterator<Item = SocketAddr>) -> Option<Vec<SocketAddr>> {
    let private: Vec<SocketAddr> = found.filter(|address| may_be_private(address.ip())).collect();
    (!private.is_empty()).then_some(private)
}

/// The cause that says most.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_out_of_the_tailnet_is_not_called_in_clear() {
        let of = |texts: &[&str]| private(texts.iter().map(|text| text.parse().unwrap()));
        assert_eq!(of(&["192.168.1.9:0", "203.0.113.4:0", "[fd00::1]:0", "10.0.0.1:0"]), None);
        assert_eq!(of(&[]), None);
        let kept = of(&["192.168.1.9:0", "100.64.0.7:0", "[fd7a:115c:a1e0::7]:0"]).unwrap();
        assert_eq!(kept.len(), 2, "{kept:?}");
    }
}

//! TLS on the way in: one certificate for every name, replaced while the service runs without touching connections that
//! are open. Answers for when it is read or asked for again, and for saying in time that it ends. Never serves one whose
//! key is not its own.

mod pair;

use std::{
    fs::Metadata,
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use jiff::{SignedDuration, Timestamp};
use rustls::{
    ServerConfig,
    crypto::ring,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use self::pair::Pair;
pub use self::pair::TlsFault;
use crate::{
    config::Tls,
    model::Clock,
    tailnet::{Node, NodeStatus},
};

/// How often files are looked at, and whether the node's certificate is due.
const LOOK: Duration = Duration::from_secs(1);
/// The wait after a certificate could not be had, and the longest one: each doubles the one before.
const BACKOFF: [Duration; 2] = [Duration::from_secs(2), Duration::from_mins(5)];
/// A certificate is renewed when this part of its life is left, and about to end when that one is.
const RENEWED: i32 = 3;
const ENDING: i32 = 10;

/// The certificate that is served, and where the next one comes from.
pub struct Certificates {
    source: Tls,
    served: Arc<Served>,
    acceptor: TlsAcceptor,
}

/// What handshakes show now.
#[derive(Debug, Default)]
struct Served(ArcSwapOption<Pair>);

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Whatever name the client asks for: it judges itself whether this is the right one.
        self.0.load().as_ref().map(|pair| pair.certified.clone())
    }
}

impl Certificates {
    /// From `source`; none where HTTP stays plain. Files are read and checked now. The node is asked later, by
    /// [`Certificates::follow`]: until it has a certificate, handshakes fail.
    pub fn open(source: &Tls, now: Timestamp) -> Result<Option<Self>, TlsFault> {
        let served = Arc::new(Served::default());
        match source {
            Tls::Off => return Ok(None),
            Tls::Node => {}
            Tls::Files { certificate, key } => served.0.store(Some(Arc::new(Pair::read(certificate, key, now)?))),
        }
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsFault::Settings(error.to_string()))?;
        let mut config = config.with_no_client_auth().with_cert_resolver(served.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(Self { source: source.clone(), served, acceptor: TlsAcceptor::from(Arc::new(config)) }))
    }

    /// Shakes hands with the client of `stream`.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        self.acceptor.accept(stream).await
    }

    /// Whether there is a certificate, and none that is about to end: part of readiness.
    pub fn hold(&self, now: Timestamp) -> bool {
        self.served.0.load().as_ref().is_some_and(|pair| now < pair.before_end(ENDING))
    }

    /// When the certificate that is served ends; none where there is none.
    pub fn until(&self) -> Option<Timestamp> {
        self.served.0.load().as_ref().map(|pair| pair.until)
    }

    /// Keeps the certificate true until `stop`: reads files that changed, asks the node in time.
    pub async fn follow(&self, node: Arc<dyn Node>, clock: Arc<dyn Clock>, stop: CancellationToken) {
        let followed = async {
            match &self.source {
                Tls::Off => {}
                Tls::Node => self.follow_node(&*node, &*clock).await,
                Tls::Files { certificate, key } => self.follow_files(certificate, key, &*clock).await,
            }
        };
        stop.run_until_cancelled(followed).await;
    }

    async fn follow_files(&self, certificate: &Path, key: &Path, clock: &dyn Clock) {
        // Not what was there at the start: the files may have changed since they were read.
        let (mut known, mut told) = (None, None);
        loop {
            let (certificate, key, now) = (certificate.to_owned(), key.to_owned(), clock.now());
            let read = tokio::task::spawn_blocking(move || {
                let stamps = [&certificate, &key].map(|path| path.metadata().ok().map(Stamp::of));
                (known != Some(stamps)).then(|| (stamps, Pair::read(&certificate, &key, now)))
            });
            match read.await {
                Ok(Some((stamps, Ok(pair)))) => {
                    known = Some(stamps);
                    self.serve(pair);
                }
                // The two may be written one after the other: they are looked at again, and told of once.
                Ok(Some((stamps, Err(error)))) if told != Some(stamps) => {
                    told = Some(stamps);
                    tracing::error!(%error, "the certificate that changed is not served; the one before stays");
                }
                Ok(_) => {}
                Err(error) => tracing::error!(%error, "the certificate cannot be looked at"),
            }
            sleep(LOOK).await;
        }
    }

    async fn follow_node(&self, node: &dyn Node, clock: &dyn Clock) {
        let [first, longest] = BACKOFF;
        let (mut wait, mut next, mut failed, mut asked_for) = (first, Instant::now(), false, None);
        loop {
            let name = certificate_name(&node.status());
            if name.is_some() && name != asked_for {
                // Another name is another certificate, and no matter for patience.
                (wait, next, failed) = (first, Instant::now(), true);
                asked_for.clone_from(&name);
            }
            let due = self.served.0.load().as_ref().is_none_or(|pair| clock.now() >= pair.before_end(RENEWED));
            if (due || failed) && Instant::now() >= next {
                let asked = self.ask(node, name.as_deref(), clock).await;
                failed = asked.is_err();
                if let Err(error) = asked {
                    tracing::warn!(%error, "the node has no new certificate; it is asked again");
                } else {
                    wait = first;
                }
                next = Instant::now() + wait;
                wait = (wait * 2).min(longest);
            }
            sleep(LOOK).await;
        }
    }

    /// Asks the node for a certificate and serves it, if it is better than the one there is.
    async fn ask(&self, node: &dyn Node, name: Option<&str>, clock: &dyn Clock) -> Result<(), TlsFault> {
        let name = name.ok_or(TlsFault::NoName)?;
        let certificate = node.certificate(name).await.map_err(TlsFault::Node)?;
        let pair = Pair::of_node(certificate, name, clock.now())?;
        let due = clock.now() >= pair.before_end(RENEWED);
        self.serve(pair);
        // The node hands out the old one until it has another.
        if due { Err(TlsFault::NotRenewed) } else { Ok(()) }
    }

    fn serve(&self, pair: Pair) {
        let known = self.served.0.load();
        if known.as_ref().is_none_or(|known| known.sha256 != pair.sha256) {
            tracing::info!(sha256 = pair.sha256, until = %pair.until, "another certificate is served");
        }
        self.served.0.store(Some(Arc::new(pair)));
    }
}

/// What of a file changes when its content does.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(metadata: Metadata) -> Self {
        Self { inode: metadata.ino(), length: metadata.len(), modified: metadata.modified().ok() }
    }
}

fn certificate_name(status: &NodeStatus) -> Option<String> {
    status.own.as_ref()?.certificate_names.first().cloned()
}

impl Pair {
    /// When only the `part`th of its life is left.
    fn before_end(&self, part: i32) -> Timestamp {
        let life = self.until.duration_since(self.from);
        self.until.checked_sub(SignedDuration::max(life, SignedDuration::ZERO) / part).unwrap_or(self.until)
    }
}

#[cfg(test)]
mod tests;

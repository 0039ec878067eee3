//! The node mode in which the service is a device of the tailnet itself. A child process of the same program holds the
//! node: its keys, its network stack and the Go runtime they need (`node/`). Answers for that process from start to
//! end, and for peers that the node names for the very address its network stack accepted. Listens on nothing but the
//! tailnet, and reaches nothing but peers.

mod child;
mod credential;
mod log;
mod proxy_header;
mod run;
mod sockets;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use futures_util::future::{BoxFuture, FutureExt};
use secrecy::SecretString;
use tokio::{
    sync::{Mutex as AsyncMutex, mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use self::run::Running;
pub use self::{child::Launch, credential::CredentialError};
use super::{
    CertificatePair, Connection, DialError, Node, NodePeer, NodeState, NodeStatus, Peer, Stream, Unidentified,
};
use crate::{
    config::{EmbeddedNode, Tailnet},
    store::{DirectoryError, prepare_directory},
};

/// Where the node keeps its keys, in the data directory.
const STATE: &str = "node";
/// Where its sockets are, in the data directory.
const SOCKETS: &str = "node-sockets";
/// How long an identity is believed on a connection that lives.
const BELIEVED_FOR: Duration = Duration::from_secs(3);
/// How many accepted connections may wait until they are taken.
const WAITING: usize = 64;

/// How the process is supervised.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// The wait before it is started again for the first time, and the longest: each doubles the one before.
    pauses: [Duration; 2],
    /// One that lived this long begins anew with the first wait.
    steady: Duration,
    /// How long it may take to end when told to.
    grace: Duration,
    /// How long [`Embedded::start`] waits for the tailnet.
    join: Duration,
}

const PACE: Pace = Pace {
    pauses: [Duration::from_secs(1), Duration::from_secs(60)],
    steady: Duration::from_secs(60),
    grace: Duration::from_secs(5),
    join: Duration::from_secs(20),
};

/// Why [`Embedded::start`] refused.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// What logs it in cannot be used.
    #[error("the node's credential: {0}")]
    Credential(#[from] CredentialError),
    /// Its state has no safe place.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The process cannot be told what to be.
    #[error("the node's configuration: {0}")]
    Configuration(#[from] serde_json::Error),
}

/// A node of our own.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    connections: AsyncMutex<mpsc::Receiver<Connection>>,
    stop: CancellationToken,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    settings: EmbeddedNode,
    tailnet: Tailnet,
    launch: Launch,
    state: PathBuf,
    sockets: PathBuf,
    login: Option<SecretString>,
    pace: Pace,
    /// The process that runs now.
    running: ArcSwapOption<Running>,
    status: watch::Sender<Arc<NodeStatus>>,
    accepted: mpsc::Sender<Connection>,
}

impl Embedded {
    /// Starts the node's process and keeps it running. Waits some seconds until it is on the tailnet, and no longer
    /// where a person must do something first; its status then says what.
    ///
    /// `data_dir` must exist, and be this service's alone. `credentials` is where systemd put its credentials.
    pub async fn start(
        settings: &EmbeddedNode,
        tailnet: &Tailnet,
        data_dir: &Path,
        credentials: Option<&Path>,
        launch: Launch,
    ) -> Result<Self, EmbeddedError> {
        Self::start_paced(settings, tailnet, data_dir, credentials, launch, PACE).await
    }

    async fn start_paced(
        settings: &EmbeddedNode,
        tailnet: &Tailnet,
        data_dir: &Path,
        credentials: Option<&Path>,
        mut launch: Launch,
        pace: Pace,
    ) -> Result<Self, EmbeddedError> {
        if !settings.log_upload {
            // Read once, when the process begins.
            launch.environment.push(("TS_NO_LOGS_NO_SUPPORT".into(), "true".into()));
        }
        let login = credential::read(settings, credentials)?;
        let state = data_dir.join(STATE);
        prepare_directory(&state)?;
        let (status, mut changes) = watch::channel(Arc::new(NodeStatus::of_state(NodeState::Starting)));
        let (accepted, connections) = mpsc::channel(WAITING);
        let shared = Arc::new(Shared {
            settings: settings.clone(),
            tailnet: tailnet.clone(),
            launch,
            state,
            sockets: data_dir.join(SOCKETS),
            login,
            pace,
            running: ArcSwapOption::empty(),
            status,
            accepted,
        });
        // Whether it can be told is known before anything runs.
        shared.configuration()?;
        let stop = CancellationToken::new();
        let supervisor = tokio::spawn(run::supervise(Arc::clone(&shared), stop.clone()));
        let settled = changes.wait_for(|status| match status.state {
            NodeState::Starting => false,
            // It says so for a moment before it uses its key.
            NodeState::NeedsLogin => status.warnings.iter().any(|warning| warning.starts_with(run::LOG_IN)),
            _ => true,
        });
        if timeout(pace.join, settled).await.is_err() {
            tracing::warn!("the node is not on the tailnet yet; it goes on trying");
        }
        Ok(Self { shared, connections: AsyncMutex::new(connections), stop, supervisor: Mutex::new(Some(supervisor)) })
    }

    fn running(&self) -> Option<Arc<Running>> {
        self.shared.running.load_full()
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // Without a runtime to end it in order it is killed.
        self.stop.cancel();
    }
}

impl Node for Embedded {
    fn mode(&self) -> &'static str {
        "embedded"
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        let status = self.status();
        let own = status.own.iter().filter(|_| status.is_up()).flat_map(|own| &own.addresses);
        own.map(|&address| SocketAddr::new(address, self.shared.settings.port)).collect()
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<Connection>> {
        async {
            let connection = self.connections.lock().await.recv().await;
            connection.ok_or_else(|| io::Error::other("the tailnet node has been given up"))
        }
        .boxed()
    }

    fn identify<'a>(&'a self, peer: SocketAddr, _local: SocketAddr) -> BoxFuture<'a, Result<Peer, Unidentified>> {
        async move {
            let running = self.running().ok_or_else(|| Unidentified::Daemon("its process does not run".to_owned()))?;
            running.daemon.identify(peer, Some(peer)).await
        }
        .boxed()
    }

    fn believed_for(&self) -> Option<Duration> {
        Some(BELIEVED_FOR)
    }

    fn peer_at(&self, address: IpAddr) -> BoxFuture<'_, Result<Peer, Unidentified>> {
        async move {
            let running = self.running().ok_or_else(|| Unidentified::Daemon("its process does not run".to_owned()))?;
            let peer = SocketAddr::new(address.to_canonical(), 0);
            running.daemon.identify(peer, Some(peer)).await
        }
        .boxed()
    }

    fn status(&self) -> Arc<NodeStatus> {
        self.shared.status.borrow().clone()
    }

    fn peers(&self) -> BoxFuture<'_, Vec<(NodePeer, Result<Peer, Unidentified>)>> {
        async move {
            match self.running() {
                Some(running) => running.daemon.peers().await,
                None => Vec::new(),
            }
        }
        .boxed()
    }

    fn dial<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, Result<Stream, DialError>> {
        async move {
            let running = self.running().ok_or_else(|| DialError::Node("its process does not run".to_owned()))?;
            let address = running.daemon.address_of(host).await?;
            running.sockets.dial(running.process, SocketAddr::new(address, port)).await
        }
        .boxed()
    }

    fn certificate<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<CertificatePair, String>> {
        async move {
            let running = self.running().ok_or_else(|| "the node's process does not run".to_owned())?;
            let status = self.status();
            let names = status.own.iter().flat_map(|own| &own.certificate_names);
            let Some(name) = names.clone().find(|known| known.eq_ignore_ascii_case(name)) else {
                return Err("the tailnet gives the node no certificate for this name; HTTPS is switched on in the \
                            admin console"
                    .to_owned());
            };
            let pair = running.daemon.api().certificate(name).await;
            pair.map_err(|error| format!("the node has no certificate for {name}: {error}"))
        }
        .boxed()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        async {
            self.stop.cancel();
            let supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(supervisor) = supervisor {
                let _ = supervisor.await;
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;

//! The one place where parts are chosen and joined. Built by `cli/serve.rs` and by the test harness, nowhere else.

mod reload;

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

pub use reload::{Reload, registry_facts};
use ring::digest;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::reload::Standing;
use crate::{
    approval::Approvals,
    audit::{Audit, FoldSettings},
    auth::{Authenticator, KeyError},
    config::Config,
    exec::Executors,
    fleet::{Registry, stored_targets},
    guard::{Guard, GuardLimits},
    http::{self, Front},
    limits::Limits,
    mcp::Endpoint,
    model::{Clock, Target, TargetId, hex},
    pipeline::{GatewayFacts, Pipeline, Rules, RulesInForce, Stations},
    policy::Policy,
    store::{DirectoryError, DirectoryLock, Store, StoreError},
    tailnet::Node,
};

/// How long requests in flight may go on after the service was told to stop.
const GRACE: Duration = Duration::from_secs(20);

/// A running gateway.
pub struct App {
    addresses: Vec<SocketAddr>,
    store: Store,
    stop: CancellationToken,
    streams: CancellationToken,
    last: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
    followers: Vec<JoinHandle<()>>,
    recording: JoinHandle<()>,
    pipeline: Arc<Pipeline>,
    standing: Arc<Standing>,
    _lock: DirectoryLock,
}

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// Two targets have one id.
    #[error(transparent)]
    Clash(#[from] Clash),
}

/// A target stands in the configuration and was imported too.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "target {0} is configured and was imported too: take it out of the configuration, or run `tailops target remove {0}`"
)]
pub struct Clash(TargetId);

impl App {
    /// Starts serving `config` over `node`. The data directory must exist; `lock` is held until the end.
    pub async fn start(
        config: &Config,
        node: Arc<dyn Node>,
        clock: Arc<dyn Clock>,
        lock: DirectoryLock,
    ) -> Result<Self, StartError> {
        let store = Store::open(&config.data_dir).await?;
        store.set_meta("profile", config.profile.as_str()).await?;
        let (stop, streams, last) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let guard = Arc::new(Guard::new(GuardLimits::default()));
        let (audit, recording) =
            Audit::start(&store, guard.clone(), clock.clone(), fold_settings(config), last.clone()).await?;
        let authenticator = Arc::new(Authenticator::open(store.clone(), config.data_dir.clone(), clock.clone()).await?);
        let limits = Arc::new(Limits::new(config.limits.clone()));
        let connections = Arc::new(AtomicUsize::new(0));
        let generation = store.target_generation().await?;
        let rules = Arc::new(RulesInForce::new(rules(config, stored_targets(&store).await?)?));
        let standing = Arc::new(Standing::new(store.clone(), audit.clone(), rules.clone(), config.clone()));
        store.set_meta(reload::FACTS, &registry_facts(config)).await?;
        store.forget_reloads(clock.now()).await?;
        let pipeline = Arc::new(Pipeline::new(Stations {
            rules,
            approvals: Approvals,
            limits: limits.clone(),
            executors: Executors::new(config.exec, clock.clone()),
            guard,
            audit: audit.clone(),
            clock: clock.clone(),
            gateway: Arc::new(GatewayFacts {
                started: clock.now(),
                node: node.mode(),
                connections: connections.clone(),
                store: store.clone(),
            }),
        }));
        let endpoint = Endpoint::new(pipeline.clone(), config.sessions.clone(), streams.clone());
        let front = Arc::new(Front {
            settings: config.http.clone(),
            authenticator: authenticator.clone(),
            limits,
            audit,
            endpoint: endpoint.clone(),
            connections,
        });
        let followers = vec![
            tokio::spawn({
                let last = last.clone();
                async move { authenticator.follow(last).await }
            }),
            tokio::spawn({
                let last = last.clone();
                async move { endpoint.expire_sessions(last).await }
            }),
            tokio::spawn({
                let (last, standing) = (last.clone(), standing.clone());
                async move { standing.follow(generation, last).await }
            }),
        ];
        let addresses = node.addresses();
        let serving = tokio::spawn(http::serve(node, front, stop.clone(), GRACE));
        Ok(Self {
            addresses,
            store,
            stop,
            streams,
            last,
            serving,
            followers,
            recording,
            pipeline,
            standing,
            _lock: lock,
        })
    }

    /// The addresses it listens on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Puts a configuration that was read anew in force, or refuses it as a whole: `Err` holds the problems it had.
    /// Calls in flight go on under the rules they began with. `by` asked for it.
    pub async fn reload(&self, fresh: Result<Config, Vec<String>>, by: &str) -> Reload {
        self.standing.reload(fresh, by).await
    }

    /// Ends when the service can accept no more connections by itself.
    pub async fn failed(&mut self) -> std::io::Error {
        match (&mut self.serving).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) => std::io::Error::other("the listener ended"),
            Err(error) => std::io::Error::other(error),
        }
    }

    /// Stops: no new connection, then no open stream, then the end of every call that runs, its record, and the rest.
    pub async fn stop(mut self) {
        self.stop.cancel();
        self.streams.cancel();
        if !self.serving.is_finished()
            && let Err(error) = (&mut self.serving).await
        {
            tracing::error!(%error, "serving ended badly");
        }
        self.pipeline.drain(GRACE).await;
        self.last.cancel();
        for follower in self.followers {
            let _ = follower.await;
        }
        let _ = self.recording.await;
        self.store.close().await;
    }
}

/// Opens a data directory for one process: makes it, and takes its lock.
pub fn open_directory(directory: &Path) -> Result<DirectoryLock, DirectoryError> {
    crate::store::prepare_directory(directory)?;
    DirectoryLock::take(directory)
}

/// What calls are judged by under `config` with the targets that were imported.
fn rules(config: &Config, stored: Vec<Target>) -> Result<Rules, Clash> {
    let configured = || config.targets.iter().chain(&config.registered);
    if let Some(twice) = stored.iter().find(|target| configured().any(|known| known.id == target.id)) {
        return Err(Clash(twice.id.clone()));
    }
    Ok(Rules {
        policy: Policy::new(
            config.engagements.iter().map(|engagement| (engagement.id.clone(), engagement.tools.clone())),
        ),
        registry: Registry::new(configured().cloned().chain(stored)),
        profile: config.profile.as_str(),
        config_sha256: digest_of(config),
    })
}

fn fold_settings(config: &Config) -> FoldSettings {
    FoldSettings { singly: config.limits.refusals_recorded_per_minute.get(), ..FoldSettings::default() }
}

/// Names the configuration in force, without showing it.
fn digest_of(config: &Config) -> String {
    let digest = digest::digest(&digest::SHA256, format!("{config:?}").as_bytes());
    hex(digest.as_ref())
}

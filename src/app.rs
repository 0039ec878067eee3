//! The one place where parts are chosen and joined. Built by `cli/serve.rs` and by the test harness, nowhere else.

mod reload;
mod report;
mod rules;
mod site;

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, atomic::AtomicUsize},
    time::{Duration, Instant},
};

pub use reload::{Reload, each_line, registry_facts};
pub use report::{
    Wanted, approval_line, database_lines, directory_lines, disk_line, node_lines, peer_lines, tls_lines, wanted,
};
pub use rules::{RulesError, rules};
pub use site::{catalogue, site_files, site_policy};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::{reload::Standing, report::Facts};
use crate::{
    approval::{Approvals, Couriers, NotifyFault, Pace, Webhooks},
    audit::{Audit, FoldSettings},
    auth::{Authenticator, KeyError},
    config::{ClearListener, Config},
    exec::{AuthorityFault, Credentials, Executors, Resolver, Ssh, SystemResolver},
    fleet::{Jobs, Rotations, Secrets, stored_targets},
    guard::{Guard, GuardLimits},
    http::{self, CONTROL, Certificates, Control, Desk, Front, Lines, Threads, TlsFault},
    limits::Limits,
    mcp::Endpoint,
    model::{Clock, TargetKind},
    pipeline::{GatewayFacts, Pipeline, RulesInForce, Stations},
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
    threads: Arc<Threads>,
    approvals: Arc<Approvals>,
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
    /// The threads that serve cannot be started.
    #[error("cannot start a thread: {0}")]
    Threads(std::io::Error),
    /// The socket for people on this host cannot be made.
    #[error("cannot listen on {CONTROL} in the data directory: {0}")]
    Control(std::io::Error),
    /// The configuration and the imported targets make no rules.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// Plain HTTP where others could read it.
    #[error("node.listen: {0}")]
    Clear(#[from] ClearListener),
    /// The configured certificate cannot be served.
    #[error("the certificate cannot be served: {0}")]
    Tls(#[from] TlsFault),
    /// Those who are to be told of questions cannot be.
    #[error(transparent)]
    Notify(#[from] NotifyFault),
    /// The gateway cannot make certificates for logins.
    #[error(transparent)]
    Authority(#[from] AuthorityFault),
    /// Relays cannot be told from peers.
    #[error(
        "http.trusted_proxies: the daemon has no network device of its own, so connections of peers come from the same \
         user as those of a proxy, and cannot be told from them: run tailscaled with a network device, or take the key out"
    )]
    Relays,
}

impl StartError {
    /// Whether the configuration has to be changed.
    pub fn is_of_configuration(&self) -> bool {
        matches!(
            self,
            Self::Rules(_) | Self::Clear(_) | Self::Tls(_) | Self::Notify(_) | Self::Authority(_) | Self::Relays
        )
    }
}

impl App {
    /// Starts serving `config` over `node`. The data directory must exist; `lock` is held until the end.
    pub async fn start(
        config: &Config,
        node: Arc<dyn Node>,
        clock: Arc<dyn Clock>,
        lock: DirectoryLock,
    ) -> Result<Self, StartError> {
        Self::start_resolving_by(config, node, clock, lock, Arc::new(SystemResolver)).await
    }

    /// The same, with the names that a caller has the gateway connect to resolved by `resolver`.
    pub async fn start_resolving_by(
        config: &Config,
        node: Arc<dyn Node>,
        clock: Arc<dyn Clock>,
        lock: DirectoryLock,
        resolver: Arc<dyn Resolver>,
    ) -> Result<Self, StartError> {
        let status = node.status();
        http::refuse_clear(&node.addresses(), &status, &config.tls)?;
        if status.userspace && !config.http.trusted_proxies.is_empty() {
            return Err(StartError::Relays);
        }
        let tls = Certificates::open(&config.tls, clock.now())?.map(Arc::new);
        let control = Control::listen(&config.data_dir, &lock).map_err(StartError::Control)?;
        let store = Store::open(&config.data_dir).await?;
        let generation = store.target_generation().await?;
        let rules = Arc::new(RulesInForce::new(rules(config, stored_targets(&store).await?, clock.now())?));
        store.set_meta("profile", config.profile.as_str()).await?;
        store.set_meta("node_mode", node.mode()).await?;
        let (stop, streams, last) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let guard = Arc::new(Guard::new(GuardLimits::default(), &config.guard));
        let (audit, recording) =
            Audit::start(&store, guard.clone(), clock.clone(), fold_settings(config), last.clone()).await?;
        let authenticator = Arc::new(Authenticator::open(store.clone(), config.data_dir.clone(), clock.clone()).await?);
        let limits = Arc::new(Limits::new(config.limits.clone()));
        let connections = Arc::new(AtomicUsize::new(0));
        let standing =
            Arc::new(Standing::new(store.clone(), audit.clone(), rules.clone(), clock.clone(), config.clone()));
        store.set_meta(reload::FACTS, &registry_facts(config)).await?;
        store.forget_reloads(clock.now()).await?;
        let credentials = Credentials::open(&config.ssh)?;
        let ssh = Ssh::open(config.ssh.clone(), config.exec, node.clone(), clock.clone())
            .logging_in_with(credentials)
            .telling(audit.clone())
            .remembering(store.clone());
        let executors = Executors::new(config.exec, clock.clone()).resolving_by(resolver.clone()).reaching_by(ssh);
        let executors = Arc::new(executors);
        let secrets = Arc::new(Secrets::of(config));
        let reached = TargetKind::ALL.into_iter().filter(|kind| executors.reaches(*kind)).collect();
        let webhooks = Arc::new(Webhooks::open(&config.approvals, clock.clone())?);
        let couriers = Arc::new(Couriers::open(&config.approvals, &webhooks, &clock, Pace::default())?);
        let facts = Arc::new(Facts {
            directory: config.data_dir.clone(),
            tls: config.tls.clone(),
            certificates: tls.clone(),
            wanted: wanted(config),
            node: node.clone(),
            audit: audit.clone(),
            store: store.clone(),
            couriers: couriers.clone(),
            rules: rules.clone(),
            secrets: secrets.clone(),
            clock: clock.clone(),
            reached,
            started: (clock.now(), Instant::now()),
        });
        let rotations =
            Arc::new(Rotations::new((store.clone(), clock.clone()), executors.clone(), secrets.clone(), audit.clone()));
        let approvals = Approvals::open(store.clone(), node.clone(), clock.clone(), audit.clone()).await?;
        let approvals = Arc::new(approvals.telling(couriers.clone()));
        approvals.tell_of_open_ones().await?;
        let jobs = Arc::new(Jobs::new(
            (store.clone(), clock.clone()),
            executors.clone(),
            (audit.clone(), guard.clone()),
            Arc::new({
                let rules = rules.clone();
                move |engagement, id| rules.now().registry.target(engagement, id).cloned()
            }),
        ));
        let pipeline = Arc::new(Pipeline::new(Stations {
            rules: rules.clone(),
            approvals: approvals.clone(),
            limits: limits.clone(),
            executors,
            jobs: jobs.clone(),
            guard,
            audit: audit.clone(),
            clock: clock.clone(),
            gateway: Arc::new(GatewayFacts {
                started: clock.now(),
                node: node.clone(),
                tls: config.tls.certificate_from(),
                connections: connections.clone(),
                resolver,
                ssh: config.ssh.clone(),
                store: store.clone(),
                secrets,
                authenticator: authenticator.clone(),
            }),
        }));
        let desk = Desk {
            approvals: approvals.clone(),
            pipeline: pipeline.clone(),
            rotations,
            webhooks,
            couriers: couriers.clone(),
            rules: rules.clone(),
            audit: audit.clone(),
            store: store.clone(),
            clock: clock.clone(),
        };
        let endpoint = Endpoint::new(pipeline.clone(), config.sessions.clone(), streams.clone());
        let front = Arc::new(Front {
            settings: config.http.clone(),
            max_file_bytes: config.files.max_bytes,
            node: node.clone(),
            tls: tls.clone(),
            authenticator: authenticator.clone(),
            limits,
            audit,
            clock: clock.clone(),
            endpoint: endpoint.clone(),
            desk: desk.clone(),
            lines: Lines::new(&config.http, connections),
        });
        let mut followers = vec![
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
            tokio::spawn({
                let (last, approvals) = (last.clone(), approvals.clone());
                async move { approvals.expire_until(last).await }
            }),
            tokio::spawn(control.serve(
                Arc::new(move || {
                    let facts = facts.clone();
                    Box::pin(async move { facts.report().await })
                }),
                desk,
                last.clone(),
            )),
        ];
        followers.push(tokio::spawn(jobs.follow(last.clone())));
        followers.push(tokio::spawn({
            let last = last.clone();
            async move { couriers.follow(last).await }
        }));
        if let Some(tls) = tls {
            let (node, clock, last) = (node.clone(), clock.clone(), last.clone());
            followers.push(tokio::spawn(async move { tls.follow(node, clock, last).await }));
        }
        let addresses = node.addresses();
        let threads = Arc::new(Threads::start().map_err(StartError::Threads)?);
        let serving = tokio::spawn(http::serve(front, threads.clone(), stop.clone(), GRACE));
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
            threads,
            approvals,
            _lock: lock,
        })
    }

    /// The addresses it listens on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What people are asked.
    pub fn approvals(&self) -> &Arc<Approvals> {
        &self.approvals
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
        // Joins threads: not on one that has other work.
        let threads = self.threads;
        let _ = tokio::task::spawn_blocking(move || drop(threads)).await;
        self.store.close().await;
    }
}

/// Opens a data directory for one process: makes it, and takes its lock.
pub fn open_directory(directory: &Path) -> Result<DirectoryLock, DirectoryError> {
    crate::store::prepare_directory(directory)?;
    DirectoryLock::take(directory)
}

fn fold_settings(config: &Config) -> FoldSettings {
    FoldSettings { singly: config.limits.refusals_recorded_per_minute.get(), ..FoldSettings::default() }
}

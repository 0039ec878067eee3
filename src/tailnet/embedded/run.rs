//! One life of the node's process after the other. Answers for starting it again, ever less often, and for a status
//! that says what is true now. Decides nothing about peers.

use std::{io, process::ExitStatus, sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::{
    io::BufReader,
    net::UnixListener,
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    child::{Child, Says},
    log::{self, Lines, Remover},
    sockets::{self, Sockets},
};
use crate::tailnet::{
    NodeState, NodeStatus,
    daemon::Daemon,
    localapi::{DaemonAddress, LocalApi},
};

/// How many connections may be without their header at once.
const WITHOUT_HEADER: usize = 64;
/// How long a dead process's last words are waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long an accept that failed is waited out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a status says before the link by which a person logs the node in.
pub(super) const LOG_IN: &str = "log the node in: open ";

/// A process that runs, with what it can be asked.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) process: u32,
    pub(super) sockets: Sockets,
    pub(super) daemon: Daemon,
}

/// What the process reads first; `node/go/config.go` has the same fields.
#[derive(Serialize)]
struct Configuration<'a> {
    dir: &'a str,
    hostname: &'a str,
    port: u16,
    control_url: &'a str,
    auth_key: &'a str,
    advertise_tags: &'a [String],
    ephemeral: bool,
    parent: u32,
}

/// A line of the process's standard output: how far it has come.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Report {
    state: String,
    auth_url: String,
    error: String,
}

impl Shared {
    /// What the process is told.
    pub(super) fn configuration(&self) -> Result<SecretString, serde_json::Error> {
        let not_text = || serde::ser::Error::custom("data_dir is not UTF-8");
        let settings = &self.settings;
        let configuration = Configuration {
            dir: self.state.to_str().ok_or_else(not_text)?,
            hostname: &settings.hostname,
            port: settings.port,
            control_url: settings.control_url.as_deref().unwrap_or_default(),
            auth_key: self.login.as_ref().map_or("", |key| key.expose_secret()),
            advertise_tags: if settings.advertise_tags { &settings.tags } else { &[] },
            ephemeral: settings.ephemeral,
            parent: std::process::id(),
        };
        serde_json::to_string(&configuration).map(SecretString::from)
    }

    fn remover(&self) -> Remover {
        Remover { own: self.login.clone() }
    }

    /// Makes `status` the one that is true now.
    fn say(&self, status: NodeStatus) {
        self.status.send_if_modified(|before| {
            let changed = **before != status;
            if changed {
                *before = Arc::new(status);
            }
            changed
        });
    }
}

/// Runs the process until `stop`, again and again.
pub(super) async fn supervise(shared: Arc<Shared>, stop: CancellationToken) {
    let [first, longest] = shared.pace.pauses;
    let mut pause = first;
    loop {
        let began = Instant::now();
        let ended = run(&shared, &stop).await;
        shared.running.store(None);
        if stop.is_cancelled() {
            if let Err(error) = ended {
                tracing::warn!(%error, "the tailnet node was not ended in order");
            }
            return shared.say(NodeStatus::of_state(NodeState::Stopped));
        }
        if began.elapsed() >= shared.pace.steady {
            pause = first;
        }
        let why = match ended {
            Ok(status) => format!("the node's process ended with {status}"),
            Err(error) => format!("the node's process cannot be run: {error}"),
        };
        tracing::warn!(again_in = ?pause, "{why}");
        shared.say(NodeStatus::of_state(NodeState::Unreachable(format!("{why}; it is started again"))));
        if stop.run_until_cancelled(sleep(pause)).await.is_none() {
            return;
        }
        pause = (pause * 2).min(longest);
    }
}

/// One life of the process, until it ends or `stop`.
async fn run(shared: &Arc<Shared>, stop: &CancellationToken) -> io::Result<ExitStatus> {
    let (sockets, listener) = Sockets::fresh(&shared.sockets)?;
    let configuration = shared.configuration()?;
    let (mut child, Says { stdout, stderr }) = Child::start(&shared.launch, sockets.path(), &configuration).await?;
    let process = child.id();
    let api = LocalApi::new(DaemonAddress::Socket { path: sockets.socket("localapi.sock"), process: Some(process) });
    let daemon = Daemon::new(api, shared.tailnet.clone());
    let running = Arc::new(Running { process, sockets, daemon });
    shared.say(NodeStatus::of_state(NodeState::Starting));
    shared.running.store(Some(Arc::clone(&running)));
    tracing::info!(process, "the tailnet node's process runs");

    let (reports, reported) = watch::channel(Report::default());
    let remover = shared.remover();
    let logging = tokio::spawn(async move { log::carry(BufReader::new(stderr), &remover).await });
    // Ended when dropped.
    let mut tasks = JoinSet::new();
    tasks.spawn(take(Arc::clone(shared), listener, process));
    tasks.spawn(follow(BufReader::new(stdout), reports, shared.remover()));
    tasks.spawn(look(Arc::clone(shared), running, reported));
    tokio::select! {
        () = child.ended() => {}
        () = stop.cancelled() => {}
    }
    shared.running.store(None);
    let ended = child.stop(shared.pace.grace).await;
    let _ = timeout(LAST_WORDS, logging).await;
    tasks.shutdown().await;
    ended
}

/// Takes the connections that the process hands over.
async fn take(shared: Arc<Shared>, listener: UnixListener, process: u32) {
    let places = Arc::new(Semaphore::new(WITHOUT_HEADER));
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        // Closed never: it lives as long as this.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "no connection can be taken for now");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let shared = Arc::clone(&shared);
        tasks.spawn(async move {
            match sockets::accepted(stream, process, shared.settings.port).await {
                // Held while it waits to be taken, so that a flood waits in the process.
                Ok(connection) => drop(shared.accepted.send(connection).await),
                Err(error) => tracing::warn!(%error, "a connection to the node's socket was refused"),
            }
            drop(place);
        });
    }
}

/// Reads what the process says of itself.
async fn follow(stdout: impl tokio::io::AsyncBufRead + Unpin, reports: watch::Sender<Report>, remover: Remover) {
    let mut lines = Lines::new(stdout);
    let mut told = String::new();
    while let Ok(Some(line)) = lines.next().await {
        let Ok(mut report) = serde_json::from_str::<Report>(&line) else {
            tracing::debug!("{}", remover.shown(&line));
            continue;
        };
        report.error = remover.shown(&report.error);
        report.auth_url = remover.shown(&report.auth_url);
        if !report.auth_url.is_empty() && report.auth_url != told {
            tracing::warn!("the tailnet node must be logged in: open {}", report.auth_url);
            told.clone_from(&report.auth_url);
        }
        reports.send_replace(report);
    }
}

/// Keeps the status true.
async fn look(shared: Arc<Shared>, running: Arc<Running>, mut reports: watch::Receiver<Report>) {
    // Before it says something there is nobody to ask.
    if reports.changed().await.is_err() {
        return;
    }
    for number in 0.. {
        let status = running.daemon.look_again(number).await;
        let report = reports.borrow_and_update().clone();
        shared.say(told(&status, &report, shared.settings.log_upload));
        tokio::select! {
            () = running.daemon.until_next_look() => {}
            Ok(()) = reports.changed() => {}
        }
    }
}

/// `status` with what the process says of itself.
fn told(status: &NodeStatus, report: &Report, log_upload: bool) -> NodeStatus {
    let mut status = status.clone();
    // It has no network device, but its peers keep their addresses.
    status.userspace = false;
    match status.state {
        NodeState::NeedsLogin if !report.auth_url.is_empty() => {
            status.warnings.push(format!("{LOG_IN}{}", report.auth_url));
        }
        NodeState::Stopped if !log_upload => status.warnings.push(
            "a tailnet with network flow logs stops a node that uploads no logs: set node.log_upload = true".to_owned(),
        ),
        _ => {}
    }
    if !report.error.is_empty() && !status.is_up() {
        status.warnings.push(report.error.clone());
    }
    status
}

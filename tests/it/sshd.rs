//! An SSH server for tests: speaks the real protocol, runs what it is told with `sh -c`, as sshd does, or answers by a
//! function. Listens on loopback, ends with its owner, and counts what happened to it.

#[path = "sshd/connection.rs"]
mod connection;
#[path = "sshd/running.rs"]
mod running;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use russh::{
    Preferred,
    keys::{Certificate, HashAlg, PrivateKey, PublicKey},
    server,
};
use tokio::{net::TcpListener, task::JoinHandle};

use self::connection::Connection;

/// What a server that runs nothing says to a command line and its input: standard output and the exit status.
pub type Answer = dyn Fn(&str, &[u8]) -> (Vec<u8>, u32) + Send + Sync;

/// What a server runs where it is told to run a command line.
pub type Instead = dyn Fn(&str) -> String + Send + Sync;

/// What a server says of itself from the next connection on; none is what it says by itself.
#[derive(Default)]
pub struct Says {
    pub identification: Option<String>,
    pub banner: Option<String>,
}

/// How a server behaves.
#[derive(Clone)]
pub struct Settings {
    pub host_keys: Vec<PrivateKey>,
    pub host_certificates: Vec<Certificate>,
    /// The login keys it takes.
    pub authorized: Vec<PublicKey>,
    /// A file in the form of authorized_keys whose keys it takes besides, read at each login.
    pub authorized_keys: Option<std::path::PathBuf>,
    /// The authority whose login certificates it takes, for the login user as principal.
    pub user_ca: Option<PublicKey>,
    pub preferred: Preferred,
    pub banner: Option<String>,
    /// For a server that comes to say something else while it runs.
    pub says: Arc<Mutex<Says>>,
    /// The most sessions at the same time on one connection.
    pub max_sessions: usize,
    /// How many bytes of input it takes for a channel before it takes more.
    pub window: u32,
    /// The most bytes of output that it sends at once.
    pub piece: usize,
    /// Instead of running commands.
    pub answer: Option<Arc<Answer>>,
    /// What it runs in place of what it is told to.
    pub instead: Option<Arc<Instead>>,
    /// Hangs up as soon as a command was started.
    pub cuts: bool,
    /// Whether it connects others further, as a jump host does.
    pub forwards: bool,
}

impl Settings {
    /// One host key, one login key, nothing unusual.
    pub fn new(host_key: &PrivateKey, authorized: &PublicKey) -> Self {
        Self {
            host_keys: vec![host_key.clone()],
            host_certificates: Vec::new(),
            authorized: vec![authorized.clone()],
            authorized_keys: None,
            user_ca: None,
            preferred: Preferred::DEFAULT,
            banner: None,
            says: Arc::default(),
            max_sessions: 10,
            window: 2 << 20,
            piece: 16 << 10,
            answer: None,
            instead: None,
            cuts: false,
            forwards: false,
        }
    }

    /// That of one connection.
    fn config(&self) -> Arc<server::Config> {
        let mut config = server::Config {
            keys: self.host_keys.clone(),
            certificates: self.host_certificates.clone(),
            preferred: self.preferred.clone(),
            auth_rejection_time: std::time::Duration::ZERO,
            auth_rejection_time_initial: Some(std::time::Duration::ZERO),
            nodelay: true,
            window_size: self.window,
            ..server::Config::default()
        };
        if let Some(identification) = &self.says.lock().unwrap().identification {
            config.server_id = russh::SshId::Standard(identification.clone().into());
        }
        Arc::new(config)
    }
}

/// What happened so far.
#[derive(Default)]
pub struct Seen {
    pub connections: AtomicUsize,
    /// Connections that are open now.
    pub open: AtomicUsize,
    /// Whatever was asked for besides running commands: `pty`, `env`, `agent`, …
    pub asked: Mutex<Vec<&'static str>>,
    /// Where others were connected to.
    pub forwarded: Mutex<Vec<String>>,
    pub sessions: AtomicUsize,
    /// Commands that run now, and the most that ever ran at once.
    pub running: AtomicUsize,
    pub most_running: AtomicUsize,
    /// The user, and a key's fingerprint or a certificate's key id.
    pub logins: Mutex<Vec<(String, String)>>,
    /// The login certificates that were accepted.
    pub certificates: Mutex<Vec<Certificate>>,
    pub commands: Mutex<Vec<String>>,
}

/// A running server.
pub struct Sshd {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
    accepting: JoinHandle<()>,
    /// Changes when every connection is cut; true once nobody is let in any more.
    hang_up: tokio::sync::watch::Sender<bool>,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A new ed25519 key.
pub fn new_key() -> PrivateKey {
    PrivateKey::random(&mut rand::rng(), russh::keys::Algorithm::Ed25519).unwrap()
}

/// A pin of `key`, as a registry writes it.
pub fn pin_of(key: &PublicKey) -> String {
    let name = match key.algorithm() {
        russh::keys::Algorithm::Rsa { .. } => "ssh-rsa".to_owned(),
        other => other.to_string(),
    };
    format!("{} {name}", key.fingerprint(HashAlg::Sha256))
}

impl Sshd {
    /// Starts on a free port of loopback.
    pub async fn start(settings: Settings) -> Self {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), settings).await
    }

    /// Starts at `address`, which is on loopback.
    pub async fn start_on(address: SocketAddr, settings: Settings) -> Self {
        assert!(address.ip().is_loopback());
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let settings = Arc::new(settings);
        let counted = seen.clone();
        let (hang_up, hung_up) = tokio::sync::watch::channel(false);
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let mut vanished = hung_up.clone();
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = vanished.wait_for(|vanished| *vanished) => break,
                };
                let Ok((stream, _)) = accepted else { return };
                counted.connections.fetch_add(1, Ordering::SeqCst);
                let connection = Connection {
                    settings: settings.clone(),
                    seen: counted.clone(),
                    inputs: HashMap::new(),
                    outs: HashMap::new(),
                    open: Arc::default(),
                    groups: HashMap::new(),
                    sessions: Arc::default(),
                };
                let (config, counted, mut hung_up) = (settings.config(), counted.clone(), hung_up.clone());
                hung_up.mark_unchanged();
                connections.spawn(async move {
                    counted.open.fetch_add(1, Ordering::SeqCst);
                    if let Ok(mut session) = server::run_stream(config, stream, connection).await {
                        let handle = session.handle();
                        tokio::select! {
                            _ = &mut session => {}
                            // Errors once the server is gone, and its connections with it.
                            _ = hung_up.changed() => {
                                let cut = russh::Disconnect::ByApplication;
                                let _ = handle.disconnect(cut, String::new(), String::new()).await;
                                let _ = session.await;
                            }
                        }
                    }
                    counted.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
            drop(listener);
            while connections.join_next().await.is_some() {}
        });
        Self { address, seen, accepting, hang_up }
    }

    /// Takes it off the network: nobody connects any more, and no connection stays.
    pub fn vanish(&self) {
        let _ = self.hang_up.send(true);
    }

    /// Cuts every connection there is, as a reboot does.
    pub fn hang_up(&self) {
        let _ = self.hang_up.send(false);
    }
}

//! An SSH server for tests: speaks the real protocol, runs what it is told with `sh -c`, as sshd does, or answers by a
//! function. Listens on loopback, ends with its owner, and counts what happened to it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use russh::{
    Channel, ChannelId, Preferred,
    keys::{Certificate, HashAlg, PrivateKey, PublicKey},
    server::{self, Auth, ChannelOpenHandle, Msg, Session, VerifiedPublicKey},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    process::Command,
    sync::mpsc,
    task::JoinHandle,
};

/// What a server that runs nothing says to a command line and its input: standard output and the exit status.
pub type Answer = dyn Fn(&str, &[u8]) -> (Vec<u8>, u32) + Send + Sync;

/// How a server behaves.
#[derive(Clone)]
pub struct Settings {
    pub host_keys: Vec<PrivateKey>,
    pub host_certificates: Vec<Certificate>,
    /// The login keys it takes.
    pub authorized: Vec<PublicKey>,
    /// The authority whose login certificates it takes, for the login user as principal.
    pub user_ca: Option<PublicKey>,
    pub preferred: Preferred,
    pub banner: Option<String>,
    /// The most sessions at the same time on one connection.
    pub max_sessions: usize,
    /// Instead of running commands.
    pub answer: Option<Arc<Answer>>,
    /// Hangs up as soon as a command was started.
    pub cuts: bool,
}

impl Settings {
    /// One host key, one login key, nothing unusual.
    pub fn new(host_key: &PrivateKey, authorized: &PublicKey) -> Self {
        Self {
            host_keys: vec![host_key.clone()],
            host_certificates: Vec::new(),
            authorized: vec![authorized.clone()],
            user_ca: None,
            preferred: Preferred::DEFAULT,
            banner: None,
            max_sessions: 10,
            answer: None,
            cuts: false,
        }
    }
}

/// What happened so far.
#[derive(Default)]
pub struct Seen {
    pub connections: AtomicUsize,
    pub sessions: AtomicUsize,
    /// Commands that run now, and the most that ever ran at once.
    pub running: AtomicUsize,
    pub most_running: AtomicUsize,
    /// The user, and a key's fingerprint or a certificate's key id.
    pub logins: Mutex<Vec<(String, String)>>,
    pub commands: Mutex<Vec<String>>,
}

/// A running server.
pub struct Sshd {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
    accepting: JoinHandle<()>,
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
        let config = Arc::new(server::Config {
            keys: settings.host_keys.clone(),
            certificates: settings.host_certificates.clone(),
            preferred: settings.preferred.clone(),
            auth_rejection_time: std::time::Duration::ZERO,
            auth_rejection_time_initial: Some(std::time::Duration::ZERO),
            nodelay: true,
            ..server::Config::default()
        });
        let settings = Arc::new(settings);
        let counted = seen.clone();
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                counted.connections.fetch_add(1, Ordering::SeqCst);
                let connection = Connection {
                    settings: settings.clone(),
                    seen: counted.clone(),
                    inputs: HashMap::new(),
                    open: Arc::default(),
                };
                let config = config.clone();
                connections.spawn(async move {
                    if let Ok(session) = server::run_stream(config, stream, connection).await {
                        let _ = session.await;
                    }
                });
            }
        });
        Self { address, seen, accepting }
    }
}

struct Connection {
    settings: Arc<Settings>,
    seen: Arc<Seen>,
    /// Where the input of each command goes; closed at its end.
    inputs: HashMap<ChannelId, mpsc::UnboundedSender<Vec<u8>>>,
    open: Arc<AtomicUsize>,
}

impl Connection {
    fn logged_in(&self, user: &str, credential: String) -> Auth {
        self.seen.logins.lock().unwrap().push((user.to_owned(), credential));
        Auth::Accept
    }
}

impl server::Handler for Connection {
    type Error = russh::Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, Self::Error> {
        Ok(self.settings.banner.clone())
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let known = self.settings.authorized.iter().any(|known| known.key_data() == key.public_key.key_data());
        if !known {
            return Ok(Auth::reject());
        }
        Ok(self.logged_in(user, key.public_key.fingerprint(HashAlg::Sha256).to_string()))
    }

    async fn auth_openssh_certificate(&mut self, user: &str, certificate: &Certificate) -> Result<Auth, Self::Error> {
        let Some(ca) = &self.settings.user_ca else { return Ok(Auth::reject()) };
        let valid = certificate.validate([&ca.fingerprint(HashAlg::Sha256)]).is_ok();
        if !valid || !certificate.valid_principals().iter().any(|principal| principal == user) {
            return Ok(Auth::reject());
        }
        Ok(self.logged_in(user, certificate.key_id().to_owned()))
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.open.load(Ordering::SeqCst) >= self.settings.max_sessions {
            reply.reject(russh::ChannelOpenFailure::ConnectFailed).await;
            return Ok(());
        }
        self.open.fetch_add(1, Ordering::SeqCst);
        self.seen.sessions.fetch_add(1, Ordering::SeqCst);
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        self.inputs.remove(&channel);
        self.open.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    async fn channel_eof(&mut self, channel: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        self.inputs.remove(&channel);
        Ok(())
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], _: &mut Session) -> Result<(), Self::Error> {
        if let Some(input) = self.inputs.get(&channel) {
            let _ = input.send(data.to_vec());
        }
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        line: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let line = String::from_utf8_lossy(line).into_owned();
        self.seen.commands.lock().unwrap().push(line.clone());
        session.channel_success(channel)?;
        let (input, received) = mpsc::unbounded_channel();
        self.inputs.insert(channel, input);
        let (handle, settings, seen) = (session.handle(), self.settings.clone(), self.seen.clone());
        tokio::spawn(async move {
            let running = seen.running.fetch_add(1, Ordering::SeqCst) + 1;
            seen.most_running.fetch_max(running, Ordering::SeqCst);
            let status = match &settings.answer {
                Some(answer) => answered(&**answer, &line, received, &handle, channel).await,
                None => ran(&line, received, &handle, channel, settings.cuts).await,
            };
            seen.running.fetch_sub(1, Ordering::SeqCst);
            let _ = handle.exit_status_request(channel, status).await;
            let _ = handle.eof(channel).await;
            let _ = handle.close(channel).await;
        });
        Ok(())
    }
}

async fn answered(
    answer: &Answer,
    line: &str,
    mut received: mpsc::UnboundedReceiver<Vec<u8>>,
    handle: &server::Handle,
    channel: ChannelId,
) -> u32 {
    let mut input = Vec::new();
    while let Some(bytes) = received.recv().await {
        input.extend(bytes);
    }
    let (output, status) = answer(line, &input);
    for chunk in output.chunks(32 << 10) {
        let _ = handle.data(channel, chunk.to_vec()).await;
    }
    status
}

/// Runs `line` as sshd would: by the login shell, in a process group of its own.
async fn ran(
    line: &str,
    mut received: mpsc::UnboundedReceiver<Vec<u8>>,
    handle: &server::Handle,
    channel: ChannelId,
    cuts: bool,
) -> u32 {
    let mut child = Command::new("/bin/sh")
        .args(["-c", line])
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, stdout, stderr) =
        (child.stdin.take().unwrap(), child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let feed = tokio::spawn(async move {
        while let Some(bytes) = received.recv().await {
            if stdin.write_all(&bytes).await.is_err() {
                break;
            }
        }
    });
    if cuts {
        let _ = handle.disconnect(russh::Disconnect::ByApplication, String::new(), String::new()).await;
    }
    let out = send(stdout, handle.clone(), channel, None);
    let err = send(stderr, handle.clone(), channel, Some(1));
    let (_, _, status) = tokio::join!(out, err, child.wait());
    feed.abort();
    status.ok().and_then(|status| status.code()).and_then(|code| u32::try_from(code).ok()).unwrap_or(255)
}

async fn send(mut from: impl AsyncReadExt + Unpin, handle: server::Handle, channel: ChannelId, ext: Option<u32>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let bytes = buffer[..read].to_vec();
        let sent = match ext {
            None => handle.data(channel, bytes).await,
            Some(ext) => handle.extended_data(channel, ext, bytes).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

//! An SSH server for tests: speaks the real protocol, runs what it is told with `sh -c`, as sshd does, or answers by a
//! function. Listens on loopback, ends with its owner, and counts what happened to it.

use std::{
    collections::{HashMap, HashSet},
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
    /// The authority whose login certificates it takes, for the login user as principal.
    pub user_ca: Option<PublicKey>,
    pub preferred: Preferred,
    pub banner: Option<String>,
    /// For a server that comes to say something else while it runs.
    pub says: Arc<Mutex<Says>>,
    /// The most sessions at the same time on one connection.
    pub max_sessions: usize,
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
            user_ca: None,
            preferred: Preferred::DEFAULT,
            banner: None,
            says: Arc::default(),
            max_sessions: 10,
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

struct Connection {
    settings: Arc<Settings>,
    seen: Arc<Seen>,
    /// Where the input of each command goes; closed at its end.
    inputs: HashMap<ChannelId, mpsc::UnboundedSender<Vec<u8>>>,
    open: Arc<AtomicUsize>,
    /// The process groups of the commands that were started.
    groups: HashMap<ChannelId, Group>,
    /// Shared with the tasks that end them.
    sessions: Arc<Mutex<HashSet<ChannelId>>>,
}

/// The id of a process group, once there is one.
type Group = Arc<Mutex<Option<rustix::process::Pid>>>;

impl Connection {
    fn asked(&self, what: &'static str) {
        self.seen.asked.lock().unwrap().push(what);
    }

    fn logged_in(&self, user: &str, credential: String) -> Auth {
        self.seen.logins.lock().unwrap().push((user.to_owned(), credential));
        Auth::Accept
    }
}

impl server::Handler for Connection {
    type Error = russh::Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, Self::Error> {
        let changed = self.settings.says.lock().unwrap().banner.clone();
        Ok(changed.or_else(|| self.settings.banner.clone()))
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
        self.seen.certificates.lock().unwrap().push(certificate.clone());
        Ok(self.logged_in(user, certificate.key_id().to_owned()))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.open.load(Ordering::SeqCst) >= self.settings.max_sessions {
            reply.reject(russh::ChannelOpenFailure::ConnectFailed).await;
            return Ok(());
        }
        self.open.fetch_add(1, Ordering::SeqCst);
        self.sessions.lock().unwrap().insert(channel.id());
        self.seen.sessions.fetch_add(1, Ordering::SeqCst);
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.seen.forwarded.lock().unwrap().push(format!("{host}:{port}"));
        let further = match self.settings.forwards {
            true => tokio::net::TcpStream::connect((host, u16::try_from(port).unwrap())).await.ok(),
            false => None,
        };
        let Some(mut further) = further else {
            reply.reject(russh::ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        };
        reply.accept().await;
        tokio::spawn(async move {
            let _ = tokio::io::copy_bidirectional(&mut channel.into_stream(), &mut further).await;
        });
        Ok(())
    }

    async fn pty_request(
        &mut self,
        _: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(russh::Pty, u32)],
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.asked("pty");
        Ok(())
    }

    async fn x11_request(
        &mut self,
        _: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.asked("x11");
        Ok(())
    }

    async fn env_request(&mut self, _: ChannelId, _: &str, _: &str, _: &mut Session) -> Result<(), Self::Error> {
        self.asked("env");
        Ok(())
    }

    async fn shell_request(&mut self, _: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        self.asked("shell");
        Ok(())
    }

    async fn subsystem_request(&mut self, _: ChannelId, _: &str, _: &mut Session) -> Result<(), Self::Error> {
        self.asked("subsystem");
        Ok(())
    }

    async fn agent_request(&mut self, _: ChannelId, _: &mut Session) -> Result<bool, Self::Error> {
        self.asked("agent");
        Ok(false)
    }

    async fn tcpip_forward(&mut self, _: &str, _: &mut u32, _: &mut Session) -> Result<bool, Self::Error> {
        self.asked("tcpip-forward");
        Ok(false)
    }

    async fn streamlocal_forward(&mut self, _: &str, _: &mut Session) -> Result<bool, Self::Error> {
        self.asked("streamlocal-forward");
        Ok(false)
    }

    /// To the whole group of the command, as sshd does.
    async fn signal(&mut self, channel: ChannelId, signal: russh::Sig, _: &mut Session) -> Result<(), Self::Error> {
        let group = self.groups.get(&channel).and_then(|group| *group.lock().unwrap());
        let signal = match signal {
            russh::Sig::INT => rustix::process::Signal::INT,
            russh::Sig::KILL => rustix::process::Signal::KILL,
            _ => rustix::process::Signal::TERM,
        };
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, signal);
        }
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        self.groups.remove(&channel);
        if self.sessions.lock().unwrap().remove(&channel) {
            self.open.fetch_sub(1, Ordering::SeqCst);
        }
        self.inputs.remove(&channel);
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
        let (sessions, open) = (self.sessions.clone(), self.open.clone());
        let group = Group::default();
        self.groups.insert(channel, group.clone());
        let (handle, settings, seen) = (session.handle(), self.settings.clone(), self.seen.clone());
        let run = settings.instead.as_deref().map_or_else(|| line.clone(), |instead| instead(&line));
        tokio::spawn(async move {
            let running = seen.running.fetch_add(1, Ordering::SeqCst) + 1;
            seen.most_running.fetch_max(running, Ordering::SeqCst);
            match &settings.answer {
                Some(answer) => {
                    let status = answered(&**answer, &line, received, &handle, channel).await;
                    let _ = handle.exit_status_request(channel, status).await;
                }
                None => ran(&run, received, &handle, channel, (settings.cuts, group)).await,
            }
            seen.running.fetch_sub(1, Ordering::SeqCst);
            let _ = handle.eof(channel).await;
            if sessions.lock().unwrap().remove(&channel) {
                open.fetch_sub(1, Ordering::SeqCst);
            }
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
    (cuts, group): (bool, Group),
) {
    let mut child = Command::new("/bin/sh")
        .args(["-c", line])
        .current_dir("/")
        .process_group(0)
        .kill_on_drop(true)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).unwrap()));
    *group.lock().unwrap() = id;
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
    let ended = async {
        let status = child.wait().await.unwrap();
        // From now on the id may be another's.
        *group.lock().unwrap() = None;
        let _ = match told(status) {
            Ok(code) => handle.exit_status_request(channel, code).await,
            Err(signal) => handle.exit_signal_request(channel, signal, false, String::new(), String::new()).await,
        };
    };
    // Children may hold the streams open for as long as they live; sshd waits for them too.
    tokio::join!(out, err, ended);
    feed.abort();
}

/// What sshd says of how a command ended.
fn told(status: std::process::ExitStatus) -> Result<u32, russh::Sig> {
    match std::os::unix::process::ExitStatusExt::signal(&status) {
        None => Ok(u32::try_from(status.code().unwrap()).unwrap()),
        Some(1) => Err(russh::Sig::HUP),
        Some(2) => Err(russh::Sig::INT),
        Some(6) => Err(russh::Sig::ABRT),
        Some(9) => Err(russh::Sig::KILL),
        Some(10) => Err(russh::Sig::USR1),
        Some(13) => Err(russh::Sig::PIPE),
        Some(15) => Err(russh::Sig::TERM),
        Some(other) => Err(russh::Sig::Custom(other.to_string())),
    }
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

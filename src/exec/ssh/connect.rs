//! One connection from nothing to logged in: bytes, host key, login, each in bounded time. Keeps none and shares none.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use russh::{Channel, client};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout},
};
use tokio_util::sync::DropGuard;

use super::{
    Ssh, SshFault,
    alarm::Bell,
    algorithms,
    handler::Handler,
    pool::Lease,
    route::{self, Bytes},
    tether::tether,
    way::Way,
};
use crate::model::Wire;

/// What a host may keep on the way to us, per channel.
const WINDOW: u32 = 2 << 20;

/// A connection that is logged in. It ends once nobody holds it.
pub(super) struct Session {
    pub(super) handle: client::Handle<Handler>,
    /// For the record.
    pub(super) wire: Wire,
    /// Ends the connection with the session, whatever the host does.
    _tether: DropGuard,
    /// How long opening a channel may take.
    pub(super) patience: Duration,
    room: Mutex<Room>,
    expires: Option<Timestamp>,
    retired: AtomicBool,
    /// Among all connections of the gateway.
    _place: Option<OwnedSemaphorePermit>,
    /// The channel through a jump host that carries it.
    _through: Option<Lease>,
}

/// How many channels a connection has and may have.
struct Room {
    used: usize,
    /// Fewer once the host has refused one.
    most: usize,
    /// When a channel was last given back.
    last: Instant,
}

impl Session {
    /// Takes the right to one more channel, if there is room.
    pub(super) fn enter(&self) -> bool {
        let mut room = self.room();
        let enters = room.used < room.most;
        room.used += usize::from(enters);
        enters
    }

    /// Gives it back.
    pub(super) fn leave(&self) {
        let mut room = self.room();
        room.used = room.used.saturating_sub(1);
        room.last = Instant::now();
    }

    /// The host has refused the channel of somebody who has not left yet: there are no more than the others have. How
    /// many that are.
    pub(super) fn was_refused(&self) -> usize {
        let mut room = self.room();
        room.most = room.most.min(room.used.saturating_sub(1));
        if room.most == 0 {
            self.retire();
        }
        room.most
    }

    /// Has at most `most` channels from now on.
    pub(super) fn limit(&self, most: usize) {
        let mut room = self.room();
        room.most = room.most.min(most);
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether new channels may be opened on it at `now`.
    pub(super) fn is_usable(&self, now: Timestamp) -> bool {
        let lapsed = self.expires.is_some_and(|expires| expires <= now);
        !lapsed && !self.retired.load(Ordering::SeqCst) && !self.handle.is_closed()
    }

    /// Opens no further channel on it.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
    }

    /// Since when nobody uses it; none while somebody does.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let room = self.room();
        (room.used == 0).then_some(room.last)
    }

    /// The bytes to `port` of `host`, which this one leads to as a jump host.
    pub(super) async fn forward(&self, host: &str, port: u16) -> Result<Box<dyn Bytes>, SshFault> {
        match self.handle.channel_open_direct_tcpip(host, port.into(), "127.0.0.1", 0).await {
            Ok(channel) => Ok(Box::new(channel.into_stream())),
            Err(russh::Error::ChannelOpenFailure(reason)) => {
                Err(SshFault::Io(std::io::Error::other(format!("the jump host does not lead there: {reason:?}"))))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A new channel on it.
    pub(super) async fn channel(&self) -> Result<Channel<client::Msg>, russh::Error> {
        match timeout(self.patience, self.handle.channel_open_session()).await {
            Ok(opened) => opened,
            Err(_) => Err(russh::Error::ConnectionTimeout),
        }
    }
}

/// Connects by `way` and logs in. `place` is given back when the connection ends.
pub(super) async fn connect(
    ssh: &Ssh,
    way: &Way<'_>,
    through: Option<Lease>,
    place: Option<OwnedSemaphorePermit>,
) -> Result<Session, SshFault> {
    let connection = &way.key.connection;
    let login = way.login.clone().prepare(ssh.clock.now()).await?;
    let config = Arc::new(client::Config {
        preferred: way.key.trust.preferred(),
        window_size: WINDOW,
        keepalive_interval: Some(ssh.settings.keepalive),
        keepalive_max: 3,
        nodelay: true,
        ..client::Config::default()
    });
    let bell = Bell::of(ssh.alarms.clone(), way.target, way.attribution);
    let (handler, verdict, heard) = Handler::new(way.key.trust.clone(), bell.clone(), ssh.clock.clone());
    let shaken = within(connection.timeout, "connecting", async {
        let (bytes, tether) = tether(bytes(ssh, way, through.as_ref()).await?);
        let handle = client::connect_stream(config, bytes, handler).await?;
        algorithms::signed_well(handle.agent_session_binding().map(|bound| bound.signature()).unwrap_or_default())?;
        Ok((handle, tether))
    })
    .await;
    let verdict = verdict.lock().unwrap_or_else(PoisonError::into_inner).take();
    let ((mut handle, _tether), proven) = match (shaken, verdict) {
        (_, Some(Err(fault))) => return Err(fault),
        (Err(fault), _) => return Err(fault),
        (Ok(shaken), Some(Ok(proven))) => (shaken, proven),
        (Ok(_), None) => return Err(SshFault::HostKeyUnknown { shown: "none".to_owned() }),
    };
    within(ssh.settings.auth_timeout, "logging in", login.authenticate(&mut handle)).await?;
    if let Some(greetings) = &ssh.greetings {
        let said = heard.lock().unwrap_or_else(PoisonError::into_inner).greeting();
        greetings.compare(way, &bell, said, ssh.clock.now()).await;
    }
    Ok(Session {
        handle,
        _tether,
        wire: Wire {
            login: login.user().to_owned(),
            host_key: proven.fingerprint,
            trust: proven.trust,
            credential: login.credential(),
        },
        patience: connection.timeout,
        room: Mutex::new(Room { used: 0, most: ssh.settings.channels_per_connection.max(1), last: Instant::now() }),
        expires: [login.expires(), proven.until].into_iter().flatten().min(),
        retired: AtomicBool::new(false),
        _place: place,
        _through: through,
    })
}

/// The bytes to the host: through the jump host where there is one, else by the network.
async fn bytes(ssh: &Ssh, way: &Way<'_>, through: Option<&Lease>) -> Result<Box<dyn Bytes>, SshFault> {
    let (host, port) = way.key.address();
    match through {
        Some(jump) => jump.session.forward(host, port).await,
        None => route::open(&*ssh.node, host, port, way.key.connection.node.is_some()).await,
    }
}

async fn within<T>(
    limit: Duration,
    what: &'static str,
    future: impl Future<Output = Result<T, SshFault>>,
) -> Result<T, SshFault> {
    timeout(limit, future).await.map_err(|_| SshFault::Timeout(what))?
}

//! One connection from nothing to logged in: bytes, host key, login, each in bounded time.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use russh::client;
use tokio::time::timeout;
use tokio_util::sync::DropGuard;

use super::{
    Ssh, SshFault, alarm::Bell, algorithms, handler::Handler, login::Login, route, tether::tether, trust::Trust,
};
use crate::model::{Attribution, Target, Wire};

/// What a host may keep on the way to us, per channel.
const WINDOW: u32 = 2 << 20;

/// A connection that is logged in.
pub(super) struct Session {
    pub(super) handle: client::Handle<Handler>,
    /// For the record.
    pub(super) wire: Wire,
    /// Ends the connection with the session, whatever the host does.
    _tether: DropGuard,
}

/// Connects to `target` and logs in.
pub(super) async fn connect(ssh: &Ssh, target: &Target, attribution: &Attribution) -> Result<Session, SshFault> {
    let registered = target.registered.as_deref();
    let connection = registered.and_then(|registered| registered.connection.as_ref());
    let connection = connection.ok_or(SshFault::NoConnection)?;
    let login = Login::of(&ssh.settings, connection, attribution)?;
    let trust = Trust::of(&ssh.settings, connection, &ssh.node.status())?;
    let config = Arc::new(client::Config {
        preferred: trust.preferred(),
        window_size: WINDOW,
        keepalive_interval: Some(ssh.settings.keepalive),
        keepalive_max: 3,
        nodelay: true,
        ..client::Config::default()
    });
    let bell = Bell::of(ssh.alarms.clone(), target, attribution);
    let (handler, verdict) = Handler::new(trust, bell, ssh.clock.clone());
    let shaken = within(connection.timeout, "connecting", async {
        let (bytes, tether) = tether(route::open(&*ssh.node, connection).await?);
        let handle = client::connect_stream(config, bytes, handler).await?;
        algorithms::signed_well(handle.agent_session_binding())?;
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
    let wire = Wire { login: login.user.clone(), host_key: proven.fingerprint, credential: login.credential() };
    Ok(Session { handle, wire, _tether })
}

async fn within<T>(
    limit: Duration,
    what: &'static str,
    future: impl Future<Output = Result<T, SshFault>>,
) -> Result<T, SshFault> {
    timeout(limit, future).await.map_err(|_| SshFault::Timeout(what))?
}

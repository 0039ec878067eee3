//! One connection from nothing to logged in: bytes, host key, login, each in bounded time.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use russh::client;
use tokio::time::timeout;

use super::{
    Ssh, SshFault, algorithms,
    handler::{Handler, Verdict},
    login::Login,
    route,
    trust::Trust,
};
use crate::model::{Attribution, Target, Wire};

/// What a host may keep on the way to us, per channel.
const WINDOW: u32 = 2 << 20;

/// A connection that is logged in.
pub(super) struct Session {
    pub(super) handle: client::Handle<Handler>,
    /// For the record.
    pub(super) wire: Wire,
}

/// Connects to `target` and logs in.
pub(super) async fn connect(ssh: &Ssh, target: &Target, attribution: &Attribution) -> Result<Session, SshFault> {
    let registered = target.registered.as_deref();
    let connection = registered.and_then(|registered| registered.connection.as_ref());
    let connection = connection.ok_or(SshFault::NoConnection)?;
    let login = Login::of(&ssh.settings, connection, attribution)?;
    let trust = Trust::of(connection);
    let config = Arc::new(client::Config {
        preferred: algorithms::preferred(trust.pins()),
        window_size: WINDOW,
        keepalive_interval: Some(ssh.settings.keepalive),
        keepalive_max: 3,
        nodelay: true,
        ..client::Config::default()
    });
    let verdict = Verdict::default();
    let handler = Handler { trust, verdict: verdict.clone() };
    let shaken = within(connection.timeout, "connecting", async {
        let bytes = route::open(&*ssh.node, connection).await?;
        Ok(client::connect_stream(config, bytes, handler).await?)
    })
    .await;
    let verdict = verdict.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (mut handle, host_key) = match (shaken, verdict) {
        (_, Some(Err(fault))) => return Err(fault),
        (Err(fault), _) => return Err(fault),
        (Ok(handle), Some(Ok(host_key))) => (handle, host_key),
        (Ok(_), None) => return Err(SshFault::HostKeyUnknown { shown: "none".to_owned() }),
    };
    within(ssh.settings.auth_timeout, "logging in", login.authenticate(&mut handle)).await?;
    let wire = Wire { login: login.user.clone(), host_key, credential: login.credential() };
    Ok(Session { handle, wire })
}

async fn within<T>(
    limit: Duration,
    what: &'static str,
    future: impl Future<Output = Result<T, SshFault>>,
) -> Result<T, SshFault> {
    timeout(limit, future).await.map_err(|_| SshFault::Timeout(what))?
}

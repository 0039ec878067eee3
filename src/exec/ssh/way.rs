//! The way to a target: who logs in there, whom to trust there, and the jump hosts before it, each held to the same.
//! Opens nothing.

use std::sync::Arc;

use super::{
    Ssh, SshFault,
    login::{Login, Purpose},
    trust::{RevokedKeys, Trust},
};
use crate::model::{Attribution, Connection, EngagementId, Target, TargetId, TargetKind};

/// The most jump hosts before a target.
const MOST_JUMPS: usize = 3;

/// The port of SSH.
const PORT: u16 = 22;

/// All that two callers must have in common to share a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) target: TargetId,
    engagement: EngagementId,
    pub(super) connection: Connection,
    pub(super) trust: Arc<Trust>,
    user: String,
    /// Which credential logs in; where it is made for a subject, for which.
    credential: String,
    via: Option<Arc<Key>>,
}

/// How to reach one target for one caller.
pub(super) struct Way<'a> {
    pub(super) target: &'a Target,
    pub(super) attribution: &'a Attribution,
    pub(super) key: Arc<Key>,
    pub(super) login: Login,
    /// The jump host.
    pub(super) via: Option<Box<Way<'a>>>,
}

impl Key {
    /// Whether connections of `old` must not be used any more: the same target is somewhere else now, is trusted by
    /// other keys, or is logged in to by another key.
    pub(super) fn supersedes(&self, old: &Self) -> bool {
        let rotated = self.connection.key.is_some() && self.credential != old.credential;
        let rerouted = match (&self.via, &old.via) {
            (None, None) => false,
            (Some(via), Some(old)) => via.supersedes(old),
            _ => true,
        };
        rotated
            || rerouted
            || self.engagement != old.engagement
            || self.connection != old.connection
            || self.trust != old.trust
    }

    /// Host and port.
    pub(super) fn address(&self) -> (&str, u16) {
        (self.connection.host.as_str(), self.connection.port.unwrap_or(PORT))
    }

    /// Names the host among all hosts: its address, and that of the jump host from which it counts.
    pub(super) fn place(&self) -> String {
        let (host, port) = self.address();
        match &self.via {
            None => format!("{host}:{port}"),
            Some(via) => format!("{host}:{port} by {}", via.place()),
        }
    }
}

impl<'a> Way<'a> {
    /// To `target`, for `attribution`.
    pub(super) fn of(ssh: &Ssh, target: &'a Target, attribution: &'a Attribution) -> Result<Self, SshFault> {
        let revoked = ssh.revocations.now()?;
        Self::behind(ssh, target, attribution, &revoked, 0, &mut Vec::new())
    }

    /// To `target` as the jump host before something that is no target: it is the first on the way back, and counts.
    pub(super) fn to_jump(ssh: &Ssh, target: &'a Target, attribution: &'a Attribution) -> Result<Self, SshFault> {
        let revoked = ssh.revocations.now()?;
        Self::behind(ssh, target, attribution, &revoked, 1, &mut Vec::new())
    }

    /// The same, where `revoked` does not count, and `passed` were passed on the way back from the end. `jumps` of the
    /// way are jump hosts up to here, `target` included unless commands run on it.
    fn behind(
        ssh: &Ssh,
        target: &'a Target,
        attribution: &'a Attribution,
        revoked: &Arc<RevokedKeys>,
        jumps: usize,
        passed: &mut Vec<&'a TargetId>,
    ) -> Result<Self, SshFault> {
        if passed.contains(&&target.id) {
            return Err(SshFault::Jump(format!("the way leads through {} twice", target.id)));
        }
        if jumps > MOST_JUMPS {
            return Err(SshFault::Jump(format!("the way leads over more than {MOST_JUMPS} jump hosts")));
        }
        let purpose = if jumps == 0 { Purpose::Commands } else { Purpose::Jump };
        passed.push(&target.id);
        let registered = target.registered.as_deref();
        let connection = registered.and_then(|registered| registered.connection.as_ref());
        let connection = connection.ok_or(SshFault::NoConnection)?;
        let via = match (&connection.via, &connection.jump) {
            (None, None) => None,
            // Never past a jump host that cannot be found.
            (None, Some(jump)) => return Err(SshFault::Jump(format!("{jump} is no target"))),
            (Some(via), _) if via.kind != TargetKind::Ssh || via.engagement != target.engagement => {
                return Err(SshFault::Jump(format!("{} is no target of the same engagement reached by SSH", via.id)));
            }
            (Some(via), _) => Some(Box::new(Self::behind(ssh, via, attribution, revoked, jumps + 1, passed)?)),
        };
        let login = Login::of(&ssh.credentials, connection, &target.engagement, attribution, purpose)?;
        let key = Key {
            target: target.id.clone(),
            engagement: target.engagement.clone(),
            connection: connection.clone(),
            trust: trust(ssh, target, connection, revoked)?,
            user: login.user().to_owned(),
            credential: login.identity().to_owned(),
            via: via.as_ref().map(|via| via.key.clone()),
        };
        Ok(Self { target, attribution, key: Arc::new(key), login, via })
    }
}

/// Whom to trust at the end of `connection`: worked out once for as long as there are connections, and anew where
/// anything changed that it follows from.
fn trust(
    ssh: &Ssh,
    target: &Target,
    connection: &Connection,
    revoked: &Arc<RevokedKeys>,
) -> Result<Arc<Trust>, SshFault> {
    let status = ssh.node.status();
    let holds = |key: &Key| key.connection == *connection && key.trust.holds(&status, connection, revoked);
    match ssh.pool.trust(&target.id, holds) {
        Some(trust) => Ok(trust),
        None => Trust::of(&ssh.settings, connection, &status, Arc::clone(revoked)).map(Arc::new),
    }
}

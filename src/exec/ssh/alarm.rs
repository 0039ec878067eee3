//! Telling somebody of a host that is not who it should be, or that says something else of itself than before. What
//! becomes of it is for others; nothing is decided here: whether the host is refused does not depend on who hears of it.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{SshFault, greeting::Change, trust::Trust};
use crate::model::{Attribution, CorrelationId, EngagementId, Target, TargetId};

/// A host that showed something else than it was enrolled with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostAlarm {
    /// The target.
    pub target: TargetId,
    /// Its tenant.
    pub engagement: EngagementId,
    /// Where it should be, as the registry has it.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether it was refused: then nothing was sent to it but the key exchange.
    pub refused: bool,
    /// For programs, e.g. `host_key_mismatch`: what the call is answered with where the host was refused.
    pub code: &'static str,
    /// The key it showed, fingerprint and type; or what it says of itself.
    pub shown: String,
    /// What it was enrolled with; or what it said before.
    pub enrolled: Vec<String>,
    /// The same in words.
    pub why: String,
    /// Whose call it was.
    pub subject: String,
    /// Joins it to the call.
    pub correlation: CorrelationId,
}

/// Hears of such hosts.
pub trait Alarms: Send + Sync + 'static {
    /// Returns once the alarm is kept, or counted with others like it; false where it could not be.
    fn raise(&self, alarm: HostAlarm) -> BoxFuture<'_, bool>;
}

/// What an alarm about one connection would say, and who hears of it.
#[derive(Clone)]
pub(super) struct Bell {
    alarms: Option<Arc<dyn Alarms>>,
    target: TargetId,
    engagement: EngagementId,
    attribution: Attribution,
}

impl Bell {
    /// For a connection to `target`, made for `attribution`.
    pub(super) fn of(alarms: Option<Arc<dyn Alarms>>, target: &Target, attribution: &Attribution) -> Self {
        Self {
            alarms,
            target: target.id.clone(),
            engagement: target.engagement.clone(),
            attribution: attribution.clone(),
        }
    }

    /// Raises an alarm if `fault` says that the host is another than `trust` expects. A host that was never enrolled is
    /// no alarm: nobody expects anything of it.
    pub(super) async fn ring(&self, trust: &Trust, fault: &SshFault) {
        let (SshFault::HostKeyMismatch { shown, .. }
        | SshFault::HostCertificate { shown, .. }
        | SshFault::HostKeyRevoked { shown }) = fault
        else {
            return;
        };
        let (code, why) = (fault.code(), fault.to_string());
        self.raise(
            trust,
            HostAlarm { shown: shown.clone(), enrolled: trust.enrolled(), ..self.alarm(true, code, why) },
        )
        .await;
    }

    /// Raises an alarm that the host, which is the one that `trust` expects, says something else of itself than before.
    /// False where nobody could keep it.
    pub(super) async fn ring_of_change(&self, trust: &Trust, change: Change) -> bool {
        let Change { code, shown, before } = change;
        let why = format!(
            "the host proved to be the one that was enrolled, and says {shown}, where it said {before}: an update does \
             that, and so does another machine with the same key; nothing was refused"
        );
        self.raise(trust, HostAlarm { shown, enrolled: vec![before], ..self.alarm(false, code, why) }).await
    }

    async fn raise(&self, trust: &Trust, alarm: HostAlarm) -> bool {
        let Some(alarms) = &self.alarms else { return true };
        let (host, port) = trust.place();
        alarms.raise(HostAlarm { host: host.to_owned(), port, ..alarm }).await
    }

    fn alarm(&self, refused: bool, code: &'static str, why: String) -> HostAlarm {
        HostAlarm {
            target: self.target.clone(),
            engagement: self.engagement.clone(),
            host: String::new(),
            port: 0,
            refused,
            code,
            shown: String::new(),
            enrolled: Vec::new(),
            why,
            subject: self.attribution.subject.clone(),
            correlation: self.attribution.correlation,
        }
    }
}

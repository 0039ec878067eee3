//! Telling somebody of a host that is not who it should be. What becomes of it is for others; nothing is decided here,
//! and the host is refused whether anybody hears of it or not.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{SshFault, trust::Trust};
use crate::model::{Attribution, CorrelationId, EngagementId, Target, TargetId};

/// A host that showed something else than it was enrolled with. Nothing was sent to it but the key exchange.
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
    /// For programs, e.g. `host_key_mismatch`: what the call is answered with.
    pub code: &'static str,
    /// The key it showed: fingerprint and type.
    pub shown: String,
    /// What it was enrolled with.
    pub enrolled: Vec<String>,
    /// The refusal in words.
    pub why: String,
    /// Whose call it was.
    pub subject: String,
    /// Joins it to the call.
    pub correlation: CorrelationId,
}

/// Hears of such hosts.
pub trait Alarms: Send + Sync + 'static {
    /// Returns once the alarm is kept, or counted with others like it.
    fn raise(&self, alarm: HostAlarm) -> BoxFuture<'_, ()>;
}

/// What an alarm about one connection would say, and who hears of it.
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
        let Some(alarms) = &self.alarms else { return };
        let (host, port) = trust.place();
        let alarm = HostAlarm {
            target: self.target.clone(),
            engagement: self.engagement.clone(),
            host: host.to_owned(),
            port,
            code: fault.code(),
            shown: shown.clone(),
            enrolled: trust.enrolled(),
            why: fault.to_string(),
            subject: self.attribution.subject.clone(),
            correlation: self.attribution.correlation,
        };
        alarms.raise(alarm).await;
    }
}

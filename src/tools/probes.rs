//! What the two probe tools share: where a probe is made from, the check of literal addresses, and how certificates,
//! times and failures are shown.

use std::{net::IpAddr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ToolError;
use crate::model::{
    AddressRefused, AddressRules, Certificate, Failure, Host, ProbeEnd, ProbeOutput, RawOutput, StepOutput, TlsFindings,
};

/// Where a probe is made from. The target, unless a call says otherwise: there every other tool acts, and what one
/// machine can reach says little of another.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Vantage {
    Gateway,
    #[default]
    Target,
}

/// Why there is no answer from the network.
#[derive(Serialize, JsonSchema)]
pub(super) struct Trouble {
    /// resolve, connect, tls or http
    pub(super) stage: String,
    pub(super) reason: String,
}

impl Trouble {
    pub(super) fn new(stage: &str, reason: &str) -> Self {
        Self { stage: stage.to_owned(), reason: reason.to_owned() }
    }
}

/// A TLS handshake.
#[derive(Serialize, JsonSchema)]
pub(super) struct Tls {
    pub(super) version: Option<String>,
    /// By whoever made the probe, for this name; null where unknown
    pub(super) trusted: Option<bool>,
    /// Why not
    pub(super) untrusted: Option<String>,
    pub(super) cert: Option<Cert>,
}

/// A certificate.
#[derive(Serialize, JsonSchema)]
pub(super) struct Cert {
    subject: String,
    issuer: String,
    sans: Vec<String>,
    not_before: Option<String>,
    not_after: Option<String>,
    /// SHA-256 in hex
    fingerprint: String,
}

impl From<Certificate> for Cert {
    fn from(read: Certificate) -> Self {
        Self {
            subject: read.subject,
            issuer: read.issuer,
            sans: read.sans,
            not_before: read.not_before.map(|time| time.to_string()),
            not_after: read.not_after.map(|time| time.to_string()),
            fingerprint: read.sha256,
        }
    }
}

impl From<TlsFindings> for Tls {
    fn from(found: TlsFindings) -> Self {
        Self {
            version: found.version.map(str::to_owned),
            trusted: found.certificate.is_some().then_some(found.untrusted.is_none()),
            untrusted: found.untrusted,
            cert: found.certificate.map(Cert::from),
        }
    }
}

/// `text` as the host that `field` names, an address only if the rules let it be reached.
pub(super) fn checked(field: &str, host: &Host, rules: &AddressRules) -> Result<(), ToolError> {
    match host {
        Host::Name(_) => Ok(()),
        Host::Address(ip) => rules.check(*ip).map_err(|refused| {
            refusal(format!("`{field}`: {ip} is {}, which must not be probed", refused.what), refused)
        }),
    }
}

/// The refusal of an address.
pub(super) fn refusal(message: String, refused: AddressRefused) -> ToolError {
    let hint = if refused.configurable {
        "only networks that probe.networks lists in the gateway's configuration may be reached besides public addresses"
    } else {
        "no setting allows this"
    };
    ToolError::new("address_refused", message).hint(hint)
}

/// The gateway's part of the probe that `raw` comes from.
pub(super) fn gateways_part(raw: &RawOutput) -> Result<&ProbeOutput, ToolError> {
    match raw.outputs.first() {
        Some(StepOutput::Probe(probe)) => Ok(probe),
        _ => Err(ToolError::unreadable("a step is missing")),
    }
}

/// What the gateway's part says of `host`: whether it failed, or that it was refused.
pub(super) fn trouble(probe: &ProbeOutput, host: &str) -> Result<Option<Trouble>, ToolError> {
    match &probe.end {
        ProbeEnd::Answered | ProbeEnd::Aimed => Ok(None),
        ProbeEnd::Failed(Failure { stage, reason }) => Ok(Some(Trouble::new(stage, reason))),
        ProbeEnd::Refused(refused) => Err(refusal(
            format!("{host} resolves to {}, which must not be probed; nothing was sent", refused.what),
            *refused,
        )),
        ProbeEnd::Stopped(_) => Err(ToolError::unreadable("the probe was stopped")),
    }
}

/// The addresses as text.
pub(super) fn addresses(addresses: &[IpAddr]) -> Vec<String> {
    addresses.iter().map(IpAddr::to_string).collect()
}

/// Milliseconds, to the hundredth.
pub(super) fn ms(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1e3)
}

/// To the hundredth.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

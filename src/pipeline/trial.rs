//! What people on the gateway's own host ask of machines: whether a target can be used, and which host keys a machine
//! shows. Neither is a call of a tool: no agent comes here, and nothing that is asked for can be chosen.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use tokio_util::sync::CancellationToken;

use super::Pipeline;
use crate::{
    audit::Unrecorded,
    exec::{Scan, ScannedKey, SshFault, scan},
    model::{Attribution, CorrelationId, ScriptOutput, StepOutcome, Target},
    tailnet::Node,
};

/// The longest a look at a host's keys may take.
const SCAN: Duration = Duration::from_secs(20);
/// The most characters of what a target says of itself.
const WORD: usize = 64;

/// What came of testing one target.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Trial {
    /// Which.
    pub target: String,
    /// Whether it was reached, took the login and ran the test.
    pub ok: bool,
    /// Why not, for programs.
    pub code: Option<String>,
    /// Why not, in words.
    pub message: Option<String>,
    /// The fingerprint of the host key that it proved to have.
    pub host_key: Option<String>,
    /// What spoke for that key: `certificate`, `network_map` or `pin`.
    pub host_trust: Option<String>,
    /// The fingerprint of the authority, where it was a certificate.
    pub host_authority: Option<String>,
    /// Whom the login makes us there.
    pub login: Option<String>,
    /// What the target's log names the login by.
    pub credential: Option<String>,
    /// Whether sudo allows anything without a password; null where the target's policy lets nobody use it.
    pub sudo: Option<bool>,
    /// Whether systemd runs its services.
    pub systemd: Option<bool>,
    /// From the beginning to the end, in milliseconds.
    pub took_ms: u64,
    /// Joins it with the target's log and the audit log.
    pub correlation_id: String,
}

impl Trial {
    /// A target that could not be used.
    pub fn failed(target: &str, code: &str) -> Self {
        Self { target: target.to_owned(), code: Some(code.to_owned()), ..Self::default() }
    }

    /// What `output` tells.
    fn of(target: &Target, output: &ScriptOutput) -> Self {
        let sections = output.sections();
        let word = |name: &str| {
            let section = sections.iter().find(|section| section.name == name)?;
            let text: String = section.text().trim().chars().filter(|c| !c.is_control()).take(WORD).collect();
            Some(text).filter(|text| !text.is_empty())
        };
        let flag = |name: &str| word(name).map(|word| word == "1");
        let wire = output.wire.as_ref();
        let known = Self {
            host_key: wire.map(|wire| wire.host_key.clone()),
            host_trust: wire.map(|wire| wire.trust.as_str().to_owned()),
            host_authority: wire.and_then(|wire| wire.trust.authority()).map(str::to_owned),
            login: word("who").or_else(|| wire.map(|wire| wire.login.clone())),
            credential: wire.map(|wire| wire.credential.clone()),
            sudo: flag("sudo"),
            systemd: flag("systemd"),
            ..Self::default()
        };
        let id = target.id.as_str();
        let (code, message) = match &output.outcome {
            StepOutcome::Exited(0) if word("who").is_some() => {
                return Self { target: id.to_owned(), ok: true, ..known };
            }
            StepOutcome::Exited(status) => ("failed", format!("the test ended with status {status}")),
            StepOutcome::Signalled(signal) => ("killed", format!("the test was killed by signal {signal}")),
            StepOutcome::Stopped { limit: "time", .. } => ("timed_out", "the test took too long".to_owned()),
            StepOutcome::Stopped { .. } => ("output_limit", "the target gave too much output".to_owned()),
            StepOutcome::Lost(why) => ("unknown_outcome", why.clone()),
            StepOutcome::NotStarted { code, why } => (*code, why.clone()),
        };
        Self { code: Some(code.to_owned()), message: Some(message), target: id.to_owned(), ..known }
    }
}

/// A host key that a machine showed. It is not trusted for that.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct HostKey {
    /// E.g. `ssh-ed25519`.
    pub algorithm: String,
    /// `SHA256:` and 43 characters.
    pub fingerprint: String,
    /// As a line of a public key file.
    pub public_key: String,
    /// The certificate it came with.
    pub certificate: Option<HostCertificate>,
}

/// What a host certificate says; nothing of it is checked.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct HostCertificate {
    /// The fingerprint of the authority.
    pub authority: String,
    /// The hosts it is for.
    pub principals: Vec<String>,
    /// Holds from then on.
    pub not_before: Option<String>,
    /// Holds until then.
    pub not_after: Option<String>,
}

impl From<ScannedKey> for HostKey {
    fn from(key: ScannedKey) -> Self {
        let certificate = key.certificate.map(|certificate| HostCertificate {
            authority: certificate.authority,
            principals: certificate.principals,
            not_before: certificate.not_before.map(|moment| moment.to_string()),
            not_after: certificate.not_after.map(|moment| moment.to_string()),
        });
        Self { algorithm: key.algorithm, fingerprint: key.fingerprint, public_key: key.public_key, certificate }
    }
}

/// What a machine showed of itself. None of it is trusted for that.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct HostKeys {
    /// One of each type that the gateway accepts.
    pub keys: Vec<HostKey>,
    /// How its SSH server identifies itself, in its own words.
    pub identification: Option<String>,
}

/// Why a machine showed no host keys.
#[derive(Clone, Debug)]
pub struct Unseen {
    /// For programs.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

impl From<SshFault> for Unseen {
    fn from(fault: SshFault) -> Self {
        Self { code: fault.code(), message: fault.to_string() }
    }
}

/// What the SSH server on `port` of `host` shows now.
pub(super) async fn look(node: &dyn Node, host: &str, port: u16) -> Result<Scan, Unseen> {
    Ok(scan(node, host, port, SCAN).await?)
}

impl Pipeline {
    /// Tests the target `id` for `by`, a person on the gateway's own host; none where there is no such target. Errors
    /// where it cannot be recorded.
    pub async fn test_target(
        &self,
        id: &str,
        by: &str,
        correlation: CorrelationId,
    ) -> Result<Option<Trial>, Unrecorded> {
        let rules = self.rules.now();
        let Some(target) = rules.registry.all().find(|target| target.id.as_str() == id) else { return Ok(None) };
        let attribution = Attribution { subject: by.to_owned(), correlation };
        let started = Instant::now();
        let tested = self.executors.test(target, &attribution, &CancellationToken::new()).await;
        let trial = match &tested {
            Ok(output) => Trial::of(target, output),
            Err(error) => Trial { message: Some(error.to_string()), ..Trial::failed(id, error.code()) },
        };
        let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let trial = Trial { took_ms, correlation_id: correlation.to_string(), ..trial };
        let mut details = Map::from_iter([
            ("id".to_owned(), json!(id)),
            ("ok".to_owned(), json!(trial.ok)),
            ("code".to_owned(), json!(trial.code)),
            ("correlation_id".to_owned(), json!(trial.correlation_id)),
        ]);
        if let Some(wire) = tested.iter().find_map(|output| output.wire.as_ref()) {
            details.insert("login".to_owned(), json!(wire.login));
            details.insert("host_key".to_owned(), json!(wire.host_key));
            details.insert("host_trust".to_owned(), json!(wire.trust.as_str()));
            details.insert("host_authority".to_owned(), json!(wire.trust.authority()));
            details.insert("credential".to_owned(), json!(wire.credential));
        }
        self.audit.act("target.test", by, &details, None).await?;
        Ok(Some(trial))
    }

    /// The host keys that the SSH server on `port` of `host` shows now, to the gateway or to its target `jump`, for `by`,
    /// a person on the gateway's own host. Errors where it cannot be recorded.
    pub async fn scan_host(
        &self,
        (host, port): (&str, u16),
        jump: Option<&str>,
        by: &str,
        correlation: CorrelationId,
    ) -> Result<Result<HostKeys, Unseen>, Unrecorded> {
        let found = match jump {
            None => look(self.answers.node(), host, port).await,
            Some(jump) => {
                let attribution = Attribution { subject: by.to_owned(), correlation };
                self.look_behind(jump, (host, port), &attribution).await
            }
        };
        let keys = found.as_ref().map(|scan| scan.keys.iter().map(|key| &key.fingerprint).collect::<Vec<_>>());
        let details = json!({
            "host": host, "port": port, "jump": jump, "host_keys": keys.ok(), "correlation_id": correlation.to_string(),
        });
        let refused = found.as_ref().err().map(|unseen| unseen.code.to_owned());
        self.audit.act("target.scan", by, &details.as_object().cloned().unwrap_or_default(), refused).await?;
        Ok(found.map(|scan| HostKeys {
            keys: scan.keys.into_iter().map(HostKey::from).collect(),
            identification: scan.identification,
        }))
    }

    /// What the SSH server at `place`, host and port, shows to the target `jump`.
    async fn look_behind(&self, jump: &str, place: (&str, u16), attribution: &Attribution) -> Result<Scan, Unseen> {
        let rules = self.rules.now();
        let Some(jump) = rules.registry.all().find(|target| target.id.as_str() == jump) else {
            return Err(Unseen {
                code: "unknown_target",
                message: format!("there is no target {jump:?} to go through"),
            });
        };
        let scanned = self.executors.scan_behind(jump, place, attribution, SCAN).await;
        Ok(scanned.map_err(|error| Unseen { code: error.code(), message: error.to_string() })??)
    }
}

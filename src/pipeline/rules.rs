//! What calls are judged by. Replaced as a whole, so that a call sees one reading of the configuration and never parts
//! of two.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::{
    config::{Approvals, CredentialAges, Files},
    fleet::Registry,
    model::ProbeRules,
    policy::Policy,
};

/// One reading of the configuration, as far as calls depend on it.
#[derive(Debug)]
pub struct Rules {
    /// Who may do what.
    pub policy: Policy,
    /// The targets there are.
    pub registry: Registry,
    /// What probes may reach.
    pub probe: ProbeRules,
    /// What may be written into files.
    pub files: Files,
    /// Who may say yes, and how they are asked.
    pub approvals: Approvals,
    /// How old the gateway's own secrets may grow.
    pub credentials: CredentialAges,
    /// The configuration's profile.
    pub profile: &'static str,
    /// Hex SHA-256 of the configuration.
    pub config_sha256: String,
}

/// The rules in force now.
#[derive(Debug)]
pub struct RulesInForce(ArcSwap<Rules>);

impl RulesInForce {
    /// Starts with `rules`.
    pub fn new(rules: Rules) -> Self {
        Self(ArcSwap::from_pointee(rules))
    }

    /// The rules in force. A call asks once and keeps them to its end.
    pub fn now(&self) -> Arc<Rules> {
        self.0.load_full()
    }

    /// Puts `rules` in force for every call that begins from now on.
    pub fn replace(&self, rules: Rules) {
        self.0.store(Arc::new(rules));
    }
}

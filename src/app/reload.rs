//! The configuration in force, and how another takes its place: as a whole, on record before it is in force, or not
//! at all. Follows the imported targets too. Reads no file: whoever asks brings the configuration.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::rules::{rules, rules_for_targets};
use crate::{
    audit::Audit,
    config::{Config, registry_entry},
    fleet::stored_targets,
    model::Clock,
    pipeline::{Rules, RulesInForce},
    store::Store,
};

/// How often imported targets are looked at.
const POLL: Duration = Duration::from_millis(200);
/// What the log calls it.
const ACT: &str = "config.reload";
/// The most problems one record tells of.
const RECORDED: usize = 20;

/// Where the database keeps [`registry_facts`].
pub(super) const FACTS: &str = "registry";

/// What the command line must know of the configuration in force to import targets: the engagements, the targets
/// that are configured, whose the directories are and which hosts certificates speak for, as JSON.
pub fn registry_facts(config: &Config) -> String {
    let targets: Vec<Value> = config.targets.iter().chain(&config.registered).map(registry_entry).collect();
    let host_cas: Vec<_> = config.ssh.host_cas.iter().map(|authority| &authority.hosts).collect();
    json!({
        "engagements": config.engagement_ids(),
        "targets": targets,
        "places": config.places(),
        "host_cas": host_cas,
    })
    .to_string()
}

/// What came of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// The digest of the configuration that was in force.
    pub before: String,
    /// The digest of the one that is in force now; none where nothing changed because of `problems`.
    pub after: Option<String>,
    /// Why it was refused.
    pub problems: Vec<String>,
}

/// The configuration in force.
pub(super) struct Standing {
    store: Store,
    audit: Arc<Audit>,
    rules: Arc<RulesInForce>,
    clock: Arc<dyn Clock>,
    config: Mutex<Config>,
}

impl Standing {
    pub(super) fn new(
        store: Store,
        audit: Arc<Audit>,
        rules: Arc<RulesInForce>,
        clock: Arc<dyn Clock>,
        config: Config,
    ) -> Self {
        Self { store, audit, rules, clock, config: Mutex::new(config) }
    }

    pub(super) async fn reload(&self, fresh: Result<Config, Vec<String>>, by: &str) -> Reload {
        let mut standing = self.config.lock().await; // one at a time
        let before = self.rules.now().config_sha256.clone();
        let problems = match self.judged(&standing, fresh).await {
            Ok((config, rules)) => match self.recorded(&before, &rules.config_sha256, &config, by).await {
                Ok(()) => {
                    let after = rules.config_sha256.clone();
                    self.rules.replace(rules);
                    *standing = config;
                    tracing::info!(before, after, by, "the configuration was reloaded");
                    return Reload { before, after: Some(after), problems: Vec::new() };
                }
                Err(problem) => vec![problem],
            },
            Err(problems) => problems,
        };
        for problem in &problems {
            tracing::error!(by, problem, "the configuration was not reloaded; the one before stays in force");
        }
        let shown: Vec<&String> = problems.iter().take(RECORDED).collect();
        let details = Map::from_iter([
            ("before".to_owned(), json!(before)),
            ("after".to_owned(), Value::Null),
            ("problems".to_owned(), json!(shown)),
        ]);
        let error = format!("refused: {} problem(s)", problems.len());
        if let Err(error) = self.audit.act(ACT, by, &details, Some(error)).await {
            tracing::error!(%error, "a refused reload could not be recorded");
        }
        Reload { before, after: None, problems }
    }

    /// The rules of a fresh configuration, or why it cannot take the place of the one that stands.
    async fn judged(
        &self,
        standing: &Config,
        fresh: Result<Config, Vec<String>>,
    ) -> Result<(Config, Rules), Vec<String>> {
        let config = fresh?;
        let keys = standing.needs_restart(&config);
        if !keys.is_empty() {
            let needs = |key| format!("{key}: a change of this setting needs a restart; nothing was changed");
            return Err(keys.into_iter().map(needs).collect());
        }
        let stored = stored_targets(&self.store).await.map_err(|error| vec![error.to_string()])?;
        let rules = rules(&config, stored, self.clock.now()).map_err(|error| each_line(&error))?;
        Ok((config, rules))
    }

    /// Puts on record what is about to be in force.
    async fn recorded(&self, before: &str, after: &str, config: &Config, by: &str) -> Result<(), String> {
        let details = Map::from_iter([("before".to_owned(), json!(before)), ("after".to_owned(), json!(after))]);
        let unnoted = |error| format!("the reload could not be noted: {error}");
        self.audit
            .act(ACT, by, &details, None)
            .await
            .map_err(|error| format!("the reload could not be recorded: {error}"))?;
        self.store.set_meta("profile", config.profile.as_str()).await.map_err(unnoted)?;
        self.store.set_meta(FACTS, &registry_facts(config)).await.map_err(unnoted)
    }

    /// Puts imported targets in force as they change, until `stop`. `known` is the generation in force.
    pub(super) async fn follow(&self, mut known: i64, stop: CancellationToken) {
        let mut tick = tokio::time::interval(POLL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            match self.store.target_generation().await {
                Ok(generation) if generation != known => {
                    if let Err(error) = self.take_over_targets().await {
                        tracing::error!(error, "imported targets were not taken over; those before stay");
                    }
                    known = generation;
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the table of targets cannot be read"),
            }
        }
    }

    async fn take_over_targets(&self) -> Result<(), String> {
        let config = self.config.lock().await;
        let stored = stored_targets(&self.store).await.map_err(|error| error.to_string())?;
        let count = stored.len();
        let fresh = rules_for_targets(&config, stored, self.clock.now()).map_err(|error| error.to_string())?;
        self.rules.replace(fresh);
        tracing::info!(count, "imported targets are in force");
        Ok(())
    }
}

/// Problems that were told together, each by itself.
pub fn each_line(problems: &impl std::fmt::Display) -> Vec<String> {
    problems.to_string().lines().map(str::to_owned).collect()
}

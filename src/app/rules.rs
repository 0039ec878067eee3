//! What calls are judged by, made from a configuration and the targets that were imported. Serves nothing.

use jiff::Timestamp;
use ring::digest;

use super::site::site_policy;
use crate::{
    config::{Config, RootFault, SiteFile},
    fleet::Registry,
    model::{Target, TargetId, hex},
    pipeline::Rules,
    policy::{Inventory, Policy, SitePolicy, SiteProblems},
};

/// Why a configuration makes no rules.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// A target stands in the configuration and was imported too.
    #[error(
        "target {0} is configured and was imported too: take it out of the configuration, or run `tailops target remove {0}`"
    )]
    Clash(TargetId),
    /// A registered target's roots lead where they must not.
    #[error(transparent)]
    Roots(#[from] RootFault),
    /// The site's policies cannot be used.
    #[error("the site's policies are not valid\n{0}")]
    Policy(#[from] SiteProblems),
}

/// What calls are judged by under `config` with the targets that were imported, from `now` on. Reads the site's files
/// where `config` does not bring them; errors with every problem in them.
pub fn rules(config: &Config, stored: Vec<Target>, now: Timestamp) -> Result<Rules, RulesError> {
    let targets = all_targets(config, stored)?;
    let engagements = config.engagement_ids();
    let inventory = Inventory { targets: &targets, engagements: &engagements };
    let (site, config_sha256) = site(config, Some(inventory), now)?;
    Ok(assembled(config, targets, site, config_sha256))
}

/// The same for targets that changed under a configuration that stays: a policy may name one that is gone, and nothing
/// keeps a target that was removed.
pub(super) fn rules_for_targets(config: &Config, stored: Vec<Target>, now: Timestamp) -> Result<Rules, RulesError> {
    let targets = all_targets(config, stored)?;
    let engagements = config.engagement_ids();
    let inventory = Inventory { targets: &targets, engagements: &engagements };
    let (site, config_sha256) = site(config, Some(inventory), now).or_else(|problems| {
        tracing::warn!(%problems, "policies name what is no longer there; a start or a reload would be refused");
        site(config, None, now)
    })?;
    Ok(assembled(config, targets, site, config_sha256))
}

fn all_targets(config: &Config, stored: Vec<Target>) -> Result<Vec<Target>, RulesError> {
    let mut targets: Vec<Target> = config.targets.iter().chain(&config.registered).cloned().collect();
    if let Some(twice) = stored.iter().find(|target| targets.iter().any(|known| known.id == target.id)) {
        return Err(RulesError::Clash(twice.id.clone()));
    }
    targets.extend(stored);
    let places = config.places();
    // Those of the file itself were checked with it.
    for target in targets.iter_mut().filter(|target| target.registered.is_some()) {
        places.adopt(target)?;
    }
    Ok(targets)
}

/// The site's policy, and the digest that names it together with the configuration.
fn site(
    config: &Config,
    inventory: Option<Inventory<'_>>,
    now: Timestamp,
) -> Result<(SitePolicy, String), SiteProblems> {
    let (site, files) = site_policy(config, inventory, now)?;
    for warning in site.warnings() {
        tracing::warn!("{warning}");
    }
    Ok((site, digest_of(config, &files)))
}

fn assembled(config: &Config, targets: Vec<Target>, site: SitePolicy, config_sha256: String) -> Rules {
    let tools = config.engagements.iter().map(|engagement| (engagement.id.clone(), engagement.tools.clone()));
    Rules {
        policy: Policy::new(tools, site),
        registry: Registry::new(targets),
        probe: config.probe.clone(),
        files: config.files.clone(),
        approvals: config.approvals.clone(),
        credentials: config.credentials,
        profile: config.profile.as_str(),
        config_sha256,
    }
}

/// Names a configuration and the policies with it, without showing them.
fn digest_of(config: &Config, files: &[SiteFile]) -> String {
    let digest = digest::digest(&digest::SHA256, format!("{config:?}{files:?}").as_bytes());
    hex(digest.as_ref())
}

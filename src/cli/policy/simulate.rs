//! Calls that nobody makes: planned by the real tools and judged by the real policy, and never run. What stands for the
//! caller is no [`crate::auth::Caller`], so nothing here could be let in.

use std::collections::BTreeSet;

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use crate::{
    app::site_policy,
    auth::{Binding, Claims},
    config::{Config, Files},
    fleet::Registry,
    model::{EngagementId, Operation, ProbeRules, ScopeSet, Subtree, Target, TargetId},
    pipeline::{explanation, unplanned},
    policy::{Inventory, Judgement, Policy, SiteProblems},
    tailnet::{Grants, Peer},
    tools::{self, PlanContext, ToolError},
};

/// Who would call.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller {
    pub(super) subject: String,
    pub(super) owner: String,
    pub(super) scopes: ScopeSet,
    pub(super) engagement: String,
    pub(super) targets: Option<BTreeSet<TargetId>>,
    pub(super) tools: Option<BTreeSet<String>>,
    pub(super) paths: Option<BTreeSet<Subtree>>,
    pub(super) user: Option<String>,
    pub(super) node: String,
    pub(super) tags: Vec<String>,
    pub(super) grants: Grants,
}

/// A site to try calls on.
pub(super) struct Simulation {
    pub(super) policy: Policy,
    registry: Registry,
    probe: ProbeRules,
    files: Files,
    /// Whether it is known which targets and engagements there are.
    pub(super) complete: bool,
}

impl Simulation {
    /// The site that `config` describes.
    pub(super) fn of(config: &Config, complete: bool, now: Timestamp) -> Result<Self, SiteProblems> {
        let targets: Vec<Target> = config.targets.iter().chain(&config.registered).cloned().collect();
        let engagements: Vec<EngagementId> =
            config.engagements.iter().map(|engagement| engagement.id.clone()).collect();
        let inventory = Inventory { targets: &targets, engagements: &engagements };
        let (site, _) = site_policy(config, complete.then_some(inventory), now)?;
        let engagements = config.engagements.iter().map(|engagement| (engagement.id.clone(), engagement.tools.clone()));
        let registry = Registry::new(targets);
        Ok(Self {
            policy: Policy::new(engagements, site),
            registry,
            probe: config.probe.clone(),
            files: config.files.clone(),
            complete,
        })
    }

    /// Plans and judges. The inner error is the tool's: such a call comes to no judgement.
    pub(super) fn judge(
        &self,
        caller: &Caller,
        tool: &str,
        arguments: &Map<String, Value>,
        now: Timestamp,
    ) -> anyhow::Result<Result<(Operation, Judgement), ToolError>> {
        let found = tools::find(tool).with_context(|| format!("there is no tool {tool:?}"))?;
        let engagement = EngagementId::from(caller.engagement.as_str());
        let (peer, token) = caller.facts(now);
        let context = PlanContext {
            token: &token.jti,
            engagement: &engagement,
            registry: &self.registry,
            probe: &self.probe,
            paths: caller.paths.as_ref(),
            files: &self.files,
            now,
        };
        let operation = match found.plan(arguments, &context) {
            Ok(operation) => operation,
            Err(error) => return Ok(Err(error)),
        };
        let judgement = self.policy.judge(&peer, &token, &operation, now);
        Ok(Ok((operation, judgement)))
    }

    /// What the tool `policy_explain` would answer to this caller.
    pub(super) fn explain(
        &self,
        caller: &Caller,
        tool: &str,
        arguments: &Map<String, Value>,
        now: Timestamp,
    ) -> anyhow::Result<Value> {
        Ok(match self.judge(caller, tool, arguments, now)? {
            Ok((operation, judgement)) => explanation(tool, &operation, &judgement),
            Err(error) => unplanned(tool, error.code, &error.message),
        })
    }
}

impl Caller {
    fn facts(&self, now: Timestamp) -> (Peer, Claims) {
        let peer = Peer {
            id: "simulated".to_owned(),
            node: self.node.clone(),
            user: self.user.clone(),
            tags: self.tags.clone(),
            tailnet: None,
            address: ([127, 0, 0, 1], 0).into(),
            uid: None,
            grants: self.grants.clone(),
        };
        let token = Claims {
            jti: "simulated".into(),
            subject: self.subject.clone(),
            owner: self.owner.clone(),
            scopes: self.scopes,
            engagement: self.engagement.as_str().into(),
            targets: self.targets.clone(),
            tools: self.tools.clone(),
            paths: self.paths.clone(),
            issued: now,
            expires: now.checked_add(SignedDuration::from_hours(1)).unwrap_or(Timestamp::MAX),
            binding: Binding::LocalUser(0),
        };
        (peer, token)
    }
}

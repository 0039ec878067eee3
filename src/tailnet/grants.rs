//! What the tailnet policy file hands a peer for this gateway: rules that narrow, read from the values of one
//! application capability. A rule that is not understood in full is an error, never a smaller or a wider right.

use std::collections::BTreeSet;

use super::NotAdmitted;
use crate::{
    config::{GrantsMode, Tailnet},
    model::{EngagementId, Risk, Scope, ScopeSet, TargetId},
};

/// The rules in the values of the capability. Those that this version cannot read are refused.
pub(super) fn read(values: Option<&[serde_json::Value]>, settings: &Tailnet) -> Result<Grants, NotAdmitted> {
    match (values, settings.grants) {
        (Some(values), _) => Err(NotAdmitted::BadGrant(format!("{} rules of {}", values.len(), settings.capability))),
        (None, GrantsMode::Required) => Err(NotAdmitted::NoGrant),
        (None, GrantsMode::Optional) => Ok(Grants::Unrestricted),
    }
}

/// All rules that one peer has.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Grants {
    /// Nothing narrows: there is no tailnet, or the configuration lets peers without rules in.
    #[default]
    Unrestricted,
    /// What at least one of these rules allows.
    Rules(Vec<Grant>),
}

/// One rule: what it names, in the engagements and on the targets it names.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// The scopes.
    pub scopes: ScopeSet,
    /// The targets; none means every target.
    pub targets: Option<BTreeSet<TargetId>>,
    /// The engagements; none means every engagement.
    pub engagements: Option<BTreeSet<EngagementId>>,
    /// What its holder may say yes to; none means nothing.
    pub approve: Option<Approves>,
}

/// What a person may say yes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Approves {
    /// Operations of these risks; none means every risk.
    pub risks: Option<BTreeSet<Risk>>,
    /// Operations on targets of these segments; none means every segment.
    pub segments: Option<BTreeSet<String>>,
    /// Operations of these tools; none means every tool.
    pub tools: Option<BTreeSet<String>>,
}

impl Grants {
    /// Whether some rule allows `scope` in `engagement`, on `target` where there is one.
    pub fn allow(&self, scope: Scope, engagement: &EngagementId, target: Option<&TargetId>) -> bool {
        let Self::Rules(rules) = self else { return true };
        rules.iter().any(|rule| {
            rule.scopes.allows(scope)
                && rule.engagements.as_ref().is_none_or(|engagements| engagements.contains(engagement))
                && target.is_none_or(|target| rule.targets.as_ref().is_none_or(|targets| targets.contains(target)))
        })
    }
}

//! What the tailnet policy file hands a peer for this gateway: rules that narrow, read from the values of one
//! application capability. A rule that is not understood in full is an error, never a smaller or a wider right.

mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::{Serialize, Serializer};

use crate::model::{EngagementId, Risk, Scope, ScopeSet, TargetId};

pub use rules::{read, read_text};

/// All rules that one peer has.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Grants {
    /// Nothing narrows: there is no tailnet, or the configuration lets peers without rules in.
    #[default]
    Unrestricted,
    /// What at least one of these rules allows; nothing where there is none.
    Rules(Vec<Grant>),
}

/// One rule: what it names, in the engagements and on the targets it names.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Approves {
    /// Operations of these risks; none means every risk.
    pub risks: Option<BTreeSet<Risk>>,
    /// Operations on targets of these segments; none means every segment.
    pub segments: Option<BTreeSet<String>>,
    /// Operations of these tools; none means every tool.
    pub tools: Option<BTreeSet<String>>,
}

impl Grants {
    /// Whether some rule allows `scope` in `engagement`, on `target` where there is one. What has no target concerns
    /// the gateway itself; there a rule counts whichever targets it names.
    pub fn allow(&self, scope: Scope, engagement: &EngagementId, target: Option<&TargetId>) -> bool {
        let Self::Rules(rules) = self else { return true };
        rules.iter().any(|rule| rule.scopes.allows(scope) && rule.holds(engagement, target))
    }

    /// Whether there is a rule for `engagement` at all.
    pub fn reach(&self, engagement: &EngagementId) -> bool {
        let Self::Rules(rules) = self else { return true };
        rules.iter().any(|rule| rule.holds(engagement, None))
    }

    /// The scopes that rules give in `engagement`, on `target` where there is one; none where nothing narrows.
    pub fn scopes(&self, engagement: &EngagementId, target: Option<&TargetId>) -> Option<ScopeSet> {
        let Self::Rules(rules) = self else { return None };
        let holding = rules.iter().filter(|rule| rule.holds(engagement, target));
        Some(ScopeSet::new(holding.flat_map(|rule| rule.scopes.granted())))
    }

    /// The rules that hold in `engagement`; none where nothing narrows.
    pub fn rules(&self, engagement: &EngagementId) -> Option<Vec<&Grant>> {
        let Self::Rules(rules) = self else { return None };
        Some(rules.iter().filter(|rule| rule.holds(engagement, None)).collect())
    }
}

/// The list of rules, or null where nothing narrows.
impl Serialize for Grants {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unrestricted => serializer.serialize_none(),
            Self::Rules(rules) => rules.serialize(serializer),
        }
    }
}

impl Approves {
    /// Whether this covers an operation of `tool` with `risk`, on a target in `segment` where it has one. What names
    /// segments does not cover a target without one.
    pub fn covers(&self, risk: Risk, segment: Option<&str>, tool: &str) -> bool {
        self.risks.as_ref().is_none_or(|risks| risks.contains(&risk))
            && self.segments.as_ref().is_none_or(|segments| segment.is_some_and(|segment| segments.contains(segment)))
            && self.tools.as_ref().is_none_or(|tools| tools.contains(tool))
    }
}

impl Grant {
    /// Whether the rule is for `engagement`, and for `target` where there is one.
    pub fn holds(&self, engagement: &EngagementId, target: Option<&TargetId>) -> bool {
        self.engagements.as_ref().is_none_or(|engagements| engagements.contains(engagement))
            && target.is_none_or(|target| self.targets.as_ref().is_none_or(|targets| targets.contains(target)))
    }
}

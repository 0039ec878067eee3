//! May they? One pure function from caller and operation to a decision, and the only mint of [`Permit`].
//!
//! Every check runs and leaves its line in the trace, so that `policy_explain` can show all of them; the first that
//! failed names the refusal. Deny beats ask, ask beats allow. Never does I/O.

mod decision;
mod permit;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

pub use decision::{Check, Decision, Denial, Pending, Verdict};
use jiff::Timestamp;
pub use permit::{Permit, PermitExpired};

use crate::{
    auth::Caller,
    model::{EngagementId, Operation, Risk, Scope, Subtree, Target},
};

/// The rules in force.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    engagements: BTreeMap<EngagementId, Option<BTreeSet<String>>>,
}

impl Policy {
    /// The policy for these engagements: each with the only tools it may call, or none for every tool.
    pub fn new(engagements: impl IntoIterator<Item = (EngagementId, Option<BTreeSet<String>>)>) -> Self {
        Self { engagements: engagements.into_iter().collect() }
    }

    /// Whether a call of this tool by `caller` could be allowed at all, whatever its arguments: what a tool list
    /// shows.
    pub fn could_allow(&self, caller: &Caller, tool: &str, scopes: &[Scope]) -> bool {
        self.about_tool(caller, tool, scopes).iter().all(|check| check.verdict == Verdict::Pass)
    }

    /// Whether `target` offers all of `scopes` to anyone.
    pub fn offers(&self, target: &Target, scopes: &[Scope]) -> bool {
        capabilities_needed(scopes).all(|scope| target.capabilities.allows(scope))
    }

    /// Judges `operation` for `caller`. Pure: the same two and the same rules give the same verdict. The permit in an
    /// allow expires shortly after `now`.
    pub fn decide(&self, caller: &Caller, operation: Operation, now: Timestamp) -> Decision {
        let mut trace = self.about_tool(caller, operation.tool, operation.scopes);
        about_target(caller, &operation, &mut trace);
        trace.push(about_risk(&operation));
        let worst = trace.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Deny);
        match worst {
            Verdict::Pass => Decision::Allow(Permit::mint(operation, "scopes and capabilities", now), trace),
            Verdict::Ask => Decision::Ask(Pending::new(operation, trace)),
            Verdict::Deny => Decision::Deny(Denial::new(operation, trace)),
        }
    }

    /// The checks that need no arguments, in order.
    fn about_tool(&self, caller: &Caller, tool: &str, scopes: &[Scope]) -> Vec<Check> {
        let token = caller.token();
        let mut trace = Vec::with_capacity(8);
        let allowlist = self.engagements.get(&token.engagement);
        trace.push(Check::new("engagement", allowlist.is_some(), "unknown_engagement", || {
            format!("engagement {:?} is not configured", token.engagement.as_str())
        }));
        let listed = !matches!(allowlist, Some(Some(tools)) if !tools.contains(tool));
        trace.push(Check::new("engagement_tools", listed, "cross_tenant_denied", || {
            format!("{tool} is not on the tool list of engagement {:?}", token.engagement.as_str())
        }));
        let listed = token.tools.as_ref().is_none_or(|tools| tools.contains(tool));
        trace.push(Check::new("token_tools", listed, "token_tool_denied", || {
            format!("the token is limited to other tools than {tool}")
        }));
        for &scope in scopes {
            trace.push(Check::new("token_scope", token.scopes.allows(scope), "insufficient_scope", || {
                format!("Insufficient scope: {tool} needs {scope}, the token has {}", shown(&token.scopes))
            }));
        }
        trace
    }
}

/// The checks on the target, in order.
fn about_target(caller: &Caller, operation: &Operation, trace: &mut Vec<Check>) {
    let token = caller.token();
    trace.push(Check::new("tenant", operation.engagement == token.engagement, "cross_tenant_denied", || {
        "the operation belongs to another engagement".to_owned()
    }));
    let Some(target) = &operation.target else { return };
    trace.push(Check::new("target_tenant", target.engagement == token.engagement, "unknown_target", || {
        format!("there is no target {:?}", target.id.as_str())
    }));
    let listed = token.targets.as_ref().is_none_or(|targets| targets.contains(&target.id));
    trace.push(Check::new("token_targets", listed, "token_target_denied", || {
        format!("the token is limited to other targets than {}", target.id)
    }));
    if let Some(paths) = &token.paths
        && operation.scopes.iter().any(|scope| matches!(scope, Scope::FileRead | Scope::FileWrite))
    {
        trace.push(about_paths(paths, &operation.places));
    }
    for scope in capabilities_needed(operation.scopes) {
        trace.push(Check::new("target_capability", target.capabilities.allows(scope), "target_capability", || {
            format!("target {} does not offer {scope}; it offers {}", target.id, shown(&target.capabilities))
        }));
    }
}

/// Every place must be covered. An operation on files that does not say where it reaches is refused.
fn about_paths(paths: &BTreeSet<Subtree>, places: &[String]) -> Check {
    let outside = places.iter().find(|place| !paths.iter().any(|tree| tree.covers(place)));
    Check::new("token_paths", outside.is_none() && !places.is_empty(), "token_path_denied", || {
        let listed: Vec<&str> = paths.iter().map(Subtree::as_str).collect();
        let what = outside.map_or_else(|| "this".to_owned(), |place| format!("{place:?}"));
        format!("{what} is outside the paths that the token is limited to: {}", listed.join(", "))
    })
}

/// The capabilities a target must have for these scopes. `fleet:read` and `security:read` are rights over the gateway's
/// own view and need none of the target's.
fn capabilities_needed(scopes: &[Scope]) -> impl Iterator<Item = Scope> {
    scopes.iter().copied().filter(|scope| !matches!(scope, Scope::FleetRead | Scope::SecurityRead))
}

/// Critical operations need a person's yes, and so do those whose tool says so. No argument changes that.
fn about_risk(operation: &Operation) -> Check {
    let tool = operation.tool;
    let detail = if operation.risk >= Risk::Critical && operation.effect.changes() {
        match operation.raised {
            Some(why) => format!("{tool} is critical here ({why}) and needs a person's approval"),
            None => format!("{tool} is critical and needs a person's approval"),
        }
    } else if let Some(why) = operation.asks.filter(|_| !operation.dry_run) {
        format!("{tool} needs a person's approval: {why}")
    } else {
        return Check { name: "risk", verdict: Verdict::Pass, code: "", detail: Cow::Borrowed("") };
    };
    Check { name: "risk", verdict: Verdict::Ask, code: "approval_required", detail: Cow::Owned(detail) }
}

fn shown(scopes: &crate::model::ScopeSet) -> String {
    if scopes.is_empty() { "none".to_owned() } else { scopes.to_string() }
}

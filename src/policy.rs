//! May they? One pure function from caller and operation to a decision, and the only mint of [`Permit`].
//!
//! Every check runs and leaves its line in the trace, so that `policy_explain` can show all of them; the first that
//! failed names the refusal. Deny beats ask, ask beats allow. Site policy is asked where nothing denied, so that it can
//! only tighten. Never does I/O.

mod decision;
mod judgement;
mod permit;
mod site;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

pub use decision::{Check, Decision, Denial, Pending, Verdict};
use jiff::Timestamp;
pub use judgement::Judgement;
pub use permit::{Permit, PermitExpired};
pub use site::{Inventory, SitePolicy, SiteProblem, SiteProblems, SiteSource, ToolFacts};

use crate::{
    auth::{Caller, Claims},
    model::{EngagementId, Operation, Risk, Scope, Subtree, Target},
    tailnet::{Grants, Peer},
};

/// The rules in force.
#[derive(Clone, Debug)]
pub struct Policy {
    engagements: BTreeMap<EngagementId, Option<BTreeSet<String>>>,
    site: SitePolicy,
}

impl Policy {
    /// The policy for these engagements, each with the only tools it may call, or none for every tool; tightened by
    /// `site`.
    pub fn new(
        engagements: impl IntoIterator<Item = (EngagementId, Option<BTreeSet<String>>)>,
        site: SitePolicy,
    ) -> Self {
        Self { engagements: engagements.into_iter().collect(), site }
    }

    /// The site's own rules.
    pub fn site(&self) -> &SitePolicy {
        &self.site
    }

    /// Whether a call of this tool by `caller` could be allowed at all, whatever its arguments: what a tool list
    /// shows.
    pub fn could_allow(&self, caller: &Caller, tool: &str, scopes: &[Scope]) -> bool {
        self.about_tool(caller.peer(), caller.token(), tool, scopes).iter().all(|check| check.verdict == Verdict::Pass)
    }

    /// Whether `caller` could be allowed what needs `scopes` on `target`, one of its engagement.
    pub fn could_reach(&self, caller: &Caller, target: &Target, scopes: &[Scope]) -> bool {
        let (peer, token) = (caller.peer(), caller.token());
        token.targets.as_ref().is_none_or(|targets| targets.contains(&target.id))
            && capabilities_needed(scopes).all(|scope| target.capabilities.allows(scope))
            && not_granted(peer, token, scopes, Some(target)).is_none()
    }

    /// Decides on `operation` for `caller`. The permit in an allow expires shortly after `now`.
    pub fn decide(&self, caller: &Caller, operation: Operation, now: Timestamp) -> Decision {
        let judgement = self.judge(caller.peer(), caller.token(), &operation, now);
        match judgement.verdict() {
            Verdict::Pass => {
                let permit = Permit::mint(operation, judgement.rule(), now);
                Decision::Allow(permit, judgement.into_trace())
            }
            Verdict::Ask => Decision::Ask(Pending::new(operation, judgement)),
            Verdict::Deny => Decision::Deny(Denial::new(operation, judgement)),
        }
    }

    /// The permit for a preview that is shown to the people who are asked, and to nobody else: a dry run that nothing
    /// denies, also where policy would ask before a caller sees it.
    pub(crate) fn preview(&self, caller: &Caller, operation: Operation, now: Timestamp) -> Result<Permit, Box<Denial>> {
        let judgement = self.judge(caller.peer(), caller.token(), &operation, now);
        if judgement.verdict() < Verdict::Deny && operation.dry_run && !operation.effect.changes() {
            return Ok(Permit::mint(operation, "a preview for those who are asked".into(), now));
        }
        Err(Box::new(Denial::new(operation, judgement)))
    }

    /// Judges `operation` without making a permit. Pure: the same facts in the same minute, the same exceptions and
    /// the same rules give the same judgement.
    pub fn judge(&self, peer: &Peer, token: &Claims, operation: &Operation, now: Timestamp) -> Judgement {
        let mut trace = self.about_tool(peer, token, operation.tool, operation.scopes);
        about_target(peer, token, operation, &mut trace);
        trace.push(about_risk(operation));
        let denied = trace.iter().any(|check| check.verdict == Verdict::Deny);
        let site = (!denied).then(|| self.site.judge(peer, token, operation, now));
        if decides(operation.scopes) && site.as_ref().is_some_and(|answer| answer.verdict == Verdict::Ask) {
            trace.push(Check::new("decision", false, "site_policy_denied", || {
                "site policy asks for a person's approval of a decision, and no decision waits for another".to_owned()
            }));
        }
        Judgement::new(trace, site)
    }

    /// The checks that need no arguments, in order.
    fn about_tool(&self, peer: &Peer, token: &Claims, tool: &str, scopes: &[Scope]) -> Vec<Check> {
        let mut trace = Vec::with_capacity(12);
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
        if let Grants::Rules(_) = &peer.grants {
            trace.push(about_grants(peer, token, tool, scopes));
        }
        if decides(scopes) {
            let person = peer.tags.is_empty() && peer.user.as_ref().is_some_and(|login| !login.is_empty());
            trace.push(Check::new("person", person, "not_a_person", || {
                "only people decide, and this connection is a tagged node's or nobody's".to_owned()
            }));
        }
        trace
    }
}

/// What the tailnet policy hands the peer in the token's engagement. A tool that needs no scope needs a rule.
fn about_grants(peer: &Peer, token: &Claims, tool: &str, scopes: &[Scope]) -> Check {
    let reached = peer.grants.reach(&token.engagement);
    let missing = not_granted(peer, token, scopes, None);
    Check::new("grant", reached && missing.is_none(), "insufficient_grant", || {
        let engagement = token.engagement.as_str();
        let granted = peer.grants.scopes(&token.engagement, None).unwrap_or_default();
        match missing.filter(|_| reached) {
            Some(scope) => format!(
                "Insufficient grant: {tool} needs {scope}; in engagement {engagement:?} the tailnet policy grants {}",
                shown(&granted)
            ),
            None => format!("Insufficient grant: in engagement {engagement:?} the tailnet policy grants nothing"),
        }
    })
}

/// The first of `scopes` that no rule gives the peer, on `target` where there is one. Several rules add up: each scope
/// may come from another.
fn not_granted(peer: &Peer, token: &Claims, scopes: &[Scope], target: Option<&Target>) -> Option<Scope> {
    let id = target.map(|target| &target.id);
    scopes.iter().copied().find(|scope| !peer.grants.allow(*scope, &token.engagement, id))
}

/// The checks on the target, in order.
fn about_target(peer: &Peer, token: &Claims, operation: &Operation, trace: &mut Vec<Check>) {
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
    if let Grants::Rules(_) = &peer.grants {
        let missing = not_granted(peer, token, operation.scopes, Some(target));
        trace.push(Check::new("grant_target", missing.is_none(), "insufficient_grant", || {
            let granted = peer.grants.scopes(&token.engagement, Some(&target.id)).unwrap_or_default();
            let (tool, needed) = (operation.tool, missing.map_or("a rule", Scope::as_str));
            format!(
                "Insufficient grant: {tool} needs {needed} on {}; there the tailnet policy grants {}",
                target.id,
                shown(&granted)
            )
        }));
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

/// Whether this is a person's own decision.
fn decides(scopes: &[Scope]) -> bool {
    scopes.contains(&Scope::ApprovalDecide)
}

/// Critical operations need a person's yes, and so do those whose tool says so. No argument changes that. A decision is
/// such a yes itself.
fn about_risk(operation: &Operation) -> Check {
    let tool = operation.tool;
    let detail = if decides(operation.scopes) {
        return Check { name: "risk", verdict: Verdict::Pass, code: "", detail: Cow::Borrowed("") };
    } else if operation.risk >= Risk::Critical && operation.effect.changes() {
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

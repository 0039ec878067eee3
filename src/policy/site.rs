//! Site policy: rules in Cedar that can only tighten what the checks of [`super::Policy`] already grant. Answers for
//! loading them strictly and for judging one operation by them. Reads no file, knows no tool by name, and never makes
//! a permit.
//!
//! Deny beats ask beats allow; a rule that fails to evaluate denies.

mod exception;
mod load;
mod problem;
mod request;
mod schema;
mod vocabulary;

use std::{collections::BTreeMap, fmt, sync::Arc};

use cedar_policy::{AuthorizationError, Authorizer, Decision, Entities, PolicyId, PolicySet, Response, Schema};
use jiff::{Timestamp, tz::TimeZone};
use moka::sync::Cache;

use self::{
    exception::Exceptions,
    request::{Facts, Request},
};
use super::Verdict;
use crate::{
    auth::Claims,
    config::{PolicyException, SiteFile},
    model::{Effect, EngagementId, Operation, Risk, Scope, Strength, Target},
    tailnet::Peer,
};

pub use problem::{SiteProblem, SiteProblems};

/// The most answers remembered.
const REMEMBERED: u64 = 10_000;

/// What site policy knows of one tool.
#[derive(Clone, Debug)]
pub struct ToolFacts {
    /// Its name: the action.
    pub name: &'static str,
    /// What a real run does.
    pub effect: Effect,
    /// The risk of a real run.
    pub risk: Risk,
    /// Whether it acts on a target, and not on the gateway itself.
    pub on_target: bool,
    /// What it needs.
    pub scopes: &'static [Scope],
    /// The JSON schema of its arguments.
    pub input: serde_json::Value,
}

/// What a site's policies may name.
#[derive(Clone, Copy, Debug)]
pub struct Inventory<'a> {
    /// Every target there is.
    pub targets: &'a [Target],
    /// Every engagement there is.
    pub engagements: &'a [EngagementId],
}

/// What site policy is made of.
#[derive(Clone, Copy, Debug)]
pub struct SiteSource<'a> {
    /// The catalogue.
    pub tools: &'a [ToolFacts],
    /// The site's own files, in the order they are reported in.
    pub files: &'a [SiteFile],
    /// What there is to name; without it, names of targets and engagements are not checked.
    pub inventory: Option<Inventory<'a>>,
    /// The IANA name of the time zone that hours are in.
    pub time_zone: &'a str,
    /// The exceptions.
    pub exceptions: &'a [PolicyException],
    /// Tells which exceptions have expired.
    pub now: Timestamp,
}

/// The site's rules, checked. A clone shares its memory of answers; newly loaded rules begin with an empty one.
#[derive(Clone)]
pub struct SitePolicy(Arc<Loaded>);

/// One generation of rules.
struct Loaded {
    schema: Schema,
    /// The actions and their groups: without the schema they would have no groups, and `in` would never hold.
    actions: Entities,
    policies: PolicySet,
    rules: BTreeMap<String, Rule>,
    arguments: BTreeMap<&'static str, schema::Fields>,
    zone: TimeZone,
    exceptions: Exceptions,
    warnings: Vec<SiteProblem>,
    answers: Cache<[u8; 32], Arc<Answer>>,
}

/// What the annotations of one policy say.
#[derive(Clone, Debug, Default)]
struct Rule {
    forbids: bool,
    ask: Option<String>,
    quorum: u32,
    strength: Strength,
    description: Option<String>,
    own: bool,
}

/// What site policy says to one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) verdict: Verdict,
    pub(super) code: &'static str,
    /// The ids that decided, sorted.
    pub(super) policies: Vec<String>,
    /// For the trace.
    pub(super) detail: String,
    /// How many people must agree; 0 unless it asks.
    pub(super) quorum: u32,
    /// The least strength of each yes.
    pub(super) strength: Strength,
}

/// The evaluation itself failed, which denies.
#[derive(Debug)]
struct Failed {
    policies: Vec<String>,
    why: String,
}

impl SitePolicy {
    /// Checks everything in `source` and the default set. Errors with all problems.
    pub fn load(source: &SiteSource<'_>) -> Result<Self, SiteProblems> {
        load::load(source).map(|loaded| Self(Arc::new(loaded)))
    }

    /// The ids of the policies in force, sorted: the default set's, or the site's own.
    pub fn ids(&self, own: bool) -> impl Iterator<Item = &str> {
        self.0.rules.iter().filter(move |(_, rule)| rule.own == own).map(|(id, _)| id.as_str())
    }

    /// What is allowed and yet worth a look: expired exceptions, policies without effect.
    pub fn warnings(&self) -> &[SiteProblem] {
        &self.0.warnings
    }

    /// Judges, from memory where the same was judged in the same minute.
    pub(super) fn judge(&self, peer: &Peer, token: &Claims, operation: &Operation, now: Timestamp) -> Arc<Answer> {
        let facts = Facts { peer, token, operation, now };
        let excepted = self.0.exceptions.matching(&facts);
        let key = facts.digest(&excepted);
        if let Some(answer) = self.0.answers.get(&key) {
            return answer;
        }
        let answer = Arc::new(self.0.evaluate(&facts, &excepted));
        self.0.answers.insert(key, answer.clone());
        answer
    }

    /// Judges anew: what [`Self::judge`] must agree with.
    #[cfg(test)]
    fn judge_anew(&self, peer: &Peer, token: &Claims, operation: &Operation, now: Timestamp) -> Answer {
        let facts = Facts { peer, token, operation, now };
        self.0.evaluate(&facts, &self.0.exceptions.matching(&facts))
    }
}

impl fmt::Debug for SitePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SitePolicy").field("rules", &self.0.rules).finish_non_exhaustive()
    }
}

impl Loaded {
    fn evaluate(&self, facts: &Facts<'_>, excepted: &[usize]) -> Answer {
        self.asked(facts, excepted).unwrap_or_else(|Failed { policies, why }| {
            let named = if policies.is_empty() { String::new() } else { format!(" of {}", policies.join(", ")) };
            Answer {
                verdict: Verdict::Deny,
                code: "site_policy_error",
                detail: format!("the evaluation{named} failed, which denies: {why}"),
                policies,
                quorum: 0,
                strength: Strength::Identity,
            }
        })
    }

    /// Asks once as if nobody had approved; where that is denied only by policies that ask, once more as if somebody
    /// had. Only an allow there is an ask.
    fn asked(&self, facts: &Facts<'_>, excepted: &[usize]) -> Result<Answer, Failed> {
        let request = Request::of(self, facts)?;
        // All of them first: an exception does not hide that its policy fails.
        let mut response = self.respond(&request, false, &self.policies)?;
        let mut without = None;
        if !excepted.is_empty() {
            let policies = self.without(excepted)?;
            response = self.respond(&request, false, &policies)?;
            without = Some(policies);
        }
        let note = self.exceptions.note(excepted);
        let ids = ids_of(&response);
        if response.decision() == Decision::Allow {
            let detail = format!("permitted by {}{note}", ids.join(", "));
            return Ok(Answer {
                verdict: Verdict::Pass,
                code: "",
                policies: ids,
                detail,
                quorum: 0,
                strength: Strength::Identity,
            });
        }
        let (asks, denies): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| self.ask(id).is_some());
        if asks.is_empty() || !denies.is_empty() {
            return Ok(self.denial(denies, &note));
        }
        let approved = self.respond(&request, true, without.as_ref().unwrap_or(&self.policies))?;
        if approved.decision() != Decision::Allow {
            return Ok(self.denial(ids_of(&approved), &note));
        }
        let reasons: Vec<String> =
            asks.iter().map(|id| format!("{} ({id})", self.ask(id).unwrap_or_default())).collect();
        let rules = || asks.iter().filter_map(|id| self.rules.get(id));
        let quorum = rules().map(|rule| rule.quorum).max().unwrap_or(1).max(1);
        let strength = rules().map(|rule| rule.strength).max().unwrap_or_default();
        let people = if quorum > 1 { format!("; {quorum} people must agree") } else { String::new() };
        let signed = if strength == Strength::Signature { "; each yes must be signed" } else { "" };
        Ok(Answer {
            verdict: Verdict::Ask,
            code: "approval_required",
            detail: format!("{}{people}{signed}{note}", reasons.join("; ")),
            policies: asks,
            quorum,
            strength,
        })
    }

    fn respond(&self, request: &Request<'_>, approved: bool, policies: &PolicySet) -> Result<Response, Failed> {
        let response = Authorizer::new().is_authorized(&request.approved(approved)?, policies, &request.entities);
        let errors: Vec<_> = response.diagnostics().errors().collect();
        if errors.is_empty() {
            return Ok(response);
        }
        // Cedar leaves out a policy that fails and may allow for want of it.
        let mut policies: Vec<String> = errors.iter().map(|error| failing(error)).collect();
        policies.sort();
        let mut reasons: Vec<String> = errors.iter().map(ToString::to_string).collect();
        reasons.sort();
        Err(Failed { policies, why: reasons.join("; ") })
    }

    fn without(&self, excepted: &[usize]) -> Result<PolicySet, Failed> {
        let mut policies = self.policies.clone();
        let mut left_out: Vec<&str> = self.exceptions.policies(excepted).collect();
        left_out.sort_unstable();
        left_out.dedup();
        for id in left_out {
            let removed = policies.remove_static(PolicyId::new(id));
            removed.map_err(|error| Failed { policies: vec![id.to_owned()], why: error.to_string() })?;
        }
        Ok(policies)
    }

    fn denial(&self, policies: Vec<String>, note: &str) -> Answer {
        let reasons: Vec<String> = policies
            .iter()
            .map(|id| match self.rules.get(id).and_then(|rule| rule.description.as_ref().or(rule.ask.as_ref())) {
                Some(why) => format!("{why} ({id})"),
                None => format!("forbidden by {id}"),
            })
            .collect();
        let detail = if reasons.is_empty() { "no policy permits this".to_owned() } else { reasons.join("; ") };
        Answer {
            verdict: Verdict::Deny,
            code: "site_policy_denied",
            detail: format!("{detail}{note}"),
            policies,
            quorum: 0,
            strength: Strength::Identity,
        }
    }

    fn ask(&self, id: &str) -> Option<&str> {
        self.rules.get(id).and_then(|rule| rule.ask.as_deref())
    }
}

fn failing(error: &AuthorizationError) -> String {
    match error {
        AuthorizationError::PolicyEvaluationError(error) => error.policy_id().to_string(),
    }
}

/// The policies that decided, sorted.
fn ids_of(response: &Response) -> Vec<String> {
    let mut ids: Vec<String> = response.diagnostics().reason().map(PolicyId::to_string).collect();
    ids.sort();
    ids
}

#[cfg(test)]
mod tests;

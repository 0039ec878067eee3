//! Exceptions: one policy left out for some calls, until a fixed moment, by a named owner for a stated reason. An
//! exception never leaves out a policy of the default set, and never hides that a policy fails.

use jiff::{SignedDuration, Timestamp};

use super::{Rule, SiteProblem, request::Facts};
use crate::{
    config::{PolicyException, did_you_mean},
    model::Target,
};

/// The furthest an exception may reach.
const LONGEST: SignedDuration = SignedDuration::from_hours(366 * 24);

/// The exceptions in force.
#[derive(Clone, Debug, Default)]
pub(super) struct Exceptions(Vec<PolicyException>);

impl Exceptions {
    /// Checks `list` against the policies and, where they are known, the targets there are. Problems go to the first list, expired exceptions to the second.
    pub(super) fn check<'r>(
        list: &[PolicyException],
        rule: impl Fn(&str) -> Option<&'r Rule>,
        ids: &[&str],
        targets: Option<&[Target]>,
        now: Timestamp,
    ) -> (Self, Vec<SiteProblem>, Vec<SiteProblem>) {
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        for (index, exception) in list.iter().enumerate() {
            let about = |key: &str, message: String| SiteProblem {
                file: format!("policy.exceptions[{index}]{key}"),
                place: None,
                message,
            };
            let id = &exception.policy;
            match rule(id) {
                None => {
                    let hint = did_you_mean(id, ids.iter().copied()).unwrap_or_default();
                    problems.push(about(".policy", format!("there is no policy {id:?}{hint}")));
                }
                Some(rule) if !rule.own => {
                    problems.push(about(".policy", format!("{id:?} belongs to the default set and has no exceptions")));
                }
                Some(rule) if !rule.forbids => {
                    problems.push(about(".policy", format!("{id:?} forbids nothing that could be excepted")));
                }
                Some(_) => {}
            }
            for target in exception.targets.iter().flatten() {
                let known = targets.unwrap_or_default();
                if targets.is_some() && !known.iter().any(|known| known.id == *target) {
                    let hint = did_you_mean(target.as_str(), known.iter().map(|known| known.id.as_str()));
                    let message = format!("there is no target {:?}{}", target.as_str(), hint.unwrap_or_default());
                    problems.push(about(".targets", message));
                }
            }
            if exception.expires <= now {
                let message = format!(
                    "the exception to {id:?} by {} expired at {} and has no effect",
                    exception.owner, exception.expires
                );
                warnings.push(about("", message));
            } else if exception.expires.duration_since(now) > LONGEST {
                problems.push(about(".expires", format!("must be within a year, not {}", exception.expires)));
            }
        }
        (Self(list.to_vec()), problems, warnings)
    }

    /// The exceptions that apply to these facts, by their place in the list.
    pub(super) fn matching(&self, facts: &Facts<'_>) -> Vec<usize> {
        let applies = |exception: &PolicyException| {
            facts.now < exception.expires
                && exception.subject.as_ref().is_none_or(|subject| *subject == facts.token.subject)
                && exception.tools.as_ref().is_none_or(|tools| tools.contains(facts.operation.tool))
                && exception.targets.as_ref().is_none_or(|targets| {
                    facts.operation.target.as_ref().is_some_and(|target| targets.contains(&target.id))
                })
        };
        self.0.iter().enumerate().filter(|(_, exception)| applies(exception)).map(|(index, _)| index).collect()
    }

    /// The policies these leave out.
    pub(super) fn policies(&self, excepted: &[usize]) -> impl Iterator<Item = &str> {
        excepted.iter().filter_map(|index| self.0.get(*index)).map(|exception| exception.policy.as_str())
    }

    /// For the trace: who left out what, until when.
    pub(super) fn note(&self, excepted: &[usize]) -> String {
        let shown = excepted.iter().filter_map(|index| self.0.get(*index)).map(|exception| {
            let PolicyException { policy, owner, reason, expires, .. } = exception;
            format!("; exception to {policy} by {owner} until {expires}: {reason}")
        });
        shown.collect()
    }
}

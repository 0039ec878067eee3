//! What policy says to one operation, before anything follows from it: the trace, who decided, and what a yes would
//! take. Never a permit.

use std::{borrow::Cow, sync::Arc};

use super::{Check, Verdict, site::Answer};
use crate::model::Strength;

/// What was said, and by which checks and policies.
#[derive(Clone, Debug)]
pub struct Judgement {
    trace: Vec<Check>,
    site: Option<Arc<Answer>>,
}

impl Judgement {
    /// Of the built-in checks, and of site policy where it was asked.
    pub(super) fn new(mut trace: Vec<Check>, site: Option<Arc<Answer>>) -> Self {
        if let Some(answer) = &site {
            trace.push(Check {
                name: "site_policy",
                verdict: answer.verdict,
                code: answer.code,
                detail: Cow::Owned(answer.detail.clone()),
            });
        }
        Self { trace, site }
    }

    /// The weightiest verdict. A deny where nothing was checked.
    pub fn verdict(&self) -> Verdict {
        self.trace.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Deny)
    }

    /// Every check, in order.
    pub fn trace(&self) -> &[Check] {
        &self.trace
    }

    pub(super) fn into_trace(self) -> Vec<Check> {
        self.trace
    }

    /// The ids of the site policies that decided, sorted. Empty where the built-in checks alone did.
    pub fn policies(&self) -> &[String] {
        let verdict = self.verdict();
        self.site.as_ref().filter(|answer| answer.verdict == verdict).map_or(&[], |answer| &answer.policies)
    }

    /// How many people must agree; 0 unless this asks.
    pub fn quorum(&self) -> u32 {
        match self.verdict() {
            Verdict::Ask => self.site.as_ref().map_or(1, |answer| answer.quorum.max(1)),
            _ => 0,
        }
    }

    /// The least strength of each yes; the weakest unless site policy wants more.
    pub fn strength(&self) -> Strength {
        self.site.as_ref().map_or(Strength::Identity, |answer| answer.strength)
    }

    /// The code of a refusal or question; empty on a pass.
    pub fn code(&self) -> &'static str {
        self.deciding().next().map_or("denied", |check| check.code)
    }

    /// Why, for the caller: of a denial the first reason, of a question all of them.
    pub fn message(&self) -> Cow<'_, str> {
        let mut details = self.deciding().map(|check| check.detail.as_ref());
        match (self.verdict(), details.next()) {
            (_, None) => "not allowed".into(),
            (Verdict::Ask, Some(first)) => {
                details.fold(Cow::Borrowed(first), |all, more| format!("{all}; {more}").into())
            }
            (_, Some(first)) => first.into(),
        }
    }

    /// The checks and policies that decided: of a denial the first, of a question all that ask, of a pass the site
    /// policies that permit.
    pub fn decided_by(&self) -> Vec<&str> {
        let verdict = self.verdict();
        let most = if verdict == Verdict::Deny { 1 } else { usize::MAX };
        let checks = self.deciding().filter(|check| verdict != Verdict::Pass || check.name == "site_policy").take(most);
        checks
            .flat_map(|check| match check.name {
                "site_policy" => self.policies().iter().map(String::as_str).collect(),
                name => vec![name],
            })
            .collect()
    }

    /// The checks and policies that decided, for the record: `risk; site_policy: two-for-deletes`.
    pub fn rule(&self) -> Cow<'static, str> {
        let verdict = self.verdict();
        let mut rule = match verdict {
            Verdict::Pass => Cow::Borrowed("scopes and capabilities"),
            _ => Cow::Borrowed(""),
        };
        let checks =
            self.deciding().map(|check| check.name).filter(|name| verdict != Verdict::Pass || *name == "site_policy");
        for name in checks {
            let named = if name == "site_policy" {
                Cow::Owned(format!("site_policy: {}", self.policies().join(", ")))
            } else {
                Cow::Borrowed(name)
            };
            rule = if rule.is_empty() { named } else { Cow::Owned(format!("{rule}; {named}")) };
            if verdict == Verdict::Deny {
                break;
            }
        }
        rule
    }

    fn deciding(&self) -> impl Iterator<Item = &Check> {
        let verdict = self.verdict();
        self.trace.iter().filter(move |check| check.verdict == verdict)
    }
}

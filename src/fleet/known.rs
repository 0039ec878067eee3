//! What is known of a target: its newest facts and how the last attempt to read it ended, kept from one reading to the
//! next. A failed attempt does not make older facts go away; it makes the target unreachable.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Facts, Finding, Problem,
    health::{OLD, findings, health},
};
use crate::{
    model::{EngagementId, Health, TargetId},
    store::{FactRow, Store, StoreError},
};

/// How an attempt to read a target ended: with facts, or with the word for why not, e.g. `host_key_mismatch`.
pub type Attempt = Result<Facts, String>;

/// What is known of one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// When it was last tried.
    pub tried_at: Timestamp,
    /// Why that attempt gave nothing, and since when attempts have not.
    pub failure: Option<Failed>,
    /// The newest facts and when they were taken.
    pub facts: Option<(Timestamp, Facts)>,
    /// What is wrong by these facts, worst first.
    pub findings: Vec<Finding>,
}

/// A target that gives nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Of the last attempt.
    pub code: String,
    /// Of the first attempt in a row.
    pub since: Timestamp,
}

impl Known {
    /// What is known after `attempt`, which ended at `now`, of what was known `before`.
    pub fn after(attempt: Attempt, now: Timestamp, before: Option<&Self>) -> Self {
        match attempt {
            Ok(facts) => {
                let before = before.map_or(&[][..], |before| &before.findings);
                let findings = findings(&facts, now, before);
                Self { tried_at: now, failure: None, facts: Some((now, facts)), findings }
            }
            Err(code) => {
                let since = before.and_then(|before| Some(before.failure.as_ref()?.since)).unwrap_or(now);
                let failure = Some(Failed { code, since });
                let (facts, findings) =
                    before.map(|before| (before.facts.clone(), before.findings.clone())).unwrap_or_default();
                Self { tried_at: now, failure, facts, findings }
            }
        }
    }

    /// The newest facts, whenever they were taken.
    pub fn newest(&self) -> Option<&Facts> {
        self.facts.as_ref().map(|(_, facts)| facts)
    }

    /// Everything that is wrong at `now`, worst first: by the facts, by the last attempt and by age.
    pub fn wrong(&self, now: Timestamp) -> Vec<Finding> {
        let mut wrong = self.findings.clone();
        if let Some(Failed { code, since }) = &self.failure {
            let (problem, health, what) = (Problem::Unreachable, Health::Critical, vec![code.clone()]);
            wrong.push(Finding { problem, health, what, number: 1, since: *since });
        }
        let age = self.facts.as_ref().map(|(taken_at, _)| now.duration_since(*taken_at));
        match (age, &self.facts) {
            (Some(age), Some((taken_at, _))) if age > OLD => {
                let (problem, health) = (Problem::Stale, Health::Unknown);
                let number = u64::try_from(age.as_secs()).unwrap_or_default();
                wrong.push(Finding { problem, health, what: Vec::new(), number, since: *taken_at });
            }
            _ => {}
        }
        wrong.sort_by_key(|finding| finding.problem);
        wrong
    }

    /// The word for how it does at `now`.
    pub fn health(&self, now: Timestamp) -> Health {
        health(&self.wrong(now))
    }

    /// As it is kept.
    pub fn row(&self, engagement: &EngagementId, target: &TargetId) -> Result<FactRow, serde_json::Error> {
        Ok(FactRow {
            engagement: engagement.to_string(),
            target: target.to_string(),
            tried_at: stamp(self.tried_at),
            failure: self.failure.as_ref().map(serde_json::to_string).transpose()?,
            taken_at: self.facts.as_ref().map(|(taken_at, _)| stamp(*taken_at)),
            facts: self.facts.as_ref().map(|(_, facts)| serde_json::to_string(facts)).transpose()?,
            findings: serde_json::to_string(&self.findings)?,
        })
    }

    /// From a row; none where it does not hold what was written.
    fn read(row: &FactRow) -> Option<Self> {
        let facts = match (&row.taken_at, &row.facts) {
            (Some(taken_at), Some(facts)) => Some((taken_at.parse().ok()?, serde_json::from_str(facts).ok()?)),
            _ => None,
        };
        Some(Self {
            tried_at: row.tried_at.parse().ok()?,
            failure: row.failure.as_deref().map(serde_json::from_str).transpose().ok()?,
            facts,
            findings: serde_json::from_str(&row.findings).ok()?,
        })
    }
}

/// How a target does at one moment, by what is known of it.
#[derive(Debug)]
pub struct Condition<'a> {
    /// None where it was never tried.
    pub known: Option<&'a Known>,
    /// Everything that is wrong, worst first.
    pub wrong: Vec<Finding>,
    /// The word for it: a target of which nothing is known is `unknown`, not `ok`.
    pub health: Health,
}

impl<'a> Condition<'a> {
    /// At `now`.
    pub fn of(known: Option<&'a Known>, now: Timestamp) -> Self {
        let wrong = known.map(|known| known.wrong(now)).unwrap_or_default();
        let health = if known.is_some() { health(&wrong) } else { Health::Unknown };
        Self { known, wrong, health }
    }

    fn facts(&self) -> Option<&'a (Timestamp, Facts)> {
        self.known?.facts.as_ref()
    }

    /// How old the newest facts are at `now`, in seconds; none where there are none.
    pub fn age_s(&self, now: Timestamp) -> Option<i64> {
        self.facts().map(|(taken_at, _)| now.as_second().saturating_sub(taken_at.as_second()).max(0))
    }

    /// As replies show it.
    pub fn shown(&self, now: Timestamp) -> Map<String, Value> {
        let facts = self.facts().map(|(_, facts)| facts);
        let finding = |finding: &Finding| {
            json!({
                "problem": finding.problem.as_str(),
                "health": finding.health.as_str(),
                "what": finding.what,
                "number": finding.number,
                "since": finding.since,
            })
        };
        let missing = |facts: &Facts| facts.missing.iter().map(|missing| missing.section.clone()).collect::<Vec<_>>();
        Map::from_iter([
            ("health".to_owned(), json!(self.health)),
            ("platform".to_owned(), json!(facts.and_then(|facts| facts.platform.as_ref()))),
            ("facts_at".to_owned(), json!(self.facts().map(|(taken_at, _)| taken_at))),
            ("facts_age_s".to_owned(), json!(self.age_s(now))),
            ("findings".to_owned(), self.wrong.iter().map(finding).collect()),
            ("unknown".to_owned(), json!(facts.map(missing))),
        ])
    }
}

/// In a form whose order as text is that of time.
fn stamp(at: Timestamp) -> String {
    format!("{at:.9}")
}

/// What is known of the targets of `engagement`; nothing of those that were never tried.
pub async fn known_of(store: &Store, engagement: &EngagementId) -> Result<BTreeMap<TargetId, Known>, StoreError> {
    let damaged = StoreError::Damaged { table: "fact", column: "facts" };
    let rows = store.facts_of(engagement.as_str()).await?;
    let read = rows.iter().map(|row| Some((TargetId::from(row.target.as_str()), Known::read(row)?)));
    read.collect::<Option<_>>().ok_or(damaged)
}

/// What is known of one target of `engagement`; none where it was never tried.
pub async fn known_target(
    store: &Store,
    engagement: &EngagementId,
    target: &TargetId,
) -> Result<Option<Known>, StoreError> {
    let damaged = StoreError::Damaged { table: "fact", column: "facts" };
    let row = store.fact(engagement.as_str(), target.as_str()).await?;
    row.map(|row| Known::read(&row).ok_or(damaged)).transpose()
}

//! What is known of a target: its newest facts and how the last attempt to read it ended, kept from one reading to the
//! next. A failed attempt does not make older facts go away; it makes the target unreachable.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Facts, Finding, Health, Problem,
    health::{OLD, findings, health},
};
use crate::{
    model::{EngagementId, TargetId},
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

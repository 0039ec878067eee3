//! Who used what, counted from the log itself: nothing is written for it, so it cannot disagree with the records. One
//! call is one record, as in an export.

use std::{collections::BTreeMap, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    config::did_you_mean,
    store::{LeafReader, StoreError},
};

/// Leaves read at a time.
const BATCH: u32 = 2000;

/// The keys of a record that are counted by.
#[derive(Clone, Debug, Default, Deserialize)]
struct Facts {
    kind: String,
    timestamp: Option<Timestamp>,
    tool: Option<String>,
    target: Option<String>,
    subject: Option<String>,
    engagement: Option<String>,
    jti: Option<String>,
    status: String,
    risk_level: Option<String>,
    #[serde(default)]
    tailscale: Peer,
    folded: Option<Fold>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Peer {
    tailscale_node: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Fold {
    count: u64,
}

/// Hands every record to `each`, oldest first.
async fn walk(reader: &LeafReader, mut each: impl FnMut(Facts)) -> Result<(), StoreError> {
    let mut after = 0;
    loop {
        let leaves = reader.after(after, BATCH).await?;
        let Some(last) = leaves.last() else { return Ok(()) };
        after = last.seq;
        for leaf in leaves.iter().filter(|leaf| leaf.open || !leaf.opens) {
            let damaged = |_| StoreError::Damaged { table: "audit_leaf", column: "leaf" };
            each(serde_json::from_str(&leaf.leaf).map_err(damaged)?);
        }
    }
}

/// What calls are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is its word")]
pub enum Dimension {
    Capability,
    Target,
    Tool,
    Subject,
    Engagement,
    Token,
    Node,
    Risk,
    Status,
}

impl Dimension {
    /// Every dimension.
    pub const ALL: [Self; 9] = [
        Self::Capability,
        Self::Target,
        Self::Tool,
        Self::Subject,
        Self::Engagement,
        Self::Token,
        Self::Node,
        Self::Risk,
        Self::Status,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Capability => "capability",
            Self::Target => "target",
            Self::Tool => "tool",
            Self::Subject => "subject",
            Self::Engagement => "engagement",
            Self::Token => "token",
            Self::Node => "node",
            Self::Risk => "risk",
            Self::Status => "status",
        }
    }
}

/// A word that names no dimension.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no {0:?}{hint}; count by capability, target, tool, subject, engagement, token, node, risk or status", hint = did_you_mean(.0, Dimension::ALL.map(Dimension::as_str)).unwrap_or_default())]
pub struct UnknownDimension(String);

impl FromStr for Dimension {
    type Err = UnknownDimension;

    fn from_str(text: &str) -> Result<Self, UnknownDimension> {
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or_else(|| UnknownDimension(text.to_owned()))
    }
}

/// How many calls, and how they ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All of them; the sum of the others.
    pub calls: u64,
    /// Done.
    pub ok: u64,
    /// Tried in vain, or of unknown end.
    pub failed: u64,
    /// Refused: denied, too many, or not understood.
    pub refused: u64,
    /// Begun, and not yet ended.
    pub running: u64,
    /// When the last one began.
    pub last: Option<Timestamp>,
}

impl Counts {
    fn add(&mut self, facts: &Facts) {
        self.calls += 1;
        let count = match facts.status.as_str() {
            "ok" => &mut self.ok,
            "denied" | "limited" | "invalid" => &mut self.refused,
            "pending" => &mut self.running,
            _ => &mut self.failed,
        };
        *count += 1;
        self.last = self.last.max(facts.timestamp);
    }
}

/// Calls, counted by some dimensions. Refusals before there was a call are not calls.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// By the value of each dimension; `-` where a call has none.
    pub rows: BTreeMap<Vec<String>, Counts>,
    /// All of them.
    pub total: Counts,
}

impl Usage {
    /// Counts the calls from `since` up to and without `until`. `capability` tells what a tool needs.
    pub async fn count(
        reader: &LeafReader,
        by: &[Dimension],
        (since, until): (Option<Timestamp>, Option<Timestamp>),
        capability: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, StoreError> {
        let mut usage = Self::default();
        walk(reader, |facts| {
            let at = facts.timestamp;
            let in_time = since.is_none_or(|since| at.is_some_and(|at| at >= since))
                && until.is_none_or(|until| at.is_some_and(|at| at < until));
            if !is_call(&facts) || !in_time {
                return;
            }
            let value = |dimension: &Dimension| {
                let value = match dimension {
                    Dimension::Capability => facts.tool.as_deref().and_then(&capability),
                    Dimension::Target => facts.target.clone(),
                    Dimension::Tool => facts.tool.clone(),
                    Dimension::Subject => facts.subject.clone(),
                    Dimension::Engagement => facts.engagement.clone(),
                    Dimension::Token => facts.jti.clone(),
                    Dimension::Node => facts.tailscale.tailscale_node.clone(),
                    Dimension::Risk => facts.risk_level.clone(),
                    Dimension::Status => Some(facts.status.clone()),
                };
                value.unwrap_or_else(|| "-".to_owned())
            };
            usage.rows.entry(by.iter().map(value).collect()).or_default().add(&facts);
            usage.total.add(&facts);
        })
        .await?;
        Ok(usage)
    }
}

fn is_call(facts: &Facts) -> bool {
    matches!(facts.kind.as_str(), "call" | "outcome" | "intent")
}

/// What one token was used for.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TokenUsage {
    /// The agent.
    pub subject: Option<String>,
    /// Its calls.
    #[serde(flatten)]
    pub counts: Counts,
    /// Requests that were refused before there was a call.
    pub refusals: u64,
    /// Its calls by tool.
    pub tools: BTreeMap<String, u64>,
    /// Its calls and refusals by the node they came from.
    pub nodes: BTreeMap<String, u64>,
}

/// What each token was used for, by its id. Tokens that were never used are not in it.
pub async fn token_usage(reader: &LeafReader) -> Result<BTreeMap<String, TokenUsage>, StoreError> {
    let mut tokens: BTreeMap<String, TokenUsage> = BTreeMap::new();
    walk(reader, |facts| {
        let Some(jti) = &facts.jti else { return };
        let times = facts.folded.as_ref().map_or(1, |fold| fold.count);
        let node = facts.tailscale.tailscale_node.clone().unwrap_or_else(|| "-".to_owned());
        if is_call(&facts) {
            let token = tokens.entry(jti.clone()).or_default();
            token.counts.add(&facts);
            *token.tools.entry(facts.tool.clone().unwrap_or_else(|| "-".to_owned())).or_default() += 1;
            *token.nodes.entry(node).or_default() += 1;
            token.subject.clone_from(&facts.subject);
        } else if facts.kind == "refusal" {
            let token = tokens.entry(jti.clone()).or_default();
            token.refusals += times;
            *token.nodes.entry(node).or_default() += times;
            token.subject.clone_from(&facts.subject);
        }
    })
    .await?;
    Ok(tokens)
}

impl TokenUsage {
    /// As an object with the token's id.
    pub fn described(&self, jti: &str) -> Value {
        let mut object = serde_json::to_value(self).unwrap_or_default();
        if let Some(object) = object.as_object_mut() {
            object.insert("jti".to_owned(), Value::from(jti));
        }
        object
    }
}

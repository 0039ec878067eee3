//! An operation: exactly what will run. Built by a tool's `plan`, judged by policy, executed and logged unchanged.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Effect, EngagementId, Risk, Scope, Step, Target};

/// What a tool planned. Nothing in it changes after it was judged.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The tool that planned it.
    pub tool: &'static str,
    /// What it acts on; none for the gateway itself.
    pub target: Option<Arc<Target>>,
    /// The tenant it happens in: the token's.
    pub engagement: EngagementId,
    /// All of these must be held by the token, and by the target's capabilities.
    pub scopes: &'static [Scope],
    /// What it does to the world: a dry run is a read.
    pub effect: Effect,
    /// How much harm a mistake does. Never lower than the tool's own risk for what it would do.
    pub risk: Risk,
    /// Why `risk` is above the tool's own, if it is.
    pub raised: Option<&'static str>,
    /// Why a real run needs a person's yes although its risk is not critical, if it does.
    pub asks: Option<&'static str>,
    /// Whether this only previews.
    pub dry_run: bool,
    /// Why the caller says it wants this.
    pub reason: Option<String>,
    /// The moment that arguments and steps count from, where the caller said how long ago: planned again at this moment,
    /// the same call is the same operation.
    pub moment: Option<Timestamp>,
    /// The arguments in canonical form: parsed once, defaults filled in.
    pub arguments: Map<String, Value>,
    /// Where it may reach, for tools on files: every path that it names and every directory that its steps are confined
    /// to. Absolute. A token that is limited to paths must cover all of them.
    pub places: Vec<String>,
    /// What runs, in order.
    pub steps: Vec<Step>,
}

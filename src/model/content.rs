//! What a tool made of its raw output, in the parts of the reply envelope. Not yet guarded: only `guard` lets it out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A tool's answer before the guard saw it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    /// The tool's own data: an object that matches its output schema.
    pub data: Value,
    /// For a tool that can change something: whether it did. None for reads.
    pub changed: Option<bool>,
    /// The state before a change.
    pub before: Option<Value>,
    /// The state after it.
    pub after: Option<Value>,
    /// Sections that could not be had, each with its reason. Never an empty success instead.
    pub partial: Vec<Missing>,
    /// What the caller should know besides.
    pub warnings: Vec<String>,
    /// Whether something was cut off to fit a limit.
    pub truncated: bool,
    /// Where the next page starts.
    pub next_cursor: Option<String>,
}

/// A part of an answer that could not be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Missing {
    /// Which part.
    pub section: String,
    /// Why, in one word such as `missing_tool`, `permission_denied`, `no_systemd`.
    pub reason: String,
}

impl Content {
    /// A page: `data` without its `next_cursor` and `partial`, which move into the envelope. None where `data` is no
    /// object, or its `partial` no list of what is missing.
    pub fn page(mut data: Value) -> Option<Self> {
        let parts = data.as_object_mut()?;
        let next = parts.remove("next_cursor");
        let partial = parts.remove("partial").map_or_else(|| Ok(Vec::new()), serde_json::from_value).ok()?;
        let next_cursor = next.and_then(|next| next.as_str().map(str::to_owned));
        Some(Self { next_cursor, partial, ..Self::new(data) })
    }

    /// A complete answer that changed nothing.
    pub fn new(data: Value) -> Self {
        Self { data, ..Self::default() }
    }
}

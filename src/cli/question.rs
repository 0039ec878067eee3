//! One question to people, on a terminal: everything somebody agrees to, in words that whoever asked cannot bend. Every
//! text of agents and targets is made visible, and each of its lines stands behind a mark, so that it passes for
//! nothing else. Decides nothing and sends nothing.

mod tree;

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::visible::{cut, visible};
use crate::{
    approval::{ApprovalView, State, hash_of},
    model::{Strength, Vote, canonical_json},
};

/// Longer parts are cut, and say so, in lines.
const MOST_LINES: usize = 200;
/// What stands for something that was taken out, as docs/guard.md says.
const MARKS: [&str; 3] = ["‹secret:", "‹pii:", "‹cut:"];

/// Whether the operation that is shown is the one that the hash names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// Its hash was made here, and is the same.
    Same,
    /// So many values are hidden, so its hash cannot be made here.
    Hidden(usize),
    /// It is not.
    Other,
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => f.write_str("made here from what is shown, and the same"),
            Self::Hidden(1) => f.write_str("the gateway's word: one value is hidden, so it cannot be made here"),
            Self::Hidden(count) => {
                write!(f, "the gateway's word: {count} values are hidden, so it cannot be made here")
            }
            Self::Other => f.write_str("NOT the hash of what is shown: do not agree to this"),
        }
    }
}

/// Makes the hash of the operation that `view` shows.
pub(super) fn checked(view: &ApprovalView) -> Checked {
    // The target stands in both places on the page.
    let (aimed, told) = (view.operation.pointer("/target/id"), view.target.as_deref());
    if aimed.and_then(Value::as_str) != told && (told.is_none() || aimed.is_none_or(|id| marks(id) == 0)) {
        return Checked::Other;
    }
    let mut operation = view.operation.clone();
    // What the page says beside the operation is what counts: with anything else there, the hash is another.
    let mut put = |path: &str, shown: Option<&str>| {
        if let Some(place) = operation.pointer_mut(path) {
            *place = shown.into();
        }
    };
    put("/tool", Some(&view.tool));
    put("/engagement", Some(&view.engagement));
    put("/target/id", view.target.as_deref());
    put("/caller/subject", Some(&view.subject));
    put("/caller/owner", Some(&view.owner));
    put("/caller/peer", Some(&view.peer));
    put("/caller/login", view.login.as_deref());
    let canonical = canonical_json(&operation);
    if canonical.is_ok_and(|canonical| hash_of(&canonical) == view.operation_hash) {
        return Checked::Same;
    }
    // These are shown whole.
    for part in ["tool", "engagement", "caller"] {
        if let Some(place) = operation.get_mut(part) {
            *place = Value::Null;
        }
    }
    match marks(&operation) {
        0 => Checked::Other,
        count => Checked::Hidden(count),
    }
}

/// How many marks stand in `value`, in names too.
fn marks(value: &Value) -> usize {
    let within = |text: &str| MARKS.iter().map(|mark| text.matches(mark).count()).sum::<usize>();
    match value {
        Value::String(text) => within(text),
        Value::Array(items) => items.iter().map(marks).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| within(name) + marks(value)).sum(),
        _ => 0,
    }
}

/// What it is about, in one line: `file_delete on local (critical)`.
pub(super) fn headline(view: &ApprovalView) -> String {
    let target = view.target.as_deref().map(|target| format!(" on {}", visible(target))).unwrap_or_default();
    format!("{}{target} ({})", visible(&view.tool), visible(&view.risk))
}

/// How it stands, in one word.
pub(super) fn state(view: &ApprovalView) -> &'static str {
    match view.state {
        State::Pending => "pending",
        State::Approved => "approved",
        State::Denied => "denied",
        State::Expired => "expired",
        State::Used => "used",
    }
}

/// Whether anybody can still decide on it.
pub(super) fn is_open(view: &ApprovalView) -> bool {
    matches!(view.state, State::Pending | State::Approved)
}

/// What `view` shows a person, in lines without control characters.
pub(super) fn page(view: &ApprovalView, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    let mut fact = |name: &str, text: &str| lines.push(format!("{name:12} {text}"));
    let state = state(view);
    let time = match view.ended_at {
        Some(at) => format!("since {at:.0}"),
        None => format!("ends {} ({:.0})", distance(view.expires_at, now), view.expires_at),
    };
    fact("approval", &format!("{}: {state}, {time}", visible(&view.id)));
    fact("operation", &headline(view));
    let segment = view.segment.as_deref().map(|name| format!(", segment {}", visible(name))).unwrap_or_default();
    fact("engagement", &format!("{}{segment}", visible(&view.engagement)));
    fact("asked by", &format!("{}, {}", asker(view), distance(view.created_at, now)));
    // The asker's own words: as a text, never as ours.
    if let Some(reason) = view.operation.get("reason").and_then(Value::as_str) {
        fact("they say", &format!("“{}”", visible(reason)));
    }
    fact("policy", &visible(&view.why));
    for check in asking(view) {
        fact("", &check);
    }
    let parts = view.operation.as_object().into_iter().flatten();
    for (name, part) in parts.filter(|(name, _)| !TOLD.contains(&name.as_str())) {
        let empty = part.is_null() || part.as_object().is_some_and(serde_json::Map::is_empty);
        if !empty {
            whole(&visible(name), part, &mut lines);
        }
    }
    match &view.preview {
        Some(preview) => whole("preview: what a dry run found when this was asked", preview, &mut lines),
        None => lines.push("preview: there is none for this".to_owned()),
    }
    let mut fact = |name: &str, text: &str| lines.push(format!("{name:12} {text}"));
    for vote in &view.votes {
        let said = match vote.vote {
            Vote::Approve => "yes",
            Vote::Deny => "no",
        };
        let key = vote.key_id.as_deref().map(|key| format!(", signed by {}", visible(key))).unwrap_or_default();
        let comment =
            if vote.comment.is_empty() { String::new() } else { format!(": “{}”", visible(&vote.comment)) };
        let who = visible(&vote.login);
        fact("said", &format!("{said} by {who} {}{key}{comment}", distance(vote.at, now)));
    }
    fact("needs", &needs(view));
    fact("gateway", &visible(&view.gateway));
    fact("hash", &format!("sha256:{}", visible(&view.operation_hash)));
    fact("", &checked(view).to_string());
    if is_open(view) && !view.may_decide {
        fact("note", "as far as your connection tells, this is not yours to agree to");
    }
    lines
}

/// Parts of an operation that have a line of their own.
const TOLD: [&str; 5] = ["v", "tool", "engagement", "caller", "reason"];

/// A part with its name, up to a number of lines.
fn whole(name: &str, part: &Value, lines: &mut Vec<String>) {
    lines.push(name.to_owned());
    let inner = tree::lines(part);
    let more = inner.len().saturating_sub(MOST_LINES);
    lines.extend(inner.into_iter().take(MOST_LINES).map(|line| format!("  {line}")));
    if more > 0 {
        lines.push(format!("  … and {more} more lines, which `tailops approvals --json` shows"));
    }
}

/// Who asks.
pub(super) fn asker(view: &ApprovalView) -> String {
    let login = view.login.as_deref().map(|login| format!(" as {}", visible(login))).unwrap_or_default();
    let token = if view.kind == "act" { String::new() } else { format!(" (token of {})", visible(&view.owner)) };
    format!("{}{token} from {}{login}", visible(&view.subject), visible(&view.peer))
}

/// The checks of policy that ask.
fn asking(view: &ApprovalView) -> Vec<String> {
    let text = |check: &Value, key: &str| check.get(key).and_then(Value::as_str).map(visible).unwrap_or_default();
    let asks = |check: &&Value| check.get("verdict").and_then(Value::as_str) == Some("ask");
    let checks = view.trace.as_array().into_iter().flatten().filter(asks);
    checks.map(|check| format!("asked by {}: {}", text(check, "name"), text(check, "detail"))).collect()
}

fn needs(view: &ApprovalView) -> String {
    let people = if view.quorum == 1 { "one person".to_owned() } else { format!("{} people", view.quorum) };
    match view.strength {
        Strength::Identity => format!("the yes of {people}"),
        Strength::Signature => format!("the signed yes of {people}"),
    }
}

/// One row of the table, for [`HEAD`].
pub(super) fn row(view: &ApprovalView, now: Timestamp) -> Vec<String> {
    /// The longest word of others in a table, in characters.
    const LONGEST: usize = 60;
    let ends = match view.ended_at {
        None if is_open(view) => distance(view.expires_at, now),
        _ => "-".to_owned(),
    };
    let reason = view.operation.get("reason").and_then(Value::as_str).unwrap_or_default();
    let login = view.login.as_deref().unwrap_or(&view.owner);
    vec![
        cut(&view.id, LONGEST),
        state(view).to_owned(),
        distance(view.created_at, now),
        ends,
        cut(&view.risk, LONGEST),
        cut(&view.tool, LONGEST),
        cut(view.target.as_deref().unwrap_or("-"), LONGEST),
        cut(&format!("{} ({login})", view.subject), LONGEST),
        cut(reason, LONGEST),
    ]
}

/// The heads of the columns of [`row`].
pub(super) const HEAD: [&str; 9] = ["ID", "STATE", "ASKED", "ENDS", "RISK", "TOOL", "TARGET", "BY", "THEY SAY"];

/// How far `at` is from now: `3 min ago`, `in 2 h`.
pub(super) fn distance(at: Timestamp, now: Timestamp) -> String {
    let span = at.duration_since(now);
    let size = span.abs().as_secs();
    let (count, unit) = match size {
        0..60 => (size, "s"),
        60..3600 => (size / 60, "min"),
        3600..86_400 => (size / 3600, "h"),
        _ => (size / 86_400, "d"),
    };
    if span > SignedDuration::ZERO { format!("in {count} {unit}") } else { format!("{count} {unit} ago") }
}

#[cfg(test)]
pub(super) mod tests;

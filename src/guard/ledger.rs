//! What was taken out of one reply: how often, and under which number. Answers for the same secret having the same
//! number within one reply; never outlives it.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use super::pii;

/// How often something of each kind was taken out.
pub type Redactions = BTreeMap<&'static str, u32>;

/// What opens a placeholder.
const OPEN: [&str; 2] = ["‹secret:", "‹pii:"];
/// Closes every mark.
const CLOSE: char = '›';
/// Longer than any placeholder.
const LONGEST: usize = 64;

/// The secrets of one reply.
#[derive(Default)]
pub(super) struct Ledger {
    /// Of secrets and of personal data, each counted from one.
    numbers: [HashMap<String, usize>; 2],
    redactions: Redactions,
}

impl Ledger {
    /// The placeholder that stands for `value`, counted.
    pub(super) fn placeholder(&mut self, kind: &'static str, value: &str) -> String {
        self.count(kind, 1);
        let personal = pii::KINDS.contains(&kind);
        let value = if personal { pii::canonical(value) } else { Cow::Borrowed(value) };
        let [secrets, people] = &mut self.numbers;
        let numbers = if personal { people } else { secrets };
        let next = numbers.len() + 1;
        let number = *numbers.entry(value.into_owned()).or_insert(next);
        let [secret, person] = OPEN;
        let open = if personal { person } else { secret };
        format!("{open}{kind}#{number}{CLOSE}")
    }

    /// Counts `count` more of this kind.
    pub(super) fn count(&mut self, kind: &'static str, count: u32) {
        if count > 0 {
            let total = self.redactions.entry(kind).or_default();
            *total = total.saturating_add(count);
        }
    }

    /// The counts.
    pub(super) fn finish(self) -> Redactions {
        self.redactions
    }
}

/// The length of the placeholder `text` begins with.
pub(super) fn placeholder_len(text: &str) -> Option<usize> {
    let open = OPEN.iter().find(|open| text.starts_with(**open))?;
    let rest = text.get(open.len()..)?;
    let rest = rest.get(..rest.floor_char_boundary(LONGEST))?;
    let (kind, rest) = rest.split_once('#')?;
    let (number, _) = rest.split_once(CLOSE)?;
    let named = kind.len() < LONGEST && kind.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'-'));
    let numbered = (1..=20).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    (named && numbered).then(|| open.len() + kind.len() + 1 + number.len() + CLOSE.len_utf8())
}

/// The mark in place of `dropped` that was cut off, e.g. `‹cut:12 bytes›`.
pub(super) fn cut_mark(dropped: impl std::fmt::Display) -> String {
    format!("‹cut:{dropped}{CLOSE}")
}

/// Whether `text` begins with a mark of the guard.
pub(super) fn is_mark(text: &str) -> bool {
    placeholder_len(text).is_some() || text.starts_with("‹cut:")
}

/// Where to cut `head` so that no placeholder is cut in half.
pub(super) fn before_open_placeholder(head: &str) -> &str {
    match head.rfind('‹') {
        Some(open) if head.len() - open <= LONGEST && !head.get(open..).is_some_and(|tail| tail.contains(CLOSE)) => {
            head.get(..open).unwrap_or(head)
        }
        _ => head,
    }
}

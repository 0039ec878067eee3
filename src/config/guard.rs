//! `[guard]`: which personal data is taken out, and which further names tell of secrets. Secrets of known forms and names
//! are always taken out; there is no key to change that.

use super::section::{Section, Value};
use super::settings::add_new;

/// What the guard takes out besides secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// E-mail addresses.
    pub email: PiiAction,
    /// Phone numbers.
    pub phone: PiiAction,
    /// International bank account numbers.
    pub iban: PiiAction,
    /// Payment card numbers.
    pub card: PiiAction,
    /// Further names of fields, variables and flags whose values are secrets. Case and signs do not matter.
    pub names: Vec<String>,
}

/// What becomes of personal data of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PiiAction {
    /// A placeholder stands in for it.
    Redact,
    /// It leaves as it is.
    Keep,
}

impl PiiAction {
    /// The word used in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redact => "redact",
            Self::Keep => "keep",
        }
    }
}

impl Default for Guard {
    fn default() -> Self {
        let redact = PiiAction::Redact;
        Self { email: redact, phone: redact, iban: redact, card: redact, names: Vec::new() }
    }
}

/// The most further names.
const MOST_NAMES: usize = 64;

/// `[guard]`.
pub(super) fn guard(root: &mut Section<'_>) -> Guard {
    let mut section = root.section("guard");
    let choices = [("redact", PiiAction::Redact), ("keep", PiiAction::Keep)];
    let mut action = |key| section.value(key).and_then(|value| value.choice(&choices)).unwrap_or(PiiAction::Redact);
    let (email, phone, iban, card) = (action("email"), action("phone"), action("iban"), action("card"));
    let names = section.value("names").map(|value| names(&value)).unwrap_or_default();
    section.finish();
    Guard { email, phone, iban, card, names }
}

fn names(value: &Value<'_>) -> Vec<String> {
    const WANTED: &str =
        "a name such as \"x-corp-pin\": 3 to 64 letters, digits, `.`, `_` and `-`, three letters or digits in a row";
    let items = value.items("names").unwrap_or_default();
    if items.len() > MOST_NAMES {
        value.refuse(format_args!("must have at most {MOST_NAMES} names, not {}", items.len()));
        return Vec::new();
    }
    let mut names = Vec::new();
    for item in items {
        match item.text(WANTED) {
            Some(text) if is_name(text) => add_new(&mut names, text.to_ascii_lowercase(), &item),
            Some(text) => item.refuse(format_args!("{text:?} must be {WANTED}")),
            None => {}
        }
    }
    names
}

/// A name that is long enough not to be part of every other word.
fn is_name(text: &str) -> bool {
    (3..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        && text.split(['.', '_', '-']).any(|word| word.len() >= 3)
}

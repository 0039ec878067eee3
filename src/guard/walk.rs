//! One pass over a JSON value: every string and key cleaned, secrets replaced, everything held to the limits.
//! Answers for the order of the three (clean, redact, cut: so that a secret is neither hidden by a zero-width
//! character nor left in half); knows nothing of replies.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{
    GuardLimits, Injection, PiiSettings, command, control,
    ledger::{Ledger, before_open_placeholder, cut_mark},
    marker, name, pii,
    secret::Detectors,
    wrapped::LAYERS,
};

/// Fields whose text names what stands in one of [`VALUE_FIELDS`].
const NAME_FIELDS: &[&str] = &["name", "Name", "key", "Key", "k", "variable", "env", "header", "field"];
/// Fields that hold the value of what another field names.
const VALUE_FIELDS: &[&str] = &["value", "v", "val", "content", "current_value", "default_value"];

/// Longest key, in bytes.
const MAX_KEY_BYTES: usize = 1024;
/// Strings up to this many bytes may use the reserve, so that the fields after a long list survive.
const SHORT: usize = 256;
/// What a number may take as JSON.
const NUMBER_BYTES: usize = 24;
/// Room for what is written when the limit is already reached: a key, a short string, a mark, closing brackets.
const MARGIN: usize = 4096;
/// At most this many cuts are named.
const MAX_NOTES: usize = 8;
/// Longest path in a note, in bytes.
const MAX_PATH_BYTES: usize = 200;
/// Room for a mark.
const MARK_BYTES: usize = 48;

/// At most this many marks of instructions are named; all are counted.
const MAX_MARKERS: usize = 16;
/// At most this many arguments of a command are remembered.
const SHORT_COMMAND: usize = 128;

/// The state of one pass.
pub(super) struct Walk<'g> {
    limits: GuardLimits,
    detectors: &'g Detectors,
    pii: PiiSettings,
    injection: Vec<Injection>,
    /// Whether a shortened list or map gets a mark inside, for readers who do not see the notes.
    marks: bool,
    ledger: Ledger,
    used: usize,
    path: Vec<String>,
    notes: Vec<String>,
    unnamed: usize,
    cut: bool,
}

/// What a pass found besides the values.
pub(super) struct Findings {
    /// What was taken out.
    pub(super) ledger: Ledger,
    /// Whether anything was cut.
    pub(super) cut: bool,
    /// Where lists, maps and nestings were cut.
    pub(super) notes: Vec<String>,
    /// What poses as instructions, and where.
    pub(super) injection: Vec<Injection>,
}

impl<'g> Walk<'g> {
    pub(super) fn new(limits: GuardLimits, detectors: &'g Detectors, pii: PiiSettings, marks: bool) -> Self {
        Self {
            limits,
            detectors,
            pii,
            injection: Vec::new(),
            marks,
            ledger: Ledger::default(),
            used: 0,
            path: Vec::new(),
            notes: Vec::new(),
            unnamed: 0,
            cut: false,
        }
    }

    pub(super) fn finish(mut self) -> Findings {
        if self.unnamed > 0 {
            self.notes.push(format!("cut in {} more places", self.unnamed));
        }
        Findings { ledger: self.ledger, cut: self.cut, notes: self.notes, injection: self.injection }
    }

    /// `value`, which stands under the name `at`.
    pub(super) fn value(&mut self, at: &str, value: Value) -> Value {
        self.path.push(at.to_owned());
        let value = self.any(value);
        self.path.pop();
        value
    }

    /// One string of its own.
    pub(super) fn text(&mut self, text: String) -> String {
        let text = self.redacted(text);
        self.fit(text)
    }

    /// A list that stands under the name `at`, each item by `each`.
    pub(super) fn list<T>(&mut self, at: &str, items: Vec<T>, each: impl FnMut(&mut Self, T) -> T) -> Vec<T> {
        self.path.push(at.to_owned());
        let (kept, _) = self.items(items, each);
        self.path.pop();
        kept
    }

    fn any(&mut self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) if !items.is_empty() && self.path.len() > self.limits.max_depth => {
                self.too_deep(items.len())
            }
            Value::Object(fields) if !fields.is_empty() && self.path.len() > self.limits.max_depth => {
                self.too_deep(fields.len())
            }
            Value::Array(items) => Value::Array(self.array(items)),
            Value::Object(fields) => Value::Object(self.object(fields)),
            other => {
                self.used += NUMBER_BYTES;
                other
            }
        }
    }

    fn too_deep(&mut self, items: usize) -> Value {
        self.note(format_args!("nested too deeply"));
        let mark = cut_mark(format_args!("{items} nested too deeply"));
        self.used += cost(&mark);
        Value::String(mark)
    }

    fn array(&mut self, items: Vec<Value>) -> Vec<Value> {
        // `["--password", "x"]` and `["curl", "-u", "user:x"]`: the flag tells what the item behind it is. So does the
        // first of two: `["DB_PASSWORD", "x"]`.
        let pair = items.len() == 2;
        let command = items.first().and_then(Value::as_str).filter(|name| name.len() <= SHORT_COMMAND);
        let command = command.map(str::to_owned).unwrap_or_default();
        let mut before: Option<String> = None;
        let (mut kept, dropped) = self.items(items, |walk, item| {
            let flag = before.take().filter(|_| !item.as_str().is_some_and(|item| item.starts_with('-')));
            let telling = |flag: &String| pair && item.is_string() || flag.starts_with('-');
            let kind = flag
                .as_deref()
                .filter(|_| flag.as_ref().is_some_and(telling))
                .and_then(|flag| walk.detectors.kind(flag));
            let secret =
                item.as_str().zip(flag.as_deref()).and_then(|(item, flag)| command::argument(&command, flag, item));
            let item = match (secret, item) {
                (Some(secret), Value::String(text)) if kind.is_none() => {
                    let (head, secret) =
                        (text.get(..secret.start).unwrap_or_default(), text.get(secret).unwrap_or_default());
                    let head = walk.redacted(head.to_owned());
                    let text = format!("{head}{}", walk.ledger.placeholder("password", secret));
                    Value::String(walk.fit(text))
                }
                (_, item) => walk.under(kind, item),
            };
            // Read as it leaves, so that a hidden character does not hide a flag.
            before = item.as_str().filter(|item| item.len() <= SHORT_COMMAND).map(str::to_owned);
            item
        });
        if dropped > 0 && self.marks {
            let mark = cut_mark(format_args!("{dropped} items"));
            self.used += cost(&mark);
            kept.push(Value::String(mark));
        }
        kept
    }

    /// As many items as fit, and how many did not.
    fn items<T>(&mut self, items: Vec<T>, mut each: impl FnMut(&mut Self, T) -> T) -> (Vec<T>, usize) {
        self.used += 2;
        let (count, keep) = (items.len(), self.keep(items.len()));
        let mut kept = Vec::with_capacity(keep);
        for (index, item) in items.into_iter().enumerate().take(keep) {
            if self.used >= self.list_limit() {
                break;
            }
            self.path.push(format!("[{index}]"));
            kept.push(each(self, item));
            self.path.pop();
            self.used += 1;
        }
        let dropped = count - kept.len();
        if dropped > 0 {
            self.note(format_args!("cut after {} of {count} items", kept.len()));
        }
        (kept, dropped)
    }

    fn object(&mut self, fields: Map<String, Value>) -> Map<String, Value> {
        self.used += 2;
        let (count, keep) = (fields.len(), self.keep(fields.len()));
        // `{"name": "DB_PASSWORD", "value": "x"}`: the name stands in a field of its own.
        let named = NAME_FIELDS.iter().find_map(|key| self.detectors.kind(fields.get(*key)?.as_str()?));
        let mut kept = Map::new();
        let mut done = 0;
        let mut twins = 1usize;
        for (key, value) in fields.into_iter().take(keep) {
            if self.used >= self.limits.max_total_bytes.saturating_sub(MARGIN) {
                break;
            }
            let cleaned = self.redacted(key);
            let is_value = || VALUE_FIELDS.iter().any(|field| cleaned.eq_ignore_ascii_case(field));
            let kind = name::field(&cleaned, &value)
                .or_else(|| self.detectors.named(&cleaned))
                .or_else(|| named.filter(|_| !value.is_boolean() && is_value()))
                .or_else(|| self.personal(&cleaned, &value));
            let cleaned = self.cut_to(cleaned, MAX_KEY_BYTES, usize::MAX);
            // Two keys that were told apart only by what was removed both stay.
            let mut key = cleaned.clone();
            while kept.contains_key(&key) {
                twins += 1;
                key = format!("{cleaned}‹{twins}›");
            }
            self.used += cost(&key) + 2;
            self.path.push(key.clone());
            let value = self.under(kind, value);
            self.path.pop();
            kept.insert(key, value);
            done += 1;
        }
        if done < count {
            self.note(format_args!("cut after {done} of {count} fields"));
            if self.marks {
                let mark = cut_mark(format_args!("{} fields", count - done));
                self.used += 2 * cost(&mark);
                kept.insert(mark.clone(), Value::String(mark));
            }
        }
        kept
    }

    /// `value`, which its name says is a secret of this kind, or any value where there is none.
    fn under(&mut self, kind: Option<&'static str>, value: Value) -> Value {
        let Some(kind) = kind else { return self.any(value) };
        let text = match &value {
            Value::Null | Value::Bool(_) => return self.any(value),
            Value::Array(items) if items.is_empty() => return self.any(value),
            Value::Object(fields) if fields.is_empty() => return self.any(value),
            Value::String(text) => control::clean(text).0.into_owned(),
            other => other.to_string(),
        };
        if value.is_string() && name::placeholder(&text) {
            return self.any(value);
        }
        let kind = match self.detectors.secrets(&text, LAYERS).as_slice() {
            [only] if only.range == (0..text.len()) => only.kind,
            _ => kind,
        };
        let mark = self.ledger.placeholder(kind, &text);
        self.used += cost(&mark);
        Value::String(mark)
    }

    /// The kind of personal data that `value` is under a field of this name: a phone number or card number as a text or
    /// as a number.
    fn personal(&self, name: &str, value: &Value) -> Option<&'static str> {
        match value {
            Value::String(text) if text.len() <= SHORT_COMMAND => pii::field(name, text, self.pii),
            Value::Number(number) => pii::field(name, &number.to_string(), self.pii),
            _ => None,
        }
    }

    fn redacted(&mut self, text: String) -> String {
        if marker::hidden(&text) {
            self.flag("hidden-characters");
        }
        let (clean, controls) = control::clean(&text);
        self.ledger.count("control", controls);
        let mut sweep = self.detectors.sweep(&clean);
        let found = marker::find(&clean, &sweep.hits);
        for mark in &found {
            self.flag(mark.name);
        }
        let inert = marker::neutralised(&clean, &found);
        if let Some(inert) = &inert {
            sweep = self.detectors.sweep(inert);
        }
        let redacted =
            match self.detectors.redact(inert.as_deref().unwrap_or(&clean), sweep, self.pii, &mut self.ledger) {
                Cow::Owned(redacted) => Some(redacted),
                Cow::Borrowed(_) => None,
            };
        match redacted.or(inert) {
            Some(changed) => changed,
            None if controls == 0 => text,
            None => clean.into_owned(),
        }
    }

    /// Counts a mark of instructions where the walk is, and names it.
    fn flag(&mut self, marker: &'static str) {
        self.ledger.count("injection", 1);
        if self.injection.len() < MAX_MARKERS {
            let injection = Injection { marker, r#where: self.place() };
            if !self.injection.contains(&injection) {
                self.injection.push(injection);
            }
        }
    }

    /// Where the walk is, such as `data.entries[3].msg`.
    fn place(&self) -> String {
        let mut place = String::new();
        for step in &self.path {
            if !place.is_empty() && !step.starts_with('[') {
                place.push('.');
            }
            place.push_str(step);
        }
        place.truncate(place.floor_char_boundary(MAX_PATH_BYTES));
        place
    }

    /// `text` held to both limits, and counted.
    fn fit(&mut self, text: String) -> String {
        let room = match text.len() {
            0..=SHORT => usize::MAX,
            _ => self.list_limit().saturating_sub(self.used),
        };
        let text = self.cut_to(text, self.limits.max_string_bytes, room);
        self.used = self.used.saturating_add(cost(&text));
        text
    }

    /// `text`, cut where it is longer than `most` bytes or takes more than `room` as JSON.
    fn cut_to(&mut self, text: String, most: usize, room: usize) -> String {
        if text.len() <= most && cost(&text) <= room {
            return text;
        }
        self.cut = true;
        let most = text.floor_char_boundary(most.saturating_sub(MARK_BYTES));
        let room = room.saturating_sub(MARK_BYTES);
        let mut taken = 0;
        let end = text.bytes().take(most).take_while(|byte| {
            taken += 1 + usize::from(escaped(*byte));
            taken <= room
        });
        let end = text.floor_char_boundary(end.count());
        let head = before_open_placeholder(text.get(..end).unwrap_or_default());
        format!("{head}{}", cut_mark(format_args!("{} bytes", text.len() - head.len())))
    }

    fn keep(&self, items: usize) -> usize {
        let most = self.limits.max_items;
        if items > most && self.marks { most.saturating_sub(1) } else { most.min(items) }
    }

    /// Where lists and long strings end: a sixteenth is kept back for short fields.
    fn list_limit(&self) -> usize {
        let usable = self.limits.max_total_bytes.saturating_sub(MARGIN);
        usable - usable / 16
    }

    fn note(&mut self, what: std::fmt::Arguments<'_>) {
        self.cut = true;
        if self.notes.len() >= MAX_NOTES {
            self.unnamed += 1;
            return;
        }
        let place = self.place();
        self.notes.push(format!("{what}: {place}"));
    }
}

/// The bytes `text` takes as a JSON string, with the comma behind it.
fn cost(text: &str) -> usize {
    text.len() + 3 + text.bytes().filter(|byte| escaped(*byte)).count()
}

/// Whether JSON writes this byte as two. Other control characters do not get here.
fn escaped(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | b'\n' | b'\t')
}

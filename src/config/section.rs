//! Reads typed values out of a TOML tree, each with its place. Answers for types, ranges and unknown keys; a value that
//! is wrong is reported and its default is used to read on. Knows nothing of what the keys mean.

use std::{
    fmt::Display,
    ops::{Range, RangeInclusive},
    time::Duration,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::problem::{Report, did_you_mean};
use crate::model::{format_duration, format_size, parse_duration, parse_size};

/// One table. Remembers which keys were asked for; [`Section::finish`] reports the others.
#[must_use = "finish() reports the unknown keys"]
pub(super) struct Section<'a> {
    report: &'a Report<'a>,
    table: Option<&'a DeTable<'a>>,
    place: Range<usize>,
    path: String,
    known: Vec<&'static str>,
}

/// One value and where it stands.
#[derive(Clone)]
pub(super) struct Value<'a> {
    report: &'a Report<'a>,
    value: &'a DeValue<'a>,
    place: Range<usize>,
    path: String,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(super) fn root(report: &'a Report<'a>, table: &'a Spanned<DeTable<'a>>) -> Self {
        Self { report, table: Some(table.get_ref()), place: 0..0, path: String::new(), known: Vec::new() }
    }

    /// The value at `key`, if it is there.
    pub(super) fn value(&mut self, key: &'static str) -> Option<Value<'a>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        let value = self.table?.get(key)?;
        Some(Value { report: self.report, value: value.get_ref(), place: value.span(), path: join(&self.path, key) })
    }

    /// The value at `key`, which must be there.
    pub(super) fn required(&mut self, key: &'static str, example: &str) -> Option<Value<'a>> {
        let value = self.value(key);
        if value.is_none() {
            self.report.add(
                self.place.clone(),
                &join(&self.path, key),
                format_args!("missing, such as {key} = {example}"),
            );
        }
        value
    }

    /// The table at `key`; an empty one if it is not there.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'a> {
        let path = join(&self.path, key);
        let empty = Section { report: self.report, table: None, place: self.place.clone(), path, known: Vec::new() };
        self.value(key).map_or(empty, Value::section)
    }

    /// The tables under `key`, each with the name it was given. What is no table is reported and left out.
    pub(super) fn named(&mut self, key: &'static str) -> Vec<(&'a str, Section<'a>)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let section = value.section();
        let tables = section.table.into_iter().flatten();
        tables
            .filter_map(|(name, value)| {
                let path = join(&section.path, name.get_ref());
                let value = Value { report: self.report, value: value.get_ref(), place: name.span(), path };
                let section = value.section();
                section.table.is_some().then_some((&**name.get_ref(), section))
            })
            .collect()
    }

    /// Whether there is a value at `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.get(key).is_some())
    }

    /// True or false.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        self.value(key).and_then(|value| value.flag()).unwrap_or(default)
    }

    /// A whole number in `range`.
    pub(super) fn number<N>(&mut self, key: &'static str, default: N, range: RangeInclusive<N>) -> N
    where
        N: Copy + PartialOrd + Display + TryFrom<i64>,
    {
        self.value(key).and_then(|value| value.number(&range)).unwrap_or(default)
    }

    /// A duration in `range`.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        self.value(key).and_then(|value| value.duration(&range)).unwrap_or(default)
    }

    /// A size in bytes in `range`.
    pub(super) fn size(&mut self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
        self.value(key).and_then(|value| value.size(&range)).unwrap_or(default)
    }

    /// Reports that the value at `key` is wrong.
    pub(super) fn refuse(&self, key: &str, message: impl Display) {
        let place = self.table.and_then(|table| table.get(key)).map_or(self.place.clone(), Spanned::span);
        self.report.add(place, &join(&self.path, key), message);
    }

    /// Reports that the name of this table is wrong.
    pub(super) fn refuse_name(&self, message: impl Display) {
        self.report.add(self.place.clone(), &self.path, message);
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self) {
        for (key, _) in self.table.into_iter().flatten() {
            let name: &str = key.get_ref();
            if !self.known.contains(&name) {
                let hint = did_you_mean(name, self.known.iter().copied())
                    .unwrap_or_else(|| format!("; the keys here are {}", self.known.join(", ")));
                self.report.add(key.span(), &join(&self.path, name), format_args!("unknown key{hint}"));
            }
        }
    }
}

impl<'a> Value<'a> {
    /// Reports that this value is wrong.
    pub(super) fn refuse(&self, message: impl Display) {
        self.report.add(self.place.clone(), &self.path, message);
    }

    fn mismatch(&self, wanted: impl Display) {
        let found = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.refuse(format_args!("must be {wanted}, not {found}"));
    }

    /// A string. `wanted` says what it stands for.
    pub(super) fn text(&self, wanted: &str) -> Option<&'a str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.mismatch(format_args!("{wanted} in quotes"));
        }
        text
    }

    /// One of `choices`.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&'static str, T)]) -> Option<T> {
        let names = || choices.iter().map(|(name, _)| *name);
        let all = names().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        let all = if choices.len() > 1 { format!("one of {all}") } else { all };
        let Some(given) = self.value.as_str() else {
            self.mismatch(all);
            return None;
        };
        let choice = choices.iter().find(|(name, _)| *name == given).map(|(_, choice)| *choice);
        if choice.is_none() {
            let hint = did_you_mean(given, names()).unwrap_or_default();
            self.refuse(format_args!("must be {all}, not {given:?}{hint}"));
        }
        choice
    }

    fn flag(&self) -> Option<bool> {
        let flag = self.value.as_bool();
        if flag.is_none() {
            self.mismatch("true or false");
        }
        flag
    }

    /// The values of an array. `wanted` says what they stand for.
    pub(super) fn items(&self, wanted: &str) -> Option<Vec<Value<'a>>> {
        let Some(array) = self.value.as_array() else {
            self.mismatch(format_args!("an array of {wanted}"));
            return None;
        };
        let item = |(index, value): (usize, &'a Spanned<DeValue<'a>>)| Value {
            report: self.report,
            value: value.get_ref(),
            place: value.span(),
            path: format!("{}[{index}]", self.path),
        };
        Some(array.iter().enumerate().map(item).collect())
    }

    /// The values of an array, or the value itself where it is none.
    pub(super) fn item_or_items(&self, wanted: &str) -> Vec<Value<'a>> {
        if self.value.is_array() { self.items(wanted).unwrap_or_default() } else { vec![self.clone()] }
    }

    /// The table this value is. Anything else is reported and read as an empty one.
    pub(super) fn section(self) -> Section<'a> {
        let table = self.value.as_table();
        if table.is_none() {
            self.mismatch("a table");
        }
        Section { report: self.report, table, place: self.place, path: self.path, known: Vec::new() }
    }

    /// A whole number in `range`.
    pub(super) fn number<N: Copy + PartialOrd + Display + TryFrom<i64>>(&self, range: &RangeInclusive<N>) -> Option<N> {
        let wanted = format!("from {} to {}", range.start(), range.end());
        let Some(integer) = self.value.as_integer() else {
            self.mismatch(format_args!("a whole number {wanted}"));
            return None;
        };
        let number =
            i64::from_str_radix(integer.as_str(), integer.radix()).ok().and_then(|number| N::try_from(number).ok());
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            self.refuse(format_args!("must be {wanted}, not {integer}"));
        }
        number
    }

    fn duration(&self, range: &RangeInclusive<Duration>) -> Option<Duration> {
        let wanted = format!("from {} to {}", format_duration(*range.start()), format_duration(*range.end()));
        let Some(text) = self.value.as_str() else {
            self.mismatch(format_args!("a duration {wanted} in quotes, such as \"30s\""));
            return None;
        };
        self.within(format!("{text:?}"), parse_duration(text), range, &wanted)
    }

    fn size(&self, range: &RangeInclusive<u64>) -> Option<u64> {
        let wanted = format!("from {} to {}", format_size(*range.start()), format_size(*range.end()));
        match self.value {
            DeValue::String(text) => self.within(format!("{text:?}"), parse_size(text), range, &wanted),
            DeValue::Integer(integer) => {
                let bytes = u64::from_str_radix(integer.as_str(), integer.radix());
                self.within(integer.to_string(), bytes.map_err(|_| "is no size"), range, &wanted)
            }
            _ => {
                self.mismatch(format_args!("a size {wanted}, such as \"64 KiB\""));
                None
            }
        }
    }

    fn within<T: PartialOrd>(
        &self,
        given: String,
        read: Result<T, impl Display>,
        range: &RangeInclusive<T>,
        wanted: &str,
    ) -> Option<T> {
        match read {
            Ok(value) if range.contains(&value) => return Some(value),
            Ok(_) => self.refuse(format_args!("must be {wanted}, not {given}")),
            Err(error) => self.refuse(format_args!("{given} {error}; must be {wanted}")),
        }
        None
    }
}

/// `path.key`, the key in quotes where TOML wants them.
pub(super) fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

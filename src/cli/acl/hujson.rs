//! HuJSON (JSON with comments and trailing commas) read into a tree that knows where everything stands. Refuses what
//! the tailnet's own reader refuses: loose JSON of other sorts, and a name that stands twice. Never writes.

use jsonc_parser::{
    CollectOptions, ParseOptions,
    ast::{self, ObjectPropName},
    common::{Range, Ranged},
    parse_to_ast,
    tokens::Token,
};
use serde_json::{Map, Value};

/// A text that is no policy, with the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {what}")]
pub(super) struct Malformed {
    /// Counted from 1.
    pub(super) line: usize,
    /// Counted from 1, in characters.
    pub(super) column: usize,
    pub(super) what: String,
}

/// A whole text: an object.
#[derive(Debug)]
pub(super) struct Document<'t> {
    pub(super) text: &'t str,
    pub(super) root: Node,
    /// Where the commas are, outside of texts and comments.
    commas: Vec<usize>,
}

/// One value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The first byte.
    pub(super) start: usize,
    /// Behind the last byte.
    pub(super) end: usize,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Null, a truth value or a number.
    Plain(Value),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One entry of an object.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    /// The first byte of the name.
    pub(super) start: usize,
    pub(super) value: Node,
}

impl<'t> Document<'t> {
    /// Reads `text`. Errors with the first thing that is wrong.
    pub(super) fn read(text: &'t str) -> Result<Self, Malformed> {
        let options = ParseOptions {
            allow_comments: true,
            allow_trailing_commas: true,
            allow_loose_object_property_names: false,
            allow_missing_commas: false,
            allow_single_quoted_strings: false,
            allow_hexadecimal_numbers: false,
            allow_unary_plus_numbers: false,
            allow_bare_decimal_point_numbers: false,
            allow_non_finite_numbers: false,
            allow_extended_string_escapes: false,
        };
        let collect = CollectOptions { tokens: true, ..CollectOptions::default() };
        let parsed = parse_to_ast(text, &collect, &options)
            .map_err(|error| malformed(text, error.range().start, error.kind().to_string()))?;
        let Some(value) = parsed.value else {
            return Err(malformed(text, text.len(), "holds no policy: a policy is an object, such as {}".to_owned()));
        };
        let root = node(text, &value)?;
        if !matches!(root.kind, Kind::Map(_)) {
            return Err(malformed(text, root.start, "a policy is an object, such as {}".to_owned()));
        }
        let tokens = parsed.tokens.unwrap_or_default();
        let commas = tokens.iter().filter(|token| token.token == Token::Comma).map(|token| token.range.start).collect();
        let document = Self { text, root, commas };
        // The tailnet's reader takes "Grants" for "grants": both at once is one section twice.
        for (index, entry) in document.sections().iter().enumerate() {
            if document.sections().iter().take(index).any(|other| other.name.eq_ignore_ascii_case(&entry.name)) {
                return Err(malformed(text, entry.start, format!("{:?} stands here for the second time", entry.name)));
            }
        }
        Ok(document)
    }

    /// The top-level entries.
    pub(super) fn sections(&self) -> &[Entry] {
        self.root.entries()
    }

    /// The section of this name, whatever its case.
    pub(super) fn section(&self, name: &str) -> Option<&Entry> {
        self.sections().iter().find(|entry| entry.name.eq_ignore_ascii_case(name))
    }

    /// The elements of the array that is this section; none where there is no such section.
    pub(super) fn list(&self, name: &str) -> &[Node] {
        self.section(name).map_or(&[], |entry| entry.value.items())
    }

    /// The entries of the object that is this section; none where there is no such section.
    pub(super) fn map(&self, name: &str) -> &[Entry] {
        self.section(name).map_or(&[], |entry| entry.value.entries())
    }

    /// The line of a byte, counted from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        place(self.text, at).0
    }

    /// What is wrong at this byte.
    pub(super) fn fault(&self, at: usize, what: impl Into<String>) -> Malformed {
        malformed(self.text, at, what.into())
    }

    /// Whether a comma stands between these two bytes.
    pub(super) fn comma_between(&self, start: usize, end: usize) -> bool {
        self.commas.iter().any(|comma| (start..end).contains(comma))
    }
}

impl Node {
    /// The entry of this name, of an object.
    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| entry.name.eq_ignore_ascii_case(name)).map(|entry| &entry.value)
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The elements, of an array.
    pub(super) fn items(&self) -> &[Node] {
        match &self.kind {
            Kind::List(items) => items,
            _ => &[],
        }
    }

    /// The entries, of an object.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The texts among the elements of this entry.
    pub(super) fn texts(&self, name: &str) -> Vec<&str> {
        self.get(name).map(|list| list.items().iter().filter_map(Node::text).collect()).unwrap_or_default()
    }

    /// As plain JSON.
    pub(super) fn value(&self) -> Value {
        match &self.kind {
            Kind::Plain(value) => value.clone(),
            Kind::Text(text) => Value::String(text.clone()),
            Kind::List(items) => items.iter().map(Self::value).collect(),
            Kind::Map(entries) => Value::Object(
                entries.iter().map(|entry| (entry.name.clone(), entry.value.value())).collect::<Map<_, _>>(),
            ),
        }
    }
}

fn node(text: &str, value: &ast::Value<'_>) -> Result<Node, Malformed> {
    let Range { start, end } = value.range();
    let kind = match value {
        ast::Value::StringLit(literal) => Kind::Text(literal.value.to_string()),
        ast::Value::NumberLit(literal) => {
            let number = serde_json::from_str(literal.value)
                .map_err(|_| malformed(text, start, format!("{:?} is no number", literal.value)))?;
            Kind::Plain(Value::Number(number))
        }
        ast::Value::BooleanLit(literal) => Kind::Plain(Value::Bool(literal.value)),
        ast::Value::NullKeyword(_) => Kind::Plain(Value::Null),
        ast::Value::Array(array) => {
            Kind::List(array.elements.iter().map(|element| node(text, element)).collect::<Result<_, _>>()?)
        }
        ast::Value::Object(object) => {
            let mut entries: Vec<Entry> = Vec::new();
            for property in &object.properties {
                let name = match &property.name {
                    ObjectPropName::String(literal) => literal.value.to_string(),
                    ObjectPropName::Word(word) => word.value.to_owned(),
                };
                let start = property.range.start;
                if entries.iter().any(|entry| entry.name == name) {
                    return Err(malformed(text, start, format!("{name:?} stands here for the second time")));
                }
                entries.push(Entry { name, start, value: node(text, &property.value)? });
            }
            Kind::Map(entries)
        }
    };
    Ok(Node { start, end, kind })
}

fn malformed(text: &str, at: usize, what: String) -> Malformed {
    let (line, column) = place(text, at);
    Malformed { line, column, what }
}

/// Line and column of a byte, counted from 1.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(start..).unwrap_or_default().chars().count() + 1;
    (before.bytes().filter(|byte| *byte == b'\n').count() + 1, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        Document::read(text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_hujson_is_refused_with_its_place() {
        assert!(fault("").starts_with("1:1: holds no policy"), "{}", fault(""));
        assert!(fault("// nothing\n").starts_with("2:1: "));
        assert!(fault("[]").starts_with("1:1: a policy is an object"));
        assert!(fault("{\n  \"grants\": [\n").starts_with("2:"), "{}", fault("{\n  \"grants\": [\n"));
        for loose in [
            "{a: 1}",
            "{'a': 1}",
            "{\"a\": 0x1}",
            "{\"a\": +1}",
            "{\"a\": .5}",
            "{\"a\": NaN}",
            "{\"a\": 1 \"b\": 2}",
            "{\"a\": \"\\x41\"}",
            "{} {}",
            "{,}",
            "{\"a\": 01}",
        ] {
            assert!(Document::read(loose).is_err(), "{loose}");
        }
        assert_eq!(fault("{\"é\": 1, \"é\": 2}"), "1:10: \"é\" stands here for the second time");
        assert_eq!(fault("{\"grants\": [],\n \"Grants\": []}"), "2:2: \"Grants\" stands here for the second time");
        assert!(fault(&"[".repeat(100_000)).starts_with("1:"), "depth is bounded");
    }

    #[test]
    fn a_policy_is_read_with_its_places() {
        let text = "// top\n{\n\t\"grants\": [ // here\n\t\t{\"src\": [\"*\"],}, /* , */\n\t],\n\t\"Hosts\": {\"a\": \"1.2.3.4\"},\n}\n";
        let document = Document::read(text).unwrap();
        let [grant] = document.list("grants") else { panic!("{document:?}") };
        assert_eq!((document.line(grant.start), grant.texts("src")), (4, vec!["*"]));
        assert_eq!(document.map("hosts").first().unwrap().value.text(), Some("1.2.3.4"));
        let close = text.find("],\n\t\"H").unwrap();
        assert!(document.comma_between(grant.end, close), "the trailing comma");
        let comment = text.find("/*").unwrap();
        assert!(!document.comma_between(comment, close), "but not the one in the comment");
    }
}

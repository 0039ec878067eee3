//! YAML as the tree that configuration is read from: the same sections, the same words for what is wrong, each with
//! its place. Expands nothing: `${NAME}` is text.

use std::{fmt, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{Location, Spanned as Placed};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// What is wrong with a text that is not YAML, and where.
pub(super) struct NotYaml {
    pub(super) place: Range<usize>,
    pub(super) message: String,
}

/// A document: its nodes with their places.
pub(super) enum Node {
    Text(String),
    /// Its digits, as TOML reads them too.
    Number(String),
    Bool(bool),
    List(Vec<(Range<usize>, Node)>),
    Table(Vec<(Range<usize>, String, Range<usize>, Node)>),
}

/// Reads a text whose top is a table. An empty text is an empty table.
pub(super) fn parse(text: &str) -> Result<Node, NotYaml> {
    let node: Node = serde_saphyr::from_str(text).map_err(|error| {
        let at = error.location().map_or(0, |location| offset(text, location));
        // The rest of the message shows the text around, which may hold what should not be shown.
        let message = error.without_snippet().to_string();
        NotYaml { place: at..at, message: message.lines().next().unwrap_or_default().escape_debug().to_string() }
    })?;
    match node {
        Node::Table(_) => Ok(node),
        Node::Text(text) if text.is_empty() => Ok(Node::Table(Vec::new())),
        _ => Err(NotYaml { place: 0..0, message: "must be a mapping with `version` and `targets`".to_owned() }),
    }
}

fn offset(text: &str, location: Location) -> usize {
    let line = usize::try_from(location.line().saturating_sub(1)).unwrap_or(usize::MAX);
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let column = usize::try_from(location.column().saturating_sub(1)).unwrap_or(usize::MAX);
    start + text.get(start..).into_iter().flat_map(str::chars).take(column).map(char::len_utf8).sum::<usize>()
}

impl Node {
    /// The table as sections read it; an empty one where it is no table.
    pub(super) fn table(&self) -> DeTable<'_> {
        match self.value() {
            DeValue::Table(table) => table,
            _ => DeTable::new(),
        }
    }

    fn value(&self) -> DeValue<'_> {
        match self {
            Self::Text(text) => DeValue::String(text.as_str().into()),
            Self::Number(digits) => match DeValue::parse(digits) {
                Ok(number) => number.into_inner(),
                Err(_) => DeValue::String(digits.as_str().into()),
            },
            Self::Bool(value) => DeValue::Boolean(*value),
            Self::List(items) => {
                DeValue::Array(items.iter().map(|(place, node)| Spanned::new(place.clone(), node.value())).collect())
            }
            Self::Table(entries) => DeValue::Table(
                entries
                    .iter()
                    .map(|(key_place, key, place, node)| {
                        let key = Spanned::new(key_place.clone(), key.as_str().into());
                        (key, Spanned::new(place.clone(), node.value()))
                    })
                    .collect(),
            ),
        }
    }
}

fn place(location: Location) -> Range<usize> {
    let at = |bytes: Option<u64>| bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or_default();
    let start = at(location.span().byte_offset());
    start..start + at(location.span().byte_len())
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Nodes;
        impl<'de> Visitor<'de> for Nodes {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Number(value.to_string()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Number(value.to_string()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Number(format!("{value:?}")))
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
                Ok(Node::Text(value.to_owned()))
            }
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Text(String::new()))
            }
            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Text(String::new()))
            }
            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
                Node::deserialize(deserializer)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element::<Placed<Node>>()? {
                    list.push((place(item.referenced), item.value));
                }
                Ok(Node::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
                let mut table: Vec<(Range<usize>, String, Range<usize>, Node)> = Vec::new();
                while let Some(key) = entries.next_key::<Placed<String>>()? {
                    if table.iter().any(|(_, known, ..)| *known == key.value) {
                        return Err(A::Error::custom(format_args!("duplicate key {:?}", key.value)));
                    }
                    let value = entries.next_value::<Placed<Node>>()?;
                    table.push((place(key.referenced), key.value, place(value.referenced), value.value));
                }
                Ok(Node::Table(table))
            }
        }
        deserializer.deserialize_any(Nodes)
    }
}

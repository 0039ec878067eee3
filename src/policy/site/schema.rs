//! The vocabulary of site policies as a Cedar schema, made from the tool catalogue: one action a tool with its groups
//! and the types of its arguments. What a JSON schema says that Cedar has no type for is left out, so that no policy
//! can rest on it.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Schema, SchemaError};
use serde_json::{Map, Value, json};

use super::ToolFacts;
use crate::model::Effect;

/// The type of one argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    /// Text that is one of these words.
    Word(Vec<String>),
    Number,
    Bool,
    Set(Box<Type>),
    Record(Fields),
}

/// The arguments of one tool, or the fields of one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields(pub(super) BTreeMap<String, Field>);

/// One argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) kind: Type,
    /// Whether it is always there.
    pub(super) required: bool,
}

impl Fields {
    /// What the JSON schema of an object says.
    pub(super) fn of(schema: &Value) -> Self {
        let required: BTreeSet<&str> =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        let fields = properties.filter_map(|(name, schema)| {
            let (kind, nullable) = Type::of(schema)?;
            Some((name.clone(), Field { kind, required: required.contains(name.as_str()) && !nullable }))
        });
        Self(fields.collect())
    }

    fn to_cedar(&self) -> Value {
        let attributes = self.0.iter().map(|(name, field)| {
            let mut kind = field.kind.to_cedar();
            if let Some(object) = kind.as_object_mut() {
                object.insert("required".into(), field.required.into());
            }
            (name.clone(), kind)
        });
        json!({"type": "Record", "attributes": attributes.collect::<Map<_, _>>()})
    }
}

impl Type {
    /// The type that a JSON schema describes and whether null is one of its values; none where Cedar has no such type.
    fn of(schema: &Value) -> Option<(Self, bool)> {
        if let Some(words) = words(schema) {
            return Some((Self::Word(words), false));
        }
        if let Some(choices) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
            let is_null = |choice: &&Value| choice.get("type").and_then(Value::as_str) == Some("null");
            let nullable = choices.iter().any(|choice| is_null(&choice));
            let mut others = choices.iter().filter(|choice| !is_null(choice));
            let (kind, inner) = Self::of(others.next()?)?;
            return others.next().is_none().then_some((kind, nullable || inner));
        }
        let mut names: Vec<&str> = match schema.get("type")? {
            Value::String(name) => vec![name],
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            _ => return None,
        };
        let all = names.len();
        names.retain(|name| *name != "null");
        let nullable = names.len() < all;
        let [name] = names.as_slice() else { return None };
        let kind = match *name {
            "string" => Self::Text,
            "integer" => Self::Number,
            "boolean" => Self::Bool,
            "array" => match Self::of(schema.get("items")?)? {
                (item, false) => Self::Set(Box::new(item)),
                (_, true) => return None,
            },
            "object" if schema.get("properties").is_some() => Self::Record(Fields::of(schema)),
            _ => return None,
        };
        Some((kind, nullable))
    }

    fn to_cedar(&self) -> Value {
        match self {
            Self::Text | Self::Word(_) => json!({"type": "String"}),
            Self::Number => json!({"type": "Long"}),
            Self::Bool => json!({"type": "Boolean"}),
            Self::Set(item) => json!({"type": "Set", "element": item.to_cedar()}),
            Self::Record(fields) => fields.to_cedar(),
        }
    }

    /// The words a text of this type, or an element of it, can be.
    pub(super) fn words(&self) -> Option<&[String]> {
        match self {
            Self::Word(words) => Some(words),
            Self::Set(item) => item.words(),
            _ => None,
        }
    }
}

/// The words of an enumeration, written as `enum`, or as `oneOf` of constants.
fn words(schema: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return words.iter().map(text).collect();
    }
    let choices = schema.get("oneOf").and_then(Value::as_array)?;
    let mut words = Vec::new();
    for choice in choices {
        match (choice.get("const"), choice.get("enum").and_then(Value::as_array)) {
            (Some(word), None) => words.push(text(word)?),
            (None, Some(more)) => words.extend(more.iter().map(text).collect::<Option<Vec<_>>>()?),
            _ => return None,
        }
    }
    Some(words)
}

/// The groups a tool is directly in: what it does, how risky it is, what it is about, and the scopes it needs.
fn groups(tool: &ToolFacts) -> BTreeSet<String> {
    let effect = match tool.effect {
        Effect::Read => "reads",
        Effect::Write => "changes",
        Effect::Destructive => "destroys",
    };
    let noun = tool.name.split('_').next().unwrap_or(tool.name);
    let mut groups = BTreeSet::from([effect.to_owned(), format!("risk:{}", tool.risk), noun.to_owned()]);
    groups.extend(tool.scopes.iter().map(|scope| scope.as_str().to_owned()));
    // A tool that is its noun would be in itself.
    groups.remove(tool.name);
    groups
}

/// The schema for these tools and their arguments.
pub(super) fn schema_of(
    tools: &[ToolFacts],
    arguments: &BTreeMap<&'static str, Fields>,
) -> Result<Schema, Box<SchemaError>> {
    let text = || json!({"type": "String"});
    let texts = || json!({"type": "Set", "element": {"type": "String"}});
    let resource = || {
        json!({"shape": {"type": "Record", "attributes": {
            "engagement": text(), "segment": text(), "tags": texts(), "kind": text(),
        }}})
    };
    let mut actions = Map::new();
    // A tool that destroys also changes.
    actions.insert("changes".into(), json!({}));
    for tool in tools {
        for group in groups(tool) {
            let above = if group == "destroys" { json!([{"id": "changes"}]) } else { json!([]) };
            actions.entry(group).or_insert(json!({"memberOf": above}));
        }
    }
    for tool in tools {
        let groups: Vec<Value> = groups(tool).into_iter().map(|id| json!({"id": id})).collect();
        let resources = if tool.on_target { json!(["Target"]) } else { json!(["Gateway", "Target"]) };
        let args = arguments.get(tool.name).map_or_else(|| Fields::default().to_cedar(), Fields::to_cedar);
        let applies = json!({"principalTypes": ["Agent"], "resourceTypes": resources, "context": context(args)});
        actions.insert(tool.name.to_owned(), json!({"memberOf": groups, "appliesTo": applies}));
    }
    let agent = json!({"shape": {"type": "Record", "attributes": {
        "subject": text(), "owner": text(), "engagement": text(), "scopes": texts(), "user": text(), "node": text(),
        "tags": texts(),
    }}});
    let types = json!({"Agent": agent, "Target": resource(), "Gateway": resource()});
    Schema::from_json_value(json!({"": {"entityTypes": types, "actions": actions}})).map_err(Box::new)
}

fn context(args: Value) -> Value {
    let (text, long, boolean) =
        (|| json!({"type": "String"}), || json!({"type": "Long"}), || json!({"type": "Boolean"}));
    let time = json!({"type": "Record", "attributes": {
        "date": text(), "year": long(), "month": long(), "day": long(), "weekday": long(),
        "hour": long(), "minute": long(), "minute_of_day": long(),
    }});
    json!({"type": "Record", "attributes": {
        "approved": boolean(), "dry_run": boolean(), "effect": text(), "risk": text(), "risk_level": long(),
        "reason_given": boolean(), "now": {"type": "Extension", "name": "datetime"}, "time": time, "args": args,
    }})
}

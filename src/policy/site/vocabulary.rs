//! The names in a policy that Cedar takes for mere text or ids: targets, engagements, scopes, segments, words of
//! arguments. A misspelt one would never match and the policy would silently not hold, so each is compared with what
//! there is.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Policy, Schema};
use serde_json::Value;

use super::{Inventory, ToolFacts, problem::Report, schema::Fields};
use crate::{config::did_you_mean, model::Scope};

/// The operators that compare what stands on their two sides.
const COMPARISONS: [&str; 5] = ["==", "!=", "contains", "containsAll", "containsAny"];

/// Everything a policy may name.
pub(super) struct Vocabulary<'a> {
    arguments: &'a BTreeMap<&'static str, Fields>,
    scopes: BTreeSet<&'a str>,
    /// By what they are: `target`, `engagement`, `segment`, `tag`. None where it is not known what there is.
    site: Option<BTreeMap<&'static str, BTreeSet<&'a str>>>,
}

impl<'a> Vocabulary<'a> {
    pub(super) fn new(
        tools: &[ToolFacts],
        arguments: &'a BTreeMap<&'static str, Fields>,
        inventory: Option<Inventory<'a>>,
    ) -> Self {
        debug_assert_eq!(tools.len(), arguments.len(), "two tools have one name");
        let site = inventory.map(|Inventory { targets, engagements }| {
            BTreeMap::from([
                ("target", targets.iter().map(|target| target.id.as_str()).collect()),
                ("engagement", engagements.iter().map(|engagement| engagement.as_str()).collect()),
                ("segment", targets.iter().filter_map(|target| target.segment.as_deref()).collect()),
                ("tag", targets.iter().flat_map(|target| &target.tags).map(String::as_str).collect()),
            ])
        });
        Self { arguments, scopes: Scope::ALL.iter().map(|scope| scope.as_str()).collect(), site }
    }

    /// Checks the names in `policy`, which begins at `offset`. What cannot be right goes to `wrong`, what may be meant
    /// for later to `doubtful`.
    pub(super) fn check(
        &self,
        policy: &Policy,
        offset: usize,
        schema: &Schema,
        wrong: &mut Report<'_>,
        doubtful: &mut Report<'_>,
    ) {
        let source = policy.to_cedar().unwrap_or_default();
        let place = |word: &str| offset + source.find(&format!("{word:?}")).unwrap_or(0);
        for literal in policy.entity_literals() {
            let (kind, id) = (literal.type_name().to_string(), literal.id().unescaped().to_owned());
            let known = match kind.as_str() {
                "Target" => self.site.as_ref().and_then(|site| site.get("target")).cloned(),
                "Gateway" => Some(BTreeSet::from(["gateway"])),
                _ => None,
            };
            if let Some(known) = known.filter(|known| !known.contains(id.as_str())) {
                let hint = did_you_mean(&id, known).unwrap_or_default();
                wrong.add(place(&id), format_args!("there is no {kind}::{id:?}{hint}"));
            }
        }
        let Ok(written) = policy.to_json() else {
            wrong.add(offset, "cannot be looked through");
            return;
        };
        let tools: BTreeSet<String> =
            policy.get_valid_request_envs(schema).map(|env| env.action().id().unescaped().to_owned()).collect();
        let mut compared = Vec::new();
        comparisons(&written, &mut compared);
        for (path, word) in compared {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let Some((what, known)) = self.words(&path, &tools) else { continue };
            if word.is_empty() || known.contains(word.as_str()) {
                continue;
            }
            let hint = did_you_mean(&word, known.iter().copied());
            let message = format!("there is no {what} {word:?}{}", hint.as_deref().unwrap_or_default());
            // A segment or a tag may be written about before the first target has it.
            if matches!(what, "segment" | "tag") && hint.is_none() {
                doubtful.add(place(&word), message);
            } else {
                wrong.add(place(&word), message);
            }
        }
    }

    /// What the words compared with `path` are, and which there are; none where any text makes sense.
    fn words<'s>(&'s self, path: &[&str], tools: &BTreeSet<String>) -> Option<(&'static str, BTreeSet<&'s str>)> {
        let site = |what: &'static str| Some((what, self.site.as_ref()?.get(what)?.clone()));
        match path {
            ["principal", "scopes"] => Some(("scope", self.scopes.clone())),
            ["principal" | "resource", "engagement"] => site("engagement"),
            ["resource", "segment"] => site("segment"),
            ["resource", "tags"] => site("tag"),
            ["context", "effect"] => Some(("effect", BTreeSet::from(["read", "write", "destructive"]))),
            ["context", "risk"] => Some(("risk", BTreeSet::from(["low", "moderate", "high", "critical"]))),
            ["context", "args", name] => {
                let tools = self.arguments.iter().filter(|(tool, _)| tools.contains(**tool));
                let fields: Vec<_> = tools.filter_map(|(_, fields)| fields.0.get(*name)).collect();
                let lists = fields.iter().map(|field| field.kind.words()).collect::<Option<Vec<_>>>()?;
                let words: BTreeSet<&str> = lists.into_iter().flatten().map(String::as_str).collect();
                (!words.is_empty()).then_some(("word for this argument", words))
            }
            _ => None,
        }
    }
}

/// Whether the policy looks at `context.approved`.
pub(super) fn asks_for_approval(policy: &Policy) -> bool {
    fn looks(expression: &Value) -> bool {
        path_of(expression).is_some_and(|path| path == ["context", "approved"])
            || match expression {
                Value::Array(items) => items.iter().any(looks),
                Value::Object(fields) => fields.values().any(looks),
                _ => false,
            }
    }
    policy.to_json().is_ok_and(|written| looks(&written))
}

/// Every text that an attribute is compared with, with the attribute's path.
fn comparisons(expression: &Value, found: &mut Vec<(Vec<String>, String)>) {
    match expression {
        Value::Array(items) => items.iter().for_each(|item| comparisons(item, found)),
        Value::Object(fields) => {
            for (operator, sides) in fields {
                if COMPARISONS.contains(&operator.as_str())
                    && let (Some(left), Some(right)) = (sides.get("left"), sides.get("right"))
                {
                    for (attribute, texts) in [(left, right), (right, left)] {
                        if let Some(path) = path_of(attribute) {
                            found.extend(texts_of(texts).into_iter().map(|text| (path.clone(), text)));
                        }
                    }
                }
                comparisons(sides, found);
            }
        }
        _ => {}
    }
}

/// `context.args.unit` as its parts; none for anything else than attributes of a variable.
fn path_of(expression: &Value) -> Option<Vec<String>> {
    if let Some(variable) = expression.get("Var").and_then(Value::as_str) {
        return Some(vec![variable.to_owned()]);
    }
    let access = expression.get(".")?;
    let mut path = path_of(access.get("left")?)?;
    path.push(access.get("attr")?.as_str()?.to_owned());
    Some(path)
}

/// The texts that an expression is, or is a set of.
fn texts_of(expression: &Value) -> Vec<String> {
    let text = |value: &Value| value.get("Value").and_then(Value::as_str).map(str::to_owned);
    match expression.get("Set").and_then(Value::as_array) {
        Some(items) => items.iter().filter_map(text).collect(),
        None => text(expression).into_iter().collect(),
    }
}

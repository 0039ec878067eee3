//! The only way anything leaves. Answers for every string of a reply, an error or an audit record having been
//! cleaned of control characters, relieved of secrets and held to the limits; never decides who may see what.
//!
//! Detection is by form (tokens of known issuers, private keys, headers) and by name (`password=…`). It keeps known
//! kinds of secrets from leaving by accident; a host that wants to smuggle one out can encode it in a way no
//! detector knows.

mod control;
mod ledger;
mod name;
mod pair;
mod pem;
mod secret;
mod walk;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod properties;

use serde_json::{Map, Value};

pub use ledger::Redactions;

use crate::model::{Content, Missing};
use walk::{Findings, Walk};

/// What may leave at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardLimits {
    /// Longest string, in bytes. At least 256.
    pub max_string_bytes: usize,
    /// All parts of one reply together, in bytes as JSON, without the warnings that name the cuts. At least 16 KiB.
    pub max_total_bytes: usize,
    /// Longest list or map. At least 1.
    pub max_items: usize,
    /// Deepest nesting: `{"a": [1]}` is two. 1 to 128.
    pub max_depth: usize,
}

impl Default for GuardLimits {
    fn default() -> Self {
        Self { max_string_bytes: 256 << 10, max_total_bytes: 1 << 20, max_items: 10_000, max_depth: 64 }
    }
}

/// Lets content, texts and arguments out.
#[derive(Clone, Debug)]
pub struct Guard {
    limits: GuardLimits,
}

/// Content that may leave. Only [`Guard::release`] makes one.
#[derive(Debug)]
pub struct Output {
    content: Content,
    redactions: Redactions,
}

/// A text that may leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleaned {
    /// The text.
    pub text: String,
    /// What was taken out of it.
    pub redactions: Redactions,
}

/// Arguments that may be written down.
#[derive(Clone, Debug, PartialEq)]
pub struct CleanedArguments {
    /// The arguments. Where something was cut a mark such as `‹cut:3 items›` stands in its place.
    pub arguments: Map<String, Value>,
    /// What was taken out of them.
    pub redactions: Redactions,
}

impl Guard {
    /// A guard with these limits; those below the least that works are raised to it.
    pub fn new(limits: GuardLimits) -> Self {
        Self {
            limits: GuardLimits {
                max_string_bytes: limits.max_string_bytes.max(256),
                max_total_bytes: limits.max_total_bytes.max(16 << 10),
                max_items: limits.max_items.max(1),
                max_depth: limits.max_depth.clamp(1, 128),
            },
        }
    }

    /// `content`, fit to leave. A secret became `‹secret:<kind>#<number>›`, the same secret with the same number;
    /// what was cut is marked in strings and named in the warnings for lists, maps and depth.
    pub fn release(&self, content: Content) -> Output {
        let mut walk = Walk::new(self.limits, false);
        let mut content = Content {
            data: walk.value("data", content.data),
            changed: content.changed,
            before: content.before.map(|before| walk.value("before", before)),
            after: content.after.map(|after| walk.value("after", after)),
            partial: walk.list("partial", content.partial, |walk, missing| Missing {
                section: walk.text(missing.section),
                reason: walk.text(missing.reason),
            }),
            warnings: walk.list("warnings", content.warnings, Walk::text),
            truncated: content.truncated,
            next_cursor: content.next_cursor.map(|cursor| walk.text(cursor)),
        };
        let Findings { ledger, cut, notes } = walk.finish();
        content.truncated |= cut;
        content.warnings.extend(notes);
        Output { content, redactions: ledger.finish() }
    }

    /// `text`, fit to leave.
    pub fn text(&self, text: &str) -> Cleaned {
        let mut walk = Walk::new(self.limits, false);
        let text = walk.text(text.to_owned());
        Cleaned { text, redactions: walk.finish().ledger.finish() }
    }

    /// `arguments`, fit to be written down.
    pub fn arguments(&self, arguments: &Map<String, Value>) -> CleanedArguments {
        let mut walk = Walk::new(self.limits, true);
        let arguments = match walk.value("arguments", Value::Object(arguments.clone())) {
            Value::Object(arguments) => arguments,
            _ => Map::new(),
        };
        CleanedArguments { arguments, redactions: walk.finish().ledger.finish() }
    }
}

impl Output {
    /// What may leave.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// What may leave, and what was taken out of it.
    pub fn into_parts(self) -> (Content, Redactions) {
        (self.content, self.redactions)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn release(data: Value) -> (Content, Redactions) {
        Guard::new(GuardLimits::default()).release(Content::new(data)).into_parts()
    }

    fn small(max_string_bytes: usize, max_items: usize, max_depth: usize) -> Guard {
        Guard::new(GuardLimits { max_string_bytes, max_items, max_depth, ..GuardLimits::default() })
    }

    #[test]
    fn fields_with_telling_names_are_replaced_whatever_their_type() {
        let (content, redactions) = release(json!({
            "password": "hunter2", "inner": [{"clientSecret": 12345, "api_key": ["a", {"b": "c"}]}],
            "token": {"raw": "abc"}, "auth": "dXNlcjpwYXNzd29yZA==", "cookie": "a=b",
        }));
        let text = content.data.to_string();
        for secret in ["hunter2", "12345", "\"c\"", "abc", "dXNl", "a=b"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        assert_eq!(redactions.values().sum::<u32>(), 6);
    }

    #[test]
    fn fields_that_only_speak_of_secrets_stay() {
        let data = json!({
            "token_count": 3, "password_changed_at": "2026-01-01", "secret_name": "db", "tokens_per_minute": 9,
            "key_id": "k1", "password": null, "secret": true, "token": "", "api_key": "***", "pass": 12, "auth": "basic",
            "next_cursor": "CAUQAA", "tokens": 5, "name": "DB_PASSWORD", "cookie": "0x1f",
        });
        let (content, redactions) = release(data.clone());
        assert_eq!((content.data, redactions), (data, Redactions::new()));
    }

    #[test]
    fn names_beside_the_value_count_too() {
        let (content, _) = release(json!({
            "env": [{"name": "DB_PASSWORD", "value": "hunter2"}, {"name": "HOME", "value": "/root"}],
            "argv": ["mysqld", "--password", "hunter3", "--port", "3306"],
        }));
        assert_eq!(content.data["env"][0]["value"], "‹secret:password#1›");
        assert_eq!(content.data["env"][1]["value"], "/root");
        assert_eq!(content.data["argv"], json!(["mysqld", "--password", "‹secret:password#2›", "--port", "3306"]));
    }

    #[test]
    fn the_same_secret_has_the_same_number_in_every_part() {
        let content = Content {
            before: Some(json!({"password": "one"})),
            after: Some(json!({"password": "two"})),
            warnings: vec!["password=one".into()],
            ..Content::new(json!({"line": "password=two"}))
        };
        let (content, redactions) = Guard::new(GuardLimits::default()).release(content).into_parts();
        assert_eq!(content.data["line"], "password=‹secret:password#1›");
        assert_eq!(content.before.unwrap()["password"], "‹secret:password#2›");
        assert_eq!(content.after.unwrap()["password"], "‹secret:password#1›");
        assert_eq!(content.warnings, ["password=‹secret:password#2›"]);
        assert_eq!(redactions, Redactions::from([("password", 4)]));
    }

    #[test]
    fn hidden_characters_do_not_hide_a_secret() {
        let (content, redactions) =
            release(json!({"line": "pass\u{200B}word=hun\u{1B}[0mter2", "pass\u{2060}word": "x1"}));
        assert_eq!(content.data["line"], "password=‹secret:password#1›");
        assert_eq!(content.data["password"], "‹secret:password#2›");
        assert_eq!(redactions, Redactions::from([("control", 3), ("password", 2)]));
    }

    #[test]
    fn keys_are_cleaned_and_none_is_lost() {
        let (content, _) = release(json!({"a": 1, "a\u{200B}": 2, "password=hunter2": 3}));
        assert_eq!(content.data, json!({"a": 1, "a‹2›": 2, "password=‹secret:password#1›": 3}));
    }

    #[test]
    fn long_strings_are_cut_between_characters_and_say_so() {
        let (content, _) = small(256, 10, 10).release(Content::new(json!({"text": "€".repeat(200)}))).into_parts();
        let text = content.data["text"].as_str().unwrap();
        let (head, mark) = text.split_once('‹').unwrap();
        assert!(text.len() <= 256 && content.truncated);
        assert_eq!(mark, format!("cut:{} bytes›", 600 - head.len()));
    }

    #[test]
    fn a_secret_at_the_cut_does_not_leave_in_half() {
        for lead in 150..260 {
            let text = format!("{} password=hunter2hunter2 {}", "x".repeat(lead), "y".repeat(300));
            let cleaned = small(256, 10, 10).text(&text);
            assert!(!cleaned.text.contains("hunt") && !cleaned.text.contains("‹s") || cleaned.text.contains("#1›"));
            assert_eq!(small(256, 10, 10).text(&cleaned.text).text, cleaned.text);
        }
    }

    #[test]
    fn long_lists_and_deep_nestings_are_cut_and_named() {
        let data = json!({"list": [1, 2, 3, 4, 5], "deep": {"deeper": {"deepest": [1]}}});
        let (content, _) = small(256, 3, 3).release(Content::new(data)).into_parts();
        assert_eq!(content.data["list"], json!([1, 2, 3]));
        assert_eq!(content.data["deep"]["deeper"]["deepest"], "‹cut:1 nested too deeply›");
        assert!(content.truncated);
        assert!(content.warnings.contains(&"cut after 3 of 5 items: data.list".to_owned()), "{:?}", content.warnings);
        assert_eq!(content.warnings.len(), 2);
    }

    #[test]
    fn short_fields_behind_a_list_that_is_too_big_survive() {
        let data = json!({"entries": vec!["x".repeat(1000); 100], "total": 100, "unit": "lines"});
        let guard = Guard::new(GuardLimits { max_total_bytes: 16 << 10, ..GuardLimits::default() });
        let (content, _) = guard.release(Content::new(data)).into_parts();
        assert_eq!((&content.data["total"], &content.data["unit"]), (&json!(100), &json!("lines")));
        assert!(content.truncated && content.data["entries"].as_array().unwrap().len() < 16);
        assert!(content.data.to_string().len() <= 16 << 10);
    }

    #[test]
    fn what_is_cut_from_arguments_is_marked_in_place() {
        let Value::Object(arguments) = json!({"list": [1, 2, 3, 4, 5], "password": "x1"}) else { unreachable!() };
        let guard = small(256, 3, 10);
        let cleaned = guard.arguments(&arguments);
        assert_eq!(cleaned.arguments["list"], json!([1, 2, "‹cut:3 items›"]));
        assert_eq!(cleaned.arguments["password"], "‹secret:password#1›");
        assert_eq!(guard.arguments(&cleaned.arguments).arguments, cleaned.arguments);
    }

    #[test]
    fn ordinary_content_is_as_it_was() {
        let content = Content {
            changed: Some(true),
            next_cursor: Some("web-1".into()),
            warnings: vec!["nothing to do".into()],
            ..Content::new(json!({"a": [1, 2.5, null, true, "x"], "b": {"c": "d"}}))
        };
        let (released, redactions) = Guard::new(GuardLimits::default()).release(content.clone()).into_parts();
        assert_eq!((released, redactions), (content, Redactions::new()));
    }
}

//! What holds for every input.

use proptest::{collection::vec, prelude::*};
use serde_json::{Map, Value, json};

use super::{Guard, GuardLimits, corpus::tokens};
use crate::{
    config,
    model::{Content, Missing},
};

fn guard() -> Guard {
    Guard::new(GuardLimits::default(), &config::Guard::default())
}

/// Pieces that detectors and the cleaner look for, so that random texts come near them.
fn piece() -> impl Strategy<Value = String> {
    let forms: Vec<String> = tokens().into_iter().map(|(_, token)| token).collect();
    let signs = [
        "password",
        "token",
        "secret",
        "api_key",
        "--password",
        "-----BEGIN PRIVATE KEY-----",
        "-----END PRIVATE KEY-----",
        "Authorization: Bearer ",
        "Cookie: a=",
        "://u:",
        "@",
        "=",
        ": ",
        ":",
        "\"",
        "'",
        "\\",
        "\\\"",
        "&",
        ",",
        ";",
        "[",
        "]",
        "<",
        ">",
        "{",
        "}",
        "(",
        ")",
        " ",
        "\n",
        "\t",
        "\u{1B}[1m",
        "\u{1B}]0;",
        "\u{7}",
        "\0",
        "\r",
        "\u{200B}",
        "\u{202E}",
        "\u{9B}",
        "\u{E0041}",
        "‹secret:token#1›",
        "‹secret:",
        "‹cut:1 bytes›",
        "‹",
        "›",
        "$",
        "${X}",
        "***",
        "hunter2",
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEA",
    ];
    prop_oneof![
        6 => proptest::sample::select(signs.map(str::to_owned).to_vec()),
        2 => proptest::sample::select(forms),
        2 => "[ -~]{0,12}",
        1 => "\\PC{0,6}",
        1 => any::<String>(),
    ]
}

fn text() -> impl Strategy<Value = String> {
    vec(piece(), 0..14).prop_map(|pieces| pieces.concat())
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((text(), inner), 0..6).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn content() -> impl Strategy<Value = Content> {
    (json_value(), proptest::option::of(json_value()), vec(text(), 0..3), proptest::option::of(text())).prop_map(
        |(data, before, warnings, next_cursor)| Content {
            before,
            partial: warnings.iter().map(|text| Missing { section: text.clone(), reason: text.clone() }).collect(),
            warnings,
            next_cursor,
            ..Content::new(data)
        },
    )
}

/// Everything of a reply as one JSON value.
fn whole(content: &Content) -> Value {
    json!([content.data, content.before, content.after, content.partial, content.warnings, content.next_cursor])
}

fn strings<'v>(value: &'v Value, visit: &mut impl FnMut(&'v str)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(items) => items.iter().for_each(|item| strings(item, visit)),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            visit(key);
            strings(value, visit);
        }),
        _ => {}
    }
}

/// Every text is as long as its limit allows, a mark of what was cut included; the limit on keys is their own.
fn fits(value: &Value) {
    match value {
        Value::String(text) => assert!(text.len() <= 256 || text.len() <= 1024 && text.contains('›'), "{text:?}"),
        Value::Array(items) => items.iter().for_each(fits),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            assert!(key.len() <= 1024, "{key:?}");
            fits(value);
        }),
        _ => {}
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) if !items.is_empty() => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) if !fields.is_empty() => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn longest(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(longest).max().unwrap_or(0).max(items.len()),
        Value::Object(fields) => fields.values().map(longest).max().unwrap_or(0).max(fields.len()),
        _ => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn guarding_twice_changes_nothing(text in text()) {
        let once = guard().text(&text);
        let twice = guard().text(&once.text);
        prop_assert_eq!(&twice.text, &once.text);
        prop_assert!(twice.redactions.is_empty(), "{:?} in {:?}", twice.redactions, once.text);
    }

    #[test]
    fn releasing_twice_changes_nothing(content in content()) {
        let once = guard().release(content);
        let twice = guard().release(once.content().clone());
        prop_assert_eq!(twice.content(), once.content());
    }

    #[test]
    fn nothing_invisible_leaves(content in content()) {
        let output = guard().release(content);
        strings(&whole(output.content()), &mut |text| {
            for c in text.chars() {
                assert!(!c.is_control() || c == '\n' || c == '\t', "{text:?}");
                assert!(!matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2064}'
                    | '\u{2066}'..='\u{2069}' | '\u{FEFF}' | '\u{E0000}'..='\u{E007F}'), "{text:?}");
            }
        });
    }

    #[test]
    fn limits_hold(
        content in content(),
        long in "[a-z\"\\\\\n€]{0,900}",
        copies in 0usize..60,
        max_items in 1usize..6,
        max_depth in 1usize..6,
    ) {
        let mut content = content;
        content.after = Some(Value::from(vec![long; copies]));
        let limits = GuardLimits { max_string_bytes: 256, max_total_bytes: 16 << 10, max_items, max_depth };
        let output = Guard::new(limits, &config::Guard::default()).release(content.clone());
        let released = output.content();
        let parts = [&released.data, released.before.as_ref().unwrap_or(&Value::Null), released.after.as_ref().unwrap_or(&Value::Null)];
        for part in parts {
            prop_assert!(depth(part) <= max_depth && longest(part) <= max_items);
            fits(part);
        }
        prop_assert!(serde_json::to_string(&parts).unwrap().len() <= limits.max_total_bytes);
        if content.after.as_ref().is_some_and(|after| longest(after) > max_items) {
            prop_assert!(released.truncated);
        }
    }

    #[test]
    fn a_token_leaves_from_nowhere(
        value in json_value(),
        which in 0..tokens().len(),
        path in vec((any::<bool>(), "[a-zA-Z_ ]{0,10}"), 0..20),
        around in ("[ -~]{0,20}[ \"=:(]", "[ \"',;)][ -~]{0,20}"),
        as_key in any::<bool>(),
    ) {
        let (kind, token) = tokens().swap_remove(which);
        // A random part could hold the token where it is none, as in `Ask-…`.
        prop_assume!(!value.to_string().contains(&token));
        let text = format!("{}{token}{}", around.0, around.1);
        let mut secret = if as_key { json!({ text: value }) } else { json!([value, text]) };
        for (list, key) in path {
            secret = if list { json!([1, secret]) } else { json!({ key: secret }) };
        }
        let output = guard().release(Content { before: Some(secret.clone()), ..Content::new(secret.clone()) });
        let (released, redactions, _) = output.into_parts();
        strings(&whole(&released), &mut |text| assert!(!text.contains(&token), "{kind} in {text:?}"));
        prop_assert!(!redactions.is_empty());
        let arguments: Map<String, Value> = [("x".to_owned(), secret)].into_iter().collect();
        let cleaned = guard().arguments(&arguments);
        strings(&Value::Object(cleaned.arguments), &mut |text| assert!(!text.contains(&token), "{kind} in {text:?}"));
    }

    #[test]
    fn a_value_under_a_telling_name_leaves_from_nowhere(
        secret in "[A-Za-z0-9!#%+~]{8,40}",
        name in proptest::sample::select(vec!["password", "clientSecret", "API_KEY", "db-token", "X-Auth-Token"]),
        path in vec((any::<bool>(), "[a-zA-Z_ ]{0,10}"), 0..20),
        nested in 0usize..4,
    ) {
        let inner = match nested {
            0 => json!(secret),
            1 => json!([secret, 1]),
            2 => json!({ "inner": { "deeper": [secret] } }),
            _ => json!({ secret.clone(): 1 }),
        };
        prop_assume!(!super::name::placeholder(&secret));
        let mut value = json!({ name: inner });
        for (list, key) in path {
            value = if list { json!([1, value]) } else { json!({ key: value }) };
        }
        let (released, ..) = guard().release(Content::new(value)).into_parts();
        strings(&whole(&released), &mut |text| assert!(!text.contains(&secret), "{text:?}"));
    }
}

//! One rule of the capability, as the gateway reads it: what is wrong with its form. A rule that the gateway does not
//! understand shuts its peer out, so a policy must not have one.

use crate::model::{Risk, Scope};

use super::hujson::{Kind, Node};

/// What the gateway would refuse in this rule, and what would be right. None if nothing.
pub(super) fn fault(rule: &Node) -> Option<String> {
    let Kind::Map(entries) = &rule.kind else {
        return Some("a rule must be an object, such as {\"scopes\": [\"readonly\"]}".to_owned());
    };
    for entry in entries {
        let value = &entry.value;
        let fault = match entry.name.as_str() {
            "scopes" => texts(value, |scope| Scope::parse(scope).err().map(|error| error.to_string())),
            "targets" | "engagements" => texts(value, |id| (!is_id(id)).then(|| format!("{id:?} is no id"))),
            "approve" => approve(value),
            _ => Some("unknown; a rule has scopes, targets, engagements and approve".to_owned()),
        };
        if let Some(fault) = fault {
            return Some(format!("{:?}: {fault}", entry.name));
        }
    }
    let has = |name: &str| entries.iter().any(|entry| entry.name == name);
    (!has("scopes") && !has("approve")).then(|| "has neither scopes nor approve, and so gives nothing".to_owned())
}

fn approve(value: &Node) -> Option<String> {
    const RIGHT: &str = "must be true, or an object of risks, segments and tools";
    let entries = match &value.kind {
        Kind::Plain(serde_json::Value::Bool(true)) => return None,
        Kind::Map(entries) => entries,
        _ => return Some(RIGHT.to_owned()),
    };
    let risk = |risk: &str| {
        let known = [Risk::Low, Risk::Moderate, Risk::High, Risk::Critical].map(Risk::as_str);
        (!known.contains(&risk)).then(|| format!("{risk:?} is no risk: {}", known.join(", ")))
    };
    entries.iter().find_map(|entry| {
        let fault = match entry.name.as_str() {
            "risks" => texts(&entry.value, risk),
            "segments" | "tools" => texts(&entry.value, |_| None),
            _ => Some(format!("unknown; approve {RIGHT}")),
        };
        fault.map(|fault| format!("{:?}: {fault}", entry.name))
    })
}

/// What is wrong with a list that must have at least one text, each of which `fault` takes.
fn texts(value: &Node, fault: impl Fn(&str) -> Option<String>) -> Option<String> {
    match &value.kind {
        Kind::List(items) if !items.is_empty() => items.iter().find_map(|item| match item.text() {
            Some("") | None => Some("each must be a text".to_owned()),
            Some(text) => fault(text),
        }),
        Kind::List(_) => Some("is empty, which gives nothing: leave it out, or name something".to_owned()),
        _ => Some("must be a list".to_owned()),
    }
}

fn is_id(text: &str) -> bool {
    text.len() <= 64
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::{super::hujson::Document, *};

    fn of(rule: &str) -> Option<String> {
        let text = format!("{{\"rule\": {rule}}}");
        fault(&Document::read(&text).unwrap().sections().first().unwrap().value)
    }

    #[test]
    fn only_rules_the_gateway_reads_are_fine() {
        for fine in [
            r#"{"scopes": ["readonly"]}"#,
            r#"{"scopes": ["system:read", "container:control"], "targets": ["web-1"], "engagements": ["default"]}"#,
            r#"{"approve": true}"#,
            r#"{"approve": {"risks": ["critical"], "segments": ["prod"], "tools": ["file_delete"]}}"#,
        ] {
            assert_eq!(of(fine), None, "{fine}");
        }
        for (wrong, what) in [
            ("1", "an object"),
            ("[]", "an object"),
            ("{}", "neither scopes nor approve"),
            (r#"{"targets": ["a"]}"#, "neither"),
            (r#"{"scopes": []}"#, "is empty"),
            (r#"{"scopes": "readonly"}"#, "must be a list"),
            (r#"{"scopes": ["readonyl"]}"#, "did you mean `readonly`?"),
            (r#"{"scopes": [1]}"#, "must be a text"),
            (r#"{"Scopes": ["readonly"]}"#, "unknown"),
            (r#"{"scopes": ["readonly"], "role": "x"}"#, r#""role": unknown"#),
            (r#"{"scopes": ["readonly"], "targets": ["../x"]}"#, "is no id"),
            (r#"{"approve": false}"#, "must be true"),
            (r#"{"approve": {"risks": ["huge"]}}"#, "is no risk"),
            (r#"{"approve": {"all": true}}"#, "unknown"),
        ] {
            assert!(of(wrong).is_some_and(|fault| fault.contains(what)), "{wrong}: {:?}", of(wrong));
        }
    }
}

//! JSON for people: one value a line, indented, without quotes where they say nothing. A text of several lines stands
//! behind bars, so that none of its lines looks like ours.

use serde_json::Value;

use crate::cli::visible::visible;

/// The lines of `value`, without control characters.
pub(super) fn lines(value: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| entry(&visible(name), value, 0, &mut lines)),
        Value::Array(items) => items.iter().for_each(|item| entry("-", item, 0, &mut lines)),
        scalar => entry("", scalar, 0, &mut lines),
    }
    lines
}

fn entry(name: &str, value: &Value, depth: usize, lines: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    // A list's dash needs no colon.
    let label = if name.is_empty() || name == "-" { name.to_owned() } else { format!("{name}:") };
    let mut line = |text: &str| lines.push(format!("{indent}{label} {text}").trim_end().to_owned());
    match value {
        Value::Object(fields) if fields.is_empty() => line("{}"),
        Value::Array(items) if items.is_empty() => line("[]"),
        Value::Object(fields) => {
            line("");
            for (name, value) in fields {
                entry(&visible(name), value, depth + 1, lines);
            }
        }
        Value::Array(items) => {
            line("");
            for item in items {
                entry("-", item, depth + 1, lines);
            }
        }
        Value::String(text) if text.trim_end_matches('\n').contains('\n') => {
            line("");
            lines.extend(text.lines().map(|line| format!("{indent}  │ {}", visible(line))));
        }
        Value::String(text) if is_plain(text) => line(&visible(text)),
        Value::String(text) => line(&visible(&Value::from(text.as_str()).to_string())),
        other => line(&other.to_string()),
    }
}

/// Whether `text` reads as itself without quotes around it.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.trim() == text
        && !text.starts_with(['"', '{', '['])
        && !matches!(text, "null" | "true" | "false")
        && text.parse::<f64>().is_err()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_stand_a_line_each() {
        let value = json!({"diff": "-old\n+new\n", "empty": "", "inner": {"deep": true}, "list": ["x", {"y": []}],
            "n": 3, "none": null, "path": "/a b", "text": "3"});
        let wanted = [
            "diff:",
            "  │ -old",
            "  │ +new",
            "empty: \"\"",
            "inner:",
            "  deep: true",
            "list:",
            "  - x",
            "  -",
            "    y: []",
            "n: 3",
            "none: null",
            "path: /a b",
            "text: \"3\"",
        ];
        assert_eq!(lines(&value), wanted);
    }

    #[test]
    fn a_text_neither_steers_the_terminal_nor_passes_for_ours() {
        let value = json!({"a\u{1b}[2J\nhash: x": "first\nhash: sha256:0\r\u{1b}]0;title\u{7}"});
        let shown = lines(&value);
        assert!(shown.iter().all(|line| !line.chars().any(char::is_control)), "{shown:?}");
        assert!(!shown.iter().any(|line| line.starts_with("hash")), "{shown:?}");
        assert_eq!(shown.len(), 3);
    }
}

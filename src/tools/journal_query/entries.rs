//! Reads `journalctl -o json`: one object a line, fields as text, null (too long) or an array of bytes
//! (`journalctl(1)`, "JSON"). Parses text only.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

/// One journal entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(in crate::tools) struct Entry {
    /// RFC 3339, UTC
    pub(in crate::tools) time: String,
    pub(in crate::tools) unit: Option<String>,
    pub(in crate::tools) identifier: Option<String>,
    pub(in crate::tools) pid: Option<u32>,
    /// 0 (emerg) to 7 (debug)
    pub(in crate::tools) priority: Option<u8>,
    /// Null where the journal gave none, as for very long ones
    pub(in crate::tools) message: Option<String>,
    #[serde(skip)]
    pub(in crate::tools) cursor: String,
}

/// What the text held.
#[derive(Debug, Default)]
pub(in crate::tools) struct Read {
    /// The entries, in the order they came, up to the first line that is none.
    pub(in crate::tools) entries: Vec<Entry>,
    /// Whether a line was no entry: the rest was left unread, so that no page loses entries in its middle.
    pub(in crate::tools) broken: bool,
}

/// The entries in `text`. Empty lines and `journalctl`'s own remarks (`-- … --`) are skipped.
pub(in crate::tools) fn read(text: &str) -> Read {
    let mut read = Read::default();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("-- ")) {
        match serde_json::from_str(line).ok().and_then(|fields| entry(&fields)) {
            Some(entry) => read.entries.push(entry),
            None => {
                read.broken = true;
                break;
            }
        }
    }
    read
}

fn entry(fields: &Map<String, Value>) -> Option<Entry> {
    let field = |name: &str| fields.get(name).and_then(text);
    let micros: i64 = field("__REALTIME_TIMESTAMP")?.parse().ok()?;
    Some(Entry {
        time: Timestamp::from_microsecond(micros).ok()?.to_string(),
        // What systemd itself says about a unit carries that unit's name in UNIT.
        unit: field("UNIT").or_else(|| field("_SYSTEMD_UNIT")),
        identifier: field("SYSLOG_IDENTIFIER"),
        pid: field("_PID").and_then(|pid| pid.parse().ok()),
        priority: field("PRIORITY").and_then(|priority| priority.parse().ok()).filter(|priority| *priority <= 7),
        message: field("MESSAGE"),
        cursor: field("__CURSOR")?,
    })
}

/// A field's value as text: bytes that are not UTF-8 become U+FFFD; a field given several times takes several lines.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => {
            let bytes: Option<Vec<u8>> =
                items.iter().map(|item| item.as_u64().and_then(|byte| u8::try_from(byte).ok())).collect();
            match bytes {
                Some(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
                // One level only: the journal nests no deeper.
                None => {
                    let lines: Vec<String> = items.iter().filter(|item| !is_nested(item)).filter_map(text).collect();
                    Some(lines.join("\n"))
                }
            }
        }
        _ => None,
    }
}

/// Whether an array holds anything but bytes.
fn is_nested(value: &Value) -> bool {
    value.as_array().is_some_and(|items| items.iter().any(|item| !item.is_u64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_message_is_read() {
        let line = |message: &str| {
            format!(
                r#"{{"__REALTIME_TIMESTAMP":"1795251308080742","__CURSOR":"s=1","PRIORITY":"3","MESSAGE":{message}}}"#
            )
        };
        for (message, wanted) in [
            (r#""plain""#, Some("plain")),
            ("null", None),
            ("[104,105]", Some("hi")),
            ("[255,104]", Some("\u{fffd}h")),
            (r#"["a","b"]"#, Some("a\nb")),
            (r#"[[104],"b",[["x"]]]"#, Some("h\nb")),
            ("[300]", Some("")),
            ("{}", None),
        ] {
            let read = read(&line(message));
            assert_eq!(read.entries[0].message.as_deref(), wanted, "{message}");
            assert_eq!(read.entries[0].time, "2026-11-21T08:55:08.080742Z");
        }
    }

    #[test]
    fn reading_stops_where_the_text_breaks() {
        let good = r#"{"__REALTIME_TIMESTAMP":"1","__CURSOR":"s=1"}"#;
        assert!(!read("-- No entries --\n").broken);
        let cut = read(&format!("{good}\n[… 5 bytes dropped …]\n{good}\n"));
        assert!(cut.broken && cut.entries.len() == 1);
        for bad in ["{}", "[]", "{\"__REALTIME_TIMESTAMP\":\"x\"}", &"[".repeat(5000)] {
            assert!(read(bad).broken, "{bad:.20}");
        }
    }
}

//! What a job said, out of the target's journal: `journalctl -o json`, one object a line. Reads text only.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::model::ScriptOutput;

/// One line of a job's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// When the target heard it.
    pub at: Option<Timestamp>,
    /// What it says.
    pub text: String,
}

/// The lines in the section `log` of a look, or the reason that there is none.
pub(super) fn lines(output: &ScriptOutput) -> Result<Vec<LogLine>, String> {
    let sections = output.sections();
    let section = sections.iter().rev().find(|section| section.name == "log").ok_or("unreadable")?;
    let text = section.content.as_ref().map_err(Clone::clone)?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(line).collect())
}

fn line(text: &[u8]) -> Option<LogLine> {
    let entry: Value = serde_json::from_slice(text).ok()?;
    let at = entry.get("__REALTIME_TIMESTAMP").and_then(Value::as_str).and_then(|at| at.parse().ok());
    let text = match entry.get("MESSAGE")? {
        Value::String(text) => text.clone(),
        // Bytes that are no text come as numbers; what is too long comes as nothing.
        Value::Array(bytes) => {
            let bytes: Vec<u8> = bytes.iter().filter_map(|byte| u8::try_from(byte.as_u64()?).ok()).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        _ => return None,
    };
    Some(LogLine { at: at.and_then(|at| Timestamp::from_microsecond(at).ok()), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_the_journal_writes_them() {
        let read = |text: &str| line(text.as_bytes());
        let plain = read(r#"{"__REALTIME_TIMESTAMP":"1795219200000000","MESSAGE":"Hit:1 x"}"#).unwrap();
        assert_eq!((plain.at.unwrap().as_second(), plain.text.as_str()), (1_795_219_200, "Hit:1 x"));
        assert_eq!(read(r#"{"MESSAGE":[104,255,105]}"#).unwrap().text, "h\u{fffd}i");
        for nothing in ["", "{", "[]", r#"{"MESSAGE":null}"#, r#"{"OTHER":"x"}"#] {
            assert_eq!(read(nothing), None, "{nothing}");
        }
    }
}

//! Groups journal entries whose messages differ only in numbers, ids and addresses. Pure.

use std::{collections::HashMap, net::IpAddr};

use schemars::JsonSchema;
use serde::Serialize;

use super::entries::Entry;

/// Like messages of one unit and priority.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Group {
    unit: Option<String>,
    priority: Option<u8>,
    /// The message with `<n>`, `<hex>`, `<uuid>`, `<ip>` for what varies
    template: String,
    pub(super) count: u32,
    /// RFC 3339, UTC
    first: String,
    last: String,
    /// The newest message, at most 500 characters
    sample: Option<String>,
}

/// A longer message is grouped by its start.
const TEMPLATE_CHARS: usize = 300;
const SAMPLE_CHARS: usize = 500;

/// The groups of `entries` (newest first), the most frequent first, then the most severe.
pub(super) fn group(entries: &[Entry]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut places: HashMap<(Option<String>, Option<u8>, String), usize> = HashMap::new();
    for entry in entries {
        let name = entry.unit.clone().or_else(|| entry.identifier.clone());
        let message: String = entry.message.as_deref().unwrap_or_default().chars().take(TEMPLATE_CHARS).collect();
        let template = template(&message);
        let place = *places.entry((name.clone(), entry.priority, template.clone())).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => {
                group.count += 1;
                group.first.clone_from(&entry.time);
            }
            None => groups.push(Group {
                unit: name,
                priority: entry.priority,
                template,
                count: 1,
                first: entry.time.clone(),
                last: entry.time.clone(),
                sample: entry.message.as_ref().map(|message| message.chars().take(SAMPLE_CHARS).collect()),
            }),
        }
    }
    groups.sort_by_key(|group| (std::cmp::Reverse(group.count), group.priority.unwrap_or(u8::MAX)));
    groups
}

/// `message` with what varies from one message to the next masked.
pub(super) fn template(message: &str) -> String {
    let mut masked = String::with_capacity(message.len());
    let mut rest = message;
    while !rest.is_empty() {
        let inside = |c: char| c.is_ascii_alphanumeric() || ".:-_".contains(c);
        let word = rest.find(|c: char| !inside(c)).unwrap_or(rest.len());
        let (run, behind) = rest.split_at(word);
        let core = run.trim_end_matches(['.', ':', '-']);
        mask(core, &mut masked);
        masked.push_str(run.get(core.len()..).unwrap_or_default());
        let gap = behind.find(inside).unwrap_or(behind.len());
        let (between, next) = behind.split_at(gap);
        masked.push_str(between);
        rest = next;
    }
    masked
}

fn mask(word: &str, masked: &mut String) {
    if word.parse::<IpAddr>().is_ok() {
        return masked.push_str("<ip>");
    }
    if let Some((address, port)) = word.rsplit_once(':')
        && address.parse::<IpAddr>().is_ok()
        && port.parse::<u16>().is_ok()
    {
        return masked.push_str("<ip>:<n>");
    }
    if word.len() == 36 && uuid::Uuid::try_parse(word).is_ok() {
        return masked.push_str("<uuid>");
    }
    // Each part between punctuation is a number, hex or plain text with digits in it.
    let mut rest = word;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (part, behind) = rest.split_at(end);
        if is_hex(part) {
            masked.push_str("<hex>")
        } else {
            digits(part, masked)
        }
        let mut behind = behind.chars();
        masked.extend(behind.next());
        rest = behind.as_str();
    }
}

/// Eight or more hex digits with both kinds of digits among them, or `0x…`.
fn is_hex(part: &str) -> bool {
    let hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match part.strip_prefix("0x") {
        Some(digits) => hex(digits),
        None => {
            let has = |kind: fn(&u8) -> bool| part.as_bytes().iter().any(kind);
            part.len() >= 8 && hex(part) && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic)
        }
    }
}

fn digits(part: &str, masked: &mut String) {
    let mut within = false;
    for c in part.chars() {
        if c.is_ascii_digit() {
            if !within {
                masked.push_str("<n>");
            }
            within = true;
        } else {
            masked.push(c);
            within = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_varies_is_masked() {
        for (message, wanted) in [
            ("Accepted from 10.0.0.7 port 22.", "Accepted from <ip> port <n>."),
            ("peer 10.0.0.7:443: reset", "peer <ip>:<n>: reset"),
            ("via fe80::1, [2001:db8::5]:80", "via <ip>, [<ip>]:<n>"),
            ("id 6fa459ea-ee8a-3ca4-894e-db77e160355e done", "id <uuid> done"),
            ("commit deadbeef01 at 0xff", "commit <hex> at <hex>"),
            ("sda1 12ms facade", "sda<n> <n>ms facade"),
            ("at 2026-11-21T08:46:21", "at <n>-<n>-<n>T<n>:<n>:<n>"),
            ("naïve … 3", "naïve … <n>"),
            ("", ""),
        ] {
            assert_eq!(template(message), wanted);
        }
    }

    #[test]
    fn like_messages_are_counted_together() {
        let entry = |time: &str, message: &str, priority| Entry {
            time: time.into(),
            unit: Some("a.service".into()),
            identifier: None,
            pid: None,
            priority: Some(priority),
            message: Some(message.into()),
            cursor: String::new(),
        };
        let groups = group(&[
            entry("t4", "took 5 ms", 6),
            entry("t3", "took 5 ms", 3),
            entry("t2", "x", 6),
            entry("t1", "took 71 ms", 6),
        ]);
        assert_eq!(groups.len(), 3);
        let top = &groups[0];
        assert_eq!((top.count, &*top.first, &*top.last, top.sample.as_deref()), (2, "t1", "t4", Some("took 5 ms")));
        assert_eq!(groups[1].priority, Some(3), "the more severe comes first");
    }

    proptest! {
        #[test]
        fn masking_is_stable(text in "\\PC{0,80}") {
            let once = template(&text);
            prop_assert!(!once.chars().any(|c| c.is_ascii_digit()));
        }
    }
}

//! What the service and journal tools know about systemd: unit names, `systemctl show` output, its time formats, and
//! how a script asks for more rights. Parses text only; runs nothing and decides nothing.

use std::collections::BTreeMap;

use jiff::{
    Timestamp,
    civil::DateTime,
    tz::{Offset, TimeZone},
};
use serde::{Deserialize, Serialize};

use super::ToolError;
use crate::model::{Missing, Section, SudoPolicy, Target};

/// The properties of one unit, as `systemctl show` prints them. A property printed several times keeps one value a
/// line.
pub(super) type Properties = BTreeMap<String, String>;

/// Every suffix systemd gives to a kind of unit (`systemd.unit(5)`).
const SUFFIXES: &[&str] =
    &["service", "socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope"];

/// `text` as a full unit name by the grammar of `systemd.unit(5)`, `.service` appended where no kind is named, as
/// `systemctl` does. Only `kinds` are accepted. Errors name `field`. Refuses what `systemctl` would take for
/// an option, a path or a pattern.
pub(super) fn unit_name(field: &str, text: &str, kinds: &[&str]) -> Result<String, ToolError> {
    let refuse = |wanted: String| Err(ToolError::invalid(field, wanted));
    if text.starts_with(['-', '.', '@']) || text.is_empty() {
        return refuse("must be a unit name such as nginx.service, starting with a letter or digit".into());
    }
    if let Some(bad) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || ":-_.\\@".contains(*c))) {
        return refuse(format!("must be one unit name; {bad:?} is not allowed in it"));
    }
    let suffix = text.rsplit_once('.').map(|(_, suffix)| suffix).filter(|suffix| SUFFIXES.contains(suffix));
    let (name, suffix) = match suffix {
        Some(suffix) => (text.to_owned(), suffix),
        None => (format!("{text}.service"), "service"),
    };
    if !kinds.contains(&suffix) {
        return refuse(format!("must be a unit of kind {}, not {suffix}", kinds.join(", ")));
    }
    if name.len() > 255 {
        return refuse("must be at most 255 bytes long".into());
    }
    if name.contains("@.") {
        return refuse("is a template: name an instance, such as name@instance.service".into());
    }
    Ok(name)
}

/// All kinds of units.
pub(super) fn all_kinds() -> &'static [&'static str] {
    SUFFIXES
}

/// The blocks of `systemctl show`: one a unit, separated by blank lines. Lines without `=` are skipped.
pub(super) fn blocks(text: &str) -> Vec<Properties> {
    let mut blocks = vec![Properties::new()];
    for line in text.lines() {
        if line.is_empty() {
            blocks.push(Properties::new());
        } else if let (Some((key, value)), Some(block)) = (line.split_once('='), blocks.last_mut()) {
            let slot: &mut String = block.entry(key.to_owned()).or_default();
            if !slot.is_empty() {
                slot.push('\n');
            }
            slot.push_str(value);
        }
    }
    blocks.retain(|block| !block.is_empty());
    blocks
}

/// A property that says something: not empty, not one of systemd's words for nothing.
pub(super) fn value<'a>(unit: &'a Properties, key: &str) -> Option<&'a str> {
    unit.get(key).map(String::as_str).filter(|value| !matches!(*value, "" | "[not set]" | "n/a"))
}

/// A property that is a number; systemd prints 2^64-1 for "not set".
pub(super) fn number(unit: &Properties, key: &str) -> Option<u64> {
    value(unit, key)?.parse().ok().filter(|number| *number != u64::MAX)
}

/// A point in time as `systemctl` prints it with `TZ=UTC` (`Sat 2026-11-21 08:46:21 UTC`).
pub(super) fn timestamp(text: &str) -> Option<Timestamp> {
    let text = text.strip_suffix(" UTC")?;
    let (_weekday, text) = text.split_once(' ')?;
    let civil = DateTime::strptime("%Y-%m-%d %H:%M:%S%.f", text).ok()?;
    civil.to_zoned(TimeZone::fixed(Offset::UTC)).ok().map(|zoned| zoned.timestamp())
}

/// A time span as `systemctl` prints it (`1h 2min 3.5s`), in microseconds. A year is 365.25 days and a month a twelfth
/// of it, as in `systemd.time(7)`.
pub(super) fn span_us(text: &str) -> Option<i64> {
    let mut total = 0_f64;
    for word in text.split_whitespace() {
        let unit = word.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, unit) = word.split_at_checked(unit)?;
        let scale = match unit {
            "y" => 31_557_600e6,
            "month" => 2_629_800e6,
            "w" => 604_800e6,
            "d" => 86_400e6,
            "h" => 3_600e6,
            "min" => 60e6,
            "s" => 1e6,
            "ms" => 1e3,
            "us" => 1.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * scale;
    }
    // A span longer than a few thousand years is no date; the cast below stays exact.
    (total > 0.0 && total < 1e17).then_some(total as i64)
}

/// The word that tells a script whether to change things through `sudo -n`.
pub(super) fn sudo_word(target: &Target) -> &'static str {
    match target.sudo {
        SudoPolicy::None => "direct",
        SudoPolicy::Limited | SudoPolicy::Full => "sudo",
    }
}

/// The last section of this name; none where the script printed no such section.
pub(super) fn section<'a>(sections: &'a [Section], name: &str) -> Option<&'a Section> {
    sections.iter().rev().find(|section| section.name == name)
}

/// The sections that a script could not have, as they go into `partial`.
pub(super) fn missing(sections: &[Section]) -> Vec<Missing> {
    let missing = sections.iter().filter_map(|section| Some((section, section.content.as_ref().err()?)));
    missing.map(|(section, reason)| Missing { section: section.name.clone(), reason: reason.clone() }).collect()
}

/// A unit's state, before or after a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UnitState {
    pub(super) load: String,
    pub(super) active: String,
    pub(super) sub: String,
    pub(super) main_pid: Option<u64>,
    pub(super) result: Option<String>,
    pub(super) exit_status: Option<u64>,
    pub(super) restarts: Option<u64>,
    pub(super) invocation_id: Option<String>,
}

impl UnitState {
    /// The state that these properties tell.
    pub(super) fn read(unit: &Properties) -> Self {
        let text = |key| value(unit, key).map(str::to_owned);
        Self {
            load: text("LoadState").unwrap_or_default(),
            active: text("ActiveState").unwrap_or_default(),
            sub: text("SubState").unwrap_or_default(),
            main_pid: number(unit, "MainPID").filter(|pid| *pid != 0),
            result: text("Result"),
            exit_status: number(unit, "ExecMainStatus"),
            restarts: number(unit, "NRestarts"),
            invocation_id: text("InvocationID"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_systemctl_would_read_otherwise_are_refused() {
        let bad = [
            "",
            "-H",
            "--root=/x",
            "a/b.service",
            "../x.service",
            "ss*",
            "ssh?.service",
            "[s]sh",
            "a b",
            "ssh\n",
            "ssh;id",
            ".service",
            "@x.service",
            "ssh@.service",
            "naïve.service",
            "x\0y",
            "-.mount",
        ];
        for name in bad {
            let error = unit_name("unit", name, &["service", "mount"]).unwrap_err();
            assert!(error.message.starts_with("`unit`"), "{name:?}: {error}");
        }
        assert!(unit_name("unit", "home.mount", &["service"]).is_err());
        assert!(unit_name("unit", &"x".repeat(248), &["service"]).is_err());
    }

    #[test]
    fn names_are_completed_as_systemctl_does() {
        for (given, full) in [
            ("ssh", "ssh.service"),
            ("ssh.socket", "ssh.socket"),
            ("a@b", "a@b.service"),
            ("php8.2-fpm", "php8.2-fpm.service"),
            (r"x\x2dy.service", r"x\x2dy.service"),
        ] {
            assert_eq!(unit_name("unit", given, &["service", "socket"]).unwrap(), full);
        }
        assert!(unit_name("unit", &"x".repeat(247), &["service"]).is_ok());
    }

    #[test]
    fn times_are_read() {
        assert_eq!(timestamp("Sat 2026-11-21 08:46:21 UTC").unwrap().to_string(), "2026-11-21T08:46:21Z");
        assert_eq!(timestamp("n/a"), None);
        assert_eq!(timestamp("Sat 2026-11-21 08:46:21 CET"), None);
        assert_eq!(span_us("1h 2min 3.5s"), Some(3_723_500_000));
        assert_eq!(span_us("2w 1d"), Some(1_296_000_000_000));
        for bad in ["", "infinity", "-3s", "5", "9e99y"] {
            assert_eq!(span_us(bad), None, "{bad}");
        }
    }

    #[test]
    fn blocks_keep_repeated_properties() {
        let units = blocks("\nId=a\nListen=x\nListen=y\nnoise\n\n\nId=b\nMemoryCurrent=18446744073709551615\n");
        assert_eq!(units.len(), 2);
        assert_eq!(units[0]["Listen"], "x\ny");
        assert_eq!(number(&units[1], "MemoryCurrent"), None);
    }

    proptest! {
        #[test]
        fn an_accepted_name_is_one_plain_argument(text in "\\PC{0,40}") {
            if let Ok(name) = unit_name("unit", &text, all_kinds()) {
                prop_assert!(!name.starts_with('-') && !name.contains(['/', '*', '?', '[', ' ']));
                let suffix = name.rsplit_once('.').map(|(_, suffix)| suffix).unwrap();
                prop_assert!(SUFFIXES.contains(&suffix));
            }
        }

        #[test]
        fn time_parsers_never_panic(text in "\\PC{0,40}") {
            let _ = (timestamp(&text), span_us(&text), blocks(&text));
        }
    }
}

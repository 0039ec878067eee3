//! Reads `systemctl show` of many units and joins the units that are only on disk. Parses text only.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    model::Section,
    tools::systemd::{Properties, blocks, number, section, span_us, timestamp, value},
};

/// One unit. Times are RFC 3339 in UTC; what does not apply to a unit or is not known is null.
#[derive(Serialize, JsonSchema)]
pub(super) struct Unit {
    pub(super) unit: String,
    description: Option<String>,
    /// loaded, not-found, masked, ... ; `unloaded` where only its file is there
    load: String,
    pub(super) active: String,
    sub: String,
    /// enabled, disabled, static, ...
    enabled: Option<String>,
    /// When it became active
    since: Option<String>,
    main_pid: Option<u64>,
    /// How often systemd restarted it by itself
    restarts: Option<u64>,
    /// success, or how it failed
    result: Option<String>,
    memory_bytes: Option<u64>,
    /// Timers: when next
    next: Option<String>,
    /// Timers: when last
    last: Option<String>,
    /// Timers and sockets: the unit started
    activates: Option<String>,
    /// Sockets: the addresses
    listen: Vec<String>,
    /// Mounts: the device
    what: Option<String>,
    /// Mounts: the directory
    place: Option<String>,
}

impl Unit {
    /// Whether `state` is one of its states.
    pub(super) fn is(&self, state: &str) -> bool {
        self.active == state || self.sub == state || self.load == state || self.enabled.as_deref() == Some(state)
    }

    fn read(name: &str, unit: &Properties, boot: Option<i64>) -> Self {
        let text = |key| value(unit, key).map(str::to_owned);
        let time = |key| value(unit, key).and_then(timestamp).map(|time| time.to_string());
        let monotonic = || {
            let micros =
                boot?.checked_mul(1_000_000)?.checked_add(span_us(value(unit, "NextElapseUSecMonotonic")?)?)?;
            Timestamp::from_microsecond(micros).ok().map(|time| time.to_string())
        };
        // A timer can have both; the nearer one fires. Both are RFC 3339 in UTC, so that text order is time order
        // up to the second.
        let next = [time("NextElapseUSecRealtime"), monotonic()].into_iter().flatten().min();
        Self {
            unit: name.to_owned(),
            description: text("Description"),
            load: text("LoadState").unwrap_or_default(),
            active: text("ActiveState").unwrap_or_default(),
            sub: text("SubState").unwrap_or_default(),
            enabled: text("UnitFileState"),
            since: time("ActiveEnterTimestamp"),
            main_pid: number(unit, "MainPID").filter(|pid| *pid != 0),
            restarts: number(unit, "NRestarts"),
            result: text("Result"),
            memory_bytes: number(unit, "MemoryCurrent"),
            next,
            last: time("LastTriggerUSec"),
            activates: text("Unit").or_else(|| text("Triggers")),
            listen: value(unit, "Listen").map(|lines| lines.lines().map(str::to_owned).collect()).unwrap_or_default(),
            what: text("What"),
            place: text("Where"),
        }
    }

    /// A unit that systemd has not loaded because nothing needs it.
    fn on_disk(name: &str, enabled: &str) -> Self {
        let nothing = Properties::new();
        Self {
            load: "unloaded".into(),
            active: "inactive".into(),
            sub: "dead".into(),
            enabled: Some(enabled.to_owned()),
            ..Self::read(name, &nothing, None)
        }
    }
}

/// The units of `kind` in the sections `units` (`systemctl show`), `files` (`list-unit-files`) and `boot` (seconds since
/// the epoch at boot). Templates are no units and are left out.
pub(super) fn read(sections: &[Section], kind: &str) -> Vec<Unit> {
    let text = |name| section(sections, name).map(Section::text).unwrap_or_default();
    let boot = text("boot").trim().parse().ok();
    let mut units: BTreeMap<String, Unit> = BTreeMap::new();
    for block in blocks(&text("units")) {
        if let Some(name) = value(&block, "Id") {
            units.insert(name.to_owned(), Unit::read(name, &block, boot));
        }
    }
    let suffix = format!(".{kind}");
    for line in text("files").lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(enabled)) = (words.next(), words.next())
            && name.ends_with(&suffix)
            && !name.contains("@.")
            // An alias is the same unit under a second name.
            && enabled != "alias"
            && !units.contains_key(name)
        {
            units.insert(name.to_owned(), Unit::on_disk(name, enabled));
        }
    }
    units.into_values().collect()
}

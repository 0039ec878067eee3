//! System, clock, pending reboot, sessions and virtualization, read from the script's lines and the system's own files.
//! Runs nothing of what it reads: os-release is a shell file, and is only parsed.

use jiff::{
    Timestamp,
    civil::DateTime,
    tz::{Offset, TimeZone},
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    model::Missing,
    tools::procfs::{Parts, capped, pairs},
};

/// The values that stand at the top of the answer.
pub(super) struct Host {
    pub(super) hostname: Option<String>,
    pub(super) kernel: Option<String>,
    pub(super) uptime_s: Option<u64>,
    pub(super) boot_id: Option<String>,
}

impl Host {
    /// From lines of a word and its value; `uptime_s` holds `/proc/uptime` as it is.
    pub(super) fn read(text: &str) -> Self {
        let words = pairs(text);
        let text = |key: &str| words.get(key).map(|value| capped(value, 256));
        let uptime = words.get("uptime_s").and_then(|value| value.split(['.', ' ']).next());
        Self {
            hostname: text("hostname"),
            kernel: text("kernel"),
            uptime_s: uptime.and_then(|seconds| seconds.parse().ok()),
            boot_id: text("boot_id"),
        }
    }
}

/// From os-release.
#[derive(Serialize, JsonSchema)]
pub(super) struct Os {
    /// For people, e.g. Debian GNU/Linux 12 (bookworm).
    name: String,
    /// E.g. debian.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// E.g. 12; absent on rolling releases.
    #[serde(skip_serializing_if = "Option::is_none")]
    version_id: Option<String>,
}

impl Os {
    /// Reads os-release(5).
    pub(super) fn read(text: &str) -> Option<Self> {
        let value = |key: &str| {
            let lines = text.lines().filter_map(|line| line.trim().split_once('='));
            // As in a shell, the last one counts.
            let value = lines.rev().find(|(name, _)| *name == key).map(|(_, value)| unquoted(value))?;
            (!value.is_empty()).then(|| capped(&value, 256))
        };
        let name = value("PRETTY_NAME").or_else(|| value("NAME"))?;
        Some(Self { name, id: value("ID"), version_id: value("VERSION_ID") })
    }
}

/// A value of os-release without its quotes and backslashes.
fn unquoted(text: &str) -> String {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            let mut escaped = false;
            let keep = |c: &char| {
                escaped = *c == '\\' && !escaped && quote == '"';
                !escaped
            };
            return inner.chars().filter(keep).collect();
        }
    }
    text.to_owned()
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Time {
    /// UTC, to the second.
    now: String,
    /// The time zone's name, e.g. Europe/Berlin.
    #[serde(skip_serializing_if = "Option::is_none")]
    tz: Option<String>,
    /// Its distance from UTC now, e.g. +0100.
    #[serde(skip_serializing_if = "Option::is_none")]
    utc_offset: Option<String>,
    /// Whether the kernel's clock is kept in step with a time server.
    #[serde(skip_serializing_if = "Option::is_none")]
    synced: Option<bool>,
}

impl Time {
    /// From sections `time` and `synced`.
    pub(super) fn read(parts: &Parts) -> Option<Self> {
        let text = parts.text("time")?;
        let words = pairs(&text);
        let now: Timestamp = words.get("now")?.parse().ok()?;
        Some(Self {
            now: now.to_string(),
            tz: words.get("tz").map(|tz| capped(tz, 64)),
            utc_offset: words.get("offset").map(|offset| capped(offset, 16)),
            synced: parts.text("synced").and_then(|text| match *pairs(&text).get("synced")? {
                "yes" => Some(true),
                "no" => Some(false),
                _ => None,
            }),
        })
    }
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Reboot {
    required: bool,
    /// The packages that asked for it.
    packages: Vec<String>,
    /// The installed kernel that is newer than the running one.
    #[serde(skip_serializing_if = "Option::is_none")]
    newer_kernel: Option<String>,
}

impl Reboot {
    /// From sections `reboot` and `packages`.
    pub(super) fn read(parts: &Parts) -> Option<Self> {
        let text = parts.text("reboot")?;
        let words = pairs(&text);
        let required = match *words.get("required")? {
            "1" => true,
            "0" => false,
            _ => return None,
        };
        let packages = parts.text("packages").unwrap_or_default();
        let packages = packages.lines().map(str::trim).filter(|name| !name.is_empty());
        Some(Self {
            required,
            packages: packages.map(|name| capped(name, 128)).collect(),
            newer_kernel: words.get("kernel").map(|kernel| capped(kernel, 128)),
        })
    }
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Session {
    user: String,
    tty: String,
    /// UTC, to the minute.
    since: String,
    /// Without input for so long; 86400 is a day or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    /// Where they came from, as the login program noted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
}

/// From the section `sessions`: `who -u` with dates in UTC. What could not be read is named in `partial`.
pub(super) fn sessions(parts: &Parts, partial: &mut Vec<Missing>) -> Option<Vec<Session>> {
    let text = parts.text("sessions")?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let (good, bad): (Vec<_>, Vec<_>) = lines.map(Session::read).partition(Option::is_some);
    if !bad.is_empty() {
        partial.push(Missing { section: "sessions".into(), reason: "unreadable_line".into() });
    }
    (!good.is_empty() || bad.is_empty()).then(|| good.into_iter().flatten().collect())
}

impl Session {
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (user, tty) = (words.next()?, words.next()?);
        let since = format!("{} {}", words.next()?, words.next()?);
        let since = DateTime::strptime("%Y-%m-%d %H:%M", since).ok()?;
        let since = since.to_zoned(TimeZone::fixed(Offset::UTC)).ok()?.timestamp();
        let idle_s = match words.next()? {
            "." => Some(0),
            "old" => Some(86_400),
            idle => idle.split_once(':').and_then(|(hours, minutes)| {
                let (hours, minutes) = (hours.parse::<u64>().ok()?, minutes.parse::<u64>().ok()?);
                hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)
            }),
        };
        let pid = words.next().and_then(|pid| pid.parse().ok());
        let from = words.next().and_then(|from| from.strip_prefix('(')?.strip_suffix(')'));
        Some(Self {
            user: capped(user, 64),
            tty: capped(tty, 64),
            since: since.to_string(),
            idle_s,
            pid,
            from: from.map(|from| capped(from, 256)),
        })
    }
}

/// As systemd-detect-virt names it; `none` where it found none.
#[derive(Serialize, JsonSchema)]
pub(super) struct Virtualization {
    #[serde(skip_serializing_if = "Option::is_none")]
    vm: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<String>,
}

impl Virtualization {
    /// From lines of a word and its value.
    pub(super) fn read(text: &str) -> Self {
        let words = pairs(text);
        let word = |key: &str| words.get(key).map(|value| capped(value, 64));
        Self { vm: word("vm"), container: word("container") }
    }
}

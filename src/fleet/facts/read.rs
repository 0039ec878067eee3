//! The sections that health is judged by, as values.

use jiff::Timestamp;

use super::{Digest, Disk, Facts, FailedUnit, HEALTH, Memory, Part, Reboot, Unreadable, Updates, plain, text};
use crate::model::Missing;

/// The most entries of one list.
const MOST: usize = 200;
/// What a section says instead of its content.
const UNCHANGED: &str = "unchanged";
/// File systems smaller than this are nobody's to fill: 1 MiB.
const SMALL: u64 = 1 << 20;

pub(super) fn facts(parts: &[Part], now: Timestamp, before: Option<&Facts>) -> Result<Facts, Unreadable> {
    let mut facts = Facts::default();
    if let Some(host) = text(parts, "host") {
        host_facts(&mut facts, host);
    }
    if facts.kernel.is_none() {
        // Every system says what it is: this is something else.
        return Err(Unreadable("unreadable_output"));
    }
    let told = text(parts, "now").and_then(|text| moment(text.trim()));
    facts.ahead_s = told.and_then(|told| told.as_second().checked_sub(now.as_second()));
    facts.platform = text(parts, "os").and_then(platform);
    facts.disks = text(parts, "disks").and_then(disks);
    facts.failed = text(parts, "failed").map(failed_units);
    facts.synced = text(parts, "clock").and_then(|text| flag(value(text, "synced")?));
    facts.reboot = text(parts, "reboot").and_then(reboot);
    facts.state = text(parts, "state").and_then(sha256);
    // Of facts that were taken in another state, nothing counts any more, whatever the target says.
    let before = before.filter(|before| before.state.is_some() && before.state == facts.state);
    let lists_age_s = text(parts, "lists").and_then(lists_age);
    facts.updates = text(parts, "updates").and_then(|text| match text.trim() {
        UNCHANGED => before?.updates.map(|updates| Updates { lists_age_s, ..updates }),
        rows => Some(updates(rows, lists_age_s)),
    });
    facts.packages = text(parts, "digest").and_then(|text| match text.trim() {
        UNCHANGED => before?.packages.clone(),
        text => digest(text),
    });
    facts.missing = missing(parts, &facts);
    Ok(facts)
}

/// Everything that health is judged by and that is not there, with the target's reason where it gave one.
fn missing(parts: &[Part], facts: &Facts) -> Vec<Missing> {
    let there = |name: &str| match name {
        "os" => facts.platform.is_some(),
        "disks" => facts.disks.is_some(),
        "failed" => facts.failed.is_some(),
        "clock" => facts.synced.is_some(),
        "reboot" => facts.reboot.is_some(),
        "updates" => facts.updates.is_some(),
        "digest" => facts.packages.is_some(),
        _ => true,
    };
    let reason = |name: &str| {
        let part = parts.iter().find(|part| part.name == name);
        part.and_then(|part| part.content.clone().err()).unwrap_or_else(|| "unreadable_output".to_owned())
    };
    let lacking = HEALTH.into_iter().filter(|name| !there(name));
    lacking.map(|name| Missing { section: name.to_owned(), reason: reason(name) }).collect()
}

/// What stands behind `KEY ` on its line; of two the first counts.
pub(super) fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == key).map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
}

fn flag(word: &str) -> Option<bool> {
    match word {
        "yes" | "1" => Some(true),
        "no" | "0" => Some(false),
        _ => None,
    }
}

fn moment(text: &str) -> Option<Timestamp> {
    text.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok())
}

fn host_facts(facts: &mut Facts, host: &str) {
    let word = |key| value(host, key).map(plain);
    facts.hostname = word("hostname");
    facts.kernel = word("kernel");
    facts.boot_id = word("boot_id");
    facts.uptime_s = value(host, "uptime_s").and_then(|text| text.split(['.', ' ']).next()?.parse().ok());
    facts.cpus = value(host, "cpus").and_then(|text| text.parse().ok());
    facts.load = value(host, "load").and_then(|text| {
        let mut averages = text.split(' ').map(|number| number.parse::<f64>().ok().filter(|load| load.is_finite()));
        Some([averages.next()??, averages.next()??, averages.next()??])
    });
    let kib = |key| value(host, key)?.strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024);
    facts.memory = kib("MemTotal").zip(kib("MemAvailable")).map(|(total, available)| Memory { total, available });
}

/// `ID VERSION_ID` of os-release(5).
fn platform(text: &str) -> Option<String> {
    let word = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(plain(value.trim().trim_matches(['"', '\''])))
    };
    let id = word("ID").filter(|id| !id.is_empty())?;
    Some(word("VERSION_ID").map_or_else(|| id.clone(), |version| format!("{id} {version}")))
}

/// The rows of df(1): type, size, used, available, inodes, used inodes, and where, which may hold spaces.
fn disks(text: &str) -> Option<Vec<Disk>> {
    let row = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let _kind = words.next()?;
        let mut number = || words.next()?.parse::<u64>().ok();
        let (size, used, available) = (number()?, number()?, number()?);
        // Some have no inodes, and say `-`.
        let (inodes, inodes_used) = (number(), number());
        let mount = words.collect::<Vec<_>>().join(" ");
        let inodes_pct = inodes.zip(inodes_used).and_then(|(all, used)| percent(used, all));
        let used_pct = percent(used, used.checked_add(available)?)?;
        (mount.starts_with('/') && size >= SMALL).then(|| Disk { mount: plain(&mount), size, used_pct, inodes_pct })
    };
    let rows: Vec<Disk> = text.lines().filter_map(row).take(MOST).collect();
    (!rows.is_empty()).then_some(rows)
}

/// `part` of `whole`, rounded up as df(1) does; none of nothing.
fn percent(part: u64, whole: u64) -> Option<u8> {
    let hundredfold = u128::from(part) * 100;
    (whole > 0).then(|| u8::try_from(hundredfold.div_ceil(u128::from(whole)).min(100)).unwrap_or(100))
}

/// The blocks of `systemctl show`.
fn failed_units(text: &str) -> Vec<FailedUnit> {
    let mut units: Vec<FailedUnit> = Vec::new();
    for block in text.split("\n\n").take(MOST) {
        let property = |key: &str| {
            let value = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
            (!value.is_empty()).then_some(value)
        };
        if let Some(unit) = property("Id") {
            let since = property("StateChangeTimestamp").and_then(|text| moment(text.strip_prefix('@')?));
            units.push(FailedUnit { unit: plain(unit), result: property("Result").map(plain), since });
        }
    }
    units.sort_by(|a, b| a.unit.cmp(&b.unit));
    units.dedup_by(|a, b| a.unit == b.unit);
    units
}

fn reboot(text: &str) -> Option<Reboot> {
    let required = flag(value(text, "required")?)?;
    Some(Reboot { required, since: value(text, "since").and_then(moment).filter(|_| required) })
}

/// The `Inst` lines of a simulated upgrade. Debian and Ubuntu end the name of an archive with security updates in
/// `-security`; Debian's label for one is `Debian-Security`.
fn updates(rows: &str, lists_age_s: Option<u64>) -> Updates {
    let is_security = |line: &&str| {
        let origins = line.split_once('(').map_or("", |(_, rest)| rest);
        origins.split([' ', ',', ')']).any(|word| word.ends_with("-security") || word.starts_with("Debian-Security:"))
    };
    let rows: Vec<&str> = rows.lines().filter(|line| line.starts_with("Inst ")).collect();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Updates {
        pending: count(rows.len()),
        security: count(rows.iter().filter(|line| is_security(line)).count()),
        lists_age_s,
    }
}

/// When the lists were fetched and what time it is, by the target's clock.
fn lists_age(lists: &str) -> Option<u64> {
    let mut stamps = lists.lines().map(|line| line.trim().parse::<i64>());
    let (fetched, now) = (stamps.next()?.ok()?, stamps.next()?.ok()?);
    u64::try_from(now.checked_sub(fetched)?.max(0)).ok()
}

fn digest(text: &str) -> Option<Digest> {
    Some(Digest { count: value(text, "count")?.parse().ok()?, sha256: sha256(text)? })
}

fn sha256(text: &str) -> Option<String> {
    let hash = value(text, "sha256")?;
    (hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| hash.to_owned())
}

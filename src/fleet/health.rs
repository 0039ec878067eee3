//! What facts say of a target's health: findings, each with its weight, its numbers and since when. Pure; a fact that is
//! not known is no finding, and a target of which nothing is known is not healthy.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Facts;
use crate::model::Health;

/// File systems from here on are a finding, in percent.
const FULL: u8 = 90;
/// And from here on a critical one.
const VERY_FULL: u8 = 95;
/// A clock that is further off is a finding, in seconds.
const OFF_S: u64 = 5;
/// Facts older than this say little of now.
pub(super) const OLD: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// What is wrong. The order is that of weight: worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// The last attempt to read it gave nothing.
    Unreachable,
    /// Units are in the state `failed`.
    FailedUnits,
    /// A file system is full.
    DiskFull,
    /// Security updates wait.
    SecurityUpdates,
    /// It has to start anew.
    RebootNeeded,
    /// Its clock is not kept right, or is off.
    ClockOff,
    /// What is known of it is old, or there is nothing.
    Stale,
}

impl Problem {
    /// Every problem, worst first.
    pub const ALL: [Self; 7] = [
        Self::Unreachable,
        Self::FailedUnits,
        Self::DiskFull,
        Self::SecurityUpdates,
        Self::RebootNeeded,
        Self::ClockOff,
        Self::Stale,
    ];

    /// The word used in replies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::FailedUnits => "failed_units",
            Self::DiskFull => "disk_full",
            Self::SecurityUpdates => "security_updates",
            Self::RebootNeeded => "reboot_needed",
            Self::ClockOff => "clock_off",
            Self::Stale => "stale",
        }
    }
}

/// One thing that is wrong with one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What.
    pub problem: Problem,
    /// How bad that is.
    pub health: Health,
    /// What of it: units, mounts; the code of a failure; bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub what: Vec<String>,
    /// How many, or percent, or seconds.
    pub number: u64,
    /// Since when it is known to be so: from the target where it says so, otherwise first seen.
    pub since: Timestamp,
}

/// The most names in one finding.
const NAMED: usize = 10;

/// What is wrong by `facts`, taken at `taken_at`: worst first. What stood in `before` goes on since then.
pub(super) fn findings(facts: &Facts, taken_at: Timestamp, before: &[Finding]) -> Vec<Finding> {
    let seen = |problem: Problem| before.iter().find(|finding| finding.problem == problem).map(|finding| finding.since);
    let finding = |problem, health, what: Vec<String>, number: usize, since: Option<Timestamp>| Finding {
        problem,
        health,
        what: what.into_iter().take(NAMED).collect(),
        number: number as u64,
        since: since.or_else(|| seen(problem)).unwrap_or(taken_at).min(taken_at),
    };
    let mut findings = Vec::new();
    if let Some(failed) = facts.failed.as_deref().filter(|failed| !failed.is_empty()) {
        let names = failed.iter().map(|unit| unit.unit.clone()).collect();
        let since = failed.iter().filter_map(|unit| unit.since).min();
        findings.push(finding(Problem::FailedUnits, Health::Critical, names, failed.len(), since));
    }
    let mut full: Vec<(u8, &str, &str)> = Vec::new();
    for disk in facts.disks.iter().flatten() {
        let inodes = disk.inodes_pct.filter(|pct| *pct > disk.used_pct);
        let (pct, of) = inodes.map_or((disk.used_pct, ""), |pct| (pct, " (inodes)"));
        if pct >= FULL {
            full.push((pct, &disk.mount, of));
        }
    }
    full.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    if let Some((worst, ..)) = full.first() {
        let health = if *worst >= VERY_FULL { Health::Critical } else { Health::Warning };
        let what = full.iter().map(|(pct, mount, of)| format!("{mount} {pct} %{of}")).collect();
        findings.push(finding(Problem::DiskFull, health, what, usize::from(*worst), None));
    }
    if let Some(updates) = facts.updates.filter(|updates| updates.security > 0) {
        findings.push(finding(Problem::SecurityUpdates, Health::Warning, Vec::new(), updates.security as usize, None));
    }
    if let Some(reboot) = facts.reboot.filter(|reboot| reboot.required) {
        findings.push(finding(Problem::RebootNeeded, Health::Warning, Vec::new(), 1, reboot.since));
    }
    let off = facts.ahead_s.map_or(0, i64::unsigned_abs);
    if off > OFF_S || facts.synced == Some(false) {
        let what = if facts.synced == Some(false) { vec!["not_synchronized".to_owned()] } else { Vec::new() };
        let off = usize::try_from(off).unwrap_or(usize::MAX);
        findings.push(finding(Problem::ClockOff, Health::Warning, what, off, None));
    }
    findings
}

/// The word for a target with these findings.
pub(super) fn health(findings: &[Finding]) -> Health {
    findings.iter().map(|finding| finding.health).max().unwrap_or(Health::Ok)
}

#[cfg(test)]
mod tests;

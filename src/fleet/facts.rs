//! The facts of one target: the script that asks for them and what it printed, as values. A target may lie: what is read
//! is bounded in number and length, and what cannot be read is missing with a reason, never zero. Decides nothing.

mod inventory;
mod read;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::inventory::{Kept, inventories};
use crate::model::{Inventory, Missing, Script, ScriptOutput, StepOutcome, Template};

/// The arguments are the sections, printed in their order; `end` closes the last. In front of them may stand
/// `known=HASH`: where `state` is that hash still, `updates` and `digest` say `unchanged` instead of asking apt and dpkg,
/// which is most of the work.
const TEMPLATE: Template = Template {
    id: "facts.v1",
    stdin: false,
    body: concat!(include_str!("../tools/lists.sh"), include_str!("facts.sh")),
};

/// What health is judged by.
const HEALTH: [&str; 8] = ["host", "os", "disks", "failed", "clock", "reboot", "updates", "digest"];

/// The longest one target may take, where its own limit is not shorter.
const LIMIT: Duration = Duration::from_secs(20);

/// The script that gives [`Facts`] of a target whose newest ones are `before`: what its packages' state says has not
/// changed is not asked again.
pub fn facts_script(before: Option<&Facts>) -> Script {
    // What could not be had the last time is asked for in any state.
    let whole = before.filter(|before| before.updates.is_some() && before.packages.is_some());
    let known = whole.and_then(|before| Some(format!("known={}", before.state.as_ref()?)));
    let arguments = known.into_iter().chain(["state"].into_iter().chain(HEALTH).map(str::to_owned));
    Script { limit: Some(LIMIT), ..Script::new(&TEMPLATE, arguments) }
}

/// The script that gives [`inventories`].
pub fn inventory_script(sections: &[Inventory]) -> Script {
    let wanted = Inventory::ALL.into_iter().filter(|section| sections.contains(section));
    // The kernel stands in `host`.
    let host = sections.contains(&Inventory::Os).then_some("host");
    Script { limit: Some(LIMIT), ..Script::new(&TEMPLATE, host.into_iter().chain(wanted.map(Inventory::as_str))) }
}

/// What a target is and how it does, as it said itself. What it did not say is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// The name it gives itself.
    pub hostname: Option<String>,
    /// Distribution and version, e.g. `debian 12`.
    pub platform: Option<String>,
    /// System, release and machine.
    pub kernel: Option<String>,
    /// New with every boot.
    pub boot_id: Option<String>,
    /// Since it started.
    pub uptime_s: Option<u64>,
    /// Averages over 1, 5 and 15 minutes.
    pub load: Option<[f64; 3]>,
    /// Processors.
    pub cpus: Option<u32>,
    /// In bytes.
    pub memory: Option<Memory>,
    /// Local file systems.
    pub disks: Option<Vec<Disk>>,
    /// Units that failed.
    pub failed: Option<Vec<FailedUnit>>,
    /// Whether a time service keeps the clock right.
    pub synced: Option<bool>,
    /// By how much its clock is ahead, in seconds; as exact as the time that asking took.
    pub ahead_s: Option<i64>,
    /// Whether it has to start anew.
    pub reboot: Option<Reboot>,
    /// Hex SHA-256 over the state of the files that the next two come from.
    pub state: Option<String>,
    /// What an upgrade would bring.
    pub updates: Option<Updates>,
    /// Of all installed packages with their versions.
    pub packages: Option<Digest>,
    /// What could not be had.
    pub missing: Vec<Missing>,
}

/// Main memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// What programs could have without swapping.
    pub available: u64,
}

/// A file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Where it is mounted.
    pub mount: String,
    /// In bytes.
    pub size: u64,
    /// How much of what users may fill is full, in percent.
    pub used_pct: u8,
    /// The same of inodes; none where it has no fixed number of them.
    pub inodes_pct: Option<u8>,
}

/// A unit in the state `failed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedUnit {
    /// Its name.
    pub unit: String,
    /// systemd's word for how it failed, e.g. `exit-code`.
    pub result: Option<String>,
    /// When it failed; none where the target's systemd is too old to say so plainly.
    pub since: Option<Timestamp>,
}

/// Whether a target has to start anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reboot {
    /// Whether.
    pub required: bool,
    /// Since when.
    pub since: Option<Timestamp>,
}

/// What an upgrade would bring, by the package lists that the target has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Updates {
    /// Packages that would be upgraded or installed.
    pub pending: u32,
    /// Of these, security updates.
    pub security: u32,
    /// Since the lists were fetched.
    pub lists_age_s: Option<u64>,
}

/// Of a list of packages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// How many.
    pub count: u32,
    /// Hex SHA-256 of the sorted list.
    pub sha256: String,
}

/// Why an output holds no facts: `unreadable_output` or `output_too_long`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub &'static str);

impl Facts {
    /// The facts in `output`, which arrived at `now` and answers the script of [`facts_script`] for `before`: what it
    /// says is unchanged is taken from there. Errors where the script did not get to its end: then nothing says which
    /// part is whole.
    pub fn read(output: &ScriptOutput, now: Timestamp, before: Option<&Self>) -> Result<Self, Unreadable> {
        read::facts(&parts(output)?, now, before)
    }
}

/// One section as it was printed.
struct Part {
    name: String,
    content: Result<String, String>,
}

/// The sections of a whole output. Of two with one name the first counts.
fn parts(output: &ScriptOutput) -> Result<Vec<Part>, Unreadable> {
    if output.stdout.dropped() > 0 {
        return Err(Unreadable("output_too_long"));
    }
    let mut parts: Vec<Part> = Vec::new();
    for section in output.sections().into_iter().take(64) {
        if !parts.iter().any(|part| part.name == section.name) {
            let content = section.content.as_ref().map(|_| section.text().into_owned()).map_err(|reason| word(reason));
            parts.push(Part { content, name: section.name });
        }
    }
    let whole = matches!(output.outcome, StepOutcome::Exited(_)) && parts.last().is_some_and(|part| part.name == "end");
    if whole { Ok(parts) } else { Err(Unreadable("unreadable_output")) }
}

fn text<'a>(parts: &'a [Part], name: &str) -> Option<&'a str> {
    parts.iter().find(|part| part.name == name)?.content.as_deref().ok()
}

/// A reason as one word of ours, or that it was none.
fn word(reason: &str) -> String {
    let fine = (1..=40).contains(&reason.len()) && reason.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if fine { reason.to_owned() } else { "unreadable_output".to_owned() }
}

/// `text` without control characters, in at most 200 bytes.
fn plain(text: &str) -> String {
    let mut plain: String = text.trim().chars().filter(|c| !c.is_control()).collect();
    plain.truncate(plain.floor_char_boundary(200));
    plain
}

#[cfg(test)]
mod tests;

//! The sections that snapshots keep, each as names with values, so that two of them can be compared entry by entry.
//! What comes and goes by itself is left out: mounts of the kernel and of sessions, units of users, units made on the
//! fly.

use std::collections::BTreeMap;

use super::{Part, Unreadable, parts, plain, read::value, text};
use crate::model::{Inventory, ScriptOutput};

/// One section: what it holds by name, or the word for why there is none.
pub type Kept = Result<BTreeMap<String, String>, String>;

/// The most entries of one section: a target that has more is not read in part.
const MOST: usize = 20_000;

/// File systems that the kernel makes up.
const KERNELS: [&str; 22] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "pstore",
    "ramfs",
    "rpc_pipefs",
    "securityfs",
    "sysfs",
    "tracefs",
];

/// Each of `sections` as `output` has it, in their order.
pub fn inventories(output: &ScriptOutput, sections: &[Inventory]) -> Result<Vec<(Inventory, Kept)>, Unreadable> {
    let parts = parts(output)?;
    Ok(sections.iter().map(|section| (*section, kept(&parts, *section))).collect())
}

fn kept(parts: &[Part], section: Inventory) -> Kept {
    let part = parts.iter().find(|part| part.name == section.as_str());
    let unreadable = || "unreadable_output".to_owned();
    let content = part.map_or_else(|| Err(unreadable()), |part| part.content.clone())?;
    let entries: BTreeMap<String, String> = match section {
        Inventory::Os => system(parts, &content),
        Inventory::Packages => pairs(&content, '\t').collect(),
        Inventory::Units => units(&content, text(parts, "files").ok_or_else(unreadable)?),
        Inventory::Mounts => content.lines().filter_map(mount).take(MOST + 1).collect(),
        Inventory::Sockets => content.lines().filter_map(socket).take(MOST + 1).collect(),
    };
    match entries.len() {
        // A machine without any has none to compare; sockets and, in a container, mounts may be none.
        0 if matches!(section, Inventory::Os | Inventory::Packages | Inventory::Units) => Err(unreadable()),
        0..=MOST => Ok(entries),
        _ => Err("too_many".to_owned()),
    }
}

fn pairs(text: &str, between: char) -> impl Iterator<Item = (String, String)> {
    let rows = text.lines().filter_map(move |line| line.split_once(between));
    rows.map(|(name, value)| (plain(name), plain(value))).filter(|(name, _)| !name.is_empty()).take(MOST + 1)
}

/// The fields of os-release(5), and what the kernel says of itself.
fn system(parts: &[Part], text: &str) -> BTreeMap<String, String> {
    let fields = pairs(text, '=').map(|(key, value)| (key, value.trim_matches(['"', '\'']).to_owned()));
    let mut fields: BTreeMap<String, String> = fields.filter(|(key, _)| !key.ends_with("_URL")).collect();
    let host = super::text(parts, "host").unwrap_or_default();
    let own = ["hostname", "kernel", "boot_id"].into_iter().filter_map(|key| Some((key, value(host, key)?)));
    fields.extend(own.map(|(key, value)| (key.to_owned(), plain(value))));
    fields
}

/// `enabled, active`: the state of the unit file, and that of the unit where it is not merely inactive.
fn units(shown: &str, files: &str) -> BTreeMap<String, String> {
    let is_own = |unit: &str| {
        !unit.starts_with("user@") && !unit.starts_with("user-runtime-dir@") && !unit.starts_with("tailops-")
    };
    let mut units: BTreeMap<String, String> = pairs(files, ' ').filter(|(unit, _)| is_own(unit)).collect();
    for block in shown.split("\n\n").take(MOST) {
        let property = |key: &str| block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let (Some(unit), Some(active)) = (property("Id"), property("ActiveState")) else { continue };
        let file = property("UnitFileState").unwrap_or_default();
        // On its way is either in the next moment.
        let active = match active {
            "activating" | "reloading" | "refreshing" => "active",
            "deactivating" | "maintenance" => "inactive",
            other => other,
        };
        if active == "inactive" || file == "transient" || !is_own(unit) {
            continue;
        }
        let state = units.entry(plain(unit)).or_default();
        if !state.is_empty() {
            state.push_str(", ");
        }
        state.push_str(&plain(active));
    }
    units
}

/// `WHERE` and `SOURCE TYPE OPTIONS` of a line of `/proc/self/mounts`.
fn mount(line: &str) -> Option<(String, String)> {
    let words: Vec<&str> = line.split(' ').collect();
    let [source, place, kind, options, ..] = words.as_slice() else { return None };
    let passing = ["/run/user/", "/run/credentials/", "/proc/", "/sys/"].iter().any(|prefix| place.starts_with(prefix));
    // Sizes of file systems in memory follow the machine's.
    let options = options.split(',').filter(|option| !option.starts_with("size=") && !option.starts_with("nr_inodes="));
    let options = options.collect::<Vec<_>>().join(",");
    (!passing && !KERNELS.contains(kind)).then(|| (plain(place), plain(&format!("{source} {kind} {options}"))))
}

/// `PROTOCOL ADDRESS:PORT` of a line of ss(8).
fn socket(line: &str) -> Option<(String, String)> {
    let mut words = line.split_ascii_whitespace();
    let (protocol, state, local) = (words.next()?, words.next()?, words.nth(2)?);
    let known = matches!(protocol, "tcp" | "udp") && local.contains(':');
    known.then(|| (plain(&format!("{protocol} {local}")), plain(&state.to_lowercase())))
}

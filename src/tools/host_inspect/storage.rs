//! File systems and block devices, read from what df, lsblk and `/proc/self/mounts` print. Names on them may be chosen
//! by anyone who can mount, so nothing behind a name is trusted to be a number.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::load::percent;
use crate::{
    model::Missing,
    tools::procfs::{Parts, capped},
};

#[derive(Serialize, JsonSchema)]
pub(super) struct FileSystem {
    mount: String,
    #[serde(rename = "type")]
    kind: String,
    /// Absent where the list of mounts does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_only: Option<bool>,
    total: u64,
    used: u64,
    /// For others than root.
    available: u64,
    /// Of what is not reserved for root.
    #[serde(skip_serializing_if = "Option::is_none")]
    used_pct: Option<f64>,
    /// Absent where their number is not fixed.
    #[serde(skip_serializing_if = "Option::is_none")]
    inodes: Option<Inodes>,
}

#[derive(Serialize, JsonSchema)]
struct Inodes {
    total: u64,
    used: u64,
    used_pct: f64,
}

/// File system types that hold nothing of their own, or are full by nature.
const PSEUDO: &[&str] = &["autofs", "devtmpfs", "efivarfs", "fuse.lxcfs", "fuse.portal", "nsfs", "ramfs", "squashfs"];

/// From the section `fs` (df with type, size, used, available, inodes, inodes used, mount point) and `mounts`. What
/// could not be read is named in `partial`.
pub(super) fn file_systems(parts: &Parts, partial: &mut Vec<Missing>) -> Option<Vec<FileSystem>> {
    let rows = parts.text("fs")?;
    let mounts = parts.text("mounts").unwrap_or_default();
    let mounts = mounted(&mounts);
    let (mut found, mut unreadable) = (Vec::new(), false);
    // The first line is df's heading.
    for row in rows.lines().skip(1).filter(|row| !row.trim().is_empty()) {
        match FileSystem::read(row, &mounts) {
            Some(fs) if fs.is_pseudo() => {}
            Some(fs) => found.push(fs),
            None => unreadable = true,
        }
    }
    if unreadable {
        partial.push(Missing { section: "fs".into(), reason: "unreadable_line".into() });
    }
    (!found.is_empty() || !unreadable).then_some(found)
}

impl FileSystem {
    fn read(row: &str, mounts: &BTreeMap<String, Mount>) -> Option<Self> {
        let mut rest = row;
        let mut word = || {
            let (word, behind) = rest.trim_start().split_once(' ')?;
            rest = behind;
            Some(word)
        };
        let kind = word()?.to_owned();
        let (total, used, available) = (word()?.parse().ok()?, word()?.parse().ok()?, word()?.parse().ok()?);
        // A dash where the file system does not count inodes.
        let (inodes, inodes_used) = (word()?.parse::<u64>().ok(), word()?.parse().ok());
        let mount = rest.trim_start();
        if !mount.starts_with('/') {
            return None;
        }
        let known = mounts.get(mount);
        Some(Self {
            mount: capped(mount, 512),
            kind,
            source: known.map(|known| capped(&known.source, 512)),
            read_only: known.map(|known| known.read_only),
            total,
            used,
            available,
            used_pct: percent(used, used.saturating_add(available)),
            inodes: inodes
                .zip(inodes_used)
                .and_then(|(total, used)| percent(used, total).map(|used_pct| Inodes { total, used, used_pct })),
        })
    }

    /// Whether it is machinery: of a pseudo type, in a place of the system's own, or a container's view of a file
    /// system that is listed itself. A tmpfs elsewhere (`/tmp`, `/dev/shm`) can fill up and counts.
    fn is_pseudo(&self) -> bool {
        let machinery = ["/proc/", "/sys/", "/run/", "/dev/"].iter().any(|place| self.mount.starts_with(place));
        PSEUDO.contains(&self.kind.as_str())
            || (self.kind == "tmpfs" && machinery && self.mount != "/dev/shm")
            || (self.kind == "overlay" && self.mount != "/")
            || self.total == 0
    }
}

struct Mount {
    source: String,
    read_only: bool,
}

/// By mount point, from lines `ro|rw SOURCE MOUNT` in the escaped form of `/proc/self/mounts`. Of two at one place the
/// later lies on top.
fn mounted(text: &str) -> BTreeMap<String, Mount> {
    let mut mounts = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if let [mode @ ("ro" | "rw"), source, place] = *words {
            mounts.insert(unescaped(place), Mount { source: unescaped(source), read_only: mode == "ro" });
        }
    }
    mounts
}

/// Undoes the kernel's octal escapes (`\040` is a space).
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits =
            behind.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        let code = digits.map(|digits| digits.iter().fold(0_u32, |code, digit| code * 8 + u32::from(digit - b'0')));
        match code.and_then(|code| u8::try_from(code).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = behind.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Device {
    name: String,
    /// What it lies on, e.g. the disk of a partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    /// disk, part, lvm, crypt, raid1, …
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_only: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fs: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mount: Option<String>,
}

/// The tree of `lsblk -J`, flat: each device before those on it.
pub(super) fn devices(json: &str) -> Option<Vec<Device>> {
    let tree: Value = serde_json::from_str(json).ok()?;
    let mut found = Vec::new();
    descend(tree.get("blockdevices")?.as_array()?, None, &mut found)?;
    Some(found)
}

fn descend(devices: &[Value], parent: Option<&str>, found: &mut Vec<Device>) -> Option<()> {
    for device in devices {
        let text = |key: &str| {
            let value = device.get(key)?.as_str()?.trim();
            (!value.is_empty()).then(|| capped(value, 256))
        };
        let name = text("name")?;
        found.push(Device {
            name: name.clone(),
            parent: parent.map(str::to_owned),
            kind: text("type"),
            size: device.get("size").and_then(Value::as_u64),
            read_only: device.get("ro").and_then(Value::as_bool),
            model: text("model"),
            fs: text("fstype"),
            mount: text("mountpoint"),
        });
        if let Some(children) = device.get("children") {
            descend(children.as_array()?, Some(&name), found)?;
        }
    }
    Some(())
}

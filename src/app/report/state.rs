//! Findings about what lies on the disk: the data directory, its private files, the database, the room that is left.
//! Makes and mends nothing.

use std::{fs, io, path::Path, time::Duration};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    model::{Line, Subject},
    store::{DirectoryError, FILE, StoreError, Whole, check_directory, check_private, inspect},
};

/// The longest the pages of the database are looked at.
const CHECKED_FOR: Duration = Duration::from_secs(10);
/// Less room than this is told.
const LITTLE: u64 = 1 << 30;
/// Less room than this and records are about to be refused.
const TOO_LITTLE: u64 = 64 << 20;
/// How far ahead a record may be of the clock.
const AHEAD: Duration = Duration::from_secs(5);

/// Who may enter the data directory and read its private files.
pub fn directory_lines(directory: &Path) -> Vec<Line> {
    let keys = directory.join("keys");
    let mut faults = Vec::new();
    faults.extend(check_directory(directory).err());
    if faults.is_empty() {
        if keys.exists() {
            faults.extend(check_directory(&keys).err());
        }
        let files = [FILE, "lock", "dev-token"].map(|name| directory.join(name));
        let secrets = fs::read_dir(&keys).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        for file in files.into_iter().filter(|file| file.exists()).chain(secrets) {
            faults.extend(check_private(&file).err());
        }
    }
    if faults.is_empty() {
        return vec![Line::ok(Subject::Directory, format!("{} is private", directory.display()))];
    }
    faults.iter().map(directory_line).collect()
}

fn directory_line(fault: &DirectoryError) -> Line {
    let (finding, mend) = match fault {
        DirectoryError::Mode { path, mode, wanted } => (
            format!("{} is open to others (mode {mode:04o})", path.display()),
            format!("chmod {wanted:04o} {}", path.display()),
        ),
        DirectoryError::Owner { path, owner, wanted } => {
            (format!("{} belongs to uid {owner}", path.display()), format!("chown {wanted} {}", path.display()))
        }
        DirectoryError::Kind { path, wanted } => {
            (fault.to_string(), format!("put the {wanted} there that belongs in the place of {}", path.display()))
        }
        DirectoryError::Io { path, error } if error.kind() == io::ErrorKind::NotFound => (
            format!("{} is not there", path.display()),
            "start the service once, or name another directory with --data-dir".to_owned(),
        ),
        DirectoryError::Io { .. } | DirectoryError::InUse { .. } => {
            (fault.to_string(), "run this as the service's user or as root".to_owned())
        }
    };
    Line::fail(Subject::Directory, finding, mend)
}

/// Whether the database is whole and of this version, and whether its newest record lies in the past.
pub async fn database_lines(directory: &Path, now: Timestamp) -> Vec<Line> {
    let found = match inspect(directory, CHECKED_FOR).await {
        Ok(found) => found,
        Err(error) => return vec![unreadable(&error)],
    };
    let bytes = size(found.bytes);
    let (schema, known) = (found.schema, found.known_schema);
    let first = match found.whole {
        Whole::No(complaints) => {
            let complaints = complaints.join("; ");
            Line::fail(
                Subject::Database,
                format!("is damaged ({bytes}): {complaints}"),
                "stop the service, keep a copy, restore a backup",
            )
        }
        _ if schema > known => Line::fail(
            Subject::Database,
            format!("was made by a newer version: schema {schema}, this one knows {known}"),
            "run that version, or restore a backup",
        ),
        _ if schema < known => Line::warn(
            Subject::Database,
            format!("is of an older version: schema {schema}, this one makes {known}"),
            "start the service: it brings the tables up to date",
        ),
        Whole::Yes => Line::ok(Subject::Database, format!("whole, {bytes}, schema {schema}")),
        Whole::Unknown => Line::ok(
            Subject::Database,
            format!(
                "{bytes}, schema {schema}; too large for all its pages to be looked at in {} s",
                CHECKED_FOR.as_secs()
            ),
        ),
    };
    let (head, clock) = head(found.last_leaf.as_ref(), now);
    std::iter::once(first).chain([head]).chain(clock).collect()
}

fn unreadable(error: &StoreError) -> Line {
    let mend = match error {
        StoreError::File(error) if error.kind() == io::ErrorKind::NotFound => {
            "start the service once, or name another directory with --data-dir"
        }
        _ => "stop the service, keep a copy, restore a backup",
    };
    Line::fail(Subject::Database, format!("cannot be read: {error}"), mend)
}

/// The head of the log, and the clock where it contradicts the head.
fn head(last: Option<&(i64, String)>, now: Timestamp) -> (Line, Option<Line>) {
    let Some((seq, leaf)) = last else { return (Line::ok(Subject::Audit, "is empty"), None) };
    let at = serde_json::from_str::<Value>(leaf).ok();
    let at = at.and_then(|record| record.get("timestamp")?.as_str()?.parse::<Timestamp>().ok());
    let Some(at) = at else {
        let mend = "stop the service, keep a copy, restore a backup";
        return (Line::fail(Subject::Audit, format!("record {seq} holds no time"), mend), None);
    };
    let line = Line::ok(Subject::Audit, format!("head {seq}, of {}", at.strftime("%Y-%m-%dT%H:%M:%SZ")));
    let ahead = at.duration_since(now).as_secs();
    let late = (ahead > AHEAD.as_secs().cast_signed()).then(|| {
        Line::fail(
            Subject::Clock,
            format!("the newest audit record lies {ahead} s in the future: the clock is behind, or was ahead"),
            "set the clock, and let a time service (timesyncd, chrony) keep it",
        )
    });
    (line, late)
}

/// The room that is left beside the database; none where it cannot be told.
pub fn disk_line(directory: &Path) -> Option<Line> {
    let found = rustix::fs::statvfs(directory).ok()?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let finding = format!("{} free for the data directory", size(free));
    let mend = "make room on this filesystem: without it no call is recorded, and so none is answered";
    Some(match free {
        TOO_LITTLE.. if free >= LITTLE => Line::ok(Subject::Disk, finding),
        TOO_LITTLE.. => Line::warn(Subject::Disk, finding, mend),
        _ => Line::fail(Subject::Disk, finding, mend),
    })
}

/// A size for people: one decimal of the unit that fits.
fn size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let fits = units.into_iter().find(|(unit, _)| bytes >= *unit);
    fits.map_or_else(
        || format!("{bytes} B"),
        |(unit, name)| format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::model::Level;

    #[test]
    fn sizes_are_readable() {
        let cases =
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), ((1 << 20) - 1, "1023.9 KiB"), (3 << 30, "3.0 GiB")];
        for (bytes, shown) in cases {
            assert_eq!(size(bytes), shown);
        }
    }

    #[test]
    fn a_record_from_the_future_is_told() {
        let leaf = |at: &str| Some((7, format!("{{\"timestamp\":\"{at}\"}}")));
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let (line, clock) = head(leaf("2026-11-21T11:59:59Z").as_ref(), now);
        assert!(line.level == Level::Ok && line.finding.contains("head 7") && clock.is_none(), "{line:?}");
        let (_, clock) = head(leaf("2026-11-21T12:10:00Z").as_ref(), now);
        let clock = clock.unwrap();
        assert!(clock.level == Level::Fail && clock.finding.contains("600 s in the future"), "{clock:?}");
        assert_eq!(head(Some(&(1, "{}".to_owned())), now).0.level, Level::Fail);
    }

    #[test]
    fn open_directories_and_keys_are_named_with_what_closes_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        open(path, 0o700);
        assert_eq!(directory_lines(path)[0].level, Level::Ok);
        fs::create_dir(path.join("keys")).unwrap();
        fs::write(path.join("keys/1.key"), "x").unwrap();
        open(&path.join("keys"), 0o755);
        open(&path.join("keys/1.key"), 0o644);
        let lines = directory_lines(path);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].mend.as_ref().unwrap().starts_with("chmod 0700 ") && lines[1].finding.contains("1.key"));
        open(path, 0o755);
        assert_eq!(directory_lines(path).len(), 1, "nothing below counts while others can enter");
        assert!(directory_lines(&path.join("nowhere"))[0].finding.contains("is not there"));
    }
}

//! The list of what was revoked, as it stands in its file now. Reads the file again whenever it may have changed; never
//! goes on with an old list where the new one cannot be read.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{super::SshFault, RevokedKeys};

/// How long a file must have stood as it is until its times tell every further change: longer than the steps in which
/// any file system counts time.
const SETTLED: Duration = Duration::from_secs(3);

/// What changes when a file is written or replaced: device, inode, length, and when it was modified and changed.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

/// The list that `ssh.revoked_keys` names; an empty one where it names none.
pub(in crate::exec::ssh) struct Revocations {
    path: Option<PathBuf>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    list: Arc<RevokedKeys>,
    /// None where `list` was not read from a file, or the last attempt failed.
    read: Option<Read>,
    #[cfg(test)]
    reads: usize,
}

/// When a list was read.
#[derive(Clone, Copy)]
struct Read {
    stamp: Stamp,
    /// When the stamp was first seen.
    first: Instant,
    /// When the file was read last.
    last: Instant,
}

impl Revocations {
    /// Those in the file at `path`, if there is one.
    pub(in crate::exec::ssh) fn in_file(path: Option<PathBuf>) -> Self {
        Self { path, kept: Mutex::default() }
    }

    /// The list as it stands now: one look at the file's times where it has not changed. Lists that say the same are
    /// the same.
    pub(in crate::exec::ssh) fn now(&self) -> Result<Arc<RevokedKeys>, SshFault> {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> Result<Arc<RevokedKeys>, SshFault> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(path) = &self.path else { return Ok(Arc::clone(&kept.list)) };
        let stamp = stamp(path);
        let same = kept.read.filter(|read| stamp.as_ref().is_ok_and(|stamp| *stamp == read.stamp));
        if same.is_some_and(|read| read.last.saturating_duration_since(read.first) >= SETTLED) {
            return Ok(Arc::clone(&kept.list));
        }
        kept.read = None;
        #[cfg(test)]
        {
            kept.reads += 1;
        }
        let list =
            RevokedKeys::load(path).map_err(|error| SshFault::Revocations(format!("{}: {error}", path.display())))?;
        // Read before the list was: what is written in between is found the next time.
        kept.read = stamp.ok().map(|stamp| Read { stamp, first: same.map_or(now, |read| read.first), last: now });
        if *kept.list != list {
            kept.list = Arc::new(list);
        }
        Ok(Arc::clone(&kept.list))
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let found = fs::metadata(path)?;
    let (modified, changed) = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
    Ok((found.dev(), found.ino(), found.size(), modified, changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
    const OTHER: &str = "SHA256:57DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";

    fn revocations(text: &str) -> (tempfile::TempDir, PathBuf, Revocations) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("revoked");
        fs::write(&path, text).unwrap();
        let revocations = Revocations::in_file(Some(path.clone()));
        (folder, path, revocations)
    }

    fn reads(revocations: &Revocations) -> usize {
        revocations.kept.lock().unwrap().reads
    }

    #[test]
    fn a_file_that_stands_for_a_while_is_not_read_again() {
        let (_folder, path, revocations) = revocations(ONE);
        let start = Instant::now();
        let first = revocations.at(start).unwrap();
        // What is written within one step of the file's times could not be told from it.
        assert!(Arc::ptr_eq(&revocations.at(start + SETTLED / 2).unwrap(), &first));
        assert_eq!(reads(&revocations), 2);
        for _ in 0..50 {
            assert!(Arc::ptr_eq(&revocations.at(start + SETTLED).unwrap(), &first));
        }
        assert_eq!(reads(&revocations), 3);
        // The same length, in the same file.
        fs::write(&path, OTHER).unwrap();
        let second = revocations.at(start + SETTLED).unwrap();
        assert!(second.has_key(OTHER) && !second.has_key(ONE));
        assert_eq!(reads(&revocations), 4);
    }

    #[test]
    fn a_file_that_cannot_be_read_any_more_is_no_list_and_the_old_one_is_not_used() {
        let (_folder, path, revocations) = revocations(ONE);
        let start = Instant::now();
        for at in [start, start + SETTLED] {
            assert!(revocations.at(at).unwrap().has_key(ONE));
        }
        fs::write(&path, "nonsense\n").unwrap();
        assert_eq!(revocations.at(start + SETTLED).unwrap_err().code(), "revocation_unreadable");
        fs::remove_file(&path).unwrap();
        for _ in 0..2 {
            assert_eq!(revocations.at(start + SETTLED * 9).unwrap_err().code(), "revocation_unreadable");
        }
        fs::write(&path, OTHER).unwrap();
        assert!(revocations.at(start + SETTLED * 9).unwrap().has_key(OTHER));
    }

    #[test]
    fn where_no_file_is_named_nothing_is_revoked() {
        let none = Revocations::in_file(None);
        assert!(Arc::ptr_eq(&none.now().unwrap(), &none.now().unwrap()));
        assert!(!none.now().unwrap().has_key(ONE));
    }
}

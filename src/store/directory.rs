//! The data directory and the private files in it: made with the right modes, refused with the wrong ones.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

/// Why a directory or private file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Others can read or write it.
    #[error("{} is open to others (mode {mode:04o}): run `chmod {wanted:04o} {}`", path.display(), path.display())]
    Mode {
        /// Which file or directory.
        path: PathBuf,
        /// Its mode bits.
        mode: u32,
        /// The mode that is right.
        wanted: u32,
    },
    /// Somebody else owns it.
    #[error("{} belongs to uid {owner}: run `chown {wanted} {}` or run tailops as that user", path.display(), path.display())]
    Owner {
        /// Which file or directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who runs.
        wanted: u32,
    },
    /// Not a directory, or not a file.
    #[error("{} is not a {wanted}", path.display())]
    Kind {
        /// Which.
        path: PathBuf,
        /// What it should be.
        wanted: &'static str,
    },
    /// Another service uses it.
    #[error("{} is in use by another tailops: stop it, or choose another with --data-dir", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl DirectoryError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |error| Self::Io { path: path.to_owned(), error }
    }
}

/// Makes `path` (and its parents) with mode 0700 if it is not there; refuses one that others can enter or own.
pub fn prepare_directory(path: &Path) -> Result<(), DirectoryError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(DirectoryError::io(path))?;
    check(path, "directory", 0o700)
}

/// Refuses a directory that is not there, or that others can enter or own. Makes nothing.
pub fn check_directory(path: &Path) -> Result<(), DirectoryError> {
    check(path, "directory", 0o700)
}

/// Refuses a private file that others can read or own.
pub(crate) fn check_private(path: &Path) -> Result<(), DirectoryError> {
    check(path, "file", 0o600)
}

fn check(path: &Path, wanted: &'static str, mode: u32) -> Result<(), DirectoryError> {
    // The link itself is looked at: a private file that is a link to somewhere else is not ours to trust.
    let found = path.symlink_metadata().map_err(DirectoryError::io(path))?;
    let right_kind = if wanted == "file" { found.is_file() } else { found.is_dir() };
    if !right_kind {
        return Err(DirectoryError::Kind { path: path.to_owned(), wanted });
    }
    let owner = rustix::process::geteuid().as_raw();
    if found.uid() != owner {
        return Err(DirectoryError::Owner { path: path.to_owned(), owner: found.uid(), wanted: owner });
    }
    if found.mode() & 0o077 != 0 {
        return Err(DirectoryError::Mode { path: path.to_owned(), mode: found.mode() & 0o7777, wanted: mode });
    }
    Ok(())
}

/// Makes an empty file of mode 0600 if there is none.
pub(super) fn create_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map(drop),
    }
}

/// Held while a service uses a data directory. Given up when dropped, and by the system when the process dies.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock of `directory`. Errors at once where another process holds it.
    pub fn take(directory: &Path) -> Result<Self, DirectoryError> {
        let path = directory.join("lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(DirectoryError::io(&path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                note_holder(&file).map_err(DirectoryError::io(&path))?;
                Ok(Self { _file: file })
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Err(DirectoryError::InUse { path: directory.to_owned() }),
            Err(error) => Err(DirectoryError::Io { path, error: error.into() }),
        }
    }
}

/// The process that holds a data directory's lock, as it noted itself there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot: with the pid, one process and no later one.
    pub start_ticks: u64,
}

impl Holder {
    fn this() -> Option<Self> {
        let pid = std::process::id();
        Some(Self { pid, start_ticks: start_ticks(pid)? })
    }

    /// Who noted itself in the lock of `directory` and is still alive.
    pub fn alive(directory: &Path) -> Option<Self> {
        let text = fs::read_to_string(directory.join("lock")).ok()?;
        let (pid, ticks) = text.trim_end().split_once(' ')?;
        let holder = Self { pid: pid.parse().ok()?, start_ticks: ticks.parse().ok()? };
        holder.is_alive().then_some(holder)
    }

    /// Whether that very process is there.
    pub fn is_alive(&self) -> bool {
        start_ticks(self.pid) == Some(self.start_ticks)
    }

    /// Whether somebody holds the lock of `directory` now.
    pub fn holds(directory: &Path) -> bool {
        let Ok(file) = File::open(directory.join("lock")) else { return false };
        flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
    }
}

/// Writes this process into the lock file, in place of who was there; a system without /proc has nothing to write.
fn note_holder(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    match Holder::this() {
        Some(Holder { pid, start_ticks }) => file.write_all(format!("{pid} {start_ticks}\n").as_bytes()),
        None => Ok(()),
    }
}

/// Field 22 of proc(5) `stat`, counted behind the name, which may hold anything. None for a process that is gone or a
/// zombie.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

//! The files of a rotation: the key, the new one and the old one beside it. Each change is one that a crash leaves either
//! done or not done.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::exec::LoginKey;

/// Where the keys are.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) key: PathBuf,
    /// Until it takes the place of the key.
    pub(super) new: PathBuf,
    /// From then on, until the end.
    pub(super) old: PathBuf,
}

fn beside(key: &Path, suffix: &str) -> PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

impl Files {
    pub(super) fn of(key: &Path) -> Self {
        Self { key: key.to_owned(), new: beside(key, ".new"), old: beside(key, ".old") }
    }

    /// A file that stands where one is about to be made.
    pub(super) fn in_the_way(&self) -> Option<String> {
        let taken = [&self.new, &self.old].into_iter().find(|path| path.symlink_metadata().is_ok());
        taken.map(|path| path.display().to_string())
    }

    /// Whether the key is the one with this fingerprint.
    pub(super) fn holds(&self, fingerprint: &str) -> bool {
        LoginKey::read(&self.key).is_ok_and(|key| key.fingerprint == fingerprint)
    }

    /// Removes the new key, which nothing will use.
    pub(super) fn forget_new(&self) {
        if let Err(error) = fs::remove_file(&self.new)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.new.display(), %error, "a key that nothing uses could not be removed");
        }
    }

    /// Puts the new key in the place of the key, which stays beside it as the old one.
    pub(super) fn swap(&self, public: &str) -> io::Result<()> {
        match fs::hard_link(&self.key, &self.old) {
            // From an attempt that was cut short here.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && same(&self.key, &self.old)? => {}
            other => other?,
        }
        fs::rename(&self.new, &self.key)?;
        self.sync()?;
        let shown = beside(&self.key, ".pub");
        // For people and programs that read it; nothing of the login hangs on it.
        if shown.is_file()
            && let Err(error) = fs::write(&shown, format!("{public}\n"))
        {
            tracing::warn!(path = %shown.display(), %error, "the public key beside a new key is still the old one");
        }
        Ok(())
    }

    /// Removes the old key, which opens nothing any more.
    pub(super) fn forget_old(&self) -> io::Result<()> {
        match fs::remove_file(&self.old) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.and_then(|()| self.sync()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.key.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }
}

fn same(one: &Path, other: &Path) -> io::Result<bool> {
    Ok(fs::read(one)? == fs::read(other)?)
}

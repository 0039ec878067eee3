//! Pins: the digests of a configuration and of every file it names, so that an altered one is refused. Looks at the
//! very bytes that were read, never at a file twice.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use ring::digest;

use crate::model::hex;

/// A file as it was read.
#[derive(Clone, Debug)]
pub(super) struct Read {
    /// Where it is.
    pub(super) path: PathBuf,
    /// What is in it.
    pub(super) bytes: Vec<u8>,
}

impl Read {
    pub(super) fn file(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), bytes: fs::read(path)? })
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// Where the pin of `config` is: beside it.
pub(super) fn pin_of(config: &Path) -> PathBuf {
    let mut name = config.as_os_str().to_owned();
    name.push(".sha256");
    name.into()
}

/// One line a file, the configuration first, as `sha256sum` writes and checks them. The configuration goes by its
/// name alone, so that its directory can move; the files it names by the absolute paths it names them by.
pub(super) fn manifest(files: &[Read]) -> String {
    lines(files).map(|(name, digest)| format!("{digest}  {name}\n")).collect()
}

fn lines(files: &[Read]) -> impl Iterator<Item = (String, String)> {
    files.iter().enumerate().map(|(index, file)| {
        let name = if index == 0 { file.path.file_name().unwrap_or_default() } else { file.path.as_os_str() };
        (name.to_string_lossy().into_owned(), sha256(&file.bytes))
    })
}

/// The digest of all of them together: what `--config-sha256` takes.
pub(super) fn digest_of(files: &[Read]) -> String {
    sha256(manifest(files).as_bytes())
}

/// Writes the pin of `files` beside the first of them.
pub(super) fn write(files: &[Read]) -> io::Result<PathBuf> {
    let path = pin_of(files.first().map_or(Path::new(""), |file| &file.path));
    let new = path.with_extension("sha256.new");
    let mut file = fs::File::create(&new)?;
    file.write_all(manifest(files).as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    Ok(path)
}

/// Compares `files` with the pin beside the first of them and with `wanted`, the digest given at the command line.
/// True if there was a pin at all. `complete` says that no file is missing from `files`, else only those that are
/// there are compared. Errors with what differs.
pub(super) fn check(files: &[Read], wanted: Option<&str>, complete: bool) -> Result<bool, Vec<String>> {
    let Some(first) = files.first() else { return Ok(false) };
    let path = pin_of(&first.path);
    let pinned = match fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(vec![format!("{}: {error}", path.display())]),
    };
    let mut wrong = pinned.as_deref().map_or_else(Vec::new, |text| compare(files, text, &path, complete));
    if let Some(wanted) = wanted
        && complete
        && wrong.is_empty()
    {
        let found = digest_of(files);
        if !found.eq_ignore_ascii_case(wanted) {
            let names: Vec<_> = files.iter().map(|file| file.path.display().to_string()).collect();
            wrong.push(format!(
                "{}: not what --config-sha256 pins: the digest is {found}; `tailops config pin --print` shows that of each file",
                names.join(" or ")
            ));
        }
    }
    if wrong.is_empty() { Ok(pinned.is_some() || wanted.is_some()) } else { Err(wrong) }
}

/// What differs between `files` and the text of a pin.
fn compare(files: &[Read], text: &str, path: &Path, complete: bool) -> Vec<String> {
    let mut pinned = Vec::new();
    for line in text.lines() {
        match line.split_once("  ") {
            Some((digest, name)) if digest.len() == 64 => pinned.push((name, digest)),
            _ => return vec![format!("{}: is no pin: write it with `tailops config pin`", path.display())],
        }
    }
    let found: Vec<(String, String)> = lines(files).collect();
    let mut wrong = Vec::new();
    for ((name, digest), file) in found.iter().zip(files) {
        let shown = file.path.display();
        match pinned.iter().find(|(known, _)| known == name) {
            Some((_, wanted)) if wanted == digest => {}
            Some(_) => wrong.push(format!("{shown}: was altered after it was pinned: its SHA-256 is {digest}")),
            None => wrong.push(format!("{shown}: is not in the pin {}", path.display())),
        }
    }
    if complete {
        let missing = pinned.iter().filter(|(name, _)| !found.iter().any(|(known, _)| known == name));
        wrong.extend(missing.map(|(name, _)| format!("{name}: is pinned, and the configuration does not name it")));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned(files: &[(&str, &str)]) -> (tempfile::TempDir, Vec<Read>) {
        let directory = tempfile::tempdir().unwrap();
        let read = files.iter().map(|(name, text)| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            Read::file(&path).unwrap()
        });
        let read: Vec<_> = read.collect();
        (directory, read)
    }

    #[test]
    fn a_pin_holds_every_byte_of_every_file() {
        let (_directory, files) = pinned(&[("a.toml", "profile = \"maximum\"\n"), ("t.yaml", "targets: {}\n")]);
        assert_eq!(check(&files, None, true), Ok(false), "there is none yet");
        let path = write(&files).unwrap();
        assert_eq!(check(&files, None, true), Ok(true));
        assert_eq!(check(&files, Some(&digest_of(&files)), true), Ok(true));
        for (index, name) in [(0, "a.toml"), (1, "t.yaml")] {
            let mut altered = files.clone();
            altered[index].bytes[3] ^= 1;
            let wrong = check(&altered, None, true).unwrap_err();
            assert_eq!(wrong.len(), 1, "{wrong:?}");
            assert!(wrong[0].contains(name) && wrong[0].contains("was altered"), "{wrong:?}");
            fs::rename(&path, path.with_extension("away")).unwrap();
            let wrong = check(&altered, Some(&digest_of(&files)), true).unwrap_err();
            assert!(wrong[0].contains(name), "{wrong:?}");
            fs::rename(path.with_extension("away"), &path).unwrap();
        }
        let wrong = check(&files[..1], None, true).unwrap_err();
        assert!(wrong[0].contains("t.yaml: is pinned"), "{wrong:?}");
        assert_eq!(check(&files[..1], None, false), Ok(true), "those that are there are right");
        let more = [&files[..], &files[1..]].concat();
        fs::write(&path, manifest(&files[..1])).unwrap();
        assert!(check(&more, None, true).unwrap_err()[0].contains("is not in the pin"));
        for broken in ["", "no pin\n", "abc  a.toml\n"] {
            fs::write(&path, broken).unwrap();
            assert!(check(&files, None, true).is_err(), "{broken:?}");
        }
    }
}

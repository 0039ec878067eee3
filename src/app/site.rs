//! What site policy is loaded from: the files of a directory and the facts of the catalogue. Judges nothing.

use std::{
    borrow::Cow,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use crate::{
    config::{Config, SiteFile},
    policy::{Inventory, SitePolicy, SiteProblems, SiteSource, ToolFacts},
    tools::{self, Kind},
};

/// The largest file of policies, in bytes.
const LARGEST: u64 = 1 << 20;

/// What site policy may know of every tool there is.
pub fn catalogue() -> Vec<ToolFacts> {
    let facts = |tool: &&dyn tools::Tool| {
        let spec = tool.spec();
        ToolFacts {
            name: spec.name,
            effect: spec.effect,
            risk: spec.risk,
            on_target: spec.kind == Kind::Host,
            scopes: spec.scopes,
            input: tool.judged(),
        }
    };
    tools::ALL.iter().map(facts).collect()
}

/// The `*.cedar` files of `directory`, by name. Errors where there is none, one cannot be read, or everybody could
/// have written one.
pub fn site_files(directory: &Path) -> Result<Vec<SiteFile>, SiteProblems> {
    refuse_public(directory)?;
    let unreadable = |path: &Path, error: &dyn std::fmt::Display| SiteProblems::about(path.display(), error);
    let entries = fs::read_dir(directory).map_err(|error| unreadable(directory, &error))?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(directory, &error))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "cedar"));
    paths.sort();
    if paths.is_empty() {
        return Err(SiteProblems::about(directory.display(), "holds no file called *.cedar"));
    }
    let read = |path: PathBuf| {
        refuse_public(&path)?;
        let metadata = fs::metadata(&path).map_err(|error| unreadable(&path, &error))?;
        if !metadata.is_file() || metadata.size() > LARGEST {
            return Err(unreadable(&path, &format_args!("must be a regular file of at most {LARGEST} bytes")));
        }
        let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        Ok(SiteFile { name: path.display().to_string(), text })
    };
    paths.into_iter().map(read).collect()
}

/// The site's policy under `config`, and the files it was loaded from: those that `config` brings, else those of its
/// directory, read now. `inventory` is what policies may name; none where that is not known.
pub fn site_policy<'a>(
    config: &'a Config,
    inventory: Option<Inventory<'_>>,
    now: Timestamp,
) -> Result<(SitePolicy, Cow<'a, [SiteFile]>), SiteProblems> {
    let files: Cow<'a, [SiteFile]> = match (&config.policy.files, &config.policy.directory) {
        (Some(files), _) => files.into(),
        (None, Some(directory)) => site_files(directory)?.into(),
        (None, None) => Cow::default(),
    };
    let site = SitePolicy::load(&SiteSource {
        tools: &catalogue(),
        files: &files,
        inventory,
        time_zone: &config.policy.time_zone,
        exceptions: &config.policy.exceptions,
        now,
    })?;
    Ok((site, files))
}

/// Errors where everybody on this machine may write to `path`.
fn refuse_public(path: &Path) -> Result<(), SiteProblems> {
    let metadata = fs::metadata(path).map_err(|error| SiteProblems::about(path.display(), error))?;
    if metadata.permissions().mode() & 0o002 != 0 {
        return Err(SiteProblems::about(path.display(), "everybody may write to it; chmod o-w"));
    }
    Ok(())
}

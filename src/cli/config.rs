//! `tailops config`.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::{
    Exit, pin, say,
    sources::{Sources, invalid},
};
use crate::config::Profile;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say everything that is wrong with a configuration file, and what its profile would rather have otherwise
    Check {
        /// The file
        #[arg(default_value = "tailops.toml")]
        file: PathBuf,
    },
    /// Print every setting in force, defaults too
    Show {
        /// The file
        #[arg(default_value = "tailops.toml")]
        file: PathBuf,
    },
    /// Pin a configuration and every file it names: altered ones are refused from then on
    Pin {
        /// The file
        #[arg(default_value = "tailops.toml")]
        file: PathBuf,
        /// Write nothing: print the digest of each file, and the one for --config-sha256
        #[arg(long)]
        print: bool,
    },
}

pub(super) fn run(command: Command) -> Result<(), Exit> {
    match command {
        Command::Check { file } => check(&file),
        Command::Show { file } => {
            say(Sources::of(&file).read().map_err(invalid)?.config.effective().trim_end())?;
            Ok(())
        }
        Command::Pin { file, print } => pin(&file, print),
    }
}

fn check(file: &Path) -> Result<(), Exit> {
    let loaded = Sources::of(file).read().map_err(invalid)?;
    let config = &loaded.config;
    for advice in config.advice() {
        say(format_args!("{}: warning: {advice}", file.display()))?;
    }
    if config.profile == Profile::Maximum && !loaded.pinned {
        say(format_args!("{}: warning: profile maximum wants a pin: run `tailops config pin`", file.display()))?;
    }
    say(format_args!(
        "{}: fine: profile {}, {} engagement(s), {} target(s)",
        file.display(),
        config.profile.as_str(),
        config.engagements.len(),
        config.targets.len() + config.registered.len()
    ))?;
    Ok(())
}

fn pin(file: &Path, print: bool) -> Result<(), Exit> {
    let files = Sources::of(file).read_unpinned().map_err(invalid)?;
    if print {
        say(pin::manifest(&files).trim_end())?;
        say(format_args!("--config-sha256 {}", pin::digest_of(&files)))?;
        return Ok(());
    }
    let path = pin::write(&files)?;
    say(format_args!("{}: pins {} file(s); --config-sha256 {}", path.display(), files.len(), pin::digest_of(&files)))?;
    Ok(())
}

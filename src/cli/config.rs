//! `tailops config`.

use std::{fs, path::Path, path::PathBuf};

use anyhow::{Context, anyhow};
use clap::Subcommand;

use super::{Exit, say};
use crate::{
    config::{self, Config},
    tools,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say everything that is wrong with a configuration file
    Check {
        /// The file
        #[arg(default_value = "tailops.toml")]
        file: PathBuf,
    },
}

pub(super) fn run(command: Command) -> Result<(), Exit> {
    let Command::Check { file } = command;
    let config = load(&file)?;
    say(format_args!(
        "{}: fine: profile {}, {} engagement(s), {} target(s)",
        file.display(),
        config.profile.as_str(),
        config.engagements.len(),
        config.targets.len()
    ))?;
    Ok(())
}

/// Reads a configuration file; the error lists every problem.
pub(super) fn load(file: &Path) -> Result<Config, Exit> {
    let text =
        fs::read_to_string(file).with_context(|| file.display().to_string()).map_err(|error| Exit::with(3, error))?;
    let names: Vec<_> = tools::ALL.iter().map(|tool| tool.spec().name).collect();
    config::load(file, &text, &names)
        .map_err(|problems| Exit::with(3, anyhow!("the configuration is not valid\n{problems}")))
}

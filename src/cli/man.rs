//! `tailops man`: manual pages for section 1, made from the definition of the command line. Installs nothing.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, Command};
use clap_mangen::Man;

use super::{Exit, command};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Write a page for each command into this directory instead of printing the first one
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Exit> {
    let mut command = command();
    // Gives every command below its full name.
    command.build();
    match &arguments.out {
        None => io::stdout().lock().write_all(&page(command)?)?,
        Some(folder) => {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            write_all(command, folder)?;
        }
    }
    Ok(())
}

/// Writes the page of `command` and of every command below it: `tailops-token-mint.1`.
fn write_all(command: Command, folder: &Path) -> anyhow::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write_all(below.clone(), folder)?;
    }
    let path = folder.join(Man::new(command.clone()).get_filename());
    fs::write(&path, page(command)?).with_context(|| path.display().to_string())
}

/// The text of one page.
fn page(command: Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command).manual("tailops").render(&mut page)?;
    Ok(page)
}

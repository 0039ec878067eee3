//! `tailops audit`.

use std::{
    io::{self, BufWriter, Write},
    path::Path,
};

use clap::Subcommand;

use super::{Exit, block_on, data_directory, existing_store};
use crate::audit::Export;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the log as JSON lines, oldest first: one record a call, each the very bytes that were hashed
    Export {
        /// Print every leaf: also the intents whose outcome is there
        #[arg(long)]
        all: bool,
    },
}

pub(super) fn run(directory: Option<&Path>, command: Command) -> Result<(), Exit> {
    let directory = data_directory(directory)?;
    let Command::Export { all } = command;
    block_on(async {
        let store = existing_store(&directory).await?;
        let mut export = Export::new(store.leaf_reader(), all);
        let mut out = BufWriter::new(io::stdout().lock());
        while let Some(lines) = export.next().await? {
            for line in lines {
                writeln!(out, "{line}")?;
            }
        }
        out.flush()?;
        store.close().await;
        Ok(())
    })
}

//! `tailops audit check-approval`: whether what the log says about one approval fits together, its signatures checked
//! anew. Works on an export alone, anywhere; with a data directory it reads the same lines from there.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::Args;

use super::{Exit, block_on, data_directory, existing_store, say, visible::visible};
use crate::audit::{ApprovalCheck, Export};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The approval
    #[arg(value_name = "ID")]
    id: String,
    /// What `tailops audit export` wrote, `-` for standard input [default: the log in the data directory]
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
}

pub(super) fn run(directory: Option<&Path>, arguments: &Arguments) -> Result<(), Exit> {
    let mut check = ApprovalCheck::new(&arguments.id);
    match arguments.export.as_deref() {
        None => block_on(async {
            let store = existing_store(&data_directory(directory)?).await?;
            let mut export = Export::new(store.leaf_reader(), true);
            while let Some(lines) = export.next().await? {
                lines.iter().for_each(|line| check.take(line));
            }
            store.close().await;
            Ok(())
        })?,
        Some(file) if file == Path::new("-") => take(&mut check, io::stdin().lock()).context("standard input")?,
        Some(file) => {
            let opened = File::open(file).map_err(anyhow::Error::from);
            let taken = opened.and_then(|opened| take(&mut check, BufReader::new(opened)));
            taken.with_context(|| format!("--export {}", file.display()))?;
        }
    }
    let checked = check.finish();
    for line in &checked.found {
        say(visible(line))?;
    }
    if checked.faults.is_empty() {
        say("everything fits: each signature is good and over this approval, and each run rests on what people said")?;
        return Ok(());
    }
    let faults: Vec<String> = checked.faults.iter().map(|fault| format!("  {}", visible(fault))).collect();
    Err(anyhow!("the records of {} do not fit together:\n{}", visible(&arguments.id), faults.join("\n")).into())
}

fn take(check: &mut ApprovalCheck, lines: impl BufRead) -> anyhow::Result<()> {
    for line in lines.lines() {
        check.take(&line?);
    }
    Ok(())
}

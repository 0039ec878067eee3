//! `tailops acl`: the part of the tailnet policy that a gateway needs: made, merged into an existing policy, and looked
//! for in one. Reads and writes files that it is told; asks no control server.

mod blocks;
mod check;
mod dialect;
mod hujson;
mod merge;
mod needs;
mod reach;

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, ensure};
use clap::{Args, Subcommand};
use similar::TextDiff;

use self::{
    check::{Finding, Level},
    hujson::Document,
    needs::{Dialect, Needs, Wanted},
};
use super::{
    Exit, say,
    sources::{Sources, invalid},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the tailnet policy that the gateway needs, or merge it into the one there is
    Print(Box<Print>),
    /// Say which of the gateway's needs a policy meets, lacks or contradicts
    Check(Box<Check>),
}

#[derive(Args, Debug)]
pub(super) struct Print {
    #[command(flatten)]
    wanted: Wanted,
    /// Leave out the test rows: headscale refuses a policy whose rows name a device that has not joined yet
    #[arg(long)]
    no_tests: bool,
    /// Add what is missing to this policy, and show the difference
    #[arg(long, value_name = "FILE")]
    merge: Option<PathBuf>,
    /// Write the merged policy back
    #[arg(long, requires = "merge")]
    write: bool,
    /// Write to this file, which must not be there yet
    #[arg(long, value_name = "FILE", conflicts_with = "merge")]
    output: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct Check {
    /// The policy
    file: PathBuf,
    #[command(flatten)]
    wanted: Wanted,
    /// As an array of objects
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: Command) -> Result<(), Exit> {
    match command {
        Command::Print(print) => self::print(&print),
        Command::Check(check) => self::check(&check),
    }
}

/// What the gateway needs. With `owned`, who gives out tags is needed too.
fn needs(wanted: &Wanted, owned: bool) -> Result<Needs, Exit> {
    let config = Sources::of(&wanted.config).read().map_err(invalid)?.config;
    Needs::of(&config, wanted, owned).map_err(|error| Exit::with(2, error))
}

fn print(print: &Print) -> Result<(), Exit> {
    let needs = needs(&print.wanted, true)?;
    let blocks = blocks::blocks(&needs, !print.no_tests)?;
    for note in &needs.notes {
        warn(note)?;
    }
    for (group, _) in needs.groups.iter().filter(|(_, members)| members.is_empty()) {
        warn(&format!(
            "{group} has no members yet, and no test row: name them with --member {group}=alice@example.com"
        ))?;
    }
    if needs.dialect == Dialect::Headscale && !print.no_tests {
        warn("headscale runs the test rows against devices that have joined: until all have, print with --no-tests")?;
    }
    let Some(file) = &print.merge else {
        let text = blocks::print(&blocks)?;
        return match &print.output {
            None => Ok(write!(io::stdout(), "{text}")?),
            Some(output) => {
                let new = File::options().write(true).create_new(true).open(output);
                let mut new = new.with_context(|| output.display().to_string())?;
                new.write_all(text.as_bytes())?;
                Ok(new.sync_all()?)
            }
        };
    };
    let name = file.display();
    let text = fs::read_to_string(file).with_context(|| name.to_string())?;
    let merged = merge::merge(&text, &blocks).map_err(|error| anyhow!("{name}:{error}"))?;
    for note in &merged.notes {
        warn(&format!("{name}: {note}"))?;
    }
    if merged.text == text {
        writeln!(io::stderr(), "{name}: has all of it already")?;
    } else {
        let diff = TextDiff::from_lines(&text, &merged.text);
        let (old, new) = (name.to_string(), format!("{name} (merged)"));
        write!(io::stderr(), "{}", diff.unified_diff().context_radius(3).header(&old, &new))?;
    }
    if !print.write {
        return Ok(write!(io::stdout(), "{}", merged.text)?);
    }
    if merged.text != text {
        replace(file, &text, &merged.text)?;
        writeln!(io::stderr(), "{name}: written")?;
    }
    Ok(())
}

/// Puts `new` in the place of `file`, whole or not at all, with its mode; refuses if it no longer holds `old`.
fn replace(file: &Path, old: &str, new: &str) -> anyhow::Result<()> {
    let name = file.display();
    // Through a link, what it names is replaced, and the link stays.
    let file = fs::canonicalize(file).with_context(|| name.to_string())?;
    let mut beside = file.clone().into_os_string();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let opened = File::options().write(true).create_new(true).open(&beside);
    let mut written = opened.with_context(|| format!("{}: the new policy is written here first", beside.display()))?;
    let mut put = || -> anyhow::Result<()> {
        written.set_permissions(fs::metadata(&file)?.permissions())?;
        written.write_all(new.as_bytes())?;
        written.sync_all()?;
        ensure!(fs::read_to_string(&file)? == old, "was changed meanwhile; nothing is written");
        Ok(fs::rename(&beside, &file)?)
    };
    put().or_else(|error| {
        let _ = fs::remove_file(&beside);
        Err(error).context(name.to_string())
    })
}

fn check(check: &Check) -> Result<(), Exit> {
    let needs = needs(&check.wanted, false)?;
    let name = check.file.display();
    let text = fs::read_to_string(&check.file).with_context(|| name.to_string())?;
    let document = Document::read(&text).map_err(|error| anyhow!("{name}:{error}"))?;
    let findings = check::check(&document, &needs)?;
    if check.json {
        say(serde_json::to_string_pretty(&findings)?)?;
    } else {
        for note in &needs.notes {
            warn(note)?;
        }
        for Finding { level, about, line, what, mend } in &findings {
            let place = line.map_or_else(|| name.to_string(), |line| format!("{name}:{line}"));
            let visible: String = what.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
            say(format_args!("{:4} {place}: {about}: {visible}", level.as_str()))?;
            if !mend.is_empty() {
                say(format_args!("       {mend}"))?;
            }
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let fails = count(Level::Fail);
    if !check.json {
        say(format_args!("{} ok, {} warn, {fails} fail", count(Level::Ok), count(Level::Warn)))?;
    }
    if fails == 0 { Ok(()) } else { Err(anyhow!("{name} does not do for this gateway: {fails} finding(s)").into()) }
}

fn warn(note: &str) -> io::Result<()> {
    writeln!(io::stderr(), "warning: {note}")
}

#[cfg(test)]
mod tests;

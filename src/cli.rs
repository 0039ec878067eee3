//! The command line: one file a command. The only place that reads the environment and prints.
//!
//! Exit codes: 0 done; 1 it did not work; 2 the command line is wrong; 3 the configuration is wrong; 4 the port or the
//! data directory is in use.

mod acl;
mod approvals;
mod approve;
mod approver;
mod audit;
mod break_glass;
mod check_approval;
mod client;
mod completions;
mod config;
mod control;
mod credential;
mod deny;
mod dev_approver;
mod doctor;
mod environment;
mod logging;
mod man;
mod node;
mod people;
mod pin;
mod policy;
mod question;
mod reload;
mod reviews;
mod serve;
mod signing;
mod sources;
mod stdio;
mod target;
mod target_prepare;
mod token;
mod visible;
mod watch;

use std::{
    ffi::OsString,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};

use crate::store::Store;

/// What the program is called.
const NAME: &str = "tailops";

/// The gateway through which AI agents operate machines: identified, authorised and durably audited, over MCP.
#[derive(Debug, Parser)]
#[command(name = NAME, version, propagate_version = true, disable_help_subcommand = true, after_help = AFTER_HELP)]
struct Arguments {
    /// Where keys, tokens and the audit log are kept [default: $XDG_STATE_HOME/tailops or ~/.local/state/tailops]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Exit codes: 0 done; 1 it did not work; 2 the command line is wrong; 3 the configuration is wrong;
4 the port or the data directory is in use.

Try: tailops serve --dev";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Serve(serve::Arguments),
    /// Look at a configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Check, try and explain the site's policies
    #[command(subcommand)]
    Policy(policy::Command),
    /// Tell a running service to read its configuration anew, and wait for what came of it
    Reload(reload::Arguments),
    /// Look at the gateway: what is well, what is not, and what mends it
    Doctor(doctor::Arguments),
    /// Import, export and look at targets
    #[command(subcommand)]
    Target(target::Command),
    /// See how old the gateway's own secrets are, and replace them
    #[command(subcommand)]
    Credential(credential::Command),
    /// Make, show and revoke tokens
    #[command(subcommand)]
    Token(token::Command),
    /// The keys whose signatures count as an approver's word
    #[command(subcommand)]
    Approver(approver::Command),
    /// Read the audit log
    #[command(subcommand)]
    Audit(audit::Command),
    /// List what people are asked to approve
    Approvals(approvals::Arguments),
    /// Look at an operation and agree to it
    Approve(approve::Arguments),
    /// Say no to an operation
    Deny(deny::Arguments),
    /// Make a pass for an emergency: one operation that needs an approval runs without, once
    BreakGlass(break_glass::Arguments),
    /// List what was let through by breaking the glass, and close its reviews
    Reviews(reviews::Arguments),
    /// Follow what people are asked to approve, and decide with a key
    Watch(watch::Arguments),
    /// Make and check the tailnet policy that the gateway needs
    #[command(subcommand)]
    Acl(acl::Command),
    /// Print the configuration that connects a client
    Client(client::Arguments),
    /// Speak the protocol over standard input and output, for clients that start a program
    Stdio(stdio::Arguments),
    /// Print what a shell completes: a script for it to source
    Completions(completions::Arguments),
    /// Print the manual page, or write one for each command
    Man(man::Arguments),
    /// Be the gateway's node on the tailnet; `tailops serve` starts this
    #[command(hide = true)]
    Node,
}

/// The definition of the command line: manual pages, completions and the check of the documentation come from it.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// An error with its exit code.
#[derive(Debug)]
struct Exit {
    code: u8,
    error: anyhow::Error,
}

impl<E: Into<anyhow::Error>> From<E> for Exit {
    fn from(error: E) -> Self {
        Self { code: 1, error: error.into() }
    }
}

impl Exit {
    fn with(code: u8, error: impl Into<anyhow::Error>) -> Self {
        Self { code, error: error.into() }
    }
}

/// Runs the command that the arguments name, prints what it has to say, and returns its exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    #[cfg(debug_assertions)]
    choose_failpoint();
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let directory = arguments.data_dir.as_deref();
    let result = match arguments.command {
        Command::Serve(arguments) => serve::run(directory, arguments),
        Command::Config(command) => config::run(command),
        Command::Policy(command) => policy::run(command),
        Command::Reload(arguments) => reload::run(directory, arguments),
        Command::Doctor(arguments) => doctor::run(directory, arguments),
        Command::Target(command) => target::run(directory, command),
        Command::Credential(command) => credential::run(directory, command),
        Command::Token(command) => token::run(directory, command),
        Command::Approver(command) => approver::run(directory, command),
        Command::Audit(command) => audit::run(directory, command),
        Command::Approvals(arguments) => approvals::run(directory, arguments),
        Command::Approve(arguments) => approve::run(directory, arguments),
        Command::Deny(arguments) => deny::run(directory, arguments),
        Command::BreakGlass(arguments) => break_glass::run(directory, arguments),
        Command::Reviews(arguments) => reviews::run(directory, arguments),
        Command::Watch(arguments) => watch::run(directory, arguments),
        Command::Acl(command) => acl::run(command),
        Command::Client(arguments) => client::run(directory, arguments),
        Command::Stdio(arguments) => stdio::run(arguments),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
        Command::Node => node::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Exit { code, error }) => {
            // A reader that stops reading (`| head`) is no failure worth a message.
            let broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
                cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
            };
            if !error.chain().any(broken_pipe) {
                let _ = writeln!(io::stderr(), "{} {error:#}", label());
            }
            ExitCode::from(code)
        }
    }
}

/// For tests of crashes; see [`crate::model`].
#[cfg(debug_assertions)]
#[expect(clippy::disallowed_methods, reason = "the command line reads the environment")]
fn choose_failpoint() {
    if let Ok(chosen) = std::env::var("TAILOPS_FAILPOINT") {
        crate::model::choose_failpoint(chosen);
    }
}

fn label() -> &'static str {
    if colours(&io::stderr()) { "\u{1b}[1;31merror:\u{1b}[0m" } else { "error:" }
}

/// Whether to colour: only on a terminal, and not with `NO_COLOR` (no-color.org).
#[expect(clippy::disallowed_methods, reason = "the command line reads the environment")]
fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The data directory: the one given, or the platform's place for state.
#[expect(clippy::disallowed_methods, reason = "the command line reads the environment")]
fn data_directory(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(given) = given {
        return std::path::absolute(given).with_context(|| format!("--data-dir {}", given.display()));
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("tailops"))
        .context("neither XDG_STATE_HOME nor HOME is set: say where to keep state with --data-dir DIR")
}

/// The store of an installation that is already there.
async fn existing_store(directory: &Path) -> anyhow::Result<Store> {
    let file = directory.join(crate::store::FILE);
    anyhow::ensure!(
        file.exists(),
        "{} holds no tailops data: run `tailops serve --dev` first, or name another with --data-dir",
        directory.display()
    );
    Ok(Store::open(directory).await?)
}

/// Runs `task` on a small runtime.
fn block_on<T>(task: impl Future<Output = Result<T, Exit>>) -> Result<T, Exit> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(task)
}

/// The local user who runs this command, by name, or by number where the passwd database has no name.
fn local_user() -> String {
    let uid = rustix::process::getuid().as_raw();
    uzers::get_user_by_uid(uid).map_or_else(|| format!("uid:{uid}"), |user| user.name().to_string_lossy().into_owned())
}

/// Writes one line to standard output.
fn say(text: impl std::fmt::Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Writes a table: columns as wide as they must be, what would steer a terminal made visible.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for line in columns(head, rows) {
        writeln!(out, "{line}")?;
    }
    out.flush()
}

/// The lines of a table, the head first.
fn columns(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Vec<String> {
    let mut lines: Vec<Vec<String>> = vec![head.iter().map(|name| (*name).to_owned()).collect()];
    lines.extend(rows.into_iter().map(|row| row.iter().map(|cell| visible::visible(cell)).collect()));
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..head.len()).map(|column| width(column).unwrap_or_default()).collect();
    let joined = lines.iter().map(|line| {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    joined.collect()
}

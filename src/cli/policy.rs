//! `tailops policy`: looks at a site's policies and tries them on simulated calls. Starts nothing and changes nothing.

mod cases;
mod simulate;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Map, Value};

use self::{
    cases::Cases,
    simulate::{Caller, Simulation},
};
use super::{
    Exit, say,
    sources::{Sources, invalid},
};
use crate::{
    config::{Config, Engagement},
    model::{Clock, ScopeSet, Strength, SystemClock, Target, check_keys},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say what is loaded, or everything that is wrong with it
    Check {
        #[command(flatten)]
        source: Source,
    },
    /// Try the policies on the cases of a file; any difference is a failure
    Test {
        /// The cases: who calls what, when, and what is expected
        cases: PathBuf,
        #[command(flatten)]
        source: Source,
    },
    /// Say what policy would answer to one call, as the tool policy_explain does
    Explain(Box<Explain>),
}

#[derive(Args, Debug)]
pub(super) struct Source {
    /// The configuration with its targets, time zone, exceptions and policies [default: tailops.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The policies of this directory, instead of the configuration's; alone, without any configuration
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct Explain {
    #[command(flatten)]
    source: Source,
    /// Whose token it would be
    #[arg(long, value_name = "NAME", default_value = "agent")]
    token_subject: String,
    /// Who would have made it
    #[arg(long, value_name = "NAME", default_value = "")]
    owner: String,
    /// What the token would allow, e.g. readonly or system:read,log:read
    #[arg(long, value_name = "SCOPES", value_parser = ScopeSet::parse)]
    scopes: ScopeSet,
    /// The tenant it would belong to
    #[arg(long, value_name = "NAME", default_value = "default")]
    engagement: String,
    /// The person behind the peer
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The node the peer is on
    #[arg(long, value_name = "NAME", default_value = "")]
    node: String,
    /// A tag of that node (may be repeated)
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// The tool
    #[arg(long, value_name = "NAME")]
    tool: String,
    /// The target
    #[arg(long, value_name = "ID")]
    target: Option<String>,
    /// The other arguments, as a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = object)]
    args: Object,
    /// When, e.g. 2026-11-21T02:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// As an object
    #[arg(long)]
    json: bool,
}

/// Arguments of a call.
type Object = Map<String, Value>;

fn object(text: &str) -> Result<Object, String> {
    check_keys(text.as_bytes()).map_err(|error| error.to_string())?;
    serde_json::from_str(text).map_err(|error| error.to_string())
}

pub(super) fn run(command: Command) -> Result<(), Exit> {
    match command {
        Command::Check { source } => check(&source),
        Command::Test { cases, source } => test(&cases, &source),
        Command::Explain(explain) => self::explain(&explain),
    }
}

impl Source {
    /// The simulation of this site, with these targets besides. Errors with every problem there is.
    fn simulation(&self, besides: Vec<Target>, engagements: &[&str]) -> Result<Simulation, Exit> {
        let (mut config, complete) = match (&self.config, &self.directory) {
            (None, Some(_)) => {
                let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
                let mut config = Config::development(PathBuf::new(), listen);
                (config.targets, config.engagements) = (Vec::new(), Vec::new());
                config.policy.directory.clone_from(&self.directory);
                (config, false)
            }
            (file, _) => {
                let file = file.as_deref().unwrap_or(Path::new("tailops.toml"));
                (Sources::of(file).read_to_try(self.directory.as_deref()).map_err(invalid)?, true)
            }
        };
        if self.config.is_none() && self.directory.is_some() {
            let owners = besides.iter().map(|target| target.engagement.as_str()).chain(engagements.iter().copied());
            for id in owners {
                if !config.engagements.iter().any(|engagement| engagement.id.as_str() == id) {
                    config.engagements.push(Engagement { id: id.into(), tools: None, data_root: None });
                }
            }
        }
        config.targets.retain(|target| besides.iter().all(|other| other.id != target.id));
        config.targets.extend(besides);
        Simulation::of(&config, complete, SystemClock.now())
            .map_err(|problems| Exit::with(3, anyhow!("the site's policies are not valid\n{problems}")))
    }
}

fn check(source: &Source) -> Result<(), Exit> {
    let simulation = source.simulation(Vec::new(), &[])?;
    let site = simulation.policy.site();
    let list = |own| site.ids(own).collect::<Vec<_>>();
    let (own, default) = (list(true), list(false));
    for warning in site.warnings() {
        writeln!(io::stderr(), "warning: {warning}")?;
    }
    say(format_args!("default set: {}", default.join(", ")))?;
    say(format_args!("site: {}", if own.is_empty() { "none".to_owned() } else { own.join(", ") }))?;
    if !simulation.complete {
        say("names of targets and engagements were not checked: that needs --config FILE")?;
    }
    say(format_args!("fine: {} policies, {} warning(s)", own.len() + default.len(), site.warnings().len()))?;
    Ok(())
}

fn test(file: &Path, source: &Source) -> Result<(), Exit> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let cases = Cases::read(file, &text).map_err(|error| Exit::with(3, error))?;
    let simulation = source.simulation(cases.targets(file)?, &cases.engagements())?;
    let differences = cases.differences(&simulation);
    if !differences.is_empty() {
        say(cases::table(file, &differences))?;
    }
    say(format_args!("{} case(s), {} difference(s)", cases.len(), differences.len()))?;
    if differences.is_empty() {
        Ok(())
    } else {
        Err(anyhow!("the policies do not answer as {} expects", file.display()).into())
    }
}

fn explain(explain: &Explain) -> Result<(), Exit> {
    let simulation = explain.source.simulation(Vec::new(), &[&explain.engagement])?;
    let caller = Caller {
        subject: explain.token_subject.clone(),
        owner: explain.owner.clone(),
        scopes: explain.scopes,
        engagement: explain.engagement.clone(),
        user: explain.user.clone(),
        node: explain.node.clone(),
        tags: explain.tags.clone(),
        ..Caller::default()
    };
    let mut arguments = explain.args.clone();
    if let Some(target) = &explain.target {
        arguments.insert("target".into(), target.clone().into());
    }
    let now = explain.at.unwrap_or_else(|| SystemClock.now());
    let answer = simulation.explain(&caller, &explain.tool, &arguments, now)?;
    if explain.json {
        return Ok(say(serde_json::to_string_pretty(&answer)?)?);
    }
    let word = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    say(format_args!("{}: {}", explain.tool, word(&answer, "decision")))?;
    match answer.get("rule") {
        Some(_) => say(format_args!("decided by: {}", word(&answer, "rule")))?,
        None => say(format_args!("{}: {}", word(&answer, "code"), word(&answer, "message")))?,
    }
    if let Some(quorum) = answer.get("quorum").and_then(Value::as_u64) {
        let signed =
            if word(&answer, "strength") == Strength::Signature.as_str() { ", each with a signature" } else { "" };
        say(format_args!("people who must agree: {quorum}{signed}"))?;
    }
    for check in answer.get("checks").and_then(Value::as_array).into_iter().flatten() {
        let line = format!("  {:5} {:18} {}", word(check, "verdict"), word(check, "name"), word(check, "detail"));
        say(line.trim_end())?;
    }
    Ok(())
}

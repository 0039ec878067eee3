//! `tailops doctor`: what the running gateway finds when it looks at itself, or what can be found without it. Mends
//! nothing.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::Args;

use super::{
    Exit, block_on, colours, control, data_directory, environment, reload::named_directory, say, sources::Sources,
    visible::visible,
};
use crate::{
    app::{
        approval_line, database_lines, directory_lines, disk_line, node_lines, peer_lines, rules, tls_lines, wanted,
    },
    config::{Config, Node, Profile},
    model::{Clock, Level, Line, Report, Subject, SystemClock},
    store::{Holder, enrolled},
    tailnet::Host,
};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The service's configuration file: it is checked too, and says where the data is, if --data-dir does not
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(directory: Option<&Path>, arguments: Arguments) -> Result<(), Exit> {
    let (configured, config) = match &arguments.config {
        Some(file) => configuration(directory, file),
        None => (Vec::new(), None),
    };
    let directory = match (directory, &arguments.config, &config) {
        (None, _, Some(config)) => config.data_dir.clone(),
        // A configuration with faults still says where the data is, if it can be read at all.
        (None, Some(file), None) => match named_directory(file) {
            Ok(directory) => directory,
            Err(_) => return tell(&Report::new(false, configured), arguments.json),
        },
        (directory, _, _) => data_directory(directory)?,
    };
    let report = block_on(async {
        let report = match control::ask(&directory, "/v1/report").await {
            Ok(Some(body)) => serde_json::from_slice(&body).context("the service is of another version")?,
            Ok(None) => without_service(&directory, config.as_ref()).await,
            Err(error) => {
                let mut report = without_service(&directory, config.as_ref()).await;
                report.lines.retain(|line| line.subject != Subject::Service);
                let mend = "run this as the service's user or as root; otherwise look at the service's log";
                report.lines.push(Line::fail(Subject::Service, format!("does not answer: {error:#}"), mend));
                report
            }
        };
        Ok(report)
    })?;
    let Report { running, mut lines, .. } = report;
    lines.extend(configured);
    tell(&Report::new(running, lines), arguments.json)
}

/// Whether the configuration in `file` could be served with, and that configuration.
fn configuration(directory: Option<&Path>, file: &Path) -> (Vec<Line>, Option<Config>) {
    let fail = |problems: Vec<String>| {
        let mend = format!("correct it until `tailops config check {}` says it is fine", file.display());
        let line = |problem: String| Line::fail(Subject::Configuration, problem, mend.clone());
        (problems.into_iter().map(line).collect::<Vec<Line>>(), None)
    };
    let environment = match environment::read(std::env::vars_os()) {
        Ok(environment) => environment,
        Err(problems) => return fail(problems),
    };
    let sources = Sources { directory: directory.map(Path::to_owned), environment, ..Sources::of(file) };
    let loaded = match sources.read() {
        Ok(loaded) => loaded,
        Err(problems) => return fail(problems),
    };
    // Imported targets are the database's matter; the site's policies are compiled here.
    if let Err(error) = rules(&loaded.config, Vec::new(), SystemClock.now()) {
        return fail(error.to_string().lines().map(str::to_owned).collect());
    }
    let valid = format!("{} is valid, profile {}", file.display(), loaded.config.profile);
    let pin = if loaded.pinned {
        Line::ok(Subject::Pin, "the files are those that were pinned")
    } else if loaded.config.profile == Profile::Maximum {
        let mend = format!("tailops config pin {}", file.display());
        Line::fail(Subject::Pin, "there is none, and profile maximum wants one", mend)
    } else {
        Line::ok(Subject::Pin, "there is none")
    };
    (vec![Line::ok(Subject::Configuration, valid), pin], Some(loaded.config))
}

/// What can be found where no service answers.
async fn without_service(directory: &Path, config: Option<&Config>) -> Report {
    let now = SystemClock.now();
    let mut lines = vec![absent(directory)];
    let private = directory_lines(directory);
    let there = directory.is_dir();
    lines.extend(private);
    if there {
        lines.extend(database_lines(directory, now).await);
        lines.extend(disk_line(directory));
    }
    if let Some(config) = config {
        let (mut status, mut seen) = (None, None);
        if let Node::Host(settings) = &config.node {
            let (found, peers) = Host::look(settings, &config.tailnet).await;
            lines.extend(node_lines(config.node.mode(), &found, &wanted(config), now));
            if found.is_up() {
                lines.extend(peer_lines(&peers));
                seen = Some(peers);
            }
            status = Some(found);
        }
        // A node of the gateway's own has no peers while it is down: who the tailnet policy names is not known then.
        if seen.is_some() || !matches!(config.node, Node::Embedded(_)) {
            let signers = enrolled(directory).await.ok();
            lines.push(approval_line(&config.approvals, seen.as_deref(), signers.as_deref()));
        }
        lines.extend(tls_lines(&config.tls, None, status.as_deref(), now));
    }
    Report::new(false, lines)
}

fn absent(directory: &Path) -> Line {
    let shown = directory.display();
    match Holder::alive(directory).filter(|_| Holder::holds(directory)) {
        Some(holder) => Line::fail(
            Subject::Service,
            format!("process {} holds {shown} and does not answer", holder.pid),
            "if it is starting or stopping, wait; otherwise look at its log and restart it",
        ),
        None => Line::fail(
            Subject::Service,
            format!("is not running on {shown}"),
            "start it: `systemctl start tailops`, or `tailops serve`; or name its data with --data-dir",
        ),
    }
}

fn tell(report: &Report, json: bool) -> Result<(), Exit> {
    if json {
        say(serde_json::to_string_pretty(report)?)?;
    } else {
        print(report)?;
    }
    let count = |level| report.lines.iter().filter(|line| line.level == level).count();
    match count(Level::Fail) {
        0 => Ok(()),
        fails => Err(anyhow!("{fails} of {} checks failed, {} warned", report.lines.len(), count(Level::Warn)).into()),
    }
}

fn print(report: &Report) -> io::Result<()> {
    let coloured = colours(&io::stdout());
    let width = report.lines.iter().map(|line| line.subject.as_str().len()).max().unwrap_or_default();
    let mut out = io::BufWriter::new(io::stdout().lock());
    for Line { subject, level, finding, mend } in &report.lines {
        let (on, off) = match level {
            _ if !coloured => ("", ""),
            Level::Ok => ("\u{1b}[32m", "\u{1b}[0m"),
            Level::Warn => ("\u{1b}[1;33m", "\u{1b}[0m"),
            Level::Fail => ("\u{1b}[1;31m", "\u{1b}[0m"),
        };
        writeln!(out, "{on}{:4}{off}  {:width$}  {}", level.as_str(), subject.as_str(), visible(finding))?;
        if let Some(mend) = mend {
            writeln!(out, "{:4}  {:width$}    mend: {}", "", "", visible(mend))?;
        }
    }
    out.flush()
}

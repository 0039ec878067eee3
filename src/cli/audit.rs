//! `tailops audit`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufWriter, Write},
    path::Path,
};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Exit, block_on, check_approval, data_directory, existing_store, say, table};
use crate::{
    audit::{Counts, Dimension, Export, HostAlert, Stray, Usage, host_alerts, strays},
    config::did_you_mean,
    model::{AuditFilter, Clock, SystemClock, parse_duration},
    tools,
};

/// How a record can end.
const STATUSES: [&str; 9] =
    ["pending", "ok", "failed", "asked", "denied", "limited", "invalid", "cancelled", "interrupted"];

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the log as JSON lines, oldest first: one record a call, each the very bytes that were hashed
    Export {
        /// Print every leaf: also the intents whose outcome is there
        #[arg(long)]
        all: bool,
    },
    /// Find records: of every tenant, oldest first
    Query(Query),
    /// Tokens that were shown by other peers than those they are bound to, counted by node; hosts that are not those that
    /// were enrolled, by target; and open reviews
    Alerts {
        /// Not before: a duration such as 24h, or a time such as 2026-01-31T08:00:00Z
        #[arg(long, value_name = "TIME", value_parser = moment)]
        since: Option<Timestamp>,
        /// As an array of objects
        #[arg(long)]
        json: bool,
    },
    /// Check what the log says about one approval: its signatures anew, and its run against them
    CheckApproval(check_approval::Arguments),
    /// Count calls
    Usage {
        /// What to count by: capability, target, tool, subject, engagement, token, node, risk, status
        #[arg(long, value_name = "WORDS", value_delimiter = ',', default_value = "capability,target")]
        by: Vec<Dimension>,
        /// Not before: a duration such as 24h, or a time such as 2026-01-31T08:00:00Z
        #[arg(long, value_name = "TIME", value_parser = moment)]
        since: Option<Timestamp>,
        /// Before
        #[arg(long, value_name = "TIME", value_parser = moment)]
        until: Option<Timestamp>,
        /// As an object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Debug)]
pub(super) struct Query {
    /// Only these, e.g. denied,failed
    #[arg(long, value_name = "WORDS", value_delimiter = ',', value_parser = status)]
    status: Vec<String>,
    /// Not before: a duration such as 24h, or a time such as 2026-01-31T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Before
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// Only of this agent
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// Only of this tool, or act of administration
    #[arg(long, value_name = "NAME")]
    tool: Option<String>,
    /// Only on this target
    #[arg(long, value_name = "ID")]
    target: Option<String>,
    /// Only of this request
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// The most records: the newest that fit
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// As JSON lines
    #[arg(long)]
    json: bool,
}

/// A time, or how long ago.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(ago) = parse_duration(text) {
        return SystemClock.now().checked_sub(ago).map_err(|error| error.to_string());
    }
    let wrong = || "must be a duration such as 24h, or a time with its zone such as 2026-01-31T08:00:00Z".to_owned();
    text.parse().map_err(|_| wrong())
}

fn status(text: &str) -> Result<String, String> {
    if STATUSES.contains(&text) {
        return Ok(text.to_owned());
    }
    let hint = did_you_mean(text, STATUSES).unwrap_or_default();
    Err(format!("there is no status {text:?}{hint}; there is {}", STATUSES.join(", ")))
}

pub(super) fn run(directory: Option<&Path>, command: Command) -> Result<(), Exit> {
    let command = match command {
        // An export can be anywhere.
        Command::CheckApproval(arguments) => return check_approval::run(directory, &arguments),
        command => command,
    };
    let directory = data_directory(directory)?;
    block_on(async {
        let store = existing_store(&directory).await?;
        let reader = store.leaf_reader();
        match command {
            Command::Export { all } => {
                let mut export = Export::new(reader, all);
                let mut out = BufWriter::new(io::stdout().lock());
                while let Some(lines) = export.next().await? {
                    for line in lines {
                        writeln!(out, "{line}")?;
                    }
                }
                out.flush()?;
            }
            Command::CheckApproval(_) => {}
            Command::Query(query) => {
                let as_json = query.json;
                let records = reader.search(&query.filter()).await?;
                if as_json {
                    for record in &records {
                        say(record)?;
                    }
                } else {
                    table(&["TIME", "STATUS", "TOOL", "TARGET", "SUBJECT", "CODE", "WHY"], records.iter().map(row))?;
                }
            }
            Command::Alerts { since, json } => {
                let strays = strays(&reader, since).await?;
                let hosts = host_alerts(&reader, since).await?;
                if json {
                    say(alerts(&strays, &hosts))?;
                } else {
                    match (strays.is_empty(), hosts.is_empty()) {
                        // The head of an empty table says that there is nothing to tell.
                        (_, true) => show_alerts(strays)?,
                        (true, false) => show_hosts(hosts)?,
                        (false, false) => {
                            show_alerts(strays)?;
                            say("")?;
                            show_hosts(hosts)?;
                        }
                    }
                    show_reviews(store.open_reviews().await?)?;
                }
            }
            Command::Usage { by, since, until, json } => {
                let usage = Usage::count(&reader, &by, (since, until), capability).await?;
                if json { say(described(&by, &usage))? } else { show(&by, &usage)? }
            }
        }
        store.close().await;
        Ok(())
    })
}

impl Query {
    fn filter(self) -> AuditFilter {
        AuditFilter {
            subject: self.subject,
            tool: self.tool,
            target: self.target,
            status: self.status,
            since: self.since,
            until: self.until,
            correlation_id: self.correlation_id,
            before: None,
            limit: self.limit,
        }
    }
}

/// What a tool needs of a token: its scopes.
fn capability(tool: &str) -> Option<String> {
    let scopes = tools::find(tool)?.spec().scopes;
    let scopes: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
    (!scopes.is_empty()).then(|| scopes.join("+"))
}

fn row(record: &Value) -> Vec<String> {
    let text = |key: &str| record.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
    // A refusal before there was a call has no tool: where it knocked says more.
    let tool = match record.pointer("/http/path").and_then(Value::as_str) {
        Some(path) => path.to_owned(),
        None => text("tool"),
    };
    let why = text("error").chars().take(100).collect();
    vec![text("timestamp"), text("status"), tool, text("target"), text("subject"), text("code"), why]
}

fn alerts(strays: &BTreeMap<String, Stray>, hosts: &BTreeMap<String, HostAlert>) -> Value {
    let strays = strays.iter().map(|(id, stray)| keyed("node_id", id, stray));
    Value::from_iter(strays.chain(hosts.iter().map(|(id, host)| keyed("target", id, host))))
}

/// `value` as an object that says whose it is.
fn keyed(key: &str, id: &str, value: &impl Serialize) -> Value {
    let mut object = serde_json::to_value(value).unwrap_or_default();
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), Value::from(id));
    }
    object
}

fn show_alerts(strays: BTreeMap<String, Stray>) -> io::Result<()> {
    let lines = strays.into_iter().map(|(id, stray)| {
        let who = stray.user.unwrap_or_else(|| stray.tags.join(","));
        let last = stray.last.map_or_else(|| "-".to_owned(), |last| format!("{last:.0}"));
        let tokens = stray.tokens.into_iter().collect::<Vec<_>>().join(",");
        vec![id, stray.node.unwrap_or_default(), who, stray.count.to_string(), last, tokens]
    });
    table(&["NODE ID", "NODE", "USER OR TAGS", "TIMES", "LAST", "TOKENS"], lines)
}

/// Hosts that showed other keys than they were enrolled with, or said something else of themselves than before.
fn show_hosts(hosts: BTreeMap<String, HostAlert>) -> io::Result<()> {
    let lines = hosts.into_iter().map(|(id, alert)| {
        let place = format!("{}:{}", alert.host.unwrap_or_default(), alert.port.unwrap_or_default());
        let last = alert.last.map_or_else(|| "-".to_owned(), |last| format!("{last:.0}"));
        let joined = |words: BTreeSet<String>| words.into_iter().collect::<Vec<_>>().join(",");
        vec![id, place, joined(alert.codes), alert.count.to_string(), last, joined(alert.shown), joined(alert.enrolled)]
    });
    table(&["TARGET", "HOST", "WHAT", "TIMES", "LAST", "SHOWN", "IN PLACE OF"], lines)
}

/// What else somebody has to look at.
fn show_reviews(open: u32) -> io::Result<()> {
    if open == 0 {
        return Ok(());
    }
    say(format_args!("\nbreak-glass reviews that are open: {open}; `tailops reviews` shows them"))
}

fn numbers(counts: &Counts) -> [u64; 5] {
    [counts.calls, counts.ok, counts.failed, counts.refused, counts.running]
}

fn show(by: &[Dimension], usage: &Usage) -> io::Result<()> {
    let mut head: Vec<String> = by.iter().map(|dimension| dimension.as_str().to_uppercase()).collect();
    head.extend(["CALLS", "OK", "FAILED", "REFUSED", "RUNNING", "LAST"].map(str::to_owned));
    let line = |values: Vec<String>, counts: &Counts| {
        let last = counts.last.map_or_else(|| "-".to_owned(), |last| format!("{last:.0}"));
        values.into_iter().chain(numbers(counts).map(|count| count.to_string())).chain([last]).collect()
    };
    let mut lines: Vec<Vec<String>> = usage.rows.iter().map(|(values, counts)| line(values.clone(), counts)).collect();
    let mut total = vec![String::new(); by.len()];
    if let Some(first) = total.first_mut() {
        "(all)".clone_into(first);
    }
    lines.push(line(total, &usage.total));
    table(&head.iter().map(String::as_str).collect::<Vec<_>>(), lines)
}

fn described(by: &[Dimension], usage: &Usage) -> Value {
    let rows = usage.rows.iter().map(|(values, counts)| {
        let mut object: Map<String, Value> =
            by.iter().zip(values).map(|(dimension, value)| (dimension.as_str().to_owned(), json!(value))).collect();
        if let Ok(Value::Object(counts)) = serde_json::to_value(counts) {
            object.extend(counts);
        }
        Value::Object(object)
    });
    json!({"rows": Value::from_iter(rows), "total": usage.total})
}

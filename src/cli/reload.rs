//! `tailops reload`: tells a running service to read its configuration anew and waits for what came of it. And the
//! service's side: what it does on SIGHUP.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow, ensure};
use clap::Args;
use rustix::process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Exit, block_on, data_directory, existing_store, local_user, say, sources::Sources};
use crate::{
    app::{App, Reload},
    config::{Config, DATA_DIR},
    model::{Clock, SystemClock, parse_duration},
    store::{Holder, Store},
};

/// How often the outcome is looked for.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The service's configuration file: it says where the data is, if --data-dir does not
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The longest to wait for the outcome
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    wait: Duration,
}

pub(super) fn run(directory: Option<&Path>, arguments: Arguments) -> Result<(), Exit> {
    let directory = match (directory, &arguments.config) {
        (None, Some(file)) => named_directory(file).map_err(|error| Exit::with(3, error))?,
        (directory, _) => data_directory(directory)?,
    };
    block_on(async {
        let store = existing_store(&directory).await?;
        let nonce = Uuid::now_v7().to_string();
        store.ask_reload(&nonce, &local_user(), SystemClock.now()).await?;
        let outcome = ask(&directory, &store, &nonce, arguments.wait).await;
        store.forget_reload(&nonce).await?;
        store.close().await;
        tell(&outcome?)
    })
}

/// The data directory that a configuration names, whatever else is wrong with it: the service is to judge that.
pub(super) fn named_directory(file: &Path) -> anyhow::Result<PathBuf> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let tree: toml::Table =
        text.parse().with_context(|| format!("{}: name the data with --data-dir", file.display()))?;
    let named = tree.get("data_dir").and_then(toml::Value::as_str).map(PathBuf::from);
    Ok(named.unwrap_or_else(|| DATA_DIR.into()))
}

/// Signals the service of `directory` and waits until it answered the request `nonce`.
async fn ask(directory: &Path, store: &Store, nonce: &str, wait: Duration) -> anyhow::Result<Value> {
    let holder = Holder::alive(directory).with_context(|| {
        format!("no service runs on {}: start it, or name another with --data-dir", directory.display())
    })?;
    let pid = i32::try_from(holder.pid).ok().and_then(Pid::from_raw).context("the lock names no process")?;
    // From here on this names one process: whoever gets its number later is another.
    let process = pidfd_open(pid, PidfdFlags::empty()).context("the service's process cannot be opened")?;
    ensure!(
        holder.is_alive() && Holder::alive(directory) == Some(holder) && Holder::holds(directory),
        "the service on {} has just ended",
        directory.display()
    );
    let (owner, own) = (fs::metadata(format!("/proc/{}", holder.pid))?.uid(), geteuid().as_raw());
    ensure!(owner == own || own == 0, "the service runs as uid {owner}: run this as that user or as root");
    pidfd_send_signal(&process, Signal::HUP).context("the service's process cannot be signalled")?;
    let answered = async {
        loop {
            if let Some(outcome) = store.reload_outcome(nonce).await? {
                return Ok(serde_json::from_str(&outcome)?);
            }
            ensure!(holder.is_alive(), "the service ended before it answered");
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(wait, answered)
        .await
        .map_err(|_| anyhow!("the service did not answer in time: look at its log"))?
}

fn tell(outcome: &Value) -> Result<(), Exit> {
    let text = |key: &str| outcome.get(key).and_then(Value::as_str);
    if let Some(after) = text("after") {
        let before = text("before").unwrap_or_default();
        let change = if before == after { "the same configuration" } else { "a new configuration" };
        say(format_args!("reloaded: {change} is in force\nbefore  {before}\nafter   {after}"))?;
        return Ok(());
    }
    let problems = outcome.get("problems").and_then(Value::as_array).into_iter().flatten();
    let problems: Vec<&str> = problems.filter_map(Value::as_str).collect();
    Err(Exit::with(3, anyhow!("not reloaded; the configuration before stays in force\n{}", problems.join("\n"))))
}

/// What the service does on SIGHUP: reads its configuration anew and answers all who asked before. True if there was
/// anything to do: a service that reads no file and that nobody asked has been hung up on.
pub(super) async fn on_hangup(app: &App, sources: Option<&Sources>) -> bool {
    // Before the files are read: who asks later is answered by the next signal.
    let asked = match app.store().asked_reloads().await {
        Ok(asked) => asked,
        Err(error) => {
            tracing::error!(%error, "the requests for a reload cannot be read");
            Vec::new()
        }
    };
    if sources.is_none() && asked.is_empty() {
        return false;
    }
    let fresh: Result<Config, Vec<String>> = match sources {
        Some(sources) => sources.read_to_serve(),
        None => Err(vec!["the service was started with --dev and reads no configuration file".to_owned()]),
    };
    let by = asked.first().map_or("signal", |(_, by)| by.as_str());
    let Reload { before, after, problems } = app.reload(fresh, by).await;
    let outcome = json!({"before": before, "after": after, "problems": problems}).to_string();
    for (nonce, _) in &asked {
        if let Err(error) = app.store().answer_reload(nonce, &outcome).await {
            tracing::error!(%error, "the outcome of a reload cannot be told");
        }
    }
    true
}

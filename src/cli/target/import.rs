//! `tailops target import`: a registry file into the database. A file of a time before host keys were kept takes no
//! enrolled key away, unless the target is another machine now.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::Args;
use serde_json::{Map, Value, json};

use super::{Desk, row};
use crate::{
    app::each_line,
    cli::{Exit, say},
    config::read_import,
    fleet::read_rows,
    model::{EngagementId, HostKeyPin, Target},
    store::TargetRow,
};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// The file, as YAML
    file: PathBuf,
    /// The tenant of targets that name none
    #[arg(long, value_name = "NAME", default_value = "default")]
    engagement: String,
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
    /// Remove the imported targets that the file does not have
    #[arg(long)]
    prune: bool,
    /// Compare with this configuration [default: with the one the service last ran with]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What an import changes, by id.
#[derive(Default)]
struct Changes {
    added: Vec<String>,
    changed: Vec<String>,
    removed: Vec<String>,
    unchanged: Vec<String>,
    /// Of these the file has no host keys, and they keep those they had.
    kept: Vec<String>,
    /// Of these the file has no host keys, and they lose those they had.
    dropped: Vec<String>,
}

impl Changes {
    fn lists(&self) -> [(&'static str, &Vec<String>); 4] {
        [("added", &self.added), ("changed", &self.changed), ("removed", &self.removed), ("unchanged", &self.unchanged)]
    }

    fn is_none(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }

    fn details(&self) -> Map<String, Value> {
        let keys = [("host_keys_kept", &self.kept), ("host_keys_dropped", &self.dropped)];
        let keys = keys.into_iter().filter(|(_, ids)| !ids.is_empty());
        self.lists().into_iter().chain(keys).map(|(what, ids)| (what.to_owned(), json!(ids))).collect()
    }

    /// `wanted`, with the host keys of the target it replaces where it names none and is the same machine.
    fn with_host_keys(&mut self, wanted: Target, before: &[Target]) -> Target {
        let known = before.iter().find(|known| known.id == wanted.id).and_then(Target::connection);
        let had = known.filter(|known| !known.host_keys.is_empty());
        let Some((had, names)) = had.zip(wanted.connection()).filter(|(_, names)| names.host_keys.is_empty()) else {
            return wanted;
        };
        if !had.is_same_place(names) {
            self.dropped.push(wanted.id.as_str().to_owned());
            return wanted;
        }
        self.kept.push(wanted.id.as_str().to_owned());
        enrolled(wanted, had.host_keys.clone())
    }
}

/// `target` with these host keys.
pub(super) fn enrolled(mut target: Target, host_keys: Vec<HostKeyPin>) -> Target {
    if let Some(connection) = target.registered.as_mut().and_then(|registered| registered.connection.as_mut()) {
        connection.host_keys = host_keys;
    }
    target
}

impl Desk<'_> {
    pub(super) async fn import(&self, arguments: Arguments) -> Result<(), Exit> {
        let Arguments { file, engagement, dry_run, prune, config } = arguments;
        let configured = self.configured(config.as_deref()).await?;
        let home = EngagementId::from(engagement.as_str());
        configured.check_engagement(&home).map_err(|error| Exit::with(3, error))?;
        let shown = file.display();
        let text = fs::read_to_string(&file).with_context(|| shown.to_string()).map_err(|e| Exit::with(3, e))?;
        let mut change = self.store.change_targets().await?;
        let before = change.rows().await?;
        let known = read_rows(&before)?;
        let mut others = configured.targets()?;
        others.extend(known.iter().filter(|_| !prune).cloned());
        let targets = read_import(Path::new(&file), &text, &home, &configured.engagements, &others)
            .map_err(|problems| registry_invalid(&each_line(&problems)))?;
        let faults = configured.faults(&targets);
        if !faults.is_empty() {
            let faults: Vec<String> = faults.iter().map(|fault| format!("{shown}: {fault}")).collect();
            return Err(registry_invalid(&faults));
        }
        let mut changes = Changes::default();
        let wanted: BTreeMap<String, TargetRow> = targets
            .into_iter()
            .map(|target| row(&changes.with_host_keys(target, &known)))
            .map(|row| (row.id.clone(), row))
            .collect();
        for (id, row) in &wanted {
            match before.iter().find(|known| known.id == *id) {
                Some(known) if known.entry == row.entry => {
                    changes.unchanged.push(id.clone());
                    continue;
                }
                Some(_) => changes.changed.push(id.clone()),
                None => changes.added.push(id.clone()),
            }
            change.put(row).await?;
        }
        for row in before.iter().filter(|row| prune && !wanted.contains_key(&row.id)) {
            change.remove(&row.id).await?;
            changes.removed.push(row.id.clone());
        }
        if !dry_run && !changes.is_none() {
            change.commit().await?;
            self.recorded("target.import", changes.details(), &before).await?;
        }
        for (what, ids) in changes.lists() {
            for id in ids {
                say(format_args!("{what:10} {id}"))?;
            }
        }
        for id in &changes.kept {
            say(format_args!("{id}: the file names no host keys; those enrolled stay, as it is the same machine"))?;
        }
        for id in &changes.dropped {
            say(format_args!(
                "{id}: it is another machine now and the file names no host keys; those enrolled are dropped"
            ))?;
        }
        let sums: Vec<_> = changes.lists().iter().map(|(what, ids)| format!("{} {what}", ids.len())).collect();
        let dry = if dry_run { "dry run, nothing was changed: " } else { "" };
        Ok(say(format_args!("{dry}{}", sums.join(", ")))?)
    }
}

fn registry_invalid(problems: &[String]) -> Exit {
    Exit::with(3, anyhow!("the registry file is not valid; nothing was imported\n{}", problems.join("\n")))
}

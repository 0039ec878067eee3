//! `tailops target`: the registry of imported targets. Every change is all or nothing, on record, and in force in a
//! running service within a second.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, anyhow};
use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::{
    Exit, block_on, data_directory, existing_store, local_user, say,
    sources::{Sources, each_line, invalid},
    table,
};
use crate::{
    app::registry_facts,
    audit::Audit,
    config::{Places, read_registry, registry_entry, registry_file},
    model::{Clock, EngagementId, SystemClock, Target},
    store::{Store, TargetRow},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Import a registry file: all of it, or nothing
    Import {
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
    },
    /// Print the imported targets as a registry file
    Export {
        /// Only those of this tenant
        #[arg(long, value_name = "NAME")]
        engagement: Option<String>,
        /// The form
        #[arg(long, default_value = "yaml", value_parser = ["yaml", "json"])]
        format: String,
    },
    /// List targets: configured and imported
    List {
        /// As an array of objects
        #[arg(long)]
        json: bool,
    },
    /// Show one target, as it stands in a registry file
    Show {
        /// Its id
        id: String,
    },
    /// Remove an imported target
    Remove {
        /// Its id
        id: String,
    },
}

pub(super) fn run(directory: Option<&Path>, command: Command) -> Result<(), Exit> {
    let directory = data_directory(directory)?;
    block_on(async {
        let store = existing_store(&directory).await?;
        let desk = Desk { store: &store };
        match command {
            Command::Import { file, engagement, dry_run, prune, config } => {
                let import = Import { file: &file, home: engagement.as_str().into(), dry_run, prune };
                desk.import(import, config.as_deref()).await?;
            }
            Command::Export { engagement, format } => desk.export(engagement.as_deref(), &format).await?,
            Command::List { json } => desk.list(json).await?,
            Command::Show { id } => desk.show(&id).await?,
            Command::Remove { id } => desk.remove(&id).await?,
        }
        store.close().await;
        Ok(())
    })
}

struct Desk<'a> {
    store: &'a Store,
}

struct Import<'a> {
    file: &'a Path,
    home: EngagementId,
    dry_run: bool,
    prune: bool,
}

/// What is configured, as far as it bears on imports.
#[derive(Default, serde::Deserialize)]
struct Configured {
    engagements: Vec<EngagementId>,
    targets: Vec<Value>,
    /// None where an earlier version ran last.
    places: Option<Places>,
}

impl Configured {
    fn has(&self, id: &str) -> bool {
        self.targets.iter().any(|entry| entry.get("id").and_then(Value::as_str) == Some(id))
    }
}

/// What an import changes, by id.
#[derive(Default)]
struct Changes {
    added: Vec<String>,
    changed: Vec<String>,
    removed: Vec<String>,
    unchanged: Vec<String>,
}

impl Changes {
    fn lists(&self) -> [(&'static str, &Vec<String>); 4] {
        [("added", &self.added), ("changed", &self.changed), ("removed", &self.removed), ("unchanged", &self.unchanged)]
    }
}

impl Desk<'_> {
    /// The configuration that `file` holds, or that the service last ran with.
    async fn configured(&self, file: Option<&Path>) -> Result<Configured, Exit> {
        let facts = match file {
            Some(file) => Some(registry_facts(&Sources::of(file).read().map_err(invalid)?.config)),
            None => self.store.meta("registry").await?,
        };
        let facts =
            facts.context("no service has run with this data yet: name its configuration with --config FILE")?;
        Ok(serde_json::from_str(&facts).context("what the database says of the configuration cannot be read")?)
    }

    async fn import(&self, import: Import<'_>, config: Option<&Path>) -> Result<(), Exit> {
        let configured = self.configured(config).await?;
        let file = import.file.display();
        if !configured.engagements.contains(&import.home) {
            let known: Vec<_> = configured.engagements.iter().map(EngagementId::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let error = anyhow!("--engagement: there is no engagement {:?}; there is {known}", import.home.as_str());
            return Err(Exit::with(3, error));
        }
        let text = fs::read_to_string(import.file).with_context(|| file.to_string()).map_err(|e| Exit::with(3, e))?;
        let targets = read_registry(import.file, &text, &import.home, &configured.engagements)
            .map_err(|problems| registry_invalid(&each_line(&problems)))?;
        let clashes = targets.iter().filter(|target| configured.has(target.id.as_str()));
        let clashes: Vec<String> =
            clashes.map(|target| format!("{file}: target {} is configured already", target.id)).collect();
        if !clashes.is_empty() {
            return Err(registry_invalid(&clashes));
        }
        let fault = |target: &Target| configured.places.as_ref()?.adopt(&mut target.clone()).err();
        let faults: Vec<String> = targets.iter().filter_map(fault).map(|fault| format!("{file}: {fault}")).collect();
        if !faults.is_empty() {
            return Err(registry_invalid(&faults));
        }
        let (now, by) = (SystemClock.now().to_string(), local_user());
        let wanted: BTreeMap<String, TargetRow> = targets
            .iter()
            .map(|target| {
                let row = TargetRow {
                    id: target.id.as_str().to_owned(),
                    engagement: target.engagement.as_str().to_owned(),
                    entry: registry_entry(target).to_string(),
                    changed_at: now.clone(),
                    changed_by: by.clone(),
                };
                (row.id.clone(), row)
            })
            .collect();
        let mut change = self.store.change_targets().await?;
        let before = change.rows().await?;
        let mut changes = Changes::default();
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
        for row in before.iter().filter(|row| import.prune && !wanted.contains_key(&row.id)) {
            change.remove(&row.id).await?;
            changes.removed.push(row.id.clone());
        }
        if !import.dry_run && changes.lists().iter().take(3).any(|(_, ids)| !ids.is_empty()) {
            change.commit().await?;
            let details = changes.lists().map(|(what, ids)| (what.to_owned(), json!(ids)));
            self.recorded("target.import", Map::from_iter(details), &before).await?;
        }
        for (what, ids) in changes.lists() {
            for id in ids {
                say(format_args!("{what:10} {id}"))?;
            }
        }
        let sums: Vec<_> = changes.lists().iter().map(|(what, ids)| format!("{} {what}", ids.len())).collect();
        let dry = if import.dry_run { "dry run, nothing was changed: " } else { "" };
        Ok(say(format_args!("{dry}{}", sums.join(", ")))?)
    }

    /// Puts a change on record; what cannot be is undone.
    async fn recorded(&self, act: &str, details: Map<String, Value>, before: &[TargetRow]) -> anyhow::Result<()> {
        let Err(error) = Audit::administered(self.store, Arc::new(SystemClock), act, &local_user(), details).await
        else {
            return Ok(());
        };
        let mut back = self.store.change_targets().await?;
        for row in back.rows().await? {
            back.remove(&row.id).await?;
        }
        for row in before {
            back.put(row).await?;
        }
        back.commit().await?;
        Err(anyhow!(error).context("nothing was changed, as that could not be recorded"))
    }

    async fn export(&self, engagement: Option<&str>, format: &str) -> anyhow::Result<()> {
        let rows = self.store.targets().await?;
        let rows = rows.iter().filter(|row| engagement.is_none_or(|wanted| row.engagement == wanted));
        let entries: BTreeMap<&str, Value> =
            rows.map(|row| Ok((row.id.as_str(), entry(row)?))).collect::<anyhow::Result<_>>()?;
        if format == "json" {
            return Ok(say(json!({"version": "1.0", "targets": entries}))?);
        }
        Ok(say(registry_file(entries.iter().map(|(id, entry)| (*id, entry))).trim_end())?)
    }

    /// Every target with where it stands, by id.
    async fn all(&self) -> anyhow::Result<BTreeMap<String, (&'static str, Value)>> {
        let facts = self.store.meta("registry").await?;
        let configured: Configured = facts.map(|facts| serde_json::from_str(&facts)).transpose()?.unwrap_or_default();
        let mut all = BTreeMap::new();
        for entry in configured.targets {
            let id = entry.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
            all.insert(id, ("configuration", entry));
        }
        for row in self.store.targets().await? {
            all.insert(row.id.clone(), ("import", entry(&row)?));
        }
        Ok(all)
    }

    async fn list(&self, as_json: bool) -> anyhow::Result<()> {
        let all = self.all().await?;
        let described = all.iter().map(|(id, (source, entry))| {
            let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
            let tags = entry.pointer("/metadata/tags").cloned().unwrap_or_else(|| json!([]));
            (id, *source, text("/executor"), text("/engagement"), text("/metadata/segment"), tags)
        });
        if as_json {
            let objects = described.map(|(id, source, kind, engagement, segment, tags)| {
                json!({"id": id, "kind": kind, "engagement": engagement, "segment": segment, "tags": tags, "source": source})
            });
            return Ok(say(Value::from_iter(objects))?);
        }
        let rows = described.map(|(id, source, kind, engagement, segment, tags)| {
            let tags: BTreeSet<&str> = tags.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let tags = tags.into_iter().collect::<Vec<_>>().join(",");
            vec![id.clone(), kind, engagement, segment, source.to_owned(), tags]
        });
        Ok(table(&["ID", "KIND", "ENGAGEMENT", "SEGMENT", "SOURCE", "TAGS"], rows)?)
    }

    async fn show(&self, id: &str) -> anyhow::Result<()> {
        let all = self.all().await?;
        let (_, entry) = all.get(id).with_context(|| format!("there is no target {id:?}"))?;
        Ok(say(registry_file([(id, entry)]).trim_end())?)
    }

    async fn remove(&self, id: &str) -> anyhow::Result<()> {
        let mut change = self.store.change_targets().await?;
        let before = change.rows().await?;
        anyhow::ensure!(
            before.iter().any(|row| row.id == id),
            "there is no imported target {id:?}; a configured one is taken out of the configuration"
        );
        change.remove(id).await?;
        change.commit().await?;
        self.recorded("target.remove", Map::from_iter([("id".to_owned(), json!(id))]), &before).await?;
        Ok(say(format_args!("removed {id}"))?)
    }
}

fn entry(row: &TargetRow) -> anyhow::Result<Value> {
    serde_json::from_str(&row.entry).with_context(|| format!("target {} is damaged in the database", row.id))
}

fn registry_invalid(problems: &[String]) -> Exit {
    Exit::with(3, anyhow!("the registry file is not valid; nothing was imported\n{}", problems.join("\n")))
}

//! `tailops target`: the registry of targets. Every change is all or nothing, on record, and in force in a running
//! service within a second. Connects nowhere itself: what has to be asked of a host, the running service asks.

mod add;
mod import;
mod scan;
mod show;
mod test;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, anyhow};
use clap::Subcommand;
use serde_json::{Map, Value};

use super::{
    Exit, block_on, data_directory, existing_store, local_user,
    sources::{Sources, invalid},
    target_prepare,
};
use crate::{
    app::registry_facts,
    audit::Audit,
    config::{Places, read_registry, registry_entry, registry_file},
    exec::host_matches,
    fleet::read_rows,
    model::{Clock, Connection, EngagementId, SystemClock, Target},
    store::{Store, TargetRow},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Add a machine that is reached by SSH, with the host keys it must show
    Add(Box<add::Arguments>),
    /// Show the host keys that a machine or a target has now; trusts none of them
    Scan(scan::Arguments),
    /// Connect, log in and run a command that changes nothing, on some targets or on all
    Test(test::Arguments),
    /// Import a registry file: all of it, or nothing
    Import(import::Arguments),
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
    /// Print what a host needs to be operated: a script to read, and to run there
    Prepare(target_prepare::Arguments),
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
        let desk = Desk { store: &store, directory: &directory };
        match command {
            Command::Add(arguments) => desk.add(*arguments).await?,
            Command::Scan(arguments) => desk.scan(arguments).await?,
            Command::Test(arguments) => desk.test(arguments).await?,
            Command::Import(arguments) => desk.import(arguments).await?,
            Command::Export { engagement, format } => desk.export(engagement.as_deref(), &format).await?,
            Command::List { json } => desk.list(json).await?,
            Command::Show { id } => desk.show(&id).await?,
            Command::Prepare(arguments) => {
                let entries = desk.all().await?.into_iter().map(|(id, (_, entry))| (id, entry)).collect();
                target_prepare::run(&entries, &arguments)?;
            }
            Command::Remove { id } => desk.remove(&id).await?,
        }
        store.close().await;
        Ok(())
    })
}

struct Desk<'a> {
    store: &'a Store,
    directory: &'a Path,
}

/// What is configured, as far as it bears on the registry.
#[derive(Default, serde::Deserialize)]
struct Configured {
    engagements: Vec<EngagementId>,
    targets: Vec<Value>,
    /// None where an earlier version ran last.
    places: Option<Places>,
    /// The hosts that each authority for host certificates speaks for.
    #[serde(default)]
    host_cas: Vec<Vec<String>>,
}

impl Configured {
    fn has(&self, id: &str) -> bool {
        self.targets.iter().any(|entry| entry.get("id").and_then(Value::as_str) == Some(id))
    }

    /// Errors unless there is this engagement.
    fn check_engagement(&self, wanted: &EngagementId) -> anyhow::Result<()> {
        if self.engagements.contains(wanted) {
            return Ok(());
        }
        let known: Vec<_> = self.engagements.iter().map(EngagementId::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(anyhow!("--engagement: there is no engagement {:?}; there is {known}", wanted.as_str()))
    }

    /// The targets that are configured.
    fn targets(&self) -> anyhow::Result<Vec<Target>> {
        let entries = self.targets.iter().filter_map(|entry| Some((entry.get("id")?.as_str()?, entry)));
        let home = EngagementId::from("");
        read_registry(&PathBuf::from("configuration"), &registry_file(entries), &home, &self.engagements)
            .context("what the database says of the configuration cannot be read: start the service once")
    }

    /// Whether a host certificate can speak for the host of `connection`.
    fn certifies(&self, connection: &Connection) -> bool {
        self.host_cas.iter().any(|hosts| host_matches(hosts, &connection.host, connection.port.unwrap_or(22)))
    }

    /// What keeps `targets` from standing beside the configuration, one line each.
    fn faults(&self, targets: &[Target]) -> Vec<String> {
        let clashes = targets.iter().filter(|target| self.has(target.id.as_str()));
        let clashes = clashes.map(|target| format!("target {} is configured already", target.id));
        let misplaced = |target: &Target| self.places.as_ref()?.adopt(&mut target.clone()).err();
        let misplaced = targets.iter().filter_map(misplaced).map(|fault| fault.to_string());
        clashes.chain(misplaced).collect()
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

    /// The target `id`, wherever it stands.
    async fn one(&self, id: &str) -> anyhow::Result<Option<Target>> {
        if let Some(row) = self.store.targets().await?.into_iter().find(|row| row.id == id) {
            return Ok(read_rows(&[row])?.pop());
        }
        let facts = self.store.meta("registry").await?;
        let configured: Configured = facts.map(|facts| serde_json::from_str(&facts)).transpose()?.unwrap_or_default();
        Ok(configured.targets()?.into_iter().find(|target| target.id.as_str() == id))
    }
}

/// `target` as it is kept.
fn row(target: &Target) -> TargetRow {
    TargetRow {
        id: target.id.as_str().to_owned(),
        engagement: target.engagement.as_str().to_owned(),
        entry: registry_entry(target).to_string(),
        changed_at: SystemClock.now().to_string(),
        changed_by: local_user(),
    }
}

fn entry(row: &TargetRow) -> anyhow::Result<Value> {
    serde_json::from_str(&row.entry).with_context(|| format!("target {} is damaged in the database", row.id))
}

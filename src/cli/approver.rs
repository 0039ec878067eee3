//! `tailops approver`: the keys whose signatures count. Sends public keys only, and enrols nothing by itself: the gateway
//! asks people, but for the very first key.

use std::{fs, path::Path, path::PathBuf};

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Exit, block_on,
    people::{Gateway, Reach},
    say, table,
    visible::{self, visible},
};
use crate::approval::{ApprovalView, ApproverKey};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Ask for signatures of a key to count as somebody's word
    Add(Add),
    /// The keys whose signatures count
    List {
        #[command(flatten)]
        reach: Reach,
        /// As an array of objects
        #[arg(long)]
        json: bool,
    },
    /// Ask for signatures of a key to count no more
    Remove {
        /// Its fingerprint, SHA256:...
        key_id: String,
        #[command(flatten)]
        reach: Reach,
    },
}

#[derive(Args, Debug)]
pub(super) struct Add {
    /// Whose word they count as: a login of the tailnet, or a local user of the gateway's host
    #[arg(long, value_name = "LOGIN")]
    login: String,
    /// The public key: a file that ends in .pub
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// What people call it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    label: String,
    #[command(flatten)]
    reach: Reach,
}

/// A key as the gateway tells of it.
#[derive(Debug, Serialize, Deserialize)]
struct Key {
    key_id: String,
    login: String,
    kind: String,
    public_key: String,
    label: String,
    added_at: String,
    added_by: String,
}

#[derive(Deserialize)]
struct Listed {
    keys: Vec<Key>,
}

/// What came of a wish: without an approval it is done.
#[derive(Deserialize)]
struct Answer {
    approval: Option<ApprovalView>,
    warning: Option<String>,
}

pub(super) fn run(directory: Option<&Path>, command: Command) -> Result<(), Exit> {
    block_on(async {
        match command {
            Command::Add(add) => self::add(directory, &add).await,
            Command::List { reach, json } => list(&Gateway::reach(directory, &reach).await?, json).await,
            Command::Remove { key_id, reach } => {
                let gateway = Gateway::reach(directory, &reach).await?;
                let answer: Answer = gateway.delete(&["approver-keys", &key_id]).await?;
                Ok(told(&answer, &format!("signatures of {} count no more", visible(&key_id)))?)
            }
        }
    })
}

async fn add(directory: Option<&Path>, add: &Add) -> Result<(), Exit> {
    let shown = add.key.display();
    let text = fs::read_to_string(&add.key).with_context(|| format!("--key {shown}"))?;
    // A private key that was named by mistake goes nowhere.
    let key = ApproverKey::parse(&text).map_err(|why| Exit::with(2, anyhow!("--key {shown} {why}")))?;
    let gateway = Gateway::reach(directory, &add.reach).await?;
    let body = json!({"login": add.login, "public_key": key.line(), "label": add.label});
    let answer: Answer = gateway.post(&["approver-keys"], &body).await?;
    let done = format!("signatures of {} count as the word of {} from now on", key.id(), visible(&add.login));
    Ok(told(&answer, &done)?)
}

fn told(answer: &Answer, done: &str) -> anyhow::Result<()> {
    match &answer.approval {
        None => say(done)?,
        Some(view) => say(format_args!(
            "people were asked: it counts once somebody agreed, with `tailops approve {}`, until {:.0}",
            visible(&view.id),
            view.expires_at
        ))?,
    }
    if let Some(warning) = &answer.warning {
        tell(&format!("warning: {}", visible(warning)))?;
    }
    Ok(())
}

/// Writes one line beside the results.
fn tell(text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stderr(), "{text}")
}

async fn list(gateway: &Gateway, json: bool) -> Result<(), Exit> {
    let listed: Listed = gateway.get(&["approver-keys"], &[]).await?;
    if json {
        let keys: Value = serde_json::to_value(&listed.keys)?;
        return Ok(say(visible::json(&keys)?)?);
    }
    let rows = listed.keys.into_iter().map(|key| {
        let kind = key.public_key.split(' ').next().unwrap_or_default().to_owned();
        [key.key_id, key.login, kind, key.label, key.added_at, key.added_by].iter().map(|text| visible(text)).collect()
    });
    Ok(table(&["KEY", "LOGIN", "TYPE", "LABEL", "ADDED", "BY"], rows)?)
}

//! `tailops approvals`: the questions that whoever runs it may know of.

use std::path::Path;

use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Exit, block_on,
    people::{Gateway, Reach},
    question, say, table, visible,
};
use crate::{
    approval::ApprovalView,
    model::{Clock, SystemClock},
};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    reach: Reach,
    /// Those that stand so
    #[arg(long, value_enum, default_value = "pending")]
    state: State,
    /// The most, the newest first
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: u32,
    /// Print everything that is known of them as JSON
    #[arg(long)]
    json: bool,
}

/// How a question stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum State {
    /// Wait for people, or were agreed to and wait for their run
    Pending,
    /// Somebody said no
    Denied,
    /// Nobody used it in time
    Expired,
    /// Ran, or was about to
    Used,
    /// Whatever became of them
    All,
}

impl State {
    fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Pending => Some("pending"),
            Self::Denied => Some("denied"),
            Self::Expired => Some("expired"),
            Self::Used => Some("used"),
            Self::All => None,
        }
    }
}

#[derive(Deserialize)]
struct List<T> {
    approvals: Vec<T>,
}

/// The questions in `state`, the newest first.
pub(super) async fn list<T: serde::de::DeserializeOwned>(
    gateway: &Gateway,
    state: State,
    limit: u32,
) -> anyhow::Result<Vec<T>> {
    let limit = limit.to_string();
    let state = state.as_str().map(|state| ("state", state));
    let query: Vec<(&str, &str)> = [("limit", limit.as_str())].into_iter().chain(state).collect();
    let List { approvals } = gateway.get(&["approvals"], &query).await?;
    Ok(approvals)
}

pub(super) fn run(directory: Option<&Path>, arguments: Arguments) -> Result<(), Exit> {
    let Arguments { reach, state, limit, json } = arguments;
    block_on(async {
        let gateway = Gateway::reach(directory, &reach).await?;
        if json {
            let approvals: Vec<Value> = list(&gateway, state, limit).await?;
            return Ok(say(visible::json(&approvals)?)?);
        }
        let (approvals, now): (Vec<ApprovalView>, _) = (list(&gateway, state, limit).await?, SystemClock.now());
        if approvals.is_empty() {
            let which = state.as_str().map(|state| format!(" {state}")).unwrap_or_default();
            return Ok(say(format_args!("there is no{which} approval that you may know of"))?);
        }
        Ok(table(&question::HEAD, approvals.iter().map(|view| question::row(view, now)))?)
    })
}

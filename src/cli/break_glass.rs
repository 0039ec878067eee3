//! `tailops break-glass`: asks the gateway on this host for a pass, and shows its credential once. Keeps it nowhere.

use std::{path::Path, time::Duration};

use clap::Args;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::{
    Exit, block_on,
    people::{Gateway, Reach},
    say, visible,
    visible::visible,
};
use crate::model::parse_duration;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// What the emergency is, for the record and the review
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// How long the pass is good: at most 15m
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = parse_duration)]
    ttl: Duration,
    /// The only agent that may use it [default: any]
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Pass {
    id: String,
    credential: String,
    expires_at: Timestamp,
}

pub(super) fn run(directory: Option<&Path>, arguments: Arguments) -> Result<(), Exit> {
    let Arguments { reason, ttl, subject, json } = arguments;
    let body = json!({"reason": reason, "ttl_s": whole_seconds(ttl), "subject": subject});
    block_on(async {
        // Over the network there is none to be had.
        let gateway = Gateway::reach(directory, &Reach { url: None }).await?;
        let pass: Pass = gateway.post(&["break-glass"], &body).await?;
        if json {
            let Pass { id, credential, expires_at } = pass;
            return Ok(say(visible::json(&json!({"id": id, "credential": credential, "expires_at": expires_at}))?)?);
        }
        let who = subject.as_deref().map_or_else(|| "any agent".to_owned(), |subject| format!("agent {subject}"));
        say(format_args!(
            "pass {} for {}, good until {:.0}, for one operation:",
            visible(&pass.id),
            visible(&who),
            pass.expires_at
        ))?;
        say("")?;
        say(format_args!("  {}", visible(&pass.credential)))?;
        say("")?;
        say(
            "The agent makes the call that needs an approval with this as its `approval_id`. What policy denies stays denied.",
        )?;
        say("It is not shown again. An alert has gone out, and a review is open until another person closes it:")?;
        Ok(say(format_args!("  tailops reviews close {} --comment TEXT", visible(&pass.id)))?)
    })
}

/// Whole seconds, upwards: a part of a second too long is too long.
fn whole_seconds(ttl: Duration) -> u64 {
    ttl.as_secs().saturating_add(u64::from(ttl.subsec_nanos() > 0))
}

//! `tailops reviews`: what was let through by breaking the glass, and the word of whoever looked at it afterwards.

use std::path::Path;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Exit, block_on,
    people::{Gateway, Reach},
    say, table, visible,
    visible::visible,
};
use crate::approval::ReviewView;

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what you found, and close a review
    Close(Close),
}

#[derive(Args, Debug)]
struct List {
    #[command(flatten)]
    reach: Reach,
    /// Also those that are closed
    #[arg(long)]
    all: bool,
    /// Print everything that is known of them as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Close {
    /// The review, as `tailops reviews` names it
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    reach: Reach,
    /// What you found, for the record
    #[arg(long, value_name = "TEXT")]
    comment: String,
}

#[derive(Deserialize)]
struct Reviews<T> {
    reviews: Vec<T>,
}

pub(super) fn run(directory: Option<&Path>, arguments: Arguments) -> Result<(), Exit> {
    match arguments.command {
        Some(Command::Close(close)) => block_on(closed(directory, &close)),
        None => block_on(listed(directory, &arguments.list)),
    }
}

async fn listed(directory: Option<&Path>, list: &List) -> Result<(), Exit> {
    let gateway = Gateway::reach(directory, &list.reach).await?;
    let query: &[(&str, &str)] = if list.all { &[] } else { &[("state", "open")] };
    if list.json {
        let Reviews::<Value> { reviews } = gateway.get(&["reviews"], query).await?;
        return Ok(say(visible::json(&reviews)?)?);
    }
    let Reviews::<ReviewView> { reviews } = gateway.get(&["reviews"], query).await?;
    if reviews.is_empty() {
        let open = if list.all { "" } else { " open" };
        return Ok(say(format_args!("there is no{open} review that you may know of"))?);
    }
    let head = ["ID", "STATE", "MADE", "BY", "REASON", "USED BY", "FOR", "CORRELATION ID", "CLOSED BY", "COMMENT"];
    Ok(table(&head, reviews.iter().map(row))?)
}

fn row(review: &ReviewView) -> Vec<String> {
    let dash = || "-".to_owned();
    let (by, what, correlation) = match &review.used {
        Some(used) => {
            let target = used.target.as_ref().map(|target| format!(" on {target}")).unwrap_or_default();
            (used.subject.clone(), format!("{}{target}", used.tool), used.correlation_id.clone())
        }
        None => (dash(), "not used".to_owned(), dash()),
    };
    let cells = [
        review.id.clone(),
        if review.open { "open" } else { "closed" }.to_owned(),
        format!("{:.0}", review.made_at),
        review.made_by.clone(),
        review.reason.clone(),
        by,
        what,
        correlation,
        review.closed_by.clone().unwrap_or_else(dash),
        review.comment.clone().unwrap_or_else(dash),
    ];
    cells.iter().map(|cell| visible(cell)).collect()
}

async fn closed(directory: Option<&Path>, close: &Close) -> Result<(), Exit> {
    let gateway = Gateway::reach(directory, &close.reach).await?;
    let body = json!({"comment": close.comment});
    let review: ReviewView = gateway.post(&["reviews", &close.id, "close"], &body).await?;
    let by = review.closed_by.unwrap_or_default();
    Ok(say(format_args!("review {} is closed by {}", visible(&review.id), visible(&by)))?)
}

//! `tailops deny`: sends a person's no. One is enough, so it is not asked back.

use std::path::Path;

use clap::Args;

use super::{
    Exit,
    approve::{Ballot, How, decide, fetch, outcome, signature},
    block_on,
    people::{Gateway, Reach},
    say,
};
use crate::model::Vote;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The approval, as `tailops approvals` names it
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    reach: Reach,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    comment: String,
    #[command(flatten)]
    how: How,
}

pub(super) fn run(directory: Option<&Path>, arguments: Arguments) -> Result<(), Exit> {
    block_on(async {
        let gateway = Gateway::reach(directory, &arguments.reach).await?;
        let view = fetch(&gateway, &arguments.id).await?;
        let signature = signature(&gateway, &view, Vote::Deny, &arguments.how).await?;
        let ballot = Ballot { vote: Vote::Deny, comment: &arguments.comment, signature };
        let after = decide(&gateway, &view, &ballot).await?;
        Ok(say(outcome(&after, Vote::Deny))?)
    })
}

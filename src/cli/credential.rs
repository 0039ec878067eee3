//! `tailops credential`: the long-lived secrets of the gateway itself. The running service looks at them and replaces
//! them; shows no secret.

mod rotate;
mod status;

use std::path::Path;

use clap::Subcommand;

use super::{
    Exit, block_on,
    people::{Gateway, Reach},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// How old each secret of the gateway is, and how old it may grow; exit code 1 where one is too old or unusable
    Status(status::Arguments),
    /// Replace a login key: the new one put on every target and proven there, the old one taken out and seen refused
    Rotate(rotate::Arguments),
}

pub(super) fn run(directory: Option<&Path>, command: Command) -> Result<(), Exit> {
    block_on(async {
        let gateway = Gateway::reach(directory, &Reach { url: None }).await?;
        match command {
            Command::Status(arguments) => status::run(&gateway, &arguments).await,
            Command::Rotate(arguments) => rotate::run(&gateway, &arguments).await,
        }
    })
}

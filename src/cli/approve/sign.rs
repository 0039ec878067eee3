//! Which signature goes with a decision: one made elsewhere, one by the key that is named or lies with the gateway's data,
//! or one by ssh-agent where the question wants it. What is signed is made here, of what was shown.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use clap::Args;
use serde::Deserialize;

use crate::{
    approval::{ApprovalView, Signature, Statement, folded},
    cli::{
        people::Gateway,
        signing::{agent, keys_at, read_signature, sign_with_agent, sign_with_file},
    },
    model::{Strength, Vote},
};

/// The key that `tailops serve --dev` makes for its user, in the data directory.
const OWN_KEY: &str = "approver_ed25519";

/// How to sign.
#[derive(Args, Debug, Default)]
pub(in crate::cli) struct How {
    /// Sign with this private key of OpenSSH; without it, ssh-agent signs where a signature is wanted
    #[arg(long, value_name = "FILE", conflicts_with = "signature")]
    pub(in crate::cli) key: Option<PathBuf>,
    /// Send the signature in this file: `ssh-keygen -Y sign` makes one over what --print writes
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) signature: Option<PathBuf>,
}

/// The armored signature to send with `vote` on what `view` shows; none where it is not signed.
pub(in crate::cli) async fn signature(
    gateway: &Gateway,
    view: &ApprovalView,
    vote: Vote,
    how: &How,
) -> anyhow::Result<Option<String>> {
    let statement = Statement::of_view(view, vote)?;
    if let Some(file) = &how.signature {
        return read_signature(&statement, file).map(Some);
    }
    if let Some(file) = &how.key {
        return sign_with_file(&statement, file).map(Some);
    }
    if let Some(signature) = with_own_key(gateway, &statement).await? {
        return Ok(Some(signature));
    }
    if !wanted(gateway, view, vote).await? {
        return Ok(None);
    }
    if let Some(socket) = agent()
        && let Some(signature) = with_agent(gateway, statement, socket).await?
    {
        return Ok(Some(signature));
    }
    if view.strength == Strength::Signature && vote == Vote::Approve {
        bail!(
            "this needs a signature, and nothing was sent: name an enrolled key with --key FILE, or add it to ssh-agent \
             (SSH_AUTH_SOCK); `tailops approver list` shows those that are enrolled"
        );
    }
    // The gateway says whether it counts so.
    Ok(None)
}

/// Signed with the key that lies in the gateway's data directory, if one does, and it is enrolled.
async fn with_own_key(gateway: &Gateway, statement: &Statement) -> anyhow::Result<Option<String>> {
    let Some(file) = gateway.directory().map(|directory| directory.join(OWN_KEY)).filter(|file| file.exists()) else {
        return Ok(None);
    };
    let text = sign_with_file(statement, &file)?;
    let signed = Signature::parse(&text)?;
    Ok(keys_at(gateway).await?.contains(signed.key()).then_some(text))
}

/// Signed by ssh-agent. It may wait for somebody to touch a key, so it does so on a thread of its own.
async fn with_agent(gateway: &Gateway, statement: Statement, socket: PathBuf) -> anyhow::Result<Option<String>> {
    let keys = keys_at(gateway).await?;
    if keys.is_empty() {
        return Ok(None);
    }
    let signed = tokio::task::spawn_blocking(move || sign_with_agent(&statement, Path::new(&socket), &keys)).await;
    signed.map_err(|error| anyhow!("ssh-agent could not be asked: {error}"))?
}

/// Whether a signature is likely to be needed: the question wants one, or whoever asks here is not known to be somebody
/// else who may decide.
async fn wanted(gateway: &Gateway, view: &ApprovalView, vote: Vote) -> anyhow::Result<bool> {
    #[derive(Deserialize)]
    struct Whoami {
        login: String,
    }
    if vote == Vote::Deny {
        return Ok(false);
    }
    if view.strength == Strength::Signature || !view.may_decide {
        return Ok(true);
    }
    let own = folded(&gateway.get::<Whoami>(&["whoami"], &[]).await?.login);
    Ok(view.login.iter().chain([&view.owner]).any(|login| folded(login) == own))
}

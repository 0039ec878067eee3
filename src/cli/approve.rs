//! `tailops approve`: shows a person what they would agree to, asks, and sends their yes with the hash of what they saw.
//! Sends nothing before they said so, and takes from the gateway no text to sign.

mod sign;

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
};

use anyhow::anyhow;
use clap::Args;
use serde_json::{Map, Value};

pub(super) use self::sign::{How, signature};
use super::{
    Exit, block_on,
    people::{Gateway, Reach},
    question::{self, Checked},
    say,
    visible::visible,
};
use crate::{
    approval::{ApprovalView, State, Statement},
    model::{Clock, SystemClock, Vote},
};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The approval, as `tailops approvals` names it
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    reach: Reach,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    comment: String,
    #[command(flatten)]
    how: How,
    /// Only write what is to be signed to standard output, for `ssh-keygen -Y sign -n tailops-approval -f KEY`
    #[arg(long, conflicts_with_all = ["key", "signature", "yes"])]
    print: bool,
    /// Agree without being asked: for those who have looked at it already
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(directory: Option<&Path>, arguments: Arguments) -> Result<(), Exit> {
    if !arguments.yes && !arguments.print {
        wants_terminal()?;
    }
    block_on(async {
        let gateway = Gateway::reach(directory, &arguments.reach).await?;
        let view = fetch(&gateway, &arguments.id).await?;
        if arguments.print {
            // Standard output is for what is signed, to the byte.
            show(&view, &mut io::stderr().lock())?;
            agreeable(&view)?;
            write!(io::stdout().lock(), "{}", Statement::of_view(&view, Vote::Approve)?)?;
            return Ok(());
        }
        show(&view, &mut io::stdout().lock())?;
        agreeable(&view)?;
        if !arguments.yes && !confirmed(&format!("Approve {}?", question::headline(&view)))? {
            return Err(anyhow!("nothing was sent: {} stays {}", view.id, question::state(&view)).into());
        }
        let signature = signature(&gateway, &view, Vote::Approve, &arguments.how).await?;
        let ballot = Ballot { vote: Vote::Approve, comment: &arguments.comment, signature };
        let after = decide(&gateway, &view, &ballot).await?;
        Ok(say(outcome(&after, Vote::Approve))?)
    })
}

/// Errors unless somebody sits at a terminal who can be asked.
pub(super) fn wants_terminal() -> Result<(), Exit> {
    if io::stdin().is_terminal() && io::stderr().is_terminal() {
        return Ok(());
    }
    let what = "there is no terminal to ask on: look at it with `tailops approvals --json`, and then say --yes";
    Err(Exit::with(2, anyhow!(what)))
}

/// The question `id`.
pub(super) async fn fetch(gateway: &Gateway, id: &str) -> anyhow::Result<ApprovalView> {
    let view: ApprovalView = gateway.get(&["approvals", id], &[]).await?;
    anyhow::ensure!(view.id == id, "the gateway answers with another approval");
    Ok(view)
}

/// Writes everything that a person has to know.
pub(super) fn show(view: &ApprovalView, out: &mut impl Write) -> io::Result<()> {
    for line in question::page(view, SystemClock.now()) {
        writeln!(out, "{line}")?;
    }
    out.flush()
}

/// Errors for what nobody should, or can, agree to.
pub(super) fn agreeable(view: &ApprovalView) -> anyhow::Result<()> {
    anyhow::ensure!(
        question::is_open(view),
        "{} is {}: there is nothing to decide any more",
        visible(&view.id),
        question::state(view)
    );
    anyhow::ensure!(
        question::checked(view) != Checked::Other,
        "what is shown is not the operation that would run, so nothing was sent: either it holds characters that nobody \
         sees, which were taken out, or the gateway lies"
    );
    Ok(())
}

/// Asks on the terminal; only `y` or `yes` is one.
pub(super) fn confirmed(ask: &str) -> io::Result<bool> {
    let mut terminal = io::stderr().lock();
    write!(terminal, "{ask} [y/N] ")?;
    terminal.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// What somebody says.
pub(super) struct Ballot<'a> {
    pub(super) vote: Vote,
    pub(super) comment: &'a str,
    /// Armored SSHSIG.
    pub(super) signature: Option<String>,
}

/// Sends what somebody says to what they saw in `view`, and returns how it stands then.
pub(super) async fn decide(
    gateway: &Gateway,
    view: &ApprovalView,
    ballot: &Ballot<'_>,
) -> anyhow::Result<ApprovalView> {
    let mut body = Map::from_iter([
        ("decision".to_owned(), Value::from(ballot.vote.as_str())),
        // Of what was shown: if something else is asked by now, the gateway refuses.
        ("operation_hash".to_owned(), Value::from(view.operation_hash.as_str())),
        ("comment".to_owned(), Value::from(ballot.comment)),
    ]);
    if let Some(signature) = &ballot.signature {
        body.insert("signature".to_owned(), Value::from(signature.as_str()));
    }
    gateway.post(&["approvals", &view.id, "decision"], &body).await
}

/// What came of a decision, and what happens next.
pub(super) fn outcome(view: &ApprovalView, vote: Vote) -> String {
    let (id, what) = (visible(&view.id), question::headline(view));
    match (vote, view.state) {
        (Vote::Deny, _) => format!("denied: {what} will not run"),
        (Vote::Approve, State::Approved) => {
            let until = view.expires_at;
            if view.kind == "call" {
                format!("approved: {what} runs once, when the same call comes with approval_id {id}, until {until:.0}")
            } else {
                format!("approved: {what}")
            }
        }
        (Vote::Approve, State::Pending) => {
            let yeses = view.votes.iter().filter(|vote| vote.vote == Vote::Approve).count();
            format!("your yes is on record: {yeses} of {} that {what} needs", view.quorum)
        }
        (Vote::Approve, State::Used) if view.kind == "act" => format!("done: {what}"),
        (Vote::Approve, _) => format!("your yes is on record; {id} is {} now", question::state(view)),
    }
}

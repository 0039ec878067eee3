//! `tailops watch`: what people are asked to approve, as it comes. On a terminal a list to choose and decide from;
//! elsewhere a line for each change. Decides nothing by itself.

mod board;
mod terminal;

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    path::Path,
    pin::pin,
    time::Duration,
};

use anyhow::{Context, anyhow};
use clap::Args;

use self::{
    board::{Act, Board},
    terminal::{Ended, Terminal},
};
use super::{
    Exit,
    approvals::{State, list},
    approve::{Ballot, How, agreeable, decide, fetch, outcome, show, signature},
    block_on, colours,
    people::{Gateway, Reach, Refusal},
    question, say,
    visible::{cut, visible},
};
use crate::{
    approval::ApprovalView,
    model::{Clock, SystemClock, Vote},
};

/// How often the gateway is asked.
const EVERY: Duration = Duration::from_secs(1);
/// The most that are looked at: as many as a gateway answers at once.
const MOST: u32 = 500;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn run(directory: Option<&Path>, arguments: Arguments) -> Result<(), Exit> {
    block_on(async {
        let gateway = Gateway::reach(directory, &arguments.reach).await?;
        // A gateway that is not there is an error at once; later it may come back.
        let first: Vec<ApprovalView> = list(&gateway, State::Pending, MOST).await?;
        if io::stdin().is_terminal() && io::stdout().is_terminal() {
            Ok(interact(&gateway, first).await?)
        } else {
            Ok(follow(&gateway, first).await?)
        }
    })
}

/// What the gateway has open, after a pause.
async fn later(gateway: &Gateway) -> anyhow::Result<Vec<ApprovalView>> {
    tokio::time::sleep(EVERY).await;
    list(gateway, State::Pending, MOST).await
}

/// Prints a line for each change, until it is ended.
async fn follow(gateway: &Gateway, first: Vec<ApprovalView>) -> anyhow::Result<()> {
    let (mut known, mut silent) = (BTreeMap::new(), false);
    let mut fetched: anyhow::Result<Vec<ApprovalView>> = Ok(first);
    loop {
        match fetched {
            Ok(views) => {
                silent = false;
                for view in changed(gateway, &mut known, views).await? {
                    say(line(&view))?;
                }
            }
            // The gateway answers, and will not answer otherwise.
            Err(error) if error.is::<Refusal>() => return Err(error),
            Err(error) => {
                if !std::mem::replace(&mut silent, true) {
                    writeln!(io::stderr(), "the gateway cannot be asked now, and is tried again: {error:#}")?;
                }
            }
        }
        fetched = later(gateway).await;
    }
}

/// Those of `views` that are not as they were when this was asked last, the oldest first, and those that are open no
/// more, as they ended.
async fn changed(
    gateway: &Gateway,
    known: &mut BTreeMap<String, (&'static str, usize)>,
    views: Vec<ApprovalView>,
) -> anyhow::Result<Vec<ApprovalView>> {
    let mut changed = Vec::new();
    let gone = known.keys().filter(|id| !views.iter().any(|view| view.id == **id));
    for id in gone.cloned().collect::<Vec<_>>() {
        known.remove(&id);
        match fetch(gateway, &id).await {
            Ok(view) => changed.push(view),
            // It is out of sight.
            Err(error) if error.is::<Refusal>() => {}
            Err(error) => return Err(error),
        }
    }
    for view in views.into_iter().rev() {
        let now = (question::state(&view), view.votes.len());
        if known.insert(view.id.clone(), now) != Some(now) {
            changed.push(view);
        }
    }
    Ok(changed)
}

/// One change in one line.
fn line(view: &ApprovalView) -> String {
    /// The most of others' words, in characters.
    const LONGEST: usize = 200;
    let now = SystemClock.now();
    let votes = view.votes.iter().map(|vote| format!(", {} said {}", visible(&vote.login), vote.vote));
    let reason = view.operation.get("reason").and_then(serde_json::Value::as_str).unwrap_or_default();
    format!(
        "{now:.0}  {}  {}  {}, asked by {}: “{}”{}",
        visible(&view.id),
        question::state(view),
        cut(&question::headline(view), LONGEST),
        cut(&question::asker(view), LONGEST),
        cut(reason, LONGEST),
        votes.collect::<String>()
    )
}

/// A live list on the terminal, until somebody leaves it.
async fn interact(gateway: &Gateway, first: Vec<ApprovalView>) -> anyhow::Result<()> {
    let mut terminal = Terminal::open()?;
    let mut board = Board::new(first, colours(&io::stdout()));
    let mut fetching = pin!(later(gateway));
    let mut screen = Some(terminal.screen()?);
    loop {
        if let Some(screen) = &mut screen {
            screen.draw(&board.lines(screen.size(), SystemClock.now()))?;
        }
        let input = tokio::select! {
            input = terminal.input() => input,
            fetched = fetching.as_mut() => {
                match fetched {
                    Ok(views) => board.take(views),
                    Err(error) if error.is::<Refusal>() => return Err(error),
                    Err(error) => board.fail(&format!("{error:#}")),
                }
                fetching.set(later(gateway));
                continue;
            }
        };
        let Ok(bytes) = input else { return Ok(()) };
        match board.typed(&bytes) {
            None => {}
            Some(Act::Leave) => return Ok(()),
            Some(Act::Look(id, vote)) => {
                // Pages are long: the terminal itself scrolls them, and edits what is typed.
                drop(screen.take());
                match turn(gateway, &mut terminal, &id, vote).await {
                    Ok(()) => {}
                    Err(error) if error.is::<Ended>() => return Ok(()),
                    Err(error) => say(format_args!("{error:#}"))?,
                }
                say("Enter goes back to the list.")?;
                if terminal.line().await.is_err() {
                    return Ok(());
                }
                screen = Some(terminal.screen()?);
                fetching.set(later(gateway));
            }
        }
    }
}

/// Shows the question `id`, and takes a decision where one is wanted.
async fn turn(gateway: &Gateway, terminal: &mut Terminal, id: &str, vote: Option<Vote>) -> anyhow::Result<()> {
    // Anew: what was on the list may have changed.
    let view = fetch(gateway, id).await?;
    show(&view, &mut io::stdout().lock())?;
    let Some(vote) = vote else { return Ok(()) };
    if vote == Vote::Approve {
        agreeable(&view)?;
    }
    let comment = match vote {
        Vote::Approve => terminal.ask("Why (may stay empty): ").await?,
        Vote::Deny => terminal.ask("Why (for the record): ").await?,
    };
    let verb = match vote {
        Vote::Approve => "Approve",
        Vote::Deny => "Deny",
    };
    let sure = terminal.ask(&format!("{verb} {}? [y/N] ", question::headline(&view))).await?;
    if !matches!(sure.to_ascii_lowercase().as_str(), "y" | "yes") {
        return Err(anyhow!("nothing was sent"));
    }
    let signature = signature(gateway, &view, vote, &How::default()).await?;
    let ballot = Ballot { vote, comment: &comment, signature };
    let after = decide(gateway, &view, &ballot).await.context("it was not decided")?;
    Ok(say(outcome(&after, vote))?)
}

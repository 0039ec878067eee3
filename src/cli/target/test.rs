//! `tailops target test`: whether targets can be reached, logged in to and used. The running service tests, a few at the
//! same time; each result is shown as it comes, and a table, the worst first, at the end.

use std::io::{self, IsTerminal, Write};

use anyhow::anyhow;
use clap::Args;
use futures_util::{StreamExt, stream};
use serde_json::json;

use super::Desk;
use crate::{
    cli::{
        Exit,
        people::{Gateway, Reach, Refusal},
        say, table, visible,
    },
    pipeline::Trial,
};

/// How many targets are tested at the same time.
const AT_ONCE: usize = 16;

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// Their ids
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<String>,
    /// Every target there is
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// As an array of objects
    #[arg(long)]
    json: bool,
}

const HEAD: [&str; 9] = ["TARGET", "RESULT", "TIME", "HOST KEY", "TRUSTED BY", "LOGIN", "SUDO", "SYSTEMD", "WHY"];

impl Desk<'_> {
    pub(super) async fn test(&self, arguments: Arguments) -> Result<(), Exit> {
        let Arguments { ids, all, json } = arguments;
        let known = self.all().await?;
        if let Some(unknown) = ids.iter().find(|id| !known.contains_key(*id)) {
            return Err(Exit::with(2, anyhow!("there is no target {unknown:?}: `tailops target list` shows them")));
        }
        let ids: Vec<String> = if all { known.into_keys().collect() } else { ids };
        let gateway = Gateway::reach(Some(self.directory), &Reach { url: None }).await?;
        let mut progress = Progress { total: ids.len(), done: 0, failed: 0, drawn: io::stderr().is_terminal() };
        let mut running = stream::iter(&ids).map(|id| tested(&gateway, id)).buffer_unordered(AT_ONCE);
        let mut trials = Vec::new();
        while let Some(trial) = running.next().await {
            let trial = trial.inspect_err(|_| progress.clear())?;
            progress.step(&trial);
            trials.push(trial);
        }
        progress.clear();
        trials.sort_by(|a, b| (rank(a), &a.target).cmp(&(rank(b), &b.target)));
        if json {
            say(visible::json(&trials)?)?;
        } else {
            table(&HEAD, trials.iter().map(row))?;
        }
        let failed = trials.iter().filter(|trial| rank(trial) == Rank::Failed).count();
        let text = if failed == 1 { "1 target failed" } else { &format!("{failed} targets failed") };
        match failed {
            0 => Ok(()),
            _ => Err(anyhow!("{text} of {}", trials.len()).into()),
        }
    }
}

/// One test. A target that is gone by now failed; an error says that there is nobody to test.
async fn tested(gateway: &Gateway, id: &str) -> anyhow::Result<Trial> {
    match gateway.post::<Trial>(&["targets", id, "test"], &json!({})).await {
        Ok(trial) => Ok(trial),
        Err(error) => match error.downcast_ref::<Refusal>() {
            Some(refusal) if refusal.code == "unknown_target" => {
                Ok(Trial { message: Some(refusal.message.clone()), ..Trial::failed(id, "unknown_target") })
            }
            _ => Err(error),
        },
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Failed,
    /// Of a kind that this version does not operate.
    Untested,
    Worked,
}

fn rank(trial: &Trial) -> Rank {
    match trial.code.as_deref() {
        _ if trial.ok => Rank::Worked,
        Some("no_executor") => Rank::Untested,
        _ => Rank::Failed,
    }
}

fn row(trial: &Trial) -> Vec<String> {
    let word = |value: &Option<String>| visible::cut(value.as_deref().unwrap_or("-"), 60);
    let flag = |value: Option<bool>| value.map_or("-", |value| if value { "yes" } else { "no" }).to_owned();
    let result = match rank(trial) {
        Rank::Worked => "ok".to_owned(),
        _ => word(&trial.code),
    };
    let why = visible::cut(trial.message.as_deref().unwrap_or(""), 120);
    vec![
        trial.target.clone(),
        result,
        format!("{} ms", trial.took_ms),
        word(&trial.host_key),
        trust(trial),
        word(&trial.login),
        flag(trial.sudo),
        flag(trial.systemd),
        why,
    ]
}

/// What spoke for the host key.
fn trust(trial: &Trial) -> String {
    let by = match (trial.host_trust.as_deref(), trial.host_authority.as_deref()) {
        (Some("network_map"), _) => "network map".to_owned(),
        (Some(word), Some(authority)) => format!("{word} by {authority}"),
        (word, _) => word.unwrap_or("-").to_owned(),
    };
    visible::cut(&by, 80)
}

/// The line that tells how far it is, on a terminal.
struct Progress {
    total: usize,
    done: usize,
    failed: usize,
    drawn: bool,
}

impl Progress {
    fn step(&mut self, trial: &Trial) {
        self.done += 1;
        self.failed += usize::from(rank(trial) == Rank::Failed);
        if self.drawn {
            let failed = if self.failed > 0 { format!(", {} failed", self.failed) } else { String::new() };
            let _ = write!(io::stderr(), "\r\u{1b}[K{} of {} tested{failed}", self.done, self.total);
        }
    }

    fn clear(&self) {
        if self.drawn {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_worst_stands_first_and_what_a_host_says_steers_no_terminal() {
        let worked = Trial { ok: true, code: None, ..Trial::failed("a", "") };
        let other = Trial::failed("b", "no_executor");
        let failed = Trial {
            message: Some("\u{1b}[2Jgone".to_owned()),
            host_trust: Some("certificate".to_owned()),
            host_authority: Some("SHA256:x".to_owned()),
            ..Trial::failed("c", "unreachable")
        };
        let mut trials = [worked, other, failed];
        trials.sort_by(|a, b| (rank(a), &a.target).cmp(&(rank(b), &b.target)));
        assert_eq!(trials.each_ref().map(|trial| trial.target.as_str()), ["c", "b", "a"]);
        let cells: Value = trials.iter().map(row).collect::<Vec<_>>().into();
        assert!(!cells.to_string().contains("\\u001b["), "{cells}");
        assert_eq!((&cells[0][1], &cells[2][1]), (&json!("unreachable"), &json!("ok")));
        assert_eq!((&cells[0][4], &cells[2][4]), (&json!("certificate by SHA256:x"), &json!("-")));
    }
}

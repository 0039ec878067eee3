//! `tailops credential status`: one row a secret, the worst first. Made for a timer: its exit code says whether somebody
//! has to do something.

use anyhow::anyhow;
use clap::Args;
use serde::Deserialize;

use crate::{
    cli::{Exit, people::Gateway, say, table, visible},
    fleet::{Credential, CredentialState, KnownBy},
};

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// As an array of objects
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Listed {
    credentials: Vec<Credential>,
}

/// Every secret there is.
pub(super) async fn listed(gateway: &Gateway) -> anyhow::Result<Vec<Credential>> {
    Ok(gateway.get::<Listed>(&["credentials"], &[]).await?.credentials)
}

const HEAD: [&str; 7] = ["STATE", "KIND", "NAME", "AGE", "MOST", "SINCE", "USED BY"];
/// The most targets of a row that are named.
const NAMED: usize = 4;

pub(super) async fn run(gateway: &Gateway, arguments: &Arguments) -> Result<(), Exit> {
    let rows = listed(gateway).await?;
    if arguments.json {
        say(visible::json(&rows)?)?;
    } else {
        table(&HEAD, rows.iter().map(row))?;
        for bad in rows.iter().filter(|row| row.why.is_some()) {
            let (name, why) = (name(bad), bad.why.as_deref().unwrap_or_default());
            say(format_args!("{}: {}", visible::cut(&name, 200), visible::cut(why, 200)))?;
        }
    }
    let count = |state| rows.iter().filter(|row| row.state == state).count();
    match (count(CredentialState::Overdue), count(CredentialState::Unreadable)) {
        (0, 0) => Ok(()),
        (overdue, unreadable) => {
            Err(anyhow!("{overdue} too old, {unreadable} unusable or of unknown age, of {}", rows.len()).into())
        }
    }
}

/// What a person knows it by.
pub(super) fn name(row: &Credential) -> String {
    match &row.file {
        Some(file) if row.name.is_empty() => file.clone(),
        Some(file) => format!("{} {file}", row.name),
        None => row.name.clone(),
    }
}

fn row(row: &Credential) -> Vec<String> {
    let since = row.made_at.map_or_else(|| "-".to_owned(), |at| at.strftime("%Y-%m-%d").to_string());
    let since = match row.known_by {
        // Whoever can write the file can set it.
        Some(KnownBy::File) => format!("{since} (by its file)"),
        _ => since,
    };
    let more = row.used_by.len().saturating_sub(NAMED);
    let mut used = row.used_by.iter().take(NAMED).cloned().collect::<Vec<_>>().join(" ");
    if more > 0 {
        used += &format!(" and {more} more");
    }
    vec![
        row.state.as_str().to_owned(),
        row.kind.as_str().to_owned(),
        visible::cut(&name(row), 200),
        row.age_s.map_or_else(|| "-".to_owned(), time),
        row.max_age_s.map_or_else(|| "-".to_owned(), time),
        since,
        if used.is_empty() { "-".to_owned() } else { used },
    ]
}

/// Whole days, or whole hours below two days.
fn time(seconds: u64) -> String {
    const HOUR: u64 = 3600;
    if seconds < 48 * HOUR { format!("{} h", seconds / HOUR) } else { format!("{} d", seconds / (24 * HOUR)) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_says_how_its_age_is_known_and_steers_no_terminal() {
        let listed: Credential = serde_json::from_value(json!({
            "kind": "login_key", "name": "", "file": "/etc/tailops/\u{1b}[2Jkey", "used_by": ["a", "b", "c", "d", "e", "f"],
            "made_at": "2026-01-02T00:00:00Z", "known_by": "file", "age_s": 7_776_000, "max_age_s": 86_400, "state": "overdue",
        }))
        .unwrap();
        let cells = row(&listed);
        assert_eq!(cells[0..2], ["overdue", "login_key"]);
        assert_eq!(cells[3..], ["90 d", "24 h", "2026-01-02 (by its file)", "a b c d and 2 more"]);
        assert!(cells.iter().all(|cell| !cell.contains('\u{1b}')), "{cells:?}");
    }
}

//! `tailops credential rotate`: has the running service replace login keys, shows how far it is on each target, and says
//! for secrets that it cannot replace what a person has to do. Replaces nothing itself.

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::anyhow;
use clap::Args;
use serde_json::json;

use super::status::{listed, name};
use crate::{
    cli::{Exit, approve::confirmed, people::Gateway, say, table, visible},
    fleet::{Credential, CredentialKind, CredentialState, KeyRotation, Reached, RotationStage},
};

/// How often it is asked how far it is.
const EVERY: Duration = Duration::from_millis(200);

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// The file of a login key, as the registry names it
    #[arg(value_name = "KEY_FILE", required_unless_present = "all_due")]
    file: Option<PathBuf>,
    /// Every login key that is due or overdue, one after the other
    #[arg(long, conflicts_with_all = ["file", "resume"])]
    all_due: bool,
    /// Take up a rotation that was interrupted, or that could not be finished
    #[arg(long, conflicts_with = "dry_run")]
    resume: bool,
    /// Look on every target whether the key could be replaced, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// As an array of objects
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(gateway: &Gateway, arguments: &Arguments) -> Result<(), Exit> {
    let rows = listed(gateway).await?;
    let mut left = Vec::new();
    let files: Vec<String> = match &arguments.file {
        Some(file) => {
            let file = std::path::absolute(file)?.display().to_string();
            let login = |row: &&Credential| row.kind == CredentialKind::LoginKey;
            let named = || rows.iter().filter(|row| row.file.as_deref() == Some(&file));
            // What is a login key too has targets that have to follow.
            if let Some(row) = named().find(|row| !login(row)).filter(|_| !named().any(|row| login(&row))) {
                return Err(Exit::with(2, anyhow!("{}", by_hand(row))));
            }
            vec![file]
        }
        None => {
            let due = rows.iter().filter(|row| matches!(row.state, CredentialState::Due | CredentialState::Overdue));
            let (keys, others): (Vec<_>, Vec<_>) = due.partition(|row| row.kind == CredentialKind::LoginKey);
            left.extend(others);
            keys.into_iter().filter_map(|row| row.file.clone()).collect()
        }
    };
    if !arguments.dry_run && !files.is_empty() {
        agreed(arguments, &files)?;
    }
    let mut ended = Vec::new();
    let mut failed = 0;
    for file in &files {
        match one(gateway, arguments, file).await {
            Ok(rotation) => {
                failed += usize::from(!is_well(&rotation));
                if !arguments.json {
                    show(&rotation)?;
                }
                ended.push(rotation);
            }
            // One key that cannot be replaced holds up no other.
            Err(error) if arguments.all_due => {
                failed += 1;
                writeln!(io::stderr(), "{}: {error:#}", visible::visible(file))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    if arguments.json {
        say(visible::json(&ended)?)?;
    } else if files.is_empty() {
        say("no login key is due")?;
    }
    for row in &left {
        writeln!(io::stderr(), "{}", by_hand(row))?;
    }
    let overdue = left.iter().filter(|row| row.state == CredentialState::Overdue).count();
    match (failed, overdue) {
        (0, 0) => Ok(()),
        (0, _) => Err(anyhow!("{overdue} overdue for which a person has to act").into()),
        _ => Err(anyhow!("{failed} of {} rotations did not come to their end", files.len()).into()),
    }
}

/// Errors unless somebody agrees.
fn agreed(arguments: &Arguments, files: &[String]) -> Result<(), Exit> {
    if arguments.yes {
        return Ok(());
    }
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        let what = "there is no terminal to ask on: look at it with --dry-run, and then say --yes";
        return Err(Exit::with(2, anyhow!(what)));
    }
    let ask = format!("Replace {} on every target that is logged in on with it?", visible::visible(&files.join(", ")));
    if confirmed(&ask)? { Ok(()) } else { Err(anyhow!("nothing was done").into()) }
}

/// Has one key replaced, and waits for the end.
async fn one(gateway: &Gateway, arguments: &Arguments, file: &str) -> anyhow::Result<KeyRotation> {
    let act = match (arguments.dry_run, arguments.resume) {
        (true, _) => "look",
        (_, true) => "resume",
        _ => "begin",
    };
    let body = json!({"file": file, "act": act});
    let mut rotation: KeyRotation = gateway.post(&["credentials", "rotate"], &body).await?;
    while rotation.running {
        tokio::time::sleep(EVERY).await;
        rotation = gateway.get(&["credentials", "rotations", &rotation.id], &[]).await?;
    }
    Ok(rotation)
}

fn is_well(rotation: &KeyRotation) -> bool {
    match rotation.stage {
        RotationStage::Planned => rotation.problem.is_none(),
        stage => stage == RotationStage::Done,
    }
}

fn show(rotation: &KeyRotation) -> io::Result<()> {
    let row = |one: &crate::fleet::RotatedTarget| {
        let problem = one.problem.as_ref();
        let why = problem.map(|problem| visible::cut(&problem.message, 160)).unwrap_or_default();
        let code = problem.map_or_else(|| "-".to_owned(), |problem| visible::cut(&problem.code, 60));
        vec![one.target.clone(), one.reached.as_str().to_owned(), code, why]
    };
    table(&["TARGET", "REACHED", "CODE", "WHY"], rotation.targets.iter().map(row))?;
    let file = visible::visible(&rotation.file);
    let (old, new) = (visible::visible(&rotation.old_key), visible::visible(&rotation.new_key));
    match rotation.stage {
        RotationStage::Planned if rotation.problem.is_none() => {
            say(format_args!("{file} ({old}) can be replaced; nothing was changed"))
        }
        RotationStage::Planned => say(format_args!("{file} ({old}) cannot be replaced now; nothing was changed")),
        RotationStage::Done => say(format_args!("{file} is {new} now; {old} opens nothing any more")),
        RotationStage::Undone => say(format_args!("{file} is {old} as before; {new} was taken back and is gone")),
        RotationStage::Adding => say(format_args!("{file} is {old} as before: --resume takes it up")),
        RotationStage::Undoing => say(format_args!(
            "{file} is {old} as before; {new} is gone, and stands on a target still: --resume takes it out there"
        )),
        RotationStage::Removing => {
            let at = |one: &&crate::fleet::RotatedTarget| one.reached != Reached::Refused;
            let count = rotation.targets.iter().filter(at).count();
            say(format_args!("{file} is {new} now; {old} may still open {count} targets: --resume takes it out there"))
        }
    }
}

/// What a person has to do about a secret that is not replaced by itself.
fn by_hand(row: &Credential) -> String {
    let what = visible::visible(&name(row));
    let file = row.file.as_deref().map(|file| Path::new(file).display().to_string());
    let file = visible::visible(&file.unwrap_or_default());
    let how = match row.kind {
        CredentialKind::LoginKey => format!("tailops credential rotate {file}"),
        CredentialKind::SshCa => format!(
            "ssh-keygen -t ed25519 -N '' -f {file}.new; add {file}.new.pub to the file of TrustedUserCAKeys on every host \
             beside the old line; then mv {file}.new {file}, restart the service, run `tailops target test --all`, and \
             take the old line out of every host"
        ),
        CredentialKind::TokenKey => {
            "tailops token rotate-key --grace 24h, and mint every token anew within that time".to_owned()
        }
        CredentialKind::WebhookSecret => format!(
            "write a new secret to {file} (openssl rand -hex 32), give the webhook the same, and restart the service"
        ),
        CredentialKind::NotifyToken => {
            format!("have the other end make a new token, write it to {file}, and restart the service")
        }
        CredentialKind::TlsKey => format!(
            "have the certificate renewed with a new key in {file} (certbot: --force-renewal --new-key), and the old one \
             revoked"
        ),
        CredentialKind::NodeCredential => {
            format!("make a new one in the admin console, write it to {file}, and revoke the old one there")
        }
    };
    format!("{} {what} is not replaced by itself: {how}", row.kind.as_str())
}

//! The finding about the gateway's own secrets: which are too old, by kind. Names no secret and no file.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Facts;
use crate::{
    fleet::{Credential, CredentialState},
    model::{Line, Subject},
};

const MEND: &str = "`tailops credential status` shows each, `tailops credential rotate --all-due` replaces login keys";

impl Facts {
    pub(super) async fn credentials(&self, now: Timestamp) -> Line {
        let rules = self.rules.now();
        match self.secrets.look(&rules.registry, rules.credentials, &self.store, now).await {
            Ok(rows) => line(&rows),
            Err(error) => Line::fail(
                Subject::Credentials,
                format!("cannot be read: {error}"),
                "look at the lines `database` and `disk`",
            ),
        }
    }
}

fn line(rows: &[Credential]) -> Line {
    let of = |state| {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.state == state) {
            *kinds.entry(row.kind.as_str()).or_default() += 1;
        }
        kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
    };
    let (overdue, unreadable, due) =
        (of(CredentialState::Overdue), of(CredentialState::Unreadable), of(CredentialState::Due));
    let mut findings = Vec::new();
    if !overdue.is_empty() {
        findings.push(format!("too old: {overdue}"));
    }
    if !unreadable.is_empty() {
        findings.push(format!("unusable or of unknown age: {unreadable}"));
    }
    if findings.is_empty() {
        let due = if due.is_empty() { String::new() } else { format!("; due soon: {due}") };
        return Line::ok(Subject::Credentials, format!("{} of the gateway's own, none too old{due}", rows.len()));
    }
    Line::warn(Subject::Credentials, findings.join("; "), MEND)
}

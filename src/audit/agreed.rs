//! Whether the records of one approval fit together, from an export alone: every signature in them is checked anew, over
//! what it has to be over, and every run against those who are said to have agreed to it. Reads no database, believes no
//! record that says of a signature that it was good, and does not say whether the export is whole.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    approval::{ApproverKey, Signature, Statement},
    model::{Strength, Vote},
};

/// What stands in an export about one approval.
#[derive(Debug)]
pub struct ApprovalCheck {
    id: String,
    records: Vec<Entry>,
    /// Changes of keys, by whatever approval.
    keys: Vec<Entry>,
    unreadable: usize,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// What was found, in order, for people.
    pub found: Vec<String>,
    /// What does not fit. Nothing here means that everything fits.
    pub faults: Vec<String>,
}

/// The part of a record that matters here.
#[derive(Clone, Debug, Deserialize)]
struct Entry {
    seq: u64,
    kind: String,
    timestamp: String,
    tool: Option<String>,
    subject: Option<String>,
    status: String,
    #[serde(default)]
    approved: bool,
    error: Option<String>,
    #[serde(default)]
    args: Value,
    approval: Option<Facts>,
}

#[derive(Clone, Debug, Deserialize)]
struct Facts {
    operation_hash: Option<String>,
    #[serde(default)]
    approvers: Vec<Who>,
    #[serde(default)]
    break_glass: bool,
    signed: Option<Signed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Who {
    login: String,
    strength: Strength,
    key_id: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Signed {
    statement: String,
    signature: String,
    public_key: String,
}

/// A word that counts as far as its record goes.
struct Word {
    who: Who,
    vote: Vote,
    seq: u64,
    /// Whether a signature was checked here; false where the record has none.
    signed: bool,
}

impl ApprovalCheck {
    /// Of the approval `id`.
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), records: Vec::new(), keys: Vec::new(), unreadable: 0 }
    }

    /// Takes one line of an export. What belongs to another approval is passed over.
    pub fn take(&mut self, line: &str) {
        let Ok(value) = serde_json::from_str::<Value>(line) else {
            self.unreadable += 1;
            return;
        };
        let ours = value.pointer("/approval/id").and_then(Value::as_str) == Some(&self.id);
        let of_keys = value.get("tool").and_then(Value::as_str).is_some_and(|tool| tool.starts_with("approver_key."));
        if !ours && !of_keys {
            return;
        }
        match serde_json::from_value::<Entry>(value) {
            Ok(entry) => {
                if of_keys {
                    self.keys.push(entry.clone());
                }
                if ours {
                    self.records.push(entry);
                }
            }
            Err(_) => self.unreadable += 1,
        }
    }

    /// What all of it comes to.
    pub fn finish(mut self) -> Checked {
        let mut checked = Checked::default();
        if self.unreadable > 0 {
            checked.faults.push(format!("{} lines are no records that this version can read", self.unreadable));
        }
        self.records.sort_by_key(|record| record.seq);
        let Some(hash) = self.records.iter().find_map(|record| record.approval.as_ref()?.operation_hash.clone()) else {
            checked.faults.push(format!("no record of the approval {} says what was asked about", self.id));
            return checked;
        };
        let mut words: Vec<Word> = Vec::new();
        let mut runs = 0;
        for record in &self.records {
            let Some(facts) = &record.approval else { continue };
            let mut faults = Vec::new();
            if facts.operation_hash.as_ref().is_some_and(|other| *other != hash) {
                faults.push("is about another operation than the first".to_owned());
            }
            let tool = record.tool.as_deref().unwrap_or("-");
            let mut line = format!("{} record {}: ", record.timestamp, record.seq);
            let vote = match tool {
                "approval.approve" => Some(Vote::Approve),
                "approval.deny" => Some(Vote::Deny),
                _ => None,
            };
            if record.kind != "approval" && record.approved {
                // An intent and its outcome are one run; an export has the one, or both.
                runs += usize::from(record.kind != "intent" || !self.has_outcome(record));
                _ = write!(line, "{tool}: {}, as agreed to by {}", record.status, named(&facts.approvers));
                faults.extend(self.run(record, facts, &words));
            } else if let Some(vote) = vote.filter(|_| record.status == "ok") {
                match self.word(record, facts, vote, &hash) {
                    Ok(word) => {
                        let how = if word.signed { "signed, and the signature is good" } else { "by their connection" };
                        _ = write!(line, "{} says {vote}: {how}", named(&facts.approvers));
                        words.push(word);
                    }
                    Err(why) => {
                        _ = write!(line, "{} says {vote}", named(&facts.approvers));
                        faults.push(why);
                    }
                }
            } else {
                let why = record.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
                _ = write!(line, "{tool}: {}{why} ({})", record.status, record.subject.as_deref().unwrap_or("-"));
            }
            checked.found.push(line);
            checked.faults.extend(faults.iter().map(|fault| format!("record {} {fault}", record.seq)));
        }
        if runs > 1 {
            checked.faults.push(format!("it ran {runs} times, and each approval is good for one run"));
        }
        checked.found.push(format!("the operation: sha256:{hash}"));
        checked
    }

    fn has_outcome(&self, intent: &Entry) -> bool {
        self.records.iter().any(|other| other.kind == "outcome" && other.seq > intent.seq)
    }

    /// The word of a decision's record, its signature checked.
    fn word(&self, record: &Entry, facts: &Facts, vote: Vote, hash: &str) -> Result<Word, String> {
        let [who] = facts.approvers.as_slice() else {
            return Err("does not name one person who decided".to_owned());
        };
        let word = |signed| Word { who: who.clone(), vote, seq: record.seq, signed };
        let Some(signed) = &facts.signed else {
            return match who.strength {
                Strength::Identity => Ok(word(false)),
                Strength::Signature => Err("is said to be signed and holds no signature".to_owned()),
            };
        };
        let statement = Statement::parse(&signed.statement).map_err(|why| format!("holds no statement: {why}"))?;
        let key = ApproverKey::parse(&signed.public_key).map_err(|why| format!("holds no key: it {why}"))?;
        let signature = Signature::parse(&signed.signature).map_err(|why| format!("holds no signature: {why}"))?;
        signature.check(&statement, &key).map_err(|why| format!("holds a signature that does not fit: {why}"))?;
        let told = [
            (statement.id() == self.id, "another approval"),
            (statement.operation_hash() == hash, "another operation"),
            (statement.vote() == vote, "the opposite decision"),
        ];
        if let Some((_, what)) = told.into_iter().find(|(fits, _)| !fits) {
            return Err(format!("holds a good signature over {what}"));
        }
        if who.strength != Strength::Signature || who.key_id.as_deref() != Some(key.id().as_str()) {
            return Err(format!("names another key than the one that signed, {}", key.id()));
        }
        if record.timestamp.parse::<Timestamp>().is_ok_and(|at| at >= statement.expires()) {
            return Err("was decided after the approval had expired".to_owned());
        }
        if self.taken_out(&key.id(), record.seq) {
            return Err(format!("was signed with {}, which had been taken out before", key.id()));
        }
        Ok(word(true))
    }

    /// What does not fit about a run, given what people said before it.
    fn run(&self, record: &Entry, facts: &Facts, words: &[Word]) -> Vec<String> {
        let mut faults = Vec::new();
        if facts.break_glass {
            return faults;
        }
        if facts.approvers.is_empty() {
            faults.push("ran and names nobody who agreed".to_owned());
        }
        for approver in &facts.approvers {
            let agreed = |word: &&Word| {
                word.who == *approver
                    && word.vote == Vote::Approve
                    && word.seq < record.seq
                    && word.signed == (approver.strength == Strength::Signature)
            };
            if !words.iter().any(|word| agreed(&word)) {
                faults.push(format!("names {}, whose yes is not before it or does not fit", approver.login));
            }
            if approver.key_id.as_ref().is_some_and(|key| self.taken_out(key, record.seq)) {
                faults.push(format!("rests on a key of {} that had been taken out before", approver.login));
            }
        }
        if words.iter().any(|word| word.vote == Vote::Deny && word.seq < record.seq) {
            faults.push("ran although somebody had said no".to_owned());
        }
        faults
    }

    /// Whether the export says that this key had been taken out before the record `seq`.
    fn taken_out(&self, key_id: &str, seq: u64) -> bool {
        self.keys.iter().any(|change| {
            change.tool.as_deref() == Some("approver_key.remove")
                && change.status == "ok"
                && change.kind == "outcome"
                && change.seq < seq
                && change.args.get("key_id").and_then(Value::as_str) == Some(key_id)
        })
    }
}

fn named(people: &[Who]) -> String {
    let one = |who: &Who| match &who.key_id {
        Some(key) => format!("{} ({key})", who.login),
        None => who.login.clone(),
    };
    if people.is_empty() { "nobody".to_owned() } else { people.iter().map(one).collect::<Vec<_>>().join(", ") }
}

#[cfg(test)]
mod tests;

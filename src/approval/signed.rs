//! Whose word a ballot is: the connection's, or that of the owner of an enrolled key who signed exactly this answer to
//! exactly this question. Looked at when the word is given and again when it is used.

use super::{
    Approvals, Ballot, Person, Place, Signed, Unapproved, Undecided,
    approver_key::ApproverKey,
    person::folded,
    right::{Matter, people_of},
    signature::Signature,
    statement::Statement,
};
use crate::{
    config,
    model::{Strength, Vote},
    store::{ApprovalRow, ApproverKeyRow, VoteRow},
};

/// A person's word.
pub(super) struct Word {
    /// Whose it is.
    pub(super) person: Person,
    /// The enrolled key that signed it.
    pub(super) key_id: Option<String>,
    /// What was signed.
    pub(super) signed: Option<Signed>,
}

impl Word {
    /// How it is known.
    pub(super) fn strength(&self) -> Strength {
        if self.key_id.is_some() { Strength::Signature } else { Strength::Identity }
    }
}

fn bad(why: impl ToString) -> Undecided {
    Undecided::BadSignature(why.to_string())
}

impl Approvals {
    /// Whose word `ballot` is, which came from `person`. Errors for a signature that is there and does not count.
    pub(super) async fn word(
        &self,
        settings: &config::Approvals,
        person: &Person,
        ballot: &Ballot,
        (row, matter): (&ApprovalRow, &Matter),
    ) -> Result<Word, Undecided> {
        let Some(armored) = &ballot.signature else {
            return Ok(Word { person: person.clone(), key_id: None, signed: None });
        };
        let statement = Statement::of_row(row, ballot.vote).map_err(bad)?;
        let signature = Signature::parse(armored).map_err(bad)?;
        let id = signature.key().id();
        // Every key that was ever enrolled: whoever signs with one that was taken out shall read so.
        let enrolled = self.store.approver_keys().await?;
        let enrolled = enrolled.into_iter().find(|key| key.key_id == id);
        let enrolled = enrolled.ok_or_else(|| bad(format_args!("the key {id} is not enrolled")))?;
        if enrolled.removed_at.is_some() {
            return Err(bad(format_args!("the key {id} is enrolled no more")));
        }
        let on_host = matches!(person.place(), Place::Host { .. });
        if !on_host && folded(&enrolled.login) != person.folded() {
            return Err(bad(format_args!("the key {id} is somebody else's")));
        }
        let key = key_of(&enrolled).ok_or_else(|| bad(format_args!("the key {id} cannot be read any more")))?;
        signature.check(&statement, &key).map_err(bad)?;
        let signed =
            Signed { statement: statement.to_string(), signature: signature.text().to_owned(), public_key: key.line() };
        let person = self.signer(settings, matter, person.clone(), &enrolled.login).await;
        Ok(Word { person, key_id: Some(id), signed: Some(signed) })
    }

    /// Whether the key `key_id` counts, is of the person who gave `vote`, and signed a yes to the question as it is kept.
    pub(super) async fn is_still_signed(&self, vote: &VoteRow, key_id: &str) -> Result<bool, Unapproved> {
        let (key, row) = (self.store.approver_key(key_id).await?, self.store.approval(&vote.approval_id).await?);
        let (Some(key), Some(row), Some(armored)) = (key, row, &vote.signature) else { return Ok(false) };
        if folded(&key.login) != folded(&vote.login) {
            return Ok(false);
        }
        let (Ok(statement), Some(key)) = (Statement::of_row(&row, Vote::Approve), key_of(&key)) else {
            return Ok(false);
        };
        Ok(Signature::parse(armored).is_ok_and(|signature| signature.check(&statement, &key).is_ok()))
    }

    /// The owner of a key whose signature was checked, where `person` stands. On the gateway's own host that is whoever
    /// owns the key: with what the configuration gives them, or else what the tailnet policy gives one of their nodes.
    pub(super) async fn signer(
        &self,
        settings: &config::Approvals,
        matter: &Matter,
        person: Person,
        login: &str,
    ) -> Person {
        if !matches!(person.place(), Place::Host { .. }) {
            return person;
        }
        let plain = person.clone().signing_as(login, None);
        if matter.is_named(settings, &plain) {
            return plain;
        }
        let nodes = people_of(&*self.node).await;
        let own = nodes.iter().filter(|other| other.folded() == folded(login));
        own.map(|other| person.clone().signing_as(login, other.grants()))
            .find(|signer| matter.is_named(settings, signer))
            .unwrap_or(plain)
    }
}

/// The key of a row, if its text still is the one that its id names.
fn key_of(row: &ApproverKeyRow) -> Option<ApproverKey> {
    ApproverKey::parse(&row.public_key).ok().filter(|key| row.kind == KIND && key.id() == row.key_id)
}

/// How SSH keys are called in their table.
pub(super) const KIND: &str = "ssh";

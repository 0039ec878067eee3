//! Taking a person's word: checked, recorded, and only then kept.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    Agreement, Approvals, Approver, Event, NoRight, NotRecorded, Person, Unapproved,
    ask::{correlation_of, strength_of},
    right::Matter,
};
use crate::{
    config,
    model::{ApprovalId, Strength, Vote},
    store::{ApprovalRow, StoreError, VoteRow},
};

/// What a person says to one question.
#[derive(Clone, Debug)]
pub struct Ballot {
    /// To which.
    pub id: ApprovalId,
    /// What.
    pub vote: Vote,
    /// To which operation: the hash they saw.
    pub operation_hash: String,
    /// Why.
    pub comment: String,
    /// Their signature, armored SSHSIG, where they signed.
    pub signature: Option<String>,
}

/// Why a word does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// No such question, as far as this person is concerned.
    #[error("there is no approval {0}")]
    Unknown(ApprovalId),
    /// They may not.
    #[error(transparent)]
    NoRight(#[from] NoRight),
    /// It is over.
    #[error("{0}")]
    Over(Unapproved),
    /// They saw another operation than the one that is asked about.
    #[error("the operation_hash is not the one of this approval: look at it again")]
    OtherOperation,
    /// They have spoken.
    #[error("you have decided already")]
    Twice,
    /// The signature does not fit.
    #[error("the signature does not count: {0}")]
    BadSignature(String),
    /// A field is wrong.
    #[error("`{field}`: {wanted}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What would be right.
        wanted: &'static str,
    },
    /// It cannot be recorded, so it does not count.
    #[error(transparent)]
    NotRecorded(#[from] NotRecorded),
    /// The database failed.
    #[error("the gateway's database cannot be used now")]
    Store(String),
}

impl From<StoreError> for Undecided {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

impl Undecided {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "approval_unknown",
            Self::NoRight(why) => why.code(),
            Self::Over(over) => over.code(),
            Self::OtherOperation => "operation_changed",
            Self::Twice => "already_decided",
            Self::BadSignature(_) => "bad_signature",
            Self::Invalid { .. } => "invalid_arguments",
            Self::NotRecorded(_) => "audit_unavailable",
            Self::Store(_) => "unavailable",
        }
    }
}

/// The longest comment, in characters.
const LONGEST_COMMENT: usize = 500;

impl Approvals {
    /// Takes what `person` says. Returns once it is recorded and kept.
    pub async fn decide(
        &self,
        settings: &config::Approvals,
        person: &Person,
        ballot: &Ballot,
    ) -> Result<ApprovalRow, Undecided> {
        if ballot.comment.chars().count() > LONGEST_COMMENT || ballot.comment.chars().any(char::is_control) {
            return Err(Undecided::Invalid { field: "comment", wanted: "must be one line of at most 500 characters" });
        }
        let _turn = self.turn.lock().await;
        let now = self.seen().await?;
        let unknown = || Undecided::Unknown(ballot.id.clone());
        let row = self.store.approval(ballot.id.as_str()).await?.ok_or_else(unknown)?;
        let matter = Matter::of(&row).ok_or_else(unknown)?;
        let result = self.judged(settings, person, ballot, &row, &matter, now).await;
        if let Err(why @ (Undecided::NoRight(_) | Undecided::BadSignature(_) | Undecided::OtherOperation)) = &result {
            self.recorder.record(event(&row, person, ballot, None, Some((why.code(), why.to_string())))).await?;
        }
        // Whoever has nothing to do with it does not learn that it exists.
        result.map_err(|why| if why == Undecided::NoRight(NoRight::NotNamed) { unknown() } else { why })
    }

    async fn judged(
        &self,
        settings: &config::Approvals,
        person: &Person,
        ballot: &Ballot,
        row: &ApprovalRow,
        matter: &Matter,
        now: Timestamp,
    ) -> Result<ApprovalRow, Undecided> {
        let (person, key) = match &ballot.signature {
            Some(_) => return Err(Undecided::BadSignature("not supported".into())),
            None => (person.clone(), None::<String>),
        };
        let strength = if key.is_some() { Strength::Signature } else { Strength::Identity };
        match ballot.vote {
            Vote::Approve => {
                matter.may_approve(settings, &person, strength, strength_of(row).max(settings.strength))?;
            }
            Vote::Deny => matter.may_deny(settings, &person)?,
        }
        let row = self.open_one(row.clone(), now).await.map_err(Undecided::Over)?;
        if row.operation_hash != ballot.operation_hash {
            return Err(Undecided::OtherOperation);
        }
        let votes = self.store.votes(&row.id).await?;
        if votes.iter().any(|vote| vote.login == person.folded()) {
            return Err(Undecided::Twice);
        }
        let approver = Approver { login: person.folded(), strength, key_id: key.clone() };
        // On record before it counts.
        self.recorder.record(event(&row, &person, ballot, Some(approver), None)).await?;
        self.store
            .insert_vote(&VoteRow {
                approval_id: row.id.clone(),
                login: person.folded(),
                vote: ballot.vote.as_str().to_owned(),
                strength: strength.as_str().to_owned(),
                place: serde_json::to_string(person.place()).unwrap_or_default(),
                comment: ballot.comment.clone(),
                key_id: key,
                signature: ballot.signature.clone(),
                signed: None,
                voted_at: now,
            })
            .await?;
        if ballot.vote == Vote::Deny {
            self.store.end_approval(&row.id, "denied", now).await?;
        }
        self.store.approval(&row.id).await?.ok_or_else(|| Undecided::Unknown(ballot.id.clone()))
    }
}

fn event<'a>(
    row: &ApprovalRow,
    person: &'a Person,
    ballot: &Ballot,
    approver: Option<Approver>,
    refused: Option<(&'static str, String)>,
) -> Event<'a> {
    let details = Map::from_iter([
        ("decision".to_owned(), Value::from(ballot.vote.as_str())),
        ("comment".to_owned(), Value::from(ballot.comment.as_str())),
        ("asked_by".to_owned(), Value::from(row.subject.as_str())),
        ("tool".to_owned(), Value::from(row.tool.as_str())),
    ]);
    Event {
        act: match ballot.vote {
            Vote::Approve => "approval.approve",
            Vote::Deny => "approval.deny",
        },
        correlation: correlation_of(row),
        engagement: Some(row.engagement.as_str().into()),
        target: row.target.as_deref().map(Into::into),
        approval: Some(Agreement {
            id: row.id.clone(),
            operation_hash: row.operation_hash.clone(),
            approvers: approver.into_iter().collect(),
            break_glass: false,
        }),
        by: Some(person),
        signed: None,
        details,
        refused,
    }
}

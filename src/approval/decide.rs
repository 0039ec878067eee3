//! Taking a person's word: checked, recorded, and only then kept.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    Agreement, Approvals, Approver, Event, KeyTrouble, News, NoRight, NotRecorded, Person, Place, Unapproved,
    ask::{correlation_of, strength_of},
    right::Matter,
};
use crate::{
    config,
    model::{ApprovalId, Vote, failpoint},
    store::{ApprovalRow, StoreError, VoteRow},
};

pub use crate::model::Ballot;

/// Why a word does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// No such question, as far as this person is concerned.
    #[error("there is no approval {0}")]
    Unknown(ApprovalId),
    /// They have nothing to do with it, and are told the same as if it did not exist.
    #[error("there is no approval {0}")]
    Hidden(ApprovalId),
    /// They may not.
    #[error(transparent)]
    NoRight(#[from] NoRight),
    /// It is over, or cannot be asked about.
    #[error("{0}")]
    Over(Unapproved),
    /// What they agreed to can no more be done.
    #[error("this cannot be done any more: the key was enrolled before, or does not count now")]
    Impossible,
    /// The key cannot be enrolled or taken out.
    #[error(transparent)]
    Key(#[from] KeyTrouble),
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

impl From<Unapproved> for Undecided {
    fn from(why: Unapproved) -> Self {
        match why {
            Unapproved::NotRecorded(why) => Self::NotRecorded(why),
            Unapproved::Store(why) => Self::Store(why),
            why => Self::Over(why),
        }
    }
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
            Self::Unknown(_) | Self::Hidden(_) => "approval_unknown",
            Self::NoRight(why) => why.code(),
            Self::Key(trouble) => trouble.code(),
            Self::Over(over) => over.code(),
            Self::OtherOperation => "operation_changed",
            Self::Twice => "already_decided",
            Self::Impossible => "act_impossible",
            Self::BadSignature(_) => "bad_signature",
            Self::Invalid { .. } => "invalid_arguments",
            Self::NotRecorded(_) => "audit_unavailable",
            Self::Store(_) => "unavailable",
        }
    }
}

impl Undecided {
    /// Whether the refusal is on record as an event of its approval: what was wrong with the word, and not with its form
    /// or with us.
    pub fn is_recorded(&self) -> bool {
        match self {
            Self::Hidden(_) | Self::NoRight(_) | Self::OtherOperation | Self::Twice | Self::BadSignature(_) => true,
            Self::Over(over) => matches!(over, Unapproved::Denied(_) | Unapproved::Expired(_) | Unapproved::Used(_)),
            Self::Unknown(_)
            | Self::Key(_)
            | Self::Invalid { .. }
            | Self::Impossible
            | Self::NotRecorded(_)
            | Self::Store(_) => false,
        }
    }
}

/// The longest comment, in characters.
const LONGEST_COMMENT: usize = 500;

impl Approvals {
    /// Takes what `person` says. Returns once it is recorded and kept, and, for an act that enough people agreed to by
    /// this, done. One no ends a question, also of somebody who said yes before.
    pub async fn decide(
        &self,
        settings: &config::Approvals,
        person: &Person,
        ballot: &Ballot,
    ) -> Result<ApprovalRow, Undecided> {
        if ballot.comment.chars().count() > LONGEST_COMMENT || ballot.comment.chars().any(char::is_control) {
            return Err(Undecided::Invalid { field: "comment", wanted: "must be one line of at most 500 characters" });
        }
        // Others read it.
        let ballot = Ballot { comment: self.recorder.cleaned(&ballot.comment), ..ballot.clone() };
        let _turn = self.turn.lock().await;
        let now = self.seen().await?;
        let unknown = || Undecided::Unknown(ballot.id.clone());
        let row = self.store.approval(ballot.id.as_str()).await?.ok_or_else(unknown)?;
        let matter = Matter::of(&row).ok_or_else(unknown)?;
        let result = self.judged(settings, person, &ballot, &row, &matter, now).await;
        if let Err(why) = &result
            && why.is_recorded()
        {
            self.recorder.record(event(&row, person, &ballot, None, Some((why.code(), why.to_string())))).await?;
        }
        // Whoever has nothing to do with it does not learn that it exists.
        result.map_err(|why| match why {
            Undecided::NoRight(NoRight::NotNamed) if !matter.may_see(settings, person) => {
                Undecided::Hidden(ballot.id.clone())
            }
            why => why,
        })
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
        // On the gateway's own host only the signature says who it is. Everybody else hears of a signature that does not
        // fit only where they may know of the question.
        if !matches!(person.place(), Place::Host { .. }) {
            matter.may_deny(settings, person)?;
        }
        let word = self.word(settings, person, ballot, (row, matter)).await?;
        let (person, strength) = (&word.person, word.strength());
        let least = strength_of(row).max(settings.strength);
        match ballot.vote {
            Vote::Approve => matter.may_approve(settings, person, strength, least)?,
            Vote::Deny => matter.may_deny(settings, person)?,
        }
        self.open_one(row, now).await?;
        if row.operation_hash != ballot.operation_hash {
            return Err(Undecided::OtherOperation);
        }
        let mut votes = self.store.votes(&row.id).await?;
        let earlier = votes.iter().position(|vote| vote.login == person.folded());
        if let Some(earlier) = earlier.map(|at| votes.remove(at))
            && ballot.vote == Vote::Approve
            // A yes that counts no more can be said again, and an unsigned one can be signed.
            && !(earlier.key_id.is_none() && word.key_id.is_some())
            && self.stands(settings, matter, least, &earlier).await?
        {
            return Err(Undecided::Twice);
        }
        let vote = VoteRow {
            approval_id: row.id.clone(),
            login: person.folded(),
            vote: ballot.vote.as_str().to_owned(),
            strength: strength.as_str().to_owned(),
            place: serde_json::to_string(person.place()).unwrap_or_default(),
            comment: ballot.comment.clone(),
            key_id: word.key_id.clone(),
            signature: word.signed.as_ref().map(|signed| signed.signature.clone()),
            signed: word.signed.as_ref().map(|signed| signed.statement.clone()),
            voted_at: now,
        };
        // On record before it counts.
        let approver = Approver { login: person.folded(), strength, key_id: word.key_id.clone() };
        let decided = event(row, person, ballot, Some(approver), None);
        self.recorder.record(Event { signed: word.signed.clone(), ..decided }).await?;
        failpoint("decision-recorded");
        let settled = match ballot.vote {
            Vote::Deny => {
                self.store.vote(&vote, Some("denied")).await?;
                true
            }
            Vote::Approve => {
                votes.push(vote.clone());
                let (standing, _) = self.standing(settings, matter, least, &votes).await?;
                let enough = standing.len() >= row.quorum as usize;
                if row.kind == "act" && enough {
                    self.carry_out(row, &vote, standing).await?;
                } else {
                    self.store.vote(&vote, None).await?;
                }
                enough
            }
        };
        self.tell(News::Decided { settled, vote: ballot.vote, by: person.folded(), question: Box::new(row.clone()) });
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
        ("from".to_owned(), serde_json::to_value(person.place()).unwrap_or_default()),
    ]);
    Event {
        act: match ballot.vote {
            Vote::Approve => "approval.approve",
            Vote::Deny => "approval.deny",
        },
        correlation: correlation_of(row),
        engagement: Some(row.engagement.as_str()).filter(|name| !name.is_empty()).map(Into::into),
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

//! Acts: what the gateway does by itself once enough people said yes, in the one transaction that ends the question.
//! Nothing else is ever done this way, and nothing without its intent on record.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Agreement, Approvals, Approver, Asked, Event, News, NoRight, Paper, Person, Place, Unapproved, Undecided,
    ask::{correlation_of, new_id, random_hex},
    right::{Matter, is_approver},
};
use crate::{
    config,
    model::{CorrelationId, Risk, failpoint},
    store::{ApprovalRow, ApproverKeyRow, KeyChange, VoteRow},
};

/// Something about the gateway itself that people have to agree to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act")]
pub enum Act {
    /// Signatures of this key count as that person's from then on.
    #[serde(rename = "approver_key.add")]
    EnrolKey {
        /// Its fingerprint, `SHA256:…`.
        key_id: String,
        /// Whose.
        login: String,
        /// `ssh`.
        kind: String,
        /// One line of OpenSSH.
        public_key: String,
        /// For people.
        label: String,
    },
    /// They count no more.
    #[serde(rename = "approver_key.remove")]
    RemoveKey {
        /// Its fingerprint, `SHA256:…`.
        key_id: String,
        /// Whose it is, for those who decide.
        login: String,
    },
}

impl Act {
    /// As the log and the rules about tools name it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::EnrolKey { .. } => "approver_key.add",
            Self::RemoveKey { .. } => "approver_key.remove",
        }
    }

    /// Why people have to agree.
    fn why(&self) -> &'static str {
        match self {
            Self::EnrolKey { .. } => "signatures of this key would count as this person's word",
            Self::RemoveKey { .. } => "signatures of this key would count no more",
        }
    }

    /// The act on paper, as `by` asks for it. None only for what JSON cannot carry.
    fn paper(&self, by: &Person) -> Option<Paper> {
        Paper::of_document(&json!({
            "v": 1,
            "tool": self.name(),
            "arguments": self,
            "caller": {"login": by.login(), "place": by.place()},
        }))
    }

    /// The act that a kept question is about. None where it holds none that is known.
    fn of(row: &ApprovalRow) -> Option<Self> {
        let document: Map<String, Value> = serde_json::from_str(&row.operation).ok()?;
        serde_json::from_value(document.get("arguments")?.clone()).ok()
    }
}

impl Approvals {
    /// Asks people whether the gateway may do `act`, on the word of `by`, who may not be the only one to agree unless
    /// the settings say so and they sign. Recorded as `approval.ask` under `correlation` before it is kept.
    ///
    /// Whoever is not an approver of anything may ask for nothing, but on the gateway's own host.
    pub async fn ask_act(
        &self,
        settings: &config::Approvals,
        by: &Person,
        act: &Act,
        correlation: CorrelationId,
    ) -> Result<Asked, Undecided> {
        if !is_approver(settings, by) && !matches!(by.place(), Place::Host { .. }) {
            return Err(NoRight::NotNamed.into());
        }
        let paper = act.paper(by).ok_or(Undecided::Invalid { field: "label", wanted: "must be text" })?;
        let _turn = self.turn.lock().await;
        let now = self.seen().await?;
        self.expire_due(now).await?;
        let (all, own) = self.store.pending_acts(by.login()).await?;
        self.bounded(settings, all, own, "of this person")?;
        let row = ApprovalRow {
            id: new_id()?,
            kind: "act".to_owned(),
            shown: paper.canonical().to_owned(),
            operation: paper.canonical().to_owned(),
            operation_hash: paper.hash().to_owned(),
            preview: None,
            trace: "[]".to_owned(),
            why: act.why().to_owned(),
            quorum: 1,
            strength: settings.strength.as_str().to_owned(),
            // No engagement has this name, so no rule that is for some engagements gives a right here.
            engagement: String::new(),
            tool: act.name().to_owned(),
            target: None,
            segment: None,
            risk: Risk::Critical.as_str().to_owned(),
            jti: None,
            subject: by.login().to_owned(),
            owner: by.login().to_owned(),
            peer: by.peer().map_or_else(|| "host".to_owned(), |peer| peer.id.clone()),
            login: Some(by.login().to_owned()),
            correlation_id: correlation.to_string(),
            gateway: self.origin(settings),
            nonce: random_hex()?,
            created_at: now,
            expires_at: now.checked_add(settings.ttl).unwrap_or(now),
            state: "pending".to_owned(),
            ended_at: None,
        };
        let matter = Matter::of(&row).ok_or_else(|| Undecided::Unknown(row.id.as_str().into()))?;
        if let Some(nobody) = self.nobody(settings, &matter, settings.strength, 1).await? {
            return Err(Undecided::Over(Unapproved::Unavailable { why: row.why, nobody }));
        }
        let asking = Event { by: Some(by), details: details_of(act), ..event(&row, "approval.ask", Vec::new()) };
        self.recorder.record(asking).await?;
        self.store.insert_approval(&row).await?;
        self.tell(News::Asked(Box::new(row.clone())));
        Ok(Asked::of(row))
    }

    /// Does the act that `row` asks about, as `approvers` agreed, of whom the last said `vote`. Both, and the end of the
    /// question, are one transaction.
    pub(super) async fn carry_out(
        &self,
        row: &ApprovalRow,
        vote: &VoteRow,
        approvers: Vec<Approver>,
    ) -> Result<(), Undecided> {
        let act = Act::of(row).ok_or_else(|| Undecided::Store("the act cannot be read".to_owned()))?;
        let key;
        let change = match &act {
            Act::EnrolKey { key_id, login, kind, public_key, label } => {
                key = ApproverKeyRow {
                    key_id: key_id.clone(),
                    login: login.clone(),
                    kind: kind.clone(),
                    public_key: public_key.clone(),
                    label: label.clone(),
                    added_at: vote.voted_at,
                    added_by: row.subject.clone(),
                    removed_at: None,
                    removed_by: None,
                };
                KeyChange::Enrol(&key)
            }
            Act::RemoveKey { key_id, .. } => KeyChange::Remove { key_id, by: &row.subject },
        };
        let telling = || Event { details: details_of(&act), ..event(row, act.name(), approvers.clone()) };
        let begun = self.recorder.begin(telling()).await?;
        failpoint("act-begun");
        let done = self.store.vote_and_change_key(vote, &change).await;
        let refused = match &done {
            Ok(true) => None,
            Ok(false) => Some(("act_impossible", "the key was enrolled before, or does not count any more".to_owned())),
            Err(_) => Some(("unavailable", "the gateway's database failed".to_owned())),
        };
        let ended = self.recorder.finish(begun, Event { refused, ..telling() }).await;
        match done {
            Ok(true) => Ok(ended?),
            Ok(false) => Err(Undecided::Impossible),
            Err(error) => Err(error.into()),
        }
    }
}

fn details_of(act: &Act) -> Map<String, Value> {
    match serde_json::to_value(act) {
        Ok(Value::Object(mut details)) => {
            // The record's tool says it.
            details.remove("act");
            details
        }
        _ => Map::new(),
    }
}

fn event<'a>(row: &ApprovalRow, name: &'static str, approvers: Vec<Approver>) -> Event<'a> {
    Event {
        act: name,
        correlation: correlation_of(row),
        engagement: None,
        target: None,
        approval: Some(Agreement {
            id: row.id.clone(),
            operation_hash: row.operation_hash.clone(),
            approvers,
            break_glass: false,
        }),
        by: None,
        signed: None,
        details: Map::new(),
        refused: None,
    }
}

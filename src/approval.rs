//! From a pending operation to a permit: only through people. Keeps questions in SQLite, takes what people say to them,
//! and lets an operation run once, exactly as it was agreed to, by whoever asked. Runs nothing itself, and knows nobody
//! but by their connection or an enrolled key.
//!
//! A question is *pending* until it is *denied* (one no is enough), *expired* or *used*. It is agreed to while enough
//! different people who have the right now have said yes: that is looked up when it is about to run, not remembered.

mod act;
mod approver_key;
mod ask;
mod courier;
mod decide;
mod delivery;
mod enrol;
mod event;
mod expiry;
mod glass;
mod listing;
mod message;
mod moment;
mod notify;
mod paper;
mod person;
mod review;
mod right;
mod seal;
mod signature;
mod signed;
mod statement;
mod ticking;
mod used;
mod view;
mod webhook;

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::sync::Mutex;

pub use self::{
    act::Act,
    approver_key::{ApproverKey, UnfitKey},
    ask::Asked,
    courier::{Couriers, Health, NotifyFault, Pace},
    decide::{Ballot, Undecided},
    enrol::{Enrolment, KeyTrouble, KeyWish},
    event::{Agreement, Approver, Begun, Event, NotRecorded, Recorder, Signed},
    glass::{Credential, LONGEST_PASS, MadePass, NoPass, Pass, PassWish, Void},
    listing::Listed,
    notify::{Alarm, News, Notifier},
    paper::{Paper, hash_of},
    person::{NotAPerson, Person, Place, folded},
    review::{ReviewView, Unreviewed, UseView},
    right::NoRight,
    seal::{SIGNATURE, SecretFault, TIMESTAMP},
    signature::{BadSignature, Signature, armored, to_be_signed},
    statement::{NAMESPACE, Statement, Unfit},
    view::{ApprovalView, State, VoteView},
    webhook::{CallbackFault, Webhooks},
};
use self::{notify::Nobody, ticking::Ticking};
use crate::{
    auth::Caller,
    model::{ApprovalId, Clock, CorrelationId},
    policy::Pending,
    store::{ApprovalRow, Store, StoreError},
    tailnet::Node,
};

/// Where the database keeps the latest moment that was seen.
const SEEN: &str = "approvals_seen";

/// Why there is no permit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unapproved {
    /// People were asked: this is what they were asked.
    #[error("{why}; people were asked, and one of them has to say yes first")]
    Required {
        /// Why a yes is needed.
        why: String,
        /// What to wait for.
        asked: Box<Asked>,
    },
    /// Nobody could say yes.
    #[error("{why}; {nobody}")]
    Unavailable {
        /// Why a yes would be needed.
        why: String,
        /// Why nobody can give it.
        nobody: String,
    },
    /// Too many questions are open.
    #[error("too many approvals are open ({0}): wait for people to decide, or for them to expire")]
    TooMany(&'static str),
    /// No such question of this caller.
    #[error("there is no approval {0} of this token from this peer")]
    Unknown(ApprovalId),
    /// People have not decided yet.
    #[error("approval {id} waits for {missing} more {}: {why}", if *.missing == 1 { "yes" } else { "yeses" })]
    Pending {
        /// Which.
        id: ApprovalId,
        /// How many more have to agree.
        missing: u32,
        /// What is missing, and whose word counts no more.
        why: String,
        /// When it ends.
        expires: Timestamp,
    },
    /// Somebody said no.
    #[error("approval {0} was denied")]
    Denied(ApprovalId),
    /// Nobody said yes in time.
    #[error("approval {0} has expired")]
    Expired(ApprovalId),
    /// It ran already, or another call is just running it.
    #[error("approval {0} was used already: each is good for one run")]
    Used(ApprovalId),
    /// What would run is not what people agreed to.
    #[error("approval {id} is for something else: {what}")]
    Changed {
        /// Which.
        id: ApprovalId,
        /// What differs.
        what: String,
    },
    /// The credential opens nothing; the caller learns no more than that.
    #[error("this break-glass credential opens nothing")]
    BreakGlass {
        /// Of which pass, where there is one.
        pass: Option<ApprovalId>,
        /// Why, for the auditor.
        why: Void,
    },
    /// It cannot be recorded, so it does not count.
    #[error(transparent)]
    NotRecorded(#[from] NotRecorded),
    /// The database failed.
    #[error("the gateway's database cannot be used now")]
    Store(String),
}

impl From<StoreError> for Unapproved {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

impl Unapproved {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Required { .. } => "approval_required",
            Self::Unavailable { .. } => "approval_unavailable",
            Self::TooMany(_) => "approvals_full",
            Self::Unknown(_) => "approval_unknown",
            Self::Pending { .. } => "approval_pending",
            Self::Denied(_) => "approval_denied",
            Self::Expired(_) => "approval_expired",
            Self::Used(_) => "approval_used",
            Self::Changed { .. } => "approval_changed",
            Self::BreakGlass { .. } => "break_glass_refused",
            Self::NotRecorded(_) => "audit_unavailable",
            Self::Store(_) => "unavailable",
        }
    }

    /// What a caller can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Required { .. } => {
                "tell the user; once somebody agreed, make the very same call with this approval_id; approval_list shows how it stands"
            }
            Self::Pending { .. } => "approval_list shows how it stands; do not repeat the call before it is agreed to",
            Self::Changed { .. } | Self::Expired(_) | Self::Used(_) => {
                "the same call without approval_id asks anew, about things as they are now"
            }
            Self::BreakGlass { .. } => {
                "it is good for one operation, within its time, by the agent it was made for; tell the user, and do not try others"
            }
            Self::Denied(_) => "a person said no: do not ask again without a new reason from the user",
            Self::Unknown(_) => {
                "an approval is for the very token and node that asked; approval_list shows this token's, and the same call \
                 without approval_id asks anew"
            }
            Self::TooMany(_) => "approval_list shows those that are open; ask for nothing more before they end",
            _ => "a dry run (dry_run: true) shows what would happen and needs no approval",
        }
    }
}

/// An operation that needs a yes, ready to be asked about or to be run.
pub struct Asking<'a> {
    /// Who wants it.
    pub caller: &'a Caller,
    /// What policy judged: exactly what would run.
    pub pending: &'a Pending,
    /// The same on paper.
    pub paper: &'a Paper,
    /// The paper as people see it: secrets taken out.
    pub shown: Map<String, Value>,
    /// What a dry run shows just now, secrets taken out; none where there is nothing to preview.
    pub preview: Option<Value>,
    /// Joins everything.
    pub correlation: CorrelationId,
}

/// Asks people, and remembers what they say.
pub struct Approvals {
    store: Store,
    node: Arc<dyn Node>,
    ticking: Ticking,
    clock: Arc<dyn Clock>,
    recorder: Arc<dyn Recorder>,
    notifier: Arc<dyn Notifier>,
    /// One at a time changes what is open.
    turn: Mutex<()>,
}

impl Approvals {
    /// Takes up what an earlier run of the service left in `store`.
    pub async fn open(
        store: Store,
        node: Arc<dyn Node>,
        clock: Arc<dyn Clock>,
        recorder: Arc<dyn Recorder>,
    ) -> Result<Self, StoreError> {
        let seen = store.meta(SEEN).await?.and_then(|text| text.parse().ok());
        let ticking = Ticking::new(clock.clone(), seen);
        Ok(Self { store, node, ticking, clock, recorder, notifier: Arc::new(Nobody), turn: Mutex::new(()) })
    }

    /// The same, with `notifier` told what happens.
    pub fn telling(self, notifier: Arc<dyn Notifier>) -> Self {
        Self { notifier, ..self }
    }

    /// Notes the time, so that a restart with a clock that was set back does not forget it.
    async fn seen(&self) -> Result<Timestamp, StoreError> {
        let now = self.ticking.now();
        self.store.set_meta(SEEN, &now.to_string()).await?;
        Ok(now)
    }

    /// Errors unless the question is open. What has expired is ended here and now: only for whoever has the turn.
    async fn open_one(&self, row: &ApprovalRow, now: Timestamp) -> Result<(), Unapproved> {
        if row.state == "pending" && now >= row.expires_at {
            self.expire(row, now).await?;
        }
        is_open(row, now)
    }
}

/// Errors with how the question ended, unless it is open.
fn is_open(row: &ApprovalRow, now: Timestamp) -> Result<(), Unapproved> {
    let id = ApprovalId::from(row.id.as_str());
    match row.state.as_str() {
        "pending" if now < row.expires_at => Ok(()),
        "denied" => Err(Unapproved::Denied(id)),
        "used" => Err(Unapproved::Used(id)),
        _ => Err(Unapproved::Expired(id)),
    }
}

#[cfg(test)]
mod tests;

//! The review that a pass leaves: open from the moment the pass is made, used or not, until another person who may
//! approve critical operations closes it with a comment. Never closed while the pass is good, and never by itself.

use std::collections::BTreeSet;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Approvals, NotRecorded, Person, Place,
    glass::{UsedBy, event, is_line},
    person::blurred,
    right::Matter,
};
use crate::{
    config,
    model::{CorrelationId, Risk},
    store::{PassRow, StoreError},
    tailnet::Grants,
};

/// What a review is about, as rules that name tools see it where the pass was not used.
const ACT: &str = "break_glass";

/// One pass and its review.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReviewView {
    /// Names the pass and its review.
    pub id: String,
    /// Whether somebody still has to look at it.
    pub open: bool,
    /// Why the glass was broken.
    pub reason: String,
    /// The local user who made the pass.
    pub made_by: String,
    /// When.
    #[schemars(with = "String")]
    pub made_at: Timestamp,
    /// Until when it was good.
    #[schemars(with = "String")]
    pub expires_at: Timestamp,
    /// The only agent it was for; null where any could use it.
    pub subject: Option<String>,
    /// What it was used for; null where it was not.
    pub used: Option<UseView>,
    /// Who closed the review.
    pub closed_by: Option<String>,
    /// When.
    #[schemars(with = "Option<String>")]
    pub closed_at: Option<Timestamp>,
    /// What they found.
    pub comment: Option<String>,
    /// Whether whoever looks may close it, as far as is known now.
    pub may_close: bool,
}

/// What a pass was used for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UseView {
    /// When.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// The agent.
    pub subject: String,
    /// Who made the agent's token.
    pub owner: String,
    /// The stable id of the node it came from.
    pub peer: String,
    /// The login of that connection.
    pub login: Option<String>,
    /// The tenant.
    pub engagement: String,
    /// The tool.
    pub tool: String,
    /// The target.
    pub target: Option<String>,
    /// Hex SHA-256 of the operation.
    pub operation_hash: String,
    /// The operation on paper, secrets taken out.
    pub operation: Value,
    /// Finds it, and how it ended, in the audit log.
    pub correlation_id: String,
}

/// Why a review stays open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreviewed {
    /// No such review, as far as this person is concerned.
    #[error("there is no review {0}")]
    Unknown(String),
    /// The same, of one that there is.
    #[error("there is no review {0}")]
    Hidden(String),
    /// They may not, and see it all the same.
    #[error("whoever closes a review may approve critical operations: nothing gives you that right")]
    NotNamed,
    /// They made the pass, or it was their agent or their connection that used it.
    #[error("you made this pass, or it was used for you: somebody else has to look at it")]
    Own,
    /// The pass can still be used.
    #[error("the pass is good until {0:.0}, and was not used: close its review after that")]
    Live(Timestamp),
    /// It is closed.
    #[error("the review was closed before")]
    Closed,
    /// A field is wrong.
    #[error("`{field}`: {wanted}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What would be right.
        wanted: &'static str,
    },
    /// It cannot be recorded, so it stays open.
    #[error(transparent)]
    NotRecorded(#[from] NotRecorded),
    /// The database failed.
    #[error("the gateway's database cannot be used now")]
    Store(String),
}

impl From<StoreError> for Unreviewed {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

impl Unreviewed {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) | Self::Hidden(_) => "review_unknown",
            Self::NotNamed => "not_an_approver",
            Self::Own => "own_review",
            Self::Live(_) => "pass_live",
            Self::Closed => "review_closed",
            Self::Invalid { .. } => "invalid_arguments",
            Self::NotRecorded(_) => "audit_unavailable",
            Self::Store(_) => "unavailable",
        }
    }

    /// Whether the refusal is on record as an event of its review.
    pub fn is_recorded(&self) -> bool {
        matches!(self, Self::Hidden(_) | Self::NotNamed | Self::Own)
    }
}

/// Who may close one review.
pub(super) struct Closers {
    /// Whose call it was; none where there was no call, or where the row does not say it in words that are known.
    pub(super) used_by: Option<UsedBy>,
    /// Those who have to do with it.
    own: BTreeSet<String>,
    /// Whether it is known what the pass was used for, or that it was not.
    known: bool,
}

impl Closers {
    pub(super) fn of(row: &PassRow) -> Self {
        let used_by: Option<UsedBy> = row.used.as_ref().and_then(|used| serde_json::from_str(&used.used_by).ok());
        let users = used_by.iter().flat_map(|used_by| used_by.login.iter().chain([&used_by.owner]));
        let own = users.chain([&row.made_by]).map(|login| blurred(login)).collect();
        let known = row.used.is_some() == used_by.is_some();
        Self { used_by, own, known }
    }

    /// Whether `person` made the pass, or it was used for them. A local user and a login of the same name before its `@`
    /// count as one person.
    fn is_own(&self, person: &Person) -> bool {
        let login = person.blurred();
        self.own.iter().any(|own| *own == login || is_local(own, &login) || is_local(&login, own))
    }

    /// Whether `person` may approve what is critical where the pass was used, or anywhere if it was not.
    fn is_named(&self, settings: &config::Approvals, person: &Person) -> bool {
        let Self { used_by, known: true, .. } = self else { return false };
        match (used_by, person.place(), person.grants()) {
            // A program closes nothing.
            (_, Place::Webhook { .. }, _) => false,
            (Some(used_by), ..) => {
                let matter = Matter {
                    engagement: used_by.engagement.clone(),
                    target: used_by.target.clone(),
                    segment: used_by.segment.clone(),
                    risk: Risk::Critical,
                    tool: used_by.tool.clone(),
                    requesters: BTreeSet::new(),
                };
                matter.is_named(settings, person)
            }
            (None, _, Some(Grants::Rules(rules))) => rules
                .iter()
                .any(|rule| rule.approve.as_ref().is_some_and(|approves| approves.covers(Risk::Critical, None, ACT))),
            (None, _, Some(Grants::Unrestricted) | None) => settings.names(person.login()),
        }
    }
}

/// Whether `login` is `user` at some domain.
fn is_local(user: &str, login: &str) -> bool {
    login.split_once('@').is_some_and(|(name, _)| name == user)
}

impl Approvals {
    /// The reviews that `person` may see, the newest first: whoever may close one, whoever made the pass, and on the
    /// gateway's own host all. `open` narrows to open or closed ones.
    pub async fn reviews(
        &self,
        settings: &config::Approvals,
        person: &Person,
        open: Option<bool>,
        limit: u32,
    ) -> Result<Vec<ReviewView>, Unreviewed> {
        let rows = self.store.passes(open, limit).await?;
        let seen = rows.into_iter().filter_map(|row| {
            let closers = Closers::of(&row);
            let all = matches!(person.place(), Place::Host { .. });
            let named = closers.is_named(settings, person);
            (all || named || closers.is_own(person)).then(|| {
                let may_close = named && !closers.is_own(person) && row.closed_at.is_none();
                ReviewView::of(row, closers, may_close)
            })
        });
        Ok(seen.collect())
    }

    /// Closes the review `id` as `person`, who looked at what was done. Returns once it is recorded and kept.
    pub async fn close_review(
        &self,
        settings: &config::Approvals,
        person: &Person,
        id: &str,
        comment: &str,
    ) -> Result<ReviewView, Unreviewed> {
        if !is_line(comment) {
            let wanted = "must say what was found: one line of 3 to 500 characters";
            return Err(Unreviewed::Invalid { field: "comment", wanted });
        }
        // Others read it.
        let comment = self.recorder.cleaned(comment);
        let _turn = self.turn.lock().await;
        let now = self.seen().await?;
        let unknown = || Unreviewed::Unknown(id.to_owned());
        let row = self.store.pass(id).await?.ok_or_else(unknown)?;
        let closers = Closers::of(&row);
        let refused = match (closers.is_own(person), closers.is_named(settings, person), person.place()) {
            (true, ..) => Some(Unreviewed::Own),
            (_, false, Place::Host { .. }) => Some(Unreviewed::NotNamed),
            // Whoever has nothing to do with it does not learn that it exists.
            (_, false, _) => Some(Unreviewed::Hidden(id.to_owned())),
            (false, true, _) => None,
        };
        let correlation = row.used.as_ref().and_then(|used| used.correlation_id.parse().ok());
        let correlation = correlation.unwrap_or_else(CorrelationId::random);
        let details = Map::from_iter([
            ("comment".to_owned(), Value::from(comment.as_str())),
            ("made_by".to_owned(), Value::from(row.made_by.as_str())),
            ("used".to_owned(), Value::from(row.used.is_some())),
        ]);
        if let Some(refused) = refused {
            let why = Some((refused.code(), refused.to_string()));
            self.recorder.record(event("review.close", &row, correlation, person, details, why)).await?;
            return Err(refused);
        }
        if row.closed_at.is_some() {
            return Err(Unreviewed::Closed);
        }
        if row.used.is_none() && now < row.expires_at {
            return Err(Unreviewed::Live(row.expires_at));
        }
        // On record before it counts.
        self.recorder.record(event("review.close", &row, correlation, person, details, None)).await?;
        if !self.store.close_review(id, now, person.login(), &comment).await? {
            return Err(Unreviewed::Closed);
        }
        let row = self.store.pass(id).await?.ok_or_else(unknown)?;
        let closers = Closers::of(&row);
        Ok(ReviewView::of(row, closers, false))
    }

    /// How many reviews are open.
    pub async fn open_reviews(&self) -> Result<u32, StoreError> {
        self.store.open_reviews().await
    }
}

impl ReviewView {
    fn of(row: PassRow, closers: Closers, may_close: bool) -> Self {
        let used = row.used.zip(closers.used_by).map(|(used, by)| UseView {
            at: used.used_at,
            subject: by.subject,
            owner: by.owner,
            peer: by.peer,
            login: by.login,
            engagement: by.engagement.to_string(),
            tool: by.tool,
            target: by.target.map(|target| target.to_string()),
            operation_hash: used.operation_hash,
            operation: serde_json::from_str(&used.shown).unwrap_or(Value::Null),
            correlation_id: used.correlation_id,
        });
        Self {
            id: row.id,
            open: row.closed_at.is_none(),
            reason: row.reason,
            made_by: row.made_by,
            made_at: row.made_at,
            expires_at: row.expires_at,
            subject: row.subject,
            used,
            closed_by: row.closed_by,
            closed_at: row.closed_at,
            comment: row.comment,
            may_close,
        }
    }
}

//! Breaking the glass: a pass that a person on the gateway's own host makes, good for one operation that policy asks
//! about, once, within minutes. It stands for the people who cannot be reached, never for a right: what policy denies
//! stays denied. Keeps the hash of its credential only, and makes no pass that is not on record.

#[cfg(test)]
mod tests;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::digest;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Agreement, Alarm, Approvals, Approver, Event, News, NotRecorded, Paper, Person, Place, Unapproved,
    ask::{new_id, random_bytes},
    review::Closers,
};
use crate::{
    auth::{Caller, state},
    model::{ApprovalId, CorrelationId, EngagementId, Risk, Strength, TargetId, hex},
    policy::{Pending, Permit},
    store::{PassRow, PassUse, StoreError},
};

/// What every credential begins with.
const PREFIX: &str = "bg_";
/// The longest that a pass is good.
pub const LONGEST_PASS: Duration = Duration::from_mins(15);
/// The longest reason, in characters.
pub(super) const LONGEST_TEXT: usize = 500;

/// A credential that somebody showed: its hash, as the text itself is not kept anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential(String);

impl Credential {
    /// What `text` is as a credential; none where it does not look like one. What only looks like one opens nothing, and
    /// is kept out of logs all the same.
    pub fn shown(text: &str) -> Option<Self> {
        text.to_ascii_lowercase().contains(PREFIX).then(|| Self::of(text.trim()))
    }

    fn of(text: &str) -> Self {
        Self(hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref()))
    }
}

/// What somebody wants of a pass.
#[derive(Clone, Debug)]
pub struct PassWish {
    /// Why the glass is broken.
    pub reason: String,
    /// How long it is good.
    pub ttl: Duration,
    /// The only agent that may use it; none means any.
    pub subject: Option<String>,
}

/// A pass just made.
#[derive(Debug)]
pub struct MadePass {
    /// Names it and its review.
    pub id: String,
    /// To be shown once.
    pub credential: SecretString,
    /// Until when it is good.
    pub expires: Timestamp,
}

/// Why there is no pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPass {
    /// Somebody who is not on the gateway's own host.
    #[error("the glass is broken on the gateway's own host only: run `tailops break-glass` there")]
    Elsewhere,
    /// One is good already.
    #[error("pass {id} is good until {until:.0}: there is one at a time")]
    Live {
        /// Which.
        id: String,
        /// Until when.
        until: Timestamp,
    },
    /// A field is wrong.
    #[error("`{field}`: {wanted}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What would be right.
        wanted: String,
    },
    /// It cannot be recorded, so it is not made.
    #[error(transparent)]
    NotRecorded(#[from] NotRecorded),
    /// The database or the random generator failed.
    #[error("the gateway's database cannot be used now")]
    Store(String),
}

impl From<StoreError> for NoPass {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

impl NoPass {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Elsewhere => "host_only",
            Self::Live { .. } => "pass_live",
            Self::Invalid { .. } => "invalid_arguments",
            Self::NotRecorded(_) => "audit_unavailable",
            Self::Store(_) => "unavailable",
        }
    }
}

/// Why a credential opens nothing. For the auditor: whoever shows it is told the same each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Void {
    /// There is no such pass.
    #[error("there is no such pass")]
    Unknown,
    /// It was used before, or by another call just now.
    #[error("the pass was used before")]
    Used,
    /// Its time is over.
    #[error("the pass has expired")]
    Expired,
    /// It was made for another agent.
    #[error("the pass is for another subject")]
    Other,
}

/// A pass that a caller holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    id: String,
    made_by: String,
}

impl Pass {
    /// Names it.
    pub fn id(&self) -> ApprovalId {
        ApprovalId::from(self.id.as_str())
    }

    /// Whose word stands for an approval of `paper`.
    pub fn agreement(&self, paper: &Paper) -> Agreement {
        Agreement {
            id: self.id.clone(),
            operation_hash: paper.hash().to_owned(),
            approvers: vec![Approver { login: self.made_by.clone(), strength: Strength::Identity, key_id: None }],
            break_glass: true,
        }
    }
}

/// Whose call a pass let through, and on what: kept with it, so that it is known who may close its review.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UsedBy {
    pub(super) jti: String,
    pub(super) subject: String,
    pub(super) owner: String,
    pub(super) peer: String,
    pub(super) login: Option<String>,
    pub(super) engagement: EngagementId,
    pub(super) tool: String,
    pub(super) target: Option<TargetId>,
    pub(super) segment: Option<String>,
    pub(super) risk: Risk,
}

impl UsedBy {
    fn of(caller: &Caller, pending: &Pending) -> Self {
        let (token, peer, operation) = (caller.token(), caller.peer(), pending.operation());
        let target = operation.target.as_deref();
        Self {
            jti: token.jti.to_string(),
            subject: token.subject.clone(),
            owner: token.owner.clone(),
            peer: peer.id.clone(),
            login: peer.user.clone().filter(|_| peer.tags.is_empty()),
            engagement: operation.engagement.clone(),
            tool: operation.tool.to_owned(),
            target: target.map(|target| target.id.clone()),
            segment: target.and_then(|target| target.segment.clone()),
            risk: operation.risk,
        }
    }
}

impl Approvals {
    /// Makes a pass for `by`, a local user at the control socket. Its review is open from now on. Returns once that is
    /// recorded and kept.
    pub async fn make_pass(&self, by: &Person, wish: &PassWish) -> Result<MadePass, NoPass> {
        if !matches!(by.place(), Place::Host { .. }) {
            return Err(NoPass::Elsewhere);
        }
        self.check(wish).await?;
        let _turn = self.turn.lock().await;
        let now = self.seen().await?;
        let unused = self.store.unused_passes().await?;
        if let Some(live) = unused.into_iter().find(|pass| now < pass.expires_at) {
            return Err(NoPass::Live { id: live.id, until: live.expires_at });
        }
        let no_random = |why: Unapproved| NoPass::Store(why.to_string());
        let credential = new_credential().map_err(no_random)?;
        let row = PassRow {
            id: new_id().map_err(no_random)?,
            credential_hash: Credential::of(&credential).0,
            // Others read it.
            reason: self.recorder.cleaned(&wish.reason),
            subject: wish.subject.clone(),
            made_by: by.login().to_owned(),
            made_at: now,
            expires_at: now.checked_add(wish.ttl).map_err(|error| NoPass::Store(error.to_string()))?,
            used: None,
            closed_at: None,
            closed_by: None,
            comment: None,
        };
        let details = Map::from_iter([
            ("reason".to_owned(), Value::from(row.reason.as_str())),
            ("subject".to_owned(), Value::from(row.subject.as_deref())),
            ("expires_at".to_owned(), Value::from(row.expires_at.to_string())),
        ]);
        // On record before it is good for anything.
        self.recorder.record(event("break_glass.make", &row, CorrelationId::random(), by, details, None)).await?;
        self.store.insert_pass(&row).await?;
        tracing::warn!(
            alert = "break_glass",
            pass = row.id,
            by = row.made_by,
            until = %row.expires_at,
            "the glass was broken: one operation can run without an approval"
        );
        self.tell(News::BreakGlass(Box::new(Alarm {
            id: row.id.clone(),
            by: row.made_by.clone(),
            reason: row.reason.clone(),
            expires: Some(row.expires_at),
            ..Alarm::default()
        })));
        Ok(MadePass { id: row.id, credential: credential.into(), expires: row.expires_at })
    }

    async fn check(&self, wish: &PassWish) -> Result<(), NoPass> {
        let invalid = |field, wanted: &str| Err(NoPass::Invalid { field, wanted: wanted.to_owned() });
        if !is_line(&wish.reason) {
            return invalid("reason", "must say why: one line of 3 to 500 characters");
        }
        if wish.ttl.is_zero() || wish.ttl > LONGEST_PASS {
            return invalid("ttl_s", "must be 1 to 900: a pass is good for at most 15 minutes");
        }
        if let Some(subject) = &wish.subject {
            // There is one pass at a time: one that nobody can use would be in the way.
            let now = self.clock.now();
            let tokens = self.store.tokens().await?;
            if !tokens.iter().any(|row| row.subject == *subject && state(row, now).usable()) {
                return invalid("subject", "must be the agent of a token in force, as `tailops token list` shows it");
            }
        }
        Ok(())
    }

    /// The pass that `credential` is, if `caller` could use it now. Leaves no trace.
    pub async fn pass(&self, caller: &Caller, credential: &Credential) -> Result<Pass, Unapproved> {
        let void = |pass, why| Unapproved::BreakGlass { pass, why };
        let row = self.store.pass_by_credential(&credential.0).await?.ok_or_else(|| void(None, Void::Unknown))?;
        self.good(&row, caller, self.ticking.now())?;
        Ok(Pass { id: row.id, made_by: row.made_by })
    }

    /// Uses `pass` up for what `caller` wants, and gives the permit. Of several calls that try, one gets it. `agreement`
    /// is the one that was recorded, `shown` its operation as people will see it.
    pub async fn break_glass(
        &self,
        caller: &Caller,
        agreement: &Agreement,
        shown: Map<String, Value>,
        correlation: CorrelationId,
        pending: Pending,
    ) -> Result<Permit, Unapproved> {
        let _turn = self.turn.lock().await;
        let now = self.seen().await?;
        let row = self.store.pass(&agreement.id).await?;
        let row = row.ok_or(Unapproved::BreakGlass { pass: None, why: Void::Unknown })?;
        self.good(&row, caller, now)?;
        let used_by = UsedBy::of(caller, &pending);
        let usage = PassUse {
            used_at: now,
            used_by: serde_json::to_string(&used_by).map_err(|error| Unapproved::Store(error.to_string()))?,
            operation_hash: agreement.operation_hash.clone(),
            correlation_id: correlation.to_string(),
            shown: Value::Object(shown).to_string(),
        };
        if !self.store.use_pass(&row.id, &usage).await? {
            return Err(Unapproved::BreakGlass { pass: Some(ApprovalId::from(row.id)), why: Void::Used });
        }
        tracing::warn!(
            alert = "break_glass",
            pass = row.id,
            tool = used_by.tool,
            target = used_by.target.as_ref().map(TargetId::as_str),
            subject = used_by.subject,
            "a pass opened an operation that nobody approved"
        );
        self.tell(News::Review(Box::new(Alarm {
            id: row.id.clone(),
            by: row.made_by.clone(),
            reason: row.reason.clone(),
            expires: None,
            tool: Some(used_by.tool),
            target: used_by.target.map(|target| target.to_string()),
        })));
        Ok(pending.into_permit(&format!("break-glass {}: {}", row.id, row.made_by), self.clock.now()))
    }

    fn good(&self, row: &PassRow, caller: &Caller, now: Timestamp) -> Result<(), Unapproved> {
        let void = |why| Err(Unapproved::BreakGlass { pass: Some(ApprovalId::from(row.id.as_str())), why });
        if row.used.is_some() {
            return void(Void::Used);
        }
        // A review is closed only once the pass is over.
        if now >= row.expires_at || row.closed_at.is_some() {
            return void(Void::Expired);
        }
        match &row.subject {
            Some(subject) if *subject != caller.token().subject => void(Void::Other),
            _ => Ok(()),
        }
    }
}

/// What happened to a pass, for the record.
pub(super) fn event<'a>(
    act: &'static str,
    row: &PassRow,
    correlation: CorrelationId,
    by: &'a Person,
    details: Map<String, Value>,
    refused: Option<(&'static str, String)>,
) -> Event<'a> {
    let used_by = Closers::of(row).used_by;
    Event {
        act,
        correlation,
        engagement: used_by.as_ref().map(|used_by| used_by.engagement.clone()),
        target: used_by.and_then(|used_by| used_by.target),
        approval: Some(Agreement {
            id: row.id.clone(),
            operation_hash: row.used.as_ref().map(|used| used.operation_hash.clone()).unwrap_or_default(),
            approvers: Vec::new(),
            break_glass: true,
        }),
        by: Some(by),
        signed: None,
        details,
        refused,
    }
}

/// Whether `text` says something, on one line.
pub(super) fn is_line(text: &str) -> bool {
    let length = text.trim().chars().count();
    length >= 3 && text.chars().count() <= LONGEST_TEXT && !text.chars().any(char::is_control)
}

/// 256 random bits as a credential.
fn new_credential() -> Result<String, Unapproved> {
    random_bytes::<32>().map(|bytes| format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

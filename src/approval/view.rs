//! Questions as people and agents see them: the same shape in the API, the tools and the command line.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Approvals, Person, Unapproved, ask::strength_of, right::Matter};
use crate::{
    config,
    model::{Strength, Vote},
    store::{ApprovalRow, ApprovalSelection, VoteRow},
};

/// How far back questions are looked through for those that somebody may see.
const LOOKED_THROUGH: u32 = 2000;
/// So many at a time.
const AT_ONCE: u32 = 100;

/// How a question stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Waits for people.
    Pending,
    /// Enough people agreed; waits for its one run.
    Approved,
    /// Somebody said no.
    Denied,
    /// Nobody used it in time.
    Expired,
    /// It ran, or was about to.
    Used,
}

impl State {
    /// The word used in the API and the tools.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Used => "used",
        }
    }
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalView {
    /// Names it.
    pub id: String,
    /// How it stands.
    pub state: State,
    /// `call`: run by its caller afterwards. `act`: done once enough people agreed.
    pub kind: String,
    /// Hex SHA-256 of the operation; docs/approvals.md says over what.
    pub operation_hash: String,
    /// The operation on paper, secrets taken out.
    pub operation: Value,
    /// What a dry run showed when it was asked; null where there was nothing to preview.
    pub preview: Option<Value>,
    /// Every check of policy.
    pub trace: Value,
    /// Why a yes is needed.
    pub why: String,
    /// How many people must agree.
    pub quorum: u32,
    /// The least strength of each yes.
    pub strength: Strength,
    /// The tenant.
    pub engagement: String,
    /// The tool, or the act.
    pub tool: String,
    /// The target.
    pub target: Option<String>,
    /// Its segment.
    pub segment: Option<String>,
    /// The operation's risk.
    pub risk: String,
    /// The agent, or the person.
    pub subject: String,
    /// Who made the agent's token.
    pub owner: String,
    /// The stable id of the node it came from.
    pub peer: String,
    /// The login of that connection.
    pub login: Option<String>,
    /// Finds it in the audit log.
    pub correlation_id: String,
    /// The gateway's origin, which a signature names.
    pub gateway: String,
    /// What a signature names too.
    pub nonce: String,
    /// When it was asked.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// When it ends.
    #[schemars(with = "String")]
    pub expires_at: Timestamp,
    /// When it ended.
    #[schemars(with = "Option<String>")]
    pub ended_at: Option<Timestamp>,
    /// What people said.
    pub votes: Vec<VoteView>,
    /// Whether whoever looks may decide on it, as far as their connection tells.
    pub may_decide: bool,
}

/// What one person said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VoteView {
    /// Who.
    pub login: String,
    /// What.
    pub vote: Vote,
    /// How it is known.
    pub strength: Strength,
    /// Why.
    pub comment: String,
    /// The key that signed.
    pub key_id: Option<String>,
    /// When.
    #[schemars(with = "String")]
    pub at: Timestamp,
}

impl Approvals {
    /// The questions that `person` may know of: those they may decide on and those they asked. The newest first, and of
    /// them as many as `selection` limits them to: those of others do not count.
    pub async fn seen_by(
        &self,
        settings: &config::Approvals,
        person: &Person,
        selection: &ApprovalSelection,
    ) -> Result<Vec<ApprovalView>, Unapproved> {
        let mut seen: Vec<ApprovalView> = Vec::new();
        for skip in (0..LOOKED_THROUGH).step_by(AT_ONCE as usize) {
            let rows = self.store.approvals(&ApprovalSelection { limit: AT_ONCE, skip, ..selection.clone() }).await?;
            let last = rows.len() < AT_ONCE as usize;
            for row in rows {
                let Some(matter) = Matter::of(&row) else { continue };
                // A new question moves the others along: one may come again.
                if !matter.may_see(settings, person) || seen.iter().any(|view| view.id == row.id) {
                    continue;
                }
                let may_decide = matter.may_approve(settings, person, Strength::Signature, Strength::Identity).is_ok();
                seen.push(self.view(settings, row, may_decide).await?);
                if seen.len() >= selection.limit as usize {
                    return Ok(seen);
                }
            }
            if last {
                break;
            }
        }
        Ok(seen)
    }

    /// One question, for `person`.
    pub async fn one_seen_by(
        &self,
        settings: &config::Approvals,
        person: &Person,
        id: &str,
    ) -> Result<Option<ApprovalView>, Unapproved> {
        let Some(row) = self.store.approval(id).await? else { return Ok(None) };
        let Some(matter) = Matter::of(&row) else { return Ok(None) };
        if !matter.may_see(settings, person) {
            return Ok(None);
        }
        let may_decide = matter.may_approve(settings, person, Strength::Signature, Strength::Identity).is_ok();
        self.view(settings, row, may_decide).await.map(Some)
    }

    /// A kept question as it stands now.
    pub async fn view(
        &self,
        settings: &config::Approvals,
        row: ApprovalRow,
        may_decide: bool,
    ) -> Result<ApprovalView, Unapproved> {
        let votes = self.store.votes(&row.id).await?;
        let least = strength_of(&row).max(settings.strength);
        let state = match row.state.as_str() {
            "pending" if self.ticking.now() >= row.expires_at => State::Expired,
            "pending" => {
                let standing = match Matter::of(&row) {
                    Some(matter) => self.standing(settings, &matter, least, &votes).await?.0,
                    None => Vec::new(),
                };
                if standing.len() >= row.quorum as usize { State::Approved } else { State::Pending }
            }
            "denied" => State::Denied,
            "used" => State::Used,
            _ => State::Expired,
        };
        let parsed = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
        Ok(ApprovalView {
            state,
            operation: parsed(&row.shown),
            preview: row.preview.as_deref().map(parsed),
            trace: parsed(&row.trace),
            strength: least,
            votes: votes.into_iter().map(VoteView::of).collect(),
            may_decide: may_decide && matches!(state, State::Pending | State::Approved),
            id: row.id,
            kind: row.kind,
            operation_hash: row.operation_hash,
            why: row.why,
            quorum: row.quorum,
            engagement: row.engagement,
            tool: row.tool,
            target: row.target,
            segment: row.segment,
            risk: row.risk,
            subject: row.subject,
            owner: row.owner,
            peer: row.peer,
            login: row.login,
            correlation_id: row.correlation_id,
            gateway: row.gateway,
            nonce: row.nonce,
            created_at: row.created_at,
            expires_at: row.expires_at,
            ended_at: row.ended_at,
        })
    }
}

impl VoteView {
    fn of(row: VoteRow) -> Self {
        let strength = if row.key_id.is_some() { Strength::Signature } else { Strength::Identity };
        let vote = if row.vote == Vote::Approve.as_str() { Vote::Approve } else { Vote::Deny };
        Self { login: row.login, vote, strength, comment: row.comment, key_id: row.key_id, at: row.voted_at }
    }
}

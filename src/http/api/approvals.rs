//! Questions and what people say to them, over HTTP. What anybody may see and decide is settled by
//! [`crate::approval`]; here it is only asked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fault, Visit, route::Nothing};
use crate::{
    approval::{ApprovalView, Ballot, State, Undecided},
    model::{ApprovalId, Vote},
    store::ApprovalSelection,
};

/// The most approvals of one answer.
const MOST: u32 = 500;
/// As many where nothing else is wanted.
const USUAL: u32 = 100;

/// Which approvals are wanted.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// In this state only.
    state: Option<WantedState>,
    /// The most, 1 to 500; 100 where it is not given.
    #[schemars(range(min = 1, max = 500))]
    limit: Option<u32>,
}

/// A state to look for.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum WantedState {
    /// Open: waits for people, or for its run.
    Pending,
    /// Somebody said no.
    Denied,
    /// Nobody used it in time.
    Expired,
    /// It ran.
    Used,
}

/// Several approvals.
#[derive(Serialize, JsonSchema)]
pub(super) struct Approvals {
    approvals: Vec<ApprovalView>,
}

/// What a person says.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Decision {
    /// What.
    decision: Vote,
    /// The operation that was looked at: the approval's own.
    operation_hash: String,
    /// Why: one line of at most 500 characters.
    #[serde(default)]
    comment: String,
    /// The person's signature over the decision, armored SSHSIG; docs/approver-keys.md says over what.
    signature: Option<String>,
}

/// `GET /api/v1/approvals`
pub(super) async fn list(visit: Visit, wanted: Wanted) -> Result<Approvals, Fault> {
    let limit = wanted.limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        return Err(Fault::invalid("limit", format_args!("must be 1 to {MOST}")));
    }
    let state = wanted.state.map(|state| match state {
        WantedState::Pending => "pending",
        WantedState::Denied => "denied",
        WantedState::Expired => "expired",
        WantedState::Used => "used",
    });
    let selection = ApprovalSelection { state: state.map(str::to_owned), limit, ..ApprovalSelection::default() };
    let rules = visit.desk.rules.now();
    let mut approvals = visit.desk.approvals.seen_by(&rules.approvals, &visit.person, &selection).await?;
    if wanted.state == Some(WantedState::Pending) {
        // Whose time is over is so before it is written down.
        approvals.retain(|approval| approval.state != State::Expired);
    }
    Ok(Approvals { approvals })
}

/// `GET /api/v1/approvals/{id}`
pub(super) async fn one(visit: Visit, _: Nothing) -> Result<ApprovalView, Fault> {
    let rules = visit.desk.rules.now();
    let id = visit.parameter();
    let seen = visit.desk.approvals.one_seen_by(&rules.approvals, &visit.person, id).await?;
    seen.ok_or_else(|| Undecided::Unknown(ApprovalId::from(id)).into())
}

/// `POST /api/v1/approvals/{id}/decision`
pub(super) async fn decide(visit: Visit, decision: Decision) -> Result<ApprovalView, Fault> {
    let rules = visit.desk.rules.now();
    let ballot = Ballot {
        id: ApprovalId::from(visit.parameter()),
        vote: decision.decision,
        operation_hash: decision.operation_hash,
        comment: decision.comment,
        signature: decision.signature,
    };
    let approvals = &visit.desk.approvals;
    let row = approvals.decide(&rules.approvals, &visit.person, &ballot).await?;
    // Whoever signs on the host for a login of the tailnet may not see it by their own name.
    match approvals.one_seen_by(&rules.approvals, &visit.person, ballot.id.as_str()).await? {
        Some(seen) => Ok(seen),
        None => Ok(approvals.view(&rules.approvals, row, false).await?),
    }
}

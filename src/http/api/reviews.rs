//! Passes for emergencies and the reviews that they leave, over HTTP. Who may make one and who may close a review is
//! settled by [`crate::approval`]; here it is only asked. A credential is written into the one answer that makes it.

use std::time::Duration;

use hyper::StatusCode;
use jiff::Timestamp;
use schemars::JsonSchema;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use super::{Fault, Visit};
use crate::{
    approval::{NoPass, PassWish, ReviewView, Unreviewed},
    http::refuse::Refused,
};

/// The most reviews of one answer.
const MOST: u32 = 500;

/// Which reviews are wanted.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "WantedReviews")]
pub(super) struct Wanted {
    /// In this state only.
    state: Option<WantedState>,
}

/// A state to look for.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "WantedReviewState")]
enum WantedState {
    /// Somebody still has to look at it.
    Open,
    /// Somebody did.
    Closed,
}

/// Several reviews.
#[derive(Serialize, JsonSchema)]
pub(super) struct Reviews {
    reviews: Vec<ReviewView>,
}

/// What was found.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Closing {
    /// One line of 3 to 500 characters.
    comment: String,
}

/// Why the glass is broken, and how far.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Breaking {
    /// One line of 3 to 500 characters.
    reason: String,
    /// How long the pass is good, in seconds.
    #[schemars(range(min = 1, max = 900))]
    ttl_s: u64,
    /// The only agent that may use it; any where it is not given.
    subject: Option<String>,
}

/// A pass.
#[derive(Serialize, JsonSchema)]
pub(super) struct Pass {
    /// Names the pass and its review.
    id: String,
    /// What a call carries as its `approval_id`. Shown this once.
    credential: String,
    /// Until when it is good.
    #[schemars(with = "String")]
    expires_at: Timestamp,
}

/// `GET /api/v1/reviews`
pub(super) async fn list(visit: Visit, wanted: Wanted) -> Result<Reviews, Fault> {
    let rules = visit.desk.rules.now();
    let open = wanted.state.map(|state| state == WantedState::Open);
    let reviews = visit.desk.approvals.reviews(&rules.approvals, &visit.person, open, MOST).await?;
    Ok(Reviews { reviews })
}

/// `POST /api/v1/reviews/{id}/close`
pub(super) async fn close(visit: Visit, closing: Closing) -> Result<ReviewView, Fault> {
    let rules = visit.desk.rules.now();
    let (approvals, id) = (&visit.desk.approvals, visit.parameter());
    Ok(approvals.close_review(&rules.approvals, &visit.person, id, &closing.comment).await?)
}

/// `POST /api/v1/break-glass`
pub(super) async fn break_glass(visit: Visit, breaking: Breaking) -> Result<Pass, Fault> {
    let Breaking { reason, ttl_s, subject } = breaking;
    let wish = PassWish { reason, ttl: Duration::from_secs(ttl_s), subject };
    let made = visit.desk.approvals.make_pass(&visit.person, &wish).await?;
    Ok(Pass { id: made.id, credential: made.credential.expose_secret().to_owned(), expires_at: made.expires })
}

impl From<NoPass> for Fault {
    fn from(why: NoPass) -> Self {
        let status = match &why {
            NoPass::Elsewhere => StatusCode::FORBIDDEN,
            NoPass::Live { .. } => StatusCode::CONFLICT,
            NoPass::Invalid { .. } => StatusCode::BAD_REQUEST,
            NoPass::NotRecorded(_) | NoPass::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Refused::new(status, why.code(), why.to_string()).into()
    }
}

impl From<Unreviewed> for Fault {
    fn from(why: Unreviewed) -> Self {
        let status = match &why {
            Unreviewed::Unknown(_) | Unreviewed::Hidden(_) => StatusCode::NOT_FOUND,
            Unreviewed::NotNamed | Unreviewed::Own => StatusCode::FORBIDDEN,
            Unreviewed::Live(_) | Unreviewed::Closed => StatusCode::CONFLICT,
            Unreviewed::Invalid { .. } => StatusCode::BAD_REQUEST,
            Unreviewed::NotRecorded(_) | Unreviewed::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut refused = Refused::new(status, why.code(), why.to_string());
        // These are events of the review, which its record has.
        refused.recorded = why.is_recorded();
        refused.into()
    }
}

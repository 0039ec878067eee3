//! What webhooks answer, over HTTP: heard only with the seal of the secret that webhook shares with the gateway, whoever's
//! connection it comes over. What it says is then taken as the word of the person it is enrolled as, no more and no less.

use hyper::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fault, route::Callback};
use crate::{
    approval::{CallbackFault, Person, SIGNATURE, State, TIMESTAMP},
    http::refuse::Refused,
    model::Vote,
};

/// What a webhook says, sealed: docs/webhooks.md.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SealedDecision")]
#[expect(dead_code, reason = "for the document: the seal is over the bytes, which are read once it is checked")]
pub(super) struct Said {
    /// The approval.
    id: String,
    /// The operation that was asked about.
    operation_hash: String,
    /// What the person says.
    decision: Vote,
    /// Why: one line of at most 500 characters, which may be empty.
    comment: String,
}

/// It was heard.
#[derive(Serialize, JsonSchema)]
pub(super) struct Heard {
    /// The approval.
    id: String,
    /// What was said.
    decision: Vote,
    /// How it stands now.
    state: State,
}

/// `POST /api/v1/webhooks/{name}`
pub(super) async fn answered(callback: Callback) -> Result<Heard, Fault> {
    // Whoever hangs up does not cut it in half: what is recorded is also done.
    tokio::spawn(taken(callback)).await.map_err(|_| Fault::internal())?
}

async fn taken(callback: Callback) -> Result<Heard, Fault> {
    let Callback { desk, peer, parameter: name, headers, body } = callback;
    let ballot = desk.webhooks.verified(&name, only(&headers, TIMESTAMP), only(&headers, SIGNATURE), &body)?;
    let rules = desk.rules.now();
    let webhook = rules.approvals.webhooks.iter().find(|webhook| webhook.name == name);
    let webhook = webhook.ok_or(CallbackFault::Unknown)?;
    let person = Person::behind_webhook(&webhook.name, &webhook.identity).over(peer.as_deref());
    let row = desk.approvals.decide(&rules.approvals, &person, &ballot).await?;
    let seen = desk.approvals.view(&rules.approvals, row, false).await?;
    Ok(Heard { id: seen.id, decision: ballot.vote, state: seen.state })
}

/// The value of `name`, from exactly one header.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    value.to_str().ok()
}

impl From<CallbackFault> for Fault {
    fn from(fault: CallbackFault) -> Self {
        let status = match fault {
            CallbackFault::Unknown | CallbackFault::Skewed => StatusCode::UNAUTHORIZED,
            CallbackFault::Replayed => StatusCode::CONFLICT,
            CallbackFault::TooMany => StatusCode::TOO_MANY_REQUESTS,
            CallbackFault::Body(_) => StatusCode::BAD_REQUEST,
        };
        Refused::new(status, fault.code(), fault.to_string()).into()
    }
}

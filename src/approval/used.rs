//! Using an approval: looked at first, without a trace, and then used up, by one call of those that try.

use serde_json::{Map, Value};

use super::{
    Agreement, Approvals, Approver, Asking, Unapproved,
    ask::strength_of,
    person::{Place, folded},
    right::{Matter, found_again},
};
use crate::{
    config,
    model::{ApprovalId, Strength},
    policy::{Pending, Permit},
    store::{ApprovalRow, VoteRow},
};

impl Approvals {
    /// Whether people agreed to exactly `asking`, and still do: what there is to record before it is used up by
    /// [`Self::take`].
    pub async fn agreed(
        &self,
        settings: &config::Approvals,
        id: &ApprovalId,
        asking: &Asking<'_>,
    ) -> Result<Agreement, Unapproved> {
        let now = self.ticking.now();
        let (token, peer) = (asking.caller.token(), asking.caller.peer());
        let row = self.store.approval(id.as_str()).await?;
        // Somebody else's looks like one that does not exist.
        let own = |row: &ApprovalRow| row.jti.as_deref() == Some(token.jti.as_str()) && row.peer == peer.id;
        let row = row.filter(own).ok_or_else(|| Unapproved::Unknown(id.clone()))?;
        let row = self.open_one(row, now).await?;
        if row.operation_hash != asking.paper.hash() {
            let what = difference(&row.operation, &asking.paper.document());
            return Err(Unapproved::Changed { id: id.clone(), what });
        }
        let votes = self.store.votes(&row.id).await?;
        let (approvers, lapsed) = self.standing(settings, &row, &votes).await?;
        // Policy may have become stricter since.
        let quorum = row.quorum.max(asking.pending.quorum());
        let missing = quorum.saturating_sub(u32::try_from(approvers.len()).unwrap_or(u32::MAX));
        if missing > 0 {
            let why = match lapsed.as_slice() {
                [] => "nobody else has decided yet".to_owned(),
                lapsed => format!("the yes of {} counts no more", lapsed.join(", ")),
            };
            return Err(Unapproved::Pending { id: id.clone(), missing, why, expires: row.expires_at });
        }
        Ok(Agreement { id: row.id, operation_hash: row.operation_hash, approvers, break_glass: false })
    }

    /// Uses the approval up and gives the permit. Of several calls that try, one gets it.
    pub async fn take(&self, agreement: &Agreement, pending: Pending) -> Result<Permit, Unapproved> {
        let _turn = self.turn.lock().await;
        let id = ApprovalId::from(agreement.id.as_str());
        let now = self.seen().await?;
        let row = self.store.approval(&agreement.id).await?.ok_or_else(|| Unapproved::Unknown(id.clone()))?;
        let row = self.open_one(row, now).await?;
        if !self.store.end_approval(&row.id, "used", now).await? {
            return Err(Unapproved::Used(id));
        }
        let people: Vec<&str> = agreement.approvers.iter().map(|approver| approver.login.as_str()).collect();
        let how = format!("approval {}: {}", agreement.id, people.join(", "));
        Ok(pending.agreed(&how, self.clock.now()))
    }

    /// Who has said yes and still has the right, and whose yes counts no more.
    pub(super) async fn standing(
        &self,
        settings: &config::Approvals,
        row: &ApprovalRow,
        votes: &[VoteRow],
    ) -> Result<(Vec<Approver>, Vec<String>), Unapproved> {
        let (mut standing, mut lapsed) = (Vec::new(), Vec::new());
        let Some(matter) = Matter::of(row) else { return Ok((standing, lapsed)) };
        let least = strength_of(row).max(settings.strength);
        for vote in votes.iter().filter(|vote| vote.vote == "approve") {
            if self.stands(settings, &matter, least, vote).await? {
                let strength = if vote.signature.is_some() { Strength::Signature } else { Strength::Identity };
                standing.push(Approver { login: vote.login.clone(), strength, key_id: vote.key_id.clone() });
            } else {
                lapsed.push(vote.login.clone());
            }
        }
        Ok((standing, lapsed))
    }

    async fn stands(
        &self,
        settings: &config::Approvals,
        matter: &Matter,
        least: Strength,
        vote: &VoteRow,
    ) -> Result<bool, Unapproved> {
        let Ok(place) = serde_json::from_str::<Place>(&vote.place) else { return Ok(false) };
        let strength = match &vote.key_id {
            Some(key) => {
                let key = self.store.approver_key(key).await?;
                if key.is_none_or(|key| folded(&key.login) != folded(&vote.login)) {
                    return Ok(false);
                }
                Strength::Signature
            }
            None => Strength::Identity,
        };
        let Some(person) = found_again(&*self.node, &vote.login, &place).await else { return Ok(false) };
        Ok(matter.may_approve(settings, &person, strength, least).is_ok())
    }
}

/// The first levels at which two documents differ, in words: `arguments.path`, `world.sha256`.
fn difference(agreed: &str, wanted: &Map<String, Value>) -> String {
    let agreed: Map<String, Value> = serde_json::from_str(agreed).unwrap_or_default();
    let mut places = Vec::new();
    let keys = agreed.keys().chain(wanted.keys().filter(|key| !agreed.contains_key(*key)));
    for key in keys {
        match (agreed.get(key), wanted.get(key)) {
            (a, b) if a == b => {}
            (Some(Value::Object(a)), Some(Value::Object(b))) => {
                let inner = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
                places.extend(inner.filter(|name| a.get(*name) != b.get(*name)).map(|name| format!("{key}.{name}")));
            }
            _ => places.push(key.clone()),
        }
    }
    // The steps follow from the rest.
    if places.len() > 1 {
        places.retain(|place| place != "steps");
    }
    let world = places.iter().all(|place| place.starts_with("world."));
    let what = if world { "things changed since the preview" } else { "the call is not the one that was agreed to" };
    format!("{what} ({} differ)", places.join(", "))
}

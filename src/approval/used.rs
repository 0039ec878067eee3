//! Using an approval: looked at first, without a trace, and then used up, by one call of those that try.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    Agreement, Approvals, Approver, Asking, Unapproved,
    ask::strength_of,
    is_open,
    person::{Place, blurred},
    right::{Matter, found_again},
};
use crate::{
    auth::Caller,
    config,
    model::{ApprovalId, Strength, Vote},
    policy::{Pending, Permit},
    store::{ApprovalRow, VoteRow},
};

impl Approvals {
    /// Errors unless enough people have agreed to the question `id` of `caller`, and still do. Looks at nothing but
    /// what is kept and at who has which rights now: for before anything runs for the sake of the call.
    pub async fn settled(
        &self,
        settings: &config::Approvals,
        id: &ApprovalId,
        caller: &Caller,
        pending: &Pending,
    ) -> Result<(), Unapproved> {
        let row = self.open_of(id, caller, self.ticking.now()).await?;
        self.enough(settings, &row, caller, pending).await.map(drop)
    }

    /// Whether people agreed to exactly `asking`, and still do: what there is to record before it is used up by
    /// [`Self::take`].
    pub async fn agreed(
        &self,
        settings: &config::Approvals,
        id: &ApprovalId,
        asking: &Asking<'_>,
    ) -> Result<Agreement, Unapproved> {
        let row = self.open_of(id, asking.caller, self.ticking.now()).await?;
        if row.operation_hash != asking.paper.hash() {
            let what = difference(&row.operation, &asking.paper.document());
            return Err(Unapproved::Changed { id: id.clone(), what });
        }
        let approvers = self.enough(settings, &row, asking.caller, asking.pending).await?;
        Ok(Agreement { id: row.id, operation_hash: row.operation_hash, approvers, break_glass: false })
    }

    /// Uses the approval up and gives the permit, if everybody in `agreement` still agrees and may. Of several calls that
    /// try, one gets it.
    pub async fn take(
        &self,
        settings: &config::Approvals,
        agreement: &Agreement,
        caller: &Caller,
        pending: Pending,
    ) -> Result<Permit, Unapproved> {
        let _turn = self.turn.lock().await;
        let id = ApprovalId::from(agreement.id.as_str());
        let now = self.seen().await?;
        if let Some(row) = self.store.approval(&agreement.id).await? {
            self.open_one(&row, now).await?;
        }
        let row = self.open_of(&id, caller, now).await?;
        if row.operation_hash != agreement.operation_hash {
            return Err(Unapproved::Unknown(id));
        }
        // Somebody may have lost the right since it was looked at, and the record names whose yes it is.
        let standing = self.enough(settings, &row, caller, &pending).await?;
        let gone: Vec<&str> = agreement
            .approvers
            .iter()
            .filter(|approver| !standing.contains(approver))
            .map(|approver| approver.login.as_str())
            .collect();
        if !gone.is_empty() {
            let why = format!("the yes of {} counts no more", gone.join(", "));
            return Err(Unapproved::Pending { id, missing: 1, why, expires: row.expires_at });
        }
        if !self.store.end_approval(&row.id, "used", now).await? {
            return Err(Unapproved::Used(id));
        }
        let people: Vec<&str> = agreement.approvers.iter().map(|approver| approver.login.as_str()).collect();
        let how = format!("approval {}: {}", agreement.id, people.join(", "));
        Ok(pending.into_permit(&how, self.clock.now()))
    }

    /// The open question `id` of `caller`.
    async fn open_of(&self, id: &ApprovalId, caller: &Caller, now: Timestamp) -> Result<ApprovalRow, Unapproved> {
        let (token, peer) = (caller.token(), caller.peer());
        let row = self.store.approval(id.as_str()).await?;
        // Somebody else's looks like one that does not exist.
        let own = |row: &ApprovalRow| {
            row.kind == "call"
                && row.jti.as_deref() == Some(token.jti.as_str())
                && row.peer == peer.id
                && row.engagement == token.engagement.as_str()
        };
        let row = row.filter(own).ok_or_else(|| Unapproved::Unknown(id.clone()))?;
        is_open(&row, now)?;
        Ok(row)
    }

    /// Who agrees to `row`, if they are enough for what policy wants now of `pending`.
    async fn enough(
        &self,
        settings: &config::Approvals,
        row: &ApprovalRow,
        caller: &Caller,
        pending: &Pending,
    ) -> Result<Vec<Approver>, Unapproved> {
        // As things are now: the target may have moved to another segment, policy may have become stricter.
        let Some(asked) = Matter::of(row) else { return Err(Unapproved::Unknown(row.id.as_str().into())) };
        let matter = Matter::of_pending(caller, pending).also_asked_by(asked);
        let least = strength_of(row).max(settings.strength).max(pending.strength());
        let votes = self.store.votes(&row.id).await?;
        let (approvers, lapsed) = self.standing(settings, &matter, least, &votes).await?;
        let quorum = row.quorum.max(pending.quorum());
        let missing = quorum.saturating_sub(u32::try_from(approvers.len()).unwrap_or(u32::MAX));
        if missing == 0 {
            return Ok(approvers);
        }
        let why = match (lapsed.as_slice(), approvers.is_empty()) {
            ([], true) => "nobody has decided yet".to_owned(),
            ([], false) => format!("{quorum} people have to agree"),
            (lapsed, _) => format!("the yes of {} counts no more", lapsed.join(", ")),
        };
        Err(Unapproved::Pending { id: row.id.as_str().into(), missing, why, expires: row.expires_at })
    }

    /// Who has said yes and has the right now, each person once, and whose yes counts no more. A no means nobody.
    pub(super) async fn standing(
        &self,
        settings: &config::Approvals,
        matter: &Matter,
        least: Strength,
        votes: &[VoteRow],
    ) -> Result<(Vec<Approver>, Vec<String>), Unapproved> {
        let (mut standing, mut lapsed, mut people) = (Vec::new(), Vec::new(), BTreeSet::new());
        if votes.iter().any(|vote| vote.vote != Vote::Approve.as_str()) {
            return Ok((standing, lapsed));
        }
        for vote in votes {
            if !self.stands(settings, matter, least, vote).await? {
                lapsed.push(vote.login.clone());
            } else if people.insert(blurred(&vote.login)) {
                let strength = if vote.key_id.is_some() { Strength::Signature } else { Strength::Identity };
                standing.push(Approver { login: vote.login.clone(), strength, key_id: vote.key_id.clone() });
            }
        }
        Ok((standing, lapsed))
    }

    /// Whether the yes of `vote` counts now.
    pub(super) async fn stands(
        &self,
        settings: &config::Approvals,
        matter: &Matter,
        least: Strength,
        vote: &VoteRow,
    ) -> Result<bool, Unapproved> {
        let Ok(place) = serde_json::from_str::<Place>(&vote.place) else { return Ok(false) };
        let strength = match &vote.key_id {
            Some(key) => {
                if !self.is_still_signed(vote, key).await? {
                    return Ok(false);
                }
                Strength::Signature
            }
            None => Strength::Identity,
        };
        let Some(person) = found_again(&*self.node, &vote.login, &place).await else { return Ok(false) };
        let person =
            if vote.key_id.is_some() { self.signer(settings, matter, person, &vote.login).await } else { person };
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
    let what = if world { "things changed since the preview" } else { "what would run now is not what was agreed to" };
    format!("{what} ({} differ)", places.join(", "))
}

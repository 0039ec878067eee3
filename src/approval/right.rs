//! Who may say yes to what. Asked when somebody decides, again when the operation is about to run, and before anybody is
//! asked at all. Refuses whoever is not clearly entitled.

use std::collections::BTreeSet;

use super::person::{Person, Place, blurred, folded};
use crate::{
    auth::Caller,
    config,
    model::{EngagementId, Risk, Strength, TargetId},
    policy::Pending,
    store::ApprovalRow,
    tailnet::{Grants, Node, Peer},
};

/// What is to be decided on, as far as rights depend on it.
#[derive(Clone, Debug)]
pub(super) struct Matter {
    pub(super) engagement: EngagementId,
    pub(super) target: Option<TargetId>,
    pub(super) segment: Option<String>,
    pub(super) risk: Risk,
    pub(super) tool: String,
    /// The logins that ask, blurred: the connection's and the owner of the token.
    pub(super) requesters: BTreeSet<String>,
}

/// Why somebody may not decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRight {
    /// Neither the tailnet policy nor the configuration names them for this.
    #[error(
        "you may not decide on this: no rule of the tailnet policy and no entry of approvals.approvers gives you the right"
    )]
    NotNamed,
    /// They asked for it themselves, by their connection or their token.
    #[error("whoever asks cannot agree: somebody else has to")]
    Requester,
    /// They asked for it themselves, which counts only when it is signed.
    #[error("whoever asks can agree only by a signature")]
    RequesterUnsigned,
    /// The question wants a stronger word.
    #[error("this needs a signature of an enrolled key")]
    Unsigned,
}

impl NoRight {
    /// For programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotNamed => "not_an_approver",
            Self::Requester => "own_request",
            Self::RequesterUnsigned | Self::Unsigned => "signature_required",
        }
    }
}

impl Matter {
    /// The matter of a kept question. None where the row holds no risk that there is.
    pub(super) fn of(row: &ApprovalRow) -> Option<Self> {
        let risks = [Risk::Low, Risk::Moderate, Risk::High, Risk::Critical];
        Some(Self {
            engagement: row.engagement.as_str().into(),
            target: row.target.as_deref().map(TargetId::from),
            segment: row.segment.clone(),
            risk: risks.into_iter().find(|risk| risk.as_str() == row.risk)?,
            tool: row.tool.clone(),
            requesters: row.login.iter().chain([&row.owner]).map(|login| blurred(login)).collect(),
        })
    }

    /// The matter of what `caller` wants.
    pub(super) fn of_pending(caller: &Caller, pending: &Pending) -> Self {
        let (operation, peer) = (pending.operation(), caller.peer());
        let target = operation.target.as_deref();
        let login = peer.user.as_deref().filter(|_| peer.tags.is_empty());
        Self {
            engagement: operation.engagement.clone(),
            target: target.map(|target| target.id.clone()),
            segment: target.and_then(|target| target.segment.clone()),
            risk: operation.risk,
            tool: operation.tool.to_owned(),
            requesters: login.into_iter().chain([caller.token().owner.as_str()]).map(blurred).collect(),
        }
    }

    /// The same, asked by the requesters of `other` too.
    pub(super) fn also_asked_by(mut self, other: Self) -> Self {
        self.requesters.extend(other.requesters);
        self
    }

    /// Whether `person` may agree with a word of this strength; `least` is what the question wants.
    pub(super) fn may_approve(
        &self,
        settings: &config::Approvals,
        person: &Person,
        strength: Strength,
        least: Strength,
    ) -> Result<(), NoRight> {
        self.may_deny(settings, person)?;
        if self.is_requester(person) {
            match (settings.second_person, strength) {
                (true, _) => return Err(NoRight::Requester),
                (false, Strength::Identity) => return Err(NoRight::RequesterUnsigned),
                (false, Strength::Signature) => {}
            }
        }
        if strength < least { Err(NoRight::Unsigned) } else { Ok(()) }
    }

    /// Whether `person` may say no: whoever may say yes, and whoever asked.
    pub(super) fn may_deny(&self, settings: &config::Approvals, person: &Person) -> Result<(), NoRight> {
        if self.is_named(settings, person) || self.is_requester(person) { Ok(()) } else { Err(NoRight::NotNamed) }
    }

    /// Whether `person` may know of it: whoever may say no, and whoever is on the gateway's own host, where a key of
    /// somebody else may be at hand, and the database could be read as well.
    pub(super) fn may_see(&self, settings: &config::Approvals, person: &Person) -> bool {
        matches!(person.place(), Place::Host { .. }) || self.may_deny(settings, person).is_ok()
    }

    /// Whether `person` is, or could be, whoever asks.
    fn is_requester(&self, person: &Person) -> bool {
        self.requesters.contains(&person.blurred())
    }

    /// Whether the tailnet policy or the configuration gives `person` the right, whoever asks.
    pub(super) fn is_named(&self, settings: &config::Approvals, person: &Person) -> bool {
        match (person.place(), person.grants()) {
            (Place::Webhook { name }, _) => {
                let enrolled = |hook: &&config::Webhook| hook.name == *name;
                let hook = settings.webhooks.iter().find(enrolled);
                hook.is_some_and(|hook| folded(&hook.identity) == person.folded())
            }
            (_, Some(Grants::Rules(rules))) => rules.iter().any(|rule| {
                // A rule for some targets says nothing about the gateway itself.
                (self.target.is_some() || rule.targets.is_none())
                    && rule.holds(&self.engagement, self.target.as_ref())
                    && rule
                        .approve
                        .as_ref()
                        .is_some_and(|approves| approves.covers(self.risk, self.segment.as_deref(), &self.tool))
            }),
            (_, Some(Grants::Unrestricted) | None) => settings.names(person.login()),
        }
    }
}

/// Whether anything gives `person` the right to say yes to something.
pub(super) fn is_approver(settings: &config::Approvals, person: &Person) -> bool {
    match person.grants() {
        Some(Grants::Rules(rules)) => rules.iter().any(|rule| rule.approve.is_some()),
        Some(Grants::Unrestricted) | None => settings.names(person.login()),
    }
}

/// The person who spoke from `place` as `login`, as the network knows them now. None where they cannot be found again.
pub(super) async fn found_again(node: &dyn Node, login: &str, place: &Place) -> Option<Person> {
    match place {
        Place::Tailnet { node: id, address } => {
            let peer = node.peer_at(*address).await.ok()?;
            let person = Person::of(&peer).ok()?;
            (peer.id == *id && person.folded() == folded(login)).then_some(person)
        }
        Place::Loopback { uid } | Place::Host { uid } => Some(Person::on_host(*uid, login)),
        Place::Webhook { name } => Some(Person::behind_webhook(name, login)),
    }
}

/// Everybody on the tailnet who could decide, each with the rights of one of their nodes.
pub(super) async fn people_of(node: &dyn Node) -> Vec<Person> {
    let peers = node.peers().await;
    peers.into_iter().filter_map(|(_, peer)| peer.ok()).filter_map(|peer: Peer| Person::of(&peer).ok()).collect()
}

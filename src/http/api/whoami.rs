//! Who somebody is to the gateway, as its network or kernel says. Grants nothing.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use super::{Fault, Visit, route::Nothing};
use crate::{
    approval::{Person, Place, folded},
    config,
    model::Risk,
    tailnet::Grants,
};

/// Who asks.
#[derive(Serialize, JsonSchema)]
pub(super) struct Whoami {
    /// The login, as the network or the kernel writes it.
    login: String,
    /// How the gateway knows.
    place: Place,
    /// The name of the node; null on the gateway's own host.
    node: Option<String>,
    /// What may be decided on: rules of the tailnet policy, or `configured` for an entry of `approvals.approvers`; null
    /// for nothing.
    approves: Option<Approving>,
    /// The ids of the keys whose signatures count as this person's.
    keys: Vec<String>,
    /// The gateway's origin, as signatures name it.
    gateway: String,
}

/// Where a right comes from.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum Approving {
    /// The tailnet policy.
    Rules(Vec<Rule>),
    /// The gateway's configuration.
    Word(Configured),
}

/// The right of an entry in `approvals.approvers`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Configured {
    /// Everything.
    Configured,
}

/// One rule. Null means that this narrows nothing.
#[derive(Serialize, JsonSchema)]
struct Rule {
    /// Operations of these risks.
    #[schemars(with = "Option<BTreeSet<String>>")]
    risks: Option<BTreeSet<Risk>>,
    /// On targets of these segments.
    segments: Option<BTreeSet<String>>,
    /// By these tools.
    tools: Option<BTreeSet<String>>,
    /// On these targets.
    targets: Option<Vec<String>>,
    /// In these engagements.
    engagements: Option<Vec<String>>,
}

/// `GET /api/v1/whoami`
pub(super) async fn whoami(visit: Visit, _: Nothing) -> Result<Whoami, Fault> {
    let rules = visit.desk.rules.now();
    let person = &visit.person;
    let keys = visit.desk.store.approver_keys().await?.into_iter();
    let own = keys.filter(|key| key.removed_at.is_none() && folded(&key.login) == person.folded());
    Ok(Whoami {
        login: person.login().to_owned(),
        place: person.place().clone(),
        node: person.peer().map(|peer| peer.node.clone()),
        approves: approves(&rules.approvals, person),
        keys: own.map(|key| key.key_id).collect(),
        gateway: visit.desk.approvals.origin(&rules.approvals),
    })
}

fn approves(settings: &config::Approvals, person: &Person) -> Option<Approving> {
    if let Some(Grants::Rules(grants)) = person.peer().map(|peer| &peer.grants) {
        let rules: Vec<Rule> = grants
            .iter()
            .filter_map(|grant| {
                let approve = grant.approve.as_ref()?;
                Some(Rule {
                    risks: approve.risks.clone(),
                    segments: approve.segments.clone(),
                    tools: approve.tools.clone(),
                    targets: grant.targets.as_ref().map(texts),
                    engagements: grant.engagements.as_ref().map(texts),
                })
            })
            .collect();
        return (!rules.is_empty()).then_some(Approving::Rules(rules));
    }
    settings.names(person.login()).then_some(Approving::Word(Configured::Configured))
}

fn texts<T: ToString>(ids: &BTreeSet<T>) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

//! Findings about the peers: each with the rights its grants give, or with why it would be refused. For the gateway's
//! own people, who may see every rule.

use std::fmt::Display;

use crate::{
    model::{Line, Subject},
    pipeline::ASKED_FOR,
    tailnet::{Approves, Grant, Grants, Node, NodePeer, NodeState, NodeStatus, NotAdmitted, Peer, Unidentified},
};

/// The most peers that are told one by one.
const SHOWN: usize = 200;

/// The peers that the node sees, or what there is to say instead.
pub(super) async fn found(
    node: &dyn Node,
    status: &NodeStatus,
) -> Result<Vec<(NodePeer, Result<Peer, Unidentified>)>, Line> {
    if status.state == NodeState::Loopback {
        let own = rustix::process::geteuid().as_raw();
        return Err(Line::ok(Subject::Peers, format!("only processes of uid {own} on this machine come in")));
    }
    if !status.is_up() {
        let mend = "look at the line `node`";
        return Err(Line::fail(Subject::Peers, "nobody comes in: no peer can be identified", mend));
    }
    tokio::time::timeout(ASKED_FOR, node.peers()).await.map_err(|_| {
        let finding = format!("the node did not say in {} s who its peers are", ASKED_FOR.as_secs());
        Line::fail(Subject::Peers, finding, "look at the lines `node` and `daemon`")
    })
}

/// What these peers may do.
pub fn peer_lines(peers: &[(NodePeer, Result<Peer, Unidentified>)]) -> Vec<Line> {
    let admitted = peers.iter().filter(|(_, identified)| identified.is_ok()).count();
    let finding = format!("{admitted} of {} visible peers would come in", peers.len());
    let summary = if admitted == 0 {
        let mend = "grant somebody the capability of this gateway in the tailnet policy: `tailops acl print`";
        Line::warn(Subject::Peers, finding, mend)
    } else {
        Line::ok(Subject::Peers, finding)
    };
    let left = peers.len().saturating_sub(SHOWN);
    let rest = (left > 0).then(|| Line::ok(Subject::Peer, format!("and {left} more that are not shown")));
    let shown = peers.iter().take(SHOWN).map(|(listed, identified)| line(listed, identified));
    std::iter::once(summary).chain(shown).chain(rest).collect()
}

fn line(listed: &NodePeer, identified: &Result<Peer, Unidentified>) -> Line {
    let who = match &listed.user {
        Some(user) if listed.tags.is_empty() => format!("{} ({user}, {})", listed.name, listed.id),
        _ => format!("{} ({}, {})", listed.name, listed.tags.join(" "), listed.id),
    };
    match identified {
        Ok(peer) => Line::ok(Subject::Peer, format!("{who} comes in: {}", rights(&peer.grants))),
        Err(Unidentified::NotAdmitted { why: why @ NotAdmitted::BadGrant(_), .. }) => Line::warn(
            Subject::Peer,
            format!("{who} is refused: {why}"),
            "correct this rule in the tailnet policy; `tailops acl check` reads it the same way",
        ),
        Err(Unidentified::NotAdmitted { why, .. }) => Line::ok(Subject::Peer, format!("{who} is refused: {why}")),
        Err(other) => {
            Line::warn(Subject::Peer, format!("{who} is refused: {other}"), "look at the lines `node` and `daemon`")
        }
    }
}

/// What grants give, in words.
fn rights(grants: &Grants) -> String {
    match grants {
        Grants::Unrestricted => "with all that its token allows".to_owned(),
        Grants::Rules(rules) if rules.is_empty() => "with no rights".to_owned(),
        Grants::Rules(rules) => rules.iter().map(rule).collect::<Vec<_>>().join("; "),
    }
}

fn rule(rule: &Grant) -> String {
    let scopes: Vec<&str> = rule.scopes.granted().map(|scope| scope.as_str()).collect();
    let mut text = if scopes.is_empty() { "no scope".to_owned() } else { scopes.join(" ") };
    text.push_str(&only(" on ", rule.targets.as_ref()));
    text.push_str(&only(" in ", rule.engagements.as_ref()));
    if let Some(approves) = &rule.approve {
        text.push_str(&approval(approves));
    }
    text
}

fn approval(approves: &Approves) -> String {
    let Approves { risks, segments, tools } = approves;
    let what =
        [only(" of risk ", risks.as_ref()), only(" by ", tools.as_ref()), only(" in segment ", segments.as_ref())];
    let what = what.concat();
    if what.is_empty() { ", approves everything".to_owned() } else { format!(", approves what is{what}") }
}

/// `before` and the items; nothing where there is no limit.
fn only<'a, T: Display + 'a>(before: &str, items: Option<impl IntoIterator<Item = &'a T>>) -> String {
    let Some(items) = items else { return String::new() };
    let items: Vec<String> = items.into_iter().map(ToString::to_string).collect();
    if items.is_empty() { format!("{before}nothing") } else { format!("{before}{}", items.join(" ")) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::{Risk, ScopeSet};

    #[test]
    fn rights_are_told_in_full() {
        assert_eq!(rights(&Grants::Unrestricted), "with all that its token allows");
        assert_eq!(rights(&Grants::Rules(Vec::new())), "with no rights");
        let all = Grant {
            scopes: ScopeSet::parse("system:read,log:read").unwrap(),
            targets: None,
            engagements: None,
            approve: None,
        };
        let narrow = Grant {
            targets: Some(BTreeSet::from(["db-01".into(), "web-01".into()])),
            engagements: Some(BTreeSet::from(["prod".into()])),
            approve: Some(Approves { risks: Some(BTreeSet::from([Risk::Critical])), segments: None, tools: None }),
            ..all.clone()
        };
        let nothing = Grant {
            targets: Some(BTreeSet::new()),
            approve: Some(Approves { risks: None, segments: None, tools: None }),
            ..all.clone()
        };
        assert_eq!(
            rights(&Grants::Rules(vec![all, narrow, nothing])),
            "system:read log:read; \
             system:read log:read on db-01 web-01 in prod, approves what is of risk critical; \
             system:read log:read on nothing, approves everything"
        );
    }
}

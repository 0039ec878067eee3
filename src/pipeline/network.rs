//! Questions about the gateway's node and the tailnet around it. A tenant sees its own targets and the rules that
//! concern it, never those of another.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::{
    fleet::Registry,
    model::{CandidateFilter, EngagementId, Missing, TargetId, TargetKind},
    tailnet::{Grants, Node, NodePeer, NodeState, NotAdmitted, Peer, Unidentified},
};

/// The longest the node may take to say what its peers may do.
pub const ASKED_FOR: Duration = Duration::from_secs(10);
/// The most peers that one answer shows.
const SHOWN: usize = 200;

/// What the node knows of itself.
pub(super) fn own_node(node: &dyn Node) -> Value {
    let status = node.status();
    let own = status.own.as_ref();
    // A login link lets whoever opens it take the node: it is for the doctor alone.
    let warnings: Vec<&String> = status.warnings.iter().filter(|warning| !warning.contains("://")).collect();
    json!({
        "mode": node.mode(),
        "state": state_word(&status.state),
        "up": status.is_up(),
        "tailnet": status.tailnet,
        "id": own.map(|own| &own.id),
        "name": own.map(|own| &own.name),
        "names": status.hosts(),
        "addresses": own.map(|own| &own.addresses),
        "tags": own.map(|own| &own.tags),
        "user": own.and_then(|own| own.user.as_ref()),
        "key_expiry": own.and_then(|own| own.key_expiry),
        "certificate_names": own.map(|own| &own.certificate_names),
        "listeners": node.addresses(),
        "userspace": status.userspace,
        "daemon_version": status.version,
        "warnings": warnings,
    })
}

/// The word for a state; why a daemon cannot be reached is for the doctor alone.
fn state_word(state: &NodeState) -> &'static str {
    match state {
        NodeState::Loopback => "loopback",
        NodeState::Running => "running",
        NodeState::Starting => "starting",
        NodeState::NeedsLogin => "needs_login",
        NodeState::NeedsApproval => "needs_approval",
        NodeState::Stopped => "stopped",
        NodeState::Unreachable(_) => "unreachable",
    }
}

/// Who would be let in, as far as it concerns `engagement`.
pub(super) async fn peers(
    node: &dyn Node,
    registry: &Registry,
    engagement: &EngagementId,
    partial: &mut Vec<Missing>,
) -> Value {
    let missing = |reason: &str| Missing { section: "peers".into(), reason: reason.into() };
    let status = node.status();
    if !status.is_up() {
        partial.push(missing("node_not_running"));
        return Value::Null;
    }
    let Ok(mut peers) = tokio::time::timeout(ASKED_FOR, node.peers()).await else {
        partial.push(missing("time_limit"));
        return Value::Null;
    };
    let total = peers.len();
    if total > SHOWN {
        partial.push(missing("too_many"));
        peers.truncate(SHOWN);
    }
    let shown: Vec<Value> = peers
        .iter()
        .map(|(listed, identified)| {
            let (refused, rules) = match identified {
                Ok(peer) => (None, rules(peer, registry, engagement)),
                Err(refused) => (Some(refused), Value::Null),
            };
            json!({
                "id": listed.id,
                "name": listed.name,
                "user": listed.user,
                "tags": listed.tags,
                "online": listed.online,
                "admitted": refused.is_none(),
                "code": refused.map(Unidentified::code),
                "reason": refused.map(reason),
                "grants": rules,
            })
        })
        .collect();
    json!({"total": total, "peers": shown})
}

/// Why a peer is refused. A rule that cannot be understood may name what belongs to another tenant: it is not quoted.
fn reason(refused: &Unidentified) -> String {
    match refused {
        Unidentified::NotAdmitted { why: NotAdmitted::BadGrant(_), .. } => {
            "the tailnet policy grants it a rule that cannot be understood; `tailops doctor` shows it".to_owned()
        }
        Unidentified::NotAdmitted { why, .. } => why.to_string(),
        Unidentified::Daemon(_) => "the tailnet node cannot say who this is".to_owned(),
        other => other.to_string(),
    }
}

/// The rules of a peer that hold in `engagement`; null where nothing narrows.
fn rules(peer: &Peer, registry: &Registry, engagement: &EngagementId) -> Value {
    let Grants::Rules(rules) = &peer.grants else { return Value::Null };
    let here = rules.iter().filter(|rule| rule.engagements.as_ref().is_none_or(|all| all.contains(engagement)));
    let is_ours = |target: &&TargetId| registry.target(engagement, target.as_str()).is_some();
    here.map(|rule| {
        let targets = rule.targets.as_ref().map(|all| all.iter().filter(is_ours).collect::<Vec<_>>());
        json!({"scopes": rule.scopes, "targets": targets, "approves": rule.approve.is_some()})
    })
    .collect()
}

/// The machines of the tailnet that could become targets: the node's own list, asked of nobody.
pub(super) fn candidates(
    node: &dyn Node,
    registry: &Registry,
    engagement: &EngagementId,
    filter: &CandidateFilter,
) -> Value {
    let status = node.status();
    let reason = match &status.state {
        NodeState::Loopback => Some("no_tailnet"),
        _ if !status.is_up() => Some("node_not_running"),
        _ => None,
    };
    if let Some(reason) = reason {
        let partial = [Missing { section: "tailnet".into(), reason: reason.into() }];
        return json!({"candidates": [], "total": 0, "next_cursor": null, "partial": partial});
    }
    let mut selected: Vec<&NodePeer> = status
        .peers
        .iter()
        .filter(|peer| {
            filter.tag.as_ref().is_none_or(|tag| peer.tags.contains(tag))
                && filter.online.is_none_or(|online| peer.online == online)
        })
        .collect();
    let place = |peer: &NodePeer| (peer.name.clone(), peer.id.clone());
    selected.sort_by_key(|peer| place(peer));
    let total = selected.len();
    let mut rest = selected.into_iter().filter(|peer| filter.after.as_ref().is_none_or(|after| place(peer) > *after));
    let page: Vec<&NodePeer> = rest.by_ref().take(filter.limit as usize).collect();
    let next = rest.next().and(page.last()).map(|last| format!("{} {}", last.name, last.id));
    let entries: Vec<Value> = page
        .into_iter()
        .map(|peer| {
            json!({
                "id": peer.id,
                "name": peer.name,
                "addresses": peer.addresses,
                "os": peer.os,
                "tags": peer.tags,
                "online": peer.online,
                "ssh_host_keys": peer.ssh_host_keys.iter().filter_map(|line| fingerprint(line)).collect::<Vec<_>>(),
                "target": target_at(registry, engagement, peer),
            })
        })
        .collect();
    json!({"candidates": entries, "total": total, "next_cursor": next})
}

/// The target of `engagement` that lies on this machine, by the host its connection names.
fn target_at<'a>(registry: &'a Registry, engagement: &'a EngagementId, peer: &NodePeer) -> Option<&'a TargetId> {
    let short = peer.name.split('.').next().unwrap_or_default();
    let names = |host: &str| {
        let host = host.trim_end_matches('.');
        host.eq_ignore_ascii_case(&peer.name)
            || (!short.is_empty() && host.eq_ignore_ascii_case(short))
            || host.parse().is_ok_and(|address| peer.addresses.contains(&address))
    };
    let remote = registry.targets_of(engagement).filter(|target| target.kind != TargetKind::Local);
    let at = remote.filter(|target| {
        let connection = target.registered.as_ref().and_then(|registered| registered.connection.as_ref());
        connection.is_some_and(|connection| names(&connection.host))
    });
    at.map(|target| &target.id).next()
}

/// A line of a public key file as `ssh-keygen -l` shows it: the kind and `SHA256:` with the digest of the key.
fn fingerprint(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let (kind, key) = (words.next()?, words.next()?);
    let key = base64::engine::general_purpose::STANDARD.decode(key).ok()?;
    Some(format!("{kind} SHA256:{}", STANDARD_NO_PAD.encode(digest(&SHA256, &key))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_those_of_ssh_keygen() {
        // The published key of a well-known host: its fingerprint is SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU.
        let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
        assert_eq!(fingerprint(line).unwrap(), "ssh-ed25519 SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU");
        for broken in ["", "ssh-ed25519", "ssh-ed25519 !!!", "ssh-ed25519 AAAA\n\u{1b}"] {
            let _ = fingerprint(broken).map(|shown| assert!(!shown.contains('\u{1b}')));
        }
        assert_eq!(fingerprint("ssh-ed25519 !!!"), None);
    }
}

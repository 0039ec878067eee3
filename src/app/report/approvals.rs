//! The finding about approvals: who could say yes, by the tailnet policy, by the configuration or as a webhook, and
//! whether that is enough. Asks nobody and decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    approval::{Person, folded},
    config::Approvals,
    model::{Line, Strength, Subject},
    tailnet::{Grants, NodePeer, Peer, Unidentified},
};

/// The most people that are named.
const NAMED: usize = 20;

/// What mends that nobody could approve.
const GRANT: &str =
    "name people in approvals.approvers, or let the tailnet policy do so: `tailops acl print --approvers group:NAME`";

/// Who could approve under `settings`. `peers` are those the node sees, none where it has none or cannot be asked;
/// `signers` are the logins that have an enrolled key, none where that cannot be read.
pub fn approval_line(
    settings: &Approvals,
    peers: Option<&[(NodePeer, Result<Peer, Unidentified>)]>,
    signers: Option<&[String]>,
) -> Line {
    let people = people(settings, peers.unwrap_or_default());
    let signers: Option<BTreeSet<String>> = signers.map(|logins| logins.iter().map(|login| folded(login)).collect());
    let signs = |login: &str| signers.as_ref().is_some_and(|signers| signers.contains(login));
    if people.is_empty() {
        return Line::warn(
            Subject::Approvals,
            "nobody is known who could approve, so what needs an approval is refused",
            GRANT,
        );
    }
    let named = people.iter().take(NAMED).map(|(login, ways)| {
        let ways = ways.iter().map(String::as_str).chain(signs(login).then_some("enrolled key"));
        format!("{login} ({})", ways.collect::<Vec<_>>().join(", "))
    });
    let more = people.len().saturating_sub(NAMED);
    let more = (more > 0).then(|| format!("and {more} more"));
    let named = named.chain(more).collect::<Vec<_>>().join(", ");
    let signature = settings.strength == Strength::Signature;
    if signature && signers.is_none() {
        let finding = format!("every yes has to be signed, and the enrolled keys cannot be read; named are {named}");
        return Line::warn(Subject::Approvals, finding, "look at the line `database`");
    }
    let able: Vec<&String> = people.keys().filter(|login| !signature || signs(login)).collect();
    match able.as_slice() {
        [] => Line::fail(
            Subject::Approvals,
            format!("every yes has to be signed, and nobody who could approve has an enrolled key: {named}"),
            "enrol a key of theirs on the gateway's own machine: `tailops approver add`",
        ),
        [one] if settings.second_person => Line::warn(
            Subject::Approvals,
            format!("only {one} could approve, and not what they ask for themselves: {named}"),
            format!("add a second person: {GRANT}"),
        ),
        able => {
            let count = able.len();
            let counted = if count == 1 { "1 person".to_owned() } else { format!("{count} people") };
            let signed = if signature { ", with a signature" } else { "" };
            let alone = if settings.second_person { "" } else { ", also what they ask for themselves" };
            Line::ok(Subject::Approvals, format!("{counted} could approve{signed}{alone}: {named}"))
        }
    }
}

/// Everybody who could approve anything at all, folded, and by what.
fn people(
    settings: &Approvals,
    peers: &[(NodePeer, Result<Peer, Unidentified>)],
) -> BTreeMap<String, BTreeSet<String>> {
    let mut people: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut add = |login: String, way: String| {
        people.entry(login).or_default().insert(way);
    };
    for login in &settings.approvers {
        add(folded(login), "configuration".to_owned());
    }
    for hook in &settings.webhooks {
        add(folded(&hook.identity), format!("webhook {}", hook.name));
    }
    for peer in peers.iter().filter_map(|(_, identified)| identified.as_ref().ok()) {
        let Ok(person) = Person::of(peer) else { continue };
        let granted = match &peer.grants {
            Grants::Rules(rules) => rules.iter().any(|rule| rule.approve.is_some()),
            Grants::Unrestricted => false,
        };
        if granted {
            add(person.folded(), "tailnet policy".to_owned());
        }
    }
    people
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Webhook,
        model::{Level, ScopeSet},
        tailnet::{Approves, Grant},
    };

    fn settings(approvers: &[&str]) -> Approvals {
        Approvals { approvers: approvers.iter().map(|login| (*login).to_owned()).collect(), ..Approvals::default() }
    }

    fn peer(user: Option<&str>, tag: Option<&str>, approve: bool) -> (NodePeer, Result<Peer, Unidentified>) {
        let tags: Vec<String> = tag.map(str::to_owned).into_iter().collect();
        let all = Approves { risks: None, segments: None, tools: None };
        let rule =
            Grant { scopes: ScopeSet::default(), targets: None, engagements: None, approve: approve.then_some(all) };
        let listed = NodePeer {
            id: "n1".into(),
            name: "laptop".into(),
            user: user.map(str::to_owned),
            tags: tags.clone(),
            addresses: Vec::new(),
            os: None,
            online: true,
            ssh_host_keys: Vec::new(),
        };
        let peer = Peer {
            id: "n1".into(),
            node: "laptop".into(),
            user: user.map(str::to_owned),
            tags,
            tailnet: None,
            address: "100.64.0.2:1".parse().unwrap(),
            uid: None,
            grants: Grants::Rules(vec![rule]),
        };
        (listed, Ok(peer))
    }

    #[track_caller]
    fn says(line: &Line, level: Level, wanted: &str) {
        assert!(line.level == level && line.finding.contains(wanted), "{line:?}");
        assert_eq!(line.mend.is_none(), level == Level::Ok, "{line:?}");
    }

    #[test]
    fn those_who_cannot_approve_are_not_counted() {
        let nobody =
            [peer(Some("eve@x"), None, false), peer(Some("bot@x"), Some("tag:ops"), true), peer(None, None, true)];
        says(
            &approval_line(&settings(&[]), Some(&nobody), Some(&[])),
            Level::Warn,
            "nobody is known who could approve",
        );
        says(&approval_line(&settings(&[]), None, None), Level::Warn, "nobody is known who could approve");
        let unknown = [(nobody[0].0.clone(), Err(Unidentified::NotFound))];
        says(&approval_line(&settings(&[]), Some(&unknown), Some(&[])), Level::Warn, "nobody");
    }

    #[test]
    fn one_person_is_too_few_while_a_second_one_is_needed() {
        // One person with two nodes, written in two ways, and named twice.
        let peers = [peer(Some("Maria@x"), None, true), peer(Some("maria@x"), None, true)];
        let line = approval_line(&settings(&["maria@X"]), Some(&peers), Some(&["MARIA@x".to_owned()]));
        says(&line, Level::Warn, "only maria@x could approve, and not what they ask for themselves");
        says(&line, Level::Warn, "maria@x (configuration, tailnet policy, enrolled key)");
        let hook = Webhook {
            name: "change-board".into(),
            url: "https://x".into(),
            secret_file: "/s".into(),
            identity: "board@x".into(),
        };
        let two = Approvals { webhooks: vec![hook], ..settings(&[]) };
        let line = approval_line(&two, Some(&peers), Some(&[]));
        says(&line, Level::Ok, "2 people could approve: board@x (webhook change-board), maria@x (tailnet policy)");
    }

    #[test]
    fn where_signatures_are_needed_only_keys_count() {
        let signed = Approvals { strength: Strength::Signature, ..settings(&["jan", "maria"]) };
        says(&approval_line(&signed, None, Some(&["eve".to_owned()])), Level::Fail, "nobody who could approve has an");
        says(&approval_line(&signed, None, None), Level::Warn, "the enrolled keys cannot be read");
        let keys = ["jan".to_owned(), "eve".to_owned()];
        says(&approval_line(&signed, None, Some(&keys)), Level::Warn, "only jan could approve");
        let alone = Approvals { second_person: false, ..signed };
        let wanted = "1 person could approve, with a signature, also what they ask for themselves";
        says(&approval_line(&alone, None, Some(&keys)), Level::Ok, wanted);
    }

    #[test]
    fn many_are_counted_and_some_are_named() {
        let names: Vec<String> = (10..40).map(|number| format!("person-{number}")).collect();
        let line = approval_line(&settings(&names.iter().map(String::as_str).collect::<Vec<_>>()), None, Some(&[]));
        says(&line, Level::Ok, "30 people could approve: person-10 (configuration)");
        assert!(line.finding.ends_with("person-29 (configuration), and 10 more"), "{line:?}");
    }
}

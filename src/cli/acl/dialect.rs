//! What a control server refuses in a policy, by its dialect: it would not take any of it then. Knows names and
//! shapes, and runs nothing.

use super::{
    check::Findings,
    hujson::{Kind, Node},
    needs::Dialect,
};

/// The sections that both know.
const COMMON: [&str; 10] =
    ["grants", "acls", "ssh", "autoApprovers", "nodeAttrs", "tagOwners", "groups", "hosts", "tests", "sshTests"];
/// The sections that only Tailscale's own server knows.
const SAAS: [&str; 8] = [
    "postures",
    "ipsets",
    "defaultSrcPosture",
    "attrConfig",
    "derpMap",
    "disableIPv4",
    "oneCGNATRoute",
    "randomizeClientPort",
];

pub(super) fn check(findings: &mut Findings<'_, '_>) {
    let document = findings.document;
    let headscale = findings.needs.dialect == Dialect::Headscale;
    for section in document.sections() {
        let is = |name: &&str| name.eq_ignore_ascii_case(&section.name);
        let known = COMMON.iter().any(is) || if headscale { is(&"randomizeClientPort") } else { SAAS.iter().any(is) };
        if !known {
            let what = format!("there is no section {:?} in this dialect", section.name);
            let mend = if section.name == "services" {
                "access to a service goes through grants with dst svc:NAME"
            } else {
                "take it out"
            };
            findings.fail("dialect", Some(section.start), what, mend);
        }
    }
    for acl in document.list("acls") {
        match acl.get("action") {
            Some(action) if action.text() == Some("accept") => {}
            action => {
                let at = action.map_or(acl.start, |action| action.start);
                let what = "an entry of acls can only accept: whatever no rule accepts is refused already".to_owned();
                findings.fail("dialect", Some(at), what, "write \"action\": \"accept\", or take the entry out");
            }
        }
    }
    let (mut tags, mut words) = (Vec::new(), Vec::new());
    collect(&document.root, &mut tags, &mut words);
    let defined = document.map("tagOwners");
    let mut said: Vec<&str> = Vec::new();
    for (tag, at) in tags {
        if !defined.iter().any(|entry| entry.name == tag) && !said.contains(&tag) {
            said.push(tag);
            let what = format!("{tag} is used, but not in tagOwners: the control server refuses the policy");
            findings.fail("dialect", Some(at), what, "define it in tagOwners");
        }
    }
    for grant in document.list("grants") {
        for entry in grant.get("app").map(Node::entries).unwrap_or_default() {
            let domain = entry.name.split_once('/').map(|(domain, _)| domain);
            if entry.name.contains("://") || domain.is_none_or(|domain| !domain.contains('.')) {
                let what = format!("{:?} is no name of a capability: it has the form DOMAIN/PATH", entry.name);
                findings.fail("dialect", Some(entry.start), what, "name a domain of your own, without https://");
            }
        }
        if grant.get("ip").is_none() && grant.get("app").is_none() {
            findings.fail("dialect", Some(grant.start), "a grant needs ip, app or both".to_owned(), "add \"ip\"");
        }
    }
    if headscale {
        refused_by_headscale(findings, &words);
    }
}

fn refused_by_headscale(findings: &mut Findings<'_, '_>, words: &[(&str, usize)]) {
    const KNOWN: [&str; 6] = ["member", "tagged", "self", "internet", "danger-all", "nonroot"];
    let document = findings.document;
    for (word, at) in words {
        let unknown = word.strip_prefix("autogroup:").is_some_and(|name| !KNOWN.contains(&name));
        let prefix = ["svc:", "ipset:", "posture:"].into_iter().find(|prefix| word.starts_with(prefix));
        if unknown || prefix.is_some() {
            let what = format!("headscale knows no {}", if unknown { word } else { prefix.unwrap_or_default() });
            findings.fail("dialect", Some(*at), what, "name users, groups or tags");
        }
    }
    for entry in document.map("tagOwners") {
        for owner in entry.value.items() {
            let text = owner.text().unwrap_or_default();
            if !text.contains('@') && !["group:", "tag:", "autogroup:"].iter().any(|prefix| text.starts_with(prefix)) {
                let what = format!("{text:?} is no owner: a user's name has an @ in it here");
                findings.fail("dialect", Some(owner.start), what, "write alice@ for the local user alice");
            }
        }
    }
    let fields: [(&str, &[&str]); 4] = [
        ("grants", &["srcPosture"]),
        ("acls", &["srcPosture"]),
        ("ssh", &["recorder", "enforceRecorder"]),
        ("nodeAttrs", &["ipPool"]),
    ];
    for (section, names) in fields {
        for node in document.list(section) {
            for entry in node.entries().iter().filter(|entry| names.contains(&entry.name.as_str())) {
                let what = format!("headscale takes no {:?} in {section}", entry.name);
                findings.fail("dialect", Some(entry.start), what, "take it out");
            }
        }
    }
    for attribute in document.list("nodeAttrs").iter().filter(|node| node.texts("attr").contains(&"funnel")) {
        findings.fail("dialect", Some(attribute.start), "headscale has no Funnel".to_owned(), "take it out");
    }
    if let Some(services) = document.section("autoApprovers").and_then(|entry| entry.value.get("services")) {
        findings.fail("dialect", Some(services.start), "headscale knows no services".to_owned(), "take it out");
    }
}

/// Every tag, and every text with a prefix, that the policy uses: in the places that name devices and people.
fn collect<'d>(node: &'d Node, tags: &mut Vec<(&'d str, usize)>, words: &mut Vec<(&'d str, usize)>) {
    match &node.kind {
        Kind::Plain(_) => {}
        Kind::Text(text) => {
            words.push((text, node.start));
            if text.starts_with("tag:") {
                // Entries of acls and rows of tests have a port behind.
                let tag = text
                    .match_indices(':')
                    .nth(1)
                    .map_or(text.as_str(), |(colon, _)| text.get(..colon).unwrap_or(text));
                tags.push((tag, node.start));
            }
        }
        Kind::List(items) => items.iter().for_each(|item| collect(item, tags, words)),
        Kind::Map(entries) => {
            // What a capability carries is the application's, not the control server's.
            entries.iter().filter(|entry| entry.name != "app").for_each(|entry| collect(&entry.value, tags, words));
        }
    }
}

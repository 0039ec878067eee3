//! Holds an existing policy against what a gateway needs: what it meets, lacks and contradicts. Pure; what the text
//! cannot decide is a warning that says so.

use serde::Serialize;

use super::{
    blocks, dialect,
    hujson::{Document, Entry, Node},
    needs::{Dialect, Needs},
    reach::{Answer, Device, Rule, Width, rules, width},
};
use crate::{
    config::Tailnet,
    tailnet::{NotAdmitted, read_grants},
};

/// How a finding is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Ok,
    Warn,
    Fail,
}

impl Level {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// For programs.
    pub(super) about: &'static str,
    /// Where in the policy, counted from 1; none where nothing stands.
    pub(super) line: Option<usize>,
    pub(super) what: String,
    /// What to do; empty where nothing is to be done.
    pub(super) mend: String,
}

/// The findings on one policy.
#[derive(Debug)]
pub(super) struct Findings<'d, 't> {
    pub(super) document: &'d Document<'t>,
    pub(super) needs: &'d Needs,
    pub(super) list: Vec<Finding>,
}

/// Everything there is to say, in the order in which it is looked at.
pub(super) fn check(document: &Document<'_>, needs: &Needs) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Findings { document, needs, list: Vec::new() };
    dialect::check(&mut findings);
    let rules = rules(document);
    findings.owners();
    findings.clients(&rules);
    findings.strangers(&rules);
    findings.capability();
    findings.funnel();
    findings.ssh();
    findings.targets(&rules);
    findings.tests()?;
    Ok(findings.list)
}

impl<'d> Findings<'d, '_> {
    fn add(&mut self, level: Level, about: &'static str, at: Option<usize>, what: String, mend: &str) {
        let line = at.map(|at| self.document.line(at));
        self.list.push(Finding { level, about, line, what, mend: mend.to_owned() });
    }

    fn ok(&mut self, about: &'static str, at: Option<usize>, what: String) {
        self.add(Level::Ok, about, at, what, "");
    }

    pub(super) fn warn(&mut self, about: &'static str, at: Option<usize>, what: String, mend: &str) {
        self.add(Level::Warn, about, at, what, mend);
    }

    pub(super) fn fail(&mut self, about: &'static str, at: Option<usize>, what: String, mend: &str) {
        self.add(Level::Fail, about, at, what, mend);
    }

    fn gateway(&self) -> Device<'d> {
        Device::Tagged(&self.needs.tags)
    }

    /// Who may take the gateway's tag, or a client's.
    fn owners(&mut self) {
        let needs = self.needs;
        let clients: Vec<String> = needs.clients().filter(|who| who.starts_with("tag:")).map(str::to_owned).collect();
        for (tag, gateway) in needs.tags.iter().map(|tag| (tag, true)).chain(clients.iter().map(|tag| (tag, false))) {
            let document = self.document;
            let Some(entry) = document.map("tagOwners").iter().find(|entry| entry.name == *tag) else {
                self.fail(
                    "tag_owner",
                    None,
                    format!("{tag} is not in tagOwners"),
                    "add it with those who may give it to a device: `tailops acl print --merge` does",
                );
                continue;
            };
            let owners: Vec<&str> = entry.value.items().iter().filter_map(Node::text).collect();
            let everybody = owners.iter().find(|owner| width(document, owner) == Width::Everybody);
            let client = owners.iter().find(|owner| gateway && clients.iter().any(|client| client == **owner));
            if let Some(owner) = everybody {
                let level = if gateway { Level::Fail } else { Level::Warn };
                let what =
                    format!("{tag} is owned by {owner}: everybody can make a device of theirs one with this tag");
                self.add(level, "tag_owner", Some(entry.start), what, "name the few who may give out this tag");
            } else if let Some(owner) = client {
                let what = format!(
                    "{tag} is owned by {owner}, a client: an agent could make a device that passes for the gateway"
                );
                self.fail("tag_owner", Some(entry.start), what, "let people own the gateway's tag");
            } else if owners.is_empty() && needs.dialect == Dialect::Headscale {
                let what = format!("{tag} has no owners: only the server's admin can give it to a device");
                self.warn("tag_owner", Some(entry.start), what, "fine if tagged auth keys are all you use");
            } else {
                self.ok("tag_owner", Some(entry.start), format!("{tag} has owners: {}", said(&owners)));
            }
        }
    }

    /// Whether each client gets through to the gateway, with rights.
    fn clients(&mut self, rules: &[Rule<'d>]) {
        let (document, needs) = (self.document, self.needs);
        let merge = "`tailops acl print --merge` adds the grant";
        for who in needs.clients() {
            let opens = |rule: &Rule<'_>| {
                Answer::all([rule.admits(document, who), rule.opens(document, self.gateway(), needs.port)])
            };
            let network = Answer::any(rules.iter().map(opens));
            let at =
                rules.iter().find(|rule| opens(rule) == network && network > Answer::No).map(|rule| rule.node.start);
            let hands = |rule: &Rule<'_>| Answer::all([rule.admits(document, who), self.hands_rules(rule.node)]);
            let rights = Answer::any(rules.iter().map(hands));
            let with =
                rules.iter().find(|rule| hands(rule) == rights && rights > Answer::No).map(|rule| rule.node.start);
            let (tag, port) = (needs.tag(), needs.port);
            match (network, rights) {
                (Answer::Yes, Answer::Yes) => {
                    self.ok("client", at, format!("{who} reaches {tag}:{port} and has rules of {}", needs.capability));
                }
                (Answer::No, Answer::Yes) => {
                    let what = format!(
                        "{who} has rules of {}, but no grant with `ip` lets it reach {tag} on tcp:{port}: a capability alone opens nothing",
                        needs.capability
                    );
                    self.fail("client", with, what, "add \"ip\" to that grant");
                }
                (Answer::No, Answer::No) => {
                    self.fail("client", None, format!("no grant lets {who} reach {tag} on tcp:{port}"), merge);
                }
                (Answer::Yes, Answer::No) => {
                    let what =
                        format!("{who} reaches {tag}:{port}, but no grant gives it rules of {}", needs.capability);
                    if needs.grants_required {
                        self.fail("client", at, format!("{what}: the gateway refuses it"), merge);
                    } else {
                        self.warn("client", at, format!("{what}: its token alone decides"), merge);
                    }
                }
                _ => {
                    let what =
                        format!("cannot tell whether {who} reaches {tag}:{port} with rules of {}", needs.capability);
                    self.warn(
                        "client",
                        at.or(with),
                        what,
                        "it depends on addresses, conditions or groups that the policy does not spell out",
                    );
                }
            }
        }
    }

    /// Whether a grant hands rules of the capability to its sources, on the gateway.
    fn hands_rules(&self, grant: &Node) -> Answer {
        let Some(app) = grant.get("app") else { return Answer::No };
        let rules = app.entries().iter().find(|entry| entry.name == self.needs.capability);
        let any = rules.is_some_and(|rules| !rules.value.items().is_empty());
        if any { self.is_on_gateway(grant) } else { Answer::No }
    }

    /// Whether the destinations of a grant mean the gateway.
    fn is_on_gateway(&self, grant: &Node) -> Answer {
        super::reach::means(self.document, grant, self.gateway())
    }

    /// Who else reaches the gateway's port.
    fn strangers(&mut self, rules: &[Rule<'d>]) {
        let (document, needs) = (self.document, self.needs);
        if document.section("grants").is_none() && document.section("acls").is_none() {
            let what = "the policy has neither grants nor acls, which lets everybody reach everything".to_owned();
            self.fail(
                "too_wide",
                None,
                what,
                "an empty `\"grants\": []` refuses all; `tailops acl print --merge` adds those needed",
            );
        }
        let clients: Vec<&str> = needs.clients().collect();
        let (tag, port) = (needs.tag(), needs.port);
        let mut wide = false;
        for rule in rules {
            let open = rule.opens(document, self.gateway(), port);
            if open == Answer::No {
                continue;
            }
            let at = Some(rule.node.start);
            let might = if open == Answer::Yes { "lets" } else { "may let (cannot tell)" };
            for src in &rule.src {
                let what = format!("{might} {src} reach {tag}:{port}");
                match width(document, src) {
                    Width::Everybody if open == Answer::Yes => {
                        wide = true;
                        self.fail(
                            "too_wide",
                            at,
                            format!("{what}: that is everybody"),
                            "name the clients, and leave the gateway's tag out of rules for everybody",
                        );
                    }
                    Width::Everybody => {
                        self.warn("too_wide", at, what, "see that this destination is not the gateway's address");
                    }
                    Width::Addresses => {
                        wide = true;
                        self.warn(
                            "too_wide",
                            at,
                            format!("{what}: addresses are no identity"),
                            "name tags, groups or users",
                        );
                    }
                    Width::Named if clients.contains(src) || needs.tags.iter().any(|tag| tag == src) => {}
                    Width::Named if open == Answer::Yes => {
                        wide = true;
                        let everything = if rule.names_everything() { ", as every device" } else { "" };
                        self.warn(
                            "too_wide",
                            at,
                            format!("{what}{everything}, although it is no client"),
                            "leave it out, or name it with --clients",
                        );
                    }
                    Width::Named => {}
                }
            }
        }
        if !wide && rules.iter().any(|rule| rule.opens(document, self.gateway(), port) == Answer::Yes) {
            self.ok("too_wide", None, format!("nobody but clients reaches {tag}:{port}, as far as the text says"));
        }
    }

    /// The rules of our capability, wherever they stand.
    fn capability(&mut self) {
        let (document, needs) = (self.document, self.needs);
        let path = needs.capability.split_once('/').map_or("", |(_, path)| path);
        for grant in document.list("grants") {
            let Some(app) = grant.get("app") else { continue };
            for Entry { name, start, value } in app.entries() {
                let at = Some(*start);
                if *name != needs.capability {
                    let similar = name.eq_ignore_ascii_case(&needs.capability)
                        || name.split_once('/').is_some_and(|(_, own)| own == path);
                    if similar && self.is_on_gateway(grant) == Answer::Yes {
                        let what = format!("{name:?} is not the capability this gateway reads: {:?}", needs.capability);
                        self.warn(
                            "capability",
                            at,
                            what,
                            "name the gateway's, or set tailnet.capability in its configuration",
                        );
                    }
                    continue;
                }
                for src in grant.texts("src").into_iter().filter(|src| width(document, src) == Width::Everybody) {
                    let what = format!("gives rights on the gateway to {src}: that is everybody");
                    self.fail("capability", at, what, "name tags, groups or users");
                }
                if self.is_on_gateway(grant) == Answer::No {
                    let what = format!("gives {name} on {}, where no gateway reads it", said(&grant.texts("dst")));
                    self.warn("capability", at, what, &format!("the destination must be {}", needs.tag()));
                }
                if value.items().is_empty() {
                    self.warn(
                        "capability",
                        at,
                        format!("{name} without rules gives nothing"),
                        "add a rule, such as {\"scopes\": [\"readonly\"]}",
                    );
                }
                for (index, rule) in value.items().iter().enumerate() {
                    if let Some(fault) = fault(rule) {
                        let what = format!("rule {}: {fault}", index + 1);
                        self.fail(
                            "capability",
                            Some(rule.start),
                            what,
                            "mend it: the gateway shuts out whoever has a rule that it does not understand",
                        );
                    }
                }
            }
        }
    }

    /// The open internet.
    fn funnel(&mut self) {
        for attribute in self.document.list("nodeAttrs") {
            if !attribute.texts("attr").contains(&"funnel") {
                continue;
            }
            for target in attribute.texts("target") {
                let ours =
                    target == "*" || target == "autogroup:tagged" || self.needs.tags.iter().any(|tag| tag == target);
                if ours {
                    let what = format!(
                        "lets {target} use Funnel, the gateway too: it would be reached from the open internet, by nobody in particular"
                    );
                    self.fail("funnel", Some(attribute.start), what, "leave the gateway's tag out of the targets");
                }
            }
        }
    }

    /// Tailscale SSH from the gateway.
    fn ssh(&mut self) {
        let needs = self.needs;
        for entry in self.document.list("ssh") {
            let src = entry.texts("src");
            let ours =
                |src: &&str| *src == "autogroup:tagged" || *src == "*" || needs.tags.iter().any(|tag| tag == *src);
            if !src.iter().any(ours) {
                continue;
            }
            let at = Some(entry.start);
            let roots: Vec<&str> =
                entry.texts("users").into_iter().filter(|user| matches!(*user, "root" | "*")).collect();
            if !roots.is_empty() {
                let what = format!("lets the gateway log in as {} on {}", said(&roots), said(&entry.texts("dst")));
                self.fail(
                    "ssh",
                    at,
                    what,
                    "name the user that the gateway's targets have for it, and use sudo rules there",
                );
            }
            if entry.get("action").and_then(Node::text) == Some("check") {
                let what =
                    "wants a person's check of the gateway, a tagged device: nobody is there to do it".to_owned();
                self.fail("ssh", at, what, "use \"action\": \"accept\" for the gateway's tag");
            }
        }
    }

    /// The gateway's way to what it operates.
    fn targets(&mut self, rules: &[Rule<'d>]) {
        let (document, needs) = (self.document, self.needs);
        let tag = needs.tag();
        let from_gateway: Vec<&Rule<'_>> =
            rules.iter().filter(|rule| rule.admits(document, tag) == Answer::Yes).collect();
        for rule in from_gateway.iter().filter(|rule| rule.opens_everything()) {
            let what = format!("lets {tag} reach every port of every device");
            self.warn("targets", Some(rule.node.start), what, "name the machines it operates and their ports");
        }
        for (port, names) in &needs.reach {
            for name in names {
                let tags = [name.clone()];
                let device = needs.hosts.get(name).map_or(Device::Tagged(&tags), |address| Device::At(*address));
                let answers = || from_gateway.iter().map(|rule| (rule.opens(document, device, *port), rule.node.start));
                let best = Answer::any(answers().map(|(answer, _)| answer));
                let at = answers().find(|(answer, _)| *answer == best && best > Answer::No).map(|(_, at)| at);
                match best {
                    Answer::Yes => self.ok("targets", at, format!("{tag} reaches {name}:{port}")),
                    Answer::Unknown => {
                        let what = format!("cannot tell whether {tag} reaches {name}:{port}");
                        self.warn(
                            "targets",
                            at,
                            what,
                            "it depends on which device has that address; name its tag with --target-tag",
                        );
                    }
                    Answer::No => {
                        let what = format!("no grant lets {tag} reach {name}:{port}");
                        self.fail("targets", None, what, "`tailops acl print --merge` adds the grant");
                    }
                }
            }
        }
    }

    /// The policy's own tests.
    fn tests(&mut self) -> anyhow::Result<()> {
        let document = self.document;
        let rows = document.list("tests");
        let mut missing = 0;
        let wanted = blocks::blocks(self.needs, true)?;
        let wanted: Vec<_> = wanted.iter().filter(|block| block.section == "tests").collect();
        for block in &wanted {
            let text = |name: &str| block.value.get(name).and_then(serde_json::Value::as_str);
            let own: Vec<&Node> =
                rows.iter().filter(|row| row.get("src").and_then(Node::text) == text("src")).collect();
            let mut there = true;
            for (verdict, other) in [("accept", "deny"), ("deny", "accept")] {
                let list = block.value.get(verdict).and_then(serde_json::Value::as_array);
                for dst in list.into_iter().flatten().filter_map(serde_json::Value::as_str) {
                    there &= own.iter().any(|row| row.texts(verdict).contains(&dst));
                    if let Some(row) = own.iter().find(|row| row.texts(other).contains(&dst)) {
                        let src = text("src").unwrap_or_default();
                        let what = format!("expects {other} from {src} to {dst}, where the gateway needs {verdict}");
                        self.fail(
                            "tests",
                            Some(row.start),
                            what,
                            "mend the row: with it the control server refuses the policy that the gateway needs",
                        );
                    }
                }
            }
            missing += usize::from(!there);
        }
        if missing > 0 {
            let what =
                format!("{missing} of {} rows of `tests` that hold the gateway's rules are missing", wanted.len());
            self.warn("tests", None, what, "`tailops acl print --merge` adds them");
        } else {
            self.ok(
                "tests",
                None,
                format!("all {} rows of `tests` that hold the gateway's rules are there", wanted.len()),
            );
        }
        Ok(())
    }
}

fn said(list: &[&str]) -> String {
    if list.is_empty() { "nobody".to_owned() } else { list.join(", ") }
}

/// Why the gateway would not understand this rule. None if it would.
fn fault(rule: &Node) -> Option<String> {
    match read_grants(Some(&[rule.value()]), &Tailnet::default()) {
        Ok(_) => None,
        Err(NotAdmitted::BadGrant(why)) => Some(why.strip_prefix("rule 1: ").unwrap_or(&why).to_owned()),
        Err(other) => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests;

//! Each thing a policy can have wrong, one by one, on top of one that is right.

use serde_json::{Value, json};

use super::{
    super::{
        blocks::{blocks, print},
        tests::{config, needs_of, with_targets},
    },
    *,
};

/// The flags that most of these are looked at with.
const FLAGS: [&str; 4] = ["--clients", "tag:agent", "--clients", "alice@x.org"];

fn findings(text: &str, needs: &Needs) -> Vec<Finding> {
    check(&Document::read(text).unwrap_or_else(|error| panic!("{error}\n{text}")), needs).unwrap()
}

/// The printed policy of these flags, changed.
fn changed(flags: &[&str], change: impl FnOnce(&mut Value)) -> Vec<Finding> {
    let needs = needs_of(&with_targets(), flags);
    let text = print(&blocks(&needs, true).unwrap()).unwrap();
    let mut policy = Document::read(&text).unwrap().root.value();
    change(&mut policy);
    findings(&policy.to_string(), &needs)
}

/// Adds an element to a section.
fn push(policy: &mut Value, section: &str, element: Value) {
    match policy[section].as_array_mut() {
        Some(list) => list.push(element),
        None => policy[section] = json!([element]),
    }
}

#[track_caller]
fn has(findings: &[Finding], level: Level, about: &str, what: &str) {
    let found =
        findings.iter().any(|finding| finding.level == level && finding.about == about && finding.what.contains(what));
    assert!(found, "{} {about} {what}: {findings:#?}", level.as_str());
}

#[track_caller]
fn fails(change: impl FnOnce(&mut Value), about: &str, what: &str) {
    has(&changed(&FLAGS, change), Level::Fail, about, what);
}

#[track_caller]
fn warns(change: impl FnOnce(&mut Value), about: &str, what: &str) {
    let findings = changed(&FLAGS, change);
    has(&findings, Level::Warn, about, what);
}

#[test]
fn what_is_printed_does_for_both_dialects() {
    for flags in [
        &[][..],
        &["--target-tag", "tag:server", "--approvers", "group:leads@example.org"],
        &["--dialect", "headscale", "--owner", "alice@", "--operators", "group:ops", "--member", "group:ops=bob@"],
    ] {
        let all = changed(flags, |_| {});
        assert!(all.iter().all(|finding| finding.level == Level::Ok), "{all:#?}");
        for about in ["tag_owner", "client", "too_wide", "targets", "tests"] {
            assert!(all.iter().any(|finding| finding.about == about), "{about}: {all:#?}");
        }
    }
}

#[test]
fn a_policy_that_knows_nothing_of_the_gateway_lacks_everything() {
    let needs = needs_of(&with_targets(), &[]);
    let all = findings("{\n\"grants\": []}", &needs);
    has(&all, Level::Fail, "tag_owner", "tag:tailops is not in tagOwners");
    has(&all, Level::Fail, "tag_owner", "tag:mcp-client is not in tagOwners");
    has(&all, Level::Fail, "client", "no grant lets tag:mcp-client reach tag:tailops on tcp:8080");
    has(&all, Level::Fail, "targets", "no grant lets tag:tailops reach web-1:22");
    has(&all, Level::Warn, "tests", "rows of `tests`");
    has(&findings("{}", &needs), Level::Fail, "too_wide", "neither grants nor acls");
}

#[test]
fn half_a_grant_is_said() {
    let grant = |policy: &mut Value, part: &str| {
        policy["grants"][0].as_object_mut().unwrap().remove(part);
    };
    fails(|policy| grant(policy, "ip"), "client", "a capability alone opens nothing");
    fails(|policy| grant(policy, "app"), "client", "the gateway refuses it");
    fails(
        |policy| policy["grants"][0]["app"]["tailops.dev/cap/gateway"] = json!([]),
        "client",
        "the gateway refuses it",
    );
    warns(|policy| policy["grants"][0]["app"]["tailops.dev/cap/gateway"] = json!([]), "capability", "gives nothing");
    fails(|policy| policy["grants"][0]["ip"] = json!(["tcp:8081", "udp:8080"]), "client", "opens nothing");
    warns(|policy| policy["grants"][0]["srcPosture"] = json!(["posture:x"]), "client", "cannot tell whether tag:agent");
    warns(|policy| policy["grants"][0]["src"] = json!(["100.64.0.7"]), "client", "cannot tell");
    let mut optional = with_targets();
    optional.tailnet.grants = crate::config::GrantsMode::Optional;
    let needs = needs_of(&optional, &[]);
    let text = r#"{"grants": [{"src": ["tag:mcp-client"], "dst": ["tag:tailops"], "ip": ["tcp:8080"]}]}"#;
    has(&findings(text, &needs), Level::Warn, "client", "its token alone decides");
}

#[test]
fn another_way_to_say_the_same_does() {
    let needs = needs_of(&config(), &["--clients", "alice@x.org"]);
    let text = r#"{
        "groups": {"group:ops": ["alice@x.org"]},
        "tagOwners": {"tag:tailops": []},
        "acls": [{"action": "accept", "src": ["alice@x.org"], "proto": "tcp", "dst": ["tag:tailops:22,8000-8100"]}],
        "grants": [{"src": ["group:ops"], "dst": ["tag:tailops"], "app": {"tailops.dev/cap/gateway": [{"scopes": ["readonly"]}]}}],
    }"#;
    let all = findings(text, &needs);
    has(&all, Level::Ok, "client", "alice@x.org reaches tag:tailops:8080");
    assert!(all.iter().all(|finding| finding.level < Level::Fail), "{all:#?}");
}

#[test]
fn whoever_else_gets_in_is_said() {
    for everybody in [
        "*",
        "autogroup:member",
        "autogroup:tagged",
        "autogroup:danger-all",
        "autogroup:shared",
        "100.64.0.0/10",
        "0.0.0.0/0",
        "100.64.0.1/9",
    ] {
        for dst in ["*", "tag:tailops", "autogroup:tagged", "100.64.0.0/10"] {
            let grant = json!({"src": [everybody], "dst": [dst], "ip": ["tcp:8000-9000"]});
            fails(|policy| push(policy, "grants", grant), "too_wide", "that is everybody");
        }
        let acl = json!({"action": "accept", "src": [everybody], "dst": ["*:*"]});
        fails(|policy| push(policy, "acls", acl), "too_wide", "that is everybody");
    }
    let grant = |src: &str, dst: &str, ip: &str| json!({"src": [src], "dst": [dst], "ip": [ip]});
    warns(
        |policy| push(policy, "grants", grant("100.64.0.5", "tag:tailops", "*")),
        "too_wide",
        "addresses are no identity",
    );
    warns(
        |policy| push(policy, "grants", grant("group:x@y.org", "*", "*")),
        "too_wide",
        "as every device, although it is no client",
    );
    warns(|policy| push(policy, "grants", grant("autogroup:member", "100.64.0.9", "*")), "too_wide", "cannot tell");
    for harmless in [
        grant("*", "tag:tailops", "tcp:22"),
        grant("*", "tag:tailops", "udp:8080"),
        grant("autogroup:member", "autogroup:self", "*"),
    ] {
        let all = changed(&FLAGS, |policy| push(policy, "grants", harmless));
        assert!(all.iter().all(|finding| finding.about != "too_wide" || finding.level == Level::Ok), "{all:#?}");
    }
}

#[test]
fn who_can_pass_for_the_gateway_is_said() {
    fails(
        |policy| policy["tagOwners"]["tag:tailops"] = json!(["autogroup:member"]),
        "tag_owner",
        "everybody can make a device",
    );
    fails(|policy| policy["tagOwners"]["tag:tailops"] = json!(["tag:agent"]), "tag_owner", "passes for the gateway");
    warns(
        |policy| policy["tagOwners"]["tag:agent"] = json!(["autogroup:member"]),
        "tag_owner",
        "everybody can make a device",
    );
}

#[test]
fn rules_that_the_gateway_refuses_are_said() {
    let cap = |rules: Value| move |policy: &mut Value| policy["grants"][0]["app"]["tailops.dev/cap/gateway"] = rules;
    fails(
        cap(json!([{"scopes": ["readonly"]}, {"scopes": ["rot"]}])),
        "capability",
        "rule 2: \"scopes\": unknown scope",
    );
    fails(cap(json!([{"tools": ["*"]}])), "capability", "rule 1: \"tools\": unknown");
    fails(
        |policy| policy["grants"][0]["src"] = json!(["autogroup:member"]),
        "capability",
        "rights on the gateway to autogroup:member",
    );
    let elsewhere = json!({"src": ["tag:agent"], "dst": ["svc:mcp"], "app": {"tailops.dev/cap/gateway": [{"scopes": ["readonly"]}]}});
    warns(|policy| push(policy, "grants", elsewhere), "capability", "where no gateway reads it");
    let similar = json!({"src": ["tag:agent"], "dst": ["tag:tailops"], "app": {"example.org/cap/gateway": [{"scopes": ["readonly"]}]}});
    warns(|policy| push(policy, "grants", similar), "capability", "is not the capability this gateway reads");
}

#[test]
fn funnel_and_root_are_said() {
    for target in ["*", "autogroup:tagged", "tag:tailops"] {
        let attribute = json!({"target": [target], "attr": ["funnel"]});
        fails(|policy| push(policy, "nodeAttrs", attribute), "funnel", "open internet");
    }
    let attribute = json!({"target": ["autogroup:member"], "attr": ["funnel"]});
    assert!(
        changed(&FLAGS, |policy| push(policy, "nodeAttrs", attribute)).iter().all(|finding| finding.about != "funnel")
    );
    let ssh = |src: &str, users: Value, action: &str| json!({"action": action, "src": [src], "dst": ["tag:agent"], "users": users});
    fails(|policy| push(policy, "ssh", ssh("tag:tailops", json!(["ops", "root"]), "accept")), "ssh", "log in as root");
    fails(|policy| push(policy, "ssh", ssh("autogroup:tagged", json!(["root"]), "accept")), "ssh", "log in as root");
    fails(|policy| push(policy, "ssh", ssh("tag:tailops", json!(["ops"]), "check")), "ssh", "nobody is there to do it");
    for fine in [ssh("group:x@y", json!(["root"]), "check"), ssh("tag:tailops", json!(["ops"]), "accept")] {
        assert!(changed(&FLAGS, |policy| push(policy, "ssh", fine)).iter().all(|finding| finding.about != "ssh"));
    }
}

#[test]
fn the_way_to_targets_is_looked_at() {
    warns(
        |policy| push(policy, "grants", json!({"src": ["tag:tailops"], "dst": ["*"], "ip": ["*"]})),
        "targets",
        "every port of every device",
    );
    let without = |dst: Value| {
        move |policy: &mut Value| {
            let grants = policy["grants"].as_array_mut().unwrap();
            grants.retain(|grant| grant["src"] != json!(["tag:tailops"]));
            grants.push(json!({"src": ["tag:tailops"], "dst": dst, "ip": ["tcp:22"]}));
        }
    };
    fails(without(json!(["100.64.0.12"])), "targets", "no grant lets tag:tailops reach web-1:22");
    fails(without(json!(["web-1"])), "targets", "no grant lets tag:tailops reach db-1:2222");
    warns(without(json!(["tag:agent"])), "targets", "cannot tell whether tag:tailops reaches web-1:22");
    has(&changed(&FLAGS, without(json!(["100.64.0.8/29"]))), Level::Ok, "targets", "tag:tailops reaches web-1:22");
}

#[test]
fn rows_that_contradict_are_said() {
    let row = json!({"src": "tag:agent", "deny": ["tag:tailops:8080"]});
    fails(|policy| push(policy, "tests", row), "tests", "expects deny from tag:agent to tag:tailops:8080");
    warns(|policy| policy["tests"] = json!([]), "tests", "are missing");
}

#[test]
fn what_the_control_server_refuses_is_said() {
    let both: [(&str, Value, &str); 3] = [
        ("acls", json!({"action": "deny", "src": ["*"], "dst": ["*:*"]}), "can only accept"),
        (
            "grants",
            json!({"src": ["tag:lost"], "dst": ["tag:agent"], "ip": ["tcp:1"]}),
            "tag:lost is used, but not in tagOwners",
        ),
        (
            "grants",
            json!({"src": ["tag:agent"], "dst": ["tag:agent"], "app": {"https://x.org/cap/y": []}}),
            "is no name of a capability",
        ),
    ];
    for (section, element, what) in both {
        fails(|policy| push(policy, section, element), "dialect", what);
    }
    fails(|policy| policy["services"] = json!({}), "dialect", "no section \"services\"");
    let headscale = ["--dialect", "headscale", "--owner", "alice@", "--clients", "tag:agent"];
    let refused: [(&str, Value, &str); 8] = [
        ("grants", json!({"src": ["autogroup:admin"], "dst": ["tag:agent"], "ip": ["*"]}), "knows no autogroup:admin"),
        ("grants", json!({"src": ["tag:agent"], "dst": ["svc:x"], "ip": ["*"]}), "knows no svc:"),
        ("grants", json!({"src": ["ipset:x"], "dst": ["tag:agent"], "ip": ["*"]}), "knows no ipset:"),
        (
            "grants",
            json!({"src": ["tag:agent"], "dst": ["tag:agent"], "ip": ["*"], "srcPosture": []}),
            "takes no \"srcPosture\"",
        ),
        (
            "ssh",
            json!({"action": "accept", "src": ["a@"], "dst": ["tag:agent"], "users": ["x"], "recorder": ["tag:agent"]}),
            "takes no \"recorder\"",
        ),
        ("nodeAttrs", json!({"target": ["a@"], "attr": ["funnel"]}), "no Funnel"),
        ("nodeAttrs", json!({"target": ["a@"], "ipPool": ["100.81.0.0/16"]}), "takes no \"ipPool\""),
        ("ipsets", json!(1), "no section \"ipsets\""),
    ];
    for (section, element, what) in refused {
        has(&changed(&headscale, |policy| push(policy, section, element)), Level::Fail, "dialect", what);
    }
    has(
        &changed(&headscale, |policy| policy["tagOwners"]["tag:agent"] = json!(["alice"])),
        Level::Fail,
        "dialect",
        "is no owner",
    );
    has(
        &changed(&headscale, |policy| policy["autoApprovers"] = json!({"services": {}})),
        Level::Fail,
        "dialect",
        "no services",
    );
    // What the other one has is fine there.
    let all = changed(&FLAGS, |policy| policy["postures"] = json!({"posture:x": ["node:os == 'linux'"]}));
    assert!(all.iter().all(|finding| finding.about != "dialect"), "{all:#?}");
}

#[test]
fn findings_have_their_line() {
    let needs = needs_of(&config(), &[]);
    let all =
        findings("{\n  \"grants\": [\n    {\"src\": [\"*\"], \"dst\": [\"*\"], \"ip\": [\"*\"]},\n  ],\n}", &needs);
    let wide = all.iter().find(|finding| finding.about == "too_wide").unwrap();
    assert_eq!((wide.level, wide.line), (Level::Fail, Some(3)));
    assert!(!wide.mend.is_empty());
}

//! What is printed, for both dialects; what is refused. The printed texts stand in `snapshots/`, reviewed like code.

use std::{collections::BTreeSet, path::Path};

use clap::Parser;
use serde_json::Value;

use super::{
    super::{Arguments, Command as Top},
    blocks::{Block, blocks, print},
    hujson::Document,
    needs::Needs,
    *,
};
use crate::{
    config::{self, Config, EmbeddedNode, HostNode, Node, read_registry},
    model::EngagementId,
};

const REGISTRY: &str = r#"
version: "1.0"
targets:
  web-1:
    type: remote
    executor: ssh
    connection: {host: "100.64.0.11"}
    capabilities: ["system:read"]
  db-1:
    type: remote
    executor: ssh
    connection: {host: "fd7a:115c:a1e0::12", port: 2222}
    capabilities: ["system:read"]
  10.9.8.7:
    type: remote
    executor: ssh
    connection: {host: "10.9.8.7"}
    capabilities: ["system:read"]
  named:
    type: remote
    executor: ssh
    connection: {host: "mail.example.org"}
    capabilities: ["system:read"]
  itself:
    type: remote
    executor: ssh
    connection: {host: "127.0.0.1"}
    capabilities: ["system:read"]
"#;

/// A gateway of its own tag on port 8080, without targets.
pub(super) fn config() -> Config {
    let text = "[engagements.default]\n[targets.here]\nkind = \"local\"\nengagement = \"default\"\ncapabilities = [\"system:read\"]\n";
    let mut config = config::load(Path::new("tailops.toml"), text, &[]).unwrap();
    config.node = Node::Host(HostNode { socket: "/run/tailscale/tailscaled.sock".into(), port: 8080, listen: None });
    config
}

/// With the five targets of [`REGISTRY`].
pub(super) fn with_targets() -> Config {
    let mut config = config();
    let home = EngagementId::from("default");
    let targets = read_registry(Path::new("targets.yaml"), REGISTRY, &home, std::slice::from_ref(&home)).unwrap();
    config.register(targets).unwrap();
    config
}

fn parse(flags: &[&str]) -> Wanted {
    let arguments = Arguments::try_parse_from(["tailops", "acl", "print"].iter().chain(flags)).unwrap();
    let Top::Acl(Command::Print(print)) = arguments.command else { panic!() };
    print.wanted
}

pub(super) fn needs_of(config: &Config, flags: &[&str]) -> Needs {
    Needs::of(config, &parse(flags), true).unwrap_or_else(|error| panic!("{flags:?}: {error:#}"))
}

pub(super) fn blocks_of(config: &Config, flags: &[&str]) -> Vec<Block> {
    blocks(&needs_of(config, flags), true).unwrap()
}

fn printed(config: &Config, flags: &[&str]) -> String {
    let text = print(&blocks_of(config, flags)).unwrap();
    sound(&text, flags.contains(&"headscale"));
    text
}

/// Every tag in a value.
fn tags<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
    match value {
        Value::String(text) => {
            if let Some(name) = text.strip_prefix("tag:") {
                found.insert(name.split(':').next().unwrap());
            }
        }
        Value::Array(items) => items.iter().for_each(|item| tags(item, found)),
        Value::Object(entries) => entries.values().for_each(|value| tags(value, found)),
        _ => {}
    }
}

/// What holds for every printed policy.
fn sound(text: &str, headscale: bool) {
    let document = Document::read(text).unwrap();
    let value = document.root.value();
    let known = ["groups", "hosts", "tagOwners", "grants", "tests"];
    assert!(document.sections().iter().all(|entry| known.contains(&entry.name.as_str())), "{text}");
    assert!(!text.contains("{{") && !text.contains("}}"), "{text}");
    assert!(!text.contains("action"), "grants have no action, and nothing denies");
    let mut used = BTreeSet::new();
    tags(&value, &mut used);
    for tag in used {
        assert!(value["tagOwners"].get(format!("tag:{tag}")).is_some(), "tag:{tag} is not defined\n{text}");
    }
    for grant in value["grants"].as_array().unwrap() {
        let keys: BTreeSet<&str> = grant.as_object().unwrap().keys().map(String::as_str).collect();
        assert!(keys.is_subset(&BTreeSet::from(["src", "dst", "ip", "app"])) && keys.contains("ip"), "{grant}");
        for entry in grant["ip"].as_array().unwrap() {
            assert!(entry.as_str().unwrap().strip_prefix("tcp:").unwrap().parse::<u16>().is_ok(), "{entry}");
        }
    }
    for row in value["tests"].as_array().into_iter().flatten() {
        assert!(row["src"].is_string(), "{row}");
        for verdict in ["accept", "deny"] {
            for dst in row[verdict].as_array().into_iter().flatten() {
                assert!(dst.as_str().unwrap().rsplit_once(':').unwrap().1.parse::<u16>().is_ok(), "{row}");
            }
        }
    }
    if headscale {
        for refused in ["autogroup:", "posture", "ipset", "svc:", "services"] {
            assert!(!text.contains(refused), "{refused}\n{text}");
        }
    }
    for line in text.lines().filter(|line| line.trim_start().starts_with("//")) {
        assert!(line.trim_start().len() <= 120, "{line}");
    }
}

#[test]
fn the_policy_for_tailscale() {
    insta::assert_snapshot!(printed(&config(), &[]));
}

#[test]
fn the_policy_for_headscale_with_everything() {
    let flags = [
        "--dialect",
        "headscale",
        "--owner",
        "alice@",
        "--owner",
        "group:it",
        "--clients",
        "tag:agent",
        "--clients",
        "group:ops",
        "--operators",
        "alice@example.com",
        "--operator-scopes",
        "readonly,system:control,file:write",
        "--approvers",
        "group:leads",
        "--member",
        "group:ops=bob@example.com",
        "--member",
        "group:ops=eve@example.com",
        "--scopes",
        "system:read,log:read",
    ];
    insta::assert_snapshot!(printed(&with_targets(), &flags));
}

#[test]
fn the_policy_of_an_embedded_node_with_a_domain_of_its_own() {
    let mut config = with_targets();
    config.node = Node::Embedded(EmbeddedNode {
        hostname: "gw".into(),
        port: 443,
        control_url: None,
        credential: None,
        tags: vec!["tag:gw".into(), "tag:prod".into()],
        advertise_tags: true,
        ephemeral: false,
        log_upload: false,
    });
    config.tailnet.capability = "example.org/cap/ops".into();
    config.tailnet.require_tags = ["tag:agent".to_owned()].into();
    config.tailnet.require_users = ["alice@example.org".to_owned()].into();
    insta::assert_snapshot!(printed(&config, &["--target-tag", "tag:server"]));
}

#[test]
fn p10_whatever_is_printed_is_taken_by_its_dialect_and_denies_nothing() {
    let mut tried = 0;
    for config in [config(), with_targets()] {
        for dialect in [&["--dialect", "saas"][..], &["--dialect", "headscale", "--owner", "alice@"]] {
            for clients in [&[][..], &["--clients", "group:ops"], &["--clients", "alice@", "--clients", "tag:ci"]] {
                for others in [&[][..], &["--operators", "tag:bot"], &["--approvers", "group:ops"]] {
                    for targets in [&[][..], &["--target-tag", "tag:server"], &["--target-tag", "tag:ci"]] {
                        printed(&config, &[dialect, clients, others, targets].concat());
                        tried += 1;
                    }
                }
            }
        }
    }
    assert_eq!(tried, 108);
}

#[test]
fn targets_without_an_address_are_left_out_and_said() {
    let needs = needs_of(&with_targets(), &[]);
    let hosts: Vec<&str> = needs.hosts.keys().map(String::as_str).collect();
    assert_eq!(hosts, ["db-1", "host-10.9.8.7", "web-1"]);
    assert_eq!(needs.reach.keys().copied().collect::<Vec<_>>(), [22, 2222]);
    let notes = needs.notes.join("\n");
    assert!(notes.contains("target named: \"mail.example.org\" is a name"), "{notes}");
    assert!(notes.contains("target itself: 127.0.0.1 is the gateway's own machine"), "{notes}");
}

#[test]
fn a_client_that_the_gateway_would_refuse_is_said() {
    let mut config = config();
    config.tailnet.require_tags = ["tag:agent".to_owned()].into();
    let notes = needs_of(&config, &["--clients", "tag:agent", "--clients", "bob@x.org"]).notes;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].starts_with("bob@x.org is not in tailnet.require"), "{notes:?}");
}

#[test]
fn groups_of_an_identity_provider_are_not_defined() {
    let needs = needs_of(&config(), &["--clients", "group:ops@example.com", "--clients", "group:own"]);
    assert_eq!(needs.groups.keys().collect::<Vec<_>>(), ["group:own"]);
}

#[test]
fn what_would_open_too_much_or_be_refused_is_refused() {
    let mut embedded = config();
    embedded.node = Node::Embedded(EmbeddedNode {
        hostname: "gw".into(),
        port: 443,
        control_url: None,
        credential: None,
        tags: vec!["tag:gw".into()],
        advertise_tags: true,
        ephemeral: false,
        log_upload: false,
    });
    let refused = |config: &Config, flags: &[&str], wanted: &str| {
        let error = Needs::of(config, &parse(flags), true).map(|needs| format!("{needs:?}")).unwrap_err().to_string();
        assert!(error.contains(wanted), "{flags:?}: {error}");
    };
    let config = config();
    refused(&config, &["--dialect", "headscale"], "--owner: headscale knows no autogroup:admin");
    refused(&config, &["--dialect", "headscale", "--owner", "autogroup:admin"], "headscale knows no autogroup:admin");
    refused(&config, &["--dialect", "headscale", "--owner", "alice"], "such as alice@example.com");
    for owner in ["*", "autogroup:member", "tag:x", "alice"] {
        refused(&config, &["--owner", owner], "--owner: ");
    }
    for everybody in ["*", "autogroup:member", "autogroup:danger-all", "autogroup:tagged", "autogroup:admin"] {
        refused(&config, &["--clients", everybody], "--clients: ");
        refused(&config, &["--operators", everybody], "--operators: ");
        refused(&config, &["--approvers", everybody], "--approvers: ");
    }
    for odd in [
        "",
        "ops",
        "tag:",
        "tag:1",
        "tag:a b",
        "tag:a\",\"*",
        "group:",
        "group:a\nb",
        "100.64.0.1",
        "svc:x",
        "a@b@c",
        "@",
    ] {
        refused(&config, &["--clients", odd], "--clients: ");
    }
    refused(&config, &["--clients", "tag:tailops"], "the gateway's own tag");
    refused(&config, &["--approvers", "tag:agent"], "approving takes a person");
    refused(&config, &["--scopes", ""], "--clients: no scopes");
    refused(&config, &["--target-tag", "server"], "--target-tag: ");
    refused(&config, &["--target-tag", "tag:tailops"], "the gateway's own tag");
    refused(&config, &["--tag", "tailops"], "--tag: ");
    refused(&embedded, &["--tag", "tag:other"], "none of node.tags in the configuration: tag:gw");
    refused(&config, &["--member", "group:x=a@b"], "named by no other flag");
    refused(&config, &["--clients", "group:x", "--member", "group:x"], "must be a group and a user");
    refused(&config, &["--clients", "group:x", "--member", "group:x=tag:y"], "is no user");
    let loopback = config::load(Path::new("t"), "", &[]).unwrap();
    refused(&loopback, &[], "--port: the configuration's node is in mode loopback");
    assert!(Needs::of(&loopback, &parse(&["--port", "8080"]), true).is_ok());
    for wrong in [["--scopes", "readonyl"], ["--port", "0"], ["--dialect", "other"]] {
        let arguments = ["tailops", "acl", "print"].iter().chain(&wrong);
        assert!(Arguments::try_parse_from(arguments).is_err(), "{wrong:?}");
    }
}

#[test]
fn the_page_shows_what_is_printed() {
    let page = include_str!("../../../docs/tailnet-policy.md");
    let text = printed(&config(), &[]);
    assert!(
        page.contains(&format!("```jsonc\n{text}```\n")),
        "docs/tailnet-policy.md shows another policy than\n{text}"
    );
}

#[test]
fn every_template_is_used_and_described() {
    let templates = include_str!("../../../acl/blocks.hujson");
    let used: BTreeSet<&str> = blocks_of(
        &with_targets(),
        &["--operators", "group:ops", "--approvers", "group:ops", "--target-tag", "tag:server"],
    )
    .iter()
    .chain(&blocks_of(&with_targets(), &[]))
    .map(|block| block.template)
    .chain(["head"])
    .collect();
    let there: BTreeSet<&str> = templates.lines().filter_map(|line| line.strip_prefix("//# ")).collect();
    assert_eq!(there, used);
}

//! A shell in the running lab, for people: `just lab-shell`.

use std::{fmt::Write, path::Path, process::Command};

use crate::{
    gateway::BINARY,
    node::Node,
    over::lend,
    site::{Site, Way},
};

/// Names the shell that is wanted.
const WANTED: &str = "TAILOPS_LAB_SHELL";
/// The way the gateway is on the tailnet meanwhile: what production uses, where it is built in.
#[cfg(feature = "embedded")]
const WAY: Way = Way::Embedded;
#[cfg(not(feature = "embedded"))]
const WAY: Way = Way::Host;

#[test]
fn the_lab_stands_open_to_people() {
    lend(WAY, |site| open(site));
}

fn open(site: &Site) {
    let text = introduction(site);
    for name in ["control", "alice", "bob", "agent", "thief", "gateway", "web"] {
        assert!(text.contains(&format!("\n  {name} ")), "{text}");
    }
    // Everything the introduction promises works in the shell that people get.
    let output = shell(site, "bash").args(["-c", CHECK]).output().unwrap();
    let (said, faults) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{faults}");
    // Nothing but the last command needs curl.
    let has_curl = Command::new("curl").arg("--version").output().is_ok();
    for wanted in ["alice@example.com", "10.99.0.", if has_curl { "\"subject\":\"me\"" } else { "token.mint" }] {
        assert!(said.contains(wanted), "no {wanted}: {said}{faults}");
    }
    if let Some(wanted) = std::env::var_os(WANTED) {
        println!("{text}");
        let status = shell(site, wanted.to_str().unwrap()).arg("-i").status().unwrap();
        println!("the shell ended with {status}; the lab goes down");
    }
}

/// Each command of the introduction.
const CHECK: &str = r#"set -euo pipefail
. "$LAB_COMMANDS"
on alice ip -brief address
ts gateway whois "$(ts alice ip -4)"
hs nodes list
token=$(ops token mint --agent me --scopes readonly --ttl 1h --bind user:alice@example.com)
! command -v curl >/dev/null || mcp alice "$token" token_inspect
ops audit query
"#;

fn shell(site: &Site, program: &str) -> Command {
    let commands = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/commands.sh");
    let lab = site.lab;
    let mut command = Command::new(program);
    command.arg("--rcfile").arg(&commands).env("LAB_COMMANDS", &commands);
    command.env("LAB_PREFIX", lab.run.namespace("")).env("LAB_DIRECTORY", lab.run.directory());
    command.env("LAB_TAILSCALE", &lab.parts.tailscale).env("LAB_HEADSCALE", &lab.parts.headscale);
    command.env("LAB_TAILOPS", BINARY).env("LAB_DATA", site.gateway.data()).env("LAB_URL", site.url());
    command
}

fn introduction(site: &Site) -> String {
    let lab = site.lab;
    let mut text = format!(
        "The lab is up, with its files in {}, until this shell ends.\n\
         The gateway serves {} and {}.\n\n\
         on MACHINE COMMAND…                 runs a command on a machine\n\
         ts NODE ARGUMENT…                   runs tailscale against a node\n\
         hs ARGUMENT…                        runs headscale's command line\n\
         ops ARGUMENT…                       runs tailops on the gateway's data\n\
         mcp NODE TOKEN TOOL [ARGUMENTS]     calls a tool from a node, with curl\n\n",
        lab.run.directory().display(),
        site.url(),
        site.name,
    );
    let control = &lab.control.machine;
    let _ = writeln!(text, "  {:8} {:13} {:13} headscale, the control server", control.name, control.address, "");
    let nodes: [(&Node, &str); 6] = [
        (&lab.gateway, "tag:tailops; the gateway runs here"),
        (&lab.alice, "alice@example.com; may do anything at the gateway"),
        (&lab.bob, "bob@example.com; nothing is granted to him"),
        (&lab.agent, "tag:mcp-client; may look"),
        (&lab.thief, "tag:mcp-client; may look"),
        (&lab.web, "tag:web, in user space; the gateway reaches its port 22"),
    ];
    for (node, what) in nodes {
        let machine = &node.machine;
        let _ = writeln!(text, "  {:8} {:13} {:13} {what}", machine.name, machine.address, node.ipv4());
    }
    let _ = write!(text, "\n  ops token mint --agent me --scopes readonly --ttl 1h --bind user:alice@example.com");
    text
}

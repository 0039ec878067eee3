//! A shell in the running lab, for people: `just lab-shell`.

use std::{fmt::Write, process::Command};

use crate::{
    lab::{Lab, turn},
    node::Node,
};

/// Names the shell that is wanted.
const WANTED: &str = "TAILOPS_LAB_SHELL";

#[test]
fn the_lab_stands_open_to_people() {
    let Some(lab) = turn() else { return };
    let text = introduction(&lab);
    for name in ["alice", "bob", "agent", "thief", "gateway", "web"] {
        assert!(text.contains(&format!("\n  {name} ")), "{text}");
    }
    // Everything the introduction promises works in the shell that people get.
    let output = shell(&lab, "bash").args(["-c", CHECK]).output().unwrap();
    let (said, faults) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("alice@example.com"), "{said}{faults}");
    if let Some(wanted) = std::env::var_os(WANTED) {
        println!("{text}");
        let status = shell(&lab, wanted.to_str().unwrap()).arg("-i").status().unwrap();
        println!("the shell ended with {status}; the lab goes down");
    }
}

/// One line a command of the introduction.
const CHECK: &str = r#"set -e
. "$TAILOPS_LAB_COMMANDS"
on alice true
ts gateway whois "$(ts alice ip -4)"
hs nodes list
"#;

fn shell(lab: &Lab, program: &str) -> Command {
    let (parts, directory) = (&lab.parts, lab.run.directory());
    let commands = directory.join("commands");
    let text = format!(
        "on() {{ local where=$1; shift; ip netns exec '{}'\"$where\" \"$@\"; }}\n\
         ts() {{ local node=$1; shift; '{}' --socket='{}'/\"$node\"/ts.sock \"$@\"; }}\n\
         hs() {{ '{}' -c '{}'/control/config.yaml \"$@\"; }}\n\
         PS1='lab \\$ '\n",
        lab.run.namespace(""),
        parts.tailscale.display(),
        directory.display(),
        parts.headscale.display(),
        directory.display(),
    );
    std::fs::write(&commands, text).unwrap();
    let mut command = Command::new(program);
    command.arg("--rcfile").arg(&commands).env("TAILOPS_LAB_COMMANDS", &commands);
    command
}

fn introduction(lab: &Lab) -> String {
    let mut text = format!(
        "The lab is up, with its files in {}, until this shell ends.\n\n\
         on MACHINE COMMAND…   runs a command on a machine\n\
         ts NODE ARGUMENT…     runs tailscale against a node\n\
         hs ARGUMENT…          runs headscale's command line\n\n",
        lab.run.directory().display()
    );
    let control = &lab.control.machine;
    let _ = writeln!(text, "  {:8} {:13} headscale, the control server", control.name, control.address);
    let nodes: [(&Node, &str); 6] = [
        (&lab.gateway, "tag:tailops; start gateways here"),
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
    text
}

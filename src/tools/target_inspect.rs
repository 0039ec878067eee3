//! `target_inspect`: one target as the registry knows it, as it answers now and as it did when it was last read. Never changes anything, and asks sudo
//! only where the target's policy lets it be used.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    fleet_summarize::Condition,
    kit::{Host, arguments, data, schema_of, script},
    procfs::{Parts, capped, pairs},
};
use crate::model::{
    Connection, Content, Effect, Missing, Operation, RawOutput, Risk, Scope, Script, Step, StepOutput, Target,
    TargetId, Template,
};

/// The tool.
pub(super) struct TargetInspect;

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// From fleet_list
    target: String,
}

/// The registry's view and the target's own answer.
#[derive(Serialize, JsonSchema)]
struct Data {
    registry: Registered,
    probe: Probe,
    /// How it did when the fleet was last read; this call does not add to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    known: Option<Condition>,
}

#[derive(Serialize, JsonSchema)]
struct Registered {
    #[schemars(with = "String")]
    id: TargetId,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<String>,
    tags: Vec<String>,
    /// What may be done to it, whatever a token says.
    capabilities: Vec<&'static str>,
    /// The directories that file tools stay inside.
    roots: Vec<String>,
    limits: Limits,
    /// `none`, `limited` or `full`.
    sudo: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<Reached>,
}

/// Where it is and what it must prove. Never where the gateway keeps a key.
#[derive(Serialize, JsonSchema)]
struct Reached {
    host: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// `key`, `certificate`, or `gateway`: a certificate that the gateway makes.
    login: &'static str,
    /// Fingerprints of the host keys that were enrolled.
    host_keys: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    jump: Option<TargetId>,
}

#[derive(Serialize, JsonSchema)]
struct Limits {
    /// The longest one step may take.
    timeout_s: u64,
    /// The most steps at the same time.
    concurrency: usize,
}

/// Absent is what could not be had; `partial` says why.
#[derive(Default, Serialize, JsonSchema)]
struct Probe {
    /// Whether it answered: true, since a target that does not is an error.
    reachable: bool,
    /// From connecting to the script's end.
    took_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    os: Option<String>,
    /// System, release and machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<String>,
    /// New with every boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    boot_id: Option<String>,
    /// Whom commands run as.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    groups: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    systemd: Option<Systemd>,
    /// Whether the system journal may be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    journal_readable: Option<bool>,
    /// Of the programs that tools here make use of, those that are there.
    tools: Vec<String>,
    /// Whether sudo would run anything without a password; absent where the policy is `none`, for it is not tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    sudo_possible: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
struct Systemd {
    /// As it names itself, e.g. 252.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// Whether it is what runs the services.
    running: bool,
}

const SPEC: Spec = Spec {
    name: "target_inspect",
    title: "Inspect a target",
    help: "Shows one target: its registration (capabilities, file roots, limits, sudo policy) and a live probe (system, login user, systemd, journal access, programs present), health and findings as last read.",
    scopes: &[Scope::FleetRead],
    risk: Risk::Low,
    effect: Effect::Read,
    kind: Kind::Host,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

/// Sections `host`, `systemd`, `journal` and `sudo`: a word and its value a line. Section `tools`: a program a line.
/// Arguments: 1 where sudo may be asked, then the programs to look for.
const TEMPLATE: Template = Template { id: "target_inspect.v1", stdin: false, body: include_str!("target_inspect.sh") };

/// The programs that scripts use where they are there.
const PROGRAMS: &[&str] = &[
    "apt-get",
    "awk",
    "curl",
    "df",
    "docker",
    "dpkg-query",
    "find",
    "findmnt",
    "getent",
    "grep",
    "ip",
    "iptables-save",
    "journalctl",
    "lsblk",
    "nft",
    "openssl",
    "ping",
    "podman",
    "sed",
    "sha256sum",
    "ss",
    "sudo",
    "systemctl",
    "systemd-detect-virt",
    "systemd-run",
    "tailscale",
    "tar",
    "timedatectl",
    "tracepath",
    "who",
];

impl Tool for TargetInspect {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        let target = Host::find(context, &args.target)?;
        let sudo = if target.sudo.is_used() { "1" } else { "0" };
        let script = Script::new(&TEMPLATE, [sudo].iter().chain(PROGRAMS).copied());
        SPEC.operation(context, Some(target), &args, vec![Step::Script(script)])
    }

    fn recalls(&self) -> bool {
        true
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let target = raw.operation.target.as_deref().ok_or_else(|| ToolError::unreadable("no target"))?;
        let output = script(raw, 0)?;
        let parts = Parts::of(output)?;
        let mut partial = parts.missing();
        let known = recalled(raw, &mut partial)?;
        let data = data(&Data { registry: registered(target), probe: probe(&parts, output.duration), known })?;
        Ok(Content { partial, truncated: output.stdout.dropped() > 0, ..Content::new(data) })
    }
}

/// What the gateway remembers; where the caller may not see it, `partial` says why.
fn recalled(raw: &RawOutput, partial: &mut Vec<Missing>) -> Result<Option<Condition>, ToolError> {
    let Some(StepOutput::Answer(answer)) = raw.outputs.get(1) else { return Ok(None) };
    let refused = answer.get("refused").and_then(Value::as_str);
    partial.extend(refused.map(|code| Missing { section: "known".to_owned(), reason: code.to_owned() }));
    let known = answer.get("known").map(Condition::deserialize).transpose();
    known.map_err(|error| ToolError::new("internal", format!("what is known cannot be shown: {error}")))
}

fn registered(target: &Target) -> Registered {
    Registered {
        id: target.id.clone(),
        kind: target.kind.as_str(),
        segment: target.segment.clone(),
        tags: target.tags.clone(),
        capabilities: target.capabilities.granted().map(Scope::as_str).collect(),
        roots: target.roots.iter().map(|root| root.display().to_string()).collect(),
        limits: Limits { timeout_s: target.timeout.as_secs(), concurrency: target.concurrency },
        sudo: target.sudo.as_str(),
        connection: target.connection().map(reached),
    }
}

fn reached(connection: &Connection) -> Reached {
    Reached {
        host: connection.host.clone(),
        port: connection.port,
        user: connection.username.clone(),
        login: match (&connection.key, &connection.certificate) {
            (Some(_), Some(_)) => "certificate",
            (Some(_), None) => "key",
            (None, _) => "gateway",
        },
        host_keys: connection.host_keys.iter().map(ToString::to_string).collect(),
        node_id: connection.node.clone(),
        jump: connection.jump.clone(),
    }
}

fn probe(parts: &Parts, took: Duration) -> Probe {
    let host = parts.text("host").unwrap_or_default();
    let host = pairs(&host);
    let word = |key: &str| host.get(key).map(|value| capped(value, 256));
    let flag = |section: &str, key: &str| {
        let text = parts.text(section)?;
        match pairs(&text).get(key).copied() {
            Some("1") => Some(true),
            Some("0") => Some(false),
            _ => None,
        }
    };
    let version = parts.text("systemd").and_then(|text| pairs(&text).get("version").map(|value| capped(value, 64)));
    let tools = parts.text("tools").unwrap_or_default();
    let kernel: Vec<String> = ["system", "kernel", "machine"].iter().filter_map(|key| word(key)).collect();
    Probe {
        reachable: parts.text("host").is_some(),
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        hostname: word("hostname"),
        os: word("os"),
        kernel: (!kernel.is_empty()).then(|| kernel.join(" ")),
        boot_id: word("boot_id"),
        user: word("user"),
        groups: host.get("groups").map(|names| names.split(' ').map(str::to_owned).collect()).unwrap_or_default(),
        systemd: flag("systemd", "running").map(|running| Systemd { version, running }),
        journal_readable: flag("journal", "readable"),
        tools: tools.lines().filter(|line| PROGRAMS.contains(line)).map(str::to_owned).collect(),
        sudo_possible: flag("sudo", "possible"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{
        super::rig::{AS_NOBODY, MARKER, Rig, call, conforms, fits_budget, plan, plan_exactly, recorded},
        *,
    };

    #[test]
    fn bad_arguments_are_named() {
        assert_eq!(plan(&TargetInspect, json!({"target": "elsewhere"})).unwrap_err().code, "unknown_target");
        let error = plan(&TargetInspect, json!({"target": "here", "refresh": true})).unwrap_err();
        assert!(error.message.contains("refresh"), "{error}");
        assert!(plan_exactly(&TargetInspect, &json!({})).unwrap_err().message.contains("target"));
    }

    #[test]
    fn registry_and_live_probe_stand_side_by_side() {
        let content = call(&TargetInspect, json!({"target": "here"})).unwrap();
        assert_eq!(content.data["registry"]["capabilities"], json!(["system:control", "fleet:read"]));
        assert_eq!(content.data["registry"]["limits"], json!({"timeout_s": 60, "concurrency": 2}));
        let probe = &content.data["probe"];
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        assert_eq!(probe["boot_id"], boot.trim());
        assert_eq!(probe["reachable"], true);
        assert!(probe["kernel"].as_str().unwrap().starts_with("Linux "), "{probe}");
        assert!(probe["tools"].as_array().unwrap().contains(&json!("awk")), "{probe}");
        assert!(probe.get("sudo_possible").is_none(), "sudo is not asked where the policy is none");
    }

    #[test]
    fn it_shows_the_login_user_and_asks_sudo_only_by_policy() {
        let content = Rig::with_sudo().call(&TargetInspect, json!({"target": "here"})).unwrap();
        let missing = content.partial.iter().any(|missing| missing.section == "sudo");
        assert!(missing != content.data["probe"].get("sudo_possible").is_some(), "{content:?}");
        if rustix::process::geteuid().is_root() {
            let content = Rig::new().under(AS_NOBODY).call(&TargetInspect, json!({"target": "here"})).unwrap();
            assert_eq!(content.data["probe"]["user"], "nobody");
            assert_eq!(content.data["probe"]["groups"], json!(["nogroup"]));
        }
    }

    #[test]
    fn what_is_missing_is_absent_and_said() {
        let operation = plan(&TargetInspect, json!({"target": "here"})).unwrap();
        let stdout = format!(
            "\n{MARKER} host\nhostname a\nhostname b\nos \n{MARKER}x systemd\n\n{MARKER} !systemd no_systemd\n\
             \n{MARKER} !journal no_journal\n\n{MARKER} tools\nawk\nevil tool\n"
        );
        let content = TargetInspect.render(&recorded(operation, stdout, "")).unwrap();
        conforms(&TargetInspect, &content.data);
        let expected = json!({"reachable": true, "took_ms": content.data["probe"]["took_ms"], "hostname": "a", "groups": [], "tools": ["awk"]});
        assert_eq!(content.data["probe"], expected);
        assert_eq!(content.partial.len(), 2);
    }

    #[test]
    fn the_definition_is_short() {
        fits_budget(&TargetInspect);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let operation = plan(&TargetInspect, json!({"target": "here"})).unwrap();
            let mut stdout = Vec::new();
            for name in ["host", "systemd", "journal", "tools", "sudo"] {
                stdout.extend_from_slice(format!("\n{MARKER} {name}\n").as_bytes());
                stdout.extend_from_slice(&bytes);
            }
            conforms(&TargetInspect, &TargetInspect.render(&recorded(operation, stdout, "")).unwrap().data);
        }
    }
}

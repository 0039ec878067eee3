//! `host_inspect`: what a host is and how it does, measured now. Changes nothing and needs no rights.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    kit::{Host, arguments, data, schema_of, script},
    procfs::Parts,
};
use crate::model::{Content, Effect, Missing, Operation, RawOutput, Risk, Scope, Script, Step, Template};

mod load;
mod storage;
mod system;

/// The tool.
pub(super) struct HostInspect;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Part {
    Os,
    Cpu,
    Mem,
    Swap,
    Load,
    Psi,
    Fs,
    Block,
    Time,
    Reboot,
    Sessions,
    Virtualization,
}

impl Part {
    /// In the order they are asked for: what may be long comes last.
    const ORDER: [Self; 12] = [
        Self::Cpu,
        Self::Os,
        Self::Mem,
        Self::Swap,
        Self::Load,
        Self::Psi,
        Self::Time,
        Self::Reboot,
        Self::Virtualization,
        Self::Sessions,
        Self::Block,
        Self::Fs,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Os => "os",
            Self::Cpu => "cpu",
            Self::Mem => "mem",
            Self::Swap => "swap",
            Self::Load => "load",
            Self::Psi => "psi",
            Self::Fs => "fs",
            Self::Block => "block",
            Self::Time => "time",
            Self::Reboot => "reboot",
            Self::Sessions => "sessions",
            Self::Virtualization => "virtualization",
        }
    }

    /// Where its values stand in the answer: each is there, or `partial` names it.
    fn values(self) -> &'static [&'static str] {
        match self {
            Self::Os => &["hostname", "os", "kernel", "uptime_s", "boot_id"],
            Self::Cpu => &["cpu", "cpu.n", "cpu.model", "cpu.used_pct"],
            Self::Mem => &["mem", "mem.available", "mem.used_pct"],
            Self::Swap => &["swap"],
            Self::Load => &["load"],
            Self::Psi => &["psi.cpu", "psi.memory", "psi.io"],
            Self::Fs => &["fs"],
            Self::Block => &["block"],
            Self::Time => &["time", "time.tz", "time.utc_offset", "time.synced"],
            Self::Reboot => &["reboot"],
            Self::Sessions => &["sessions"],
            Self::Virtualization => &["virtualization", "virtualization.vm", "virtualization.container"],
        }
    }
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// From fleet_list
    target: String,
    /// Default: all. os: with kernel, uptime and boot id
    #[serde(default = "all")]
    sections: Vec<Part>,
}

fn all() -> Vec<Part> {
    Part::ORDER.to_vec()
}

/// Bytes and percent throughout. What was not asked for is absent; what could not be had is absent and in `partial`.
#[derive(Default, Serialize, JsonSchema)]
struct Data {
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    os: Option<system::Os>,
    /// System, release and machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime_s: Option<u64>,
    /// New with every boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    boot_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<load::Cpu>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mem: Option<load::Mem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    swap: Option<load::Swap>,
    /// Averages over 1, 5 and 15 minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    load: Option<[f64; 3]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<load::Psi>,
    /// Without pseudo file systems.
    #[serde(skip_serializing_if = "Option::is_none")]
    fs: Option<Vec<storage::FileSystem>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block: Option<Vec<storage::Device>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<system::Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reboot: Option<system::Reboot>,
    /// Who is logged in.
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions: Option<Vec<system::Session>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtualization: Option<system::Virtualization>,
}

const SPEC: Spec = Spec {
    name: "host_inspect",
    title: "Inspect a host",
    help: "Shows a host's system and state: CPU use measured now, memory, load, pressure, file systems, disks, time, pending reboot, sessions. Start here when a host misbehaves.",
    scopes: &[Scope::SystemRead],
    risk: Risk::Low,
    effect: Effect::Read,
    kind: Kind::Host,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

/// The arguments are the sections, each prepared as the parsers below read it: `host`, `cpu`, `time`, `synced`,
/// `reboot` and `virtualization` as a word and its value a line, `os`, `mem`, `swap`, `load` and `psi.*` as the
/// system's own files, `fs`, `block`, `sessions`, `packages` and `mounts` as the programs print them.
const TEMPLATE: Template = Template { id: "host_inspect.v1", stdin: false, body: include_str!("host_inspect.sh") };

impl Tool for HostInspect {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let mut args: Args = arguments(raw)?;
        if args.sections.is_empty() {
            return Err(ToolError::invalid("sections", "must name at least one section, or be left out"));
        }
        args.sections = Part::ORDER.into_iter().filter(|part| args.sections.contains(part)).collect();
        let target = Host::find(context, &args.target)?;
        let script = Script::new(&TEMPLATE, args.sections.iter().map(|part| part.as_str()));
        SPEC.operation(context, Some(target), &args, vec![Step::Script(script)])
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let args: Args = arguments(&raw.operation.arguments)?;
        let output = script(raw, 0)?;
        let parts = Parts::of(output)?;
        let mut partial = parts.missing();
        let mut shown = Data::default();
        for part in &args.sections {
            match part {
                Part::Os => {
                    let host = parts.text("host").unwrap_or_default();
                    let host = system::Host::read(&host);
                    shown.hostname = host.hostname;
                    shown.kernel = host.kernel;
                    shown.uptime_s = host.uptime_s;
                    shown.boot_id = host.boot_id;
                    shown.os = parts.text("os").and_then(|text| system::Os::read(&text));
                }
                Part::Cpu => shown.cpu = parts.text("cpu").and_then(|text| load::Cpu::read(&text)),
                Part::Mem => shown.mem = parts.text("mem").and_then(|text| load::Mem::read(&text)),
                Part::Swap => shown.swap = parts.text("swap").and_then(|text| load::Swap::read(&text)),
                Part::Load => shown.load = parts.text("load").and_then(|text| load::averages(&text)),
                Part::Psi => shown.psi = load::Psi::read(&parts),
                Part::Fs => shown.fs = storage::file_systems(&parts, &mut partial),
                Part::Block => shown.block = parts.text("block").and_then(|text| storage::devices(&text)),
                Part::Time => shown.time = system::Time::read(&parts),
                Part::Reboot => shown.reboot = system::Reboot::read(&parts),
                Part::Sessions => shown.sessions = system::sessions(&parts, &mut partial),
                Part::Virtualization => {
                    shown.virtualization = parts.text("virtualization").map(|text| system::Virtualization::read(&text));
                }
            }
        }
        let data = data(&shown)?;
        name_what_lacks(&args.sections, &data, &mut partial);
        Ok(Content { partial, truncated: output.stdout.dropped() > 0, ..Content::new(data) })
    }
}

/// Puts every value that was asked for and is not there into `partial`, unless a reason for it or for what it belongs
/// to stands there already.
fn name_what_lacks(sections: &[Part], data: &Value, partial: &mut Vec<Missing>) {
    for value in sections.iter().flat_map(|part| part.values()) {
        let there = data.pointer(&format!("/{}", value.replace('.', "/"))).is_some();
        let parent = value.split_once('.').map(|(parent, _)| parent);
        let said = partial.iter().any(|missing| missing.section == *value || Some(missing.section.as_str()) == parent);
        if !there && !said {
            partial.push(Missing { section: (*value).into(), reason: "unreadable_output".into() });
        }
    }
}

#[cfg(test)]
mod tests;

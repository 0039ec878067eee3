//! `network_inspect`: interfaces, routes, neighbours, sockets, resolver, counters, firewall and tailnet of a host. Sends
//! nothing to the network and changes nothing.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    kit::{Host, arguments, data, plain, schema_of, script},
    systemd::{missing, section, sudo_word},
};
use crate::model::{Content, Effect, Missing, Operation, RawOutput, Risk, Scope, Script, Section, Step, Template};

mod links;
mod sockets;
mod tailnet;

use links::{Dns, Interface, Neighbour, Route, Traffic};
use sockets::Socket;
use tailnet::Tailnet;

/// The tool.
pub(super) struct NetworkInspect;

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Part {
    Interfaces,
    Routes,
    Neighbours,
    Sockets,
    Dns,
    Counters,
    Firewall,
    Tailnet,
}

impl Part {
    /// In the order they are asked for: what may be long comes last.
    const ORDER: [Self; 8] = [
        Self::Interfaces,
        Self::Routes,
        Self::Neighbours,
        Self::Dns,
        Self::Counters,
        Self::Firewall,
        Self::Tailnet,
        Self::Sockets,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Interfaces => "interfaces",
            Self::Routes => "routes",
            Self::Neighbours => "neighbours",
            Self::Sockets => "sockets",
            Self::Dns => "dns",
            Self::Counters => "counters",
            Self::Firewall => "firewall",
            Self::Tailnet => "tailnet",
        }
    }
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    target: String,
    /// Default: all but firewall, which needs security:read too
    #[serde(default = "sections")]
    sections: Vec<Part>,
    /// Only sockets with this port at either end
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u16", range(min = 1))]
    port: Option<u16>,
    /// Part of the name
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    process: Option<String>,
}

fn sections() -> Vec<Part> {
    Part::ORDER.into_iter().filter(|part| *part != Part::Firewall).collect()
}

/// A section that was not asked for, or could not be had (`partial` says which), is null.
#[derive(Default, Serialize, JsonSchema)]
struct Data {
    interfaces: Option<Vec<Interface>>,
    /// Without the kernel's own local, broadcast and multicast routes
    routes: Option<Vec<Route>>,
    neighbours: Option<Vec<Neighbour>>,
    listen: Option<Vec<Socket>>,
    /// Only where port or process narrows them
    connections: Option<Vec<Socket>>,
    /// How many connections are in each state
    conns_summary: Option<BTreeMap<String, u32>>,
    dns: Option<Dns>,
    counters: Option<Counters>,
    firewall: Option<Firewall>,
    tailnet: Option<Tailnet>,
}

#[derive(Default, Serialize, JsonSchema)]
struct Counters {
    interfaces: Vec<Traffic>,
    /// Since boot, e.g. TcpRetransSegs
    protocols: BTreeMap<String, i64>,
}

#[derive(Serialize, JsonSchema)]
struct Firewall {
    /// nft or iptables
    source: String,
    /// nft: its JSON objects; iptables: the lines of iptables-save
    rules: Vec<Value>,
}

/// The most connections that are listed one by one.
const CONNECTIONS: usize = 200;

const SPEC: Spec = Spec {
    name: "network_inspect",
    title: "Inspect the network of a host",
    help: "Addresses, routes, neighbours, listening sockets with process, connections by state, DNS, counters, firewall, tailnet. With port or process: matching sockets.",
    scopes: &[Scope::NetworkRead],
    risk: Risk::Low,
    effect: Effect::Read,
    kind: Kind::Host,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

/// `$1` sudo|direct, then the sections.
const TEMPLATE: Template =
    Template { id: "network_inspect.v1", stdin: false, body: include_str!("network_inspect/inspect.sh") };

impl Tool for NetworkInspect {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let mut args: Args = arguments(raw)?;
        if args.sections.is_empty() {
            return Err(ToolError::invalid("sections", "must name at least one section, or be left out"));
        }
        args.sections = Part::ORDER.into_iter().filter(|part| args.sections.contains(part)).collect();
        if args.port == Some(0) {
            return Err(ToolError::invalid("port", "must be from 1 to 65535, not 0"));
        }
        if let Some(process) = &args.process {
            plain("process", process, 64)?;
        }
        if (args.port.is_some() || args.process.is_some()) && !args.sections.contains(&Part::Sockets) {
            return Err(ToolError::invalid("sections", "must contain sockets where port or process is given"));
        }
        let target = Host::find(context, &args.target)?;
        let words = std::iter::once(sudo_word(&target)).chain(args.sections.iter().map(|part| part.as_str()));
        let script = Script::new(&TEMPLATE, words);
        let mut operation = SPEC.operation(context, Some(target), &args, vec![Step::Script(script)])?;
        if args.sections.contains(&Part::Firewall) {
            operation.scopes = &[Scope::NetworkRead, Scope::SecurityRead];
        }
        Ok(operation)
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let args: Args = arguments(&raw.operation.arguments)?;
        let output = script(raw, 0)?;
        let sections = Sections(output.sections());
        let mut content = Content { partial: missing(&sections.0), ..Content::default() };
        if output.stdout.dropped() > 0 {
            content.truncated = true;
            content.warnings.push("the answer was too long to be read in full".into());
        }
        let mut shown = Data::default();
        for part in &args.sections {
            let had = match part {
                Part::Interfaces => sections.interfaces().map(|found| shown.interfaces = Some(found)),
                Part::Routes => sections.routes().map(|found| shown.routes = Some(found)),
                Part::Neighbours => sections.neighbours().map(|found| shown.neighbours = Some(found)),
                Part::Dns => sections.text("dns").map(|text| shown.dns = Some(links::dns(&text))),
                Part::Counters => sections.counters().map(|found| shown.counters = Some(found)),
                Part::Firewall => sections.firewall().map(|found| shown.firewall = Some(found)),
                Part::Tailnet => sections.text("tailnet").and_then(|json| tailnet::status(&json)).map(|found| {
                    let left = found.peer_count - found.peers.len();
                    if left > 0 {
                        content.truncated = true;
                        content.warnings.push(format!("{left} further peers of the tailnet are only counted"));
                    }
                    shown.tailnet = Some(found);
                }),
                Part::Sockets => sections.sockets().map(|found| sort_sockets(&args, found, &mut shown, &mut content)),
            };
            let name = part.as_str();
            if had.is_none() && !content.partial.iter().any(|missing| missing.section == name) {
                content.partial.push(Missing { section: name.into(), reason: "unreadable_output".into() });
            }
        }
        content.data = data(&shown)?;
        Ok(content)
    }
}

/// Lists what listens, counts what talks, and lists that too where it was narrowed.
fn sort_sockets(args: &Args, found: Vec<Socket>, shown: &mut Data, content: &mut Content) {
    let wanted = |socket: &Socket| {
        args.port.is_none_or(|port| socket.port == Some(port) || socket.peer_port == Some(port))
            && args
                .process
                .as_deref()
                .is_none_or(|name| socket.process.as_deref().is_some_and(|own| own.contains(name)))
    };
    let (listen, mut other): (Vec<Socket>, Vec<Socket>) = found.into_iter().filter(wanted).partition(Socket::listens);
    let mut states = BTreeMap::new();
    for socket in &other {
        *states.entry(socket.state.clone()).or_insert(0) += 1;
    }
    shown.listen = Some(listen);
    shown.conns_summary = Some(states);
    if args.port.is_some() || args.process.is_some() {
        if other.len() > CONNECTIONS {
            content.truncated = true;
            content.warnings.push(format!("{} further connections are only counted", other.len() - CONNECTIONS));
            other.truncate(CONNECTIONS);
        }
        shown.connections = Some(other);
    }
}

/// The script's sections, each in the form that the host's tools could give.
struct Sections(Vec<Section>);

impl Sections {
    fn text(&self, name: &str) -> Option<String> {
        section(&self.0, name).filter(|section| section.content.is_ok()).map(|section| section.text().into_owned())
    }

    fn interfaces(&self) -> Option<Vec<Interface>> {
        match self.text("interfaces.ip") {
            Some(json) => links::interfaces_from_ip(&json),
            None => {
                let inet6 = self.text("interfaces.inet6").unwrap_or_default();
                self.text("interfaces.sys").map(|text| links::interfaces_from_sys(&text, &inet6))
            }
        }
    }

    fn routes(&self) -> Option<Vec<Route>> {
        let mut routes = Vec::new();
        let mut any = false;
        for (name, family) in [("routes.ip4", 4), ("routes.ip6", 6)] {
            if let Some(json) = self.text(name) {
                routes.extend(links::routes_from_ip(&json, family)?);
                any = true;
            }
        }
        if let Some(table) = self.text("routes.proc4") {
            routes.extend(links::routes_from_proc4(&table));
            any = true;
        }
        if let Some(table) = self.text("routes.proc6") {
            routes.extend(links::routes_from_proc6(&table));
            any = true;
        }
        any.then_some(routes)
    }

    fn neighbours(&self) -> Option<Vec<Neighbour>> {
        match self.text("neighbours.ip") {
            Some(json) => links::neighbours_from_ip(&json),
            None => self.text("neighbours.proc").map(|table| links::neighbours_from_proc(&table)),
        }
    }

    fn counters(&self) -> Option<Counters> {
        let interfaces = self.text("counters.dev").map(|table| links::traffic(&table))?;
        let protocols = self.text("counters.snmp").map(|table| links::protocols(&table)).unwrap_or_default();
        Some(Counters { interfaces, protocols })
    }

    fn firewall(&self) -> Option<Firewall> {
        if let Some(json) = self.text("firewall.nft") {
            let ruleset: Value = serde_json::from_str(&json).ok()?;
            let rules = ruleset.get("nftables")?.as_array()?.clone();
            return Some(Firewall { source: "nft".into(), rules });
        }
        let lines = self.text("firewall.iptables")?;
        let rules = lines.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(Value::from).collect();
        Some(Firewall { source: "iptables".into(), rules })
    }

    fn sockets(&self) -> Option<Vec<Socket>> {
        let mut found = Vec::new();
        let mut any = false;
        for name in ["sockets.listen", "sockets.other"] {
            if let Some(text) = self.text(name) {
                found.extend(text.lines().filter_map(sockets::from_ss));
                any = true;
            }
        }
        for protocol in ["tcp", "tcp6", "udp", "udp6"] {
            if let Some(text) = self.text(&format!("sockets.{protocol}")) {
                found.extend(text.lines().filter_map(|line| sockets::from_proc(protocol, line)));
                any = true;
            }
        }
        any.then_some(found)
    }
}

#[cfg(test)]
mod tests;

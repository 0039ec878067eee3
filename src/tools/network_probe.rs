//! `network_probe`: does an address answer, a port take connections, a name resolve, a server show the right
//! certificate? One host and one port a call; never a range, and nothing is said to whoever answers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    kit::{Host as Targets, arguments, data, schema_of, script, within},
    probes::{Tls, Trouble, Vantage, addresses, checked, gateways_part, ms, refusal, rounded, trouble},
    systemd::{missing, section},
};
use crate::model::{
    AddressRules, Content, Effect, Findings, Host, Missing, Operation, Probe, ProbeKind, RawOutput, Risk, Scope,
    Script, ScriptOutput, Step, Template, Via,
};

mod printed;

/// The tool.
pub(super) struct NetworkProbe;

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Ask {
    Ping,
    Tcp,
    Dns,
    Trace,
    Tls,
}

impl Ask {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Tcp => "tcp",
            Self::Dns => "dns",
            Self::Trace => "trace",
            Self::Tls => "tls",
        }
    }
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    target: String,
    kind: Ask,
    /// Name or address
    host: String,
    /// For tcp and tls (443)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u16", range(min = 1))]
    port: Option<u16>,
    /// For ping and tcp; default 3
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 10))]
    count: Option<u32>,
    /// Who probes
    #[serde(default)]
    from: Vantage,
}

/// What does not belong to the kind of probe is null.
#[derive(Serialize, JsonSchema)]
struct Data {
    kind: Ask,
    host: String,
    from: Vantage,
    /// Whether it answered; null where the probe could not be made
    ok: Option<bool>,
    error: Option<Trouble>,
    /// All of the host's; the first was used
    addresses: Vec<String>,
    rtt_ms: Option<Rtt>,
    /// Share of tries without answer, 0 to 1
    loss: Option<f64>,
    hops: Option<Vec<Hop>>,
    tls: Option<Tls>,
}

#[derive(Clone, Copy, PartialEq, Debug, Serialize, JsonSchema)]
struct Rtt {
    min: f64,
    avg: f64,
    max: f64,
}

impl Rtt {
    /// Of these times in milliseconds; none of none.
    fn of(times: &[f64]) -> Option<Self> {
        let (first, rest) = times.split_first()?;
        let min = rest.iter().copied().fold(*first, f64::min);
        let max = rest.iter().copied().fold(*first, f64::max);
        let avg = times.iter().sum::<f64>() / times.len() as f64;
        Some(Self { min: rounded(min), avg: rounded(avg), max: rounded(max) })
    }
}

#[derive(PartialEq, Debug, Serialize, JsonSchema)]
struct Hop {
    hop: u32,
    /// Null where nobody answered
    address: Option<String>,
    rtt_ms: Option<f64>,
}

const SPEC: Spec = Spec {
    name: "network_probe",
    title: "Probe the network",
    help: "Asks one host, from target or gateway: ping, tcp (port open?), dns, trace, tls (certificate, trusted?). Private addresses if the site allows.",
    scopes: &[Scope::NetworkDiag],
    risk: Risk::Moderate,
    effect: Effect::Read,
    kind: Kind::Host,
    idempotent: false,
    open_world: true,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

/// `$1` the checked address, `$2` the kind, `$3` port, `$4` count, `$5` the name for TLS or DNS.
const TEMPLATE: Template =
    Template { id: "network_probe.v1", stdin: false, body: include_str!("network_probe/probe.sh") };

impl Tool for NetworkProbe {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let mut args: Args = arguments(raw)?;
        let host: Host = args.host.parse().map_err(|fault| ToolError::invalid("host", fault))?;
        complete(&mut args, &host)?;
        checked("host", &host, &context.probe.addresses)?;
        args.host = bare(&host);
        let target = Targets::find(context, &args.target)?;
        let step = step(&args, host, context);
        SPEC.operation(context, Some(target), &args, vec![step])
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let args: Args = arguments(&raw.operation.arguments)?;
        let mut shown = Data {
            kind: args.kind,
            host: args.host.clone(),
            from: args.from,
            ok: None,
            error: None,
            addresses: Vec::new(),
            rtt_ms: None,
            loss: None,
            hops: None,
            tls: None,
        };
        let mut content = Content::default();
        let Some(Step::Probe(probe)) = raw.operation.steps.first() else {
            return Err(ToolError::unreadable("a step is missing"));
        };
        let output = gateways_part(raw)?;
        shown.error = trouble(output, &args.host)?;
        shown.addresses = addresses(&output.findings.addresses);
        if shown.error.is_none() && !matches!(probe.via, Via::Native) {
            read_script(&mut shown, &mut content, script(raw, 1)?, &probe.rules)?;
        } else {
            shown.ok = Some(shown.error.is_none());
            read_findings(&mut shown, &output.findings);
        }
        content.data = data(&shown)?;
        Ok(content)
    }
}

/// Fills in what was left out, and refuses what does not belong to this kind.
fn complete(args: &mut Args, host: &Host) -> Result<(), ToolError> {
    match (args.kind, args.port) {
        (Ask::Tcp, None) => return Err(ToolError::invalid("port", "must be given for kind tcp")),
        (Ask::Tcp | Ask::Tls, Some(0)) => return Err(ToolError::invalid("port", "must be from 1 to 65535, not 0")),
        (Ask::Tls, None) => args.port = Some(443),
        (Ask::Ping | Ask::Dns | Ask::Trace, Some(_)) => {
            return Err(ToolError::invalid("port", "must be left out for this kind: it is for tcp and tls"));
        }
        _ => {}
    }
    match (args.kind, args.count) {
        (Ask::Ping | Ask::Tcp, None) => args.count = Some(3),
        (Ask::Ping | Ask::Tcp, Some(count)) => within("count", count, 1..=10)?,
        (_, Some(_)) => {
            return Err(ToolError::invalid("count", "must be left out for this kind: it is for ping and tcp"));
        }
        _ => {}
    }
    if args.kind == Ask::Dns && matches!(host, Host::Address(_)) {
        return Err(ToolError::invalid("host", "must be a name for kind dns, not an address"));
    }
    Ok(())
}

fn step(args: &Args, host: Host, context: &PlanContext<'_>) -> Step {
    let (port, count) = (args.port.unwrap_or_default(), args.count.unwrap_or_default());
    let kind = match args.kind {
        Ask::Ping => ProbeKind::Ping,
        Ask::Tcp => ProbeKind::Tcp { port, count },
        Ask::Dns => ProbeKind::Dns,
        Ask::Trace => ProbeKind::Trace,
        Ask::Tls => ProbeKind::Tls { port },
    };
    let name = match &host {
        // Only these two kinds may know it: TLS to check the certificate against it, DNS to ask for it.
        Host::Name(name) if matches!(args.kind, Ask::Tls | Ask::Dns) => name.clone(),
        _ => String::new(),
    };
    let words = [args.kind.as_str().to_owned(), port.to_string(), count.to_string(), name];
    let script = Script::new(&TEMPLATE, words);
    let via = match (args.from, args.kind) {
        (Vantage::Target, _) => Via::Target(script),
        // The kernel lets most users send echo requests only through the program that is made for it.
        (Vantage::Gateway, Ask::Ping | Ask::Trace) => Via::Here(script),
        (Vantage::Gateway, Ask::Tcp | Ask::Dns | Ask::Tls) => Via::Native,
    };
    Step::Probe(Box::new(Probe { kind, host, via, rules: context.probe.addresses.clone() }))
}

/// Without the brackets that a URL needs.
fn bare(host: &Host) -> String {
    match host {
        Host::Address(ip) => ip.to_string(),
        Host::Name(name) => name.clone(),
    }
}

fn read_findings(shown: &mut Data, found: &Findings) {
    if shown.kind == Ask::Tcp || shown.kind == Ask::Tls {
        let times: Vec<f64> = found.connects.iter().map(|time| ms(*time)).collect();
        shown.rtt_ms = Rtt::of(&times);
        shown.loss = lost(found.tried, u32::try_from(times.len()).unwrap_or(u32::MAX));
    }
    shown.tls = found.tls.clone().map(Tls::from);
}

/// The share of `tried` that is not among `made`; none where nothing was tried.
fn lost(tried: u32, made: u32) -> Option<f64> {
    (tried > 0).then(|| rounded(f64::from(tried.saturating_sub(made)) / f64::from(tried)))
}

fn read_script(
    shown: &mut Data,
    content: &mut Content,
    output: &ScriptOutput,
    rules: &AddressRules,
) -> Result<(), ToolError> {
    let sections = output.sections();
    content.partial = missing(&sections);
    let name = shown.kind.as_str();
    let Some(text) = section(&sections, name).filter(|section| section.content.is_ok()).map(|section| section.text())
    else {
        if content.partial.is_empty() {
            content.partial.push(Missing { section: name.into(), reason: "unreadable_output".into() });
        }
        return Ok(());
    };
    match shown.kind {
        Ask::Ping => {
            if let Some((tried, made, rtt)) = printed::ping(&text) {
                (shown.ok, shown.loss, shown.rtt_ms) = (Some(made > 0), lost(tried, made), rtt);
            } else {
                (shown.ok, shown.error) = (Some(false), Some(Trouble::new("connect", printed::ping_failure(&text))));
            }
        }
        Ask::Tcp => {
            let (times, tried, failure) = printed::tries(&text);
            let made = u32::try_from(times.len()).unwrap_or(u32::MAX);
            (shown.ok, shown.loss, shown.rtt_ms) = (Some(made > 0), lost(tried, made), Rtt::of(&times));
            shown.error = failure.filter(|_| made == 0).map(|word| Trouble::new("connect", word));
        }
        Ask::Trace => {
            let hops = printed::hops(&text);
            // The last line with an address is where the way ended.
            let end = hops.iter().rev().find_map(|hop| hop.address.as_deref());
            shown.ok = Some(end.is_some() && end == shown.addresses.first().map(String::as_str));
            shown.hops = Some(hops);
        }
        Ask::Tls => {
            shown.tls = printed::handshake(&text);
            shown.ok = Some(shown.tls.is_some());
            shown.error = shown.tls.is_none().then(|| Trouble::new("tls", "no_certificate"));
        }
        Ask::Dns => {
            let found = printed::addresses(&text);
            // The target asked its own resolver: what it was told is judged before anybody sees it.
            for ip in &found {
                rules.check(*ip).map_err(|refused| {
                    let (host, what) = (&shown.host, refused.what);
                    refusal(format!("{host} resolves to {what} on the target, which is not shown"), refused)
                })?;
            }
            shown.ok = Some(!found.is_empty());
            shown.error = found.is_empty().then(|| Trouble::new("resolve", "not_found"));
            shown.addresses = addresses(&found);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

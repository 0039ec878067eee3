//! `http_probe`: one HEAD or GET to a URL that the configuration lists. Follows no redirect, sends nothing of the
//! caller's, and shows nothing of the body.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    kit::{Host as Targets, arguments, data, schema_of, script, within},
    probes::{Tls, Trouble, Vantage, checked, gateways_part, ms, refusal, trouble},
    systemd::{missing, section},
};
use crate::model::{
    AddressRefused, Content, Effect, Findings, HttpMethod, HttpUrl, Missing, Operation, Probe, ProbeKind, RawOutput,
    Risk, Scope, Script, ScriptOutput, Step, Template, Via,
};

mod curl;

/// The tool.
pub(super) struct HttpProbe;

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum Method {
    #[default]
    Head,
    Get,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    target: String,
    /// http or https, on the site's list
    url: String,
    #[serde(default)]
    method: Method,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u16", range(min = 100, max = 599))]
    expect_status: Option<u16>,
    /// Who asks
    #[serde(default)]
    from: Vantage,
    /// Only resolve and check the address
    #[serde(default)]
    dry_run: bool,
}

#[derive(Serialize, JsonSchema)]
struct Data {
    url: String,
    from: Vantage,
    /// Null where there was no answer
    status: Option<u16>,
    /// Whether the status is expect_status; null without one
    as_expected: Option<bool>,
    error: Option<Trouble>,
    timings: Timings,
    /// The one that is connected to
    address: Option<String>,
    tls: Option<Tls>,
    /// Where the answer points to, without query; not followed
    redirect_to: Option<String>,
    headers: Map<String, Value>,
}

#[derive(Default, Serialize, JsonSchema)]
struct Timings {
    resolve_ms: Option<f64>,
    connect_ms: Option<f64>,
    tls_ms: Option<f64>,
    first_byte_ms: Option<f64>,
}

const SPEC: Spec = Spec {
    name: "http_probe",
    title: "Probe a URL",
    help: "One HEAD or GET to a URL that the site lists, from target or gateway: status, timings, certificate, redirect (not followed). No body. Needs approval unless the site waives it.",
    scopes: &[Scope::NetworkDiag],
    risk: Risk::High,
    effect: Effect::Read,
    kind: Kind::Host,
    idempotent: false,
    open_world: true,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

/// `$1` the checked address, `$2` URL, `$3` method, `$4` port.
const TEMPLATE: Template = Template { id: "http_probe.v1", stdin: false, body: include_str!("http_probe/probe.sh") };

/// What is shown of a redirect, in characters.
const LONGEST: usize = 300;

impl Tool for HttpProbe {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let mut args: Args = arguments(raw)?;
        let url: HttpUrl = args.url.parse().map_err(|fault| ToolError::invalid("url", fault))?;
        if let Some(status) = args.expect_status {
            within("expect_status", status, 100..=599)?;
        }
        checked("url", &url.host, &context.probe.addresses)?;
        args.url = url.to_string();
        let target = Targets::find(context, &args.target)?;
        let rule = context.probe.rule_for(context.engagement, &url).ok_or_else(|| {
            ToolError::new("not_allowlisted", format!("`url`: {url} is not among the URLs that may be called"))
                .hint("an entry of probe.urls in the gateway's configuration lets it be called")
        })?;
        let asks = (!rule.waived).then_some("the configuration does not waive it for this URL");
        let step = step(&args, url, context);
        let operation = SPEC.operation(context, Some(target), &args, vec![step])?;
        Ok(Operation { asks, dry_run: args.dry_run, ..operation })
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let args: Args = arguments(&raw.operation.arguments)?;
        let Some(Step::Probe(probe)) = raw.operation.steps.first() else {
            return Err(ToolError::unreadable("a step is missing"));
        };
        let output = gateways_part(raw)?;
        let mut shown = Data {
            url: args.url,
            from: args.from,
            status: None,
            as_expected: None,
            error: trouble(output, &probe.host.to_string())?,
            timings: Timings::default(),
            address: output.findings.addresses.first().map(ToString::to_string),
            tls: None,
            redirect_to: None,
            headers: Map::new(),
        };
        let mut content = Content::default();
        read_findings(&mut shown, &output.findings);
        if shown.error.is_none() && !matches!(probe.via, Via::Native) {
            read_script(&mut shown, &mut content, script(raw, 1)?)?;
        }
        shown.as_expected = args.expect_status.zip(shown.status).map(|(wanted, had)| wanted == had);
        content.data = data(&shown)?;
        Ok(content)
    }
}

fn step(args: &Args, url: HttpUrl, context: &PlanContext<'_>) -> Step {
    let method = match args.method {
        Method::Head => HttpMethod::Head,
        Method::Get => HttpMethod::Get,
    };
    let via = match args.from {
        Vantage::Gateway => Via::Native,
        Vantage::Target => {
            let words = [url.to_string(), method.as_str().to_owned(), url.port.to_string()];
            Via::Target(Script { limit: Some(Duration::from_secs(15)), ..Script::new(&TEMPLATE, words) })
        }
    };
    let host = url.host.clone();
    let rules = context.probe.addresses.clone();
    let (kind, via) = if args.dry_run { (ProbeKind::Dns, Via::Native) } else { (ProbeKind::Http { url, method }, via) };
    Step::Probe(Box::new(Probe { kind, host, via, rules }))
}

fn read_findings(shown: &mut Data, found: &Findings) {
    shown.timings = Timings {
        resolve_ms: found.resolve.map(ms),
        connect_ms: found.connects.first().copied().map(ms),
        tls_ms: found.tls.as_ref().and_then(|tls| tls.took).map(ms),
        first_byte_ms: found.head.as_ref().map(|head| ms(head.first_byte)),
    };
    shown.tls = found.tls.clone().map(Tls::from);
    if let Some(head) = &found.head {
        shown.status = Some(head.status);
        shown.redirect_to = head.location.as_deref().map(without_query);
        shown.headers = head.headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
    }
}

/// Queries of redirects carry tokens.
fn without_query(location: &str) -> String {
    location.split(['?', '#']).next().unwrap_or_default().chars().take(LONGEST).collect()
}

fn read_script(shown: &mut Data, content: &mut Content, output: &ScriptOutput) -> Result<(), ToolError> {
    let sections = output.sections();
    content.partial = missing(&sections);
    let text = section(&sections, "http").filter(|section| section.content.is_ok()).map(|section| section.text());
    let Some(answer) = text.as_deref().and_then(curl::read) else {
        if content.partial.is_empty() {
            content.partial.push(Missing { section: "http".into(), reason: "unreadable_output".into() });
        }
        return Ok(());
    };
    if answer.address.as_ref().is_some_and(|used| shown.address.as_ref() != Some(used)) {
        let refused = AddressRefused { what: "an address that was not checked", configurable: false };
        return Err(refusal("the target connected to another address than the one that was checked".into(), refused));
    }
    shown.timings = Timings { resolve_ms: shown.timings.resolve_ms, ..answer.timings };
    shown.tls = answer.trusted.map(|trusted| Tls {
        version: None,
        trusted: Some(trusted),
        untrusted: (!trusted).then(|| "the target does not trust the certificate".to_owned()),
        cert: None,
    });
    (shown.status, shown.error) = (answer.status, answer.trouble);
    shown.redirect_to = answer.redirect.as_deref().map(without_query);
    Ok(())
}

#[cfg(test)]
mod tests;

//! `service_control`: starts, stops, restarts or reloads one unit, and says what became of it. Never acts on a protected
//! unit that was not judged as one, whatever name it goes by; never enables, masks or edits a unit.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use strsim::jaro_winkler;

use super::{
    Kind, PlanContext, Settled, Spec, Tool, ToolError,
    journal_query::entries::{self, Entry},
    kit::{Host, arguments, data, schema_of, script, within},
    rights::{denied, missing_right, reason},
    systemd::{UnitState, blocks, missing, section, sudo_word, unit_name},
};
use crate::model::{Content, Effect, Missing, Operation, RawOutput, Risk, Scope, Script, Section, Step, Template};

pub(super) mod protection;

/// The tool.
pub(super) struct ServiceControl;

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Action {
    Start,
    Stop,
    Restart,
    Reload,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
        }
    }
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    target: String,
    /// Service, socket or timer
    unit: String,
    action: Action,
    /// Seconds
    #[serde(default = "wait_s")]
    #[schemars(range(min = 1, max = 120))]
    wait_s: u32,
    /// Only preview; default for protected units
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    dry_run: Option<bool>,
    /// Why, for the record
    reason: String,
}

fn wait_s() -> u32 {
    30
}

#[derive(Serialize, JsonSchema)]
struct Data {
    unit: String,
    action: Action,
    /// Whether the unit came to rest within wait_s; null on a dry run
    settled: Option<bool>,
    invocation_id: Option<String>,
    /// success, or how the unit failed
    result: Option<String>,
    /// Units that stop along with this one
    needed_by: Vec<String>,
    /// Units that can start it again
    triggered_by: Vec<String>,
    /// Protected units that this would touch
    protected: Vec<String>,
    /// Its last journal lines, newest first
    log: Vec<Entry>,
}

const SPEC: Spec = Spec {
    name: "service_control",
    title: "Control a service",
    help: "Acts on one systemd unit; shows state before and after and its log; data.result tells a failure. Protected units (ssh, network, systemd, docker) need approval.",
    scopes: &[Scope::SystemControl],
    risk: Risk::High,
    effect: Effect::Destructive,
    kind: Kind::Host,
    idempotent: false,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

/// `$1` unit, `$2` action, `$3` seconds to wait, `$4` protected|ordinary, `$5` run|dry, `$6` sudo|direct, then the
/// patterns of protected units.
const TEMPLATE: Template = Template {
    id: "service_control.v1",
    stdin: false,
    body: concat!(
        include_str!("journal_query/access.sh"),
        include_str!("systemd.sh"),
        include_str!("service_control/control.sh")
    ),
};

/// What the script needs beside the waiting, in seconds.
const MARGIN_S: u64 = 10;

impl Tool for ServiceControl {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let mut args: Args = arguments(raw)?;
        within("wait_s", args.wait_s, 1..=120)?;
        reason(&args.reason)?;
        args.unit = unit_name("unit", &args.unit, &["service", "socket", "timer"])?;
        let target = Host::find(context, &args.target)?;
        // The step must outlast the waiting, or its end would not be seen.
        let most = target.timeout.as_secs().saturating_sub(MARGIN_S).max(1);
        args.wait_s = args.wait_s.min(u32::try_from(most).unwrap_or(u32::MAX));

        let protected = protection::is_protected(&args.unit);
        let dry_run = args.dry_run.unwrap_or(protected);
        args.dry_run = Some(dry_run);
        let fixed = [
            args.unit.clone(),
            args.action.as_str().into(),
            args.wait_s.to_string(),
            if protected { "protected" } else { "ordinary" }.into(),
            if dry_run { "dry" } else { "run" }.into(),
            sudo_word(&target).into(),
        ];
        let patterns = protection::PROTECTED.iter().map(|pattern| (*pattern).to_owned());
        let script = Script::new(&TEMPLATE, fixed.into_iter().chain(patterns));
        let mut operation = SPEC.operation(context, Some(target), &args, vec![Step::Script(script)])?;
        operation.reason = Some(args.reason);
        operation.dry_run = dry_run;
        if dry_run {
            operation.effect = Effect::Read;
        }
        if protected {
            operation.risk = Risk::Critical;
            operation.raised = Some("protected unit");
        }
        Ok(operation)
    }

    fn rechecks(&self) -> &'static [&'static str] {
        &["load", "active", "sub", "main_pid", "invocation_id", "needed_by", "triggered_by", "protected"]
    }

    fn settle(&self, arguments: &Map<String, Value>, preview: &Content) -> Result<Settled, ToolError> {
        let unit = preview.data.get("unit").and_then(Value::as_str).unwrap_or_default();
        let protected = preview.data.get("protected").and_then(Value::as_array);
        if let Some(name) = protected.and_then(|names| names.first()).filter(|_| !protection::is_protected(unit)) {
            return Err(ToolError::pointless(format_args!("{unit} is, or takes along, the protected unit {name}")));
        }
        let before = preview.before.as_ref().ok_or_else(|| ToolError::unreadable("no state before the action"))?;
        let settled = Settled::unchanged(arguments).stay(before, &["load", "active", "main_pid", "invocation_id"]);
        let settled = settled.stay(&preview.data, &["needed_by", "triggered_by", "protected"]);
        // Of timers and sockets it changes whenever their service starts or ends.
        Ok(if unit.ends_with(".service") { settled.stay(before, &["sub"]) } else { settled })
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let args: Args = arguments(&raw.operation.arguments)?;
        let sections = script(raw, 0)?.sections();
        if let Some(Section { content: Err(reason), .. }) = section(&sections, "unit") {
            let code =
                if reason == "no_systemd" || reason == "missing_tool" { "unsupported" } else { "service_failed" };
            return Err(ToolError::new(code, format!("the target cannot control services: {reason}"))
                .hint("nothing was changed; host_inspect shows what the target is"));
        }
        let before = state(&sections, "before").ok_or_else(|| ToolError::unreadable("no state before the action"))?;
        if before.load == "not-found" {
            return Err(not_found(&args.unit, &lines(&sections, "near")));
        }
        let protected = lines(&sections, "protected");
        let mut answer = Data {
            unit: args.unit.clone(),
            action: args.action,
            settled: None,
            invocation_id: before.invocation_id.clone(),
            result: before.result.clone(),
            needed_by: lines(&sections, "needed"),
            triggered_by: lines(&sections, "triggers"),
            protected,
            log: Vec::new(),
        };
        let judged = raw.operation.risk == Risk::Critical;
        if raw.operation.dry_run {
            return preview(&answer, &before, judged);
        }
        if !judged && let Some(name) = answer.protected.first() {
            return Err(ToolError::new(
                "protected_unit",
                format!("{} is, or takes along, the protected unit {name}; nothing was changed", args.unit),
            )
            .hint(
                "act on the protected unit by its own name, which asks for an approval; dry_run shows what is affected",
            ));
        }
        let after = state(&sections, "after").ok_or_else(|| ToolError::unreadable("no state after the action"))?;
        let status: Option<i32> = section(&sections, "status").and_then(|section| section.text().trim().parse().ok());
        let errors = section(&sections, "errors").map(|section| section.text().into_owned()).unwrap_or_default();
        // `systemctl` says "Job for …" where the job ran and failed; any other failure means that it was refused.
        if let Some(status) = status.filter(|status| *status != 0)
            && !errors.lines().any(|line| line.starts_with("Job for "))
        {
            let user = section(&sections, "user").map(|section| section.text().trim().to_owned()).unwrap_or_default();
            return Err(refusal(&args, &user, status, &errors));
        }
        answer.settled = Some(section(&sections, "settled").is_some_and(|section| section.text().trim() == "yes"));
        answer.invocation_id = after.invocation_id.clone();
        answer.result = after.result.clone();
        if let Some(log) = section(&sections, "log") {
            answer.log = entries::read(&log.text()).entries;
        }
        let mut content = Content {
            changed: Some(before != after || (args.action == Action::Reload && status == Some(0))),
            before: Some(data(&before)?),
            after: Some(data(&after)?),
            warnings: warnings(&args, &answer, &after, &errors),
            partial: missing(&sections),
            ..Content::default()
        };
        if section(&sections, "log").is_none() {
            content.partial.push(Missing { section: "log".into(), reason: "unreadable_output".into() });
        }
        content.data = data(&answer)?;
        Ok(content)
    }
}

fn state(sections: &[Section], name: &str) -> Option<UnitState> {
    let block = blocks(&section(sections, name)?.text()).into_iter().next()?;
    block.contains_key("ActiveState").then(|| UnitState::read(&block))
}

/// The lines of a section, sorted, each once.
pub(super) fn lines(sections: &[Section], name: &str) -> Vec<String> {
    let text = section(sections, name).map(Section::text).unwrap_or_default();
    let mut lines: Vec<String> = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    lines.sort();
    lines.dedup();
    lines
}

fn preview(answer: &Data, before: &UnitState, judged: bool) -> Result<Content, ToolError> {
    let mut content = Content { changed: Some(false), before: Some(data(before)?), ..Content::default() };
    if let Some(name) = answer.protected.first() {
        content.warnings.push(match judged {
            true => format!("a real run touches the protected unit {name} and needs an approval"),
            false => format!("a real run is refused: it is, or takes along, the protected unit {name}"),
        });
    }
    content.data = data(answer)?;
    Ok(content)
}

fn warnings(args: &Args, answer: &Data, after: &UnitState, errors: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if answer.settled == Some(false) {
        warnings.push(format!("after {} s the unit was still {} ({})", args.wait_s, after.active, after.sub));
    } else if after.active == "failed" {
        let result = after.result.as_deref().unwrap_or("unknown");
        warnings.push(format!("the unit is failed, result {result}: see data.log"));
    } else if let Some(line) = errors.lines().find(|line| line.starts_with("Job for ")) {
        warnings.push(line.to_owned());
    }
    if args.action == Action::Stop && !answer.triggered_by.is_empty() {
        warnings.push(format!("{} can start it again", answer.triggered_by.join(", ")));
    }
    warnings
}

/// No such unit, with those of `known` whose names are near.
pub(super) fn not_found(unit: &str, known: &[String]) -> ToolError {
    let mut near: Vec<(f64, &String)> = known.iter().map(|name| (jaro_winkler(unit, name), name)).collect();
    near.retain(|(score, _)| *score > 0.8);
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let names: Vec<&str> = near.iter().take(3).map(|(_, name)| name.as_str()).collect();
    let error = ToolError::new("not_found", format!("the target has no unit {unit}"));
    match names.is_empty() {
        true => error.hint("service_list shows the units there are"),
        false => error.hint(format!("did you mean {}?", names.join(", "))),
    }
}

/// Why `systemctl` (or `sudo`) did nothing, from the English texts they print with `LC_ALL=C`.
fn refusal(args: &Args, user: &str, status: i32, errors: &str) -> ToolError {
    let says = |texts: &[&str]| texts.iter().any(|text| errors.contains(text));
    if denied(status, errors) {
        let action = args.action.as_str();
        return missing_right(user, &["/usr/bin/systemctl", action, "--no-ask-password", "--", &args.unit]);
    }
    let first = errors.lines().find(|line| !line.starts_with("sudo:")).unwrap_or("no reason was given").to_owned();
    let code = match says(&["is masked", "not applicable", "Operation refused", "bad unit file", "bad-setting"]) {
        true => "precondition_failed",
        false => "service_failed",
    };
    ToolError::new(code, first).hint("service_list shows the unit's state, journal_query its log")
}

#[cfg(test)]
mod tests;

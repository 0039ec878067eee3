//! `service_inspect`: one unit in full: its state, its unit files, what hangs on it and, with `log:read`, its last
//! journal lines. Changes nothing; shows no value of an environment variable that a unit file sets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    journal_query::entries::{self, Entry},
    kit::{Host, arguments, data, schema_of, script, within},
    service_control::{lines, not_found},
    systemd::{Properties, all_kinds, blocks, missing, number, section, timestamp, unit_name, value},
};
use crate::model::{Content, Effect, Missing, Operation, RawOutput, Risk, Scope, Script, Section, Step, Template};

mod files;

use files::UnitFile;

/// The tool.
pub(super) struct ServiceInspect;

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    target: String,
    /// Of any kind; .service may be left out
    unit: String,
    /// Last journal lines; above 0 needs log:read
    #[serde(default)]
    #[schemars(range(max = 100))]
    log_lines: u32,
}

#[derive(Serialize, JsonSchema)]
struct Data {
    unit: Unit,
    /// The unit file and its drop-ins, as systemd reads them
    files: Vec<UnitFile>,
    /// Units that want or require it
    needed_by: Vec<String>,
    /// Units it requires
    needs: Vec<String>,
    /// Units that can start it
    triggered_by: Vec<String>,
    /// Newest first; null where not asked for or not to be had
    log: Option<Vec<Entry>>,
}

#[derive(Default, Serialize, JsonSchema)]
struct Unit {
    name: String,
    /// Other names it goes by
    aliases: Vec<String>,
    description: Option<String>,
    load: String,
    /// Why it could not be loaded
    load_error: Option<String>,
    active: String,
    sub: String,
    /// enabled, disabled, static, masked, ...
    enabled: Option<String>,
    /// RFC 3339
    active_since: Option<String>,
    /// RFC 3339
    inactive_since: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    restart: Option<String>,
    user: Option<String>,
    main_pid: Option<u64>,
    restarts: Option<u64>,
    /// success, or how it failed
    result: Option<String>,
    exit_status: Option<u64>,
    memory_bytes: Option<u64>,
    tasks: Option<u64>,
    cpu_ms: Option<u64>,
    invocation_id: Option<String>,
    /// Whether files changed since systemd read them
    needs_reload: Option<bool>,
}

const SPEC: Spec = Spec {
    name: "service_inspect",
    title: "Inspect a service",
    help: "Everything about one systemd unit: state, result, unit files, what needs it, its last log lines. Use after service_list.",
    scopes: &[Scope::SystemRead],
    risk: Risk::Low,
    effect: Effect::Read,
    kind: Kind::Host,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

/// `$1` unit, `$2` journal lines.
const TEMPLATE: Template = Template {
    id: "service_inspect.v1",
    stdin: false,
    body: concat!(
        include_str!("journal_query/access.sh"),
        include_str!("systemd.sh"),
        include_str!("service_inspect/inspect.sh")
    ),
};

impl Tool for ServiceInspect {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let mut args: Args = arguments(raw)?;
        within("log_lines", args.log_lines, 0..=100)?;
        args.unit = unit_name("unit", &args.unit, all_kinds())?;
        let target = Host::find(context, &args.target)?;
        let script = Script::new(&TEMPLATE, [args.unit.clone(), args.log_lines.to_string()]);
        let mut operation = SPEC.operation(context, Some(target), &args, vec![Step::Script(script)])?;
        if args.log_lines > 0 {
            // What the journal holds is what `log:read` is about, whichever tool shows it.
            operation.scopes = &[Scope::SystemRead, Scope::LogRead];
            operation.risk = Risk::Moderate;
            operation.raised = Some("journal lines");
        }
        Ok(operation)
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let args: Args = arguments(&raw.operation.arguments)?;
        let output = script(raw, 0)?;
        let sections = output.sections();
        if let Some(Section { content: Err(reason), .. }) = section(&sections, "unit") {
            let code = if reason == "systemctl_failed" { "service_failed" } else { "unsupported" };
            return Err(ToolError::new(code, format!("the target cannot tell about services: {reason}"))
                .hint("host_inspect shows what the target is"));
        }
        let shown = section(&sections, "show").map(Section::text).unwrap_or_default();
        let properties = blocks(&shown).into_iter().next().filter(|block| block.contains_key("ActiveState"));
        let properties = properties.ok_or_else(|| ToolError::unreadable("no state"))?;
        if value(&properties, "LoadState") == Some("not-found") {
            return Err(not_found(&args.unit, &lines(&sections, "near")));
        }
        let mut content = Content { partial: missing(&sections), ..Content::default() };
        let mut absent = |name: &str| {
            content.partial.push(Missing { section: name.into(), reason: "unreadable_output".into() });
        };
        let files = match section(&sections, "file") {
            Some(section) => files::read(&section.text()),
            None => {
                absent("file");
                Vec::new()
            }
        };
        let log = match section(&sections, "log") {
            Some(Section { content: Ok(text), .. }) => {
                let read = entries::read(&String::from_utf8_lossy(text));
                if read.broken {
                    absent("log");
                }
                Some(read.entries)
            }
            Some(_) => None,
            None => {
                if args.log_lines > 0 {
                    absent("log");
                }
                None
            }
        };
        if output.stdout.dropped() > 0 {
            content.truncated = true;
            content.warnings.push("the host's answer was too long to be read in full".into());
        }
        let unit = unit(&args.unit, &properties);
        if unit.needs_reload == Some(true) {
            content
                .warnings
                .push("the unit's files changed since systemd read them: it runs with the older ones".into());
        }
        content.data = data(&Data {
            unit,
            files,
            needed_by: lines(&sections, "needed"),
            needs: lines(&sections, "needs"),
            triggered_by: lines(&sections, "triggers"),
            log,
        })?;
        Ok(content)
    }
}

fn unit(name: &str, properties: &Properties) -> Unit {
    let text = |key| value(properties, key).map(str::to_owned);
    let time = |key| value(properties, key).and_then(timestamp).map(|time| time.to_string());
    let id = text("Id").unwrap_or_else(|| name.to_owned());
    let names = value(properties, "Names").unwrap_or_default();
    Unit {
        aliases: names.split_whitespace().filter(|other| *other != id).map(str::to_owned).collect(),
        name: id,
        description: text("Description"),
        load: text("LoadState").unwrap_or_default(),
        load_error: text("LoadError").filter(|error| !error.trim_matches(['"', ' ']).is_empty()),
        active: text("ActiveState").unwrap_or_default(),
        sub: text("SubState").unwrap_or_default(),
        enabled: text("UnitFileState"),
        active_since: time("ActiveEnterTimestamp"),
        inactive_since: time("InactiveEnterTimestamp"),
        kind: text("Type"),
        restart: text("Restart"),
        user: text("User"),
        main_pid: number(properties, "MainPID").filter(|pid| *pid != 0),
        restarts: number(properties, "NRestarts"),
        result: text("Result"),
        exit_status: number(properties, "ExecMainStatus"),
        memory_bytes: number(properties, "MemoryCurrent"),
        tasks: number(properties, "TasksCurrent"),
        cpu_ms: number(properties, "CPUUsageNSec").map(|nanoseconds| nanoseconds / 1_000_000),
        invocation_id: text("InvocationID"),
        needs_reload: value(properties, "NeedDaemonReload").map(|word| word == "yes"),
    }
}

#[cfg(test)]
mod tests;

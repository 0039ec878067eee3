//! `service_configure`: whether a unit starts at boot (enable, disable) or can start at all (mask, unmask). Never edits a
//! unit file, and never touches a protected unit under another unit's name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Settled, Spec, Tool, ToolError,
    kit::{Host, arguments, data, schema_of, script},
    rights::{denied, marked, missing_right, mode_word, reason},
    service_control::{lines, not_found, protection},
    systemd::{Properties, blocks, missing, section, sudo_word, unit_name, value},
};
use crate::model::{Content, Effect, Operation, RawOutput, Risk, Scope, Script, Section, Step, Template};

/// The tool.
pub(super) struct ServiceConfigure;

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Action {
    Enable,
    Disable,
    Mask,
    Unmask,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Mask => "mask",
            Self::Unmask => "unmask",
        }
    }
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    target: String,
    /// Service, socket, timer or path
    unit: String,
    action: Action,
    /// Also start (enable) or stop (disable, mask) it
    #[serde(default)]
    now: bool,
    /// Only preview
    #[serde(default = "yes")]
    dry_run: bool,
    /// Why, for the record
    reason: String,
}

fn yes() -> bool {
    true
}

#[derive(Serialize, JsonSchema)]
struct Data {
    unit: String,
    action: Action,
    now: bool,
    /// Units it is enabled for, and other names and units that go with it
    install: Install,
    /// Units that are stopped along, with now
    stops: Vec<String>,
    /// Protected units that this would touch
    protected: Vec<String>,
    /// With now, whether the unit came to rest in time; null on a dry run
    settled: Option<bool>,
}

/// The unit file's `[Install]` section.
#[derive(Default, Serialize, JsonSchema)]
struct Install {
    wanted_by: Vec<String>,
    required_by: Vec<String>,
    alias: Vec<String>,
    also: Vec<String>,
}

/// What is configured of a unit, before or after.
#[derive(PartialEq, Eq, Serialize)]
struct Configured {
    enabled: Option<String>,
    preset: Option<String>,
    load: String,
    active: String,
    sub: String,
}

const SPEC: Spec = Spec {
    name: "service_configure",
    title: "Enable, disable, mask or unmask a service",
    help: "Changes whether a systemd unit starts at boot or can start at all. A real run needs approval; the preview shows what it touches.",
    scopes: &[Scope::SystemAdmin],
    risk: Risk::Critical,
    effect: Effect::Destructive,
    kind: Kind::Host,
    idempotent: true,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

/// `$1` unit, `$2` action, `$3` now|later, `$4` seconds to wait, `$5` protected|ordinary, `$6` run|dry, `$7` sudo|direct,
/// then the patterns of protected units.
const TEMPLATE: Template = Template {
    id: "service_configure.v1",
    stdin: false,
    body: concat!(include_str!("systemd.sh"), include_str!("service_configure/configure.sh")),
};

/// The longest wait for a unit to come to rest, and what the script needs beside it; in seconds.
const WAIT_S: u64 = 30;
const MARGIN_S: u64 = 10;

impl Tool for ServiceConfigure {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let mut args: Args = arguments(raw)?;
        reason(&args.reason)?;
        args.unit = unit_name("unit", &args.unit, &["service", "socket", "timer", "path"])?;
        if args.now && args.action == Action::Unmask {
            return Err(ToolError::invalid("now", "has no meaning with unmask; start the unit with service_control"));
        }
        let target = Host::find(context, &args.target)?;
        let protected = protection::is_protected(&args.unit);
        let fixed = [
            args.unit.clone(),
            args.action.as_str().into(),
            if args.now { "now" } else { "later" }.into(),
            target.timeout.as_secs().saturating_sub(MARGIN_S).clamp(1, WAIT_S).to_string(),
            if protected { "protected" } else { "ordinary" }.into(),
            mode_word(args.dry_run).into(),
            sudo_word(&target).into(),
        ];
        let patterns = protection::PROTECTED.iter().map(|pattern| (*pattern).to_owned());
        let script = Script::new(&TEMPLATE, fixed.into_iter().chain(patterns));
        let operation = SPEC.operation(context, Some(target), &args, vec![Step::Script(script)])?;
        Ok(marked(operation, Some(args.reason), args.dry_run))
    }

    fn rechecks(&self) -> &'static [&'static str] {
        &["enabled", "load", "active", "install", "stops", "protected"]
    }

    fn settle(&self, arguments: &Map<String, Value>, preview: &Content) -> Result<Settled, ToolError> {
        let unit = preview.data.get("unit").and_then(Value::as_str).unwrap_or_default();
        let protected = preview.data.get("protected").and_then(Value::as_array);
        if let Some(name) = protected.and_then(|names| names.first()).filter(|_| !protection::is_protected(unit)) {
            return Err(ToolError::pointless(format_args!("{unit} is, or takes along, the protected unit {name}")));
        }
        let before = preview.before.as_ref().ok_or_else(|| ToolError::unreadable("no state before the action"))?;
        let settled = Settled::unchanged(arguments).stay(before, &["enabled", "load", "active"]);
        Ok(settled.stay(&preview.data, &["install", "stops", "protected"]))
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let args: Args = arguments(&raw.operation.arguments)?;
        let sections = script(raw, 0)?.sections();
        if let Some(Section { content: Err(reason), .. }) = section(&sections, "unit") {
            let code =
                if reason == "no_systemd" || reason == "missing_tool" { "unsupported" } else { "service_failed" };
            return Err(ToolError::new(code, format!("the target cannot configure services: {reason}"))
                .hint("nothing was changed; host_inspect shows what the target is"));
        }
        let before = state(&sections, "before").ok_or_else(|| ToolError::unreadable("no state before the action"))?;
        if before.load == "not-found" {
            return Err(not_found(&args.unit, &lines(&sections, "near")));
        }
        // The last section of the look: without it the look broke off and nothing may be concluded from it.
        if section(&sections, "protected").is_none() {
            return Err(ToolError::unreadable("the check of protected units broke off"));
        }
        let mut answer = Data {
            unit: args.unit.clone(),
            action: args.action,
            now: args.now,
            install: install(&section(&sections, "install").map(Section::text).unwrap_or_default()),
            stops: lines(&sections, "stops"),
            protected: lines(&sections, "protected"),
            settled: None,
        };
        let judged = protection::is_protected(&args.unit);
        let mut content = Content { partial: missing(&sections), ..Content::default() };
        content.before = Some(data(&before)?);
        if raw.operation.dry_run {
            content.changed = Some(false);
            content.warnings = foreseen(&args, &before, &answer, judged);
            content.data = data(&answer)?;
            return Ok(content);
        }
        if !judged && let Some(name) = answer.protected.first() {
            return Err(ToolError::new(
                "protected_unit",
                format!("{} is, or takes along, the protected unit {name}; nothing was changed", args.unit),
            )
            .hint("configure the protected unit by its own name; dry_run shows what is affected"));
        }
        let after = state(&sections, "after").ok_or_else(|| ToolError::unreadable("no state after the action"))?;
        let status: Option<i32> = section(&sections, "status").and_then(|section| section.text().trim().parse().ok());
        let errors = section(&sections, "errors").map(|section| section.text().into_owned()).unwrap_or_default();
        match status {
            Some(0) => {}
            Some(status) => {
                let user = section(&sections, "user").map(|section| section.text().trim().to_owned());
                return Err(refusal(&args, &user.unwrap_or_default(), status, &errors));
            }
            None => return Err(ToolError::unreadable("systemctl did not come to its end")),
        }
        if args.now {
            let settled = section(&sections, "settled").is_some_and(|section| section.text().trim() == "yes");
            answer.settled = Some(settled);
            if !settled {
                content.warnings.push(format!("the unit was still {} ({})", after.active, after.sub));
            }
        }
        if after.active == "failed" {
            content.warnings.push("the unit is failed: service_inspect shows why".into());
        }
        // `systemctl` explains itself where it did nothing (no [Install] section), and tells which links it made.
        content.warnings.extend(errors.lines().filter(|line| !line.is_empty()).take(20).map(str::to_owned));
        content.changed = Some(before != after);
        content.after = Some(data(&after)?);
        content.data = data(&answer)?;
        Ok(content)
    }
}

fn state(sections: &[Section], name: &str) -> Option<Configured> {
    let unit: Properties = blocks(&section(sections, name)?.text()).into_iter().next()?;
    let text = |key| value(&unit, key).map(str::to_owned);
    Some(Configured {
        active: text("ActiveState")?,
        enabled: text("UnitFileState"),
        preset: text("UnitFilePreset"),
        load: text("LoadState").unwrap_or_default(),
        sub: text("SubState").unwrap_or_default(),
    })
}

fn install(text: &str) -> Install {
    let mut install = Install::default();
    for (key, names) in text.lines().filter_map(|line| line.split_once('=')) {
        let list = match key.trim() {
            "WantedBy" => &mut install.wanted_by,
            "RequiredBy" => &mut install.required_by,
            "Alias" => &mut install.alias,
            "Also" => &mut install.also,
            _ => continue,
        };
        // An empty value takes back what came before.
        if names.trim().is_empty() {
            list.clear();
        }
        list.extend(names.split_whitespace().map(str::to_owned));
    }
    install
}

fn foreseen(args: &Args, before: &Configured, answer: &Data, judged: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(name) = answer.protected.first() {
        warnings.push(match judged {
            true => format!("a real run touches the protected unit {name}: access to the host may hang on it"),
            false => format!("a real run is refused: it is, or takes along, the protected unit {name}"),
        });
    }
    let install = &answer.install;
    let nowhere = [&install.wanted_by, &install.required_by, &install.alias, &install.also];
    match (args.action, before.enabled.as_deref()) {
        (Action::Enable | Action::Disable, _) if nowhere.iter().all(|list| list.is_empty()) => {
            warnings.push("the unit has no [Install] section: enabling or disabling it does nothing".into());
        }
        (Action::Enable, Some("masked" | "masked-runtime")) => {
            warnings.push("the unit is masked: unmask it first".into());
        }
        (Action::Enable, Some("enabled")) if !args.now => warnings.push("the unit is enabled already".into()),
        (Action::Disable, Some("disabled")) if !args.now => warnings.push("the unit is disabled already".into()),
        (Action::Mask, Some("masked")) if !args.now => warnings.push("the unit is masked already".into()),
        (Action::Unmask, state) if state != Some("masked") => warnings.push("the unit is not masked".into()),
        _ => {}
    }
    if args.action == Action::Disable && before.active == "active" && !args.now {
        warnings.push("the unit runs on until it is stopped or the host starts anew".into());
    }
    warnings
}

/// Why `systemctl` (or `sudo`) did nothing.
fn refusal(args: &Args, user: &str, status: i32, errors: &str) -> ToolError {
    if denied(status, errors) {
        let mut command = vec!["/usr/bin/systemctl", args.action.as_str()];
        if args.now {
            command.extend(["--now", "--no-block"]);
        }
        command.extend(["--no-ask-password", "--", &args.unit]);
        return missing_right(user, &command);
    }
    let first = errors.lines().find(|line| !line.starts_with("sudo:")).unwrap_or("no reason was given").to_owned();
    let stands_in_the_way =
        ["is masked", "already exists", "Operation refused", "bad unit file", "bad-setting", "transient or generated"];
    let code = match stands_in_the_way.iter().any(|text| errors.contains(text)) {
        true => "precondition_failed",
        false => "service_failed",
    };
    ToolError::new(code, first).hint("service_inspect shows the unit's files and state")
}

#[cfg(test)]
mod tests;

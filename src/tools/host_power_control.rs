//! `host_power_control`: reboots a host or powers it off, some minutes ahead. Names the boot it means to end, so that a
//! call that comes twice, or late, does not end another. Never overrides what blocks a shutdown.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Kind, PlanContext, Settled, Spec, Tool, ToolError,
    kit::{Host, arguments, data, schema_of, script, within},
    rights::{denied, marked, missing_right, mode_word, reason},
    service_control::lines,
    started::Job,
    systemd::{blocks, missing, number, section, sudo_word, value},
};
use crate::model::{
    Content, Effect, JobSight, Operation, RawOutput, Risk, Scope, Script, Section, Step, TargetKind, Template, WaitsFor,
};

/// The tool.
pub(super) struct HostPowerControl;

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Action {
    Reboot,
    Poweroff,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::Poweroff => "poweroff",
        }
    }
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    target: String,
    action: Action,
    #[serde(default = "delay_min")]
    #[schemars(range(min = 1, max = 1440))]
    delay_min: u32,
    /// From the preview; a real run needs it
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    boot_id: Option<String>,
    /// Only preview
    #[serde(default = "yes")]
    dry_run: bool,
    /// Why, for the record
    reason: String,
}

fn delay_min() -> u32 {
    1
}

fn yes() -> bool {
    true
}

#[derive(Serialize, JsonSchema)]
struct Data {
    action: Action,
    /// The boot that runs: another one, seen later, proves the reboot
    boot_id: String,
    uptime_s: Option<u64>,
    /// Whether the gateway itself goes down with it
    gateway: bool,
    sessions: Vec<Session>,
    inhibitors: Vec<Inhibitor>,
    /// systemd's jobs under way
    jobs: Vec<String>,
    /// Programs that must not be cut short
    busy: Vec<String>,
    /// Why a real run would be refused now
    blockers: Vec<String>,
    /// What is scheduled
    scheduled: Option<Scheduled>,
    /// Ends when the host went down and came back; null on a dry run
    job: Option<Job>,
}

#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct Session {
    user: String,
    line: String,
    from: Option<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct Inhibitor {
    what: String,
    who: String,
    why: String,
    /// block or delay
    mode: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct Scheduled {
    /// reboot or poweroff
    mode: String,
    /// RFC 3339
    at: Option<String>,
}

const SPEC: Spec = Spec {
    name: "host_power_control",
    title: "Reboot or power off a host",
    help: "Schedules a reboot or power-off. The preview shows who and what it would hit. A real run needs approval and the preview's boot_id.",
    scopes: &[Scope::SystemAdmin],
    risk: Risk::Critical,
    effect: Effect::Destructive,
    kind: Kind::Host,
    idempotent: false,
    open_world: false,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

/// `$1` action, `$2` minutes, `$3` the boot that is meant, `$4` run|dry, `$5` sudo|direct.
const TEMPLATE: Template =
    Template { id: "host_power_control.v1", stdin: false, body: include_str!("host_power_control/power.sh") };

impl Tool for HostPowerControl {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        reason(&args.reason)?;
        // At once would be before the outcome is recorded and the answer sent.
        within("delay_min", args.delay_min, 1..=1440)?;
        match &args.boot_id {
            Some(id) if !is_boot_id(id) => {
                return Err(ToolError::invalid(
                    "boot_id",
                    "must be data.boot_id of a preview, a UUID in small letters",
                ));
            }
            None if !args.dry_run => {
                return Err(ToolError::invalid(
                    "boot_id",
                    "is needed for a real run: take it from the answer of the same call with dry_run: true",
                ));
            }
            _ => {}
        }
        let target = Host::find(context, &args.target)?;
        let words = [
            args.action.as_str().to_owned(),
            args.delay_min.to_string(),
            args.boot_id.clone().unwrap_or_default(),
            mode_word(args.dry_run).into(),
            sudo_word(&target).into(),
        ];
        let mut script = Script::new(&TEMPLATE, words);
        if !args.dry_run {
            script = script.about_job(match args.action {
                Action::Reboot => WaitsFor::Boot,
                Action::Poweroff => WaitsFor::Down,
            });
        }
        let operation = SPEC.operation(context, Some(target), &args, vec![Step::Script(script)])?;
        Ok(marked(operation, Some(args.reason), args.dry_run))
    }

    fn rechecks(&self) -> &'static [&'static str] {
        &["boot_id"]
    }

    fn settle(&self, raw: &Map<String, Value>, preview: &Content) -> Result<Settled, ToolError> {
        let args: Args = arguments(raw)?;
        let boot = preview.data.get("boot_id").and_then(Value::as_str).unwrap_or_default();
        if args.boot_id.as_deref().is_some_and(|wanted| wanted != boot) {
            return Err(started_since(boot));
        }
        let blockers = preview.data.get("blockers").and_then(Value::as_array);
        let mut blockers = blockers.into_iter().flatten().filter_map(Value::as_str);
        match blockers.next() {
            Some(blocker) => Err(ToolError::pointless(blocker)),
            None => Ok(Settled::unchanged(raw).pin("boot_id", boot)),
        }
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let args: Args = arguments(&raw.operation.arguments)?;
        let sections = script(raw, 0)?.sections();
        let text = |name: &str| section(&sections, name).map(Section::text);
        if let Some(Section { content: Err(reason), .. }) = section(&sections, "power") {
            return Err(ToolError::new("unsupported", format!("the target's power cannot be controlled: {reason}"))
                .hint("nothing was changed; host_inspect shows what the target is"));
        }
        let boot = text("boot").unwrap_or_default();
        let mut boot = boot.lines();
        let boot_id = boot.next().filter(|id| is_boot_id(id) && text("checked").is_some());
        let boot_id = boot_id.ok_or_else(|| ToolError::unreadable("the look at the host broke off"))?;
        let inhibitors = match section(&sections, "inhibitors").map(|section| &section.content) {
            Some(Ok(text)) => {
                Some(inhibitors(text).ok_or_else(|| ToolError::unreadable("the list of what blocks a shutdown"))?)
            }
            _ => None,
        };
        let mut answer = Data {
            action: args.action,
            boot_id: boot_id.to_owned(),
            uptime_s: boot.next().and_then(|seconds| seconds.parse().ok()),
            gateway: raw.operation.target.as_ref().is_some_and(|target| target.kind == TargetKind::Local),
            sessions: text("sessions").unwrap_or_default().lines().filter_map(session).collect(),
            jobs: lines(&sections, "jobs"),
            busy: lines(&sections, "busy"),
            blockers: Vec::new(),
            scheduled: scheduled(&text("scheduled").unwrap_or_default()),
            inhibitors: inhibitors.unwrap_or_default(),
            job: None,
        };
        let has_inhibitors = section(&sections, "inhibitors").is_some_and(|section| section.content.is_ok());
        let has_shutdown = section(&sections, "shutdown").is_none();
        answer.blockers = blockers(&answer, has_inhibitors, has_shutdown);
        let mut content = Content { partial: missing(&sections), changed: Some(false), ..Content::default() };
        if answer.gateway {
            content.warnings.push(match args.action {
                Action::Reboot => "this is the gateway's own host: the gateway goes down with it, and with it every session, until the host is up again".into(),
                Action::Poweroff => "this is the gateway's own host: the gateway goes down with it and stays down; nothing here can start it again".to_owned(),
            });
        }
        if raw.operation.dry_run {
            if !answer.blockers.is_empty() {
                content.warnings.push(format!("a real run is refused now: {}", answer.blockers.join("; ")));
            }
            content.data = data(&answer)?;
            return Ok(content);
        }
        if let Some(word) = text("refused") {
            return Err(refused(word.trim(), &answer));
        }
        let status: Option<i32> = text("status").and_then(|status| status.trim().parse().ok());
        let status = status.ok_or_else(|| ToolError::unreadable("whether the shutdown was scheduled"))?;
        let errors = text("errors").unwrap_or_default();
        if status != 0 {
            let user = text("user").unwrap_or_default();
            return Err(failure(&args, user.trim(), status, &errors));
        }
        let after = scheduled(&text("scheduled_after").unwrap_or_default());
        if after.as_ref().is_none_or(|after| after.mode != args.action.as_str()) {
            content.warnings.push("the host does not show the shutdown as scheduled: look again".into());
        }
        content.changed = Some(true);
        content.before = Some(json!({"scheduled": answer.scheduled, "boot_id": answer.boot_id}));
        content.after = Some(json!({"scheduled": after}));
        answer.scheduled = after;
        answer.job = text("job").and_then(|job| JobSight::read(&job).id).map(|id| Job::running(&id));
        content.warnings.push(match args.action {
            Action::Reboot => "the host is up again once job_inspect of this job shows new_boot_id; job_cancel calls it off until then".to_owned(),
            Action::Poweroff => "nothing here can start the host again".to_owned(),
        });
        content.data = data(&answer)?;
        Ok(content)
    }
}

fn is_boot_id(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// One line of `who`: user, line, time, and where from in parentheses.
fn session(line: &str) -> Option<Session> {
    let mut words = line.split_whitespace();
    let (user, terminal) = (words.next()?, words.next()?);
    let from = line.rsplit_once('(').and_then(|(_, rest)| rest.trim_end().strip_suffix(')'));
    Some(Session { user: user.into(), line: terminal.into(), from: from.map(str::to_owned) })
}

/// The answer of logind's `ListInhibitors` as `busctl --json` prints it: what, who, why, mode, uid, pid.
fn inhibitors(text: &[u8]) -> Option<Vec<Inhibitor>> {
    let answer: Value = serde_json::from_slice(text).ok()?;
    let rows = answer.get("data")?.get(0)?.as_array()?;
    let read = |row: &Value| {
        let field = |at: usize| row.get(at)?.as_str().map(str::to_owned);
        Some(Inhibitor { what: field(0)?, who: field(1)?, why: field(2)?, mode: field(3)? })
    };
    rows.iter().map(read).collect()
}

/// systemd's note of a shutdown to come: `USEC=` in microseconds since 1970, `MODE=`.
fn scheduled(text: &str) -> Option<Scheduled> {
    let note = blocks(text).into_iter().next()?;
    let at = number(&note, "USEC").and_then(|at| Timestamp::from_microsecond(i64::try_from(at).ok()?).ok());
    Some(Scheduled { mode: value(&note, "MODE")?.to_owned(), at: at.map(|at| at.to_string()) })
}

fn blockers(answer: &Data, has_inhibitors: bool, has_shutdown: bool) -> Vec<String> {
    let mut blockers = Vec::new();
    if !has_shutdown {
        blockers.push("the host has no shutdown program".to_owned());
    }
    if !answer.busy.is_empty() {
        blockers.push(format!("{} must not be cut short", answer.busy.join(", ")));
    }
    if !has_inhibitors {
        blockers.push("what blocks a shutdown cannot be asked".to_owned());
    }
    for inhibitor in &answer.inhibitors {
        if inhibitor.mode.starts_with("block") && inhibitor.what.split(':').any(|what| what == "shutdown") {
            blockers.push(format!("{} blocks it: {}", inhibitor.who, inhibitor.why));
        }
    }
    if let Some(scheduled) = &answer.scheduled {
        blockers.push(format!("a {} is scheduled already", scheduled.mode));
    }
    blockers
}

fn started_since(now: &str) -> ToolError {
    ToolError::new("precondition_failed", format!("the host was started since the preview (its boot_id is now {now})"))
        .hint("nothing was changed; dry_run shows the host as it is now")
}

/// Why the script looked and did nothing.
fn refused(word: &str, answer: &Data) -> ToolError {
    let what = match word {
        "boot_id" => return started_since(&answer.boot_id),
        "busy" | "inhibited" | "inhibitors_unknown" | "scheduled" => answer.blockers.join("; "),
        _ => return ToolError::unreadable("why it was refused"),
    };
    ToolError::new("precondition_failed", what).hint("nothing was changed; dry_run shows the host as it is now")
}

fn failure(args: &Args, user: &str, status: i32, errors: &str) -> ToolError {
    if denied(status, errors) {
        let letter = if args.action == Action::Reboot { "-r" } else { "-P" };
        return missing_right(user, &["/usr/sbin/shutdown", letter, &format!("+{}", args.delay_min)]);
    }
    let first = errors.lines().find(|line| !line.is_empty()).unwrap_or("no reason was given");
    ToolError::new("power_failed", format!("the shutdown was not scheduled: {first}"))
}

#[cfg(test)]
mod tests;

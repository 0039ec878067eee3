//! `package_change`: installs, upgrades or removes packages, after a simulation that tells exactly what would happen. A
//! real run does what was shown or nothing: it simulates again and compares. Never removes what the host or the
//! gateway's access to it hangs on, never takes unsigned packages, never answers a package's questions.

use std::collections::BTreeSet;

use ring::digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Settled, Spec, Tool, ToolError,
    apt::{self, Change, MOST, Verb},
    kit::{Host, arguments, data, schema_of, script},
    rights::{marked, mode_word, reason},
    service_control::lines,
    started::{Job, rule, started},
    systemd::{missing, section, sudo_word},
};
use crate::model::{
    Content, Effect, Operation, RawOutput, Risk, Scope, Script, Section, Step, Template, WaitsFor, hex,
};

mod outcome;

use outcome::Done;

/// The tool.
pub(super) struct PackageChange;

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Action {
    Install,
    Upgrade,
    Remove,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    target: String,
    action: Action,
    /// None: upgrade all
    #[serde(default)]
    packages: Vec<Wanted>,
    /// Others too
    #[serde(default)]
    allow_remove: bool,
    /// From the preview
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    plan_sha256: Option<String>,
    #[serde(default = "yes")]
    dry_run: bool,
    reason: String,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    version: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Data {
    action: Action,
    install: Vec<Change>,
    upgrade: Vec<Change>,
    remove: Vec<Change>,
    /// Names this exact set of changes; a real run needs it
    plan_sha256: String,
    /// What would be removed and must not be
    vital: Vec<String>,
    /// Services of these packages, which may start anew
    services: Vec<String>,
    /// Whether the host says now that it should be rebooted
    reboot_required: bool,
    /// Whether something is replaced that runs until the next boot
    reboot_expected: bool,
    /// What became of it; null on a dry run
    done: Option<Done>,
    /// What changes them; null where nothing was started
    job: Option<Job>,
}

const SPEC: Spec = Spec {
    name: "package_change",
    title: "Change packages",
    help: "Previews what apt would do; with approval does that or nothing.",
    scopes: &[Scope::SystemAdmin],
    risk: Risk::Critical,
    effect: Effect::Destructive,
    kind: Kind::Host,
    idempotent: false,
    open_world: true,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

/// `$1` action, `$2` run|dry, `$3` the hash that was shown, `$4` which removals are meant (none|named|any), `$5`
/// pinned|free, `$6` sudo|direct, `$7` seconds to wait for the end, `$8` patterns of vital packages separated by blanks;
/// then the packages as `NAME` or `NAME=VERSION`.
const TEMPLATE: Template =
    Template { id: "package_change.v1", stdin: false, body: include_str!("package_change/change.sh") };

/// Never removed, beside what dpkg calls essential or protected: the gateway itself, what reaches the host, what starts
/// it and what installs packages.
const VITAL: &[&str] = &[
    "tailops*",
    "tailscale",
    "openssh-server",
    "dropbear*",
    "apt",
    "dpkg",
    "sudo",
    "libc6",
    "systemd",
    "systemd-sysv",
    "dbus",
    "ifupdown",
    "network-manager",
    "netplan.io",
    "proxmox-ve",
    "pve-manager",
];

/// What the script needs beside the waiting, in seconds.
const MARGIN_S: u64 = 20;

/// The longest that apt may take, in seconds: as in the script.
const JOB_S: u32 = 7200;

/// What it runs, as a regular expression: apt's options as the script gives them, then packages with or without a
/// version, and nothing that could name another option or a file.
const APT: &str = concat!(
    r"apt-get -y -q -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold",
    r" -o DPkg::Lock::Timeout=[0-9]+( --no-remove)?( --allow-downgrades)?",
    r" (upgrade|(install|install --only-upgrade|remove) --( [a-z0-9][a-z0-9.+-]*(:[a-z0-9]+)?(=[A-Za-z0-9.+:~-]+)?)+)"
);

/// The arguments of systemd-run that sudoers has to allow.
pub(super) fn job_rule() -> String {
    rule(JOB_S, APT)
}

impl Tool for PackageChange {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        reason(&args.reason)?;
        check(&args)?;
        let target = Host::find(context, &args.target)?;
        let removals = match (args.allow_remove, args.action) {
            (true, _) => "any",
            (false, Action::Remove) => "named",
            (false, _) => "none",
        };
        let pinned = args.packages.iter().any(|package| package.version.is_some());
        let action = match args.action {
            Action::Install => "install",
            Action::Upgrade => "upgrade",
            Action::Remove => "remove",
        };
        let fixed = [
            action.to_owned(),
            mode_word(args.dry_run).into(),
            args.plan_sha256.clone().unwrap_or_default(),
            removals.into(),
            if pinned { "pinned" } else { "free" }.into(),
            sudo_word(&target).into(),
            target.timeout.as_secs().saturating_sub(MARGIN_S).max(1).to_string(),
            VITAL.join(" "),
        ];
        let packages = args.packages.iter().map(|package| match &package.version {
            Some(version) => format!("{}={version}", package.name),
            None => package.name.clone(),
        });
        let mut script = Script::new(&TEMPLATE, fixed.into_iter().chain(packages));
        if !args.dry_run {
            script = script.about_job(WaitsFor::Unit);
        }
        let operation = SPEC.operation(context, Some(target), &args, vec![Step::Script(script)])?;
        Ok(marked(operation, Some(args.reason), args.dry_run))
    }

    fn rechecks(&self) -> &'static [&'static str] {
        &["plan_sha256"]
    }

    fn settle(&self, raw: &Map<String, Value>, preview: &Content) -> Result<Settled, ToolError> {
        let args: Args = arguments(raw)?;
        let list = |name: &str| preview.data.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let hash = preview.data.get("plan_sha256").and_then(Value::as_str).unwrap_or_default();
        if args.plan_sha256.as_deref().is_some_and(|wanted| wanted != hash) {
            return Err(plan_changed(hash));
        }
        let changes = ["install", "upgrade", "remove"].map(list);
        if changes.iter().all(|list| list.is_empty()) {
            return Err(ToolError::pointless("there is nothing to do"));
        }
        let mut refusals = preview.warnings.iter().filter(|warning| warning.starts_with(REFUSED));
        match refusals.next() {
            Some(why) => Err(ToolError::pointless(why)),
            None => Ok(Settled::unchanged(raw).pin("plan_sha256", hash)),
        }
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let args: Args = arguments(&raw.operation.arguments)?;
        let output = script(raw, 0)?;
        let sections = output.sections();
        let text = |name: &str| section(&sections, name).map(|section| section.text().into_owned());
        let user = text("user").unwrap_or_default();
        if let Some(Section { content: Err(reason), .. }) = section(&sections, "plan") {
            let code = if reason == "missing_tool" { "unsupported" } else { "unreadable_output" };
            return Err(ToolError::new(code, format!("the target's packages cannot be changed: {reason}"))
                .hint("nothing was changed; the tool needs apt and dpkg"));
        }
        let unknown = lines(&sections, "unknown");
        if !unknown.is_empty() {
            return Err(ToolError::new("not_found", format!("apt knows no package {}", unknown.join(", "))).hint(
                "nothing was changed; package_refresh fetches new lists, package_list detail= shows one package",
            ));
        }
        if section(&sections, "simulation").is_some() {
            let errors = text("errors").unwrap_or_default();
            return Err(ToolError::new("precondition_failed", format!("apt cannot do this: {}", first_error(&errors)))
                .hint("nothing was changed; package_list detail= shows which versions there are"));
        }
        let plan = section(&sections, "plan").and_then(|section| section.content.as_ref().ok());
        let plan = plan.filter(|_| text("checked").is_some() && output.stdout.dropped() == 0);
        let plan = plan.ok_or_else(|| ToolError::unreadable("the simulation broke off"))?;
        // Of the very lines that are shown: the script's own must be the same, or they are not what it looked at.
        let plan_sha256 = hex(digest::digest(&digest::SHA256, plan).as_ref());
        if text("plan_sha256").as_deref().map(str::trim) != Some(&plan_sha256) {
            return Err(ToolError::unreadable("the plan is not the one that was hashed"));
        }
        let changes = apt::changes(&String::from_utf8_lossy(plan))
            .map_err(|line| ToolError::unreadable(&format!("apt printed {line:?}")))?;
        let (removed, installed): (Vec<Change>, Vec<Change>) =
            changes.into_iter().partition(|change| change.verb != Verb::Install);
        let reboot_expected = installed.iter().any(|change| runs_until_reboot(&change.name));
        let (upgrade, install) = installed.into_iter().partition(|change| change.from.is_some());
        let reboot = text("reboot_after").or_else(|| text("reboot")).unwrap_or_default();
        let mut answer = Data {
            action: args.action,
            install,
            upgrade,
            remove: removed,
            plan_sha256,
            vital: lines(&sections, "vital"),
            services: lines(&sections, "services"),
            reboot_required: reboot.lines().next() == Some("yes"),
            reboot_expected,
            done: None,
            job: None,
        };
        let mut content = Content { partial: missing(&sections), changed: Some(false), ..Content::default() };
        if raw.operation.dry_run {
            content.warnings = foreseen(&args, &answer);
            content.data = data(&answer)?;
            return Ok(content);
        }
        match text("refused").as_deref().map(str::trim) {
            None => {}
            Some("nothing") => {
                content.warnings.push("there was nothing to do".into());
                content.data = data(&answer)?;
                return Ok(content);
            }
            Some(word) => return Err(refused(word, &answer)),
        }
        let (job, unit) = started(&sections, user.trim(), &job_rule())?;
        let status = match (job.goes_on(), unit.result.as_str(), unit.exit_status) {
            (true, ..) => None,
            (false, "success", _) => Some(0),
            (false, _, status) => Some(status.filter(|status| *status != 0).unwrap_or(1)),
        };
        let errors = text("errors").unwrap_or_default();
        let done = Done::read(&sections, status, &answer.install, &answer.upgrade, &answer.remove);
        if let Some(status) = status.filter(|status| *status != 0)
            && done.changed.is_empty()
        {
            return Err(failure(&args, status, &errors));
        }
        content.changed = Some(!done.changed.is_empty());
        content.warnings = done.warnings(&errors);
        if job.goes_on() {
            content.changed = None;
            content.warnings.push(job.note());
        }
        answer.done = Some(done);
        answer.job = Some(job);
        content.data = data(&answer)?;
        Ok(content)
    }
}

fn check(args: &Args) -> Result<(), ToolError> {
    if args.packages.len() > MOST {
        return Err(ToolError::invalid("packages", format_args!("must be at most {MOST}")));
    }
    if args.packages.is_empty() && args.action != Action::Upgrade {
        return Err(ToolError::invalid("packages", "must name at least one package"));
    }
    let mut seen = BTreeSet::new();
    for (index, package) in args.packages.iter().enumerate() {
        let field = format!("packages[{index}].name");
        apt::package_name(&field, &package.name)?;
        if !seen.insert(package.name.as_str()) {
            return Err(ToolError::invalid(&field, format_args!("{} is named twice", package.name)));
        }
        if let Some(version) = &package.version {
            let field = format!("packages[{index}].version");
            apt::package_version(&field, version)?;
            if args.action == Action::Remove {
                return Err(ToolError::invalid(&field, "has no meaning with remove; leave it out"));
            }
        }
        if args.action == Action::Remove && is_vital(&package.name) {
            return Err(ToolError::new(
                "refused",
                format!("`{field}`: {} keeps the host running or reachable and is never removed", package.name),
            ));
        }
    }
    let is_hash = |text: &String| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match &args.plan_sha256 {
        Some(hash) if !is_hash(hash) => {
            Err(ToolError::invalid("plan_sha256", "must be data.plan_sha256 of a preview: 64 hex digits"))
        }
        None if !args.dry_run => Err(ToolError::invalid(
            "plan_sha256",
            "is needed for a real run: take it from the answer of the same call with dry_run: true",
        )),
        _ => Ok(()),
    }
}

/// Whether `name` is on the list of what is never removed. The patterns are names, or starts with `*`.
fn is_vital(name: &str) -> bool {
    VITAL.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => *pattern == name,
    })
}

/// Whether what the package brings is in use until the next boot: kernels, firmware, the C library, the init.
fn runs_until_reboot(name: &str) -> bool {
    let bare = name.split_once(':').map_or(name, |(bare, _)| bare);
    ["linux-image-", "proxmox-kernel-", "pve-kernel-", "firmware-"].iter().any(|start| bare.starts_with(start))
        || matches!(bare, "libc6" | "systemd" | "systemd-sysv" | "dbus" | "intel-microcode" | "amd64-microcode")
}

/// How a warning begins that says why a real run would do nothing.
const REFUSED: &str = "a real run is refused";

fn foreseen(args: &Args, answer: &Data) -> Vec<String> {
    let mut warnings = Vec::new();
    if answer.install.is_empty() && answer.upgrade.is_empty() && answer.remove.is_empty() {
        warnings.push("there is nothing to do".into());
    }
    if !answer.vital.is_empty() {
        warnings.push(format!("{REFUSED}: it would remove {}", answer.vital.join(", ")));
    }
    let named: BTreeSet<&str> = args.packages.iter().map(|package| package.name.as_str()).collect();
    let is_meant = |change: &Change| {
        args.action == Action::Remove && named.contains(change.name.split(':').next().unwrap_or_default())
    };
    let others: Vec<&str> =
        answer.remove.iter().filter(|change| !is_meant(change)).map(|change| change.name.as_str()).collect();
    if !others.is_empty() && !args.allow_remove {
        warnings.push(format!("{REFUSED} unless allow_remove is set: it would remove {}", others.join(", ")));
    }
    warnings
}

fn plan_changed(now: &str) -> ToolError {
    let what = format!("apt would now do something else than was shown (plan_sha256 is now {now})");
    ToolError::new("precondition_failed", what)
        .hint("nothing was changed; look at a new preview and ask again with its plan_sha256")
}

/// Why the script looked and did nothing.
fn refused(word: &str, answer: &Data) -> ToolError {
    match word {
        "plan_changed" => plan_changed(&answer.plan_sha256),
        "vital" => ToolError::new(
            "refused",
            format!("this would remove {}, which the host or the access to it hangs on", answer.vital.join(", ")),
        )
        .hint("nothing was changed"),
        "removals" => ToolError::new("precondition_failed", "this would remove packages that were not named")
            .hint("nothing was changed; the preview names them, allow_remove accepts them"),
        _ => ToolError::unreadable("why it was refused"),
    }
}

fn failure(args: &Args, status: i32, errors: &str) -> ToolError {
    let first = first_error(errors);
    if errors.contains("Could not get lock") || errors.contains("Unable to acquire the dpkg frontend lock") {
        return ToolError::new("busy", format!("another program works on the packages: {first}"))
            .hint("nothing was changed; process_list match=apt shows it");
    }
    let named = args.packages.iter().map(|package| package.name.as_str()).collect::<Vec<_>>().join(", ");
    ToolError::new("apt_failed", format!("apt changed nothing and ended with status {status} ({named}): {first}"))
}

fn first_error(errors: &str) -> &str {
    let mut lines = errors.lines().filter_map(|line| line.strip_prefix("E: "));
    lines.next().unwrap_or("no reason was given")
}

#[cfg(test)]
mod tests;

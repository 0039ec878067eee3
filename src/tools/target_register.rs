//! `target_register`: puts a machine that is reached by SSH into the registry, changes its entry or takes it out, with
//! the host keys it must show. Names no key of the gateway's that the engagement's targets do not use already, and no
//! machine of another kind: the gateway's own least of all.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Kind, PlanContext, Settled, Spec, Tool, ToolError,
    kit::{answer, arguments, schema_of},
    rights::{marked, reason},
};
use crate::{
    config::{ID_FORM, is_id, read_import, registry_file},
    model::{
        Connection, Content, Effect, HostKeyPin, NotAPin, Operation, Question, RawOutput, Registration, Risk, Scope,
        Step, Target, TargetKind,
    },
};

/// The tool.
pub(super) struct TargetRegister;

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Action {
    Add,
    Update,
    Remove,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    action: Action,
    id: String,
    /// Entry as in a registry file
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Map<String, Value>")]
    spec: Option<Map<String, Value>>,
    /// Host keys, SHA256:…
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    host_key_fp: Vec<String>,
    /// before_sha256 seen
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    expect_sha256: Option<String>,
    #[serde(default = "yes")]
    dry_run: bool,
    reason: String,
}

fn yes() -> bool {
    true
}

/// The shape of the answer.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Data {
    id: String,
    before_sha256: String,
    /// On a dry run
    host: Option<Shown>,
}

/// The keys that the host has now.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Shown {
    seen: bool,
    /// Why not
    code: Option<String>,
    keys: Vec<String>,
    /// Those that the entry names
    enrolled: Vec<String>,
    /// Those that an authority certifies
    certified: Vec<String>,
}

const SPEC: Spec = Spec {
    name: "target_register",
    title: "Register a target",
    help: "Adds, changes or removes an SSH target and enrols its host keys. The preview scans them; people approve.",
    scopes: &[Scope::FleetAdmin],
    risk: Risk::Critical,
    effect: Effect::Destructive,
    kind: Kind::Gateway,
    idempotent: true,
    open_world: true,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

impl Tool for TargetRegister {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        reason(&args.reason)?;
        if !is_id(&args.id) {
            return Err(ToolError::invalid("id", format_args!("must be {ID_FORM}")));
        }
        let is_digest = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if args.expect_sha256.as_ref().is_some_and(|text| text != "absent" && !is_digest(text)) {
            return Err(ToolError::invalid("expect_sha256", "must be before_sha256 of a preview"));
        }
        let wanted = wanted(&args, context)?;
        let places = wanted.iter().flat_map(|target| &target.roots).map(|root| root.display().to_string()).collect();
        let registration = Registration {
            id: args.id.as_str().into(),
            wanted: wanted.map(Box::new),
            replaces: args.action != Action::Add,
            expected: args.expect_sha256.clone(),
        };
        let question = Question::Registration(Box::new(registration));
        let operation = SPEC.operation(context, None, &args, vec![Step::Gateway(question)])?;
        Ok(marked(Operation { places, ..operation }, Some(args.reason), args.dry_run))
    }

    fn rechecks(&self) -> &'static [&'static str] {
        &["expect_sha256", "host_key_fp"]
    }

    fn settle(&self, arguments: &Map<String, Value>, preview: &Content) -> Result<Settled, ToolError> {
        let found = preview.data.get("before_sha256").cloned().unwrap_or_default();
        let settled = Settled::unchanged(arguments).pin("expect_sha256", found);
        let named = arguments.get("host_key_fp").and_then(Value::as_array).map_or(0, Vec::len);
        let host = preview.data.get("host").filter(|host| !host.is_null());
        let Some(host) = host.filter(|_| named > 0) else { return Ok(settled) };
        let code = host.get("code").and_then(Value::as_str);
        let enrolled = host.get("enrolled").and_then(Value::as_array).filter(|keys| !keys.is_empty());
        match (code, enrolled) {
            // Nobody can look from here: what is named is enrolled as it is.
            (Some("behind_jump_host"), _) => Ok(settled),
            (Some(code), _) => Err(ToolError::pointless(format_args!("the host shows no keys ({code})"))),
            (None, None) => Err(ToolError::pointless("the host shows none of the keys that host_key_fp names")),
            (None, Some(keys)) => Ok(settled.pin("host_key_fp", keys.clone())),
        }
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        let mut data = answer(raw)?.clone();
        let parts = data.as_object_mut().ok_or_else(|| ToolError::unreadable("no object"))?;
        let (before, after) = (parts.remove("before"), parts.remove("after"));
        let mut content = Content::new(data);
        content.before = before.filter(|entry| !entry.is_null());
        content.after = after.filter(|entry| !entry.is_null());
        content.changed = Some(!raw.operation.dry_run && content.before != content.after);
        if content.data.pointer("/host/code").is_some_and(|code| code == "behind_jump_host") {
            content.warnings.push("the host stands behind a jump host: its keys could not be looked at".to_owned());
        }
        Ok(content)
    }
}

/// The target that the arguments describe; none to remove one.
fn wanted(args: &Args, context: &PlanContext<'_>) -> Result<Option<Target>, ToolError> {
    let current = context.registry.target(context.engagement, &args.id);
    if args.action == Action::Remove {
        if args.spec.is_some() || !args.host_key_fp.is_empty() {
            return Err(ToolError::invalid("spec", "remove takes neither an entry nor host keys"));
        }
        return Ok(None);
    }
    let spec = args.spec.as_ref().ok_or_else(|| ToolError::invalid("spec", "must be the entry of the target"))?;
    let mut target = read(args, spec, context)?;
    let connection = target.registered.as_mut().and_then(|registered| registered.connection.as_mut());
    let connection = connection.ok_or_else(|| ToolError::invalid("spec.connection", "must say where the target is"))?;
    check_references(connection, context)?;
    let known = current.and_then(|current| current.connection()).filter(|known| known.is_same_place(connection));
    connection.host_keys = match (args.host_key_fp.is_empty(), known) {
        (false, _) => args.host_key_fp.iter().map(|text| pin(text)).collect::<Result<_, _>>()?,
        (true, Some(known)) if args.action == Action::Update => known.host_keys.clone(),
        (true, _) => Vec::new(),
    };
    // Where nothing is named, a certificate has to speak for the machine: whoever looks at it refuses it otherwise.
    Ok(Some(target))
}

/// Reads `spec` as a registry file is read.
fn read(args: &Args, spec: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Target, ToolError> {
    let mut entry = spec.clone();
    for (key, value) in [("type", "remote"), ("executor", TargetKind::Ssh.as_str())] {
        if entry.entry(key).or_insert_with(|| json!(value)) != value {
            return Err(ToolError::invalid(
                &format!("spec.{key}"),
                format_args!("must be {value}: only machines reached by SSH are registered by a call"),
            ));
        }
    }
    if entry.get("connection").is_some_and(|connection| connection.get("host_keys").is_some()) {
        return Err(ToolError::invalid("spec.connection.host_keys", "host keys are named by host_key_fp"));
    }
    let others: Vec<Target> = context.registry.targets_of(context.engagement).map(|other| (**other).clone()).collect();
    let text = registry_file([(args.id.as_str(), &Value::Object(entry))]);
    let engagements = std::slice::from_ref(context.engagement);
    let read = read_import(Path::new("spec"), &text, context.engagement, engagements, &others);
    let mut targets = read.map_err(|problems| {
        let prefix = format!("targets.{}", args.id);
        let told = problems.iter().map(|problem| {
            let place = problem.path.strip_prefix(&prefix).unwrap_or("");
            format!("`spec{place}`: {}", problem.message)
        });
        ToolError::new("invalid_arguments", told.collect::<Vec<_>>().join("; "))
    })?;
    match (targets.pop(), targets.is_empty()) {
        (Some(target), true) if target.id.as_str() == args.id => Ok(target),
        _ => Err(ToolError::invalid("spec", "must be the entry of one target")),
    }
}

/// Errors where `connection` names a file or a variable of the gateway that no target of the engagement uses: whoever
/// asks could have the gateway read what is not theirs.
fn check_references(connection: &Connection, context: &PlanContext<'_>) -> Result<(), ToolError> {
    let used = |is: &dyn Fn(&Connection) -> bool| {
        context.registry.targets_of(context.engagement).filter_map(|target| target.connection()).any(is)
    };
    let key = connection.key.is_none() || used(&|known| known.key == connection.key);
    let certificate = connection.certificate.is_none() || used(&|known| known.certificate == connection.certificate);
    for (fits, field) in [(key, "spec.connection.key_path"), (certificate, "spec.connection.certificate_path")] {
        if !fits {
            let wanted = "must be one that a target of yours uses already, or left out: then the gateway logs in with a \
                          certificate of its own";
            return Err(ToolError::invalid(field, wanted));
        }
    }
    Ok(())
}

fn pin(text: &str) -> Result<HostKeyPin, ToolError> {
    text.parse().map_err(|fault: NotAPin| ToolError::invalid("host_key_fp", format_args!("{text:?} {fault}")))
}

#[cfg(test)]
mod tests;

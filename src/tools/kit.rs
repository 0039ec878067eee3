//! What tools are made with: the specification, arguments that name their own faults, and the shared parts of plans.

mod page;

use std::{borrow::Cow, collections::BTreeSet, ops::RangeInclusive, sync::Arc};

use jiff::Timestamp;
pub(super) use page::targets;
use schemars::{JsonSchema, Schema, generate::SchemaSettings, transform::RecursiveTransform};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    config::Files,
    fleet::Registry,
    model::{
        ApprovalId, Effect, EngagementId, Jti, Operation, ProbeRules, RawOutput, Risk, Scope, ScriptOutput, Step,
        StepOutput, Subtree, Target,
    },
};

/// The argument that names an approval, of every tool. The pipeline takes it out of the call.
pub const APPROVAL_ID: &str = "approval_id";

/// What a tool acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A host: takes a `target`.
    Host,
    /// The gateway itself.
    Gateway,
}

/// What a tool is. A `const` item in the tool's file.
#[derive(Debug)]
pub struct Spec {
    /// `noun_verb`.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// For models: what it does and when to use it, in one or two sentences.
    pub help: &'static str,
    /// All of these are needed.
    pub scopes: &'static [Scope],
    /// Of a real run.
    pub risk: Risk,
    /// Of a real run.
    pub effect: Effect,
    /// What it acts on.
    pub kind: Kind,
    /// Whether doing it twice is the same as doing it once.
    pub idempotent: bool,
    /// Whether it reaches things outside the fleet.
    pub open_world: bool,
    /// The schema of its arguments: `schema_of::<Args>`.
    pub input: fn() -> Value,
    /// The schema of `data` in its answers: `schema_of::<Data>`.
    pub output: fn() -> Value,
}

/// What a plan may look at.
pub struct PlanContext<'a> {
    /// The caller's tenant.
    pub engagement: &'a EngagementId,
    /// The caller's token: what a call names when it means its own.
    pub token: &'a Jti,
    /// All targets; asked only by engagement.
    pub registry: &'a Registry,
    /// What probes may reach.
    pub probe: &'a ProbeRules,
    /// Now.
    pub now: Timestamp,
    /// The only directories the caller's token reaches; none means all of a target's roots.
    pub paths: Option<&'a BTreeSet<Subtree>>,
    /// What may be written.
    pub files: &'a Files,
}

/// What people agree to when they are asked about a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    /// The arguments it will run with: those of the call, with what the preview found where the tool checks that itself.
    pub arguments: Map<String, Value>,
    /// What else has to be found the same when it runs, by name.
    pub world: Map<String, Value>,
}

impl Settled {
    /// On nothing but `arguments`.
    pub fn unchanged(arguments: &Map<String, Value>) -> Self {
        Self { arguments: arguments.clone(), world: Map::new() }
    }

    /// The run is held to `value` by the tool's own argument `name`.
    pub(super) fn pin(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.arguments.insert(name.to_owned(), value.into());
        self
    }

    /// What `from` has of `names` stays as it is; what it has not stays away.
    pub(super) fn stay(mut self, from: &Value, names: &[&str]) -> Self {
        for name in names {
            self.world.insert((*name).to_owned(), from.get(*name).cloned().unwrap_or_default());
        }
        self
    }
}

/// Why a tool could not plan or could not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ToolError {
    /// For programs: `invalid_arguments`, `unknown_target`, `not_found`, `permission_denied`, …
    pub code: &'static str,
    /// For the caller: what is wrong.
    pub message: String,
    /// For the caller: what would be right.
    pub hint: Option<Cow<'static, str>>,
}

impl ToolError {
    /// An error with this code.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// With a hint at what would be right.
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The argument `field` is wrong, and what would be right.
    pub fn invalid(field: &str, wanted: impl std::fmt::Display) -> Self {
        Self::new("invalid_arguments", format!("`{field}`: {wanted}"))
    }

    /// Nobody is asked about what would be refused once they agreed; `why` says why.
    pub(super) fn pointless(why: impl std::fmt::Display) -> Self {
        Self::new("precondition_failed", format!("nobody is asked, as the run would be refused: {why}"))
            .hint("nothing was changed; dry_run shows what a real run would do")
    }

    /// A script's output was not what the tool can read.
    pub fn unreadable(what: &str) -> Self {
        Self::new("unreadable_output", format!("the target's answer could not be read: {what}"))
    }
}

/// The JSON schema of `T`, short: inlined, without title, dialect, the widths of integers and defaults that are lists
/// (the description says those in fewer words).
pub fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
        settings.transforms.push(Box::new(RecursiveTransform(shorten)));
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Some(object) = schema.as_object_mut() {
        object.remove("title");
        object.remove("description");
    }
    schema
}

fn shorten(schema: &mut Schema) {
    // `uint64`, `double`: no formats of JSON Schema, and clients that check formats complain of each.
    let width = |format: &str| {
        format.trim_start_matches("uint").trim_start_matches("int").bytes().all(|byte| byte.is_ascii_digit())
    };
    if schema
        .get("format")
        .and_then(Value::as_str)
        .is_some_and(|format| width(format) || matches!(format, "float" | "double"))
    {
        schema.remove("format");
    }
    if schema.get("default").is_some_and(Value::is_array) {
        schema.remove("default");
    }
}

/// Reads arguments. The error names the argument, unknown ones included (`deny_unknown_fields` is on every type).
pub(super) fn arguments<A: DeserializeOwned>(arguments: &Map<String, Value>) -> Result<A, ToolError> {
    serde_path_to_error::deserialize(arguments).map_err(|error| {
        let path = error.path().to_string();
        let message = if path == "." { error.inner().to_string() } else { format!("`{path}`: {}", error.inner()) };
        ToolError::new("invalid_arguments", message)
    })
}

/// Errors unless `value` lies in `range`.
pub(super) fn within<N: PartialOrd + std::fmt::Display>(
    field: &str,
    value: N,
    range: RangeInclusive<N>,
) -> Result<(), ToolError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(ToolError::invalid(field, format_args!("must be from {} to {}, not {value}", range.start(), range.end())))
}

/// Errors unless `text` is 1 to `most` characters without control characters.
pub(super) fn plain(field: &str, text: &str, most: usize) -> Result<(), ToolError> {
    let length = text.chars().count();
    if length == 0 || length > most {
        return Err(ToolError::invalid(field, format_args!("must be 1 to {most} characters long, not {length}")));
    }
    if text.chars().any(char::is_control) {
        return Err(ToolError::invalid(field, "must not contain control characters"));
    }
    Ok(())
}

/// `text` as the id of an approval. Errors name `field`.
pub(super) fn approval_id(field: &str, text: &str) -> Result<ApprovalId, ToolError> {
    if text.is_empty() || text.len() > 64 || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(ToolError::invalid(field, "must be the id of an approval, as approval_required answers it"));
    }
    Ok(text.into())
}

impl Spec {
    /// The schema of the arguments as clients see it: with the approval that a call may refer to, which no tool sees.
    /// Site policy can ask about every tool; only a decision is never waited for.
    pub fn input_schema(&self) -> Value {
        let mut schema = (self.input)();
        if let Some(schema) = schema.as_object_mut().filter(|_| !self.scopes.contains(&Scope::ApprovalDecide)) {
            // A tool without arguments has no properties.
            let properties = schema.entry("properties").or_insert_with(|| Map::new().into());
            if let Some(properties) = properties.as_object_mut() {
                properties.insert(APPROVAL_ID.to_owned(), serde_json::json!({"type": "string"}));
            }
        }
        schema
    }

    /// The operation of a call with `args` (defaults filled in) on `target`: what this specification says, not a dry
    /// run. Adjust the fields that differ afterwards.
    pub(super) fn operation(
        &self,
        context: &PlanContext<'_>,
        target: Option<Arc<Target>>,
        args: &impl Serialize,
        steps: Vec<Step>,
    ) -> Result<Operation, ToolError> {
        let Ok(Value::Object(arguments)) = serde_json::to_value(args) else {
            return Err(ToolError::new("internal", "arguments are not an object"));
        };
        Ok(Operation {
            tool: self.name,
            target,
            engagement: context.engagement.clone(),
            scopes: self.scopes,
            effect: self.effect,
            risk: self.risk,
            raised: None,
            asks: None,
            dry_run: false,
            reason: None,
            moment: None,
            arguments,
            places: Vec::new(),
            steps,
        })
    }
}

/// The host a call names.
pub(super) struct Host;

impl Host {
    /// The target called `id` in the caller's engagement.
    pub(super) fn find(context: &PlanContext<'_>, id: &str) -> Result<Arc<Target>, ToolError> {
        context.registry.target(context.engagement, id).cloned().ok_or_else(|| {
            ToolError::new("unknown_target", format!("there is no target {id:?}"))
                .hint("fleet_list shows the targets you can use")
        })
    }
}

/// The script output of step `index`.
pub(super) fn script(raw: &RawOutput, index: usize) -> Result<&ScriptOutput, ToolError> {
    match raw.outputs.get(index) {
        Some(StepOutput::Script(output)) => Ok(output),
        _ => Err(ToolError::unreadable("a step is missing")),
    }
}

/// The gateway's answer to the operation's only step.
pub(super) fn answer(raw: &RawOutput) -> Result<&Value, ToolError> {
    match raw.outputs.first() {
        Some(StepOutput::Answer(answer)) => Ok(answer),
        _ => Err(ToolError::unreadable("no answer")),
    }
}

/// The words that a list of unit variants is written as. Errors rather than leaving one out.
pub(super) fn words(list: &[impl Serialize]) -> Result<Vec<String>, ToolError> {
    let words = serde_json::to_value(list).and_then(serde_json::from_value);
    words.map_err(|error| ToolError::new("internal", format!("arguments cannot be written: {error}")))
}

/// `data` as JSON.
pub(super) fn data(data: &impl Serialize) -> Result<Value, ToolError> {
    serde_json::to_value(data).map_err(|error| ToolError::unreadable(&error.to_string()))
}

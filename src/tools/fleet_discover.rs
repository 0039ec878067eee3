//! `fleet_discover`: machines of the tailnet that could become targets. What it shows is a candidate: nothing can be
//! done with it until somebody registers it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Kind, PlanContext, Spec, Tool, ToolError,
    kit::{arguments, plain, schema_of, within},
};
use crate::model::{CandidateFilter, Content, Effect, Operation, Question, RawOutput, Risk, Scope, Step};

/// The tool.
pub(super) struct FleetDiscover;

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Source {
    #[default]
    Tailnet,
    // Known, so that asking for one is answered with what is there.
    #[schemars(skip)]
    Proxmox,
    #[schemars(skip)]
    Docker,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    #[serde(default)]
    source: Source,
    /// Only machines with this tailnet tag, e.g. tag:web
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    /// Only machines that are online, or that are not
    #[serde(default, skip_serializing_if = "Option::is_none")]
    online: Option<bool>,
    /// 1 to 200
    #[serde(default = "limit")]
    limit: u32,
    /// next_cursor of the page before
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

fn limit() -> u32 {
    50
}

/// The shape of the answer.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Data {
    candidates: Vec<Candidate>,
    total: u32,
}

#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only")]
struct Candidate {
    id: String,
    name: String,
    addresses: Vec<String>,
    os: Option<String>,
    tags: Vec<String>,
    online: bool,
    /// Fingerprints; only of machines that run Tailscale SSH
    ssh_host_keys: Vec<String>,
    /// The target it is already
    target: Option<String>,
}

const SPEC: Spec = Spec {
    name: "fleet_discover",
    title: "Discover machines",
    help: "Lists machines of the tailnet as candidates for targets, with addresses, tags and SSH host keys. Registers nothing.",
    scopes: &[Scope::FleetRead],
    risk: Risk::Moderate,
    effect: Effect::Read,
    kind: Kind::Gateway,
    idempotent: true,
    open_world: true,
    input: schema_of::<Args>,
    output: schema_of::<Data>,
};

impl Tool for FleetDiscover {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn plan(&self, raw: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError> {
        let args: Args = arguments(raw)?;
        within("limit", args.limit, 1..=200)?;
        if args.source != Source::Tailnet {
            return Err(ToolError::invalid("source", "must be tailnet: this version discovers nowhere else"));
        }
        if let Some(tag) = &args.tag {
            plain("tag", tag, 128)?;
            if !tag.starts_with("tag:") {
                return Err(ToolError::invalid("tag", "must be a tailnet tag, such as tag:web"));
            }
        }
        let filter = CandidateFilter {
            tag: args.tag.clone(),
            online: args.online,
            after: SPEC.place(args.cursor.as_ref(), place)?,
            limit: args.limit,
        };
        SPEC.operation(context, None, &args, vec![Step::Gateway(Question::Candidates(filter))])
    }

    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError> {
        SPEC.page(raw)
    }
}

/// The name and id that a cursor stands for.
fn place(cursor: &str) -> Option<(String, String)> {
    let (name, id) = cursor.rsplit_once(' ').filter(|(_, id)| !id.is_empty() && !id.contains(char::is_control))?;
    Some((name.to_owned(), id.to_owned()))
}

//! The tool catalogue: one file a tool, each a unit struct that says what it is (`spec`), turns arguments into an
//! operation (`plan`) and raw output into content (`render`). No I/O, no async. Everything that names tools (the MCP
//! list, schemas, policy matrix, documentation) derives from [`ALL`].

mod fleet_list;
mod kit;
mod process_list;
mod process_signal;
mod procfs;
mod target_inspect;
#[cfg(test)]
mod trial;

pub use kit::{Kind, PlanContext, Spec, ToolError};
use serde_json::{Map, Value};

use crate::model::{Content, Operation, RawOutput};

/// Every tool, in the order clients see them.
pub const ALL: &[&dyn Tool] = &[
    &process_list::ProcessList,
    &process_signal::ProcessSignal,
    &fleet_list::FleetList,
    &target_inspect::TargetInspect,
];

/// One tool.
pub trait Tool: Sync {
    /// What it is: name, help, schemas, scopes, risk.
    fn spec(&self) -> &'static Spec;

    /// The operation these arguments ask for. Pure: the same arguments and registry give the same operation.
    /// Errors name the argument and what would be right.
    fn plan(&self, arguments: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError>;

    /// The answer, from what the steps gave. Called only where every step came to an end by itself
    /// ([`crate::model::StepOutcome::Exited`], any status) or answered; the other outcomes are errors of their own.
    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError>;
}

/// The tool called `name`.
pub fn find(name: &str) -> Option<&'static dyn Tool> {
    ALL.iter().copied().find(|tool| tool.spec().name == name)
}

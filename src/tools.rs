//! The tool catalogue: one file a tool, each a unit struct that says what it is (`spec`), turns arguments into an
//! operation (`plan`) and raw output into content (`render`). No I/O, no async. Everything that names tools (the MCP
//! list, schemas, policy matrix, documentation) derives from [`ALL`].

mod audit_query;
mod file_list;
mod file_read;
mod fleet_list;
mod gateway_inspect;
mod host_inspect;
mod journal_query;
mod kit;
mod network_inspect;
mod paths;
mod policy_explain;
mod process_list;
mod process_signal;
mod procfs;
#[cfg(test)]
mod rig;
mod service_control;
mod service_list;
mod systemd;
mod target_inspect;
mod token_inspect;

pub use kit::{Kind, PlanContext, Spec, ToolError, schema_of};
use serde_json::{Map, Value};

use crate::model::{Content, Operation, RawOutput};

/// Every tool, in the order clients see them.
pub const ALL: &[&dyn Tool] = &[
    &host_inspect::HostInspect,
    &process_list::ProcessList,
    &process_signal::ProcessSignal,
    &service_list::ServiceList,
    &service_control::ServiceControl,
    &journal_query::JournalQuery,
    &network_inspect::NetworkInspect,
    &file_list::FileList,
    &file_read::FileRead,
    &fleet_list::FleetList,
    &target_inspect::TargetInspect,
    &policy_explain::PolicyExplain,
    &audit_query::AuditQuery,
    &token_inspect::TokenInspect,
    &gateway_inspect::GatewayInspect,
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

//! The tool catalogue: one file a tool, each a unit struct that says what it is (`spec`), turns arguments into an
//! operation (`plan`) and raw output into content (`render`). No I/O, no async. Everything that names tools (the MCP
//! list, schemas, policy matrix, documentation) derives from [`ALL`].

mod approval_decide;
mod approval_list;
mod apt;
mod audit_query;
mod disk_inspect;
#[cfg(test)]
mod fakes;
mod file_delete;
mod file_list;
mod file_read;
mod file_search;
mod file_write;
mod fleet_discover;
mod fleet_list;
mod fleet_summarize;
mod gateway_inspect;
mod host_inspect;
mod host_power_control;
mod http_probe;
mod job_cancel;
mod job_inspect;
mod journal_query;
mod kit;
mod media;
mod network_inspect;
mod network_probe;
mod package_change;
mod package_list;
mod package_refresh;
mod paths;
mod policy_explain;
mod probes;
mod process_list;
mod process_signal;
mod procfs;
#[cfg(test)]
mod rig;
mod rights;
mod service_configure;
mod service_control;
mod service_inspect;
mod service_list;
#[cfg(test)]
mod settled;
mod snapshot_create;
mod snapshot_diff;
mod snapshot_list;
mod started;
mod sudoers;
mod systemd;
mod target_inspect;
mod target_register;
mod token_inspect;
mod token_revoke;

pub use kit::{APPROVAL_ID, Kind, PlanContext, Settled, Spec, ToolError, schema_of};
pub(crate) use rights::missing_right;
use serde_json::{Map, Value};
pub use sudoers::{SudoRule, sudo_rules};

use crate::model::{Content, Operation, RawOutput};

/// Every tool, in the order clients see them.
pub const ALL: &[&dyn Tool] = &[
    &host_inspect::HostInspect,
    &host_power_control::HostPowerControl,
    &process_list::ProcessList,
    &process_signal::ProcessSignal,
    &service_list::ServiceList,
    &service_inspect::ServiceInspect,
    &service_control::ServiceControl,
    &service_configure::ServiceConfigure,
    &journal_query::JournalQuery,
    &network_inspect::NetworkInspect,
    &network_probe::NetworkProbe,
    &http_probe::HttpProbe,
    &file_list::FileList,
    &file_read::FileRead,
    &file_search::FileSearch,
    &file_write::FileWrite,
    &file_delete::FileDelete,
    &disk_inspect::DiskInspect,
    &package_list::PackageList,
    &package_refresh::PackageRefresh,
    &package_change::PackageChange,
    &fleet_list::FleetList,
    &fleet_discover::FleetDiscover,
    &target_inspect::TargetInspect,
    &target_register::TargetRegister,
    &fleet_summarize::FleetSummarize,
    &snapshot_create::SnapshotCreate,
    &snapshot_list::SnapshotList,
    &snapshot_diff::SnapshotDiff,
    &policy_explain::PolicyExplain,
    &approval_list::ApprovalList,
    &approval_decide::ApprovalDecide,
    &audit_query::AuditQuery,
    &token_inspect::TokenInspect,
    &token_revoke::TokenRevoke,
    &job_inspect::JobInspect,
    &job_cancel::JobCancel,
    &gateway_inspect::GatewayInspect,
];

/// One tool.
pub trait Tool: Sync {
    /// What it is: name, help, schemas, scopes, risk.
    fn spec(&self) -> &'static Spec;

    /// The schema of the arguments as they are judged and recorded: those of the call, unless the tool puts something
    /// else in their place.
    fn judged(&self) -> Value {
        (self.spec().input)()
    }

    /// The operation these arguments ask for. Pure: the same arguments and registry give the same operation.
    /// Errors name the argument and what would be right.
    fn plan(&self, arguments: &Map<String, Value>, context: &PlanContext<'_>) -> Result<Operation, ToolError>;

    /// The arguments of the dry run that shows people what a call with `arguments` would do; none where there is nothing
    /// to preview.
    fn preview(&self, arguments: &Map<String, Value>) -> Option<Map<String, Value>> {
        let schema = (self.spec().input)();
        schema.pointer("/properties/dry_run")?;
        let mut arguments = arguments.clone();
        arguments.insert("dry_run".to_owned(), true.into());
        Some(arguments)
    }

    /// Whether the answer shows what is known of the target besides what its steps gave: the last output is then what
    /// the gateway remembers of it.
    fn recalls(&self) -> bool {
        false
    }

    /// What a run is held to that people agreed to, by name: arguments that [`Self::settle`] pins, and what else of the
    /// world it wants to find again. Nothing for what only reads.
    fn rechecks(&self) -> &'static [&'static str] {
        &[]
    }

    /// What people agree to beyond `arguments`: the arguments that hold the run to what `preview` found, and what else
    /// of the world has to be found the same again. Errors where the preview says that a run would be refused.
    fn settle(&self, arguments: &Map<String, Value>, _preview: &Content) -> Result<Settled, ToolError> {
        Ok(Settled::unchanged(arguments))
    }

    /// The answer, from what the steps gave. Called only where every step came to an end by itself
    /// ([`crate::model::StepOutcome::Exited`], any status) or answered; the other outcomes are errors of their own.
    fn render(&self, raw: &RawOutput) -> Result<Content, ToolError>;
}

/// The tool called `name`.
pub fn find(name: &str) -> Option<&'static dyn Tool> {
    ALL.iter().copied().find(|tool| tool.spec().name == name)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use serde::Deserialize;

    use super::*;

    /// One file in `tests/cases/tools`; the tests of the whole gateway read the same files.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        /// The smallest arguments of a real call on the target `local`, whose roots hold `/var/log`.
        call: Map<String, Value>,
        invalid: Vec<Invalid>,
    }

    /// Arguments that are refused before anything runs.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Invalid {
        args: Map<String, Value>,
        /// What the message must name.
        names: String,
        #[serde(default = "invalid_arguments")]
        code: String,
    }

    fn invalid_arguments() -> String {
        "invalid_arguments".into()
    }

    #[test]
    fn every_tool_has_its_case() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/tools");
        let files = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let wanted = ALL.iter().map(|tool| format!("{}.json", tool.spec().name));
        assert_eq!(files.collect::<BTreeSet<_>>(), wanted.collect());

        let mut rig = rig::Rig::new();
        rig.target.id = "local".into();
        for tool in ALL {
            let name = tool.spec().name;
            let text = fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
            let case: Case = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            let operation = rig.plan_exactly(*tool, &case.call.into()).unwrap();
            assert!(operation.tool == name && !operation.dry_run && operation.effect == tool.spec().effect, "{name}");
            assert!(case.invalid.len() >= 4, "{name} has only {} invalid cases", case.invalid.len());
            for Invalid { args, names, code } in case.invalid {
                let args = Value::from(args);
                let Err(error) = rig.plan_exactly(*tool, &args) else { panic!("{name} takes {args}") };
                assert_eq!(error.code, code, "{name} {args}: {error}");
                assert!(error.message.contains(&names), "{name} {args}: {error}");
            }
        }
    }
}

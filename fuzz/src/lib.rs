//! What fuzz targets share: a fleet of one target, and an operation of every tool to render answers for. The fleet
//! comes from a configuration and the operations from the tools' case files, as everywhere else.

use std::{fs, path::Path};

use serde_json::{Map, Value};
use tailops::{
    config::{self, Config},
    fleet::Registry,
    model::{EngagementId, Jti, Operation},
    tools::{ALL, PlanContext, Tool, ToolError},
};

/// Owns the machine `local`, which offers everything.
const CONFIG: &str = r#"
profile = "development"
[engagements.lab]
[targets.local]
kind = "local"
engagement = "lab"
capabilities = ["admin"]
roots = ["/var/log"]
[probe]
networks = ["127.0.0.0/8", "::1/128"]
[probe.urls.health]
url = "http://127.0.0.1:8080/healthz"
approval = "required"
"#;

/// One fleet and the moment in which everything happens.
pub struct Lab {
    engagement: EngagementId,
    token: Jti,
    registry: Registry,
    config: Config,
    now: jiff::Timestamp,
}

impl Lab {
    /// Reads the configuration.
    pub fn new() -> Self {
        let names: Vec<&str> = ALL.iter().map(|tool| tool.spec().name).collect();
        let config = config::load(Path::new("lab.toml"), CONFIG, &names).expect("the lab's configuration is valid");
        Self {
            engagement: "lab".into(),
            token: "fuzz".into(),
            registry: Registry::new(config.targets.iter().cloned()),
            config,
            now: "2026-11-21T12:00:00Z".parse().expect("a time"),
        }
    }

    /// What `tool` would do with these arguments.
    pub fn plan(&self, tool: &dyn Tool, arguments: &Map<String, Value>) -> Result<Operation, ToolError> {
        let Self { engagement, token, registry, config: Config { probe, files, .. }, now } = self;
        tool.plan(arguments, &PlanContext { engagement, token, registry, probe, paths: None, files, now: *now })
    }

    /// The operation of a tool's case file.
    pub fn operation(&self, tool: &dyn Tool) -> Operation {
        let name = tool.spec().name;
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/cases/tools/{name}.json"));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let case: Value = serde_json::from_str(&text).expect("a case file is JSON");
        let call = case["call"].as_object().expect("`call` is an object");
        self.plan(tool, call).unwrap_or_else(|error| panic!("{name}: its case cannot be planned: {error}"))
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

/// The tool that the first line names, and what stands behind that line.
pub fn tool_and_rest(data: &[u8]) -> Option<(&'static dyn Tool, &[u8])> {
    let end = data.iter().position(|byte| *byte == b'\n')?;
    let tool = tailops::tools::find(std::str::from_utf8(&data[..end]).ok()?)?;
    Some((tool, &data[end + 1..]))
}

//! The case files: for every tool one call that is right and some that are wrong.

use std::{fs, path::Path};

use serde_json::Value;
use tailops::tools;

/// A tool's case file.
pub struct Case {
    pub tool: &'static str,
    /// Arguments of a call that can be planned.
    pub call: Value,
    /// Arguments that cannot, each with the word the message must hold.
    pub invalid: Vec<(Value, String)>,
}

/// The case of every tool, in the catalogue's order.
pub fn all() -> Vec<Case> {
    tools::ALL.iter().map(|tool| read(tool.spec().name)).collect()
}

fn read(tool: &'static str) -> Case {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/cases/tools/{tool}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let case: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let wrong = |entry: &Value| (entry["args"].clone(), entry["names"].as_str().unwrap().to_owned());
    Case { tool, call: case["call"].clone(), invalid: case["invalid"].as_array().unwrap().iter().map(wrong).collect() }
}

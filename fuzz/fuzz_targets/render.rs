//! What a target answers, read by every tool and let out by the guard. A target may lie. Input: the tool's name, a line
//! break, what the script printed (or, for a tool of the gateway itself, the answer as JSON).
#![no_main]

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use libfuzzer_sys::fuzz_target;
use tailops::{
    config,
    guard::{Guard, GuardLimits},
    model::{Captured, Operation, RawOutput, ScriptOutput, Step, StepOutcome, StepOutput},
    tools::ALL,
};
use tailops_fuzz::{Lab, tool_and_rest};

/// What opens a section; the seeds hold it too.
const MARKER: &str = "0123456789abcdef0123456789abcdef";

static OPERATIONS: LazyLock<HashMap<&str, Operation>> = LazyLock::new(|| {
    let lab = Lab::new();
    ALL.iter().map(|tool| (tool.spec().name, lab.operation(*tool))).collect()
});

fuzz_target!(|data: &[u8]| {
    let Some((tool, printed)) = tool_and_rest(data) else { return };
    let operation = OPERATIONS[tool.spec().name].clone();
    let mut outputs = Vec::new();
    for step in &operation.steps {
        outputs.push(match step {
            Step::Script(_) => StepOutput::Script(script(printed).into()),
            _ => {
                let Ok(answer) = serde_json::from_slice(printed) else { return };
                StepOutput::Answer(answer)
            }
        });
    }
    if let Ok(content) = tool.render(&RawOutput { operation, outputs }) {
        Guard::new(GuardLimits::default(), &config::Guard::default()).release(content);
    }
});

fn script(printed: &[u8]) -> ScriptOutput {
    let captured = |bytes: &[u8]| Captured {
        head: bytes.to_vec(),
        tail: Vec::new(),
        total: bytes.len() as u64,
        sha256: String::new(),
    };
    ScriptOutput {
        template_id: "fuzz.v1",
        argv_sha256: String::new(),
        marker: MARKER.to_owned(),
        outcome: StepOutcome::Exited(0),
        stdout: captured(printed),
        stderr: captured(b""),
        duration: Duration::from_millis(1),
        wire: None,
    }
}

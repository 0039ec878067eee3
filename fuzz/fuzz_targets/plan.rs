//! Arguments of every tool. Input: the tool's name, a line break, JSON.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use tailops_fuzz::{Lab, tool_and_rest};

static LAB: LazyLock<Lab> = LazyLock::new(Lab::new);

fuzz_target!(|data: &[u8]| {
    let Some((tool, json)) = tool_and_rest(data) else { return };
    let Ok(arguments) = serde_json::from_slice::<Map<String, Value>>(json) else { return };
    match LAB.plan(tool, &arguments) {
        Ok(operation) => {
            assert_eq!(operation.tool, tool.spec().name);
            assert!(operation.engagement.as_str() == "lab", "the tenant came from the arguments");
            let again = LAB.plan(tool, &arguments).expect("a plan that works once works twice");
            assert_eq!(format!("{again:?}"), format!("{operation:?}"), "a plan is pure");
        }
        Err(error) => assert!(!error.code.is_empty() && !error.message.is_empty()),
    }
});

//! Request bodies and canonical JSON: a text with a key twice is refused, and canonical JSON is a fixed point.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tailops::model::{canonical_json, check_keys};

fuzz_target!(|data: &[u8]| {
    let checked = check_keys(data);
    let Ok(value) = serde_json::from_slice::<Value>(data) else {
        assert!(checked.is_err(), "what is no JSON passes");
        return;
    };
    let canonical = canonical_json(&value).expect("a value that was read can be written");
    let again: Value = serde_json::from_slice(&canonical).expect("canonical JSON is JSON");
    assert_eq!(canonical_json(&again).expect("and can be written"), canonical, "it has two canonical forms");
    if checked.is_ok() {
        check_keys(&canonical).expect("the canonical form of a text without repeated keys has none");
    }
});

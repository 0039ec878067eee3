//! Everything that leaves: no text makes the guard fail or grow beyond its limits, and guarding twice changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tailops::{
    config,
    guard::{Guard, GuardLimits},
    model::Content,
};

const LIMITS: GuardLimits =
    GuardLimits { max_string_bytes: 4 << 10, max_total_bytes: 16 << 10, max_items: 64, max_depth: 8 };

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let guard = Guard::new(LIMITS, &config::Guard::default());
    let once = guard.text(&text);
    assert!(once.text.len() <= LIMITS.max_string_bytes, "{} bytes", once.text.len());
    let hidden = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    assert!(!once.text.contains(hidden), "a control character leaves: {:?}", once.text);
    let twice = guard.text(&once.text);
    assert_eq!(twice.text, once.text, "guarding twice changes something");

    if let Ok(value) = serde_json::from_slice::<Value>(data) {
        let (content, ..) = guard.release(Content::new(value)).into_parts();
        let length = serde_json::to_vec(&content.data).map_or(usize::MAX, |json| json.len());
        assert!(length <= LIMITS.max_total_bytes, "{length} bytes leave");
    }
});

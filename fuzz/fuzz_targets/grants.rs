//! The rules that a tailnet policy hands a peer: read or refused, never wider than they stand there, and always with a
//! word on why not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tailops::{
    config::{GrantsMode, Tailnet},
    model::check_keys,
    tailnet::{Grants, NotAdmitted, read_grants, read_grants_text},
};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let settings = Tailnet { grants: GrantsMode::Optional, ..Tailnet::default() };
    match read_grants_text(Some(text), &settings) {
        Ok(Grants::Unrestricted) => panic!("a capability that is there narrows nothing"),
        Ok(Grants::Rules(rules)) => {
            check_keys(data).expect("a key stands twice");
            let values: Option<Vec<Value>> = serde_json::from_str(text).expect("what was read is a list");
            assert_eq!(rules.len(), values.as_ref().map_or(0, Vec::len), "a rule was made or lost");
            let again = read_grants(Some(&values.unwrap_or_default()), &settings);
            assert_eq!(again, Ok(Grants::Rules(rules)), "the values say something else than their text");
        }
        Err(NotAdmitted::BadGrant(why)) => assert!(!why.is_empty() && why.len() < 1000, "{why}"),
        Err(other) => panic!("{other:?}"),
    }
});

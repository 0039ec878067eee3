//! Whose host key counts: lists of revoked keys are read whole or refused with a line, and patterns never let in what they
//! exclude.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tailops::exec::{NotAList, RevokedKeys, host_matches};

const PRINT: &str = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";

fuzz_target!(|bytes: &[u8]| {
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
    match RevokedKeys::read(bytes) {
        Ok(list) => {
            // What follows is revoked too, and takes nothing away.
            let more = [bytes, b"\n", PRINT.as_bytes()].concat();
            let more = RevokedKeys::read(&more).expect("a list and a fingerprint are a list");
            assert!(more.has_key(PRINT));
            assert_eq!(RevokedKeys::read(bytes).as_ref(), Ok(&list));
        }
        Err(NotAList::Line { line, .. }) => assert!((1..=lines).contains(&line)),
        Err(_) => {}
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (host, patterns) = text.split_once('\n').unwrap_or((text, "*"));
    let mut patterns: Vec<String> = patterns.lines().map(str::to_owned).collect();
    let before = host_matches(&patterns, host, 2222);
    // Names are compared without regard to case.
    assert_eq!(before, host_matches(&patterns, &host.to_ascii_uppercase(), 2222));
    patterns.push("!*".to_owned());
    assert!(!host_matches(&patterns, host, 2222));
    assert!(!host_matches(&[], host, 22));
});

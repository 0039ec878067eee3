//! Where something is missing, the lab says what, once, and passes; in CI it fails.

use std::process::{Command, Output};

/// This test binary with nothing to be found on its path.
fn without_programs(ci: Option<&str>) -> Output {
    let mut tests = Command::new(std::env::current_exe().unwrap());
    tests.args(["basics::"]).env("PATH", "/nonexistent").env_remove("CI").envs(ci.map(|ci| ("CI", ci)));
    tests.output().unwrap()
}

#[test]
fn what_is_missing_is_said_once_and_fails_in_ci() {
    let output = without_programs(None);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("lab: ") && said.contains(" skipped: it needs "), "{said}");

    let output = without_programs(Some("true"));
    assert!(!output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("the lab must run in CI: it needs ") && said.contains(" 0 passed"), "{said}");
}

//! What cannot even be written: the compiler refuses every way around the check.

#[test]
fn nothing_but_policy_makes_a_permit_and_nothing_runs_without_one() {
    trybuild::TestCases::new().compile_fail("tests/compile-fail/*.rs");
}

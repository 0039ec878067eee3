//! Any argument and any section come through, whatever they hold.

use std::sync::LazyLock;

use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::tests::Bench;
use crate::{
    exec::contract::hostile::{BODY, received, run},
    model::{Script, Section, Template},
};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static ECHO: Template = Template { id: "test.echo.v1", body: BODY, stdin: false };
static SECTIONS: Template = Template {
    id: "test.sections.v1",
    body: r#"while [ $# -gt 0 ]; do section "s$#"; printf '%s' "$1"; shift; done"#,
    stdin: false,
};

/// Any text without NUL, most of it what shells act on.
fn text() -> impl Strategy<Value = String> {
    let shell = prop::sample::select("'\"\\`$(){}[]<>|&;*?!~#-=%^ \t\n\r\u{1}\u{7f}ab0".chars().collect::<Vec<_>>());
    let any = any::<char>().prop_filter("NUL", |c| *c != '\0');
    prop::collection::vec(prop_oneof![3 => shell, 1 => any], 0..40).prop_map(String::from_iter)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_argument_arrives_byte_identical(args in prop::collection::vec(text(), 1..30)) {
        prop_assert_eq!(RUNTIME.block_on(received(&Bench, &ECHO, &args)), args);
    }

    #[test]
    fn any_section_comes_back_as_it_was_written(contents in prop::collection::vec(text(), 1..10)) {
        let sections = RUNTIME.block_on(run(&Bench, &Script::new(&SECTIONS, &contents))).sections();
        let names = (1..=contents.len()).rev().map(|n| format!("s{n}"));
        let written = names.zip(contents).map(|(name, content)| Section { name, content: Ok(content.into()) });
        prop_assert_eq!(sections, written.collect::<Vec<_>>());
    }
}

//! The test of the test: a planted violation of each rule must be found, and nothing in a clean tree.

use super::*;

/// A small repository without a fault.
fn clean() -> Files {
    let tool = "//! Sees.\nuse crate::model::Scope;\npub(super) struct HostSee;\nconst SPEC: Spec = Spec { name: \
                \"host_see\" };\nimpl Tool for HostSee {}\n";
    [
        ("README.md", "Run `cargo run -- serve --dev`, check with `cargo test`."),
        ("src/lib.rs", "//! All.\npub mod auth;\npub mod exec;\npub mod model;\npub mod policy;\npub mod tools;\n"),
        ("src/main.rs", "//! Starts.\nfn main() { tailops::cli::run() }\n"),
        ("src/model.rs", "//! Values.\n"),
        ("src/auth.rs", "//! Who.\nmod token;\n"),
        ("src/auth/token.rs", "//! Tokens.\nuse super::super::model::{Scope, Risk as R};\n"),
        ("src/policy.rs", "//! May they.\nuse crate::{auth::Caller, model::*};\n"),
        ("src/exec.rs", "//! Runs.\nuse crate::policy::Permit;\nuse std::process::Command;\n"),
        ("src/tools.rs", "//! Tools.\nmod host_see;\npub const ALL: &[&dyn Tool] = &[&host_see::HostSee];\n"),
        ("src/tools/host_see.rs", tool),
        ("src/store.rs", "//! Rows.\nuse sqlx::Row;\n"),
        ("src/mcp.rs", "//! Wire.\nuse rmcp::ServerHandler;\n"),
        ("src/cli.rs", "//! Commands.\nuse std::env;\n"),
        ("tests/cases/tools/host_see.json", ""),
    ]
    .into_iter()
    .map(|(name, text)| (name.to_owned(), text.to_owned()))
    .collect()
}

#[test]
fn a_clean_repository_has_no_faults() {
    assert_eq!(faults(&clean()), Vec::<String>::new());
}

/// Appends `code` to the clean file `name` and expects the fault `wanted` there and no other.
#[track_caller]
fn planted(name: &str, code: &str, wanted: &str) {
    let mut files = clean();
    files.entry(name.to_owned()).or_insert_with(|| "//! New.\n".to_owned()).push_str(code);
    found(&files, name, wanted);
}

#[track_caller]
fn found(files: &Files, name: &str, wanted: &str) {
    let faults = faults(files);
    assert!(!faults.is_empty(), "{wanted:?} was not found in {name}");
    // A name bound by `use` counts where it is bound and where it is used.
    let others: Vec<_> = faults.iter().filter(|fault| !fault.starts_with(name) || !fault.contains(wanted)).collect();
    assert!(others.is_empty(), "wanted {wanted:?} in {name} alone, found {others:?} too");
}

#[test]
fn an_import_to_the_right_is_found_however_it_is_written() {
    let wanted = "auth stands before policy";
    for code in [
        "use crate::policy::Permit;",
        "use crate::{model::Scope, policy::{self, Permit}};",
        "use crate::policy as p;",
        "use super::super::policy;",
        "use crate::model::{Scope, super::Scope as S}; fn f() -> crate::policy::Permit { g() }",
        "fn f(_: &super::super::policy::Permit) {}",
        "mod inner { use super::super::super::policy::Permit; }",
        "macro_rules! m { () => { $crate::policy::decide() } }",
        "#[cfg(not(test))] use crate::policy::Permit;",
    ] {
        planted("src/auth/token.rs", code, wanted);
    }
    planted("src/auth.rs", "use super::policy::Permit;", wanted);
    planted("src/model.rs", "use crate::auth::Caller;", "model stands before auth");
    planted("src/auth/token.rs", "use crate as c; fn f() { c::policy::decide() }", wanted);
    planted("src/auth/token.rs", "use crate::Permit;", "does not say which module");
    planted("src/auth/token.rs", "use crate::*;", "does not say which module");
    planted("src/extra.rs", "", "no place in the order");
}

#[test]
fn each_ban_finds_its_planted_violation() {
    for (name, code, wanted) in [
        ("src/tools/host_see.rs", "use crate::exec::run;", "tools may never name crate::exec"),
        ("src/tools/host_see.rs", "use crate::store::Store;", "tools may never name crate::store"),
        ("src/tools/host_see.rs", "use tokio::time::sleep;", "tools may never name tokio"),
        ("src/tools.rs", "use std::process::ExitCode;", "tools may never name std::process"),
        ("src/exec.rs", "use crate::auth::Caller;", "exec may never name crate::auth"),
        ("src/policy.rs", "fn f() { tokio::spawn(g()); }", "policy may never name tokio"),
        ("src/mcp.rs", "fn f(p: P) { p.into_permit(\"me\", now()); }", "only approval may call"),
        ("src/pipeline.rs", "fn f(e: E) { e.look_at_job(t, j); }", "only src/fleet/jobs may call"),
        ("src/pipeline.rs", "fn f(e: E) { e.act_on_login_key(t, a); }", "only src/fleet/rotation may call"),
        ("src/policy.rs", "use std::{fmt, fs::File};", "policy may never name std::fs"),
        ("src/policy.rs", "use std::net::IpAddr;", "policy may never name std::net"),
        ("src/policy.rs", "use ::sqlx::query;", "only store may name sqlx"),
        ("src/auth.rs", "use rmcp::model::Tool;", "only mcp may name rmcp"),
        ("src/mcp.rs", "use crate::exec;", "mcp may never name crate::exec"),
        ("src/http.rs", "fn f() { crate::exec::run() }", "http may never name crate::exec"),
        ("src/http.rs", "fn f() { std::env::var_os(\"A\"); }", "only cli and main may name std::env"),
        ("src/auth.rs", "use std as s; fn f() { s::env::var(\"A\"); }", "only cli and main may name std::env"),
        (
            "src/auth.rs",
            "use std::process; fn f() { process::Command::new(\"a\"); }",
            "only exec and tailnet may name std::pro",
        ),
        ("src/auth.rs", "use std::process::*;", "only exec and tailnet may name std::process::Command"),
        ("src/mcp.rs", "use tokio::process::Command;", "only exec and tailnet may name tokio::process"),
    ] {
        planted(name, code, wanted);
    }
}

#[test]
fn what_only_looks_like_a_path_is_none() {
    let mut files = clean();
    let code = concat!(
        "// crate::policy::decide\n/* outer /* sqlx::query */ rmcp::x */\n/// [`crate::policy`]\n",
        "fn f<'a>(_: &'a str) -> char { let _ = (\"crate::policy::x \\\" sqlx::query\", r#\"\" rmcp::x\"#, b'\\''); '\"' }\n",
        "pub(crate) fn g() -> impl Sized + use<> {}\n",
        "#[cfg(test)]\nuse crate::{policy::{Permit}, exec};\n",
        "#[cfg(test)]\nmod tests { use super::*; fn f() { crate::policy::decide(); sqlx::query(\"}\"); } }\n",
        "#[cfg(test)]\npub(super) mod cases;\n",
    );
    files.get_mut("src/auth.rs").unwrap().push_str(code);
    files.insert("src/auth/cases.rs".into(), "//! Tests.\nuse crate::policy::Permit;\n".into());
    assert_eq!(faults(&files), Vec::<String>::new());
    // What follows them is read again.
    files.get_mut("src/auth.rs").unwrap().push_str("use crate::policy::Permit;");
    found(&files, "src/auth.rs", "auth stands before policy");
}

#[test]
fn names_openings_and_lengths_are_held() {
    planted("src/auth/mod.rs", "", "is a mod.rs");
    planted("src/auth/helpers.rs", "", "`helpers` says nothing");
    planted("src/auth/util/text.rs", "", "`util` says nothing");
    planted("src/auth.rs", "mod service { }", "`service` says nothing");
    planted("src/auth.rs", &"//\n".repeat(MOST_LINES), "lines; look for a split");
    let mut files = clean();
    files.insert("src/auth/keys.rs".into(), "use std::fmt;\n".into());
    found(&files, "src/auth/keys.rs", "does not open with `//!`");
}

#[test]
fn every_tool_is_listed_and_has_its_cases() {
    let mut files = clean();
    files.remove("tests/cases/tools/host_see.json");
    found(&files, "src/tools/host_see.rs", "no case file tests/cases/tools/host_see.json");

    let mut files = clean();
    files.insert("src/tools.rs".into(), "//! T.\nmod host_see;\npub const ALL: &[&dyn Tool] = &[];\n".into());
    found(&files, "src/tools/host_see.rs", "not in ALL of src/tools.rs as `&host_see::HostSee`");

    let mut files = clean();
    let tool = files["src/tools/host_see.rs"].replace("\"host_see\"", "\"host_look\"");
    files.insert("src/tools/host_see.rs".into(), tool);
    found(&files, "src/tools/host_see.rs", "name is not that of its file");

    let mut files = clean();
    files.insert("tests/cases/tools/host_gone.json".into(), String::new());
    found(&files, "tests/cases/tools/host_gone.json", "no tool of this name");
}

#[test]
fn the_readme_names_both_commands() {
    for command in COMMANDS {
        let mut files = clean();
        let without = files["README.md"].replace(command, "");
        files.insert("README.md".into(), without);
        found(&files, "README.md", &format!("`{command}`"));
    }
}

//! The traversal corpus: each text, as the path of each tool, is refused before anything runs.

use proptest::prelude::*;
use serde_json::json;

use super::{
    sandbox::{SECRET, Sandbox},
    *,
};
use crate::tools::{Tool, file_list::FileList, file_read::FileRead};

/// Stands for the root in [`CORPUS`].
const ROOT: &str = "ROOT";

/// Ways to name something outside, or to hide what is named.
const CORPUS: &[&str] = &[
    // Not absolute, or another kind of name.
    "",
    " ",
    "secret",
    "../secret",
    "..",
    ".",
    "./ROOT",
    "~",
    "~/secret",
    "~root/.ssh/id_rsa",
    "C:/Windows",
    "file:///etc/passwd",
    "file://ROOT/a",
    " ROOT/a",
    "\u{feff}ROOT/a",
    "-rf",
    "$HOME/a",
    "`pwd`",
    // Components that lead up, or are empty.
    "ROOT/..",
    "ROOT/../outside/secret",
    "ROOT/a/../../outside/secret",
    "ROOT/./a",
    "ROOT/.",
    "ROOT/",
    "ROOT//a",
    "//ROOT/a",
    "/../../../../etc/passwd",
    "ROOT/....//....//outside/secret",
    "ROOT/.../outside",
    "ROOT/..../outside",
    "ROOT/.. /outside/secret",
    "ROOT/..\u{a0}/outside",
    "ROOT/../",
    "/./ROOT/a",
    "/ROOT/../etc",
    // Encodings.
    "ROOT/%2e%2e/outside/secret",
    "ROOT/..%2foutside",
    "ROOT%2f..%2foutside",
    "ROOT/%252e%252e/outside",
    "ROOT/..%252foutside",
    "ROOT/..%5coutside",
    "ROOT/%c0%ae%c0%ae/outside",
    "ROOT/..%c0%afoutside",
    "ROOT/%u002e%u002e/outside",
    "ROOT/%uff0e%uff0e/outside",
    "ROOT/%00",
    "ROOT/a%00.txt",
    "ROOT/%25%32%65",
    // Backslashes and bytes that end or bend a text.
    "ROOT\\..\\outside",
    "ROOT/..\\outside",
    "ROOT/\\\\outside",
    "ROOT/\\x2e\\x2e/outside",
    "ROOT/a\0",
    "\0ROOT/a",
    "ROOT/a\0/../../outside",
    "ROOT/a\n",
    "ROOT/a\r\n/../outside",
    "ROOT/\u{1b}[2J",
    "ROOT/a\t",
    "ROOT/\u{7f}",
    "ROOT/\u{85}",
    // Look-alikes and what no one sees.
    "ROOT/\u{ff0e}\u{ff0e}/outside",
    "ROOT/..\u{ff0f}outside",
    "ROOT\u{2215}..\u{2215}outside",
    "ROOT/\u{2025}/outside",
    "ROOT/\u{2024}\u{2024}/outside",
    "ROOT/\u{2026}/outside",
    "ROOT/..\u{2044}outside",
    "ROOT/..\u{29f8}outside",
    "ROOT/..\u{ff3c}outside",
    "ROOT/\u{fe52}\u{fe52}/outside",
    "ROOT/.\u{200b}./outside",
    "ROOT/.\u{200d}.",
    "ROOT/\u{202e}terces",
    "ROOT/.\u{2060}./outside",
    "ROOT/.\u{ad}.",
    "ROOT/\u{ff05}2e",
    "ROOT/\u{fe30}/outside",
    "ROOT/\u{2105}",
    "ROOT/\u{fffd}",
    "ROOT/a\u{e0041}",
    "ROOT/\u{3000}",
    "ROOT/a\u{2028}",
    // Endings and beginnings that something may strip or expand.
    "ROOT/a.",
    "ROOT/a ",
    "ROOT/ a",
    "ROOT/a./b",
    "ROOT/~",
    "ROOT/~root/x",
    "ROOT/a (deleted)",
    // Other places.
    "/",
    "/etc/passwd",
    "/proc/self/root/etc/passwd",
    "/proc/self/cwd",
    "/proc/1/root",
    "/dev/fd/0",
    "/dev/stdin",
    "/dev/../etc/passwd",
    "ROOTa",
    "ROOT-old/secret",
    "ROOT\u{301}/a",
    "/outside/secret",
];

#[test]
fn every_traversal_is_refused_before_anything_runs_and_named() {
    assert!(CORPUS.len() >= 60, "{}", CORPUS.len());
    let sandbox = Sandbox::new();
    let root = sandbox.roots[0].to_str().unwrap();
    let long = [format!("{ROOT}/{}", "a".repeat(256)), format!("{ROOT}/{}", "a/".repeat(2048) + "a")];
    let tools: [&dyn Tool; 2] = [&FileRead, &FileList];
    for text in CORPUS.iter().copied().chain(long.iter().map(String::as_str)) {
        let path = text.replace(ROOT, root);
        for tool in tools {
            let name = tool.spec().name;
            let error = sandbox.plan(tool, json!({ "path": path })).expect_err(&format!("{name} {text:?}"));
            assert!(["invalid_arguments", "outside_roots"].contains(&error.code), "{name} {text:?}: {error:?}");
            assert!(error.message.starts_with("`path`: "), "{name} {text:?}: {error}");
            assert!(!error.message.contains(SECRET));
        }
    }
}

#[test]
fn what_the_arguments_allow_and_the_target_does_not_have_tells_nothing() {
    let sandbox = Sandbox::new();
    for name in ["..;", "..data", "%", "100%", "a%zz", "$(cat ..)", "'; cat x; '", "*", "[a-z]", "-", "--help"] {
        for tool in [&FileRead as &dyn Tool, &FileList] {
            let error = sandbox.call(tool, json!({ "path": sandbox.arg(name) })).expect_err(name);
            assert_eq!(error.code, "not_found", "{name}");
        }
    }
}

#[test]
fn names_are_bytes_and_never_normalised() {
    let sandbox = Sandbox::new();
    for (name, content) in [("e\u{301}", "two characters"), ("\u{e9}", "one"), ("..data", "dots"), ("-n", "dash")] {
        std::fs::write(sandbox.inside(name), content).unwrap();
    }
    for (name, content) in [("e\u{301}", "two characters"), ("\u{e9}", "one"), ("..data", "dots"), ("-n", "dash")] {
        let answer = sandbox.call(&FileRead, json!({ "path": sandbox.arg(name) })).unwrap();
        assert_eq!(answer.data["content"], content);
    }
}

#[test]
fn a_target_without_roots_serves_nothing() {
    let mut sandbox = Sandbox::new();
    sandbox.roots.clear();
    for tool in [&FileRead as &dyn Tool, &FileList] {
        assert_eq!(sandbox.plan(tool, json!({ "path": "/etc/passwd" })).unwrap_err().code, "outside_roots");
    }
    assert_eq!(sandbox.plan(&FileList, json!({})).unwrap_err().code, "outside_roots");
}

#[test]
fn the_whole_machine_can_be_a_root() {
    let mut sandbox = Sandbox::new();
    let file = sandbox.arg("file");
    std::fs::write(&file, "x").unwrap();
    sandbox.roots = vec!["/".into()];
    assert_eq!(sandbox.call(&FileRead, json!({ "path": file })).unwrap().data["content"], "x");
    let listed = sandbox.call(&FileList, json!({ "path": "/" })).unwrap();
    assert!(listed.data["entries"].as_array().unwrap().iter().any(|entry| entry["path"] == "proc"));
}

proptest! {
    /// Whatever is accepted has the very components that are written, none of which leads elsewhere.
    #[test]
    fn accepted_paths_are_plain(path in r"(/[a.~% \\\u{2024}\u{ff0f}2e]{0,4}){1,4}") {
        if plain_path("path", &path).is_ok() {
            let names: Vec<&str> = path[1..].split('/').collect();
            prop_assert!(path == "/" || names.iter().all(|name| !["", ".", ".."].contains(name)));
            prop_assert_eq!(std::path::Path::new(&path).components().count(), 1 + names.iter().filter(|n| !n.is_empty()).count());
            let bent = path.contains(['\\', '\u{2024}', '\u{ff0f}']) || path.contains("%2e");
            prop_assert!(!bent);
        }
    }
}

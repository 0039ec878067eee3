//! The traversal corpus: each text, as the path of each tool, is refused before anything runs.

use proptest::prelude::*;
use serde_json::json;

use super::{
    sandbox::{SECRET, Sandbox},
    *,
};
use crate::{
    model::{Scope, Subtree},
    tools::{
        ALL, Tool, disk_inspect::DiskInspect, file_delete::FileDelete, file_list::FileList, file_read::FileRead,
        file_search::FileSearch, file_write::FileWrite,
    },
};

/// Every path argument of every file tool, with arguments that would do otherwise.
fn path_arguments() -> [(&'static dyn Tool, &'static str, serde_json::Value); 6] {
    [
        (&FileList, "path", json!({})),
        (&FileRead, "path", json!({})),
        (&FileSearch, "root", json!({"name": "*"})),
        (&FileWrite, "path", json!({"content": "text", "reason": "a test"})),
        (&FileDelete, "path", json!({"reason": "a test", "dry_run": false})),
        (&DiskInspect, "path", json!({})),
    ]
}

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
fn p74_every_traversal_in_every_path_argument_is_refused_before_anything_runs_and_named() {
    assert!(CORPUS.len() >= 60, "{}", CORPUS.len());
    let sandbox = Sandbox::new();
    let root = sandbox.roots[0].to_str().unwrap();
    let long = [format!("{ROOT}/{}", "a".repeat(256)), format!("{ROOT}/{}", "a/".repeat(2048) + "a")];
    for text in CORPUS.iter().copied().chain(long.iter().map(String::as_str)) {
        let path = text.replace(ROOT, root);
        for (tool, argument, mut arguments) in path_arguments() {
            let name = tool.spec().name;
            arguments[argument] = json!(path);
            let error = sandbox.plan(tool, arguments).expect_err(&format!("{name} {text:?}"));
            assert!(["invalid_arguments", "outside_roots"].contains(&error.code), "{name} {text:?}: {error:?}");
            assert!(error.message.starts_with(&format!("`{argument}`: ")), "{name} {text:?}: {error}");
            assert!(!error.message.contains(SECRET));
        }
    }
}

#[test]
fn p74_no_file_tool_has_a_path_argument_that_is_not_tested() {
    for tool in ALL
        .iter()
        .filter(|tool| tool.spec().scopes.iter().any(|scope| [Scope::FileRead, Scope::FileWrite].contains(scope)))
    {
        let schema = (tool.spec().input)();
        let named: Vec<&str> = schema["properties"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .filter(|key| ["path", "root", "from", "to", "source", "destination", "directory"].contains(key))
            .collect();
        let tested: Vec<&str> = path_arguments()
            .iter()
            .filter(|(tested, ..)| tested.spec().name == tool.spec().name)
            .map(|(_, argument, _)| *argument)
            .collect();
        assert_eq!(named, tested, "{}", tool.spec().name);
    }
}

/// What each tool plans for a token that is limited to `limit`, with its path at `path`.
fn limited(sandbox: &Sandbox, limit: &[&str], path: Option<&str>) -> Vec<(&'static str, Vec<String>)> {
    let mut rig = sandbox.rig();
    rig.paths = Some(limit.iter().map(|text| text.parse::<Subtree>().unwrap()).collect());
    let plan = |(tool, argument, mut arguments): (&'static dyn Tool, &str, serde_json::Value)| {
        if let Some(path) = path {
            arguments[argument] = json!(path);
        }
        Some((tool.spec().name, rig.plan(tool, arguments).ok()?.places))
    };
    path_arguments().into_iter().filter_map(plan).collect()
}

#[test]
fn p73_a_limited_token_confines_the_scripts_to_its_part_of_the_roots() {
    let mut sandbox = Sandbox::new();
    sandbox.roots = vec!["/etc".into(), "/srv".into(), "/var/log/apt".into()];
    let limit = ["/var/log/**", "/srv/a/**", "/srv/b/**"];
    let confined = ["/srv/a", "/srv/b", "/var/log/apt"].map(str::to_owned);
    let planned = limited(&sandbox, &limit, Some("/srv/a/file"));
    assert_eq!(planned.len(), 6);
    for (tool, places) in planned {
        assert_eq!(places, [vec!["/srv/a/file".to_owned()], confined.to_vec()].concat(), "{tool}");
    }
    let without = limited(&sandbox, &limit, None);
    assert_eq!(without, [("file_list", confined.to_vec()), ("disk_inspect", confined.to_vec())]);
    // What is not covered stands among the places, where policy sees it.
    for (tool, places) in limited(&sandbox, &limit, Some("/etc/hostname")) {
        assert_eq!(places[0], "/etc/hostname", "{tool}");
    }
    for (tool, places) in limited(&sandbox, &["/nowhere/**"], Some("/etc/hostname")) {
        assert_eq!(places[1..], ["/etc", "/srv", "/var/log/apt"], "{tool}");
    }
    for (tool, _, _) in path_arguments() {
        assert!(tool.spec().scopes.iter().any(|scope| [Scope::FileRead, Scope::FileWrite].contains(scope)));
    }
}

#[test]
fn p73_a_link_out_of_the_tokens_paths_is_not_followed_though_the_roots_hold_its_end() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.inside("mine")).unwrap();
    std::fs::create_dir(sandbox.inside("theirs")).unwrap();
    std::fs::write(sandbox.inside("theirs/file"), SECRET).unwrap();
    std::os::unix::fs::symlink("../theirs", sandbox.inside("mine/link")).unwrap();
    std::os::unix::fs::symlink("../theirs/file", sandbox.inside("mine/file")).unwrap();
    let mut rig = sandbox.rig();
    assert_eq!(rig.call(&FileRead, json!({"path": sandbox.arg("mine/link/file")})).unwrap().data["content"], SECRET);
    rig.paths = Some([format!("{}/**", sandbox.arg("mine")).parse().unwrap()].into());
    for (tool, argument, mut arguments) in path_arguments() {
        for path in ["mine/link/file", "mine/link"] {
            arguments[argument] = json!(sandbox.arg(path));
            let refused = rig.call(tool, &arguments).expect_err(tool.spec().name);
            let wanted: &[&str] = if path == "mine/link" { &["outside_roots", "symlink"] } else { &["outside_roots"] };
            assert!(wanted.contains(&refused.code), "{} {path}: {refused:?}", tool.spec().name);
        }
    }
    assert_eq!(std::fs::read_to_string(sandbox.inside("theirs/file")).unwrap(), SECRET);
    let listed = rig.call(&FileList, json!({})).unwrap();
    let entries = listed.data["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 3);
    assert!(
        entries.iter().all(|entry| entry["path"].as_str().unwrap().starts_with(&sandbox.arg("mine"))),
        "{entries:?}"
    );
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

//! Reads real files by the real script: first what must be refused, then what comes back.

use std::{
    fs::{self, OpenOptions},
    os::unix::{
        fs::{PermissionsExt, symlink},
        net::UnixListener,
    },
};

use serde_json::{Value, json};

use super::*;
use crate::tools::{
    paths::sandbox::{SECRET, Sandbox, make_fifo},
    rig::{self, MARKER},
};

fn read(sandbox: &Sandbox, path: &str) -> Result<Content, ToolError> {
    sandbox.call(&FileRead, json!({ "path": sandbox.arg(path) }))
}

fn code(result: Result<Content, ToolError>) -> &'static str {
    match result {
        Err(error) => {
            assert!(error.hint.is_some() && !error.message.contains(SECRET), "{error:?}");
            error.code
        }
        Ok(content) => panic!("was read: {}", content.data),
    }
}

#[test]
fn links_out_of_the_root_are_refused_and_do_not_tell_what_is_there() {
    let sandbox = Sandbox::new();
    let links = [
        ("file", "../outside/secret"),
        ("absent", "../outside/absent"),
        ("folder", "../outside/folder"),
        ("absolute", sandbox.beside("outside/secret").to_str().unwrap()),
        ("etc", "/etc"),
        ("up", ".."),
        ("climb", "./../root/../outside/secret"),
        ("proc", "/proc/self/root"),
        ("own", "/proc/self/cwd"),
        ("loop", "loop"),
        ("chain", "file"),
    ]
    .map(|(name, text)| (name, text.to_owned()));
    for (name, text) in links {
        symlink(text, sandbox.inside(name)).unwrap();
    }
    let below = ["folder/secret", "folder/absent", "etc/passwd", "etc/absent", "up/outside/secret", "proc/etc/passwd"];
    let alone = ["file", "absent", "folder", "absolute", "etc", "up", "climb", "proc", "own", "loop", "chain"];
    let answers: Vec<ToolError> =
        below.iter().chain(&alone).map(|path| read(&sandbox, path).expect_err(path)).collect();
    assert!(answers.iter().all(|answer| answer.code == "outside_roots"), "{answers:?}");
    assert!(answers.iter().all(|answer| answer == &answers[0]), "the answers differ: {answers:?}");
}

#[test]
fn roots_that_are_links_or_lead_through_one_are_not_followed() {
    let mut sandbox = Sandbox::new();
    symlink("outside", sandbox.beside("alias")).unwrap();
    symlink(".", sandbox.beside("here")).unwrap();
    for (root, wanted) in [("alias", "outside_roots"), ("here/outside", "permission_denied"), ("absent", "not_found")] {
        sandbox.roots = vec![sandbox.beside(root)];
        assert_eq!(code(read(&sandbox, "secret")), wanted, "{root}");
    }
}

#[test]
fn only_regular_files_are_read_and_none_makes_us_wait() {
    let sandbox = Sandbox::new();
    make_fifo(&sandbox.inside("fifo"));
    let _listener = UnixListener::bind(sandbox.inside("socket")).unwrap();
    fs::create_dir(sandbox.inside("folder")).unwrap();
    symlink("fifo", sandbox.inside("to-fifo")).unwrap();
    for path in ["fifo", "socket", "folder", "", "to-fifo"] {
        let path = if path.is_empty() { sandbox.roots[0].clone() } else { sandbox.inside(path) };
        assert_eq!(code(sandbox.call(&FileRead, json!({ "path": path }))), "not_regular", "{path:?}");
    }
    let devices = Sandbox::with_root("/dev");
    assert_eq!(code(read(&devices, "null")), "not_regular");
}

#[test]
fn missing_unreadable_and_hard_linked_files_each_have_their_own_answer() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.inside("file"), "x").unwrap();
    assert_eq!(code(read(&sandbox, "absent")), "not_found");
    assert_eq!(code(read(&sandbox, "absent/below")), "not_found");
    assert_eq!(code(read(&sandbox, "file/below")), "not_found");
    fs::hard_link(sandbox.beside("outside/secret"), sandbox.inside("linked")).unwrap();
    assert_eq!(code(read(&sandbox, "linked")), "hard_link");
    fs::create_dir(sandbox.inside("closed")).unwrap();
    fs::write(sandbox.inside("closed/file"), SECRET).unwrap();
    for (path, mode) in [("file", 0o000), ("closed", 0o000)] {
        fs::set_permissions(sandbox.inside(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    if rustix::process::geteuid().is_root() {
        fs::set_permissions(sandbox.beside(""), fs::Permissions::from_mode(0o755)).unwrap();
        sandbox.as_nobody = true;
    }
    for path in ["file", "closed/file", "closed/absent"] {
        assert_eq!(code(read(&sandbox, path)), "permission_denied", "{path}");
    }
    // So that the directory can be removed by whoever runs the test.
    fs::set_permissions(sandbox.inside("closed"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_removed_file_cannot_pass_for_one_whose_name_says_so() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.inside("x (deleted)"), "x").unwrap();
    symlink("x (deleted)", sandbox.inside("link")).unwrap();
    assert_eq!(code(read(&sandbox, "link")), "outside_roots");
    let refused = sandbox.plan(&FileRead, json!({ "path": sandbox.arg("x (deleted)") })).unwrap_err();
    assert_eq!(refused.code, "invalid_arguments");
}

#[test]
fn links_inside_the_root_are_followed() {
    let mut sandbox = Sandbox::new();
    sandbox.roots.push(sandbox.beside("second"));
    fs::create_dir_all(sandbox.inside("a/b")).unwrap();
    fs::create_dir(sandbox.beside("second")).unwrap();
    fs::write(sandbox.inside("a/b/-odd 'n$me*\n"), "found").unwrap();
    fs::write(sandbox.beside("second/file"), "second").unwrap();
    symlink("b/../b/./-odd 'n$me*\n", sandbox.inside("a/link")).unwrap();
    symlink(sandbox.inside("a"), sandbox.inside("absolute")).unwrap();
    symlink("../second/", sandbox.inside("other")).unwrap();
    for (path, wanted) in [("a/link", "found"), ("absolute/link", "found"), ("other/file", "second")] {
        assert_eq!(read(&sandbox, path).unwrap().data["content"], wanted, "{path}");
    }
}

#[test]
fn arguments_out_of_place_are_named() {
    let sandbox = Sandbox::new();
    for (field, mut arguments) in [
        ("max_bytes", json!({ "max_bytes": 0 })),
        ("max_bytes", json!({ "max_bytes": 262_145 })),
        ("offset", json!({ "mode": "range", "offset": MOST_OFFSET + 1 })),
        ("offset", json!({ "mode": "range", "offset": -1 })),
        ("offset", json!({ "mode": "tail", "offset": 1 })),
        ("lines", json!({ "lines": 0 })),
        ("lines", json!({ "mode": "range", "lines": 1 })),
        ("start_line", json!({ "mode": "lines", "start_line": 0 })),
        ("start_line", json!({ "start_line": 1 })),
        ("mode", json!({ "mode": "all" })),
        ("follow", json!({ "follow": true })),
    ] {
        arguments["path"] = sandbox.arg("file").into();
        let error = sandbox.plan(&FileRead, arguments).unwrap_err();
        assert_eq!(error.code, "invalid_arguments");
        assert!(error.message.contains(field), "{field}: {error}");
    }
}

fn part(sandbox: &Sandbox, mut arguments: Value) -> (Value, bool) {
    arguments["path"] = sandbox.arg("file").into();
    let content = sandbox.call(&FileRead, arguments).unwrap();
    (content.data, content.truncated)
}

#[test]
fn each_mode_returns_its_part_and_says_where_it_lies() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.inside("file"), "one\ntwo\nthree\nfour").unwrap();
    for (arguments, content, offset, next, truncated) in [
        (json!({}), "one\ntwo\nthree\nfour", 0, None, false),
        (json!({ "lines": 2 }), "one\ntwo\n", 0, Some(8), false),
        (json!({ "lines": 4 }), "one\ntwo\nthree\nfour", 0, None, false),
        (json!({ "max_bytes": 5 }), "one\nt", 0, Some(5), true),
        (json!({ "lines": 2, "max_bytes": 5 }), "one\nt", 0, Some(5), true),
        (json!({ "lines": 1, "max_bytes": 5 }), "one\n", 0, Some(4), false),
        (json!({ "mode": "range", "offset": 4, "max_bytes": 3 }), "two", 4, Some(7), true),
        (json!({ "mode": "range", "offset": 14, "max_bytes": 4 }), "four", 14, None, false),
        (json!({ "mode": "range", "offset": 18 }), "", 18, None, false),
        (json!({ "mode": "range", "offset": MOST_OFFSET }), "", 18, None, false),
        (json!({ "mode": "tail", "lines": 2 }), "three\nfour", 8, None, false),
        (json!({ "mode": "tail", "lines": 9 }), "one\ntwo\nthree\nfour", 0, None, false),
        (json!({ "mode": "tail", "max_bytes": 4 }), "four", 14, None, true),
        (json!({ "mode": "tail", "lines": 2, "max_bytes": 6 }), "e\nfour", 12, None, true),
        (json!({ "mode": "lines", "lines": 1 }), "one\n", 0, Some(4), false),
        (json!({ "mode": "lines", "start_line": 3, "lines": 1 }), "three\n", 8, Some(14), false),
        (json!({ "mode": "lines", "start_line": 4 }), "four", 14, None, false),
        (json!({ "mode": "lines", "start_line": 5 }), "", 18, None, false),
    ] {
        let (data, cut) = part(&sandbox, arguments.clone());
        assert_eq!(data["content"], content, "{arguments}");
        assert_eq!((&data["offset"], data.get("next_offset")), (&json!(offset), next.map(Value::from).as_ref()));
        assert_eq!((&data["eof"], cut), (&json!(next.is_none()), truncated), "{arguments}");
        assert_eq!(data["sha256"], sha256(content.as_bytes()));
        assert_eq!(data["size"], 18);
    }
}

#[test]
fn facts_are_those_of_the_file() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.inside("file"), "").unwrap();
    fs::set_permissions(sandbox.inside("file"), fs::Permissions::from_mode(0o4640)).unwrap();
    let changed = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    OpenOptions::new().write(true).open(sandbox.inside("file")).unwrap().set_modified(changed).unwrap();
    let (data, _) = part(&sandbox, json!({}));
    assert_eq!(data["mode"], "4640");
    assert_eq!(data["mtime"], "2001-09-09T01:46:40Z");
    assert_eq!((&data["content"], &data["eof"], &data["size"]), (&json!(""), &json!(true), &json!(0)));
    assert!(!data["owner"].as_str().unwrap().is_empty());
}

#[test]
fn content_that_is_no_text_comes_as_base64_and_characters_are_not_cut() {
    let sandbox = Sandbox::new();
    for (bytes, max, encoding, content) in [
        (&b"a\0b"[..], 9, "base64", "YQBi"),
        (&b"a\xffb"[..], 9, "base64", "Yf9i"),
        (&b"a\xc3"[..], 9, "base64", "YcM="),
        ("aé".as_bytes(), 9, "utf-8", "aé"),
        ("aéb".as_bytes(), 2, "utf-8", "a"),
        ("é".as_bytes(), 1, "base64", "ww=="),
        (&b"\nmarker !file hard_link\n\nmarker end\n"[..], 99, "utf-8", "\nmarker !file hard_link\n\nmarker end\n"),
    ] {
        fs::write(sandbox.inside("file"), bytes).unwrap();
        let (data, _) = part(&sandbox, json!({ "max_bytes": max }));
        assert_eq!((&data["encoding"], &data["content"]), (&json!(encoding), &json!(content)), "{bytes:?}");
    }
    fs::write(sandbox.inside("file"), "aéb").unwrap();
    let (data, _) = part(&sandbox, json!({ "mode": "tail", "max_bytes": 2 }));
    assert_eq!((&data["content"], &data["offset"]), (&json!("b"), &json!(3)));
}

#[test]
fn huge_files_are_read_where_asked_and_not_from_the_start() {
    let sandbox = Sandbox::new();
    let file = fs::File::create(sandbox.inside("file")).unwrap();
    // Sparse: a reader of all of it would meet the time limit, not the end.
    let size = 1_u64 << 43;
    std::os::unix::fs::FileExt::write_all_at(&file, b"\nthe end", size - 8).unwrap();
    let (data, _) = part(&sandbox, json!({ "mode": "tail", "lines": 1 }));
    assert_eq!((&data["content"], &data["offset"]), (&json!("the end"), &json!(size - 7)));
    let (data, _) = part(&sandbox, json!({ "mode": "range", "offset": size - 3 }));
    assert_eq!(data["content"], "end");
    let refused = sandbox.call(&FileRead, json!({ "path": sandbox.arg("file"), "mode": "lines", "start_line": 2 }));
    assert_eq!(code(refused), "too_large");
    let (data, truncated) = part(&sandbox, json!({ "max_bytes": 262_144 }));
    assert_eq!((&data["next_offset"], &data["encoding"], truncated), (&json!(262_144), &json!("base64"), true));
}

#[test]
fn files_without_a_size_are_read_to_their_end() {
    let sandbox = Sandbox::with_root("/proc/sys/kernel");
    let wanted = fs::read_to_string("/proc/sys/kernel/ostype").unwrap();
    for mode in ["head", "tail", "range", "lines"] {
        let content = sandbox.call(&FileRead, json!({ "path": sandbox.arg("ostype"), "mode": mode })).unwrap();
        assert_eq!((&content.data["content"], &content.data["eof"]), (&json!(wanted), &json!(true)), "{mode}");
    }
}

#[test]
fn an_answer_that_did_not_come_whole_is_an_error() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.inside("file"), "x").unwrap();
    let operation = sandbox.plan(&FileRead, json!({ "path": sandbox.arg("file") })).unwrap();
    let whole = format!("\n{MARKER} facts\n1 1 0 600 root\n0\n\n{MARKER} content\neA==\n{MARKER} end\n");
    for cut in 0..whole.len() - 1 {
        let raw = rig::recorded(operation.clone(), &whole.as_bytes()[..cut], "");
        assert!(FileRead.render(&raw).is_err(), "{cut}");
    }
}

#[test]
fn the_definition_fits_its_budget() {
    rig::fits_budget(&FileRead);
}

//! Searches real files by the real script.

use std::{
    fs::{self, File},
    os::unix::fs::{PermissionsExt, symlink},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use super::*;
use crate::tools::{
    paths::sandbox::{SECRET, Sandbox, make_fifo},
    rig::fits_budget,
};

fn search(sandbox: &Sandbox, criteria: Value) -> Content {
    let mut args = criteria;
    args["root"] = json!(sandbox.roots[0]);
    sandbox.call(&FileSearch, args).unwrap()
}

fn found(content: &Content) -> Vec<&str> {
    let list = content.data.get("entries").or(content.data.get("matches")).unwrap();
    list.as_array().unwrap().iter().map(|entry| entry["path"].as_str().unwrap()).collect()
}

#[test]
fn p71_what_links_lead_to_is_not_searched() {
    let sandbox = Sandbox::new();
    symlink("../outside/secret", sandbox.inside("file")).unwrap();
    symlink("../outside", sandbox.inside("folder")).unwrap();
    fs::hard_link(sandbox.beside("outside/secret"), sandbox.inside("hard")).unwrap();
    make_fifo(&sandbox.inside("fifo"));
    fs::write(sandbox.inside("plain"), "do-not-tell-either\n").unwrap();
    let content = search(&sandbox, json!({"contains": "do-not"}));
    assert_eq!(content.data["matches"], json!([{"path": "plain", "line": 1, "text": "do-not-tell-either"}]));
    assert!(content.partial.is_empty() && !content.truncated);
    assert_eq!(found(&search(&sandbox, json!({"name": "secret"}))), Vec::<&str>::new());
    for root in ["folder", "file", "plain", "fifo", "absent"] {
        let refused = sandbox.call(&FileSearch, json!({"root": sandbox.arg(root), "name": "*"})).unwrap_err();
        let wanted = match root {
            "folder" | "file" => "outside_roots",
            "absent" => "not_found",
            _ => "not_directory",
        };
        assert_eq!((refused.code, refused.message.starts_with("`root`: ")), (wanted, true), "{root}: {refused}");
    }
    assert!(!SECRET.is_empty());
}

#[test]
fn names_sizes_and_ages_are_found() {
    let sandbox = Sandbox::new();
    fs::create_dir_all(sandbox.inside("a/b")).unwrap();
    fs::create_dir(sandbox.inside(".tailops-trash")).unwrap();
    for (name, size) in
        [("one.log", 10), ("a/two.log", 5000), ("a/b/three.txt", 70_000), (".tailops-trash/x.log", 9000)]
    {
        fs::write(sandbox.inside(name), vec![b'x'; size]).unwrap();
    }
    // The rig's now is fixed: files are as old or new as the test says.
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_262_400);
    let aged = |name: &str, seconds: u64| {
        File::open(sandbox.inside(name)).unwrap().set_modified(now - Duration::from_secs(seconds)).unwrap();
    };
    for name in ["one.log", "a", "a/b", "a/two.log", "a/b/three.txt"] {
        aged(name, 90_000);
    }
    aged("a/two.log", 3600);
    assert_eq!(found(&search(&sandbox, json!({"name": "*.log"}))), ["a/two.log", "one.log"]);
    assert_eq!(found(&search(&sandbox, json!({"name": "?wo.[l-m]og"}))), ["a/two.log"]);
    assert_eq!(found(&search(&sandbox, json!({"min_size": 5000}))), ["a/b/three.txt", "a/two.log"]);
    assert_eq!(found(&search(&sandbox, json!({"min_size": 5001}))), ["a/b/three.txt"]);
    assert_eq!(found(&search(&sandbox, json!({"newer_than": "2h"}))), ["a/two.log"]);
    assert_eq!(found(&search(&sandbox, json!({"newer_than": "2026-11-21T10:59:00Z", "name": "*.log"}))), ["a/two.log"]);
    assert_eq!(found(&search(&sandbox, json!({"newer_than": "1h", "name": "*.txt"}))), Vec::<&str>::new());
    assert_eq!(found(&search(&sandbox, json!({"name": "-delete"}))), Vec::<&str>::new());
    assert!(sandbox.inside("one.log").exists());
}

#[test]
fn a_text_is_found_as_it_is_written_and_bounded() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.inside("-d")).unwrap();
    fs::write(sandbox.inside("-d/-f"), "a.c\nabc\n-e a.c $(id)\n").unwrap();
    fs::write(sandbox.inside("binary"), b"a.c\0a.c\n").unwrap();
    fs::write(sandbox.inside("odd\nname"), "a.c").unwrap();
    fs::write(sandbox.inside("many"), "line of it\n".repeat(50)).unwrap();
    fs::write(sandbox.inside("long"), format!("needle{}\n", "x".repeat(5000))).unwrap();
    let content = search(&sandbox, json!({"contains": "a.c"}));
    let lines: Vec<(&str, u64)> = content.data["matches"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| (found["path"].as_str().unwrap(), found["line"].as_u64().unwrap()))
        .collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for line in [("-d/-f", 1), ("-d/-f", 3), ("odd\nname", 1)] {
        assert!(lines.contains(&line), "{line:?} in {lines:?}");
    }
    assert_eq!(found(&search(&sandbox, json!({"contains": "-e a.c $(id)"}))), ["-d/-f"]);
    assert_eq!(found(&search(&sandbox, json!({"contains": "a.c", "name": "-*"}))), ["-d/-f", "-d/-f"]);
    let many = search(&sandbox, json!({"contains": "line of it"}));
    assert_eq!((found(&many).len(), many.truncated), (20, true));
    let few = search(&sandbox, json!({"contains": "line of it", "limit": 3}));
    assert_eq!((found(&few).len(), few.truncated), (3, true));
    let long = search(&sandbox, json!({"contains": "needle"}));
    assert_eq!(long.data["matches"][0]["text"].as_str().unwrap().len(), 998);
    assert!(found(&search(&sandbox, json!({"contains": "not there"}))).is_empty());
}

#[test]
fn more_than_the_limit_is_said() {
    let sandbox = Sandbox::new();
    for number in 0..30 {
        fs::write(sandbox.inside(&format!("f{number:02}")), "x\n").unwrap();
    }
    for criteria in [json!({"name": "f*", "limit": 10}), json!({"contains": "x", "limit": 10})] {
        let content = search(&sandbox, criteria);
        assert_eq!((found(&content).len(), content.truncated), (10, true));
        assert!(content.warnings[0].contains("there are more"));
    }
    let all = search(&sandbox, json!({"name": "f*", "limit": 30}));
    assert_eq!((found(&all).len(), all.truncated, all.warnings.len()), (30, false, 0));
}

#[test]
fn p72_what_could_not_be_read_is_said() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.inside("closed"), "needle").unwrap();
    fs::write(sandbox.inside("open"), "needle").unwrap();
    fs::set_permissions(sandbox.inside("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    if rustix::process::geteuid().is_root() {
        fs::set_permissions(sandbox.beside(""), fs::Permissions::from_mode(0o755)).unwrap();
        sandbox.as_nobody = true;
    }
    let content = search(&sandbox, json!({"contains": "needle"}));
    assert_eq!(found(&content), ["open"]);
    assert_eq!(content.partial.iter().map(|part| part.reason.as_str()).collect::<Vec<_>>(), ["permission_denied"]);
}

#[test]
fn the_definition_fits() {
    fits_budget(&FileSearch);
}

//! Looks at real directories by the real script.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::symlink,
};

use serde_json::{Value, json};

use super::*;
use crate::tools::{paths::sandbox::Sandbox, rig::fits_budget};

fn inspect(sandbox: &Sandbox, args: Value) -> Content {
    sandbox.call(&DiskInspect, args).unwrap()
}

fn top(content: &Content, place: usize) -> Vec<&str> {
    let top = content.data["places"][place]["top"].as_array().unwrap();
    top.iter().map(|usage| usage["path"].as_str().unwrap()).collect()
}

#[test]
fn what_takes_most_comes_first_and_links_count_nothing() {
    let sandbox = Sandbox::new();
    fs::create_dir_all(sandbox.inside("big/deep/deeper")).unwrap();
    fs::write(sandbox.inside("big/deep/deeper/file"), vec![1; 900_000]).unwrap();
    fs::write(sandbox.inside("small\tname"), vec![1; 100_000]).unwrap();
    fs::write(sandbox.beside("outside/huge"), vec![1; 5_000_000]).unwrap();
    symlink("../outside", sandbox.inside("link")).unwrap();
    let content = inspect(&sandbox, json!({"path": sandbox.roots[0], "depth": 2, "limit": 3}));
    assert_eq!(top(&content, 0), ["big", "big/deep", "small\tname"]);
    let place = &content.data["places"][0];
    let big = place["top"][0]["bytes"].as_u64().unwrap();
    assert!((900_000..1_200_000).contains(&big), "{big}");
    let filesystem = &place["filesystem"];
    let number = |key: &str| filesystem[key].as_u64().unwrap();
    assert!(number("size") >= number("used") && number("size") >= number("available"));
    assert!(content.truncated && content.partial.is_empty(), "{:?}", content.partial);
    let one = inspect(&sandbox, json!({"path": sandbox.roots[0], "depth": 1}));
    assert_eq!((top(&one, 0), one.truncated), (vec!["big", "small\tname", "link"], false));
}

#[test]
fn p71_only_directories_inside_the_roots_are_looked_at() {
    let sandbox = Sandbox::new();
    symlink("../outside", sandbox.inside("link")).unwrap();
    fs::write(sandbox.inside("file"), "x").unwrap();
    for (path, wanted) in
        [("link", "outside_roots"), ("link/folder", "outside_roots"), ("file", "not_directory"), ("no", "not_found")]
    {
        let refused = sandbox.call(&DiskInspect, json!({"path": sandbox.arg(path)})).unwrap_err();
        assert_eq!(refused.code, wanted, "{path}");
    }
}

#[test]
fn without_a_path_every_root_is_looked_at_and_a_missing_one_is_said() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.inside("file"), vec![1; 10_000]).unwrap();
    sandbox.roots.insert(0, sandbox.beside("absent"));
    let content = inspect(&sandbox, json!({}));
    assert_eq!(content.data["places"].as_array().unwrap().len(), 1);
    assert_eq!(content.data["places"][0]["path"], json!(sandbox.roots[1]));
    assert_eq!(top(&content, 0), ["file"]);
    let missing: Vec<_> = content.partial.iter().map(|part| (part.section.as_ref(), part.reason.as_ref())).collect();
    assert_eq!(missing, [(sandbox.roots[0].to_str().unwrap(), "not_found")]);
}

#[test]
fn deleted_files_that_are_open_are_shown_below_the_roots_and_counted_elsewhere() {
    let sandbox = Sandbox::new();
    let held = |path: std::path::PathBuf, size: usize| {
        let mut file = File::create(&path).unwrap();
        file.write_all(&vec![1; size]).unwrap();
        file.sync_all().unwrap();
        fs::remove_file(path).unwrap();
        file
    };
    let _inside = held(sandbox.inside("gone.log"), 300_000);
    let outside = held(sandbox.beside("outside/secret-name"), 200_000);
    let content = inspect(&sandbox, json!({"path": sandbox.roots[0]}));
    let deleted = content.data["deleted_open"].as_array().unwrap();
    assert_eq!(deleted.len(), 1, "{deleted:?}");
    assert_eq!(
        (&deleted[0]["path"], &deleted[0]["pid"]),
        (&json!(sandbox.inside("gone.log")), &json!(std::process::id()))
    );
    assert!(deleted[0]["bytes"].as_u64().unwrap() >= 300_000);
    let elsewhere = &content.data["deleted_elsewhere"];
    assert!(
        elsewhere["files"].as_u64().unwrap() >= 1 && elsewhere["bytes"].as_u64().unwrap() >= 200_000,
        "{elsewhere}"
    );
    assert!(!content.data.to_string().contains("secret-name"));
    drop(outside);
}

#[test]
fn what_others_hold_open_is_said_to_be_unseen() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut sandbox = Sandbox::new();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(sandbox.beside(""), open).unwrap();
    sandbox.as_nobody = true;
    let content = inspect(&sandbox, json!({"path": sandbox.roots[0]}));
    assert!(content.partial.iter().any(|part| part.section == "deleted_open" && part.reason == "permission_denied"));
}

#[test]
fn the_definition_fits() {
    fits_budget(&DiskInspect);
}

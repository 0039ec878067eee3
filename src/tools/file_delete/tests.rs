//! Deletes real files by the real script.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, symlink},
        net::UnixListener,
    },
};

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::*;
use crate::{
    model::hex,
    tools::{
        paths::sandbox::{SECRET, Sandbox, make_fifo},
        rig::fits_budget,
    },
};

fn args(sandbox: &Sandbox, path: &str, dry_run: bool) -> Value {
    json!({"path": sandbox.arg(path), "dry_run": dry_run, "reason": "a test of deleting"})
}

fn delete(sandbox: &Sandbox, path: &str) -> Result<Content, ToolError> {
    sandbox.call(&FileDelete, args(sandbox, path, false))
}

#[track_caller]
fn code(result: Result<Content, ToolError>) -> &'static str {
    match result {
        Err(error) => {
            assert!(error.hint.is_some() && !error.message.contains(SECRET), "{error:?}");
            error.code
        }
        Ok(content) => panic!("was deleted: {}", content.data),
    }
}

#[test]
fn p71_links_and_what_they_lead_to_stay() {
    let sandbox = Sandbox::new();
    symlink("../outside/secret", sandbox.inside("file")).unwrap();
    symlink("../outside/folder", sandbox.inside("folder")).unwrap();
    symlink("nowhere", sandbox.inside("dangling")).unwrap();
    for (path, wanted) in
        [("file", "symlink"), ("dangling", "symlink"), ("folder/secret", "outside_roots"), ("folder", "symlink")]
    {
        for dry_run in [true, false] {
            assert_eq!(code(sandbox.call(&FileDelete, args(&sandbox, path, dry_run))), wanted, "{path}");
        }
    }
    assert_eq!(fs::read_to_string(sandbox.beside("outside/secret")).unwrap(), SECRET);
    assert!(sandbox.beside("outside/folder/secret").exists() && sandbox.inside("dangling").is_symlink());
    assert!(!sandbox.inside(".tailops-trash").exists());
}

#[test]
fn only_regular_files_with_one_link_are_deleted() {
    let sandbox = Sandbox::new();
    make_fifo(&sandbox.inside("fifo"));
    let _listener = UnixListener::bind(sandbox.inside("socket")).unwrap();
    fs::create_dir(sandbox.inside("folder")).unwrap();
    fs::hard_link(sandbox.beside("outside/secret"), sandbox.inside("hard")).unwrap();
    for (path, wanted) in [
        ("fifo", "not_regular"),
        ("socket", "not_regular"),
        ("folder", "not_regular"),
        ("hard", "hard_link"),
        ("absent", "not_found"),
        ("absent/file", "not_found"),
        (".tailops-trash/x", "invalid_arguments"),
    ] {
        assert_eq!(code(delete(&sandbox, path)), wanted, "{path}");
    }
    assert!(["fifo", "socket", "folder", "hard"].iter().all(|path| sandbox.inside(path).exists()));
}

#[test]
fn a_deleted_file_is_in_the_trash_as_it_was() {
    let mut sandbox = Sandbox::new();
    sandbox.roots.push(sandbox.beside("second"));
    fs::create_dir(&sandbox.roots[1]).unwrap();
    fs::create_dir(sandbox.inside("folder")).unwrap();
    fs::write(sandbox.inside("folder/a.txt"), "content").unwrap();
    fs::set_permissions(sandbox.inside("folder/a.txt"), fs::Permissions::from_mode(0o640)).unwrap();
    let content = delete(&sandbox, "folder/a.txt").unwrap();
    assert!(!sandbox.inside("folder/a.txt").exists());
    let trash = content.data["trash"].as_str().unwrap();
    let name = trash.strip_prefix(sandbox.arg(".tailops-trash/").as_str()).expect(trash);
    let (stamp, rest) = name.split_once('.').unwrap();
    jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", stamp).expect(name);
    assert!(rest.ends_with(".a.txt") && rest.len() == 8 + 6, "{name}");
    assert_eq!(fs::read_to_string(trash).unwrap(), "content");
    assert_eq!(fs::metadata(trash).unwrap().permissions().mode() & 0o7777, 0o640);
    let folder = fs::metadata(sandbox.inside(".tailops-trash")).unwrap();
    assert_eq!(folder.permissions().mode() & 0o7777, 0o700);
    assert_eq!(content.data["before_sha256"], hex(digest(&SHA256, b"content").as_ref()));
    assert_eq!(content.changed, Some(true));
    // Each root has its own, and the same name twice is no trouble.
    for _ in 0..2 {
        fs::write(sandbox.roots[1].join("-rf"), "x").unwrap();
        let path = sandbox.roots[1].join("-rf");
        let args = json!({"path": path, "dry_run": false, "reason": "a test"});
        sandbox.call(&FileDelete, args).unwrap();
    }
    assert_eq!(fs::read_dir(sandbox.roots[1].join(".tailops-trash")).unwrap().count(), 2);
}

#[test]
fn a_dry_run_is_the_default_complete_and_changes_nothing() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.inside("a.txt"), "content").unwrap();
    let plain = json!({"path": sandbox.arg("a.txt"), "reason": "a test"});
    let operation = sandbox.plan(&FileDelete, &plain).unwrap();
    assert!(operation.dry_run && operation.effect == Effect::Read && operation.risk == Risk::Critical);
    let content = sandbox.call(&FileDelete, plain).unwrap();
    assert_eq!(
        (content.changed, &content.data["trash"], &content.data["size"]),
        (Some(false), &Value::Null, &json!(7))
    );
    assert_eq!(content.before.unwrap()["mode"], "0644");
    assert!(sandbox.inside("a.txt").exists() && !sandbox.inside(".tailops-trash").exists());
    let real = sandbox.plan(&FileDelete, args(&sandbox, "a.txt", false)).unwrap();
    assert!(real.effect == Effect::Destructive && real.risk == Risk::Critical && !real.dry_run);
}

#[test]
fn an_expectation_that_does_not_hold_deletes_nothing() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.inside("a.txt"), "content").unwrap();
    let mut wanted = args(&sandbox, "a.txt", false);
    wanted["expect_sha256"] = json!("0".repeat(64));
    assert_eq!(code(sandbox.call(&FileDelete, &wanted)), "precondition_failed");
    assert!(sandbox.inside("a.txt").exists());
    wanted["expect_sha256"] = json!(hex(digest(&SHA256, b"content").as_ref()));
    sandbox.call(&FileDelete, wanted).unwrap();
    assert!(!sandbox.inside("a.txt").exists());
}

#[test]
fn a_trash_that_is_not_ours_alone_is_not_used() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.inside("a.txt"), "content").unwrap();
    let trash = sandbox.inside(".tailops-trash");
    symlink("../outside/folder", &trash).unwrap();
    assert_eq!(code(delete(&sandbox, "a.txt")), "trash_unusable");
    fs::remove_file(&trash).unwrap();
    fs::create_dir(&trash).unwrap();
    fs::set_permissions(&trash, fs::Permissions::from_mode(0o777)).unwrap();
    for dry_run in [true, false] {
        assert_eq!(code(sandbox.call(&FileDelete, args(&sandbox, "a.txt", dry_run))), "trash_unusable");
    }
    fs::remove_dir(&trash).unwrap();
    fs::write(&trash, "a file").unwrap();
    assert_eq!(code(delete(&sandbox, "a.txt")), "trash_unusable");
    assert!(sandbox.inside("a.txt").exists());
    assert_eq!(fs::read_dir(sandbox.beside("outside/folder")).unwrap().count(), 1);
}

#[test]
fn p72_what_the_login_user_may_not_delete_is_denied() {
    let mut sandbox = Sandbox::new();
    fs::create_dir(sandbox.inside("closed")).unwrap();
    fs::write(sandbox.inside("closed/file"), "x").unwrap();
    fs::set_permissions(sandbox.inside("closed"), fs::Permissions::from_mode(0o555)).unwrap();
    if rustix::process::geteuid().is_root() {
        fs::set_permissions(sandbox.beside(""), fs::Permissions::from_mode(0o755)).unwrap();
        sandbox.as_nobody = true;
    }
    assert_eq!(code(delete(&sandbox, "closed/file")), "permission_denied");
    fs::set_permissions(sandbox.inside("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(sandbox.inside("closed/file").exists());
}

#[test]
fn the_definition_fits() {
    fits_budget(&FileDelete);
}

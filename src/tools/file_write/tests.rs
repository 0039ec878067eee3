//! Writes real files by the real script: first what must be refused and leaves everything as it was, then what is
//! written and how.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, symlink},
        net::UnixListener,
    },
    path::Path,
};

use serde_json::{Value, json};

use super::*;
use crate::{
    config::Files,
    tools::{
        paths::sandbox::{SECRET, Sandbox, make_fifo},
        rig::fits_budget,
    },
};

fn args(sandbox: &Sandbox, path: &str, content: &str) -> Value {
    json!({"path": sandbox.arg(path), "content": content, "reason": "a test of writing"})
}

fn with(mut args: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().unwrap() {
        args[key] = value.clone();
    }
    args
}

fn write(sandbox: &Sandbox, path: &str, content: &str) -> Result<Content, ToolError> {
    sandbox.call(&FileWrite, args(sandbox, path, content))
}

#[track_caller]
fn code(result: Result<Content, ToolError>) -> &'static str {
    match result {
        Err(error) => {
            assert!(error.hint.is_some() && !error.message.contains(SECRET), "{error:?}");
            error.code
        }
        Ok(content) => panic!("was written: {}", content.data),
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// The names in a directory, sorted.
fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn sha256(content: &str) -> String {
    hex(digest(&SHA256, content.as_bytes()).as_ref())
}

#[test]
fn p71_links_are_neither_followed_nor_replaced() {
    let sandbox = Sandbox::new();
    symlink("../outside/secret", sandbox.inside("file.txt")).unwrap();
    symlink("../outside/absent", sandbox.inside("dangling.txt")).unwrap();
    symlink("../outside/folder", sandbox.inside("folder")).unwrap();
    symlink("/etc", sandbox.inside("etc")).unwrap();
    symlink("/proc/self/root", sandbox.inside("proc")).unwrap();
    fs::write(sandbox.inside("inner.txt"), "inner").unwrap();
    symlink("inner.txt", sandbox.inside("to-inner.txt")).unwrap();
    for (path, wanted) in [
        ("file.txt", "symlink"),
        ("dangling.txt", "symlink"),
        ("to-inner.txt", "symlink"),
        ("folder/secret", "outside_roots"),
        ("folder/new.txt", "outside_roots"),
        ("etc/new.txt", "outside_roots"),
        ("proc/etc/hostname", "outside_roots"),
        ("proc/tmp/new.txt", "outside_roots"),
    ] {
        for dry_run in [false, true] {
            let args = with(args(&sandbox, path, "new"), json!({ "dry_run": dry_run }));
            assert_eq!(code(sandbox.call(&FileWrite, args)), wanted, "{path}");
        }
    }
    assert_eq!(fs::read_to_string(sandbox.beside("outside/secret")).unwrap(), SECRET);
    assert_eq!(names(&sandbox.beside("outside")), ["folder", "secret"]);
    assert_eq!(names(&sandbox.beside("outside/folder")), ["secret"]);
    assert_eq!(fs::read_to_string(sandbox.inside("inner.txt")).unwrap(), "inner");
}

#[test]
fn only_regular_files_with_one_link_are_replaced() {
    let sandbox = Sandbox::new();
    make_fifo(&sandbox.inside("fifo"));
    let _listener = UnixListener::bind(sandbox.inside("socket")).unwrap();
    fs::create_dir(sandbox.inside("folder")).unwrap();
    fs::hard_link(sandbox.beside("outside/secret"), sandbox.inside("hard")).unwrap();
    let before = names(&sandbox.roots[0]);
    for (path, wanted) in [
        ("fifo", "not_regular"),
        ("socket", "not_regular"),
        ("folder", "not_regular"),
        ("hard", "hard_link"),
        ("absent/new.txt", "not_found"),
        ("fifo/new.txt", "not_found"),
        (".tailops-trash/new.txt", "invalid_arguments"),
    ] {
        assert_eq!(code(write(&sandbox, path, "new")), wanted, "{path}");
    }
    assert_eq!(names(&sandbox.roots[0]), before);
    assert_eq!(fs::read_to_string(sandbox.beside("outside/secret")).unwrap(), SECRET);
    let root = json!({"path": sandbox.roots[0], "content": "", "reason": "a test"});
    assert_eq!(sandbox.plan(&FileWrite, root).unwrap_err().code, "invalid_arguments");
}

#[test]
fn a_link_into_the_trash_does_not_make_it_writable() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.inside(".tailops-trash")).unwrap();
    symlink(".tailops-trash", sandbox.inside("bin")).unwrap();
    assert_eq!(code(write(&sandbox, "bin/new.txt", "new")), "invalid_arguments");
    assert!(names(&sandbox.inside(".tailops-trash")).is_empty());
}

#[test]
fn p72_what_the_login_user_may_not_write_is_denied_and_nothing_is_left() {
    let mut sandbox = Sandbox::new();
    fs::create_dir(sandbox.inside("closed")).unwrap();
    fs::write(sandbox.inside("closed/file.txt"), "old").unwrap();
    fs::write(sandbox.inside("unreadable.txt"), "old").unwrap();
    fs::set_permissions(sandbox.inside("unreadable.txt"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(sandbox.inside("closed"), fs::Permissions::from_mode(0o555)).unwrap();
    if rustix::process::geteuid().is_root() {
        fs::set_permissions(sandbox.beside(""), fs::Permissions::from_mode(0o755)).unwrap();
        sandbox.as_nobody = true;
    }
    for path in ["closed/file.txt", "closed/new.txt", "unreadable.txt"] {
        assert_eq!(code(write(&sandbox, path, "new")), "permission_denied", "{path}");
    }
    let operation = sandbox.plan(&FileWrite, args(&sandbox, "closed/new.txt", "new")).unwrap();
    let Some(Step::Script(script)) = operation.steps.first() else { panic!("no script") };
    assert!(!script.template.body.contains("sudo"));
    fs::set_permissions(sandbox.inside("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(names(&sandbox.inside("closed")), ["file.txt"]);
    assert_eq!(fs::read_to_string(sandbox.inside("closed/file.txt")).unwrap(), "old");
}

#[test]
fn an_expectation_that_does_not_hold_changes_nothing() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.inside("a.txt"), "old").unwrap();
    for (path, expect) in [("a.txt", sha256("other")), ("a.txt", "absent".into()), ("new.txt", sha256(""))] {
        for dry_run in [true, false] {
            let wrong = with(args(&sandbox, path, "new"), json!({"expect_sha256": expect, "dry_run": dry_run}));
            assert_eq!(code(sandbox.call(&FileWrite, wrong)), "precondition_failed", "{path} {expect}");
        }
    }
    assert_eq!(names(&sandbox.roots[0]), ["a.txt"]);
    assert_eq!(fs::read_to_string(sandbox.inside("a.txt")).unwrap(), "old");

    let right = with(args(&sandbox, "a.txt", "new"), json!({"expect_sha256": sha256("old").to_uppercase()}));
    sandbox.call(&FileWrite, right).unwrap();
    let absent = with(args(&sandbox, "b.txt", "new"), json!({"expect_sha256": "absent"}));
    sandbox.call(&FileWrite, absent).unwrap();
    assert_eq!(names(&sandbox.roots[0]), [".a.txt.tailops-bak", "a.txt", "b.txt"]);
    assert_eq!(fs::read_to_string(sandbox.inside("b.txt")).unwrap(), "new");
}

#[test]
fn of_many_writes_that_expect_the_same_exactly_one_is_made() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.inside("a.txt"), "old").unwrap();
    for (path, expect) in [("a.txt", sha256("old")), ("new.txt", "absent".to_owned())] {
        let write = |number: usize| {
            let args = with(args(&sandbox, path, &format!("{number}")), json!({ "expect_sha256": expect }));
            sandbox.call(&FileWrite, args).map_err(|error| error.code)
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            let write = &write;
            let threads: Vec<_> = (0..8).map(|number| scope.spawn(move || write(number))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let made: Vec<usize> = (0..8).filter(|number| results[*number].is_ok()).collect();
        assert_eq!(made.len(), 1, "{path}: {made:?}");
        assert!(results.iter().flat_map(|result| result.as_ref().err()).all(|code| *code == "precondition_failed"));
        assert_eq!(fs::read_to_string(sandbox.inside(path)).unwrap(), made[0].to_string());
    }
    assert_eq!(names(&sandbox.roots[0]), [".a.txt.tailops-bak", "a.txt", "new.txt"]);
}

#[test]
fn a_dry_run_shows_what_would_be_and_leaves_everything() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.inside("a.txt"), "old").unwrap();
    let dry = with(args(&sandbox, "a.txt", "new content"), json!({"dry_run": true, "mode": "0640"}));
    let operation = sandbox.plan(&FileWrite, &dry).unwrap();
    assert!(operation.dry_run && operation.effect == Effect::Read && operation.risk == Risk::High);
    let Some(Step::Script(script)) = operation.steps.first() else { panic!("no script") };
    assert!(script.stdin.is_none(), "the content stays here");
    let content = sandbox.call(&FileWrite, dry).unwrap();
    assert_eq!(content.changed, Some(false));
    assert_eq!(
        content.data,
        json!({
            "path": sandbox.arg("a.txt"), "size": 11, "mime": "text/plain", "mode": "0640",
            "before_sha256": sha256("old"), "after_sha256": sha256("new content"),
            "backup": sandbox.arg(".a.txt.tailops-bak"),
        })
    );
    assert_eq!(content.before.unwrap()["size"], 3);
    let fresh = sandbox.call(&FileWrite, with(args(&sandbox, "b.txt", ""), json!({"dry_run": true}))).unwrap();
    assert_eq!((fresh.data.get("before_sha256"), fresh.data.get("backup")), (None, None));
    assert_eq!(names(&sandbox.roots[0]), ["a.txt"]);
    assert_eq!(fs::read_to_string(sandbox.inside("a.txt")).unwrap(), "old");
}

#[test]
fn what_was_there_is_kept_and_the_new_content_is_exact() {
    let sandbox = Sandbox::new();
    let bytes: Vec<u8> = (0..=255_u8).cycle().take(100_000).chain(*b"'\n$(id)\0").collect();
    let files = Files { mime: vec!["application/octet-stream".into(), "text/plain".into()], ..Files::default() };
    let mut rig = sandbox.rig();
    rig.files = files;
    let binary = with(
        args(&sandbox, "a.bin", &STANDARD.encode(&bytes)),
        json!({"encoding": "base64", "reason": "it's $(a) \"test\""}),
    );
    let first = rig.call(&FileWrite, &binary).unwrap();
    assert_eq!(fs::read(sandbox.inside("a.bin")).unwrap(), bytes);
    assert_eq!((first.changed, first.data.get("backup")), (Some(true), None));
    let again = rig.call(&FileWrite, &binary).unwrap();
    assert_eq!(again.changed, Some(false));
    let second = write(&sandbox, "a.txt", "one\n").unwrap();
    assert_eq!(second.data["after_sha256"], sha256("one\n"));
    let third = write(&sandbox, "a.txt", "two\n").unwrap();
    assert_eq!(third.data["before_sha256"], sha256("one\n"));
    assert_eq!(third.data["backup"], sandbox.arg(".a.txt.tailops-bak"));
    assert_eq!(fs::read_to_string(sandbox.inside("a.txt")).unwrap(), "two\n");
    assert_eq!(fs::read_to_string(sandbox.inside(".a.txt.tailops-bak")).unwrap(), "one\n");
    assert_eq!(mode(&sandbox.inside(".a.txt.tailops-bak")), 0o600);
    assert_eq!(names(&sandbox.roots[0]), [".a.bin.tailops-bak", ".a.txt.tailops-bak", "a.bin", "a.txt"]);
}

#[test]
fn a_backup_that_cannot_be_made_stops_the_write() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.inside("a.txt"), "old").unwrap();
    fs::create_dir(sandbox.inside(".a.txt.tailops-bak")).unwrap();
    assert_eq!(code(write(&sandbox, "a.txt", "new")), "backup_failed");
    assert_eq!(fs::read_to_string(sandbox.inside("a.txt")).unwrap(), "old");
    assert_eq!(names(&sandbox.roots[0]), [".a.txt.tailops-bak", "a.txt"]);
    // A link there is replaced, and what it leads to is not touched.
    fs::write(sandbox.inside("b.txt"), "old").unwrap();
    symlink("../outside/secret", sandbox.inside(".b.txt.tailops-bak")).unwrap();
    write(&sandbox, "b.txt", "new").unwrap();
    assert_eq!(fs::read_to_string(sandbox.beside("outside/secret")).unwrap(), SECRET);
    assert_eq!(fs::read_to_string(sandbox.inside(".b.txt.tailops-bak")).unwrap(), "old");
}

#[test]
fn long_and_odd_names_are_written_and_kept() {
    let sandbox = Sandbox::new();
    for name in ["é".repeat(127), "-rf".to_owned(), "a 'b' \"c\" $(d)".to_owned(), "*?[x]".to_owned()] {
        write(&sandbox, &name, "one").unwrap();
        let second = write(&sandbox, &name, "two").unwrap();
        assert_eq!(fs::read_to_string(sandbox.inside(&name)).unwrap(), "two", "{name}");
        assert_eq!(fs::read_to_string(second.data["backup"].as_str().unwrap()).unwrap(), "one", "{name}");
    }
}

#[test]
fn p77_no_written_file_can_be_run_whatever_was_there() {
    let sandbox = Sandbox::new();
    for (name, old) in [("exec", 0o755), ("setuid", 0o6755), ("closed", 0o600), ("open", 0o777)] {
        fs::write(sandbox.inside(name), "old").unwrap();
        fs::set_permissions(sandbox.inside(name), fs::Permissions::from_mode(old)).unwrap();
        let content = write(&sandbox, name, "#!/bin/sh\n").unwrap();
        assert_eq!((mode(&sandbox.inside(name)), &content.data["mode"]), (0o644, &json!("0644")), "{name}");
        assert_eq!(content.warnings.iter().any(|text| text.contains("could be run")), old & 0o111 != 0, "{name}");
        assert_eq!(mode(&sandbox.inside(&format!(".{name}.tailops-bak"))), 0o600, "{name}");
    }
    for given in ["0600", "0640", "0644", "0660", "0664"] {
        let content = sandbox.call(&FileWrite, with(args(&sandbox, given, "x"), json!({ "mode": given }))).unwrap();
        assert_eq!(content.data["mode"], given);
        assert_eq!(mode(&sandbox.inside(given)), u32::from_str_radix(given, 8).unwrap());
    }
    for given in
        [json!("0755"), json!("755"), json!("4644"), json!("2644"), json!("0645"), json!("+x"), json!(420), json!("")]
    {
        let refused = sandbox.plan(&FileWrite, with(args(&sandbox, "a", "x"), json!({ "mode": given }))).unwrap_err();
        assert!(refused.code == "invalid_arguments" && refused.message.contains("mode"), "{given}: {refused}");
    }
}

#[test]
fn p77_neither_umask_nor_setgid_nor_acl_of_the_directory_changes_the_mode() {
    let mut sandbox = Sandbox::new();
    fs::create_dir(sandbox.inside("setgid")).unwrap();
    fs::set_permissions(sandbox.inside("setgid"), fs::Permissions::from_mode(0o2777)).unwrap();
    fs::create_dir(sandbox.inside("acl")).unwrap();
    // Default ACL user::rwx, group::rwx, other::rwx, as setfacl -d writes it; not every file system has them.
    let entry = |tag: u16| [&tag.to_le_bytes()[..], &7_u16.to_le_bytes(), &u32::MAX.to_le_bytes()].concat();
    let acl = [&2_u32.to_le_bytes()[..], &entry(1), &entry(4), &entry(0x20)].concat();
    let name = "system.posix_acl_default";
    let set = rustix::fs::setxattr(sandbox.inside("acl"), name, &acl, rustix::fs::XattrFlags::empty());
    assert!(set.is_ok() || set == Err(rustix::io::Errno::OPNOTSUPP), "{set:?}");
    for directory in ["setgid", "acl"] {
        write(&sandbox, &format!("{directory}/a"), "x").unwrap();
        assert_eq!(mode(&sandbox.inside(&format!("{directory}/a"))), 0o644, "{directory}");
    }
    for umask in ["000", "077", "777"] {
        let mut rig = sandbox.rig();
        rig.wrapper = ["sh", "-c", "umask $0; exec \"$@\"", umask].map(str::to_owned).into();
        rig.call(&FileWrite, args(&sandbox, umask, "x")).unwrap();
        assert_eq!(mode(&sandbox.inside(umask)), 0o644, "{umask}");
    }
    if rustix::process::geteuid().is_root() {
        fs::set_permissions(sandbox.beside(""), fs::Permissions::from_mode(0o755)).unwrap();
        sandbox.as_nobody = true;
        write(&sandbox, "setgid/by-nobody", "x").unwrap();
        assert_eq!(mode(&sandbox.inside("setgid/by-nobody")), 0o644);
    }
}

#[test]
fn the_owner_is_kept_where_that_is_possible_and_told_where_it_is_not() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.inside("a.txt"), "old").unwrap();
    std::os::unix::fs::chown(sandbox.inside("a.txt"), Some(65534), Some(65534)).unwrap();
    assert!(write(&sandbox, "a.txt", "new").unwrap().warnings.is_empty());
    let owner = |path: &str| fs::metadata(sandbox.inside(path)).unwrap().uid();
    assert_eq!((owner("a.txt"), owner(".a.txt.tailops-bak")), (65534, 65534));
    fs::write(sandbox.inside("b.txt"), "old").unwrap();
    for path in [sandbox.beside(""), sandbox.inside("")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    sandbox.as_nobody = true;
    assert!(write(&sandbox, "b.txt", "new").unwrap().warnings[0].contains("belongs to"));
}

#[test]
fn p76_ten_megabytes_are_written_and_one_byte_more_is_refused() {
    let sandbox = Sandbox::new();
    let most = "0123456789abcde\n".repeat(625_000);
    assert_eq!(most.len(), 10_000_000);
    let content = write(&sandbox, "most.txt", &most).unwrap();
    assert_eq!(content.data["size"], 10_000_000);
    assert_eq!(fs::metadata(sandbox.inside("most.txt")).unwrap().len(), 10_000_000);
    for (content, encoding) in [(format!("{most}x"), "utf8"), (STANDARD.encode(format!("{most}x")), "base64")] {
        let more = with(args(&sandbox, "more.txt", &content), json!({ "encoding": encoding }));
        assert_eq!(sandbox.plan(&FileWrite, more).unwrap_err().code, "file_too_large", "{encoding}");
    }
    let mut rig = sandbox.rig();
    rig.files.max_bytes = 4;
    assert!(rig.plan(&FileWrite, args(&sandbox, "a.txt", "1234")).is_ok());
    let refused = rig.plan(&FileWrite, args(&sandbox, "a.txt", "12345")).unwrap_err();
    assert!(refused.code == "file_too_large" && refused.message.contains("at most 4 bytes"), "{refused}");
}

#[test]
fn a_content_that_does_not_arrive_whole_is_not_written() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.inside("a.txt"), "old").unwrap();
    for arrived in ["", "new con", "new content!", "new kontent"] {
        let mut operation = sandbox.plan(&FileWrite, args(&sandbox, "a.txt", "new content")).unwrap();
        let Some(Step::Script(script)) = operation.steps.first_mut() else { panic!("no script") };
        script.stdin = Some(Bytes::from(arrived));
        let raw = sandbox.rig().run(operation);
        assert_eq!(code(FileWrite.render(&raw)), "write_failed", "{arrived}");
    }
    assert_eq!(names(&sandbox.roots[0]), ["a.txt"]);
    assert_eq!(fs::read_to_string(sandbox.inside("a.txt")).unwrap(), "old");
}

#[test]
fn a_file_system_without_room_is_told_and_nothing_of_it_is_left() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.inside("a.txt"), "old").unwrap();
    let content = "x".repeat(200_000);
    // A file system of its own, of 64 KiB, where the test may make one; a limit on the size of files elsewhere.
    let mounted = format!(
        "mount -t tmpfs -o size=64k,mode=755 none {0} && echo old >{0}/a.txt && \"$@\"; status=$?; ls -A {0} >&2; exit $status",
        sandbox.roots[0].display()
    );
    let mut rig = sandbox.rig();
    rig.wrapper = ["unshare", "-m", "sh", "-c", &mounted, "sh"].map(str::to_owned).into();
    let operation = rig.plan(&FileWrite, args(&sandbox, "a.txt", &content)).unwrap();
    let Some(Step::Script(script)) = operation.steps.first() else { panic!("no script") };
    let output = rig.execute(script);
    if output.stdout.text().contains("no_space") {
        assert_eq!(output.stderr.text().trim(), "a.txt", "something was left");
    } else {
        assert!(output.sections().is_empty(), "it could be mounted: {}", output.stdout.text());
    }
    let mut rig = sandbox.rig();
    rig.wrapper = ["sh", "-c", "trap '' XFSZ; ulimit -f 8; exec \"$@\"", "sh"].map(str::to_owned).into();
    assert_eq!(code(rig.call(&FileWrite, args(&sandbox, "a.txt", &content))), "write_failed");
    assert_eq!(names(&sandbox.roots[0]), ["a.txt"]);
    assert_eq!(fs::read_to_string(sandbox.inside("a.txt")).unwrap(), "old");
}

#[test]
fn what_is_judged_and_recorded_is_the_digest_and_not_the_content() {
    let sandbox = Sandbox::new();
    let operation = sandbox.plan(&FileWrite, args(&sandbox, "a.json", "{\"a\": 1}")).unwrap();
    let recorded = Value::Object(operation.arguments.clone());
    assert_eq!(recorded["content_sha256"], sha256("{\"a\": 1}"));
    assert_eq!(
        (&recorded["size"], &recorded["mime"], &recorded["mode"]),
        (&json!(8), &json!("application/json"), &json!("0644"))
    );
    assert!(recorded.get("content").is_none());
    assert_eq!(operation.places, [sandbox.arg("a.json"), sandbox.arg("").trim_end_matches('/').to_owned()]);
    assert!(!operation.dry_run && operation.effect == Effect::Destructive);
}

#[test]
fn the_definition_fits() {
    fits_budget(&FileWrite);
}

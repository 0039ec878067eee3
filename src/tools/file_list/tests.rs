//! Lists real directories by the real script: first what must be refused, then what comes back.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
        net::UnixListener,
    },
};

use serde_json::{Value, json};

use super::*;
use crate::{
    model::Missing,
    tools::{
        paths::sandbox::{SECRET, Sandbox, make_fifo},
        rig,
    },
};

fn list(sandbox: &Sandbox, path: &str, mut arguments: Value) -> Result<Content, ToolError> {
    arguments["path"] = sandbox.roots[0].join(path).to_str().unwrap().trim_end_matches('/').into();
    sandbox.call(&FileList, arguments)
}

fn paths_of(content: &Content) -> Vec<String> {
    content.data["entries"].as_array().unwrap().iter().map(|entry| entry["path"].as_str().unwrap().into()).collect()
}

fn entry<'c>(content: &'c Content, path: &str) -> &'c Value {
    let entries = content.data["entries"].as_array().unwrap();
    entries.iter().find(|entry| entry["path"] == path).unwrap_or_else(|| panic!("{path} in {entries:?}"))
}

#[test]
fn links_out_of_the_root_are_refused_and_do_not_tell_what_is_there() {
    let sandbox = Sandbox::new();
    let links = ["../outside", "../absent", "../outside/secret", "/etc", "..", "/proc/self/root", "loop5"];
    for (number, text) in links.iter().enumerate() {
        symlink(if *text == "loop5" { "link6" } else { *text }, sandbox.inside(&format!("link{number}"))).unwrap();
    }
    let alone = (0..links.len()).map(|number| format!("link{number}"));
    let below = ["link0/folder", "link0/absent", "link0/secret", "link3/passwd", "link3/absent", "link4/outside"];
    for path in alone.chain(below.map(str::to_owned)) {
        for checksum in [false, true] {
            let error = list(&sandbox, &path, json!({ "checksum": checksum })).unwrap_err();
            assert_eq!(error, paths::refusal("outside"), "{path}");
        }
    }
}

#[test]
fn a_link_in_a_listing_is_shown_and_not_followed() {
    let sandbox = Sandbox::new();
    symlink("../outside", sandbox.inside("folder")).unwrap();
    symlink("../outside/secret", sandbox.inside("file")).unwrap();
    let content = list(&sandbox, "", json!({ "depth": 3, "checksum": true })).unwrap();
    assert_eq!(paths_of(&content), ["file", "folder"]);
    let file = entry(&content, "file");
    assert_eq!((&file["type"], &file["link"]), (&json!("symlink"), &json!("../outside/secret")));
    assert!(file.get("sha256").is_none());
}

#[test]
fn missing_and_unreadable_places_each_have_their_own_answer() {
    let mut sandbox = Sandbox::new();
    assert_eq!(list(&sandbox, "absent", json!({})).unwrap_err().code, "not_found");
    for name in ["blind", "closed", "open/closed"] {
        fs::create_dir_all(sandbox.inside(name)).unwrap();
    }
    for (name, mode) in [("blind", 0o311), ("closed", 0o600), ("open/closed", 0o300)] {
        fs::set_permissions(sandbox.inside(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    if rustix::process::geteuid().is_root() {
        fs::set_permissions(sandbox.beside(""), fs::Permissions::from_mode(0o755)).unwrap();
        sandbox.as_nobody = true;
    }
    assert_eq!(list(&sandbox, "blind", json!({})).unwrap_err().code, "permission_denied");
    assert_eq!(list(&sandbox, "closed", json!({})).unwrap_err().code, "permission_denied");
    let content = list(&sandbox, "open", json!({ "depth": 2 })).unwrap();
    assert_eq!(paths_of(&content), ["closed"]);
    assert_eq!(content.partial, [Missing { section: "entries".into(), reason: "permission_denied".into() }]);
    for name in ["blind", "closed", "open/closed"] {
        fs::set_permissions(sandbox.inside(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn arguments_out_of_place_are_named() {
    let sandbox = Sandbox::new();
    for (field, arguments) in [
        ("depth", json!({ "depth": 0 })),
        ("depth", json!({ "depth": 4 })),
        ("limit", json!({ "limit": 0 })),
        ("limit", json!({ "limit": 1001 })),
        ("checksum", json!({ "checksum": true })),
        ("recursive", json!({ "recursive": true })),
        ("cursor", json!({ "cursor": "*" })),
        ("cursor", json!({ "cursor": URL_SAFE_NO_PAD.encode("ab") })),
        ("cursor", json!({ "cursor": URL_SAFE_NO_PAD.encode("abcd") })),
        ("cursor", json!({ "cursor": URL_SAFE_NO_PAD.encode("000a\0b") })),
        ("cursor", json!({ "cursor": URL_SAFE_NO_PAD.encode("000a//b") })),
    ] {
        let error = sandbox.plan(&FileList, arguments).unwrap_err();
        assert_eq!(error.code, "invalid_arguments");
        assert!(error.message.contains(field), "{field}: {error}");
    }
}

#[test]
fn without_a_path_the_roots_are_listed_and_missing_ones_named() {
    let mut sandbox = Sandbox::new();
    fs::write(sandbox.inside("file"), "x").unwrap();
    symlink("outside", sandbox.beside("alias")).unwrap();
    sandbox.roots.extend([sandbox.beside("absent"), sandbox.beside("alias"), sandbox.beside("outside/folder")]);
    let content = sandbox.call(&FileList, json!({})).unwrap();
    let wanted = ["root", "root/file", "outside/folder", "outside/folder/secret"].map(|path| sandbox.beside(path));
    assert_eq!(paths_of(&content), wanted.map(|path| path.to_str().unwrap().to_owned()));
    let reasons: Vec<_> = content.partial.iter().map(|missing| missing.reason.as_str()).collect();
    assert_eq!(reasons, ["not_found", "symlink"]);
    assert_eq!(content.partial[0].section, sandbox.beside("absent").to_str().unwrap());
    let first = sandbox.call(&FileList, json!({ "limit": 3 })).unwrap();
    let second = sandbox.call(&FileList, json!({ "limit": 3, "cursor": first.next_cursor })).unwrap();
    assert_eq!([paths_of(&first), paths_of(&second)].concat(), paths_of(&content));
}

#[test]
fn every_type_is_told_with_its_facts() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.inside("file"), "hello").unwrap();
    fs::set_permissions(sandbox.inside("file"), fs::Permissions::from_mode(0o4640)).unwrap();
    fs::hard_link(sandbox.inside("file"), sandbox.inside("twin")).unwrap();
    fs::create_dir(sandbox.inside("dir")).unwrap();
    symlink("gone\tsomewhere", sandbox.inside("link")).unwrap();
    make_fifo(&sandbox.inside("fifo"));
    let _listener = UnixListener::bind(sandbox.inside("socket")).unwrap();
    let file = fs::File::options().append(true).open(sandbox.inside("file")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    let content = list(&sandbox, "", json!({})).unwrap();
    for (path, wanted) in
        [("dir", "dir"), ("fifo", "fifo"), ("file", "file"), ("link", "symlink"), ("socket", "socket")]
    {
        assert_eq!(entry(&content, path)["type"], wanted);
    }
    let file = entry(&content, "file");
    assert_eq!((&file["size"], &file["mode"], &file["links"]), (&json!(5), &json!("4640"), &json!(2)));
    assert_eq!(file["mtime"], "2001-09-09T01:46:40Z");
    assert_eq!(entry(&content, "link")["link"], "gone\tsomewhere");
    let one = list(&sandbox, "file", json!({})).unwrap();
    assert_eq!(one.data["entries"], json!([file]));
    let devices = list(&Sandbox::with_root("/dev"), "null", json!({})).unwrap();
    assert_eq!(entry(&devices, "null")["type"], "device");
}

#[test]
fn any_name_survives_and_pages_join_without_gap_or_repetition() {
    let sandbox = Sandbox::new();
    let names: [&[u8]; 16] = [
        b"-rf",
        b"a b",
        b"a\nb",
        b"a\n\nmarker end\n",
        b"a",
        b"b'\"$(id)`\\",
        b"\x01first",
        b"\xff\xfe",
        b"0s 1",
        b"%s%n\\0",
        b"tab\there",
        b"~",
        b"x (deleted)",
        b"...",
        "é".as_bytes(),
        b"\n",
    ];
    for name in names {
        fs::write(sandbox.inside("").join(OsStr::from_bytes(name)), "x").unwrap();
    }
    symlink("//~\n//~", sandbox.inside("odd")).unwrap();
    symlink("0!\n0!", sandbox.inside("odder")).unwrap();
    fs::create_dir(sandbox.inside("a.d")).unwrap();
    fs::write(sandbox.inside("a.d/a\nb!"), "x").unwrap();
    let whole = list(&sandbox, "", json!({ "depth": 2 })).unwrap();
    let all = paths_of(&whole);
    assert_eq!(all.len(), names.len() + 4);
    assert_eq!(whole.warnings.len(), 1, "{:?}", whole.warnings);
    for name in names {
        assert!(all.contains(&String::from_utf8_lossy(name).into_owned()), "{name:?} in {all:?}");
    }
    for checksum in [false, true] {
        let mut seen = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut arguments = json!({ "depth": 2, "limit": 3, "checksum": checksum });
            if let Some(cursor) = &cursor {
                arguments["cursor"] = json!(cursor);
            }
            let page = list(&sandbox, "", arguments).unwrap();
            seen.extend(paths_of(&page));
            assert_eq!(page.truncated, page.next_cursor.is_some());
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
            assert!(seen.len() <= all.len(), "a page was repeated");
        }
        assert_eq!(seen, all);
    }
}

#[test]
fn checksums_are_of_regular_files_with_one_link_and_of_bounded_size() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.inside("d")).unwrap();
    fs::write(sandbox.inside("d/odd\n'name"), "hello").unwrap();
    fs::write(sandbox.inside("empty"), "").unwrap();
    fs::hard_link(sandbox.beside("outside/secret"), sandbox.inside("linked")).unwrap();
    make_fifo(&sandbox.inside("fifo"));
    fs::File::create(sandbox.inside("large")).unwrap().set_len((16 << 20) + 1).unwrap();
    for number in 0..5 {
        fs::File::create(sandbox.inside(&format!("z{number}"))).unwrap().set_len(16 << 20).unwrap();
    }
    let content = list(&sandbox, "", json!({ "depth": 2, "checksum": true })).unwrap();
    let hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    assert_eq!(entry(&content, "d/odd\n'name")["sha256"], hello);
    assert!(entry(&content, "empty")["sha256"].as_str().unwrap().starts_with("e3b0c44298fc1c14"));
    assert_eq!(entry(&content, "linked")["no_sha256"], "hard_link");
    assert_eq!(entry(&content, "large")["no_sha256"], "too_large");
    let made = (0..5).filter(|number| entry(&content, &format!("z{number}")).get("sha256").is_some()).count();
    assert_eq!(made, 3, "64 MiB in all, of which hello took five bytes");
    assert!(entry(&content, "fifo").get("no_sha256").is_none());
    let one = list(&sandbox, "d/odd\n'name", json!({ "checksum": true })).unwrap_err();
    assert_eq!(one.code, "invalid_arguments");
    let one = list(&sandbox, "empty", json!({ "checksum": true })).unwrap();
    assert_eq!(entry(&one, "empty"), entry(&content, "empty"));
}

#[test]
fn a_crowded_directory_is_cut_and_says_so() {
    let sandbox = Sandbox::new();
    let text = "l".repeat(4000);
    for number in 0..400 {
        symlink(&text, sandbox.inside(&format!("{number:03}"))).unwrap();
    }
    let page = list(&sandbox, "", json!({ "limit": 1000 })).unwrap();
    let seen = paths_of(&page);
    assert!(page.truncated && seen.len() < 400 && seen.len() > 100, "{}", seen.len());
    let next = list(&sandbox, "", json!({ "limit": 1000, "cursor": page.next_cursor })).unwrap();
    assert_eq!(paths_of(&next)[0], format!("{:03}", seen.len()));
}

#[test]
fn an_answer_that_did_not_come_whole_is_an_error() {
    let roots = ["/r".to_owned()];
    for records in
        ["", "1000a//f\t1\t1.0\t600\tu\tg\t1\t\t\0", "0s 0\0?\0", "0s 0\x001000a\0", "0s 0\x000x\0", "0m 7 x\x000s 0\0"]
    {
        assert!(Listing::read(records.as_bytes(), Some("/r"), &roots, 9).is_err(), "{records:?}");
    }
    assert!(Listing::read(b"0s 0\0", Some("/r"), &roots, 9).is_ok());
    let many = Listing::read(b"0t\0", Some("/r"), &roots, 9).unwrap();
    assert_eq!(many.partial[0].reason, "more_than_100000");
}

#[test]
fn nothing_outside_is_told_by_any_argument() {
    let sandbox = Sandbox::new();
    let error = sandbox.plan(&FileList, json!({ "path": sandbox.beside("outside") })).unwrap_err();
    assert_eq!(error.code, "outside_roots");
    for cursor in ["000../outside", "000", "999zzz"] {
        let arguments = json!({ "cursor": URL_SAFE_NO_PAD.encode(cursor) });
        let content = sandbox.call(&FileList, arguments).unwrap();
        assert!(!content.data.to_string().contains("secret") && !content.data.to_string().contains(SECRET));
    }
}

#[test]
fn the_definition_fits_its_budget() {
    rig::fits_budget(&FileList);
}

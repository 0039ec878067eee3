//! Files behind SSH: paths, links and races, limits, modes and bytes, by the same tools and the same rules as on the
//! gateway's own machine.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tailops::model::hex;

use crate::{
    harness::{Grant, PLANTED},
    remote::{Difference, LOCAL, REMOTE, Remote, can_become_nobody, nobody},
};

fn writing(path: &str, content: &str) -> Value {
    json!({"target": REMOTE, "path": path, "content": content, "reason": "a test"})
}

fn at(path: &str) -> Value {
    json!({"target": REMOTE, "path": path})
}

/// A call of each file tool with its path at `path`; the critical one as a dry run.
fn file_calls(path: &str) -> [(&'static str, Value); 6] {
    [
        ("file_list", at(path)),
        ("file_read", at(path)),
        ("file_search", json!({"target": REMOTE, "root": path, "name": "*"})),
        ("file_write", writing(path, "text")),
        ("file_delete", json!({"target": REMOTE, "path": path, "reason": "a test"})),
        ("disk_inspect", at(path)),
    ]
}

/// Each is `ROOT`'s, and none of them is a path below it.
const TRAVERSALS: &[&str] = &[
    "ROOT/../outside/secret.txt",
    "ROOT/a/../../outside/secret.txt",
    "ROOT/./a",
    "ROOT//a",
    "ROOT/",
    "/../../../../etc/passwd",
    "ROOT/%2e%2e/outside",
    "ROOT/..%2foutside",
    "ROOT/%252e%252e/outside",
    "ROOT/..%c0%afoutside",
    "ROOT/....//....//outside",
    "ROOT\\..\\outside",
    "ROOT/..\\outside",
    "ROOT/a\0",
    "ROOT/a\0/../../outside",
    "ROOT/a\n",
    "ROOT/\u{1b}[2J",
    "ROOT/\u{ff0e}\u{ff0e}/outside",
    "ROOT/..\u{2215}outside",
    "ROOT/.\u{200b}./outside",
    "ROOT/a.",
    "ROOT/a ",
    "ROOT/~",
    "~/x",
    "relative",
    "",
    "/",
    "/etc/passwd",
    "/proc/self/root/etc/passwd",
    "/proc/self/cwd",
    "/dev/fd/0",
    "ROOT-old/secret",
];

#[tokio::test]
async fn p74_no_traversal_reaches_the_host() {
    let remote = Remote::start().await;
    let token = remote.gateway.admin().await;
    let root = remote.file("");
    let root = root.trim_end_matches('/');
    let long = [format!("ROOT/{}", "a".repeat(256)), format!("ROOT/{}a", "a/".repeat(2048))];
    for text in TRAVERSALS.iter().copied().chain(long.iter().map(String::as_str)) {
        for (tool, arguments) in file_calls(&text.replace("ROOT", root)) {
            let answer = remote.gateway.call(&token, tool, arguments).await;
            assert!(["invalid_arguments", "outside_roots"].contains(&answer.code()), "{tool} {text:?}: {answer:?}");
        }
    }
    assert_eq!(remote.commands(), 0, "nothing was sent");
    remote.gateway.stop().await;
}

#[tokio::test]
async fn p71_a_link_out_of_the_root_is_refused_by_every_file_tool() {
    let remote = Remote::start().await;
    let token = remote.gateway.admin().await;
    let outside = remote.gateway.directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret.txt"), PLANTED).unwrap();
    symlink(&outside, remote.file("folder")).unwrap();
    for path in ["folder/secret.txt", "folder/absent.txt"] {
        for (tool, arguments) in file_calls(&remote.file(path)) {
            let answer = remote.gateway.call(&token, tool, arguments).await;
            assert_eq!(answer.code(), "outside_roots", "{tool} {path}: {answer:?}");
        }
    }
    symlink(outside.join("secret.txt"), remote.file("link")).unwrap();
    fs::hard_link(outside.join("secret.txt"), remote.file("hard")).unwrap();
    let linked = remote.gateway.call(&token, "file_read", at(&remote.file("link"))).await;
    assert_eq!(linked.code(), "outside_roots");
    let hard = remote.gateway.call(&token, "file_read", at(&remote.file("hard"))).await;
    assert_eq!(hard.code(), "hard_link");
    let written = remote.gateway.call(&token, "file_write", writing(&remote.file("link"), "x")).await;
    assert_eq!(written.code(), "symlink");
    assert_eq!(fs::read_to_string(outside.join("secret.txt")).unwrap(), PLANTED);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    remote.gateway.stop().await;
}

/// Exchanges a directory and a link to another place all the time, until it is dropped.
struct Swapper {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Swapper {
    /// `folder` is a directory with the files of `inside`, or a link to `outside`.
    fn new(place: &Path, outside: &Path) -> Self {
        let (folder, inside, link) = (place.join("folder"), place.join("inside"), place.join("link"));
        fs::create_dir(&inside).unwrap();
        fs::write(inside.join("a.txt"), "inside\n").unwrap();
        symlink(outside, &link).unwrap();
        fs::rename(&inside, &folder).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            while !stopped.load(Ordering::Relaxed) {
                renameat_with(CWD, &folder, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

#[tokio::test]
async fn p71_a_link_that_comes_and_goes_never_leads_out() {
    let remote = Remote::start().await;
    let token = remote.gateway.admin().await;
    let outside = remote.gateway.directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("a.txt"), PLANTED).unwrap();
    fs::write(outside.join("victim.txt"), "untouched").unwrap();
    let swapper = Swapper::new(Path::new(&remote.file("")), &outside);
    let (path, victim) = (remote.file("folder/a.txt"), remote.file("folder/victim.txt"));
    let mut codes = BTreeSet::new();
    // Until both have been met, and then some. Every reply is searched for the planted secret as it arrives.
    for round in 0..400 {
        let read = remote.gateway.call(&token, "file_read", at(&path)).await;
        if !read.is_error() {
            assert_eq!(read.data()["content"], "inside\n");
        }
        codes.insert(read.code().to_owned());
        let write = remote.gateway.call(&token, "file_write", writing(&victim, "written")).await;
        assert!(!write.is_error() || !write.code().is_empty());
        if round >= 40 && codes.contains("") && codes.len() > 1 {
            break;
        }
    }
    drop(swapper);
    assert!(codes.contains("") && codes.len() > 1, "the race was not met: {codes:?}");
    assert_eq!(fs::read_to_string(outside.join("victim.txt")).unwrap(), "untouched");
    let names: BTreeSet<_> = fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, BTreeSet::from(["a.txt".into(), "victim.txt".into()]), "nothing was left outside");
    remote.gateway.stop().await;
}

#[tokio::test]
async fn p76_ten_megabytes_go_over_the_channel_and_one_byte_more_is_not_sent() {
    let remote = Remote::start().await;
    let token = remote.gateway.admin().await;
    let path = remote.file("most.txt");
    let most = "a line of it...\n".repeat(625_000);
    assert_eq!(most.len(), 10_000_000);
    let answer = remote.gateway.call(&token, "file_write", writing(&path, &most)).await;
    let sha256 = hex(digest(&SHA256, most.as_bytes()).as_ref());
    assert_eq!((&answer.data()["size"], &answer.data()["after_sha256"]), (&json!(10_000_000), &json!(sha256)));
    assert!(fs::read_to_string(&path).unwrap() == most);
    let before = remote.commands();
    let refused = remote.gateway.call(&token, "file_write", writing(&path, &"a".repeat(10_000_001))).await;
    assert_eq!((refused.code(), remote.commands()), ("file_too_large", before));
    remote.gateway.stop().await;
}

#[tokio::test]
async fn p70_bytes_arrive_as_they_were_and_come_back() {
    let remote = Remote::start().await;
    let token = remote.gateway.admin().await;
    let path = remote.file("shell.txt");
    let hostile = include_str!("../../cases/hostile-arguments.txt");
    let answer = remote.gateway.call(&token, "file_write", writing(&path, hostile)).await;
    assert_eq!(answer.data()["mode"], "0644");
    assert_eq!(fs::read_to_string(&path).unwrap(), hostile);
    // A second one over it keeps what was there.
    let mut second = writing(&path, "two\n");
    second["expect_sha256"] = answer.data()["after_sha256"].clone();
    let answer = remote.gateway.call(&token, "file_write", second).await;
    assert_eq!(answer.data()["backup"], json!(remote.file(".shell.txt.tailops-bak")));
    assert_eq!(fs::read_to_string(remote.file(".shell.txt.tailops-bak")).unwrap(), hostile);
    // An image is what it is, whatever its bytes.
    let image: Vec<u8> = [b"\x89PNG\r\n\x1a\n".as_slice(), &(0..=255).collect::<Vec<u8>>().repeat(40)].concat();
    let mut picture = writing(&remote.file("a.png"), &STANDARD.encode(&image));
    picture["encoding"] = json!("base64");
    remote.gateway.call(&token, "file_write", picture).await.data();
    assert_eq!(fs::read(remote.file("a.png")).unwrap(), image);
    let read = remote.gateway.call(&token, "file_read", at(&remote.file("a.png"))).await;
    assert_eq!(STANDARD.decode(read.data()["content"].as_str().unwrap()).unwrap(), image);
    remote.gateway.stop().await;
}

#[tokio::test]
async fn p65_names_that_a_shell_would_read_are_names() {
    let remote = Remote::start().await;
    let token = remote.gateway.admin().await;
    let hostile = include_str!("../../cases/hostile-arguments.txt");
    let mut written = BTreeSet::new();
    for name in hostile.lines().filter(|line| !line.starts_with("##") && !line.contains('/')) {
        let path = remote.file(&format!("{name}.txt"));
        let answer = remote.gateway.call(&token, "file_write", writing(&path, "x\n")).await;
        if answer.code() == "invalid_arguments" {
            continue;
        }
        assert_eq!(answer.data()["path"], json!(path));
        written.insert(format!("{name}.txt"));
    }
    let there: BTreeSet<String> = fs::read_dir(remote.file(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".txt"))
        .collect();
    assert_eq!(there, written);
    assert!(written.len() > 60, "only {} names", written.len());
    remote.gateway.stop().await;
}

#[tokio::test]
async fn p77_what_is_written_cannot_be_run() {
    let remote = Remote::start().await;
    let token = remote.gateway.admin().await;
    let path = remote.file("run.sh");
    fs::write(&path, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o6755)).unwrap();
    let answer = remote.gateway.call(&token, "file_write", writing(&path, "#!/bin/sh\necho\n")).await;
    assert_eq!(answer.data()["mode"], "0644");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
    let before = remote.commands();
    for mode in ["0755", "4644", "0777"] {
        let mut arguments = writing(&path, "x");
        arguments["mode"] = json!(mode);
        let refused = remote.gateway.call(&token, "file_write", arguments).await;
        assert_eq!(refused.code(), "invalid_arguments", "{mode}");
    }
    assert_eq!(remote.commands(), before);
    remote.gateway.stop().await;
}

#[tokio::test]
async fn p73_a_token_limited_to_paths_reaches_nothing_else_over_ssh() {
    let remote = Remote::start().await;
    let limit = remote.file("logs/**");
    fs::create_dir(remote.file("logs")).unwrap();
    fs::write(remote.file("logs/a.log"), "a line\n").unwrap();
    fs::write(remote.file("theirs"), "x").unwrap();
    symlink("../theirs", remote.file("logs/link")).unwrap();
    let token = remote.gateway.mint(Grant { paths: Some(vec![limit]), ..Grant::default() }).await;
    for path in [remote.file("theirs"), "/var/log/dpkg.log".to_owned()] {
        for (tool, arguments) in file_calls(&path) {
            let answer = remote.gateway.call(&token, tool, arguments).await;
            assert_eq!(answer.code(), "token_path_denied", "{tool} {path}");
        }
    }
    assert_eq!(remote.commands(), 0, "nothing was sent");
    let read = remote.gateway.call(&token, "file_read", at(&remote.file("logs/a.log"))).await;
    assert_eq!(read.data()["content"], "a line\n");
    let linked = remote.gateway.call(&token, "file_read", at(&remote.file("logs/link"))).await;
    assert_eq!(linked.code(), "outside_roots");
    remote.gateway.stop().await;
}

#[tokio::test]
async fn p72_what_the_login_user_may_not_is_denied_and_sudo_is_not_asked() {
    if !can_become_nobody() {
        return;
    }
    let programs = tempfile::tempdir().unwrap();
    let asked = super::remote_rights::fake_sudo(programs.path());
    let difference = Difference { host: nobody(programs.path()), sudo: "full", ..Difference::default() };
    let remote = Remote::with(difference).await;
    // The way to the files is open to nobody; the files are not.
    for folder in [remote.gateway.directory.path(), &remote.gateway.config.data_dir] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let token = remote.gateway.admin().await;
    let path = remote.file("private.txt");
    fs::write(&path, PLANTED).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let read = remote.gateway.call(&token, "file_read", at(&path)).await;
    assert_eq!(read.code(), "permission_denied", "{read:?}");
    let written = remote.gateway.call(&token, "file_write", writing(&remote.file("new.txt"), "x")).await;
    assert_eq!(written.code(), "permission_denied", "{written:?}");
    assert!(written.content()["hint"].as_str().unwrap().contains("sudo is never used"), "{written:?}");
    for (tool, arguments) in file_calls(&path) {
        remote.gateway.call(&token, tool, arguments).await;
    }
    assert!(!asked.exists(), "sudo was asked: {:?}", fs::read_to_string(&asked));
    // The same file on the machine itself is root's to read.
    let local = remote.gateway.call(&token, "file_list", json!({"target": LOCAL, "path": path})).await;
    assert_eq!(local.data()["entries"][0]["mode"], "0600");
    remote.gateway.stop().await;
}

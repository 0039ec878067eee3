//! What people do on the command line: look at what they are asked, say yes or no, and watch. Against the real service,
//! and against one that lies.

mod lying;
mod pty;

use std::{
    fs,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use lying::Liar;
use pty::Pty;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    child::{BINARY, Service, directory},
    harness::eventually,
};

fn tailops(data: &Path, arguments: &[&str]) -> Output {
    command(data, arguments).output().unwrap()
}

/// Without a terminal, and without the ssh-agent of whoever runs the tests.
fn command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).arg("--data-dir").arg(data).stdin(Stdio::null()).env_remove("SSH_AUTH_SOCK");
    command
}

#[track_caller]
fn fails(output: &Output, code: i32, wanted: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(wanted), "{wanted:?} in {text}");
}

#[track_caller]
fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A file of the development target, and the call that deletes it.
fn a_file(data: &Path, name: &str) -> Value {
    let path = data.join("files").join(name);
    fs::write(&path, "to be deleted\n").unwrap();
    json!({"target": "local", "path": path, "dry_run": false, "reason": "the user asked for it"})
}

/// Asks for the deletion of a new file: the arguments, and the approval's id.
async fn asked(service: &Service, data: &Path, name: &str) -> (Value, String) {
    let arguments = a_file(data, name);
    let answer = service.call("file_delete", arguments.clone()).await.unwrap();
    assert_eq!(answer.code(), "approval_required", "{}", answer.body);
    let id = answer.content()["approval_id"].as_str().unwrap_or_else(|| panic!("{}", answer.body)).to_owned();
    assert!(Path::new(arguments["path"].as_str().unwrap()).exists());
    (arguments, id)
}

fn with(arguments: &Value, approval: &str) -> Value {
    let mut arguments = arguments.clone();
    arguments["approval_id"] = approval.into();
    arguments
}

#[test]
fn where_no_gateway_is_and_where_a_wrong_one_is_named_nothing_is_sent() {
    let (_folder, data) = directory();
    for arguments in [
        &["approvals"][..],
        &["approve", "x", "--yes"],
        &["approve", "x", "--print"],
        &["deny", "x", "--comment", "no"],
        &["watch"],
    ] {
        fails(&tailops(&data, arguments), 1, "no gateway runs on");
        let elsewhere = |url: &str| Command::new(BINARY).args(arguments).args(["--url", url]).output().unwrap();
        fails(&elsewhere("http://192.0.2.1:8080"), 2, "use https");
        fails(&elsewhere("ftp://127.0.0.1"), 2, "--url");
        fails(&elsewhere("http://127.0.0.1:1"), 1, "is the gateway running");
        fails(&tailops(&data, &[arguments, &["--url", "http://127.0.0.1:1"]].concat()), 2, "two gateways");
    }
    fails(&tailops(&data, &["deny", "x"]), 2, "--comment");
    fails(&tailops(&data, &["approve", "x", "--print", "--yes"]), 2, "cannot be used with");
    fails(&tailops(&data, &["approve", "x", "--key", "a", "--signature", "b"]), 2, "cannot be used with");
}

#[tokio::test]
async fn who_may_not_or_cannot_look_decides_nothing() {
    let (_folder, data) = directory();
    let service = Service::start(&data).await;
    let (arguments, id) = asked(&service, &data, "a").await;
    fails(&tailops(&data, &["approve", &id]), 2, "no terminal");
    for id in ["k3vd-9w2m-7qtp", "a/b", "?state=used", "%2e%2e"] {
        fails(&tailops(&data, &["approve", id, "--yes"]), 1, "approval_unknown");
        fails(&tailops(&data, &["deny", id, "--comment", "no"]), 1, "approval_unknown");
    }
    for id in ["", ".", ".."] {
        fails(&tailops(&data, &["approve", id, "--yes"]), 1, "nothing called");
    }
    fails(&tailops(&data, &["deny", &id, "--comment", "two\nlines"]), 1, "comment");
    fails(&tailops(&data, &["approve", &id, "--yes", "--key", "/nowhere/key"]), 1, "/nowhere/key");
    // Whoever asked, over the network and without a signature.
    let origin = service.url.trim_end_matches("/mcp").to_owned();
    let over_http = |arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        command.args(arguments).args(["--url", &origin]).env_remove("SSH_AUTH_SOCK").output().unwrap()
    };
    let unsigned = over_http(&["approve", &id, "--yes"]);
    fails(&unsigned, 1, "signature");
    assert!(stdout(&over_http(&["approvals"])).contains(&id), "but they see it");
    if rustix::process::geteuid().is_root() {
        let other = command(&data, &["approvals"]).uid(12345).gid(12345).output();
        match other {
            Ok(other) => fails(&other, 1, "the service's own user and root"),
            Err(error) => eprintln!("skipped: another user cannot run {BINARY}: {error}"),
        }
    } else {
        eprintln!("skipped: only root can become another user");
    }
    let answer = service.call("file_delete", with(&arguments, &id)).await.unwrap();
    assert_eq!(answer.code(), "approval_pending", "{}", answer.body);
}

#[tokio::test]
async fn p36_a_newcomer_sees_the_whole_round_trip() {
    let (_folder, data) = directory();
    let service = Service::start(&data).await;
    let (arguments, id) = asked(&service, &data, "hello.txt").await;
    let early = service.call("file_delete", with(&arguments, &id)).await.unwrap();
    assert_eq!(early.code(), "approval_pending");

    let list = stdout(&tailops(&data, &["approvals"]));
    assert!(list.starts_with("ID ") && !list.contains('\u{1b}'), "{list}");
    for wanted in [id.as_str(), "pending", "critical", "file_delete", "local", "dev", "the user asked for it"] {
        assert!(list.contains(wanted), "{wanted} in {list}");
    }
    let shown: Value = serde_json::from_str(&stdout(&tailops(&data, &["approvals", "--json"]))).unwrap();
    assert_eq!((&shown[0]["id"], &shown[0]["operation"]["arguments"]["path"]), (&json!(id), &arguments["path"]));

    let page = stdout(&tailops(&data, &["approve", &id, "--yes", "--comment", "go ahead"]));
    let hash = shown[0]["operation_hash"].as_str().unwrap();
    for wanted in [&id, hash, arguments["path"].as_str().unwrap(), "“the user asked for it”", "preview", "approved:"]
    {
        assert!(page.contains(wanted), "{wanted} in {page}");
    }
    assert!(page.contains("made here from what is shown, and the same"), "{page}");

    // Exactly this, and once.
    let other = a_file(&data, "other.txt");
    let changed = service.call("file_delete", with(&other, &id)).await.unwrap();
    assert_eq!(changed.code(), "approval_changed", "{}", changed.body);
    let ran = service.call("file_delete", with(&arguments, &id)).await.unwrap();
    let trash = ran.data()["trash"].as_str().unwrap().to_owned();
    assert!(!Path::new(arguments["path"].as_str().unwrap()).exists());
    assert_eq!(fs::read_to_string(&trash).unwrap(), "to be deleted\n");
    let again = service.call("file_delete", with(&arguments, &id)).await.unwrap();
    assert_eq!(again.code(), "approval_used", "{}", again.body);
    fails(&tailops(&data, &["approve", &id, "--yes"]), 1, "used");
    assert!(stdout(&tailops(&data, &["approvals"])).contains("no pending approval"));
    assert!(Path::new(other["path"].as_str().unwrap()).exists());
}

#[tokio::test]
async fn one_no_is_enough() {
    let (_folder, data) = directory();
    let service = Service::start(&data).await;
    let (arguments, id) = asked(&service, &data, "kept").await;
    let denied = stdout(&tailops(&data, &["deny", &id, "--comment", "not today"]));
    assert!(denied.contains("denied: file_delete on local"), "{denied}");
    let answer = service.call("file_delete", with(&arguments, &id)).await.unwrap();
    assert_eq!(answer.code(), "approval_denied", "{}", answer.body);
    assert!(Path::new(arguments["path"].as_str().unwrap()).exists());
    fails(&tailops(&data, &["approve", &id, "--yes"]), 1, "denied");
    fails(&tailops(&data, &["deny", &id, "--comment", "again"]), 1, "approval_denied");
    let shown: Value =
        serde_json::from_str(&stdout(&tailops(&data, &["approvals", "--state", "denied", "--json"]))).unwrap();
    assert_eq!(shown[0]["votes"][0]["comment"], "not today");
}

#[tokio::test]
async fn d9_a_signature_made_by_hand_is_taken_for_exactly_what_was_printed() {
    let installed = Command::new("ssh-keygen").arg("-?").output().is_ok();
    assert!(installed || std::env::var("CI").is_err(), "CI needs ssh-keygen: it is in openssh-client");
    if !installed {
        eprintln!("skipped: there is no ssh-keygen");
        return;
    }
    let (_folder, data) = directory();
    let service = Service::start(&data).await;
    let (arguments, id) = asked(&service, &data, "a").await;
    let (_, other) = asked(&service, &data, "b").await;
    let printed = tailops(&data, &["approve", &id, "--print"]);
    assert!(String::from_utf8_lossy(&printed.stderr).contains("file_delete on local"), "the page is shown beside it");
    let (text, signed) = (data.join("statement"), data.join("statement.sig"));
    let text_of = stdout(&printed);
    assert!(text_of.starts_with("tailops approval v1\n") && text_of.contains(&format!("\nid: {id}\n")), "{text_of}");
    fs::write(&text, &text_of).unwrap();
    let mut sign = Command::new("ssh-keygen");
    sign.args(["-Y", "sign", "-n", "tailops-approval", "-f"]).arg(data.join("approver_ed25519")).arg(&text);
    let made = sign.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let signed = signed.to_str().unwrap();
    fails(&tailops(&data, &["approve", &other, "--yes", "--signature", signed]), 1, "--signature");
    fails(&tailops(&data, &["deny", &id, "--comment", "x", "--signature", signed]), 1, "--signature");
    let done = stdout(&tailops(&data, &["approve", &id, "--yes", "--signature", signed]));
    assert!(done.contains("approved: file_delete"), "{done}");
    service.call("file_delete", with(&arguments, &id)).await.unwrap().data();
}

#[tokio::test]
async fn without_a_terminal_watching_prints_a_line_for_each_change() {
    let (folder, data) = directory();
    let service = Service::start(&data).await;
    let (_, first) = asked(&service, &data, "a").await;
    let file = folder.path().join("watched");
    let mut watch = command(&data, &["watch"]).stdout(fs::File::create(&file).unwrap()).spawn().unwrap();
    let lines = || fs::read_to_string(&file).unwrap();
    eventually("pending is printed", async || lines().contains(&format!("{first}  pending"))).await;
    let (_, second) = asked(&service, &data, "b").await;
    eventually("pending is printed", async || lines().contains(&format!("{second}  pending"))).await;
    stdout(&tailops(&data, &["approve", &first, "--yes"]));
    eventually("approved is printed", async || lines().contains(&format!("{first}  approved"))).await;
    stdout(&tailops(&data, &["deny", &second, "--comment", "no"]));
    eventually("denied is printed", async || lines().contains(&format!("{second}  denied"))).await;
    assert_eq!(lines().lines().count(), 4, "{}", lines());
    watch.kill().unwrap();
    watch.wait().unwrap();
}

// The liar serves while the program runs.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_hostile_reaches_a_terminal_raw() {
    let hostile = "x\u{1b}[2J\u{1b}]0;owned\u{7}\u{202e}\u{9b}1A\r\nhash         sha256:00";
    let liar = Liar::showing(lying::question(hostile)).await;
    let run = |arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        command.args(arguments).args(["--url", &liar.url]).stdin(Stdio::null()).env_remove("SSH_AUTH_SOCK");
        command.output().unwrap()
    };
    let harmless = |text: &[u8]| {
        let text = String::from_utf8(text.to_vec()).unwrap();
        assert!(text.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{text:?}");
        text
    };
    for arguments in [
        &["approvals"][..],
        &["approvals", "--json"],
        &["approve", "k3vd-9w2m-7qtp", "--print"],
        &["approve", "k3vd-9w2m-7qtp", "--yes"],
        &["deny", "k3vd-9w2m-7qtp", "--comment", "no"],
    ] {
        let output = run(arguments);
        let text = harmless(&output.stdout) + &harmless(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {text}");
        assert!(text.lines().filter(|line| line.starts_with("hash ")).count() <= 1, "{text}");
    }
    assert_eq!(liar.decisions(), 2);
    let rude = run(&["approve", "rude", "--yes"]);
    fails(&rude, 1, "own_request");
    harmless(&rude.stderr);
    let moved = run(&["approve", "moved", "--yes"]);
    fails(&moved, 1, "307");
    let mut watch = Command::new(BINARY);
    watch.args(["watch", "--url", &liar.url]).env("NO_COLOR", "1");
    let mut pty = Pty::run(watch);
    pty.shows("1 approval waits").await;
    pty.shows("q quit").await;
    pty.types("v");
    pty.shows("Enter goes back").await;
    pty.types("\n");
    pty.shows("q quit").await;
    pty.types("q");
    assert_eq!(pty.ended().await.code(), Some(0));
    let shown = pty.all();
    for raw in ["\u{1b}[2J", "\u{1b}]", "\u{9b}", "\u{202e}", "\u{7}", "\u{1b}[7m"] {
        assert!(!shown.contains(raw), "{raw:?} in {shown:?}");
    }
}

// The liar serves while the program runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_shows_another_operation_gets_no_yes() {
    let mut question = lying::question("harmless");
    question["operation"]["arguments"]["path"] = "something else".into();
    let liar = Liar::showing(question).await;
    let mut command = Command::new(BINARY);
    command.args(["approve", "k3vd-9w2m-7qtp", "--yes", "--url", &liar.url]).env_remove("SSH_AUTH_SOCK");
    let refused = command.output().unwrap();
    fails(&refused, 1, "not the operation that would run");
    assert!(String::from_utf8_lossy(&refused.stdout).contains("do not agree"));
    let mut command = Command::new(BINARY);
    let other = command.args(["approve", "another", "--yes", "--url", &liar.url]).output().unwrap();
    fails(&other, 1, "another approval");
    assert_eq!(liar.decisions(), 0);
}

#[tokio::test]
async fn on_a_terminal_a_yes_is_asked_for_and_anything_else_is_none() {
    let (_folder, data) = directory();
    let service = Service::start(&data).await;
    let (arguments, id) = asked(&service, &data, "a").await;
    for answer in ["n\n", "\n", "yeah\n", "\u{4}"] {
        let mut pty = Pty::run(command(&data, &["approve", &id]));
        pty.shows("Approve file_delete on local (critical)? [y/N]").await;
        pty.types(answer);
        assert_eq!(pty.ended().await.code(), Some(1), "{}", pty.all());
        pty.shows("nothing was sent").await;
    }
    let answer = service.call("file_delete", with(&arguments, &id)).await.unwrap();
    assert_eq!(answer.code(), "approval_pending", "{}", answer.body);
    let mut pty = Pty::run(command(&data, &["approve", &id]));
    pty.shows("[y/N]").await;
    pty.types("y\n");
    pty.shows("approved:").await;
    assert_eq!(pty.ended().await.code(), Some(0));
    service.call("file_delete", with(&arguments, &id)).await.unwrap().data();
}

#[tokio::test]
async fn on_a_terminal_watching_decides_with_a_key_and_gives_the_terminal_back() {
    let (_folder, data) = directory();
    let service = Service::start(&data).await;
    let mut pty = Pty::run(command(&data, &["watch"]));
    pty.shows("0 approvals wait").await;
    pty.shows("q quit").await;
    let (arguments, first) = asked(&service, &data, "a").await;
    let (other, second) = asked(&service, &data, "b").await;
    pty.shows(&second).await;
    pty.shows("q quit").await;
    pty.types("1a");
    pty.shows(&format!("approval     {first}: pending")).await;
    assert!(!pty.is_raw(), "questions are asked in lines");
    pty.shows("Why").await;
    pty.types("looks right\n");
    pty.shows("Approve file_delete on local (critical)? [y/N]").await;
    pty.types("y\n");
    pty.shows("approved:").await;
    pty.shows("Enter goes back").await;
    pty.types("\n");
    pty.shows("q quit").await;
    assert!(pty.is_raw());
    pty.types("2d");
    pty.shows(&format!("approval     {second}: pending")).await;
    pty.shows("Why").await;
    pty.types("no\n");
    pty.shows("Deny file_delete on local (critical)? [y/N]").await;
    pty.types("y\n");
    pty.shows("denied:").await;
    pty.types("\n");
    pty.shows("q quit").await;
    pty.types("q");
    assert_eq!(pty.ended().await.code(), Some(0));
    service.call("file_delete", with(&arguments, &first)).await.unwrap().data();
    let denied = service.call("file_delete", with(&other, &second)).await.unwrap();
    assert_eq!(denied.code(), "approval_denied", "{}", denied.body);

    // Whatever ends it, and wherever.
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut pty = Pty::run(command(&data, &["watch"]));
        pty.shows("q quit").await;
        pty.signal(signal);
        assert_eq!(pty.ended().await.code(), Some(0));
        // The screen is given back last.
        pty.shows("\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l").await;
    }
    let mut pty = Pty::run(command(&data, &["watch"]));
    pty.shows("q quit").await;
    pty.types("\u{3}");
    assert_eq!(pty.ended().await.code(), Some(0));
    let mut pty = Pty::run(command(&data, &["watch"]));
    pty.shows("q quit").await;
    service.kill().await;
    pty.shows("cannot be asked now").await;
    pty.types("q");
    assert_eq!(pty.ended().await.code(), Some(0));
}

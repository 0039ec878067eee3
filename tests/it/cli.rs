//! The command line as scripts and people use it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    child::{BINARY, Service, directory},
    harness::within,
};

const SECOND: Duration = Duration::from_secs(1);

fn tailops(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).args(["--data-dir", directory.to_str().unwrap()]).output().unwrap()
}

#[track_caller]
fn stdout(output: &Output) -> String {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success(), "{}{text}", String::from_utf8_lossy(&output.stderr));
    text
}

#[track_caller]
fn fails(output: &Output, code: i32, wanted: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(wanted), "{text}");
    assert!(output.stdout.is_empty(), "nothing goes to standard output on failure");
}

#[test]
fn the_three_mintings_work_as_they_stand_and_print_the_bare_token() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let mintings = [
        ("grafana-datasource", "readonly", "30d", 30 * 86_400),
        ("ops-automation", "admin", "1h", 3600),
        ("container-manager", "container:read,container:write,network:read", "7d", 7 * 86_400),
    ];
    for (agent, scopes, ttl, _) in mintings {
        let printed = stdout(&tailops(&path, &["token", "mint", "--agent", agent, "--scopes", scopes, "--ttl", ttl]));
        assert_eq!((printed.lines().count(), printed.starts_with("tailops_k")), (1, true), "{printed}");
    }
    let list: Value = serde_json::from_str(&stdout(&tailops(&path, &["token", "list", "--json"]))).unwrap();
    for (row, (agent, scopes, _, life)) in list.as_array().unwrap().iter().zip(mintings) {
        assert_eq!(
            (&row["subject"], &row["state"], &row["engagement"]),
            (&json!(agent), &json!("issued"), &json!("default"))
        );
        let granted: Vec<_> = row["scopes"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let mut wanted: Vec<_> = scopes.split(',').collect();
        wanted.sort_by_key(|scope| granted.iter().position(|granted| granted == scope));
        assert_eq!(granted, wanted);
        let stamp = |key: &str| row[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second();
        assert_eq!(stamp("expires") - stamp("issued"), life);
        assert!(row["jti"].is_string());
    }
    let again = tailops(&path, &["token", "mint", "--agent", "ops-automation", "--scopes", "readonly", "--ttl", "1h"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("ops-automation has another token"), "{again:?}");
    let records = stdout(&tailops(&path, &["audit", "export"]));
    assert_eq!(records.lines().filter(|line| line.contains(r#""tool":"token.mint""#)).count(), 4);
    assert!(!records.contains("tailops_k"), "no token is in the log");
}

#[test]
fn p73_a_token_is_limited_to_paths_at_minting_and_wrong_patterns_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let minting = |limits: &[&str]| {
        let mut arguments = vec!["token", "mint", "--agent", "a", "--scopes", "file:read", "--ttl", "1h", "--json"];
        limits.iter().for_each(|limit| arguments.extend(["--path", limit]));
        tailops(&path, &arguments)
    };
    let minted: Value = serde_json::from_str(&stdout(&minting(&["/var/log/**", "/srv/a b/**"]))).unwrap();
    assert_eq!(minted["paths"], json!(["/srv/a b/**", "/var/log/**"]));
    let shown = stdout(&tailops(&path, &["token", "show", minted["jti"].as_str().unwrap(), "--json"]));
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["paths"], minted["paths"]);
    let free: Value = serde_json::from_str(&stdout(&minting(&[]))).unwrap();
    assert!(free.get("paths").is_none());
    for wrong in ["/var/log", "/**", "log/**", "/var/../etc/**", "/var/*/x/**", "", "/var/%2e%2e/**"] {
        fails(&minting(&[wrong]), 2, "--path");
    }
    let long: Vec<String> = (0..20).map(|n| format!("/{n}{}/**", "a".repeat(200))).collect();
    fails(&minting(&long.iter().map(String::as_str).collect::<Vec<_>>()), 1, "longer than 4096 bytes");
}

#[test]
fn a_token_names_who_answers_for_the_agent() {
    let (_directory, path) = directory();
    let minting = |rest: &[&str]| {
        let arguments =
            [&["token", "mint", "--agent", "a", "--scopes", "readonly", "--ttl", "1h", "--json"], rest].concat();
        tailops(&path, &arguments)
    };
    for wrong in ["", "maria example", "a\nb"] {
        fails(&minting(&["--owner", wrong]), 2, "--owner");
    }
    let minted: Value = serde_json::from_str(&stdout(&minting(&["--owner", "maria@example.org"]))).unwrap();
    assert_eq!(minted["owner"], "maria@example.org");
    let own: Value = serde_json::from_str(&stdout(&minting(&[]))).unwrap();
    assert_ne!(own["owner"], "maria@example.org");
    assert!(own["owner"].is_string());
}

#[test]
fn what_is_wrong_with_a_minting_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let mint = |agent: &str, scopes: &str, ttl: &str| {
        tailops(&path, &["token", "mint", "--agent", agent, "--scopes", scopes, "--ttl", ttl])
    };
    fails(&mint("a", "system:raed", "1h"), 2, "did you mean `system:read`?");
    fails(&mint("a", "readonly", "soon"), 2, "--ttl");
    fails(&mint("a", "readonly", "0s"), 2, "--ttl");
    fails(&mint("a", "readonly", "31d"), 1, "30d");
    fails(&mint("a b", "readonly", "1h"), 1, "agent");
    fails(&mint("a", "", "1h"), 1, "scopes");
    for peer in ["tag:agent", "node:nABCDEF11CNTRL"] {
        let line = ["token", "mint", "--agent", "a", "--scopes", "approval:decide", "--ttl", "1h", "--bind", peer];
        fails(&tailops(&path, &line), 1, "approval:decide is for one person");
    }
    assert_eq!(stdout(&tailops(&path, &["token", "list", "--json"])).trim(), "[]");
}

#[tokio::test]
async fn the_running_service_follows_what_the_command_line_does() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let service = Service::start(&path).await;
    let status = async |token: &str| service.call_as(Some(token), "token_inspect", json!({})).await.unwrap().status;
    let dev = fs::read_to_string(path.join("dev-token")).unwrap();
    assert_eq!(fs::metadata(path.join("dev-token")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(status(&dev).await, 200);
    let minted =
        stdout(&tailops(&path, &["token", "mint", "--agent", "cli", "--scopes", "readonly", "--ttl", "1h", "--json"]));
    let minted: Value = serde_json::from_str(&minted).unwrap();
    let (token, jti) = (minted["token"].as_str().unwrap(), minted["jti"].as_str().unwrap());
    assert_eq!(status(token).await, 200, "a new token works at once");
    let shown: Value = serde_json::from_str(&stdout(&tailops(&path, &["token", "show", jti, "--json"]))).unwrap();
    assert_eq!(shown["state"], "active");
    stdout(&tailops(&path, &["token", "revoke", jti]));
    within(SECOND, "a revoked token is refused", async || status(token).await == 401).await;
    assert_eq!(status(&dev).await, 200);
    stdout(&tailops(&path, &["token", "rotate-key"]));
    within(SECOND, "a token of the old key is refused", async || status(&dev).await == 401).await;
    fails(&tailops(&path, &["token", "revoke", "nothing"]), 1, "there is no token");
    rustix::process::kill_process(service.pid(), rustix::process::Signal::TERM).unwrap();
    assert_eq!(service.ended().await.code(), Some(0));
    let acts = stdout(&tailops(&path, &["audit", "export"]));
    for act in ["token.mint", "token.revoke", "token.rotate-key"] {
        assert!(acts.contains(&format!(r#""tool":"{act}""#)), "{act}");
    }
}

#[tokio::test]
async fn what_is_in_use_or_open_or_newer_is_said_with_the_mend() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let service = Service::start(&path).await;
    let dev = |path: &Path, listen: &str| tailops(path, &["serve", "--dev", "--listen", listen]);
    fails(&dev(&path, "127.0.0.1:0"), 4, "in use by another tailops");
    let other = directory.path().join("other");
    let listen = service.url.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
    fails(&dev(&other, &listen), 4, &listen);
    service.kill().await;
    for address in ["0.0.0.0:0", "192.168.1.1:0", "[::]:0", "127.0.0.2:0", "100.64.0.1:0"] {
        fails(&dev(&other, address), 3, "loopback");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    fails(&dev(&path, "127.0.0.1:0"), 1, "chmod 0700");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    {
        use sqlx::{ConnectOptions, Connection, Executor, sqlite::SqliteConnectOptions};
        let options = SqliteConnectOptions::new().filename(path.join("tailops.db"));
        let mut connection = options.connect().await.unwrap();
        let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'later', 1, x'00', 0)";
        connection.execute(newer).await.unwrap();
        connection.close().await.unwrap();
    }
    fails(&dev(&path, "127.0.0.1:0"), 1, "newer tailops");
}

#[test]
fn a_configuration_is_judged_as_a_whole() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tailops.toml");
    fs::write(&file, "profile = \"recomended\"\n[http]\nmax_bdy = 3\n[limits]\ncalls_per_minute = 0\n").unwrap();
    let check = |arguments: &[&str]| Command::new(BINARY).args(arguments).output().unwrap();
    let checked = check(&["config", "check", file.to_str().unwrap()]);
    for wanted in [":1:", "recommended", ":3:", "http.max_bdy", "max_body", ":5:", "limits.calls_per_minute"] {
        fails(&checked, 3, wanted);
    }
    fails(&check(&["serve", "--config", file.to_str().unwrap()]), 3, "max_bdy");
    fails(&check(&["config", "check", "/nowhere/tailops.toml"]), 3, "/nowhere/tailops.toml");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/loopback/tailops.toml");
    assert!(stdout(&check(&["config", "check", example.to_str().unwrap()])).contains("fine"));
}

#[test]
fn help_and_wrong_usage() {
    let run = |arguments: &[&str]| Command::new(BINARY).args(arguments).output().unwrap();
    for arguments in [
        &["--help"][..],
        &["serve", "--help"],
        &["token", "mint", "--help"],
        &["audit", "export", "--help"],
        &["config", "check", "--help"],
    ] {
        let help = stdout(&run(arguments));
        assert!(help.contains("--data-dir"), "{help}");
        assert!(!help.contains('\u{1b}'), "no colour outside a terminal");
    }
    assert!(stdout(&run(&["--help"])).contains("Exit codes"));
    for arguments in [&["serve"][..], &["serve", "--dev", "--config", "x"], &["tokn"], &["token", "revoke"]] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    let nowhere = Command::new(BINARY).args(["token", "list"]).env_clear().output().unwrap();
    fails(&nowhere, 1, "--data-dir");
}

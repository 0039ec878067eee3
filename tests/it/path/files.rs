//! Files through the whole gateway: what is written, what is refused and when, who sees what, and what is recorded.

use std::{fs, path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tailops::config::{Config, load};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{Answer, Gateway, Grant, PLANTED, call_of, legacy_era};

/// The path of `name` in the development root.
fn file(gateway: &Gateway, name: &str) -> String {
    gateway.config.data_dir.join("files").join(name).to_str().unwrap().to_owned()
}

fn writing(path: &str, content: &str) -> Value {
    json!({"target": "local", "path": path, "content": content, "reason": "a test"})
}

/// A call of each file tool with its path at `path`; the critical one as a dry run.
fn file_calls(path: &str) -> [(&'static str, Value); 6] {
    [
        ("file_list", json!({"target": "local", "path": path})),
        ("file_read", json!({"target": "local", "path": path})),
        ("file_search", json!({"target": "local", "root": path, "name": "*"})),
        ("file_write", writing(path, "text")),
        ("file_delete", json!({"target": "local", "path": path, "reason": "a test"})),
        ("disk_inspect", json!({"target": "local", "path": path})),
    ]
}

#[tokio::test]
async fn p70_a_file_is_written_read_found_and_recorded_by_its_digest() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    let path = file(&gateway, "app.conf");
    let answer = gateway.call(&token, "file_write", writing(&path, &format!("password={PLANTED}\nkey = one\n"))).await;
    let data = answer.data();
    assert_eq!((&data["mode"], &answer.content()["changed"]), (&json!("0644"), &json!(true)));
    assert!(data["after_sha256"].as_str().unwrap().len() == 64 && data.get("backup").is_none());
    let records = gateway.records_of(&answer).await;
    assert_eq!(records.len(), 1);
    let args = &records[0]["args"].to_string();
    assert!(args.contains(data["after_sha256"].as_str().unwrap()) && !args.contains("key = one"), "{args}");
    assert_eq!((&records[0]["effect"], &records[0]["risk_level"]), (&json!("destructive"), &json!("high")));
    assert_eq!(records[0]["reason"], "a test");

    let digest = data["after_sha256"].clone();
    let mut second = writing(&path, "key = two\n");
    second["expect_sha256"] = json!("0".repeat(64));
    assert_eq!(gateway.call(&token, "file_write", second.clone()).await.code(), "precondition_failed");
    second["expect_sha256"] = digest.clone();
    let answer = gateway.call(&token, "file_write", second).await;
    assert_eq!(
        (&answer.data()["before_sha256"], &answer.data()["backup"]),
        (&digest, &json!(file(&gateway, ".app.conf.tailops-bak")))
    );
    let read = gateway.call(&token, "file_read", json!({"target": "local", "path": path})).await;
    assert_eq!(read.data()["content"], "key = two\n");
    let root = gateway.config.data_dir.join("files");
    let found =
        gateway.call(&token, "file_search", json!({"target": "local", "root": root, "contains": "= two"})).await;
    assert_eq!(found.data()["matches"], json!([{"path": "app.conf", "line": 1, "text": "key = two"}]));
    let disk = gateway.call(&token, "disk_inspect", json!({"target": "local", "path": root})).await;
    assert!(disk.data()["places"][0]["filesystem"]["size"].as_u64().unwrap() > 0);
    gateway.stop().await;
}

#[tokio::test]
async fn p71_a_link_out_of_the_root_is_refused_by_every_file_tool() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    fs::create_dir(gateway.directory.path().join("outside")).unwrap();
    let secret = gateway.directory.path().join("outside/secret.txt");
    fs::write(&secret, PLANTED).unwrap();
    std::os::unix::fs::symlink(secret.parent().unwrap(), file(&gateway, "folder")).unwrap();
    for path in ["folder/secret.txt", "folder/absent.txt"] {
        for (tool, arguments) in file_calls(&file(&gateway, path)) {
            assert_eq!(gateway.call(&token, tool, arguments).await.code(), "outside_roots", "{tool} {path}");
        }
    }
    assert_eq!(fs::read_to_string(&secret).unwrap(), PLANTED);
    assert_eq!(fs::read_dir(secret.parent().unwrap()).unwrap().count(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn p73_a_token_limited_to_paths_reaches_nothing_else_with_any_file_tool() {
    let gateway = Gateway::with(|config| {
        let logs = config.data_dir.join("logs");
        config.targets[0].roots = vec![config.data_dir.join("files"), "/etc".into(), logs];
    })
    .await;
    let logs = gateway.config.data_dir.join("logs");
    fs::create_dir(&logs).unwrap();
    fs::write(logs.join("a.log"), "a line\n").unwrap();
    std::os::unix::fs::symlink("../files", logs.join("link")).unwrap();
    fs::write(file(&gateway, "theirs"), "x").unwrap();
    let limit = format!("{}/**", logs.display());
    let token = gateway.mint(Grant { paths: Some(vec![limit.clone()]), ..Grant::default() }).await;
    for path in ["/etc/hostname", &file(&gateway, "theirs"), &file(&gateway, ""), "/etc"] {
        let path = path.trim_end_matches('/');
        for (tool, arguments) in file_calls(path) {
            let answer = gateway.call(&token, tool, arguments.clone()).await;
            // A root itself is no file to write or delete, whoever asks.
            let wanted: &[&str] = &["token_path_denied", "invalid_arguments"];
            assert!(wanted.contains(&answer.code()), "{tool} {path}: {answer:?}");
            assert!(answer.code() == "token_path_denied" || ["file_write", "file_delete"].contains(&tool));
            let record = &gateway.records_of(&answer).await[0];
            assert!(record["exec"].is_null(), "{tool}");
        }
    }
    let hostname = json!({"target": "local", "path": "/etc/hostname"});
    let denied = gateway.call(&token, "file_read", hostname.clone()).await;
    assert!(denied.content()["message"].as_str().unwrap().contains(&limit), "{denied:?}");
    let explained = gateway.call(&token, "policy_explain", json!({"tool": "file_read", "args": hostname})).await;
    assert_eq!((&explained.data()["decision"], &explained.data()["rule"]), (&json!("deny"), &json!("token_paths")));
    // Inside it works; a link that leads out of the limit does not, although the roots hold its end.
    let inside = logs.join("a.log");
    let read = gateway.call(&token, "file_read", json!({"target": "local", "path": inside})).await;
    assert_eq!(read.data()["content"], "a line\n");
    let linked = gateway.call(&token, "file_read", json!({"target": "local", "path": logs.join("link/theirs")})).await;
    assert_eq!(linked.code(), "outside_roots");
    let listed = gateway.call(&token, "file_list", json!({"target": "local"})).await;
    let shown: Vec<&str> =
        listed.data()["entries"].as_array().unwrap().iter().map(|entry| entry["path"].as_str().unwrap()).collect();
    assert!(shown.len() == 3 && shown.iter().all(|path| Path::new(path).starts_with(&logs)), "{shown:?}");
    let me = gateway.call(&token, "token_inspect", json!({})).await;
    assert_eq!(me.data()["paths"], json!([limit]));
    // A token without a limit, as all were before there was one, reaches all roots.
    let free = gateway.admin().await;
    gateway.call(&free, "file_read", json!({"target": "local", "path": "/etc/hostname"})).await.data();
    gateway.stop().await;
}

#[tokio::test]
async fn p75_programs_and_false_names_are_not_written() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    let elf = STANDARD.encode(fs::read("/bin/true").unwrap());
    let cases = [
        ("a.txt", elf.as_str(), "base64", None, "type_refused"),
        ("a.png", "just text", "utf8", None, "type_mismatch"),
        ("a.txt", "#!/bin/sh\n", "utf8", None, "type_mismatch"),
        ("a.txt", "just text", "utf8", Some("image/png"), "type_mismatch"),
        ("a.bin", "AQIABA==", "base64", None, "type_refused"),
    ];
    for (name, content, encoding, mime, code) in cases {
        let mut arguments = writing(&file(&gateway, name), content);
        arguments["encoding"] = json!(encoding);
        if let Some(mime) = mime {
            arguments["mime"] = json!(mime);
        }
        let answer = gateway.call(&token, "file_write", arguments).await;
        assert_eq!(answer.code(), code, "{name} {mime:?}");
    }
    assert_eq!(fs::read_dir(file(&gateway, "")).unwrap().count(), 0);
    gateway.stop().await;
}

/// Sends the head and the first bytes of a request whose body never ends, and waits for the answer.
async fn answer_before_the_end(
    gateway: &Gateway,
    token: &str,
    headers: &str,
    start: &str,
    declared: usize,
) -> (String, usize) {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {declared}\r\n{headers}\r\n"
    );
    let (mut reader, mut writer) = stream.split();
    let sent = async {
        // The gateway may close while there is still something to send.
        let _ = writer.write_all(head.as_bytes()).await;
        let _ = writer.write_all(start.as_bytes()).await;
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    let read = async {
        let _ = reader.read_to_end(&mut answer).await;
    };
    tokio::select! {
        () = sent => {}
        done = tokio::time::timeout(Duration::from_secs(20), read) => done.expect("no answer while the body went on"),
    }
    (String::from_utf8_lossy(&answer).into_owned(), declared - start.len())
}

#[tokio::test]
async fn p76_ten_megabytes_pass_and_one_byte_more_is_refused_before_the_upload_ends() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    let most = "a line of it...\n".repeat(625_000);
    assert_eq!(most.len(), 10_000_000);
    let path = file(&gateway, "most.txt");
    let answer = gateway.call(&token, "file_write", writing(&path, &most)).await;
    assert_eq!(answer.data()["size"], 10_000_000);
    assert_eq!(fs::metadata(&path).unwrap().len(), 10_000_000);
    assert!(gateway.records_of(&answer).await[0].to_string().len() < 5000, "the content is not in the record");

    // One byte more of the content has arrived; the rest of the body never does. In the newer revision the tool is named
    // in a header too; in the older ones, and where it comes after the arguments, only in the body.
    let content = format!("{most}.").replace('\n', "\\n");
    let named = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: file_write\r\n";
    let start = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{";
    let bodies = [
        (named, format!("{start}\"name\":\"file_write\",\"arguments\":{{\"path\":\"{path}\",\"content\":\"{content}")),
        ("", format!("{start}\"name\":\"file_write\",\"arguments\":{{\"path\":\"{path}\",\"content\":\"{content}")),
        ("", format!("{start}\"arguments\":{{\"content\":\"{content}")),
    ];
    for (headers, body) in bodies {
        let (answer, unsent) = answer_before_the_end(&gateway, &token, headers, &body, body.len() + 1_000_000).await;
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("file_too_large"), "{answer}");
        assert_eq!(unsent, 1_000_000);
    }
    assert_eq!(gateway.records().await.iter().filter(|record| record["code"] == "file_too_large").count(), 3);
    // What only a look at the whole tells is refused as the plan is made.
    let letters = "a".repeat(10_000_001);
    let refused = gateway.call(&token, "file_write", writing(&path, &letters)).await;
    assert_eq!(refused.code(), "file_too_large");
    assert_eq!(fs::metadata(&path).unwrap().len(), 10_000_000);
    gateway.stop().await;
}

#[tokio::test]
async fn p76_the_limit_that_is_configured_holds_in_the_older_revisions_too() {
    let gateway = Gateway::with(|config| config.files.max_bytes = 1000).await;
    let token = gateway.admin().await;
    let client = gateway.client(&token, legacy_era()).await;
    let path = file(&gateway, "a.txt");
    let fits = client.call_tool(call_of("file_write", writing(&path, &"a b ".repeat(250)))).await.unwrap();
    assert_ne!(fits.is_error, Some(true));
    let more = client.call_tool(call_of("file_write", writing(&path, &"a b ".repeat(251)))).await;
    assert!(more.is_err(), "{more:?}");
    assert_eq!(fs::metadata(&path).unwrap().len(), 1000);
    let _ = client.cancel().await;
    gateway.stop().await;
}

#[tokio::test]
async fn p77_what_is_written_cannot_be_run() {
    use std::os::unix::fs::PermissionsExt;
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    let path = file(&gateway, "run.sh");
    fs::write(&path, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o6755)).unwrap();
    let answer = gateway.call(&token, "file_write", writing(&path, "#!/bin/sh\necho\n")).await;
    assert_eq!(answer.data()["mode"], "0644");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
    for mode in ["0755", "4644", "0777"] {
        let mut arguments = writing(&path, "x");
        arguments["mode"] = json!(mode);
        assert_eq!(gateway.call(&token, "file_write", arguments).await.code(), "invalid_arguments", "{mode}");
    }
    gateway.stop().await;
}

/// Two tenants with a data root each, on this machine.
fn tenants(config: &mut Config) {
    let place = config.data_dir.parent().unwrap().to_owned();
    let text = ["a", "b"].map(|name| {
        fs::create_dir(place.join(name)).unwrap();
        let root = place.join(name);
        format!(
            "[engagements.{name}]\ndata_root = {root:?}\n[targets.host-{name}]\nkind = \"local\"\nengagement = {name:?}\n\
             capabilities = [\"file:write\"]\n"
        )
    });
    let names: Vec<_> = tailops::tools::ALL.iter().map(|tool| tool.spec().name).collect();
    let loaded = load(Path::new("tailops.toml"), &text.concat(), &names).unwrap();
    (config.engagements, config.targets) = (loaded.engagements, loaded.targets);
}

#[tokio::test]
async fn p78_a_tenant_has_its_own_data_root_and_does_not_see_anothers() {
    let gateway = Gateway::with(tenants).await;
    let place = gateway.config.data_dir.parent().unwrap().to_owned();
    let token = |engagement: &str| gateway.mint(Grant { engagement: engagement.to_owned(), ..Grant::default() });
    let (a, b) = (token("a").await, token("b").await);
    for (token, name) in [(&a, "a"), (&b, "b")] {
        let path = place.join(name).join("notes.txt");
        let arguments = json!({"target": format!("host-{name}"), "path": path, "content": format!("of {name}\n"), "reason": "a test"});
        gateway.call(token, "file_write", arguments).await.data();
    }
    let theirs = place.join("b/notes.txt");
    std::os::unix::fs::symlink(&theirs, place.join("a/link.txt")).unwrap();
    let theirs = theirs.to_str().unwrap();
    for (tool, mut arguments) in file_calls(theirs) {
        assert_eq!(
            gateway.call(&a, tool, with_target(&mut arguments, "host-b")).await.code(),
            "unknown_target",
            "{tool}"
        );
        assert_eq!(
            gateway.call(&a, tool, with_target(&mut arguments, "host-a")).await.code(),
            "outside_roots",
            "{tool}"
        );
    }
    let linked = json!({"target": "host-a", "path": place.join("a/link.txt")});
    assert_eq!(gateway.call(&a, "file_read", linked).await.code(), "outside_roots");
    let found: Answer =
        gateway.call(&a, "file_search", json!({"target": "host-a", "root": place.join("a"), "contains": "of "})).await;
    assert_eq!(found.data()["matches"].as_array().unwrap().len(), 1);
    let own = gateway.call(&b, "file_read", json!({"target": "host-b", "path": theirs})).await;
    assert_eq!(own.data()["content"], "of b\n");
    gateway.stop().await;
}

fn with_target(arguments: &mut Value, target: &str) -> Value {
    arguments["target"] = json!(target);
    arguments.clone()
}

#[tokio::test]
async fn deleting_needs_a_person_and_its_dry_run_is_complete() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    let path = file(&gateway, "a.txt");
    fs::write(&path, "content").unwrap();
    let mut arguments = json!({"target": "local", "path": path, "reason": "a test"});
    let dry = gateway.call(&token, "file_delete", arguments.clone()).await;
    assert_eq!(
        (&dry.data()["size"], &dry.data()["trash"], &dry.content()["dry_run"]),
        (&json!(7), &Value::Null, &json!(true))
    );
    assert_eq!(dry.content()["before"]["sha256"], dry.data()["before_sha256"]);
    arguments["dry_run"] = json!(false);
    arguments["expect_sha256"] = dry.data()["before_sha256"].clone();
    let real = gateway.call(&token, "file_delete", arguments).await;
    assert_eq!(real.code(), "approval_unavailable");
    assert!(gateway.records_of(&real).await[0]["exec"].is_null());
    assert_eq!(fs::read_to_string(&path).unwrap(), "content");
    gateway.stop().await;
}

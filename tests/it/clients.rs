//! What `tailops client` prints: refused where it would not work or would leak, and really connecting where it says so.

use std::{path::Path, process::Output};

use serde_json::{Value, json};

use crate::{
    bridged::{Bridge, modern_call, token_file},
    child::{BINARY, Service, directory},
    harness::Gateway,
};

fn client(arguments: &[&str]) -> Output {
    std::process::Command::new(BINARY).arg("client").args(arguments).output().unwrap()
}

#[track_caller]
fn refused(arguments: &[&str], wanted: &str) {
    let output = client(arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{text}");
    assert!(text.contains(wanted), "{text}");
}

#[track_caller]
fn printed(arguments: &[&str]) -> String {
    let output = client(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_would_not_work_or_would_leak_is_refused() {
    refused(&["emacs"], "claude-code");
    refused(&["claude-desktop"], "--stdio");
    refused(&["cursor", "--url", "http://gateway.example/mcp"], "use https");
    refused(&["cursor", "--url", "https://a:b@gateway.example/mcp"], "more than an address");
    refused(&["codex", "--token-file", "x"], "--stdio");
    refused(&["codex", "--stdio", "--token-env", "X"], "--token-env");
    refused(&["codex", "--token-env", "tailops_k1.abc.def"], "does not belong here");
    refused(&["codex", "--name", "a b"], "--name");
    refused(&["inspector", "--path"], "command line");
    for (name, path) in [("vscode", ".vscode/mcp.json\n"), ("codex", "~/.codex/config.toml\n")] {
        assert_eq!(printed(&[name, "--path"]), path);
    }
}

/// The command and its arguments in the configuration of `name`.
fn command_in(name: &str, text: &str) -> Vec<String> {
    let server = match name {
        "codex" => {
            let table: toml::Table = text.parse().unwrap();
            serde_json::to_value(&table["mcp_servers"]["tailops"]).unwrap()
        }
        _ => {
            let value: Value = serde_json::from_str(text).unwrap();
            value.get("mcpServers").unwrap_or(&value["servers"])["tailops"].clone()
        }
    };
    let mut words = vec![server["command"].as_str().unwrap().to_owned()];
    words.extend(server["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()));
    words
}

async fn connects(words: &[String]) {
    let mut bridge = Bridge::running(words);
    let answer = bridge.ask(modern_call(1, "token_inspect", json!({}))).await;
    assert_eq!(answer["result"]["structuredContent"]["ok"], true, "{answer}");
    assert_eq!(bridge.end().await.0.code(), Some(0));
}

#[tokio::test]
async fn every_printed_bridge_connects() {
    let gateway = Gateway::start().await;
    // A path that only quotes carry through a shell, JSON and TOML.
    let folder = gateway.directory.path().join("it's a \"folder\" $HOME");
    std::fs::create_dir(&folder).unwrap();
    let file = token_file(&folder, &gateway.admin().await);
    let way = ["--stdio", "--url", &gateway.url("/mcp"), "--token-file", file.to_str().unwrap()];
    for name in ["claude-code", "claude-desktop", "vscode", "cursor", "codex"] {
        let text = printed(&[&[name][..], &way].concat());
        connects(&command_in(name, &text)).await;
    }
    let line = printed(&[&["inspector"][..], &way].concat());
    let (_, command) = line.trim().split_once(" -- ").unwrap();
    connects(&["sh", "-c", &format!("exec {command}")].map(str::to_owned)).await;
    gateway.stop().await;
}

#[tokio::test]
async fn what_serve_dev_says_of_claude_code_connects_and_holds_no_token() {
    let (_folder, data) = directory();
    let service = Service::start(&data).await;
    let line = service.claude_code.clone();
    assert!(!line.contains(&service.token), "{line}");
    connects(&["sh", "-c", &format!("exec {line}")].map(str::to_owned)).await;
    service.kill().await;
    assert!(Path::new(&data).join("dev-token").exists());
}

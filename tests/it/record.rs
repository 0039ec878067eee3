//! The format of the log: what auditors and their programs may rely on.

use std::{collections::HashSet, num::NonZeroU32, path::Path, process::Stdio};

use ring::digest;
use serde_json::{Map, Value, json};
use sqlx::{Connection, SqliteConnection};
use tailops::{config::Engagement, model::canonical_json};
use tokio::process::Command;

use crate::{
    child::{BINARY, export, log_of, prove},
    harness::{Answer, Gateway, Grant, PLANTED, correlation_of, modern, peer_of},
};

/// What every record holds at least.
pub const KEYS: &[&str] =
    &["timestamp", "tool", "subject", "args", "result_status", "scopes", "risk_level", "approved", "tailscale"];
pub const PEER_KEYS: &[&str] = &["tailscale_node", "tailscale_user", "tailscale_tags", "tailnet"];

/// A process that is not there: the tool runs, and fails.
fn gone(reason: &str) -> Value {
    json!({"target": "local", "pid": i32::MAX, "start_ticks": 1, "signal": "TERM", "reason": reason})
}

fn restart_ssh() -> Value {
    json!({"target": "local", "unit": "ssh.service", "action": "restart", "dry_run": false, "reason": "a test of the record"})
}

/// One call of every kind of end, by alice; each with the status its record must have.
async fn seeded() -> (Gateway, Vec<(Answer, &'static str)>) {
    let gateway = Gateway::with(|config| config.limits.critical_per_hour = NonZeroU32::MIN).await;
    gateway.peers_are(|address| Ok(peer_of(crate::harness::ALICE, "alice@example.com", address)));
    let admin = gateway.admin().await;
    let narrow = gateway.mint(Grant::scopes("container:read")).await;
    let mut answers = vec![
        (gateway.call(&admin, "token_inspect", json!({})).await, "ok"),
        (gateway.call(&narrow, "audit_query", json!({})).await, "denied"),
        (gateway.call(&admin, "process_signal", gone("there is none")).await, "failed"),
        (gateway.call(&admin, "audit_query", json!({"limit": 0})).await, "invalid"),
        (gateway.call(&admin, "no_such_tool", json!({})).await, "invalid"),
        (gateway.call(&admin, "service_control", restart_ssh()).await, "denied"),
        (gateway.call(&admin, "service_control", restart_ssh()).await, "limited"),
    ];
    let refused = modern(&gateway.http, &gateway.url("/mcp"), None, "token_inspect", json!({}));
    answers.push((gateway.send(refused).await, "denied"));
    (gateway, answers)
}

#[tokio::test]
async fn every_record_is_canonical_and_has_the_keys_that_programs_rely_on() {
    let (gateway, answers) = seeded().await;
    for (answer, status) in &answers {
        let records = gateway.records_of(answer).await;
        assert_eq!(records.len(), 1, "one call is one record: {records:?}");
        let record = &records[0];
        assert_eq!(record["status"], *status, "{record}");
        assert_eq!(record["tailscale"]["tailscale_user"], "alice@example.com");
        let code = record["code"].as_str().unwrap_or("");
        assert_eq!(code, answer.code(), "the record holds the code that the caller got");
    }
    let codes: Vec<&str> = answers.iter().map(|(answer, _)| answer.code()).collect();
    let wanted = [
        "",
        "insufficient_scope",
        "not_found",
        "invalid_arguments",
        "unknown_tool",
        "approval_unavailable",
        "rate_limited",
        "missing_token",
    ];
    assert_eq!(codes, wanted);
    let (directory, config) = gateway.stop().await;
    for record in log_of(&config.data_dir).await {
        for key in KEYS {
            assert!(record.get(key).is_some(), "{key} is missing in {record}");
        }
        for key in PEER_KEYS {
            assert!(record["tailscale"].get(key).is_some(), "tailscale.{key} is missing in {record}");
        }
        assert!(record["args"].is_object() && record["scopes"].is_array() && record["approved"].is_boolean());
        assert!(record["tailscale"]["tailscale_tags"].is_array());
        let failed = record["result_status"] == "error";
        assert_eq!(failed, record["error"].as_str().is_some_and(|error| !error.is_empty()), "{record}");
        assert!(record["timestamp"].as_str().unwrap().ends_with('Z'), "times are in UTC: {record}");
    }
    drop(directory);
}

/// What a `jq` program finds in an exported log; none where there is no `jq`.
async fn jq(program: &str, log: &Path) -> Option<Vec<Value>> {
    let output = Command::new("jq").args(["-c", program]).arg(log).stdin(Stdio::null()).output().await.ok()?;
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[tokio::test]
async fn the_four_questions_of_an_auditor_are_answered_by_jq() {
    let (gateway, answers) = seeded().await;
    let (directory, config) = gateway.stop().await;
    let lines = export(Command::new(BINARY), &config.data_dir, &[]).await;
    let records: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let log = directory.path().join("audit.log");
    std::fs::write(&log, lines.join("\n")).unwrap();
    let critical = |record: &Value| record["risk_level"] == "critical";
    let alice = |record: &Value| record["tailscale"]["tailscale_user"] == "alice@example.com";
    let insufficient = |record: &Value| {
        record["result_status"] == "error" && record["error"].as_str().unwrap().contains("Insufficient")
    };
    let unapproved = |record: &Value| record["risk_level"] == "critical" && record["approved"] == false;
    type Meaning<'a> = &'a dyn Fn(&Value) -> bool;
    let questions: [(&str, Meaning<'_>, usize); 4] = [
        (r#"select(.risk_level == "critical")"#, &critical, 2),
        (r#"select(.tailscale.tailscale_user == "alice@example.com")"#, &alice, answers.len()),
        (r#"select(.result_status == "error" and (.error | contains("Insufficient")))"#, &insufficient, 1),
        (r#"select(.risk_level == "critical" and .approved == false)"#, &unapproved, 2),
    ];
    for (program, meaning, count) in questions {
        let found: Vec<Value> = records.iter().filter(|record| meaning(record)).cloned().collect();
        assert_eq!(found.len(), count, "{program}: {found:?}");
        match jq(program, &log).await {
            Some(selected) => assert_eq!(selected, found, "{program}"),
            None => eprintln!("no jq here: only the meaning of {program} was checked"),
        }
    }
    let denied = records.iter().find(|record| insufficient(record)).unwrap();
    assert_eq!((&denied["tool"], &denied["decision"]), (&json!("audit_query"), &json!("deny")));
    assert!(records.iter().any(|record| unapproved(record) && record["code"] == "approval_unavailable"));
}

#[tokio::test]
async fn a_secret_argument_is_not_in_the_log_and_yet_committed_to() {
    let gateway = Gateway::start().await;
    let admin = gateway.admin().await;
    let reason = format!("rotate password={PLANTED} now");
    let answer = gateway.call(&admin, "process_signal", gone(&reason)).await;
    assert_eq!(answer.code(), "not_found");
    let record = gateway.records_of(&answer).await.remove(0);
    let (directory, config) = gateway.stop().await; // which looks for the planted secret in every leaf
    assert!(record["redactions"].as_object().unwrap().values().any(|count| count.as_u64() > Some(0)), "{record}");
    assert!(record["args"]["reason"].as_str().unwrap().starts_with("rotate password="), "{record}");
    let mut canonical = gone(&reason);
    canonical["dry_run"] = json!(false);
    let mut database = plain(&config.data_dir).await;
    let salt = salt_of(&mut database, &record["intent_seq"]).await.expect("the salt stands beside the intent");
    assert_eq!(commitment(&salt, &canonical), record["args_commitment"]);
    canonical["reason"] = json!("rotate password=another now");
    assert_ne!(commitment(&salt, &canonical), record["args_commitment"]);
    assert_eq!(salt_of(&mut database, &record["seq"]).await, None, "one commitment, one salt");
    database.close().await.unwrap();
    for file in ["tailops.db", "tailops.db-wal"] {
        let bytes = std::fs::read(config.data_dir.join(file)).unwrap_or_default();
        assert!(!bytes.windows(PLANTED.len()).any(|window| window == PLANTED.as_bytes()), "{file} holds the secret");
    }
    drop(directory);
}

/// SHA-256 over the domain, the salt and the canonical arguments, in hex.
fn commitment(salt: &[u8], arguments: &Value) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [b"tailops args v1\n", salt, &canonical_json(arguments).unwrap()] {
        context.update(part);
    }
    hex(context.finish().as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The database as any program with the file can open it.
pub async fn plain(data: &Path) -> SqliteConnection {
    SqliteConnection::connect(&format!("sqlite://{}", data.join("tailops.db").display())).await.unwrap()
}

async fn salt_of(database: &mut SqliteConnection, seq: &Value) -> Option<Vec<u8>> {
    let query = sqlx::query_scalar("SELECT salt FROM audit_leaf WHERE seq = ?").bind(seq.as_i64().unwrap());
    query.fetch_one(database).await.unwrap()
}

#[tokio::test]
async fn long_arguments_stand_as_their_digest() {
    let gateway = Gateway::start().await;
    let admin = gateway.admin().await;
    // The canonical form is {"x":"…"}: eight bytes and the text.
    for (length, whole) in [(16 * 1024 - 8, true), (16 * 1024 - 7, false), (60_000, false)] {
        let arguments = json!({"x": "y".repeat(length)});
        let answer = gateway.call(&admin, "token_inspect", arguments.clone()).await;
        assert_eq!(answer.code(), "invalid_arguments");
        let record = gateway.records_of(&answer).await.remove(0);
        if whole {
            assert!(record["args"].get("sha256").is_none() && record["args"].get("x").is_some());
            continue;
        }
        let canonical = canonical_json(&arguments).unwrap();
        let digest = hex(digest::digest(&digest::SHA256, &canonical).as_ref());
        assert_eq!(record["args"], json!({"sha256": digest, "bytes": canonical.len()}));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_cursor_neither_repeats_nor_loses_records_and_shows_no_other_engagement() {
    let gateway = Gateway::with(|config| {
        config.engagements.push(Engagement { id: "other".into(), tools: None, data_root: None });
    })
    .await;
    let ours = gateway.admin().await;
    let theirs = gateway.mint(Grant { engagement: "other".to_owned(), ..Grant::default() }).await;
    for n in 0..25 {
        let token = if n % 3 == 0 { &theirs } else { &ours };
        gateway.call(token, "token_inspect", json!({})).await.data();
    }
    gateway.call(&ours, "process_signal", gone("two leaves, one record")).await;
    for (token, engagement) in [(&ours, "default"), (&theirs, "other")] {
        let before = gateway.records().await;
        let wanted: HashSet<u64> = before.iter().filter(|record| record["engagement"] == engagement).map(seq).collect();
        let mut seen: Vec<u64> = Vec::new();
        let mut arguments = json!({"limit": 4});
        loop {
            // Each page is itself a new record, which later pages must not be shifted by.
            let answer = gateway.call(token, "audit_query", arguments.clone()).await;
            for record in answer.data()["records"].as_array().unwrap() {
                assert_eq!(record["engagement"], engagement);
                assert_ne!(record["kind"], "intent");
                seen.push(seq(record));
            }
            let Some(next) = answer.content()["next_cursor"].as_str() else { break };
            arguments["cursor"] = json!(next);
        }
        assert!(seen.is_sorted_by(|newer, older| newer > older), "newest first, none twice: {seen:?}");
        assert_eq!(seen.into_iter().collect::<HashSet<_>>(), wanted);
    }
    // Another engagement's record looks exactly like one that is not there.
    let id = correlation_of(&gateway.call(&theirs, "token_inspect", json!({})).await.body);
    let nowhere = "00000000-0000-7000-8000-000000000000";
    let mut answers = Vec::new();
    for id in [id.as_str().unwrap(), nowhere] {
        let answer = gateway.call(&ours, "audit_query", json!({"correlation_id": id})).await;
        answers.push((answer.data()["records"].clone(), answer.content()["next_cursor"].clone()));
    }
    assert_eq!(answers[0], (json!([]), Value::Null));
    assert_eq!(answers[0], answers[1]);
    for cursor in ["", "-1", "1.5", "x", "99999999999999999999"] {
        let answer = gateway.call(&ours, "audit_query", json!({"cursor": cursor})).await;
        assert_eq!(answer.code(), "invalid_arguments", "{cursor:?}");
        assert!(answer.content()["message"].as_str().unwrap().contains("cursor"));
    }
    gateway.stop().await;
}

fn seq(record: &Value) -> u64 {
    record["seq"].as_u64().unwrap()
}

#[tokio::test]
async fn the_log_takes_nothing_back() {
    let gateway = Gateway::start().await;
    let admin = gateway.admin().await;
    gateway.call(&admin, "token_inspect", json!({})).await.data();
    gateway.call(&admin, "process_signal", gone("an intent and an outcome")).await;
    gateway.call(&admin, "token_inspect", json!({})).await.data();
    let (directory, config) = gateway.stop().await;
    let before = log_of(&config.data_dir).await;
    let mut database = plain(&config.data_dir).await;
    const COLUMNS: &str = "(seq, leaf, leaf_hash, opens, closes)";
    let forgeries = [
        "UPDATE audit_leaf SET leaf = '{}' WHERE seq = 1".to_owned(),
        "UPDATE audit_leaf SET leaf_hash = x'00'".to_owned(),
        "UPDATE audit_leaf SET seq = seq + 100".to_owned(),
        "UPDATE OR REPLACE audit_leaf SET seq = 1 WHERE seq = 2".to_owned(),
        "UPDATE audit_leaf SET opens = 0".to_owned(),
        "UPDATE audit_leaf SET closes = NULL".to_owned(),
        "UPDATE audit_leaf SET salt = x'00000000000000000000000000000000'".to_owned(),
        "DELETE FROM audit_leaf".to_owned(),
        "DELETE FROM audit_leaf WHERE seq = (SELECT max(seq) FROM audit_leaf)".to_owned(),
        format!("INSERT INTO audit_leaf {COLUMNS} VALUES (1, '{{}}', x'00', 0, NULL)"),
        format!("REPLACE INTO audit_leaf {COLUMNS} VALUES (1, '{{}}', x'00', 0, NULL)"),
        format!("INSERT OR REPLACE INTO audit_leaf {COLUMNS} SELECT max(seq) + 1, '{{}}', x'00', 0, 2 FROM audit_leaf"),
        format!("INSERT INTO audit_leaf {COLUMNS} SELECT max(seq) + 2, '{{}}', x'00', 0, NULL FROM audit_leaf"),
        format!("INSERT INTO audit_leaf {COLUMNS} VALUES (0, '{{}}', x'00', 0, NULL)"),
    ];
    for forgery in forgeries {
        let error = sqlx::query(sqlx::AssertSqlSafe(forgery.clone())).execute(&mut database).await.unwrap_err();
        assert!(error.to_string().contains("append-only"), "{forgery}: {error}");
    }
    // A salt may be forgotten: then nobody can guess arguments by trying.
    sqlx::query("UPDATE audit_leaf SET salt = NULL").execute(&mut database).await.unwrap();
    database.close().await.unwrap();
    assert_eq!(log_of(&config.data_dir).await, before);
    drop(directory);
}

#[tokio::test]
async fn one_correlation_id_joins_header_answer_and_record() {
    let gateway = Gateway::start().await;
    let admin = gateway.admin().await;
    let calls: [(Option<&str>, &str, Value); 5] = [
        (Some(&admin), "token_inspect", json!({})),
        (Some(&admin), "process_signal", gone("two leaves")),
        (Some(&admin), "audit_query", json!({"limit": 0})),
        (Some(&admin), "no_such_tool", json!({})),
        (None, "token_inspect", json!({})),
    ];
    let mut ids = HashSet::new();
    for (token, tool, arguments) in calls {
        let request = modern(&gateway.http, &gateway.url("/mcp"), token, tool, arguments);
        let response = request.header("x-correlation-id", "of-the-callers-choosing").send().await.unwrap();
        let header = response.headers()["x-correlation-id"].to_str().unwrap().to_owned();
        let body: Map<String, Value> = response.json().await.unwrap();
        assert_eq!(correlation_of(&Value::Object(body)), header, "{tool}");
        let leaves = crate::harness::records(gateway.store(), true).await;
        let of_call: Vec<&Value> = leaves.iter().filter(|leaf| leaf["correlation_id"] == header).collect();
        assert_eq!(of_call.len(), if tool == "process_signal" { 2 } else { 1 }, "{tool}: {of_call:?}");
        assert!(ids.insert(header), "an id was used twice");
    }
    let (directory, config) = gateway.stop().await;
    prove(&export(Command::new(BINARY), &config.data_dir, &["--all"]).await);
    drop(directory);
}

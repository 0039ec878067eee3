//! The operation on paper, as people get to see it: with the keys that the page explains, with who asks, and so that its
//! hash can be made again; and with nothing in it that people must not see.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};
use tailops::{approval::hash_of, model::canonical_json};

use crate::{
    harness::{Gateway, Grant},
    people::{People, Visitor},
};

/// What alice's own agent asks for on her laptop, as bob sees it.
async fn seen_by_bob(gateway: &Gateway, reason: &str) -> Value {
    let people = People::of(gateway);
    let (alice, bob): (Visitor, Visitor) = (people.person("alice"), people.approver("bob", json!(true)));
    let file = gateway.config.data_dir.join("files/old.log");
    fs::write(&file, "of no use any more\n").unwrap();
    let token = gateway.mint(Grant::bound("admin", "user:alice@example.com")).await;
    let wish = json!({"target": "local", "path": file, "reason": reason, "dry_run": false});
    let asked = alice.call(&token, "file_delete", wish).await;
    assert_eq!(asked.code(), "approval_required", "{asked:?}");
    let id = asked.content()["approval_id"].as_str().unwrap().to_owned();
    let seen = bob.get(&format!("/api/v1/approvals/{id}")).await;
    assert_eq!((seen.status, &seen.body["operation_hash"]), (200, &asked.content()["operation_hash"]), "{seen:?}");
    seen.body
}

fn hash(operation: &Value) -> String {
    hash_of(&canonical_json(operation).unwrap())
}

#[tokio::test]
async fn what_people_see_has_the_hash_that_they_agree_to() {
    let gateway = Gateway::start().await;
    let seen = seen_by_bob(&gateway, "it fills the disk").await;
    let operation = &seen["operation"];
    assert_eq!(hash(operation), seen["operation_hash"], "{operation:#}");
    let caller = &operation["caller"];
    assert_eq!((&caller["login"], &caller["peer"]), (&json!("alice@example.com"), &json!("nALICE")), "{caller}");
    let digest = operation["arguments"]["expect_sha256"].as_str().expect("the run is held to what was seen");
    assert_eq!(seen["preview"]["before"]["sha256"], digest);

    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/approvals.md")).unwrap();
    let (_, table) = page.split_once("The operation on paper is one JSON object:").expect("its keys");
    let rows = table.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let explained: BTreeSet<&str> = rows.filter_map(|row| row.strip_prefix("| `")?.split('`').next()).collect();
    let keys: BTreeSet<&str> = operation.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, explained);
    gateway.stop().await;
}

#[tokio::test]
async fn what_people_must_not_see_is_in_the_hash_and_not_in_the_answer() {
    let gateway = Gateway::start().await;
    let seen = seen_by_bob(&gateway, "as eve@example.net wrote me").await;
    assert!(!seen.to_string().contains("eve@example.net"), "{seen:#}");
    assert!(seen["operation"]["reason"].as_str().unwrap().contains("pii:email"), "{seen:#}");
    assert_ne!(hash(&seen["operation"]), seen["operation_hash"]);
    gateway.stop().await;
}

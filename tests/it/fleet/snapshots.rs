//! Snapshots: kept, listed and compared, and the difference is the change that was made and nothing else.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{
    LOOPBACK,
    hosts::{Hosts, Saying},
    register, said,
};
use crate::harness::{Gateway, Grant};

async fn two() -> (tempfile::TempDir, Hosts, Gateway, Arc<Mutex<Saying>>) {
    let folder = tempfile::tempdir().unwrap();
    let mut hosts = Hosts::new(folder.path());
    let web = said(Saying::default());
    hosts.add("web-01", LOOPBACK, web.clone(), &json!({})).await;
    hosts.add("web-02", LOOPBACK, said(Saying::default()), &json!({})).await;
    hosts.add("theirs", LOOPBACK, said(Saying::default()), &json!({"engagement": "other"})).await;
    let gateway = Gateway::with(|config| register(config, &hosts)).await;
    (folder, hosts, gateway, web)
}

async fn taken(gateway: &Gateway, token: &str, label: &str) -> String {
    let answer = gateway.call(token, "snapshot_create", json!({"label": label})).await;
    assert_eq!((&answer.data()["asked"], &answer.content()["changed"]), (&json!(2), &json!(true)), "{}", answer.body);
    assert!(answer.content().get("partial").is_none(), "{}", answer.body);
    let records = gateway.records_of(&answer).await;
    assert_eq!(
        (records.len(), &records[0]["effect"], &records[0]["survey"]["failures"]),
        (1, &json!("write"), &json!(0))
    );
    answer.data()["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_package_is_exactly_the_difference() {
    let (_folder, hosts, gateway, web) = two().await;
    let token = gateway.mint(Grant::scopes("fleet:read,system:read,network:read")).await;
    let dry = gateway.call(&token, "snapshot_create", json!({"dry_run": true})).await;
    assert_eq!((&dry.data()["id"], &dry.data()["targets"]), (&Value::Null, &json!(["web-01", "web-02"])));
    assert!(hosts.sshds.iter().all(|sshd| sshd.seen.commands.lock().unwrap().is_empty()), "a dry run reads nothing");

    let before = taken(&gateway, &token, "before").await;
    let same = gateway.call(&token, "snapshot_diff", json!({"a": before})).await;
    assert_eq!(
        (&same.data()["targets"], &same.data()["total"], &same.data()["unchanged"]),
        (&json!([]), &json!(0), &json!(2))
    );

    {
        let mut web = web.lock().unwrap();
        web.packages.insert("openssl:amd64".into(), "3.0.18-1~deb12u1".into());
        web.packages.insert("curl:amd64".into(), "7.88.1-10".into());
        web.packages.remove("bash:amd64");
        web.units.insert("nginx.service".into(), "failed".into());
    }
    let after = taken(&gateway, &token, "after").await;
    let expected = json!([{"id": "web-01", "sections": {
        "packages": {
            "added": {"curl:amd64": "7.88.1-10"},
            "removed": {"bash:amd64": "5.2.15-2+b8"},
            "changed": {"openssl:amd64": ["3.0.17-1~deb12u2", "3.0.18-1~deb12u1"]},
        },
        "units": {"added": {}, "removed": {}, "changed": {"nginx.service": ["enabled, active", "enabled, failed"]}},
    }}]);
    // Between two that are kept, and between one and now.
    for wish in [json!({"a": before, "b": after}), json!({"a": before})] {
        let answer = gateway.call(&token, "snapshot_diff", wish).await;
        let data = answer.data();
        assert_eq!((&data["targets"], &data["total"], &data["unchanged"]), (&expected, &json!(4), &json!(1)), "{data}");
        assert!(answer.content().get("partial").is_none() && answer.content()["truncated"] == false, "{data}");
        assert_eq!((&data["only_in_a"], &data["only_in_b"]), (&json!([]), &json!([])));
    }
    let narrow = json!({"a": before, "b": after, "sections": ["packages"], "limit": 2});
    let answer = gateway.call(&token, "snapshot_diff", narrow).await;
    assert_eq!((&answer.data()["total"], &answer.content()["truncated"]), (&json!(3), &json!(true)));
    let shown = &answer.data()["targets"][0]["sections"]["packages"];
    assert_eq!(
        (shown["added"].as_object().unwrap().len(), shown["removed"].as_object().unwrap().len(), &shown["changed"]),
        (1, 1, &json!({}))
    );
    let other = gateway.call(&token, "snapshot_diff", json!({"a": before, "b": after, "target": "web-02"})).await;
    assert_eq!(other.data()["total"], 0);

    let list = gateway.call(&token, "snapshot_list", json!({})).await;
    let ids: Vec<_> = list.data()["snapshots"].as_array().unwrap().iter().map(|entry| entry["id"].clone()).collect();
    assert_eq!((ids, &list.data()["total"]), (vec![json!(after), json!(before)], &json!(2)));
    let first = gateway.call(&token, "snapshot_list", json!({"limit": 1})).await;
    let cursor = first.content()["next_cursor"].clone();
    let second = gateway.call(&token, "snapshot_list", json!({"limit": 1, "cursor": cursor})).await;
    assert_eq!(
        (&second.data()["snapshots"][0]["label"], second.content().get("next_cursor")),
        (&json!("before"), None)
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_shows_nobody_what_they_may_not_see() {
    let (_folder, hosts, gateway, _) = two().await;
    let token = gateway.mint(Grant::scopes("fleet:read,system:read,network:read")).await;
    let (a, b) = (taken(&gateway, &token, "a").await, taken(&gateway, &token, "b").await);

    let other = gateway.mint(Grant { engagement: "other".to_owned(), ..Grant::default() }).await;
    assert_eq!(gateway.call(&other, "snapshot_list", json!({})).await.data()["total"], 0);
    for wish in [json!({"a": a}), json!({"a": a, "b": b})] {
        assert_eq!(gateway.call(&other, "snapshot_diff", wish).await.code(), "not_found");
    }
    // Without the right to see where targets listen, the rest is read and compared.
    let deaf = gateway.mint(Grant::scopes("fleet:read,system:read")).await;
    let answer = gateway.call(&deaf, "snapshot_create", json!({})).await;
    let sockets = |id: &str| json!({"section": format!("{id}.sockets"), "reason": "insufficient_scope"});
    assert_eq!(answer.content()["partial"], json!([sockets("web-01"), sockets("web-02")]));
    let answer = gateway.call(&deaf, "snapshot_diff", json!({"a": a, "b": b})).await;
    assert_eq!(
        (&answer.data()["unchanged"], &answer.content()["partial"]),
        (&json!(2), &json!([sockets("web-01"), sockets("web-02")]))
    );
    let one =
        Grant { targets: Some(vec!["web-02".to_owned()]), ..Grant::scopes("fleet:read,system:read,network:read") };
    let one = gateway.mint(one).await;
    let answer = gateway.call(&one, "snapshot_diff", json!({"a": a, "b": b})).await;
    assert_eq!(
        (&answer.data()["unchanged"], &answer.content()["partial"]),
        (&json!(1), &json!([{"section": "web-01", "reason": "token_target_denied"}]))
    );

    // Of nothing there is no snapshot.
    assert_eq!(gateway.call(&token, "snapshot_create", json!({"tag": "none"})).await.code(), "not_found");
    let blind = gateway.mint(Grant::scopes("fleet:read")).await;
    assert_eq!(gateway.call(&blind, "snapshot_create", json!({})).await.code(), "no_facts");
    assert_eq!(gateway.call(&token, "snapshot_list", json!({})).await.data()["total"], 3);
    assert!(hosts.sshds[2].seen.commands.lock().unwrap().is_empty(), "somebody else's");
    gateway.stop().await;
}

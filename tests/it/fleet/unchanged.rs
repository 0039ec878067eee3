//! What a host's packages and upgrades were the last time holds as long as what they are known by does, and no longer.

use serde_json::{Value, json};

use super::{
    LOOPBACK,
    hosts::{Hosts, Saying},
    register, said,
};
use crate::harness::{Answer, Gateway, Grant};

fn security(answer: &Answer) -> Option<u64> {
    let findings = answer.data()["targets"][0]["findings"].as_array().unwrap();
    findings
        .iter()
        .find(|finding| finding["problem"] == "security_updates")
        .and_then(|finding| finding["number"].as_u64())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packages_and_upgrades_are_asked_for_once_until_they_change() {
    let folder = tempfile::tempdir().unwrap();
    let mut hosts = Hosts::new(folder.path());
    let saying = said(Saying { security: 3, ..Saying::default() });
    hosts.add("web-01", LOOPBACK, saying.clone(), &json!({})).await;
    let gateway = Gateway::with(|config| register(config, &hosts)).await;
    let token = gateway.mint(Grant::scopes("fleet:read,system:read")).await;
    let refresh = || gateway.call(&token, "fleet_summarize", json!({"refresh": true, "tag": "fake"}));
    // Whether the last command told the host what is known.
    let knowing = || hosts.sshds[0].seen.commands.lock().unwrap().last().unwrap().contains("known=");

    let first = refresh().await;
    assert_eq!((security(&first), knowing()), (Some(3), false), "{}", first.body);
    let again = refresh().await;
    assert_eq!((security(&again), knowing()), (Some(3), true), "{}", again.body);
    assert_eq!(again.data()["targets"][0]["unknown"], json!([]), "{}", again.body);
    saying.lock().unwrap().security = 5;
    let changed = refresh().await;
    assert_eq!((security(&changed), knowing()), (Some(5), true), "{}", changed.body);
    saying.lock().unwrap().security = 0;
    let done = refresh().await;
    assert_eq!(
        (security(&done), &done.data()["problems"]["security_updates"]),
        (None, &Value::from(0)),
        "{}",
        done.body
    );
    gateway.stop().await;
}

//! Whoever asks is named on the target: what its sshd would log of a login stands in our record of the call, and in no
//! answer.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use russh::keys::ssh_key::LineEnding;
use serde_json::{Value, json};
use tailops::config::{UserCa, read_registry, registry_file};

use crate::{
    harness::{Answer, Gateway, Grant, alice, correlation_of},
    remote::{REMOTE, Remote},
    sshd::{Settings, Sshd, new_key, pin_of},
};

/// The wires in `record`.
fn wires(record: &Value) -> Vec<Value> {
    record["exec"].as_array().unwrap().iter().map(|step| step["wire"].clone()).collect()
}

fn host_inspect(target: &str) -> (&'static str, Value) {
    ("host_inspect", json!({"target": target, "sections": ["os"]}))
}

fn names_no_login(answer: &Answer) {
    let text = answer.content().to_string();
    for word in ["\"wire\"", "SHA256:", "tailops subject=", "login_key"] {
        assert!(!text.contains(word), "{word}: {text}");
    }
}

#[tokio::test]
async fn the_record_names_the_key_that_the_host_saw_and_the_answer_does_not() {
    let remote = Remote::start().await;
    remote.gateway.peers_are(|address| Ok(alice(address)));
    let token = remote.gateway.admin().await;
    let (tool, arguments) = host_inspect(REMOTE);
    let answer = remote.gateway.call(&token, tool, arguments).await;
    assert!(!answer.is_error(), "{:?}", answer.content());
    names_no_login(&answer);
    let records = remote.gateway.records_of(&answer).await;
    let logins = remote.sshd.seen.logins.lock().unwrap().clone();
    let [(user, fingerprint)] = &logins[..] else { panic!("{logins:?}") };
    let [wire] = &wires(&records[0])[..] else { panic!("{records:?}") };
    assert_eq!((wire["login"].as_str(), wire["login_id"].as_str()), (Some(user.as_str()), Some(fingerprint.as_str())));
    assert!(wire["host_key"].as_str().unwrap().starts_with("SHA256:"));
    assert_eq!((&wire["host_trust"], wire.get("host_authority")), (&json!("pin"), None));
    remote.gateway.stop().await;
}

/// A gateway with its own authority, and a host that knows it; the target names no key.
async fn minting() -> (Gateway, Sshd, tempfile::TempDir) {
    let (host_key, ca) = (new_key(), new_key());
    let mut settings = Settings::new(&host_key, new_key().public_key());
    settings.authorized.clear();
    settings.user_ca = Some(ca.public_key().clone());
    let sshd = Sshd::start(settings).await;
    let port = sshd.address.port();
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("ca");
    fs::write(&key_file, ca.to_openssh(LineEnding::LF).unwrap().as_bytes()).unwrap();
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
    let gateway = Gateway::with(|config| {
        config.ssh.ca = Some(UserCa { key_file, ttl: Duration::from_mins(5), source_addresses: Vec::new() });
        let entry = json!({
            "type": "remote", "executor": "ssh", "capabilities": ["system:read"],
            "connection": {"host": "127.0.0.1", "port": port, "host_keys": [pin_of(host_key.public_key())]},
        });
        let text = registry_file([(REMOTE, &entry)]);
        let home = config.targets[0].engagement.clone();
        let targets = read_registry(Path::new("targets.yaml"), &text, &home, &config.engagement_ids());
        config.targets.extend(targets.unwrap_or_else(|problems| panic!("{problems}")));
    })
    .await;
    (gateway, sshd, folder)
}

#[tokio::test]
async fn the_key_id_that_the_host_logs_leads_to_the_record_of_the_call() {
    let (gateway, sshd, _folder) = minting().await;
    gateway.peers_are(|address| Ok(alice(address)));
    let token = gateway.admin().await;
    let (tool, arguments) = host_inspect(REMOTE);
    let answer = gateway.call(&token, tool, arguments).await;
    assert!(!answer.is_error(), "{:?}", answer.content());
    names_no_login(&answer);
    let records = gateway.records_of(&answer).await;
    let logins = sshd.seen.logins.lock().unwrap().clone();
    let [(user, key_id)] = &logins[..] else { panic!("{logins:?}") };
    assert_eq!(user, "tailops", "the login user of a target that names none");
    assert_eq!(
        wires(&records[0]),
        [json!({
            "login_id": key_id, "login": user, "host_key": wires(&records[0])[0]["host_key"], "host_trust": "pin",
        })]
    );
    let correlation = correlation_of(answer.content());
    let words = format!(
        "tailops subject={} engagement={} correlation={}",
        records[0]["subject"].as_str().unwrap(),
        records[0]["engagement"].as_str().unwrap(),
        correlation.as_str().unwrap()
    );
    assert_eq!(*key_id, words);
    let found = gateway.call(&token, "audit_query", json!({"correlation_id": correlation})).await;
    assert_eq!(
        found.data()["records"][0]["exec"][0]["wire"]["login_id"],
        key_id.as_str(),
        "the guard leaves it to auditors"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn two_subjects_never_log_in_as_one() {
    let (gateway, sshd, _folder) = minting().await;
    gateway.peers_are(|address| Ok(alice(address)));
    let mut subjects = BTreeSet::new();
    for subject in ["maria", "mario"] {
        let token = gateway.mint(Grant { subject: subject.to_owned(), ..Grant::scopes("system:read") }).await;
        let (tool, arguments) = host_inspect(REMOTE);
        let answer = gateway.call(&token, tool, arguments).await;
        assert!(!answer.is_error(), "{:?}", answer.content());
        let records = gateway.records_of(&answer).await;
        let credential = wires(&records[0])[0]["login_id"].as_str().unwrap().to_owned();
        assert!(credential.contains(&format!(" subject={subject} ")), "{credential}");
        subjects.insert(credential);
    }
    let seen: BTreeSet<String> = sshd.seen.logins.lock().unwrap().iter().map(|(_, id)| id.clone()).collect();
    assert_eq!(seen, subjects);
    assert_eq!(seen.len(), 2);
    gateway.stop().await;
}

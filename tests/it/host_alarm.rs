//! A host that is not the one that was enrolled: the caller is refused, the auditor finds an alert that belongs to the
//! call, and the person at the command line sees it counted. One that says something else of itself is an alert alone.

use std::{path::Path, process::Command, sync::atomic::Ordering};

use serde_json::{Value, json};
use tailops::{
    audit::host_alerts,
    config::{read_registry, registry_file},
    store::Store,
};

use crate::{
    child::BINARY,
    harness::{Gateway, Grant, eventually, records},
    sshd::{Settings, Sshd, new_key, pin_of},
};

fn shown(data: &Path, arguments: &[&str]) -> String {
    let output =
        Command::new(BINARY).args(["audit", "alerts", "--data-dir"]).arg(data).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_host_with_another_key_is_an_alert_once_a_minute_and_counted_for_people() {
    let (enrolled, swapped, login) = (new_key(), new_key(), new_key());
    let keys = tempfile::tempdir().unwrap();
    let file = keys.path().join("key");
    let text = login.to_openssh(russh::keys::ssh_key::LineEnding::LF).unwrap();
    std::fs::write(&file, text.as_bytes()).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let sshd = Sshd::start(Settings::new(&swapped, login.public_key())).await;
    let port = sshd.address.port();
    let gateway = Gateway::with(|config| {
        let target = |pins: Value| {
            json!({
                "type": "remote", "executor": "ssh", "capabilities": ["system:read"],
                "connection": {
                    "host": "127.0.0.1", "port": port, "username": "ops", "key_path": file, "host_keys": pins,
                },
            })
        };
        let targets = [("swapped", target(json!([pin_of(enrolled.public_key())]))), ("unknown", target(json!([])))];
        let text = registry_file(targets.iter().map(|(id, target)| (*id, target)));
        let home = config.targets[0].engagement.clone();
        let read = read_registry(Path::new("targets.yaml"), &text, &home, &config.engagement_ids());
        config.targets.extend(read.unwrap_or_else(|problems| panic!("{problems}")));
    })
    .await;
    let token = gateway.mint(Grant::scopes("admin")).await;
    let call = async |target: &str| gateway.call(&token, "host_inspect", json!({"target": target})).await;

    let answer = call("swapped").await;
    assert_eq!(answer.code(), "host_key_mismatch");
    assert!(!answer.content().to_string().contains("SHA256:"), "{:?}", answer.content());
    let of_call = gateway.records_of(&answer).await;
    let alert = of_call.iter().find(|record| record["kind"] == "alert").expect("no alert");
    assert_eq!(of_call.len(), 2, "{of_call:?}");
    assert_eq!((&alert["code"], &alert["status"]), (&json!("host_key_mismatch"), &json!("denied")));
    assert_eq!((&alert["target"], &alert["subject"]), (&json!("swapped"), &of_call[1]["subject"]));
    let (wanted, found) = (pin_of(enrolled.public_key()), pin_of(swapped.public_key()));
    let args = json!({"host": "127.0.0.1", "port": port, "shown": found, "enrolled": [wanted]});
    assert_eq!(alert["args"], args);
    // A host that nobody knows is refused, and is no alert.
    let unknown = call("unknown").await;
    assert_eq!(unknown.code(), "host_key_unknown");
    assert!(gateway.records_of(&unknown).await.iter().all(|record| record["kind"] != "alert"));
    // Within the minute the next ones are counted.
    for _ in 0..3 {
        assert_eq!(call("swapped").await.code(), "host_key_mismatch");
    }
    assert!(sshd.seen.logins.lock().unwrap().is_empty());

    let (directory, config) = gateway.stop().await;
    let store = Store::open(&config.data_dir).await.unwrap();
    let counted = records(&store, false).await.into_iter().filter(|record| record["kind"] == "alert");
    assert_eq!(counted.map(|record| record["folded"]["count"].clone()).collect::<Vec<_>>(), [Value::Null, json!(3)]);
    let hosts = host_alerts(&store.leaf_reader(), None).await.unwrap();
    assert_eq!(hosts.keys().collect::<Vec<_>>(), ["swapped"]);
    assert_eq!((hosts["swapped"].count, hosts["swapped"].shown.contains(&found)), (4, true));
    store.close().await;
    let rows: Value = serde_json::from_str(&shown(&config.data_dir, &["--json"])).unwrap();
    assert_eq!((&rows[0]["target"], &rows[0]["count"]), (&json!("swapped"), &json!(4)));
    let table = shown(&config.data_dir, &[]);
    assert!(table.contains("TARGET") && table.contains("host_key_mismatch") && table.contains(&found), "{table}");
    drop(directory);
}

#[tokio::test]
async fn a_host_that_says_something_else_is_an_alert_once_and_nothing_is_refused() {
    const OLD: &str = "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3";
    const NEW: &str = "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u7";
    let (key, login) = (new_key(), new_key());
    let keys = tempfile::tempdir().unwrap();
    let file = keys.path().join("key");
    std::fs::write(&file, login.to_openssh(russh::keys::ssh_key::LineEnding::LF).unwrap().as_bytes()).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let settings = Settings::new(&key, login.public_key());
    let says = settings.says.clone();
    says.lock().unwrap().identification = Some(OLD.to_owned());
    let sshd = Sshd::start(settings).await;
    let port = sshd.address.port();
    let gateway = Gateway::with(|config| {
        let target = json!({
            "type": "remote", "executor": "ssh", "capabilities": ["system:read"],
            "connection": {
                "host": "127.0.0.1", "port": port, "username": "ops", "key_path": file,
                "host_keys": [pin_of(key.public_key())],
            },
        });
        let home = config.targets[0].engagement.clone();
        let text = registry_file([("web", &target)]);
        let read = read_registry(Path::new("targets.yaml"), &text, &home, &config.engagement_ids());
        config.targets.extend(read.unwrap_or_else(|problems| panic!("{problems}")));
    })
    .await;
    let token = gateway.mint(Grant::scopes("admin")).await;
    // Over a new connection each time.
    let connected = async |gateway: &Gateway| {
        let answer = gateway.call(&token, "host_inspect", json!({"target": "web"})).await;
        assert!(!answer.is_error(), "{:?}", answer.content());
        sshd.hang_up();
        eventually("it was never cut", async || sshd.seen.open.load(Ordering::SeqCst) == 0).await;
        let alerts = gateway.records_of(&answer).await.into_iter().filter(|record| record["kind"] == "alert");
        alerts.collect::<Vec<_>>()
    };
    assert!(connected(&gateway).await.is_empty());
    assert!(connected(&gateway).await.is_empty());
    says.lock().unwrap().identification = Some(NEW.to_owned());
    let [alert] = &connected(&gateway).await[..] else { panic!("not one alert") };
    assert_eq!((&alert["code"], &alert["status"]), (&json!("host_identification_changed"), &json!("ok")));
    assert_eq!(alert["args"], json!({"host": "127.0.0.1", "port": port, "shown": NEW, "enrolled": [OLD]}));
    assert!(connected(&gateway).await.is_empty(), "told of once");

    let (directory, config) = gateway.stop().await;
    let gateway = Gateway::on(directory, config).await;
    assert!(connected(&gateway).await.is_empty(), "a restart tells of nothing again");
    says.lock().unwrap().banner = Some("Keep \u{1b}[31mout\n".to_owned());
    let [alert] = &connected(&gateway).await[..] else { panic!("not one alert") };
    assert_eq!((&alert["code"], &alert["args"]["enrolled"]), (&json!("host_banner_changed"), &json!(["no banner"])));
    let (_directory, config) = gateway.stop().await;
    let rows: Value = serde_json::from_str(&shown(&config.data_dir, &["--json"])).unwrap();
    assert_eq!((&rows[0]["target"], &rows[0]["count"]), (&json!("web"), &json!(2)));
    assert_eq!(rows[0]["enrolled"], json!([OLD, "no banner"]));
    let table = shown(&config.data_dir, &[]);
    assert!(table.contains(OLD) && table.contains(NEW) && table.contains("Keep \\u{1b}[31mout"), "{table}");
}

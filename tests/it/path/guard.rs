//! What leaves: files read through the whole path, with what must not leave taken out.

use serde_json::json;

use crate::harness::{Gateway, PLANTED};

#[tokio::test]
async fn secrets_and_control_characters_do_not_leave_and_are_counted() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    let file = gateway.config.data_dir.join("files/app.log");
    let key = format!("-----BEGIN {0} PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0\n-----END {0} PRIVATE KEY-----", "RSA");
    std::fs::write(&file, format!("start\u{1b}[31m red\ndb password={PLANTED}\n{key}\nend\n")).unwrap();
    let answer = gateway.call(&token, "file_read", json!({"target": "local", "path": file})).await;
    let content = answer.data()["content"].as_str().unwrap();
    assert!(content.starts_with("start red\ndb password=‹secret:password#1›\n"), "{content}");
    assert!(content.ends_with("\nend\n") && !content.contains("MIIEvQ"), "{content}");
    let counted = &answer.content()["redactions"];
    assert_eq!((&counted["password"], &counted["private-key"], &counted["control"]), (&json!(1), &json!(1), &json!(1)));
    assert_eq!(gateway.records_of(&answer).await[0]["redactions"], *counted);
    // Nor does a secret leave by an error's text.
    let path = gateway.config.data_dir.join(format!("files/password={PLANTED}"));
    let refused = gateway.call(&token, "file_read", json!({"target": "local", "path": path})).await;
    assert!(refused.is_error(), "{refused:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn outside_the_roots_there_is_nothing_to_see() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    let link = gateway.config.data_dir.join("files/link");
    std::os::unix::fs::symlink("/etc/hostname", &link).unwrap();
    let mut answers = Vec::new();
    for path in ["/etc/hostname", "/etc/nothing-here", "/var/log/../../etc/hostname", "/proc/self/root/etc/hostname"] {
        let answer = gateway.call(&token, "file_read", json!({"target": "local", "path": path})).await;
        assert!(answer.is_error(), "{path}: {answer:?}");
        answers.push(answer.code().to_owned());
    }
    assert_eq!(answers[0], answers[1], "what exists outside looks like what does not");
    let linked = gateway.call(&token, "file_read", json!({"target": "local", "path": link})).await;
    assert_eq!(linked.code(), "outside_roots");
    gateway.stop().await;
}

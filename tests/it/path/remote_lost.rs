//! Connections that die under a call, and how many calls a host ever sees at once.

use futures_util::future::join_all;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

use crate::{
    harness::alice,
    remote::{Difference, REMOTE, Remote},
    sshd::Settings,
};

/// A host that hangs up as soon as a command has begun.
async fn cutting() -> Remote {
    let host = Box::new(|host: &mut Settings| host.cuts = true);
    Remote::with(Difference { host, ..Difference::default() }).await
}

#[tokio::test]
async fn what_was_sent_over_a_connection_that_died_is_unknown_and_never_sent_again() {
    let remote = cutting().await;
    remote.gateway.peers_are(|address| Ok(alice(address)));
    let token = remote.gateway.admin().await;
    let writing = json!({"target": REMOTE, "path": remote.file("new.txt"), "content": "text", "reason": "a test", "dry_run": false});
    for (sent, tool, arguments, looks) in
        [(1, "file_write", writing, true), (2, "host_inspect", json!({"target": REMOTE, "sections": ["os"]}), false)]
    {
        let answer = remote.gateway.call(&token, tool, arguments).await;
        assert_eq!(answer.code(), "unknown_outcome", "{tool}: {:?}", answer.content());
        let message = answer.content()["message"].as_str().unwrap();
        assert!(message.contains("whether the step ran is unknown"), "{message}");
        assert_eq!(message.contains("look at the target before trying again"), looks, "{message}");
        assert_eq!(remote.commands(), sent, "{tool} was sent again");
        let records = remote.gateway.records_of(&answer).await;
        let record = records.last().unwrap();
        assert_eq!((&record["status"], &record["code"]), (&json!("failed"), &json!("unknown_outcome")), "{record}");
        assert_eq!(record["exec"].as_array().unwrap().len(), 1, "{record}");
    }
    // Nothing of what died is used again, and the host is not given up either.
    assert_eq!(remote.sshd.seen.connections.load(Ordering::SeqCst), 2);
    remote.gateway.stop().await;
}

#[tokio::test]
async fn a_host_never_sees_more_calls_at_once_than_its_target_allows_and_one_connection_carries_them() {
    let config = Box::new(|config: &mut tailops::config::Config| config.targets[0].concurrency = 2);
    let remote = Remote::with(Difference { config, ..Difference::default() }).await;
    remote.gateway.peers_are(|address| Ok(alice(address)));
    let token = remote.gateway.admin().await;
    let call = || remote.gateway.call(&token, "host_inspect", json!({"target": REMOTE, "sections": ["os"]}));
    let answers = join_all((0..10).map(|_| call())).await;
    assert!(
        answers.iter().all(|answer| !answer.is_error()),
        "{:?}",
        answers.iter().map(|a| a.content()).collect::<Vec<&Value>>()
    );
    let seen = &remote.sshd.seen;
    assert_eq!((remote.commands(), seen.connections.load(Ordering::SeqCst)), (10, 1));
    assert_eq!(seen.most_running.load(Ordering::SeqCst), 2);
    assert!(seen.asked.lock().unwrap().is_empty() && seen.forwarded.lock().unwrap().is_empty());
    remote.gateway.stop().await;
}

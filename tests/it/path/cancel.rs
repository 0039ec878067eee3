//! A client that hangs up: a read stops, a write comes to its end. Both are on record.

use std::{
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::harness::{Gateway, eventually, modern};

/// A process of the test; killed when dropped.
struct Victim(Child);

impl Victim {
    /// Ignores TERM, so that the tool watches it for its whole two seconds.
    fn stubborn() -> Self {
        let script = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
        let mut child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        Self(child)
    }

    fn start_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().parse().unwrap()
    }

    fn signal(&self, signal: &str) -> Value {
        json!({"target": "local", "pid": self.0.id(), "start_ticks": self.start_ticks(), "signal": signal, "reason": "a test"})
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn last_of(gateway: &Gateway, tool: &str) -> Option<Value> {
    gateway.records().await.into_iter().rfind(|record| record["tool"] == tool)
}

#[tokio::test]
async fn a_read_stops_when_its_caller_goes() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    let call = modern(&gateway.http, &gateway.url("/mcp"), Some(&token), "process_list", json!({"target": "local"}));
    // The tool measures for half a second: the client is gone long before.
    let gone = tokio::time::timeout(Duration::from_millis(150), call.send()).await;
    assert!(gone.is_err(), "answered too early for this test");
    eventually("the read is on record", || async { last_of(&gateway, "process_list").await.is_some() }).await;
    let record = last_of(&gateway, "process_list").await.unwrap();
    assert_eq!((&record["status"], &record["code"]), (&json!("cancelled"), &json!("cancelled")), "{record}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_write_goes_on_to_its_end_and_its_record() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    let victim = Victim::stubborn();
    let call = modern(&gateway.http, &gateway.url("/mcp"), Some(&token), "process_signal", victim.signal("TERM"));
    let gone = tokio::time::timeout(Duration::from_millis(400), call.send()).await;
    assert!(gone.is_err(), "answered too early for this test");
    eventually("the write is on record", || async {
        last_of(&gateway, "process_signal").await.is_some_and(|record| record["kind"] == "outcome")
    })
    .await;
    let record = last_of(&gateway, "process_signal").await.unwrap();
    assert_eq!((&record["status"], &record["result_status"]), (&json!("ok"), &json!("success")), "{record}");
    assert!(record["duration_ms"].as_u64().unwrap() >= 1500, "it watched for its two seconds: {record}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_write_really_happens_once_and_is_on_record_twice() {
    let gateway = Gateway::start().await;
    let token = gateway.admin().await;
    let mut victim = Victim::stubborn();
    let dry = {
        let mut arguments = victim.signal("KILL");
        arguments["dry_run"] = json!(true);
        gateway.call(&token, "process_signal", arguments).await
    };
    assert_eq!(dry.content()["dry_run"], true);
    assert!(victim.0.try_wait().unwrap().is_none(), "a dry run signals nothing");
    let answer = gateway.call(&token, "process_signal", victim.signal("KILL")).await;
    assert_eq!(answer.data()["signalled"], true);
    assert_eq!(victim.0.wait().unwrap().signal(), Some(9));
    let id = crate::harness::correlation_of(&answer.body);
    let leaves = crate::harness::records(gateway.store(), true).await;
    let kinds: Vec<_> = leaves.iter().filter(|leaf| leaf["correlation_id"] == id).map(|leaf| &leaf["kind"]).collect();
    assert_eq!(kinds, ["intent", "outcome"]);
    let dry_leaves = gateway.records_of(&dry).await;
    assert_eq!(
        (dry_leaves.len(), &dry_leaves[0]["kind"], &dry_leaves[0]["effect"]),
        (1, &json!("call"), &json!("read"))
    );
    gateway.stop().await;
}

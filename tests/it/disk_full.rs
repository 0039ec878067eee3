//! A disk that really takes no more: what cannot be recorded is refused, nothing is disclosed, nothing is changed, and
//! recording resumes by itself once there is room.

use std::{collections::HashSet, path::Path, process::Stdio};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    child::{BINARY, Prey, Service, directory, export, log_of, open_intents, prove},
    harness::{Answer, correlation_of, eventually},
};

/// Calls until a call is refused for want of a record; returns the correlation ids of those that were answered.
async fn call_until_refused(service: &Service) -> HashSet<String> {
    let mut acknowledged = HashSet::new();
    for _ in 0..100 {
        let answer = service.call("token_inspect", json!({})).await.unwrap();
        if answer.code() == "audit_unavailable" {
            return acknowledged;
        }
        answer.data();
        acknowledged.insert(correlation_of(&answer.body).as_str().unwrap().to_owned());
    }
    panic!("a hundred calls found room on a full disk");
}

/// What holds while nothing can be recorded.
async fn everything_is_refused(service: &Service) {
    for tool in ["token_inspect", "gateway_inspect", "audit_query", "fleet_list"] {
        let answer = service.call(tool, json!({})).await.unwrap();
        assert_eq!((answer.is_error(), answer.code()), (true, "audit_unavailable"), "{tool}");
        let mut keys: Vec<&str> = answer.content().as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["code", "correlation_id", "message", "ok"], "{tool} discloses something");
    }
    let mut prey = Prey::sleeping();
    let answer = service.call("process_signal", prey.arguments("KILL")).await.unwrap();
    assert_eq!(answer.code(), "audit_unavailable");
    assert!(prey.lives(), "a change ran without a record");
    for token in [None, Some("tailops_x.y.z")] {
        let Answer { status, body } = service.call_as(token, "token_inspect", json!({})).await.unwrap();
        assert_eq!((status, &body["code"]), (503, &json!("audit_unavailable")));
    }
    let (status, text) = service.get("/readyz").await;
    let ready: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &ready["ready"], &ready["checks"]["audit"]), (503, &json!(false), &json!(false)));
    assert_eq!(service.get("/healthz").await, (200, "ok\n".to_owned()));
}

async fn resumes(service: &Service) {
    eventually("recording resumes", || async { service.get("/readyz").await.0 == 200 }).await;
    service.call("token_inspect", json!({})).await.unwrap().data();
}

/// What the log holds after one time without room.
fn is_complete(leaves: &[Value], acknowledged: &HashSet<String>) {
    let resumed: Vec<&Value> = leaves.iter().filter(|leaf| leaf["tool"] == "audit.resumed").collect();
    assert_eq!(resumed.len(), 1);
    assert_eq!(resumed[0]["kind"], "admin");
    assert!(resumed[0]["args"]["unavailable_since"].as_str().unwrap() <= resumed[0]["timestamp"].as_str().unwrap());
    let recorded: HashSet<&str> = leaves.iter().filter_map(|leaf| leaf["correlation_id"].as_str()).collect();
    for id in acknowledged {
        assert!(recorded.contains(id.as_str()), "{id} was answered and is not in the log");
    }
    assert!(open_intents(leaves).is_empty());
}

fn size_of_wal(data: &Path) -> u64 {
    data.join("tailops.db-wal").metadata().unwrap().len()
}

#[tokio::test]
async fn without_room_everything_is_refused_until_there_is_room() {
    let (_directory, data) = directory();
    let service = Service::limitable(&data).await;
    service.call("token_inspect", json!({})).await.unwrap().data();
    // Room for a few records, and the last of them is cut in the middle.
    service.limit_files(Some(size_of_wal(&data) + 50_000));
    let acknowledged = call_until_refused(&service).await;
    assert!(!acknowledged.is_empty());
    everything_is_refused(&service).await;
    let kept = log_of(&data).await;
    assert!(kept.iter().all(|leaf| leaf["tool"] != "process_signal"), "refused before anything was written");
    service.limit_files(None);
    resumes(&service).await;
    let leaves = log_of(&data).await;
    assert_eq!(leaves[..kept.len()], kept);
    is_complete(&leaves, &acknowledged);
    service.kill().await;
    Service::start(&data).await.kill().await;
    is_complete(&log_of(&data).await, &acknowledged);
}

#[tokio::test]
async fn a_change_that_had_begun_says_so_and_its_outcome_is_written_first() {
    let (_directory, data) = directory();
    let service = Service::limitable(&data).await;
    // It ignores the signal, so the tool watches it for two seconds: time enough for the disk to fill up.
    let mut prey = Prey::stubborn();
    let call = service.call("process_signal", prey.arguments("TERM"));
    let fill = async {
        eventually("the intent is on record", || async { !open_intents(&log_of(&data).await).is_empty() }).await;
        service.limit_files(Some(size_of_wal(&data)));
    };
    let (answer, ()) = tokio::join!(call, fill);
    let answer = answer.unwrap();
    assert_eq!(answer.code(), "audit_unavailable");
    assert!(answer.content()["message"].as_str().unwrap().contains("was started"), "{}", answer.body);
    assert!(answer.content().get("exec").is_none() && answer.content().get("data").is_none());
    everything_is_refused(&service).await;
    service.limit_files(None);
    resumes(&service).await;
    let leaves = log_of(&data).await;
    is_complete(&leaves, &HashSet::from([correlation_of(&answer.body).as_str().unwrap().to_owned()]));
    let signals: Vec<&Value> = leaves.iter().filter(|leaf| leaf["tool"] == "process_signal").collect();
    assert_eq!(signals.iter().map(|leaf| &leaf["kind"]).collect::<Vec<_>>(), ["intent", "outcome"]);
    assert_eq!((&signals[1]["status"], &signals[1]["exec"][0]["exit_code"]), (&json!("ok"), &json!(0)));
    let resumed = leaves.iter().find(|leaf| leaf["tool"] == "audit.resumed").unwrap();
    assert!(signals[1]["seq"].as_u64() < resumed["seq"].as_u64());
    assert!(prey.lives());
    service.kill().await;
}

/// A file system of its own that fills up: only root may make one. Lives in a mount namespace that goes with the
/// service.
#[tokio::test]
async fn a_full_file_system_is_survived() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can mount a small file system");
        return;
    }
    let (directory, data) = directory();
    let mount = r#"mount -t tmpfs -o size=1m,mode=0700 tmpfs "$1" && shift && exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", mount, "sh"]).arg(directory.path()).arg(BINARY).stdin(Stdio::null());
    let service = Service::run(command, &data).await;
    let inside = |path: &Path| format!("/proc/{}/root{}", service.pid().as_raw_nonzero(), path.display());
    let ballast = inside(&directory.path().canonicalize().unwrap().join("ballast"));
    fill(Path::new(&ballast));
    let acknowledged = call_until_refused(&service).await;
    everything_is_refused(&service).await;
    std::fs::remove_file(&ballast).unwrap();
    resumes(&service).await;
    let mut reader = Command::new("nsenter");
    reader.arg(format!("--mount=/proc/{}/ns/mnt", service.pid().as_raw_nonzero())).arg(BINARY);
    is_complete(&prove(&export(reader, &data, &["--all"]).await), &acknowledged);
    assert!(!data.exists(), "the data directory was to be inside");
    service.kill().await;
}

/// Writes until there is no room at all.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).unwrap();
    for size in [65_536, 4096, 1] {
        let error = loop {
            if let Err(error) = file.write_all(&vec![0; size]) {
                break error;
            }
        };
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }
}

//! SIGKILL between a person's yes and the run, and between the run and its record: it runs at most once, and the log says
//! whose yes it was and that the end is unknown.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::{Value, json};
use tokio::process::Command;

use super::{Left, tokens};
use crate::child::{BINARY, Service, directory, log_of, open_intents};

/// A development gateway with a file, and the call that deletes it.
struct Scene {
    _directory: tempfile::TempDir,
    data: PathBuf,
    file: PathBuf,
    token: String,
    arguments: Value,
}

impl Scene {
    async fn new() -> Self {
        let (directory, data) = directory();
        Service::start(&data).await.kill().await;
        let token = tokens(&data, 1).await.remove(0);
        let file = data.join("files/old.log");
        fs::write(&file, "old\n").unwrap();
        let arguments = json!({"target": "local", "path": file, "dry_run": false, "reason": "a test of kills"});
        Self { _directory: directory, data, file, token, arguments }
    }

    /// The approval's id and the operation's hash.
    async fn asked(&mut self, service: &Service) -> (Value, Value) {
        let answer = service.call_as(Some(&self.token), "file_delete", self.arguments.clone()).await.unwrap();
        assert_eq!(answer.code(), "approval_required", "{answer:?}");
        let (id, hash) = (answer.content()["approval_id"].clone(), answer.content()["operation_hash"].clone());
        self.arguments["approval_id"] = id.clone();
        (id, hash)
    }

    /// The code of the call, `ok` where it ran; none where the service died.
    async fn run(&self, service: &Service) -> Option<String> {
        let answer = service.call_as(Some(&self.token), "file_delete", self.arguments.clone()).await?;
        Some(if answer.is_error() { answer.code().to_owned() } else { "ok".to_owned() })
    }
}

/// Whether the user of this machine could say yes on the command line.
async fn approve(data: &Path, id: &Value) -> bool {
    let mut command = Command::new(BINARY);
    command.args(["approve", id.as_str().unwrap(), "--yes", "--comment", "go on", "--data-dir"]).arg(data);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).env_remove("SSH_AUTH_SOCK");
    command.status().await.unwrap().success()
}

#[tokio::test]
async fn what_was_agreed_to_runs_at_most_once_whenever_the_service_dies() {
    for (step, left, used, ran) in [
        ("call-opened", Left::Nothing, false, false),
        ("before-intent", Left::Nothing, false, false),
        ("after-intent", Left::Intent, false, false),
        ("approval-taken", Left::Intent, true, false),
        ("after-run", Left::Intent, true, true),
        ("before-outcome-commit", Left::Intent, true, true),
        ("after-outcome-commit", Left::Outcome, true, true),
    ] {
        let mut scene = Scene::new().await;
        let service = Service::start(&scene.data).await;
        let (id, hash) = scene.asked(&service).await;
        assert!(approve(&scene.data, &id).await, "{step}");
        service.kill().await; // the yes is there, and nothing has run

        let service = Service::dying_at(&scene.data, step).await;
        assert_eq!(scene.run(&service).await, None, "{step}: answered all the same");
        assert_eq!(service.ended().await.signal(), Some(9), "{step}");
        assert_eq!(scene.file.exists(), !ran, "{step}");

        let service = Service::start(&scene.data).await;
        let leaves = log_of(&scene.data).await;
        assert!(open_intents(&leaves).is_empty(), "{step}");
        let interrupted: Vec<&Value> = leaves.iter().filter(|leaf| leaf["status"] == "interrupted").collect();
        assert_eq!(interrupted.len(), usize::from(left == Left::Intent), "{step}: {interrupted:?}");
        for leaf in interrupted {
            assert_eq!((&leaf["approval"]["id"], &leaf["approval"]["operation_hash"]), (&id, &hash), "{step}");
            assert_eq!((&leaf["approved"], &leaf["code"]), (&json!(true), &json!("interrupted")), "{step}");
            assert_eq!(leaf["approval"]["approvers"][0]["strength"], "signature", "{step}");
        }
        let again = scene.run(&service).await.unwrap();
        assert_eq!(again, if used { "approval_used" } else { "ok" }, "{step}");
        assert_eq!(scene.file.exists(), step == "approval-taken", "{step}");
        assert_eq!(scene.run(&service).await.unwrap(), "approval_used", "{step}");
        service.kill().await;
        let leaves = log_of(&scene.data).await;
        let done = |leaf: &&Value| leaf["tool"] == "file_delete" && leaf["kind"] == "outcome" && leaf["status"] == "ok";
        assert!(leaves.iter().filter(done).count() <= 1, "{step}: it ran twice");
    }
}

#[tokio::test]
async fn a_yes_that_was_recorded_and_not_kept_is_no_yes() {
    let mut scene = Scene::new().await;
    let service = Service::dying_at(&scene.data, "decision-recorded").await;
    let (id, _) = scene.asked(&service).await;
    assert!(!approve(&scene.data, &id).await);
    assert_eq!(service.ended().await.signal(), Some(9));
    let service = Service::start(&scene.data).await;
    assert_eq!(scene.run(&service).await.unwrap(), "approval_pending");
    assert!(scene.file.exists());
    assert!(approve(&scene.data, &id).await, "who was not heard can say it again");
    assert_eq!(scene.run(&service).await.unwrap(), "ok");
    service.kill().await;
    let leaves = log_of(&scene.data).await;
    let said = leaves.iter().filter(|leaf| leaf["tool"] == "approval.approve" && leaf["approval"]["id"] == id).count();
    assert_eq!(said, 2);
}

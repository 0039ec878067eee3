//! Breaking the glass on the real binary: at the command line, with SIGKILL around the moment a pass is used, and with
//! everything that is left on disk searched for the credential.

use std::{fs, path::Path, process::Output};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::child::{BINARY, Service, directory, log_of, open_intents};

/// Runs `tailops` with `arguments` on `data`.
async fn tailops(data: &Path, arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).arg("--data-dir").arg(data).output().await.unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A pass: its id and its credential.
async fn pass(data: &Path) -> (String, String) {
    let output = tailops(data, &["break-glass", "--reason", "a test of emergencies", "--json"]).await;
    let made: Value = serde_json::from_str(&said(&output)).unwrap();
    (made["id"].as_str().unwrap().to_owned(), made["credential"].as_str().unwrap().to_owned())
}

/// The call that deletes a file made for it.
fn deletion(data: &Path, name: &str, credential: &str) -> Value {
    let path = data.join("files").join(name);
    fs::write(&path, "in the way").unwrap();
    json!({"target": "local", "path": path, "dry_run": false, "reason": "a test", "approval_id": credential})
}

#[tokio::test]
async fn a_pass_is_used_up_by_a_call_that_was_killed_or_failed_and_not_by_one_that_came_not_so_far() {
    for (step, ran, used) in [
        ("before-intent", false, false),
        ("before-pass", false, false),
        ("after-pass", false, true),
        ("after-run", true, true),
        ("panic:after-pass", false, true),
    ] {
        let (_directory, data) = directory();
        let service = Service::dying_at(&data, step).await;
        let (id, credential) = pass(&data).await;
        let wish = deletion(&data, "prey", &credential);
        let answer = service.call("file_delete", wish.clone()).await;
        if step.starts_with("panic:") {
            assert_eq!(answer.unwrap().code(), "internal");
            service.kill().await;
        } else {
            assert!(answer.is_none(), "{step}: {answer:?}");
            service.ended().await;
            let intents = usize::from(step != "before-intent");
            assert_eq!(open_intents(&log_of(&data).await).len(), intents, "{step}");
        }
        assert_eq!(data.join("files/prey").exists(), !ran, "{step}");

        let service = Service::start(&data).await;
        let log = log_of(&data).await;
        assert!(open_intents(&log).is_empty());
        let ends: Vec<&Value> =
            log.iter().filter(|leaf| leaf["tool"] == "file_delete" && leaf["kind"] == "outcome").collect();
        for end in &ends {
            assert!(["interrupted", "failed"].contains(&end["status"].as_str().unwrap()), "{step}: {end}");
            assert_eq!((&end["approved"], &end["approval"]["id"]), (&json!(true), &json!(id)), "{step}");
        }
        assert_eq!(ends.len(), usize::from(step != "before-intent"), "{step}");
        // What a kill left in doubt may run a second time only where it is known not to have run.
        let wish = if ran { deletion(&data, "prey", &credential) } else { wish };
        let again = service.call("file_delete", wish).await.unwrap();
        if used {
            assert_eq!(again.code(), "break_glass_refused", "{step}");
        } else {
            again.data();
        }
        assert_eq!(data.join("files/prey").exists(), used, "{step}");
        // The review is there whatever happened.
        let reviews = said(&tailops(&data, &["reviews"]).await);
        assert!(reviews.contains(&id) && reviews.contains("a test of emergencies"), "{reviews}");
        service.kill().await;
    }
}

#[tokio::test]
async fn at_the_command_line_a_pass_is_shown_once_and_kept_nowhere() {
    let (folder, data) = directory();
    let absent = tailops(&data, &["break-glass", "--reason", "nobody is there"]).await;
    assert_eq!(absent.status.code(), Some(1));
    let log = folder.path().join("service.log");
    let mut command = Command::new("sh");
    command.args(["-c", r#"exec "$0" "$@" 2>"$LOG""#, BINARY]).env("LOG", &log).env("TAILOPS_LOG", "trace");
    let service = Service::run(command, &data).await;
    for (arguments, told) in [
        (&["break-glass"][..], "--reason"),
        (&["break-glass", "--reason", "too long", "--ttl", "16m"], "ttl_s"),
        (&["break-glass", "--reason", "nobody", "--subject", "nobody"], "subject"),
        (&["break-glass", "--reason", "x"], "reason"),
    ] {
        let output = tailops(&data, arguments).await;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && output.stdout.is_empty() && error.contains(told), "{arguments:?}: {error}");
    }
    let text = said(&tailops(&data, &["break-glass", "--reason", "the disk is full", "--ttl", "10m"]).await);
    let credential = text.lines().find_map(|line| line.trim().strip_prefix("bg_")).expect("a credential").to_owned();
    assert_eq!(text.matches(&credential).count(), 1);
    let second = tailops(&data, &["break-glass", "--reason", "one more"]).await;
    assert!(String::from_utf8_lossy(&second.stderr).contains("pass_live"));

    let whole = format!("bg_{credential}");
    let ran = service.call("file_delete", deletion(&data, "prey", &whole)).await.unwrap();
    ran.data();
    assert!(!ran.body.to_string().contains(&credential));
    let again = service.call("file_delete", deletion(&data, "kept", &whole)).await.unwrap();
    assert_eq!(again.code(), "break_glass_refused");
    assert!(!again.body.to_string().contains(&credential) && data.join("files/kept").exists());

    let reviews: Value = serde_json::from_str(&said(&tailops(&data, &["reviews", "--json"]).await)).unwrap();
    let id = reviews[0]["id"].as_str().unwrap();
    let alerts = said(&tailops(&data, &["audit", "alerts"]).await);
    assert!(alerts.contains("reviews that are open: 1;"), "{alerts}");
    let doctor = said(&tailops(&data, &["doctor"]).await);
    let line = doctor.lines().find(|line| line.contains(" reviews ")).expect("a line about reviews");
    assert!(line.starts_with("warn") && line.contains("1 of broken glass"), "{line}");
    let own = tailops(&data, &["reviews", "close", id, "--comment", "it was me"]).await;
    assert!(String::from_utf8_lossy(&own.stderr).contains("own_review"), "{own:?}");
    service.kill().await;

    let logged = fs::read_to_string(&log).unwrap();
    assert_eq!(logged.matches("break_glass").count(), 2, "made and used: {logged}");
    let mut folders = vec![folder.path().to_owned()];
    let mut searched = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = fs::read(&path) {
                let found = bytes.windows(credential.len()).any(|window| window == credential.as_bytes());
                assert!(!found, "{} holds the credential", path.display());
                searched += 1;
            }
        }
    }
    assert!(searched >= 3, "{searched}");
}

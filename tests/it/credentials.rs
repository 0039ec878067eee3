//! The gateway's own secrets at the command line: how old each is and who is told, with the real program.

mod rotation;

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use russh::keys::{PrivateKey, ssh_key::LineEnding};
use serde_json::{Value, json};
use tailops::model::{Clock, SystemClock};

use crate::{
    served::{Place, Served},
    sshd::new_key,
};

const DAY: Duration = Duration::from_hours(24);
/// A pin of a key that no machine has.
const STRANGER: &str = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";

/// A service with two tenants, a target of each, and a target that both keys are no matter of.
struct Rig {
    place: Place,
    service: Served,
    key: PathBuf,
    theirs: PathBuf,
}

fn secret(place: &Place, name: &str, text: &str, age: Duration) -> PathBuf {
    let path = place.beside(name, text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    made(&path, age);
    path
}

/// Has `path` be `age` old.
fn made(path: &Path, age: Duration) {
    let now = SystemTime::from(SystemClock.now());
    File::open(path).unwrap().set_modified(now - age).unwrap();
}

fn text_of(key: &PrivateKey) -> String {
    key.to_openssh(LineEnding::LF).unwrap().to_string()
}

impl Rig {
    async fn start(profile: &str) -> Self {
        let place = Place::with("");
        let key = secret(&place, "login_key", &text_of(&new_key()), DAY);
        let theirs = secret(&place, "their_key", &text_of(&new_key()), DAY);
        let hook = secret(&place, "hook", &"s3cr3t-".repeat(8), DAY);
        let target = |id: &str, engagement: &str, key: &Path| {
            format!(
                "  {id}:\n    type: remote\n    executor: ssh\n    engagement: {engagement}\n    capabilities: []\n    \
                 connection: {{host: 192.0.2.7, username: ops, key_path: {}, host_keys: [\"{STRANGER}\"]}}\n",
                key.display()
            )
        };
        let text = ["version: \"1.0\"\ntargets:\n".to_owned()]
            .into_iter()
            .chain([target("web", "default", &key), target("db", "default", &key), target("far", "other", &theirs)])
            .collect::<String>();
        let targets = place.beside("targets.yaml", &text);
        place.write(&format!(
            "profile = \"{profile}\"\ndata_dir = \"DATA\"\ntargets_file = \"{}\"\nnode.listen = \"127.0.0.1:0\"\n\
             log.format = \"json\"\n[engagements.default]\n[engagements.other]\n[[approvals.webhooks]]\nname = \"duty\"\n\
             url = \"https://127.0.0.1:9/x\"\nsecret_file = \"{}\"\nidentity = \"maria@example.org\"\n",
            targets.display(),
            hook.display()
        ));
        let service = Served::start(&place).await;
        Self { place, service, key, theirs }
    }

    /// The exit code of the status, and its rows.
    async fn status(&self) -> (Option<i32>, Vec<Value>) {
        let output = self.place.tailops(&["credential", "status", "--json"]).await;
        let rows = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code(), rows)
    }
}

/// The row about `file`.
fn about<'a>(rows: &'a [Value], file: &Path) -> &'a Value {
    rows.iter().find(|row| row["file"] == file.to_str().unwrap()).unwrap_or_else(|| panic!("{rows:?}"))
}

#[tokio::test]
async fn p104_the_status_says_how_old_each_secret_is_and_fails_where_one_is_overdue() {
    let rig = Rig::start("recommended").await;
    let (code, rows) = rig.status().await;
    assert_eq!(code, Some(0), "{rows:?}");
    let row = about(&rows, &rig.key);
    assert_eq!((&row["state"], &row["kind"], &row["known_by"]), (&json!("ok"), &json!("login_key"), &json!("file")));
    assert_eq!((&row["used_by"], &row["max_age_s"]), (&json!(["db", "web"]), &json!(90 * 86_400)));
    let kinds: Vec<&Value> = rows.iter().map(|row| &row["kind"]).collect();
    assert_eq!(kinds, ["login_key", "login_key", "token_key", "webhook_secret"]);
    assert_eq!((&rows[2]["known_by"], &rows[2]["max_age_s"]), (&json!("record"), &json!(30 * 86_400)));
    assert_eq!((&rows[3]["name"], &rows[3]["file"].is_string()), (&json!("duty"), &true));

    made(&rig.key, 80 * DAY);
    let (code, rows) = rig.status().await;
    assert_eq!((code, &about(&rows, &rig.key)["state"]), (Some(0), &json!("due")));

    made(&rig.key, 91 * DAY);
    let (code, rows) = rig.status().await;
    assert_eq!((code, &rows[0]["state"], &rows[0]["file"]), (Some(1), &json!("overdue"), &json!(rig.key)));
    let doctor = rig.place.said(&["doctor"]).await;
    assert!(doctor.contains("warn  credentials") && doctor.contains("too old: 1 login_key"), "{doctor}");

    // What nobody can judge is not well either.
    made(&rig.key, DAY);
    fs::set_permissions(&rig.theirs, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, rows) = rig.status().await;
    assert_eq!((code, &rows[0]["state"]), (Some(1), &json!("unreadable")));
    assert!(rows[0]["why"].as_str().unwrap().contains("0644"), "{}", rows[0]);
    let table = rig.place.tailops(&["credential", "status"]).await;
    let shown = String::from_utf8(table.stdout).unwrap();
    assert!(shown.starts_with("STATE ") && shown.contains("their_key"), "{shown}");
    for secret in ["PRIVATE KEY", "s3cr3t"] {
        assert!(!shown.contains(secret) && !json!(rows).to_string().contains(secret));
    }
    rig.place.refused(2, &["credential", "status", "--all"]).await;
    rig.service.stop().await;
    let refused = rig.place.refused(1, &["credential", "status"]).await;
    assert!(refused.contains("no gateway runs on"), "{refused}");
}

#[tokio::test]
async fn p104_development_limits_no_age_and_still_says_what_cannot_be_used() {
    let rig = Rig::start("development").await;
    made(&rig.key, 4000 * DAY);
    let (code, rows) = rig.status().await;
    assert_eq!((code, &about(&rows, &rig.key)["max_age_s"]), (Some(0), &Value::Null), "{rows:?}");
    fs::remove_file(&rig.theirs).unwrap();
    assert_eq!(rig.status().await.0, Some(1));
    rig.service.stop().await;
}

#[tokio::test]
async fn p104_an_agent_sees_the_ages_of_what_its_tenant_uses_and_no_path() {
    let rig = Rig::start("recommended").await;
    made(&rig.key, 91 * DAY);
    for (engagement, targets) in [("default", json!(["db", "web"])), ("other", json!(["far"]))] {
        let token = rig.place.token(engagement).await;
        let answer = rig.service.call(&token, "gateway_inspect", json!({"sections": ["ages"]})).await;
        let ages = answer.data()["ages"].as_array().unwrap().clone();
        let keys: Vec<&Value> = ages.iter().filter(|row| row["kind"] == "login_key").collect();
        assert_eq!((keys.len(), &keys[0]["targets"]), (1, &targets), "{}", answer.body);
        assert_eq!(keys[0]["state"], if engagement == "default" { "overdue" } else { "ok" });
        assert!(keys[0]["id"].as_str().unwrap().starts_with("SHA256:"), "{}", keys[0]);
        assert!(ages.iter().any(|row| row["kind"] == "token_key" && row["age_s"].is_number()));
        let folder = rig.place.file.parent().unwrap().to_str().unwrap();
        assert!(!answer.body.to_string().contains(folder), "{}", answer.body);
    }
    rig.service.stop().await;
}

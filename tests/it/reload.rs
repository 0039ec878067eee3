//! A configuration is replaced as a whole, with calls in flight kept, or not at all.

use std::{fs, path::Path, process::Command, time::Duration};

use rustix::process::{Signal, kill_process};
use serde_json::json;
use tailops::store::Store;

use crate::{
    child::{BINARY, Prey, Service},
    harness::eventually,
    served::{Place, Served, stderr},
};

const CONFIG: &str = "data_dir = \"DATA\"\nnode.listen = \"127.0.0.1:0\"\nlog.format = \"json\"\n[engagements.default]\n[engagements.other]\n\
    [targets.here]\nkind = \"local\"\nengagement = \"default\"\ncapabilities = [\"system:admin\"]\n";

fn without_other() -> String {
    CONFIG.replace("[engagements.other]\n", "")
}

#[tokio::test]
async fn a_valid_change_is_in_force_at_once_and_on_record() {
    let place = Place::with(CONFIG);
    let service = Served::start(&place).await;
    let (mine, theirs) = (place.token("default").await, place.token("other").await);
    let before = service.digest(&mine).await;
    assert_eq!(service.call(&theirs, "fleet_list", json!({})).await.data()["total"], 0);
    place.write(
        &without_other().replace("[engagements.default]", "[engagements.default]\ntools = [\"gateway_inspect\"]"),
    );
    let said = place.said(&["reload"]).await;
    let after = service.digest(&mine).await;
    assert_ne!(before, after);
    assert!(said.contains(&format!("before  {before}\nafter   {after}")), "{said}");
    assert_eq!(service.call(&theirs, "fleet_list", json!({})).await.code(), "unknown_engagement");
    assert_eq!(service.call(&mine, "fleet_list", json!({})).await.code(), "cross_tenant_denied");
    let said = place.said(&["reload", "--config", place.file.to_str().unwrap()]).await;
    assert!(said.contains("the same configuration"), "{said}");
    let by_file = |file: &Path| Command::new(BINARY).args(["reload", "--config"]).arg(file).output().unwrap();
    assert!(by_file(&place.file).status.success(), "the configuration says where the data is");
    let records = place.records().await;
    let reloads: Vec<_> = records.iter().filter(|record| record["tool"] == "config.reload").collect();
    assert_eq!(reloads.len(), 3);
    assert_eq!(reloads[0]["args"], json!({"before": before, "after": after}));
    assert_eq!((&reloads[0]["status"], &reloads[0]["kind"]), (&json!("ok"), &json!("admin")));
    assert!(reloads[0]["subject"].is_string());
    service.stop().await;
}

#[tokio::test]
async fn an_invalid_change_leaves_everything_as_it_was_and_tells_every_problem() {
    let place = Place::with(CONFIG);
    let service = Served::start(&place).await;
    let (mine, theirs) = (place.token("default").await, place.token("other").await);
    let before = service.digest(&mine).await;
    place.write(&without_other().replace("kind = \"local\"", "kind = \"locl\"\nport = 1"));
    let refused = place.refused(3, &["reload"]).await;
    assert!(refused.contains("targets.here.kind") && refused.contains("targets.here.port"), "{refused}");
    let by_file = Command::new(BINARY).args(["reload", "--config"]).arg(&place.file).output().unwrap();
    assert!(by_file.status.code() == Some(3) && stderr(&by_file).contains("targets.here.port"), "{by_file:?}");
    for problem in ["targets.here.kind", "targets.here.port"] {
        assert!(service.log().contains(problem), "{problem}");
    }
    fs::remove_file(&place.file).unwrap();
    assert!(place.refused(3, &["reload"]).await.contains("tailops.toml"));
    assert_eq!(service.digest(&mine).await, before);
    assert_eq!(service.call(&theirs, "fleet_list", json!({})).await.data()["total"], 0);
    let records = place.records().await;
    let reloads: Vec<_> = records.iter().filter(|record| record["tool"] == "config.reload").collect();
    assert_eq!(reloads.len(), 3, "the service judges, not the command line");
    for reload in reloads {
        assert_eq!((&reload["status"], &reload["code"]), (&json!("failed"), &json!("refused")));
        assert_eq!((&reload["args"]["before"], &reload["args"]["after"]), (&json!(before), &json!(null)));
    }
    service.stop().await;
}

#[tokio::test]
async fn who_may_approve_changes_at_once() {
    let place = Place::with(CONFIG);
    let with = |approvals: &str| {
        place.write(&CONFIG.replace("[engagements.default]", &format!("{approvals}\n[engagements.default]")))
    };
    let service = Served::start(&place).await;
    let token = place.token("default").await;
    let wish = json!({"target": "here", "unit": "ssh.service", "action": "stop", "reason": "a test", "dry_run": false});
    assert_eq!(service.call(&token, "service_control", wish.clone()).await.code(), "approval_unavailable");
    with("[approvals]\nsecond_person = false");
    assert!(place.refused(3, &["reload"]).await.contains("approvals.second_person: may be false only together with"));
    with("[approvals]\napprovers = [\"jan\"]");
    place.said(&["reload"]).await;
    assert_ne!(service.call(&token, "service_control", wish.clone()).await.code(), "approval_unavailable");
    with("[approvals]\napprovers = [\"jan\"]\nstrength = \"signature\"");
    place.said(&["reload"]).await;
    let unsigned = service.call(&token, "service_control", wish.clone()).await;
    assert_eq!(unsigned.code(), "approval_unavailable");
    assert!(
        unsigned.content()["message"].as_str().unwrap().contains("no approver has an enrolled key"),
        "{unsigned:?}"
    );
    service.stop().await;
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_nothing_is_half_applied() {
    let place = Place::with(CONFIG);
    let service = Served::start(&place).await;
    let (mine, theirs) = (place.token("default").await, place.token("other").await);
    let before = service.digest(&mine).await;
    let change = "http.max_body = \"1 MB\"\nsessions.max = 9\nexec.concurrency = 1\nlimits.calls_burst = 9\n";
    let text = without_other().replace("127.0.0.1:0", "[::1]:0").replace("\"json\"", "\"text\"");
    place.write(&format!("{change}{text}"));
    let refused = place.refused(3, &["reload"]).await;
    for key in ["node.listen", "http.max_body", "sessions.max", "exec.concurrency", "limits.calls_burst", "log.format"]
    {
        assert!(refused.contains(&format!("{key}: a change of this setting needs a restart")), "{key}: {refused}");
    }
    place.write(&without_other().replace("DATA", "/nowhere"));
    assert!(place.refused(3, &["reload"]).await.contains("data_dir: a change"));
    assert_eq!(service.digest(&mine).await, before);
    assert_eq!(service.call(&theirs, "fleet_list", json!({})).await.status, 200, "the engagement is still there");
    service.stop().await;
}

#[tokio::test]
async fn a_call_in_flight_goes_on_under_the_rules_it_began_with() {
    let place = Place::with(CONFIG);
    let service = Served::start(&place).await;
    let token = place.token("default").await;
    let mut prey = Prey::stubborn();
    let mut arguments = prey.arguments("TERM");
    arguments["target"] = json!("here");
    let store = Store::open(&place.data).await.unwrap();
    let reload = async {
        eventually("the call runs", async || !store.leaf_reader().open_intents().await.unwrap().is_empty()).await;
        place.write(&CONFIG.replace("[targets.here]", "[targets.there]"));
        place.said(&["reload"]).await;
        // Condition of this test: the call was in flight all the while.
        store.leaf_reader().open_intents().await.unwrap().len()
    };
    let (answer, open) = tokio::join!(service.call(&token, "process_signal", arguments.clone()), reload);
    assert_eq!(open, 1, "the call had ended before the reload did");
    assert!(answer.data()["alive_after_ms"].is_u64() && prey.lives(), "{}", answer.body);
    assert_eq!(service.call(&token, "process_signal", arguments).await.code(), "unknown_target");
    store.close().await;
    service.stop().await;
}

#[tokio::test]
async fn a_hangup_alone_reloads() {
    let place = Place::with(CONFIG);
    let service = Served::start(&place).await;
    let token = place.token("other").await;
    place.write(&without_other());
    kill_process(service.pid(), Signal::HUP).unwrap();
    let denied = async || service.call(&token, "fleet_list", json!({})).await.code() == "unknown_engagement";
    eventually("the engagement is gone", denied).await;
    let records = place.records().await;
    assert!(records.iter().any(|record| record["tool"] == "config.reload" && record["subject"] == "signal"));
    service.stop().await;
}

#[tokio::test]
async fn each_of_many_reloads_gets_its_answer() {
    let place = Place::with(CONFIG);
    let service = Served::start(&place).await;
    let all = futures_util::future::join_all((0..6).map(|_| place.said(&["reload"]))).await;
    assert!(all.iter().all(|said| said.starts_with("reloaded")), "{all:?}");
    let store = Store::open(&place.data).await.unwrap();
    assert_eq!(store.asked_reloads().await.unwrap(), []);
    store.close().await;
    service.stop().await;
}

#[tokio::test]
async fn only_the_service_itself_is_ever_signalled() {
    let place = Place::with(CONFIG);
    assert!(place.refused(1, &["reload"]).await.contains("no tailops data"));
    place.token("default").await;
    assert!(place.refused(1, &["reload"]).await.contains("no service runs"));
    let mut prey = Prey::sleeping();
    let arguments = prey.arguments("HUP");
    let (pid, ticks) = (&arguments["pid"], arguments["start_ticks"].as_u64().unwrap());
    // A process that had the number later, and one that holds no lock.
    for (ticks, why) in [(ticks + 1, "no service runs"), (ticks, "has just ended")] {
        fs::write(place.data.join("lock"), format!("{pid} {ticks}\n")).unwrap();
        let refused = place.refused(1, &["reload"]).await;
        assert!(refused.contains(why), "{refused}");
    }
    for odd in ["", "1", "-1 0", "0 0", "x y", "99999999999 1"] {
        fs::write(place.data.join("lock"), odd).unwrap();
        assert!(place.refused(1, &["reload"]).await.contains("no service runs"), "{odd:?}");
    }
    assert!(prey.lives());
}

#[tokio::test]
async fn a_service_of_development_has_nothing_to_reload() {
    let place = Place::with("");
    let service = Service::start(&place.data).await;
    assert!(place.refused(3, &["reload"]).await.contains("--dev"));
    assert_eq!(service.call("fleet_list", json!({})).await.unwrap().status, 200);
    // Hung up on by its terminal, it stops.
    kill_process(service.pid(), Signal::HUP).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(30), service.ended()).await.unwrap();
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test]
async fn a_pinned_configuration_is_reloaded_only_as_pinned() {
    let place =
        Place::with(&format!("{CONFIG}[targets.x]\nkind = \"local\"\nengagement = \"other\"\ncapabilities = []\n"));
    let file = place.file.to_str().unwrap().to_owned();
    place.said(&["config", "pin", &file]).await;
    let service = Served::start(&place).await;
    let token = place.token("other").await;
    place.write(&without_other());
    let refused = place.refused(3, &["reload"]).await;
    assert!(refused.contains("tailops.toml: was altered after it was pinned"), "{refused}");
    assert_eq!(service.call(&token, "fleet_list", json!({})).await.data()["total"], 1);
    place.said(&["config", "pin", &file]).await;
    place.said(&["reload"]).await;
    assert_eq!(service.call(&token, "fleet_list", json!({})).await.code(), "unknown_engagement");
    service.stop().await;
}

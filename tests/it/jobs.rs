//! Jobs through the whole gateway, on a host behind SSH: they outlive their call, belong to who started them, can be
//! stopped, and are found again by a gateway that was started since.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tailops::{config::Engagement, model::JobState, store::Store};

use crate::{
    bridged::{Bridge, legacy_call, modern_call, token_file, watched},
    harness::{Answer, Gateway, Grant, eventually, records},
    systemd::Host,
};

async fn gateway(host: &Host) -> Gateway {
    let target = host.target();
    Gateway::with(|config| {
        config.targets.push(target);
        config.engagements.push(Engagement { id: "other".into(), tools: None, data_root: None });
    })
    .await
}

async fn refresh(gateway: &Gateway, token: &str) -> Answer {
    gateway.call(token, "package_refresh", json!({"target": "web"})).await
}

/// The records of the ends of jobs.
pub async fn ends(store: &Store) -> Vec<Value> {
    records(store, true).await.into_iter().filter(|record| record["kind"] == "job").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_outlives_its_call_and_its_end_is_on_record() {
    let host = Host::start().await;
    let gateway = gateway(&host).await;
    let token = gateway.admin().await;
    let started = refresh(&gateway, &token).await;
    assert_eq!(started.data()["job"]["state"], "running", "{}", started.body);
    let id = started.data()["job"]["id"].as_str().unwrap().to_owned();
    assert!(started.content()["changed"].is_null());
    assert!(host.kept("started").starts_with(&format!("tailops-{id}.service apt-get update")));

    let listed = gateway.call(&token, "job_inspect", json!({})).await;
    assert_eq!((&listed.data()["jobs"][0]["id"], &listed.data()["jobs"][0]["state"]), (&json!(id), &json!("running")));
    let seen = gateway.call(&token, "job_inspect", json!({"job_id": id})).await;
    assert_eq!(seen.data()["log"][0]["text"], "fetching", "{}", seen.body);

    // Nobody else's: another subject, another engagement, and an id that nobody has look the same.
    let other = gateway.mint(Grant { subject: "somebody".into(), ..Grant::default() }).await;
    let foreign = gateway.mint(Grant { engagement: "other".into(), ..Grant::default() }).await;
    for token in [&other, &foreign] {
        let refused = gateway.call(token, "job_inspect", json!({"job_id": id})).await;
        assert_eq!(refused.code(), "not_found", "{refused:?}");
        let wish = json!({"job_id": id, "reason": "it is not mine"});
        assert_eq!(gateway.call(token, "job_cancel", wish).await.code(), "not_found");
        assert_eq!(gateway.call(token, "job_inspect", json!({})).await.data()["jobs"], json!([]));
    }
    assert_eq!(host.units(), 1);

    let wait = gateway.call(&token, "job_inspect", json!({"job_id": id, "wait_s": 50}));
    let open = async {
        tokio::task::yield_now().await;
        host.open_gate();
    };
    let (waited, ()) = tokio::join!(wait, open);
    let job = &waited.data()["jobs"][0];
    assert_eq!(
        (&job["state"], &job["exit_status"], &job["result"]),
        (&json!("succeeded"), &json!(0), &json!("success"))
    );
    let log = waited.data()["log"].as_array().unwrap();
    assert!(log.last().unwrap()["text"].as_str().unwrap().starts_with("Get:1 "), "{log:?}");

    eventually("its end is recorded", || async { ends(gateway.store()).await.len() == 1 }).await;
    let end = ends(gateway.store()).await.remove(0);
    assert_eq!(
        (&end["args"]["job_id"], &end["status"], &end["tool"]),
        (&json!(id), &json!("ok"), &json!("package_refresh"))
    );
    assert_eq!(end["correlation_id"], started.content()["correlation_id"]);
    eventually("its unit is taken away", || async { host.units() == 0 }).await;
    assert_eq!(host.kept("started").lines().count(), 1);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn its_owner_can_stop_it_and_it_is_seen_to_have_stopped() {
    let host = Host::start().await;
    let gateway = gateway(&host).await;
    let token = gateway.admin().await;
    let id = refresh(&gateway, &token).await.data()["job"]["id"].as_str().unwrap().to_owned();
    let wish = |dry: bool| json!({"job_id": id, "dry_run": dry, "reason": "it takes too long"});
    let dry = gateway.call(&token, "job_cancel", wish(true)).await;
    assert_eq!((&dry.data()["job"]["state"], host.units()), (&json!("running"), 1));

    // A host that lets nobody stop it: the job goes on, and the answer says what would help.
    std::fs::write(host.path("forbidden"), "").unwrap();
    let denied = gateway.call(&token, "job_cancel", wish(false)).await;
    assert_eq!((denied.code(), host.units()), ("permission_denied", 1), "{denied:?}");
    let hint = denied.content()["hint"].as_str().unwrap();
    assert!(hint.contains(&format!("/usr/bin/systemctl stop --no-ask-password -- tailops-{id}.service")), "{hint}");
    let seen = gateway.call(&token, "job_inspect", json!({"job_id": id, "lines": 0})).await;
    assert_eq!(
        (&seen.data()["jobs"][0]["state"], &seen.data()["jobs"][0]["cancelled"]),
        (&json!("running"), &json!(false))
    );
    std::fs::remove_file(host.path("forbidden")).unwrap();

    let stopped = gateway.call(&token, "job_cancel", wish(false)).await;
    assert_eq!((&stopped.data()["job"]["state"], &stopped.data()["was"]), (&json!("cancelled"), &json!("running")));
    assert_eq!((stopped.content()["changed"].as_bool(), host.units()), (Some(true), 0));
    let end = ends(gateway.store()).await.remove(0);
    assert_eq!((&end["status"], &end["args"]["state"]), (&json!("cancelled"), &json!("cancelled")));
    assert!(end["args"]["cancelled_by"].as_str().unwrap().starts_with("agent ("), "{end}");
    // Once more: it had ended, and nothing is done.
    let again = gateway.call(&token, "job_cancel", wish(false)).await;
    assert_eq!(again.content()["changed"], false);
    assert_eq!(ends(gateway.store()).await.len(), 1);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_gateway_that_was_started_since_sees_it_to_its_end() {
    let host = Host::start().await;
    let first = gateway(&host).await;
    let token = first.admin().await;
    let id = refresh(&first, &token).await.data()["job"]["id"].as_str().unwrap().to_owned();
    let (directory, config) = first.stop().await;
    host.open_gate();
    let second = Gateway::on(directory, config).await;
    eventually("the job is seen to its end", || async {
        second.store().job(&id).await.unwrap().unwrap().state == JobState::Succeeded
    })
    .await;
    eventually("its unit is taken away", || async { host.units() == 0 }).await;
    assert_eq!(ends(second.store()).await.len(), 1);
    assert_eq!(host.kept("started").lines().count(), 1);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_waits_is_told_how_long_and_answered_as_soon_as_it_ends() {
    let host = Host::start().await;
    let gateway = gateway(&host).await;
    let token = gateway.admin().await;
    let file = token_file(gateway.directory.path(), &token);
    for legacy in [true, false] {
        host.close_gate();
        let id = refresh(&gateway, &token).await.data()["job"]["id"].clone();
        let mut bridge = Bridge::start(&gateway.url("/mcp"), &file);
        if legacy {
            bridge.initialize().await;
        }
        let call = if legacy { legacy_call } else { modern_call };
        let began = Instant::now();
        bridge.send(watched(call(1, "job_inspect", json!({"job_id": id, "wait_s": 50})), "wait")).await;
        let (mut told, mut last) = (0, -1.0);
        let answer = loop {
            let message = bridge.next().await;
            if message["id"] == 1 {
                break message;
            }
            let params = &message["params"];
            assert_eq!(
                (&message["method"], &params["progressToken"]),
                (&json!("notifications/progress"), &json!("wait"))
            );
            assert!(params["message"].as_str().unwrap().starts_with("running on web"), "{message}");
            assert!(params["progress"].as_f64().unwrap() > last, "{message}");
            last = params["progress"].as_f64().unwrap();
            told += 1;
            if told == 3 {
                host.open_gate();
            }
        };
        let job = &answer["result"]["structuredContent"]["data"]["jobs"][0];
        assert_eq!((&job["id"], &job["state"]), (&id, &json!("succeeded")), "{answer}");
        assert!(told >= 3 && began.elapsed() < Duration::from_secs(30), "{told} in {:?}", began.elapsed());
        let (_, rest) = bridge.end().await;
        assert!(rest.is_empty(), "nothing comes after the answer: {rest:?}");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_wait_that_is_over_says_that_the_job_goes_on() {
    let host = Host::start().await;
    let gateway = gateway(&host).await;
    let token = gateway.admin().await;
    let id = refresh(&gateway, &token).await.data()["job"]["id"].clone();
    let began = Instant::now();
    let waited = gateway.call(&token, "job_inspect", json!({"job_id": id, "wait_s": 1, "lines": 0})).await;
    assert_eq!(waited.data()["jobs"][0]["state"], "running");
    assert!(began.elapsed() >= Duration::from_secs(1), "it did not wait");
    gateway.stop().await;
}

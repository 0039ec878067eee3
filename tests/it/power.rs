//! A reboot and a power-off of a host behind SSH through the whole gateway: previewed, agreed to, scheduled once, and
//! followed until the host shows another boot, is off, is called off, or does not come back.

use std::{fs, num::NonZeroU32, time::Duration};

use serde_json::{Value, json};
use tailops::{model::JobState, store::JobRow};

use crate::{
    harness::{Answer, Gateway, Grant, eventually},
    jobs::ends,
    people::{People, Visitor},
    systemd::{BOOTS, Host},
};

/// A gateway on a tailnet with the host as its target `web`, an agent, and somebody who may agree.
struct Scene {
    host: Host,
    gateway: Gateway,
    agent: Visitor,
    bob: Visitor,
    token: String,
}

impl Scene {
    async fn new() -> Self {
        let host = Host::start().await;
        let target = host.target();
        let gateway = Gateway::with(|config| {
            config.targets.push(target);
            config.limits.critical_per_hour = NonZeroU32::new(100).unwrap();
        })
        .await;
        let people = People::of(&gateway);
        let (agent, bob) = (people.agent("agent"), people.approver("bob", json!(true)));
        let token = gateway.mint(Grant::bound("admin", "tag:mcp-client")).await;
        Self { host, gateway, agent, bob, token }
    }

    async fn call(&self, tool: &str, arguments: Value) -> Answer {
        self.agent.call(&self.token, tool, arguments).await
    }

    /// Asks for it, and lets bob agree: the call as it may run now.
    async fn agreed(&self, action: &str) -> Value {
        let preview = json!({"target": "web", "action": action, "reason": "a new kernel"});
        let preview = self.call("host_power_control", preview).await;
        assert_eq!((&preview.data()["boot_id"], &preview.data()["blockers"]), (&json!(BOOTS[0]), &json!([])));
        let mut wish = json!({
            "target": "web", "action": action, "delay_min": 1, "boot_id": BOOTS[0], "dry_run": false,
            "reason": "a new kernel",
        });
        let asked = self.call("host_power_control", wish.clone()).await;
        assert_eq!(asked.code(), "approval_required", "{asked:?}");
        let id = asked.content()["approval_id"].as_str().unwrap();
        let answer = self.bob.decide(id, "approve").await;
        assert_eq!((answer.status, &answer.body["state"]), (200, &json!("approved")), "{answer:?}");
        assert_eq!(self.host.kept("commands"), "", "nothing runs before the call comes back");
        wish["approval_id"] = json!(id);
        wish
    }

    /// Has it scheduled: the answer, and the job's id.
    async fn scheduled(&self, action: &str) -> (Answer, String) {
        let wish = self.agreed(action).await;
        let answer = self.call("host_power_control", wish).await;
        assert_eq!((&answer.data()["scheduled"]["mode"], &answer.content()["changed"]), (&json!(action), &json!(true)));
        let id = answer.data()["job"]["id"].as_str().unwrap().to_owned();
        (answer, id)
    }

    async fn row(&self, id: &str) -> JobRow {
        self.gateway.store().job(id).await.unwrap().unwrap()
    }

    /// Waits until the follower has seen it so, and its record.
    async fn followed(&self, id: &str, state: JobState) -> Value {
        eventually(&format!("the job is {state:?}"), || async { self.row(id).await.state == state }).await;
        eventually("its end is recorded", || async { ends(self.gateway.store()).await.len() == 1 }).await;
        ends(self.gateway.store()).await.remove(0)
    }

    async fn inspected(&self, id: &str) -> Value {
        self.call("job_inspect", json!({"job_id": id})).await.data()["jobs"][0].clone()
    }

    async fn cancelled(&self, id: &str) -> Answer {
        self.call("job_cancel", json!({"job_id": id, "reason": "not tonight"})).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_approved_reboot_is_proven_by_another_boot() {
    let scene = Scene::new().await;
    let (answer, id) = scene.scheduled("reboot").await;
    assert_eq!(scene.host.kept("commands"), "shutdown -r +1\n");
    let job = scene.inspected(&id).await;
    assert_eq!((&job["state"], &job["old_boot_id"]), (&json!("running"), &json!(BOOTS[0])));
    assert!(job["due_at"].is_string() && job["new_boot_id"].is_null() && job["down_s"].is_null(), "{job}");

    scene.gateway.clock.advance(Duration::from_secs(100));
    scene.host.reboot(20);
    let end = scene.followed(&id, JobState::Succeeded).await;
    assert_eq!((&end["status"], &end["tool"]), (&json!("ok"), &json!("host_power_control")));
    assert_eq!((&end["args"]["new_boot_id"], &end["args"]["result"]), (&json!(BOOTS[1]), &json!("rebooted")));
    assert_eq!(end["correlation_id"], answer.content()["correlation_id"]);
    let (job, row) = (scene.inspected(&id).await, scene.row(&id).await);
    assert_eq!((&job["old_boot_id"], &job["new_boot_id"]), (&json!(BOOTS[0]), &json!(BOOTS[1])));
    // It has been up for 20 seconds: it was down from when it was last seen until then.
    let away = row.ended_at.unwrap().duration_since(row.seen_at.unwrap()).as_secs_f64() - 20.0;
    assert_eq!(job["down_s"].as_i64().unwrap(), away.max(0.0).floor() as i64, "{row:?}");

    // It is over: there is nothing to call off, least of all what the new boot plans.
    let late = scene.cancelled(&id).await;
    assert_eq!((&late.data()["was"], &late.content()["changed"]), (&json!("succeeded"), &json!(false)));
    assert_eq!(scene.host.kept("commands"), "shutdown -r +1\n");
    assert_eq!(ends(scene.gateway.store()).await.len(), 1);
    scene.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reboot_can_be_called_off_before_it_comes() {
    let scene = Scene::new().await;
    let (_, id) = scene.scheduled("reboot").await;
    // A host that lets nobody: it stays planned, and the answer says what would help.
    fs::write(scene.host.path("forbidden"), "").unwrap();
    let denied = scene.cancelled(&id).await;
    assert_eq!(denied.code(), "permission_denied", "{denied:?}");
    assert!(denied.content()["hint"].as_str().unwrap().contains("/usr/sbin/shutdown -c"), "{denied:?}");
    assert_eq!(scene.inspected(&id).await["state"], "running");
    fs::remove_file(scene.host.path("forbidden")).unwrap();

    let answer = scene.cancelled(&id).await;
    assert_eq!((&answer.data()["job"]["state"], &answer.content()["changed"]), (&json!("cancelled"), &json!(true)));
    assert_eq!(scene.host.kept("commands"), "shutdown -r +1\nshutdown -c\nshutdown -c\n");
    assert_eq!(scene.host.kept("scheduled"), "");
    let end = scene.followed(&id, JobState::Cancelled).await;
    assert!(end["args"]["cancelled_by"].as_str().unwrap().starts_with("agent ("), "{end}");
    scene.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn somebody_on_the_host_who_calls_it_off_is_noticed() {
    let scene = Scene::new().await;
    let (_, id) = scene.scheduled("poweroff").await;
    assert_eq!(scene.host.kept("commands"), "shutdown -P +1\n");
    fs::remove_file(scene.host.path("scheduled")).unwrap();
    let end = scene.followed(&id, JobState::Cancelled).await;
    assert_eq!((&end["args"]["result"], &end["args"]["cancelled_by"]), (&json!("called_off"), &Value::Null));
    scene.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_host_that_does_not_come_back_is_given_up_after_half_an_hour() {
    let scene = Scene::new().await;
    let (_, id) = scene.scheduled("reboot").await;
    scene.host.sshd.vanish();
    scene.gateway.clock.advance(Duration::from_secs(60 + 29 * 60));
    assert_eq!(scene.inspected(&id).await["state"], "running", "it may still come back");
    scene.gateway.clock.advance(Duration::from_secs(2 * 60));
    let job = scene.inspected(&id).await;
    assert_eq!((&job["state"], &job["result"]), (&json!("lost"), &json!("not_back")));
    let end = scene.followed(&id, JobState::Lost).await;
    assert_eq!((&end["status"], &end["code"]), (&json!("interrupted"), &json!("job_lost")));
    scene.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_host_that_was_to_go_off_and_is_not_reached_is_off() {
    let scene = Scene::new().await;
    let (_, id) = scene.scheduled("poweroff").await;
    scene.host.sshd.vanish();
    assert_eq!(scene.inspected(&id).await["state"], "running", "it is not time yet");
    scene.gateway.clock.advance(Duration::from_secs(60 + 61));
    let end = scene.followed(&id, JobState::Succeeded).await;
    assert_eq!((&end["args"]["result"], &end["status"]), (&json!("unreachable"), &json!("ok")));
    scene.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_yes_does_not_reach_what_the_host_has_become_since() {
    let scene = Scene::new().await;
    let wish = scene.agreed("reboot").await;
    let dpkg = scene.host.path("processes/7/comm");
    fs::create_dir_all(dpkg.parent().unwrap()).unwrap();
    fs::write(&dpkg, "dpkg\n").unwrap();
    let refused = scene.call("host_power_control", wish.clone()).await;
    assert_eq!(refused.code(), "precondition_failed", "{refused:?}");
    assert!(refused.content()["message"].as_str().unwrap().contains("dpkg"), "{refused:?}");
    fs::remove_file(&dpkg).unwrap();
    let backup = r#"["shutdown:sleep","nightly","backup runs","block",0,7]"#;
    fs::write(scene.host.path("inhibitors"), backup).unwrap();
    let refused = scene.call("host_power_control", wish.clone()).await;
    assert_eq!(refused.code(), "precondition_failed", "{refused:?}");
    fs::remove_file(scene.host.path("inhibitors")).unwrap();
    // Another boot is not the one that was agreed to end.
    scene.host.reboot(600);
    let refused = scene.call("host_power_control", wish).await;
    assert_eq!(refused.code(), "precondition_failed", "{refused:?}");
    assert_eq!(scene.host.kept("commands"), "");
    assert_eq!(scene.call("job_inspect", json!({})).await.data()["jobs"], json!([]));
    scene.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_host_that_lets_nobody_schedule_it_has_no_job() {
    let scene = Scene::new().await;
    let wish = scene.agreed("reboot").await;
    fs::write(scene.host.path("forbidden"), "").unwrap();
    let denied = scene.call("host_power_control", wish).await;
    assert_eq!(denied.code(), "permission_denied", "{denied:?}");
    assert!(denied.content()["hint"].as_str().unwrap().contains("/usr/sbin/shutdown -r +1"), "{denied:?}");
    assert_eq!(scene.host.kept("commands"), "shutdown -r +1\n");
    assert_eq!(scene.call("job_inspect", json!({})).await.data()["jobs"], json!([]));
    // The call's own record says it; there is no job whose end another one could tell.
    assert_eq!(ends(scene.gateway.store()).await.len(), 0);
    scene.gateway.stop().await;
}

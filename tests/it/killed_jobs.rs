//! SIGKILL of the gateway around the start of a job: the host starts it at most once, and what became of it there is what
//! the next gateway finds and records, once.

use std::{os::unix::process::ExitStatusExt, path::PathBuf, time::Duration};

use serde_json::{Value, json};
use tailops::{
    config::Config,
    model::JobState,
    store::{JobRow, Store, TargetRow},
};
use tempfile::TempDir;

use crate::{
    child::{Service, directory, log_of, open_intents},
    harness::{Gateway, eventually},
    jobs::ends,
    systemd::{BOOTS, Host},
};

/// The data of a gateway whose target `web` is the host.
struct Scene {
    directory: TempDir,
    data: PathBuf,
    host: Host,
}

impl Scene {
    async fn new() -> Self {
        let host = Host::start().await;
        let (directory, data) = directory();
        Service::start(&data).await.kill().await;
        let store = Store::open(&data).await.unwrap();
        let mut change = store.change_targets().await.unwrap();
        let row = TargetRow {
            id: "web".into(),
            engagement: "default".into(),
            entry: host.entry().to_string(),
            changed_at: "2026-11-21T12:00:00Z".into(),
            changed_by: "test".into(),
        };
        change.put(&row).await.unwrap();
        change.commit().await.unwrap();
        store.close().await;
        Self { directory, data, host }
    }

    /// A gateway starts a job and dies at `step`.
    async fn die(&self, step: &str) {
        let service = Service::dying_at(&self.data, step).await;
        let answer = service.call("package_refresh", json!({"target": "web"})).await;
        assert!(answer.is_none(), "{step}: answered all the same: {answer:?}");
        assert_eq!(service.ended().await.signal(), Some(9), "{step}");
    }

    /// How often the host started a job.
    fn starts(&self) -> usize {
        starts(&self.host)
    }

    /// The one job there is.
    async fn job(&self) -> JobRow {
        let store = Store::open(&self.data).await.unwrap();
        let mut jobs = store.jobs_of("default", "dev", None, 10).await.unwrap();
        store.close().await;
        assert_eq!(jobs.len(), 1, "{jobs:?}");
        jobs.remove(0)
    }

    /// Waits for the job to be so.
    async fn becomes(&self, state: JobState) {
        eventually(&format!("the job is {state:?}"), || async { self.job().await.state == state }).await;
    }

    /// Waits until it is over, on record and tidied up after.
    async fn ends(&self, state: JobState) {
        self.becomes(state).await;
        eventually("it is on record", || async {
            let job = self.job().await;
            job.recorded && job.cleaned
        })
        .await;
    }

    /// What the log says of the one job's end, after two more gateways have come and gone.
    async fn recorded(&self) -> Value {
        for _ in 0..2 {
            Service::start(&self.data).await.kill().await;
        }
        let leaves = log_of(&self.data).await;
        assert!(open_intents(&leaves).is_empty(), "{leaves:?}");
        let of_call = |kind: &str, status: &str| {
            let mut leaves = leaves.iter().filter(|leaf| leaf["tool"] == "package_refresh");
            let found = leaves.find(|leaf| leaf["kind"] == kind && leaf["status"] == status).cloned();
            found.unwrap_or_else(|| panic!("no {kind} that is {status}"))
        };
        let (begun, closed) = (of_call("intent", "pending"), of_call("outcome", "interrupted"));
        assert_eq!(begun["correlation_id"], closed["correlation_id"]);
        let mut ends: Vec<&Value> = leaves.iter().filter(|leaf| leaf["kind"] == "job").collect();
        assert_eq!(ends.len(), 1, "{ends:?}");
        let end = ends.remove(0).clone();
        assert_eq!((&end["correlation_id"], &end["target"]), (&begun["correlation_id"], &json!("web")));
        end
    }

    /// A gateway on these data that believes it is so much later.
    async fn later(self, by: Duration) -> (Gateway, Host) {
        let config = Config::development(self.data, "127.0.0.1:0".parse().unwrap());
        let gateway = Gateway::on(self.directory, config).await;
        gateway.clock.advance(by);
        (gateway, self.host)
    }
}

fn starts(host: &Host) -> usize {
    host.kept("started").lines().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_that_runs_when_the_gateway_dies_is_adopted_and_ends_once() {
    for step in ["job-started", "job-seen", "before-outcome-commit"] {
        let scene = Scene::new().await;
        scene.die(step).await;
        let expected = if step == "job-started" { JobState::Starting } else { JobState::Running };
        assert_eq!((scene.starts(), scene.job().await.state), (1, expected), "{step}");

        let service = Service::start(&scene.data).await;
        scene.becomes(JobState::Running).await;
        let listed = service.call("job_inspect", json!({})).await.unwrap();
        assert_eq!(listed.data()["jobs"][0]["state"], "running", "{step}: its owner sees it again");
        scene.host.open_gate();
        scene.ends(JobState::Succeeded).await;
        eventually("its unit is taken away", || async { scene.host.units() == 0 }).await;
        service.kill().await;
        let end = scene.recorded().await;
        assert_eq!((&end["status"], &end["args"]["state"]), (&json!("ok"), &json!("succeeded")), "{step}: {end}");
        assert_eq!(scene.starts(), 1, "{step}: it ran again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_that_ends_while_no_gateway_is_there_is_seen_to_have_ended() {
    let scene = Scene::new().await;
    scene.die("job-started").await;
    scene.host.open_gate();
    let unit = format!("units/tailops-{}.service/state", scene.job().await.id);
    eventually("it ends", || async { scene.host.kept(&unit).starts_with("active exited") }).await;
    let service = Service::start(&scene.data).await;
    scene.ends(JobState::Succeeded).await;
    service.kill().await;
    assert_eq!(scene.recorded().await["args"]["exit_status"], 0);
    assert_eq!(scene.starts(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_gateway_that_is_killed_while_the_host_starts_the_job_finds_it() {
    let scene = Scene::new().await;
    let service = Service::start(&scene.data).await;
    let kill = async {
        eventually("the host starts it", || async { scene.starts() == 1 }).await;
        rustix::process::kill_process(service.pid(), rustix::process::Signal::KILL).unwrap();
    };
    let (answer, ()) = tokio::join!(service.call("package_refresh", json!({"target": "web"})), kill);
    assert!(answer.is_none(), "{answer:?}");
    assert_eq!(service.ended().await.signal(), Some(9));
    assert_eq!(scene.job().await.state, JobState::Starting);
    let service = Service::start(&scene.data).await;
    scene.becomes(JobState::Running).await;
    scene.host.open_gate();
    scene.ends(JobState::Succeeded).await;
    service.kill().await;
    assert_eq!(scene.recorded().await["args"]["state"], "succeeded");
    assert_eq!(scene.starts(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_that_was_only_announced_never_starts_and_that_is_not_said_too_early() {
    let scene = Scene::new().await;
    scene.die("job-opened").await;
    let service = Service::start(&scene.data).await;
    let asked = scene.host.sshd.seen.commands.lock().unwrap().len();
    eventually("the host is asked for it", || async { scene.host.sshd.seen.commands.lock().unwrap().len() > asked })
        .await;
    // Its script could still be on its way to the host.
    assert_eq!(scene.job().await.state, JobState::Starting);
    service.kill().await;

    let id = scene.job().await.id;
    let (gateway, host) = scene.later(Duration::from_secs(26)).await;
    eventually("it is given up", || async { ends(gateway.store()).await.len() == 1 }).await;
    let end = ends(gateway.store()).await.remove(0);
    assert_eq!((&end["code"], &end["args"]["job_id"]), (&json!("job_not_started"), &json!(id)), "{end}");
    assert_eq!((&end["args"]["state"], starts(&host)), (&json!("not_started"), 0));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_that_a_reboot_ended_meanwhile_is_lost() {
    let scene = Scene::new().await;
    scene.die("job-seen").await;
    scene.host.reboot(5);
    let service = Service::start(&scene.data).await;
    scene.ends(JobState::Lost).await;
    service.kill().await;
    let end = scene.recorded().await;
    assert_eq!((&end["status"], &end["code"]), (&json!("interrupted"), &json!("job_lost")));
    assert_eq!((&end["args"]["result"], &end["args"]["new_boot_id"]), (&json!("rebooted"), &json!(BOOTS[1])));
    assert_eq!(scene.starts(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_that_nobody_saw_start_is_lost_too_and_not_called_never_started() {
    let scene = Scene::new().await;
    scene.die("job-started").await;
    scene.host.reboot(5);
    let (gateway, host) = scene.later(Duration::from_secs(26)).await;
    eventually("it is given up", || async { ends(gateway.store()).await.len() == 1 }).await;
    let end = ends(gateway.store()).await.remove(0);
    assert_eq!((&end["code"], &end["args"]["result"]), (&json!("job_lost"), &json!("rebooted")), "{end}");
    assert_eq!(starts(&host), 1);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_gateway_that_dies_while_it_records_the_end_does_not_record_it_twice() {
    let scene = Scene::new().await;
    scene.host.open_gate();
    scene.die("job-started").await;
    let service = Service::dying_at(&scene.data, "job-recorded").await;
    assert_eq!(service.ended().await.signal(), Some(9));
    let job = scene.job().await;
    assert_eq!((job.state, job.recorded), (JobState::Succeeded, false));
    let service = Service::start(&scene.data).await;
    scene.ends(JobState::Succeeded).await;
    service.kill().await;
    assert_eq!(scene.recorded().await["args"]["job_id"], json!(job.id));
    assert_eq!(scene.starts(), 1);
}

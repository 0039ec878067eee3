//! Work that outlives the call, on a real systemd: it goes on without the gateway and without the network, is followed to
//! its end by the next gateway, and is gone from the host when it is cancelled.

use serde_json::{Value, json};

use super::{
    Fleet, lend, of,
    packages::{installed, stock},
};
use crate::{host::Host, wait::until};

/// What a call has to say to install the package that takes until it is woken: what was shown of it, agreed to.
#[track_caller]
fn wanted(fleet: &Fleet, host: &Host) -> Value {
    stock(fleet, host);
    let mut wanted = json!({"action": "install", "packages": [{"name": "lab-slow"}], "reason": "the test wants it"});
    let shown = fleet.call("package_change", of(host, wanted.clone()));
    wanted["dry_run"] = false.into();
    wanted["plan_sha256"] = shown.data()["plan_sha256"].clone();
    of(host, wanted)
}

/// Asks for that package, and returns the id of the job once its call has ended before it.
#[track_caller]
fn start(fleet: &Fleet, host: &Host) -> String {
    let mut entry = fleet.entry(host);
    // What is left for waiting is some seconds.
    entry["constraints"]["timeout"] = 25.into();
    fleet.enrol(&[(host.name(), entry)]);
    let answer = fleet.call_approved("package_change", wanted(fleet, host));
    let job = &answer.data()["job"];
    assert_eq!(job["state"], "running", "{}", answer.body);
    let id = job["id"].as_str().unwrap().to_owned();
    assert_eq!(host.sh("cat /root/slow"), "installing");
    assert!(is_active(host, &id));
    id
}

fn is_active(host: &Host, id: &str) -> bool {
    host.try_sh(&format!("systemctl is-active --quiet tailops-{id}.service")).status.success()
}

/// Whether a record is that of the end of such a job. There are those of other tools, which it takes to get there.
fn is_end(record: &Value) -> bool {
    record["kind"] == "job" && record["tool"] == "package_change"
}

/// Every unit of a job that the host's systemd knows.
fn units(host: &Host) -> String {
    host.sh("systemctl list-units --all --plain --no-legend 'tailops-*'")
}

#[track_caller]
fn inspected(fleet: &Fleet, id: &str, wait_s: u32) -> Value {
    let answer = fleet.call("job_inspect", json!({"job_id": id, "wait_s": wait_s}));
    answer.data()["jobs"][0].clone()
}

#[test]
fn a_job_goes_on_without_the_gateway_and_the_next_one_sees_its_end() {
    lend(|fleet: &mut Fleet| {
        let id = start(fleet, &fleet.web2);
        // systemd itself does not start it twice.
        let host = &fleet.web2;
        let again = host.try_sh(&format!("systemd-run --quiet --unit=tailops-{id} -p RemainAfterExit=yes /bin/true"));
        assert!(!again.status.success(), "the same job was started again");

        let Fleet { gateway, ops, web2: host, .. } = &mut *fleet;
        gateway.again(&ops.machine);
        assert!(is_active(host, &id), "the job ended with the gateway");
        assert_eq!(installed(host), "");
        host.sh("touch /root/wake");

        let job = inspected(fleet, &id, 40);
        assert_eq!((&job["state"], &job["exit_status"]), (&json!("succeeded"), &json!(0)), "{job}");
        let host = &fleet.web2;
        assert_eq!(installed(host), "lab-slow 1.0");
        assert_eq!(host.sh("cat /root/slow"), "installing", "it was run more than once");
        let record = fleet.last_record(is_end);
        assert_eq!(
            (&record["target"], &record["correlation_id"]),
            (&json!("web2"), &job["correlation_id"]),
            "{record}"
        );
        until("its unit is cleared away", || units(host).is_empty());
    });
}

#[test]
fn a_job_that_is_cancelled_is_gone_from_the_host() {
    lend(|fleet| {
        let host = &fleet.db1;
        let id = start(fleet, host);
        let arguments = json!({"job_id": id, "reason": "it takes too long"});
        let cancelled = fleet.call("job_cancel", arguments.clone());
        assert_eq!(cancelled.data()["job"]["state"], "cancelled", "{}", cancelled.body);
        assert!(!is_active(host, &id));
        host.sh("! pgrep -x 'apt-get|dpkg' && ! pgrep -f '[l]ab-slow.postinst'");
        assert_eq!(installed(host), "");

        let again = fleet.call("job_cancel", arguments);
        assert_eq!(again.body["result"]["structuredContent"]["changed"], false, "{}", again.body);
        let record = fleet.last_record(is_end);
        assert_eq!(record["target"], "db1", "{record}");
        until("its unit is cleared away", || units(host).is_empty());
    });
}

#[test]
fn a_job_whose_host_is_cut_off_goes_on_and_its_end_is_seen_later() {
    lend(|fleet| {
        let host = &fleet.web1;
        let wanted = wanted(fleet, host);
        let fleet = &*fleet;
        let answer = std::thread::scope(|scope| {
            let call = scope.spawn(|| fleet.call_approved("package_change", wanted));
            until("the package is being installed", || host.try_sh("[ -s /root/slow ]").status.success());
            host.cut();
            call.join().unwrap()
        });
        assert_eq!(answer.code(), "unknown_outcome", "{}", answer.body);
        let jobs = fleet.call("job_inspect", json!({}));
        let job = &jobs.data()["jobs"][0];
        let id = job["id"].as_str().unwrap();
        assert_eq!((&job["tool"], &job["target"]), (&json!("package_change"), &json!("web1")), "{job}");
        assert!(["starting", "running"].contains(&job["state"].as_str().unwrap()), "{job}");
        assert!(is_active(host, id), "the job ended with the connection");

        // It ends while nobody sees it.
        host.sh("touch /root/wake");
        until("the package is installed", || installed(host) == "lab-slow 1.0" && units(host).contains("exited"));
        let ends = || fleet.records().iter().filter(|record| is_end(record)).count();
        assert_eq!(ends(), 0, "nobody can have seen its end");
        host.connect();
        let end = fleet.last_record(is_end);
        until("its unit is cleared away", || units(host).is_empty());

        let job = inspected(fleet, id, 0);
        assert_eq!((&job["state"], &job["exit_status"]), (&json!("succeeded"), &json!(0)), "{job}");
        assert_eq!((&end["target"], &end["correlation_id"]), (&json!("web1"), &job["correlation_id"]), "{end}");
        assert_eq!(ends(), 1, "its end is on record more than once");
        assert_eq!(host.sh("cat /root/slow"), "installing", "it was run more than once");
    });
}

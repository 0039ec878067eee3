//! A reboot that a person agreed to: the host comes back as another boot, and answers again. It is planned a minute ahead,
//! in which other tests have their turn.

use serde_json::json;

use super::{lend, of};
use crate::wait::{until, until_within};

#[test]
fn an_approved_reboot_ends_in_another_boot() {
    let mut planned = None;
    lend(|fleet| {
        let host = fleet.welcome("reboots");
        let answers = || fleet.call("host_inspect", of(&host, json!({}))).body["result"]["isError"] != true;
        until("the host answers", answers);
        let before = host.sh("cat /proc/sys/kernel/random/boot_id");
        let wanted = json!({"action": "reboot", "delay_min": 1, "reason": "the test wants another boot"});
        let shown = fleet.call("host_power_control", of(&host, wanted.clone()));
        assert_eq!(shown.data()["boot_id"], before.as_str(), "{}", shown.body);
        assert_eq!(host.sh("cat /proc/sys/kernel/random/boot_id"), before);

        let first_process = host.first_process();
        let mut wanted = wanted;
        wanted["dry_run"] = false.into();
        wanted["boot_id"] = before.as_str().into();
        let answer = fleet.call_approved("host_power_control", of(&host, wanted));
        let job = answer.data()["job"]["id"].as_str().unwrap().to_owned();
        planned = Some((host, before, first_process, job));
    });
    // None where the tests of hosts are skipped.
    let Some((host, before, first_process, job)) = planned else { return };
    until_within(3, "the host has gone down and boots", || {
        let process = host.first_process();
        process.is_some() && process != first_process
    });
    until("the host is up", || host.is_up());
    let after = host.sh("cat /proc/sys/kernel/random/boot_id");
    assert_ne!(before, after);

    lend(|fleet| {
        until("the host answers as the other boot", || {
            let answer = fleet.call("host_inspect", of(&host, json!({"sections": ["os"]})));
            answer.body["result"]["structuredContent"]["data"]["boot_id"] == after.as_str()
        });
        let inspected = fleet.call("job_inspect", json!({"job_id": job, "wait_s": 40}));
        let job = &inspected.data()["jobs"][0];
        assert_eq!(
            (&job["state"], &job["old_boot_id"], &job["new_boot_id"]),
            (&json!("succeeded"), &json!(before), &json!(after)),
            "{job}"
        );
        // What was there is there still.
        host.sh("[ -e /etc/sudoers.d/tailops ]");
        host.stop();
    });
}

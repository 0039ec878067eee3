//! A reboot that a person agreed to: the host comes back as another boot, and answers again.

use serde_json::json;

use super::{lend, of};
use crate::wait::{until, until_within};

#[test]
fn an_approved_reboot_ends_in_another_boot() {
    lend(|fleet| {
        let host = &fleet.web2;
        let boot_id = || host.sh("cat /proc/sys/kernel/random/boot_id");
        let before = boot_id();
        let wanted = json!({"action": "reboot", "delay_min": 1, "reason": "the test wants another boot"});
        let shown = fleet.call("host_power_control", of(host, wanted.clone()));
        assert_eq!(shown.data()["boot_id"], before.as_str(), "{}", shown.body);
        assert_eq!(boot_id(), before);

        let first_process = host.first_process();
        let mut wanted = wanted;
        wanted["dry_run"] = false.into();
        wanted["boot_id"] = before.as_str().into();
        fleet.call_approved("host_power_control", of(host, wanted)).data();
        until_within(3, "the host has gone down and boots", || {
            let process = host.first_process();
            process.is_some() && process != first_process
        });
        until("the host is up", || host.is_up());
        let after = boot_id();
        assert_ne!(before, after);
        until("the host answers as the other boot", || {
            let answer = fleet.call("host_inspect", of(host, json!({"sections": ["os"]})));
            answer.body["result"]["structuredContent"]["data"]["boot_id"] == after.as_str()
        });
        // What was there is there still.
        host.sh("[ -d /srv/files ]");
    });
}

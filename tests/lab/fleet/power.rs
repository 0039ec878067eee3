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

        let mut wanted = wanted;
        wanted["dry_run"] = false.into();
        wanted["boot_id"] = before.as_str().into();
        fleet.call_approved("host_power_control", of(host, wanted)).data();
        until_within(3, "the host has gone down and is up again", || {
            let now = host.try_sh("cat /proc/sys/kernel/random/boot_id && systemctl is-active --quiet ssh.service");
            let id = String::from_utf8_lossy(&now.stdout).trim().to_owned();
            now.status.success() && !id.is_empty() && id != before
        });
        let after = boot_id();
        until("the host answers as the other boot", || {
            let answer = fleet.call("host_inspect", of(host, json!({"sections": ["os"]})));
            answer.body["result"]["structuredContent"]["data"]["boot_id"] == after.as_str()
        });
        // What was there is there still.
        host.sh("[ -d /srv/files ]");
    });
}

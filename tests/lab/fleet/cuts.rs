//! The cable is pulled while a command runs: nobody knows how it ended, and it is said so; it ran once, and is never sent
//! again.

use serde_json::json;

use super::{lend, of};
use crate::wait::until;

/// Counts its starts, and takes its time.
const UNIT: &str = "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo started >>/root/starts; exec sleep 5'\n";

#[test]
fn a_command_whose_connection_is_cut_has_an_unknown_outcome_and_runs_once() {
    lend(|fleet| {
        let host = &fleet.db1;
        host.put("/etc/systemd/system/slow.service", 0o644, UNIT.as_bytes());
        host.sh("rm -f /root/starts; systemctl daemon-reload");
        let starts = || host.sh("cat /root/starts 2>/dev/null || true").lines().count();
        let arguments = json!({"unit": "slow.service", "action": "start", "reason": "seeing what becomes of it"});
        let fleet = &*fleet;
        let answer = std::thread::scope(|scope| {
            let call = scope.spawn(|| fleet.call("service_control", of(host, arguments)));
            until("the command runs", || starts() == 1);
            host.cut();
            call.join().unwrap()
        });
        assert_eq!(answer.code(), "unknown_outcome", "{}", answer.body);
        let record = fleet.last_record(|record| record["tool"] == "service_control");
        assert_eq!((&record["code"], &record["target"]), (&json!("unknown_outcome"), &json!("db1")), "{record}");

        host.connect();
        until("the host answers again", || {
            fleet.call("host_inspect", of(host, json!({}))).body["result"]["isError"] != true
        });
        until("the command has ended", || host.try_sh("! systemctl is-active --quiet slow.service").status.success());
        assert_eq!(starts(), 1, "it was sent again");
    });
}

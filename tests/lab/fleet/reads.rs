//! What is read of a host is what the host says of itself, on every host and a second after it happened.

use serde_json::json;

use super::{Fleet, lend, of};
use crate::wait::until_some;

#[test]
fn hosts_are_what_they_say_they_are() {
    lend(|fleet| {
        for host in fleet.hosts() {
            let answer = fleet.call("host_inspect", of(host, json!({"sections": ["os", "time"]})));
            let data = answer.data();
            let version = host.sh(". /etc/os-release; echo \"$PRETTY_NAME\"");
            assert!(data["os"].to_string().contains(&version), "{data}");
            assert_eq!(data["hostname"], host.name(), "{data}");
            let boot = host.sh("cat /proc/sys/kernel/random/boot_id");
            assert_eq!(data["boot_id"], boot.as_str(), "{data}");

            let listed = fleet.call("service_list", of(host, json!({"match": "ssh.service"})));
            let unit = &listed.data()["units"][0];
            let pid = host.sh("systemctl show -p MainPID --value ssh.service");
            assert_eq!((&unit["unit"], &unit["active"]), (&json!("ssh.service"), &json!("active")), "{unit}");
            assert!(unit.to_string().contains(&pid), "{unit}, and its process is {pid}");
        }
    });
}

#[test]
fn the_journal_has_what_was_written_a_second_ago() {
    lend(|fleet: &mut Fleet| {
        for (number, host) in fleet.hosts().into_iter().enumerate() {
            let line = format!("the lab was here: {number}");
            host.sh(&format!("echo '{line}' | systemd-cat -t lab"));
            let found = until_some("the line is found", || {
                let answer = fleet.call("journal_query", of(host, json!({"grep": line, "since": "1m"})));
                let entries = answer.data()["entries"].as_array().unwrap().clone();
                entries.into_iter().find(|entry| entry["message"] == line.as_str())
            });
            assert!(found.to_string().contains("lab"), "{found}");
            let record = fleet.last_record(|record| record["tool"] == "journal_query");
            assert_eq!((&record["status"], &record["target"]), (&json!("ok"), &json!(host.name())), "{record}");
        }
    });
}

//! Whoever answers at a host's address without the host's key is not talked to: nothing runs there, nobody logs in
//! there, and people are told.

use serde_json::{Value, json};

use super::{Fleet, lend, of};
use crate::{host::Host, wait::until};

/// Fails the test unless a read and a write are refused because of the host's key, on record.
#[track_caller]
fn is_not_believed(fleet: &Fleet, host: &Host) {
    let write = json!({"path": "/srv/files/never", "content": "never", "reason": "seeing that it is not written"});
    for (tool, arguments) in [("host_inspect", json!({})), ("file_write", write)] {
        let refused = fleet.call(tool, of(host, arguments));
        assert_eq!(refused.code(), "host_key_mismatch", "{}", refused.body);
        let record = fleet.last_record(|record| record["tool"] == tool);
        assert_eq!(
            (&record["code"], &record["target"]),
            (&json!("host_key_mismatch"), &json!(host.name())),
            "{record}"
        );
    }
    host.sh("[ ! -e /srv/files/never ]");
    let alerts: Value = serde_json::from_str(&fleet.gateway.run(&["audit", "alerts", "--json"])).unwrap();
    let alert = alerts.as_array().unwrap().iter().find(|alert| alert["target"] == host.name()).unwrap();
    assert!(alert["codes"].to_string().contains("host_key_mismatch"), "{alert}");
}

#[test]
fn a_host_key_that_changes_under_us_is_refused_until_it_is_enrolled() {
    lend(|fleet| {
        let host = &fleet.web1;
        fleet.call("host_inspect", of(host, json!({}))).data();
        host.change_host_key();
        let before = host.logins();
        is_not_believed(fleet, host);
        assert_eq!(host.logins(), before, "somebody logged in");
        // The others are none the worse for it.
        fleet.call("host_inspect", of(&fleet.web2, json!({}))).data();

        fleet.enrol(&[]);
        until("the new key is believed", || {
            fleet.call("host_inspect", of(host, json!({}))).body["result"]["isError"] != true
        });
    });
}

#[test]
fn an_impostor_at_the_hosts_address_learns_nothing() {
    lend(|fleet| {
        let host = &fleet.web2;
        for kind in ["ed25519", "ecdsa", "rsa"] {
            host.sh(&format!("rm -f /root/impostor*; ssh-keygen -q -t {kind} -N '' -f /root/impostor"));
            host.throw_out();
            host.sh("systemctl stop ssh.service");
            // It would take any login that the host takes.
            let impostor = host.keep_running(
                "mkdir -p /run/sshd; exec /usr/sbin/sshd -D -f /dev/null -p 22 -h /root/impostor -E /root/impostor.log -o LogLevel=DEBUG2 -o UsePAM=no",
            );
            until("the impostor listens", || {
                host.try_sh("grep -q 'Server listening' /root/impostor.log").status.success()
            });
            is_not_believed(fleet, host);
            let log = host.sh("cat /root/impostor.log");
            assert!(log.contains("Connection from "), "nobody came: {log}");
            assert!(!log.contains("userauth-request"), "it was told who we are: {log}");
            host.sh("pkill -KILL -f '[/]root/impostor'");
            drop(impostor);
        }
        host.sh("systemctl start ssh.service");
        until("the host is back", || fleet.call("host_inspect", of(host, json!({}))).body["result"]["isError"] != true);
    });
}

//! Logins with certificates that the gateway makes for each connection: the host's own log names who asked, and joins
//! with the audit log by the key id.

use serde_json::{Value, json};

use super::{Fleet, UNITS, USER, lend, of};
use crate::{host::Host, wait::until_some};

/// The host, under a name for which no login key is registered.
fn without_key(fleet: &Fleet, host: &Host) -> Value {
    let mut entry = fleet.entry(host);
    entry["id"] = "by-certificate".into();
    entry["connection"].as_object_mut().unwrap().remove("key_path");
    entry
}

#[test]
fn the_log_of_a_hosts_sshd_names_who_asked_as_the_record_does() {
    lend(|fleet| {
        let host = &fleet.db1;
        fleet.enrol(&[("by-certificate", without_key(fleet, host))]);
        let call = || fleet.call("host_inspect", json!({"target": "by-certificate", "sections": ["os"]}));
        until_some("the host is registered", || (call().code() != "unknown_target").then_some(()));
        // As long as the host does not know the authority, a certificate by it is nothing.
        host.sh("! grep -r TrustedUserCAKeys /etc/ssh/sshd_config.d");
        assert_eq!(call().code(), "login_refused", "{}", call().body);

        fleet.prepare(host, &fleet.script("by-certificate", &UNITS));
        assert_eq!(host.sh("cut -d ' ' -f 1,2 /etc/ssh/tailops_user_ca.pub"), fleet.user_ca());
        let answer = call();
        assert_eq!(answer.data()["hostname"], host.name());
        assert!(!answer.body.to_string().contains("subject=lab"), "the caller is told of it: {}", answer.body);

        let record = fleet.last_record(|record| record["tool"] == "host_inspect" && record["status"] == "ok");
        let ssh = &record["exec"][0]["wire"];
        assert_eq!((&ssh["login"], &ssh["host_key"]), (&json!(USER), &json!(host.fingerprint())), "{record}");
        let id = ssh["login_id"].as_str().unwrap();
        for part in ["subject=lab", "engagement=default", record["correlation_id"].as_str().unwrap()] {
            assert!(id.contains(part), "no {part} in {id}");
        }
        let log = host.logins();
        let line = log.lines().find(|line| line.contains(&format!(" ID {id} (serial "))).expect(&log);
        let address = fleet.ops.ipv4().to_string();
        assert!(line.starts_with(&format!("Accepted publickey for {USER} from {address} ")), "{line}");
        assert!(line.contains("ED25519-CERT") && line.contains(" CA "), "{line}");
        // On a host that was prepared for certificates, the login key is nobody's.
        host.throw_out();
        let by_key = fleet.call("host_inspect", of(host, json!({})));
        assert_eq!(by_key.code(), "login_refused", "{}", by_key.body);
    });
}

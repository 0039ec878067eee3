//! Hosts without an enrolled key, which prove themselves by a certificate: one that is good is enough, and each of those
//! that are not is refused before anybody logs in.

use std::fs;

use serde_json::{Value, json};

use super::{Fleet, lend};
use crate::{
    host::{Host, keygen},
    wait::until,
};

/// The host, under a name for which no key is enrolled.
fn without_pins(fleet: &Fleet, host: &Host) -> Value {
    let mut entry = fleet.entry(host);
    entry["id"] = "certified".into();
    entry["connection"].as_object_mut().unwrap().remove("host_keys");
    entry
}

/// Has `authority` certify the host's key, with these arguments of ssh-keygen(1), and lets its sshd show that.
fn certify(fleet: &Fleet, host: &Host, authority: &str, arguments: &[&str]) {
    let machine = &fleet.ops.machine;
    let public = machine.write("shown.pub", &host.sh("cat /etc/ssh/ssh_host_ed25519_key.pub"));
    let authority = machine.directory.join(authority);
    let with = ["-q", "-s", authority.to_str().unwrap(), "-h", "-I", "lab-host"];
    keygen(&[&with[..], arguments, &[public.to_str().unwrap()]].concat());
    let certificate = fs::read(public.with_file_name("shown-cert.pub")).unwrap();
    host.put("/etc/ssh/shown-cert.pub", 0o644, &certificate);
    host.configure_sshd("PasswordAuthentication no\nHostCertificate /etc/ssh/shown-cert.pub\n");
    host.throw_out();
}

#[test]
fn only_a_good_host_certificate_speaks_for_a_host() {
    lend(|fleet| {
        let host = &fleet.web1;
        fleet.enrol(&[("certified", without_pins(fleet, host))]);
        let call = || fleet.call("host_inspect", json!({"target": "certified", "sections": ["os"]}));
        let name = host.node.dns_name();
        let hours = "-5m:+1h";
        host.throw_out();
        until("the host is registered", || call().code() != "unknown_target");
        assert_eq!(call().code(), "host_key_mismatch", "{}", call().body);

        let machine = &fleet.ops.machine;
        keygen(&["-q", "-t", "ed25519", "-N", "", "-f", machine.directory.join("stranger").to_str().unwrap()]);
        let before = host.logins();
        let bad: [(&str, &str, &[&str], &str); 3] = [
            ("expired", "host_ca", &["-n", &name, "-V", "-2h:-1h"], "host_certificate_invalid"),
            ("of another host", "host_ca", &["-n", "web9.lab.test", "-V", hours], "host_certificate_invalid"),
            ("by a stranger", "stranger", &["-n", &name, "-V", hours], "host_certificate_invalid"),
        ];
        for (what, authority, arguments, code) in bad {
            certify(fleet, host, authority, arguments);
            let refused = call();
            assert_eq!(refused.code(), code, "{what}: {}", refused.body);
            let record = fleet.last_record(|record| record["tool"] == "host_inspect");
            assert_eq!((&record["code"], &record["target"]), (&json!(code), &json!("certified")), "{what}: {record}");
        }
        assert_eq!(host.logins(), before, "somebody logged in");

        certify(fleet, host, "host_ca", &["-n", &name, "-V", hours, "-z", "7"]);
        assert_eq!(call().data()["hostname"], host.name());
        // The list of what was revoked is not only for whoever comes new.
        fs::write(fleet.revoked(), format!("serial: {} 7\n", fleet.host_ca())).unwrap();
        host.throw_out();
        assert_eq!(call().code(), "host_key_revoked", "{}", call().body);
        fs::write(fleet.revoked(), "").unwrap();
        until("it is good again", || call().body["result"]["isError"] != true);

        let alerts: Value = serde_json::from_str(&fleet.gateway.run(&["audit", "alerts", "--json"])).unwrap();
        let alert = alerts.as_array().unwrap().iter().find(|alert| alert["target"] == "certified").unwrap();
        // The first of them; what follows within a minute is counted with it.
        assert_eq!(alert["codes"], json!(["host_key_mismatch"]), "{alert}");
        host.configure_sshd("PasswordAuthentication no\n");
    });
}

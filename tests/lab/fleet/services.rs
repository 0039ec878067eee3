//! Services of a host: what a tool says it did is what systemd did.

use serde_json::json;

use super::{lend, of};

/// A service that does nothing, for as long as it is wanted.
const UNIT: &str = "[Service]\nExecStart=/usr/bin/sleep infinity\n";

#[test]
fn a_restart_is_the_one_that_systemd_made() {
    lend(|fleet| {
        let host = &fleet.web1;
        host.put("/etc/systemd/system/lab.service", 0o644, UNIT.as_bytes());
        host.sh("systemctl daemon-reload && systemctl start lab.service");
        let invocation = || host.sh("systemctl show -p InvocationID --value lab.service");
        let before = invocation();

        let arguments = json!({"unit": "lab.service", "action": "restart", "reason": "seeing that it is restarted"});
        let answer = fleet.call("service_control", of(host, arguments));
        let after = invocation();
        assert_ne!(before, after);
        let data = answer.data();
        assert_eq!((&data["invocation_id"], &data["settled"]), (&json!(after), &json!(true)), "{data}");
        let record = fleet.last_record(|record| record["tool"] == "service_control" && record["status"] == "ok");
        assert_eq!((&record["target"], &record["effect"]), (&json!("web1"), &json!("destructive")), "{record}");
    });
}

#[test]
fn without_the_right_nothing_is_restarted_and_the_line_to_add_is_said() {
    lend(|fleet| {
        let host = &fleet.web2;
        host.put("/etc/systemd/system/lab.service", 0o644, UNIT.as_bytes());
        host.sh("systemctl daemon-reload && systemctl start lab.service; mv /etc/sudoers.d/tailops /root/");
        let invocation = || host.sh("systemctl show -p InvocationID --value lab.service");
        let before = invocation();
        let arguments = json!({"unit": "lab.service", "action": "restart", "reason": "seeing that it is not"});
        let refused = fleet.call("service_control", of(host, arguments.clone()));
        assert_eq!(refused.code(), "permission_denied", "{}", refused.body);
        assert_eq!(invocation(), before);

        // The line it asks for, and no other.
        let hint = refused.body["result"]["structuredContent"]["hint"].as_str().unwrap();
        let line = hint.rsplit_once("limited: ").unwrap().1;
        host.put("/etc/sudoers.d/lab", 0o440, format!("{line}\n").as_bytes());
        host.sh("visudo -cf /etc/sudoers.d/lab");
        fleet.call("service_control", of(host, arguments)).data();
        assert_ne!(invocation(), before);
        host.sh("rm /etc/sudoers.d/lab; mv /root/tailops /etc/sudoers.d/");
    });
}

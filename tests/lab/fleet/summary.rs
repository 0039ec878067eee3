//! The state of the fleet, worst first: a service that failed and a host that is down stand before what is well.

use serde_json::{Value, json};

use super::lend;

#[test]
fn what_is_broken_comes_first() {
    lend(|fleet| {
        fleet.web1.put("/etc/systemd/system/broken.service", 0o644, b"[Service]\nType=oneshot\nExecStart=/bin/false\n");
        fleet.web1.sh("systemctl daemon-reload; ! systemctl start broken.service");
        fleet.db1.stop();
        let answer = fleet.call("fleet_summarize", json!({"refresh": true, "tag": "lab"}));
        fleet.web1.sh("rm /etc/systemd/system/broken.service; systemctl daemon-reload; systemctl reset-failed");

        println!("{}", serde_json::to_string_pretty(&answer.body["result"]["structuredContent"]).unwrap());
        let data = answer.data();
        let targets = data["targets"].as_array().unwrap();
        let of = |id: &str| targets.iter().find(|target| target["id"] == id).unwrap();
        let finding = |id: &str, problem: &str| {
            let findings = of(id)["findings"].as_array().unwrap();
            findings.iter().find(|finding| finding["problem"] == problem).cloned()
        };
        let failed = finding("web1", "failed_units").unwrap();
        assert_eq!((&failed["what"], &failed["number"]), (&json!(["broken.service"]), &json!(1)), "{failed}");
        assert_eq!(finding("db1", "unreachable").unwrap()["health"], "critical");
        assert_eq!((finding("web2", "failed_units"), finding("web2", "unreachable")), (None, None));
        let critical = |target: &Value| target["health"] == "critical";
        assert!(targets.iter().take(2).all(critical), "{data}");
        assert_eq!(data["totals"]["critical"], 2, "{data}");
        let record = fleet.last_record(|record| record["tool"] == "fleet_summarize");
        assert_eq!(record["status"], "ok", "{record}");
    });
}

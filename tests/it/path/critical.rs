//! The critical host tools through the whole gateway: a preview is free, a real run needs a person, and journal lines
//! need their scope.

use serde_json::{Value, json};

use crate::harness::{Gateway, Grant, records};

const REASON: &str = "checking what is asked for";

fn wishes() -> Vec<(&'static str, Value)> {
    let hash = "0".repeat(64);
    vec![
        ("service_configure", json!({"target": "local", "unit": "cron", "action": "disable", "reason": REASON})),
        (
            "package_change",
            json!({"target": "local", "action": "install", "packages": [{"name": "no-such-package"}],
                "plan_sha256": hash, "reason": REASON}),
        ),
        (
            "host_power_control",
            json!({"target": "local", "action": "reboot", "delay_min": 1440,
                "boot_id": "00000000-0000-4000-8000-000000000000", "reason": REASON}),
        ),
    ]
}

#[tokio::test]
async fn a_real_run_is_not_to_be_had_and_nothing_runs() {
    let gateway =
        Gateway::with(|config| config.limits.critical_per_hour = std::num::NonZeroU32::new(100).unwrap()).await;
    let admin = gateway.admin().await;
    for (tool, mut wish) in wishes() {
        wish["dry_run"] = json!(false);
        let answer = gateway.call(&admin, tool, wish).await;
        assert_eq!(answer.code(), "approval_unavailable", "{tool}: {answer:?}");
        let record = &gateway.records_of(&answer).await[0];
        assert_eq!((&record["exec"], &record["decision"]), (&Value::Null, &json!("ask")), "{tool}");
        assert_eq!((&record["risk_level"], &record["reason"]), (&json!("critical"), &json!(REASON)), "{tool}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn without_a_word_it_is_a_preview_that_changes_nothing() {
    let gateway = Gateway::start().await;
    let admin = gateway.admin().await;
    for (tool, wish) in wishes() {
        let answer = gateway.call(&admin, tool, wish).await;
        // This machine may have no systemd and no such package, which is an answer of the preview, too.
        if answer.is_error() {
            assert!(["unsupported", "not_found"].contains(&answer.code()), "{tool}: {answer:?}");
        } else {
            assert_eq!((&answer.content()["dry_run"], &answer.content()["changed"]), (&json!(true), &json!(false)));
        }
        let record = &gateway.records_of(&answer).await[0];
        assert_eq!(
            (&record["effect"], &record["exec"][0]["exit_code"]),
            (&json!("read"), &json!(0)),
            "{tool}: {record}"
        );
    }
    let leaves = records(gateway.store(), true).await;
    assert!(!leaves.iter().any(|leaf| leaf["kind"] == "intent"), "a preview has no intent");
    gateway.stop().await;
}

#[tokio::test]
async fn a_preview_needs_the_scope_too() {
    let gateway = Gateway::start().await;
    let operator = gateway.mint(Grant::scopes("system:control,log:read,token:admin")).await;
    for (tool, wish) in wishes() {
        assert_eq!(gateway.call(&operator, tool, wish).await.code(), "insufficient_scope", "{tool}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn journal_lines_need_log_read() {
    let gateway = Gateway::start().await;
    let reader = gateway.mint(Grant::scopes("system:read")).await;
    let unit = json!({"target": "local", "unit": "no-such-unit"});
    let answer = gateway.call(&reader, "service_inspect", unit.clone()).await;
    assert!(["unsupported", "not_found"].contains(&answer.code()), "{answer:?}");
    let mut with_log = unit;
    with_log["log_lines"] = json!(1);
    let refused = gateway.call(&reader, "service_inspect", with_log.clone()).await;
    assert_eq!(refused.code(), "insufficient_scope", "{refused:?}");
    assert!(refused.content()["message"].as_str().unwrap().contains("log:read"));
    let both = gateway.mint(Grant::scopes("system:read,log:read")).await;
    let answer = gateway.call(&both, "service_inspect", with_log).await;
    assert!(["unsupported", "not_found"].contains(&answer.code()), "{answer:?}");
    gateway.stop().await;
}

//! `service_control` on hostile arguments, on what a real systemd printed and on this machine.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::tools::rig::{self, Rig};

const BEFORE: &[u8] = b"Id=web.service\nLoadState=loaded\nActiveState=active\nSubState=running\nMainPID=35\nNRestarts=0\nResult=success\nExecMainStatus=0\nInvocationID=eff8e4ba57e24503824b4bdd881b4c76\nJob=\n";
const AFTER: &[u8] = b"Id=web.service\nLoadState=loaded\nActiveState=active\nSubState=running\nMainPID=99\nNRestarts=0\nResult=success\nExecMainStatus=0\nInvocationID=023804511f0f4f07afb60b3e5e2bf725\nJob=\n";
const FAILED: &[u8] = b"Id=web.service\nLoadState=loaded\nActiveState=failed\nSubState=failed\nMainPID=0\nResult=exit-code\nExecMainStatus=3\nJob=\n";

fn wish(unit: &str, action: &str) -> Value {
    json!({"unit": unit, "action": action, "reason": "lab test", "dry_run": false})
}

fn shown(arguments: Value, sections: &[(&str, &[u8])]) -> Result<Content, ToolError> {
    let operation = rig::plan(&ServiceControl, arguments).unwrap();
    let content = ServiceControl.render(&rig::pretend(operation, sections, ""))?;
    rig::conforms(&ServiceControl, &content.data);
    Ok(content)
}

/// What a real host (Debian 12, systemd 252) printed for this call.
fn replayed(unit: &str, action: &str, recording: &str) -> Result<Content, ToolError> {
    let operation = rig::plan(&ServiceControl, wish(unit, action)).unwrap();
    let content = ServiceControl.render(&rig::recorded(operation, recording, ""))?;
    rig::conforms(&ServiceControl, &content.data);
    Ok(content)
}

macro_rules! recording {
    ($name:literal) => {
        include_str!(concat!("../../../tests/cases/systemd/control-", $name, ".txt"))
    };
}

#[test]
fn a_real_host_refuses_what_reaches_a_protected_unit() {
    for (unit, action, recording) in
        [("lab-alias", "stop", recording!("alias")), ("lab-rival", "start", recording!("rival"))]
    {
        let error = replayed(unit, action, recording).unwrap_err();
        assert!(error.code == "protected_unit" && error.message.contains("ssh.service"), "{error}");
    }
}

#[test]
fn a_real_host_tells_outcomes_apart() {
    let restarted = replayed("lab-web", "restart", recording!("restart")).unwrap();
    assert_eq!((restarted.changed, restarted.partial.len()), (Some(true), 0));
    assert_ne!(restarted.before.unwrap()["invocation_id"], restarted.after.unwrap()["invocation_id"]);
    assert!(restarted.data["log"][0]["message"].as_str().unwrap().starts_with("Started lab-web"));

    let failed = replayed("lab-broken", "start", recording!("failed")).unwrap();
    assert_eq!(failed.data["result"], "exit-code");
    assert_eq!(failed.after.unwrap()["exit_status"], 3);
    assert!(failed.data["log"].as_array().unwrap().iter().any(|entry| entry["message"] == "about to break"));

    let died = replayed("lab-dies", "start", recording!("dies")).unwrap();
    assert_eq!((&died.data["settled"], &died.data["result"]), (&json!(true), &json!("exit-code")));

    let slow = replayed("lab-slow", "start", recording!("slow")).unwrap();
    assert_eq!(slow.data["settled"], false);
    assert!(slow.warnings[0].contains("activating"));

    let denied = replayed("lab-web", "stop", recording!("denied")).unwrap_err();
    assert_eq!(denied.code, "permission_denied");
    assert!(
        denied
            .hint
            .unwrap()
            .contains("tailops ALL=(root) NOPASSWD: /usr/bin/systemctl stop --no-ask-password -- lab-web.service")
    );

    let unknown = replayed("lab-webb", "stop", recording!("unknown")).unwrap_err();
    assert_eq!((unknown.code, unknown.hint.unwrap().contains("lab-web.service")), ("not_found", true));
}

#[test]
fn wrong_arguments_are_named() {
    for (arguments, field) in [
        (json!({"unit": "web", "action": "stop"}), "reason"),
        (json!({"unit": "web", "action": "stop", "reason": "  "}), "reason"),
        (json!({"unit": "web", "action": "stop", "reason": "a\nb c"}), "reason"),
        (json!({"unit": "web", "action": "stop", "reason": "x".repeat(501)}), "reason"),
        (json!({"unit": "web", "action": "kill", "reason": "because"}), "action"),
        (json!({"unit": "web", "action": "stop", "reason": "because", "wait_s": 0}), "wait_s"),
        (json!({"unit": "web", "action": "stop", "reason": "because", "wait_s": 121}), "wait_s"),
        (json!({"unit": "web", "action": "stop", "reason": "because", "auto_approve": true}), "auto_approve"),
        (wish("ss*", "stop"), "unit"),
        (wish("--root=/", "stop"), "unit"),
        (wish("multi-user.target", "stop"), "unit"),
        (wish("-.mount", "stop"), "unit"),
        (wish("init.scope", "stop"), "unit"),
        (wish("a b", "stop"), "unit"),
    ] {
        let error = rig::plan(&ServiceControl, arguments).unwrap_err();
        assert!(error.code == "invalid_arguments" && error.message.contains(field), "{field}: {error}");
    }
    rig::fits_budget(&ServiceControl);
}

#[test]
fn a_protected_unit_is_critical_by_any_name_and_a_dry_run_unless_asked() {
    for unit in ["ssh", "sshd.service", "ssh.socket", r"\x73sh", "SSH", "systemd-journald", "tailops.service"] {
        let operation = rig::plan(&ServiceControl, wish(unit, "restart")).unwrap();
        assert_eq!((operation.risk, operation.effect), (Risk::Critical, Effect::Destructive), "{unit}");
        assert_eq!(operation.raised, Some("protected unit"));
        let unasked = rig::plan(&ServiceControl, json!({"unit": unit, "action": "stop", "reason": "because"})).unwrap();
        assert!(unasked.dry_run && unasked.effect == Effect::Read && unasked.arguments["dry_run"] == true);
    }
}

#[test]
fn an_ordinary_unit_is_high_and_real() {
    let operation = rig::plan(&ServiceControl, json!({"unit": "web", "action": "stop", "reason": "because"})).unwrap();
    assert_eq!((operation.risk, operation.effect, operation.dry_run), (Risk::High, Effect::Destructive, false));
    assert_eq!(operation.reason.as_deref(), Some("because"));
    assert_eq!(operation.arguments["unit"], "web.service");
}

#[test]
fn the_wait_fits_into_the_targets_limit() {
    let mut wish = wish("web", "stop");
    wish["wait_s"] = json!(120);
    let operation = Rig::with_sudo().plan(&ServiceControl, wish).unwrap();
    assert_eq!(operation.arguments["wait_s"], 50);
    let Some(Step::Script(script)) = operation.steps.first() else { panic!("no script") };
    assert_eq!(script.args[..6], ["web.service", "stop", "50", "ordinary", "run", "sudo"]);
}

#[test]
fn without_systemd_it_is_an_error() {
    let operation = rig::plan(&ServiceControl, wish("tailops-lab-no-such", "start"));
    // Protected by its name and unknown everywhere: nothing can come of it on any machine.
    let error = ServiceControl.render(&Rig::new().run(operation.unwrap())).unwrap_err();
    assert!(["unsupported", "not_found"].contains(&error.code), "{error}");
}

#[test]
fn an_alias_of_a_protected_unit_is_refused() {
    let sections: &[(&str, &[u8])] = &[("before", BEFORE), ("protected", b"ssh.service\nsshd.service\n")];
    let error = shown(wish("lab-alias", "stop"), sections).unwrap_err();
    assert_eq!(error.code, "protected_unit");
    let mut dry = wish("lab-alias", "stop");
    dry["dry_run"] = json!(true);
    let preview = shown(dry, sections).unwrap();
    assert_eq!(preview.changed, Some(false));
    assert!(preview.warnings[0].contains("refused"));
}

#[test]
fn outcomes_are_told_apart() {
    let settled: &[(&str, &[u8])] =
        &[("before", BEFORE), ("after", AFTER), ("settled", b"yes\n"), ("status", b"0\n"), ("!log", b"no_journal")];
    let content = shown(wish("web", "restart"), settled).unwrap();
    assert_eq!(content.changed, Some(true));
    assert_eq!(content.partial[0].reason, "no_journal");
    assert_eq!(content.data["invocation_id"], "023804511f0f4f07afb60b3e5e2bf725");

    let failed: &[(&str, &[u8])] = &[
        ("before", BEFORE),
        ("after", FAILED),
        ("settled", b"yes\n"),
        ("status", b"1\n"),
        ("errors", b"Job for web.service failed because the control process exited with error code.\n"),
        ("log", b""),
    ];
    let content = shown(wish("web", "start"), failed).unwrap();
    assert_eq!(content.data["result"], "exit-code");
    assert!(content.warnings[0].contains("failed"));

    let slow: &[(&str, &[u8])] = &[("before", BEFORE), ("after", AFTER), ("settled", b"no\n"), ("log", b"")];
    assert_eq!(shown(wish("web", "start"), slow).unwrap().data["settled"], false);
}

#[test]
fn refusals_say_what_would_help() {
    let refused = |errors: &str, status: &str| {
        let sections: &[(&str, &[u8])] = &[
            ("before", BEFORE),
            ("user", b"ops\n"),
            ("after", BEFORE),
            ("settled", b"yes\n"),
            ("status", status.as_bytes()),
            ("errors", errors.as_bytes()),
        ];
        shown(wish("a:b", "restart"), sections).unwrap_err()
    };
    for errors in ["sudo: a password is required\n", "Failed to restart x: Access denied\n"] {
        let error = refused(errors, "1\n");
        assert_eq!(error.code, "permission_denied");
        let line = r"ops ALL=(root) NOPASSWD: /usr/bin/systemctl restart --no-ask-password -- a\:b.service";
        assert!(error.hint.unwrap().ends_with(line));
    }
    assert_eq!(refused("Failed to start x: Unit x is masked.\n", "1\n").code, "precondition_failed");
    assert_eq!(refused("Failed: Job type reload is not applicable for unit x.\n", "1\n").code, "precondition_failed");
    assert_eq!(refused("", "1\n").code, "service_failed");
}

#[test]
fn an_unknown_unit_gets_near_names() {
    let gone = b"Id=lab-wb.service\nLoadState=not-found\nActiveState=inactive\nSubState=dead\n";
    let sections: &[(&str, &[u8])] = &[("before", gone), ("near", b"lab-web.service\ncron.service\n")];
    let error = shown(wish("lab-wb", "start"), sections).unwrap_err();
    assert_eq!((error.code, error.hint.as_deref()), ("not_found", Some("did you mean lab-web.service?")));
}

#[test]
fn an_answer_that_breaks_off_is_an_error() {
    assert_eq!(shown(wish("web", "start"), &[]).unwrap_err().code, "unreadable_output");
    assert_eq!(shown(wish("web", "start"), &[("before", BEFORE)]).unwrap_err().code, "unreadable_output");
}

proptest! {
    #[test]
    fn no_output_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), dry: bool, cut in 0..9_usize) {
        let mut wish = wish("web", "restart");
        wish["dry_run"] = json!(dry);
        let operation = rig::plan(&ServiceControl, wish).unwrap();
        let mut sections: Vec<(&str, &[u8])> = vec![("before", BEFORE), ("after", AFTER)];
        for name in ["needed", "triggers", "protected", "status", "errors", "settled", "log"] {
            sections.push((name, &bytes));
        }
        sections.truncate(cut);
        let _ = ServiceControl.render(&rig::pretend(operation, &sections, ""));
    }
}

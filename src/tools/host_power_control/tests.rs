//! `host_power_control` on hostile arguments, on this machine (previews only) and, with a `shutdown` made by the test,
//! its real run.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::tools::{
    fakes::Fakes,
    rig::{self, Rig},
};

/// A `shutdown` that notes what it was told, as systemd's does.
const SHUTDOWN: &str = r#"
echo "$*" >>"$FAKE/done"
if [ -f "$FAKE/refusal" ]; then cat "$FAKE/refusal" >&2; exit 1; fi
case $1 in -r) mode=reboot ;; *) mode=poweroff ;; esac
printf 'USEC=1795262400000000\nWARN_WALL=1\nMODE=%s\n' "$mode" >"$FAKE/scheduled"
"#;
const BUSCTL: &str = r#"cat "$FAKE/inhibitors""#;
/// What systemd 252 prints.
const DELAY: &str = r#"{"type":"a(ssssuu)","data":[[["sleep","UPower","Pause, then sleep","delay",0,723]]]}"#;
const BLOCK: &str = r#"{"type":"a(ssssuu)","data":[[["sleep","UPower","","delay",0,723],["shutdown:sleep","backup","a \"nightly\" run","block",0,9]]]}"#;

fn host() -> Fakes {
    let fakes =
        Fakes::new(&[("shutdown", SHUTDOWN), ("busctl", BUSCTL), ("systemctl", "echo '12 web.service start running'")])
            .with_systemd()
            .moving("/run/systemd/shutdown/scheduled", "scheduled")
            // The machine's own processes are not part of the test.
            .moving("/proc/[0-9]*/comm", "busy/*");
    fakes.keep("busy/1", "systemd\n");
    fakes.keep("inhibitors", DELAY);
    fakes
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned()
}

fn wish(action: &str, boot: &str) -> Value {
    json!({"action": action, "reason": "new kernel", "delay_min": 5, "dry_run": false, "boot_id": boot})
}

#[test]
fn wrong_arguments_are_named() {
    let with = |key: &str, value: Value| {
        let mut arguments = wish("reboot", "3f0a3b0e-8c5a-4d8e-9f5e-0123456789ab");
        arguments[key] = value;
        arguments
    };
    for (arguments, field) in [
        (with("action", json!("halt")), "action"),
        (with("action", json!("reboot -f")), "action"),
        (with("delay_min", json!(0)), "delay_min"),
        (with("delay_min", json!(1441)), "delay_min"),
        (with("delay_min", json!("now")), "delay_min"),
        (with("boot_id", json!("x")), "boot_id"),
        (with("boot_id", json!("3F0A3B0E-8C5A-4D8E-9F5E-0123456789AB")), "boot_id"),
        (with("reason", json!("x")), "reason"),
        (with("force", json!(true)), "force"),
        (json!({"action": "reboot", "reason": "because", "dry_run": false}), "boot_id"),
    ] {
        let error = rig::plan(&HostPowerControl, &arguments).unwrap_err();
        assert!(error.code == "invalid_arguments" && error.message.contains(field), "{arguments}: {error}");
    }
    rig::fits_budget(&HostPowerControl);
}

#[test]
fn it_is_critical_and_a_dry_run_unless_asked() {
    let operation = rig::plan(&HostPowerControl, json!({"action": "reboot", "reason": "new kernel"})).unwrap();
    assert!(operation.dry_run && operation.effect == Effect::Read && operation.risk == Risk::Critical);
    let operation = rig::plan(&HostPowerControl, wish("poweroff", &boot_id())).unwrap();
    assert!(!operation.dry_run && operation.effect == Effect::Destructive && operation.risk == Risk::Critical);
}

#[test]
fn the_preview_of_this_machine_names_its_boot_and_the_gateway() {
    for action in ["reboot", "poweroff"] {
        let content = rig::call(&HostPowerControl, json!({"action": action, "reason": "only asking"})).unwrap();
        assert_eq!((&content.data["boot_id"], content.changed), (&json!(boot_id()), Some(false)));
        assert_eq!(content.data["gateway"], true);
        assert!(content.warnings[0].contains("gateway goes down"), "{:?}", content.warnings);
    }
}

#[test]
fn a_preview_shows_what_it_would_hit() {
    let host = host();
    host.keep("busy/77", "dpkg\n");
    host.keep("inhibitors", BLOCK);
    let wish = json!({"action": "reboot", "reason": "new kernel"});
    let content = host.call(&Rig::new(), &HostPowerControl, &wish).unwrap();
    assert_eq!((&content.data["busy"], host.kept("done").as_str()), (&json!(["dpkg"]), ""));
    assert_eq!(content.data["inhibitors"][1]["why"], "a \"nightly\" run");
    assert_eq!(content.data["jobs"], json!(["12 web.service start running"]));
    let blockers = content.data["blockers"].to_string();
    assert!(blockers.contains("dpkg") && blockers.contains("backup blocks it"), "{blockers}");
}

#[test]
fn a_real_run_schedules_and_says_so() {
    for (action, told) in [("reboot", "-r +5\n"), ("poweroff", "-P +5\n")] {
        let host = host();
        let content = host.call(&Rig::new(), &HostPowerControl, &wish(action, &boot_id())).unwrap();
        assert_eq!((host.kept("done").as_str(), content.changed), (told, Some(true)));
        let scheduled = json!({"mode": action, "at": "2026-11-21T12:00:00Z"});
        assert_eq!(content.after.unwrap()["scheduled"], scheduled);
        assert_eq!(content.data["scheduled"], scheduled);
        assert_eq!(content.data["job"], json!({"id": rig::JOB, "state": "running", "exit_status": null}));
        // The same call again finds it scheduled.
        let error = host.call(&Rig::new(), &HostPowerControl, &wish(action, &boot_id())).unwrap_err();
        assert_eq!((error.code, host.kept("done").as_str()), ("precondition_failed", told));
    }
}

#[test]
fn it_refuses_another_boot_and_whatever_blocks() {
    let other = "3f0a3b0e-8c5a-4d8e-9f5e-0123456789ab";
    let spoil: [(&str, &str, String, &str); 5] = [
        ("inhibitors", DELAY, other.into(), "boot_id"),
        ("busy/77", "apt-get\n", boot_id(), "apt-get"),
        ("busy/77", "vzdump\n", boot_id(), "vzdump"),
        ("inhibitors", BLOCK, boot_id(), "backup"),
        ("scheduled", "USEC=1795262400000000\nMODE=poweroff\n", boot_id(), "poweroff is scheduled"),
    ];
    for (file, content, boot, says) in spoil {
        let host = host();
        host.keep(file, content);
        let error = host.call(&Rig::new(), &HostPowerControl, &wish("reboot", &boot)).unwrap_err();
        assert!(error.code == "precondition_failed" && error.message.contains(says), "{says}: {error}");
        assert_eq!(host.kept("done"), "", "{says}");
    }
    // What cannot be asked blocks, too.
    let host = Fakes::new(&[("shutdown", SHUTDOWN), ("busctl", "exit 1"), ("systemctl", "exit 1")])
        .with_systemd()
        .moving("/run/systemd/shutdown/scheduled", "scheduled")
        .moving("/proc/[0-9]*/comm", "busy/*");
    let error = host.call(&Rig::new(), &HostPowerControl, &wish("reboot", &boot_id())).unwrap_err();
    assert!(error.message.contains("cannot be asked") && host.kept("done").is_empty(), "{error}");
}

#[test]
fn refusals_say_what_would_help() {
    let host = host();
    host.keep("refusal", "Failed to schedule shutdown: Access denied\n");
    let error = host.call(&Rig::new(), &HostPowerControl, &wish("reboot", &boot_id())).unwrap_err();
    assert_eq!(error.code, "permission_denied");
    assert!(error.hint.unwrap().ends_with("ALL=(root) NOPASSWD: /usr/sbin/shutdown -r +5"));
    host.keep("refusal", "Failed to talk to init daemon.\n");
    let error = host.call(&Rig::new(), &HostPowerControl, &wish("reboot", &boot_id())).unwrap_err();
    assert!(error.code == "power_failed" && error.message.contains("init daemon"), "{error}");
}

#[test]
fn lines_of_who_are_read() {
    let read = |line| session(line).map(|s| (s.user, s.line, s.from));
    assert_eq!(
        read("ops      pts/0        Nov 21 08:00 (100.64.0.7)"),
        Some(("ops".into(), "pts/0".into(), Some("100.64.0.7".into())))
    );
    assert_eq!(read("root     tty1         Nov 21 08:00"), Some(("root".into(), "tty1".into(), None)));
    assert_eq!(read(""), None);
}

proptest! {
    #[test]
    fn no_output_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), dry: bool, cut in 0..12_usize) {
        let mut wish = wish("reboot", &boot_id());
        wish["dry_run"] = json!(dry);
        let operation = rig::plan(&HostPowerControl, wish).unwrap();
        let boot = boot_id();
        let mut sections: Vec<(&str, &[u8])> = vec![("boot", boot.as_bytes()), ("checked", b"yes")];
        for name in ["user", "sessions", "jobs", "busy", "scheduled", "status", "errors", "scheduled_after", "refused", "inhibitors"] {
            sections.push((name, &bytes));
        }
        sections.truncate(cut);
        let _ = HostPowerControl.render(&rig::pretend(operation, &sections, ""));
    }
}

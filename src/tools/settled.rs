//! Tests of what people are asked about: the same world gives the same paper, a world that changed gives another, which
//! names the change, and nobody is asked about what would be refused. Never part of the program.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt};

use serde_json::{Value, json};

use super::{
    ALL, ToolError,
    kit::Kind,
    paths::sandbox::Sandbox,
    rig::{self, Child, Rig, differ, preview_of, same, tool},
};
use crate::model::{Content, Effect, RawOutput, StepOutput};

const REASON: &str = "a test of questions";

/// Changes, and yet is held to nothing but its arguments: why.
const HELD_TO_NOTHING: &[(&str, &str)] = &[
    ("package_refresh", "fetches whatever lists there are"),
    ("snapshot_create", "keeps whatever it finds, in the gateway alone"),
];

#[test]
fn every_tool_that_changes_something_declares_what_it_rechecks() {
    for tool in ALL {
        let (spec, declared) = (tool.spec(), tool.rechecks());
        let names: BTreeSet<&str> = declared.iter().copied().collect();
        assert_eq!(names.len(), declared.len(), "{}", spec.name);
        let excused = HELD_TO_NOTHING.iter().any(|(name, _)| *name == spec.name);
        assert_eq!(declared.is_empty(), spec.effect == Effect::Read || excused, "{}: {declared:?}", spec.name);
        if spec.effect != Effect::Read && spec.kind == Kind::Host {
            assert!(tool.preview(&serde_json::Map::new()).is_some(), "{} has no dry run to show people", spec.name);
        }
    }
}

/// The paper of a call where the dry run's script prints these sections.
fn paper(name: &str, wish: &Value, sections: &[(&str, &[u8])]) -> Result<Value, ToolError> {
    let (rig, tool) = (Rig::new(), tool(name));
    let operation = rig.plan(tool, preview_of(tool, wish)).unwrap();
    assert!(operation.dry_run && operation.effect == Effect::Read, "{name}");
    let content = tool.render(&rig::pretend(operation, sections, "")).unwrap();
    rig.paper(tool, wish, &content)
}

#[track_caller]
fn pointless(result: Result<Value, ToolError>, says: &str) {
    let error = result.unwrap_err();
    assert!(error.code == "precondition_failed" && error.message.contains(says), "{error}");
}

fn file(sandbox: &Sandbox, name: &str, wish: &Value) -> Result<Value, ToolError> {
    let (rig, tool) = (sandbox.rig(), tool(name));
    let preview: Content = rig.call(tool, preview_of(tool, wish))?;
    rig.paper(tool, wish, &preview)
}

#[test]
fn file_delete_is_held_to_the_file() {
    let sandbox = Sandbox::new();
    let path = sandbox.inside("a.txt");
    fs::write(&path, "content").unwrap();
    let wish = json!({"path": sandbox.arg("a.txt"), "dry_run": false, "reason": REASON});
    let asked = file(&sandbox, "file_delete", &wish).unwrap();
    same(&asked, &file(&sandbox, "file_delete", &wish).unwrap());
    assert_eq!(asked["arguments"]["expect_sha256"].as_str().unwrap().len(), 64);

    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    differ(&asked, &file(&sandbox, "file_delete", &wish).unwrap(), &["world.mode"]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, "CONTENT").unwrap();
    differ(&asked, &file(&sandbox, "file_delete", &wish).unwrap(), &["arguments.expect_sha256"]);
    fs::write(&path, "more content").unwrap();
    differ(&asked, &file(&sandbox, "file_delete", &wish).unwrap(), &["arguments.expect_sha256", "world.size"]);
    fs::remove_file(&path).unwrap();
    assert_eq!(file(&sandbox, "file_delete", &wish).unwrap_err().code, "not_found");
}

#[test]
fn a_huge_file_is_held_to_its_size_and_time() {
    let sandbox = Sandbox::new();
    let huge = fs::File::create(sandbox.inside("huge")).unwrap();
    huge.set_len(65 << 20).unwrap();
    let wish = json!({"path": sandbox.arg("huge"), "dry_run": false, "reason": REASON});
    let asked = file(&sandbox, "file_delete", &wish).unwrap();
    same(&asked, &file(&sandbox, "file_delete", &wish).unwrap());
    assert!(asked["arguments"].get("expect_sha256").is_none(), "{asked:#}");
    huge.set_modified(std::time::UNIX_EPOCH).unwrap();
    differ(&asked, &file(&sandbox, "file_delete", &wish).unwrap(), &["world.mtime"]);
}

#[test]
fn file_write_is_held_to_what_it_replaces() {
    let sandbox = Sandbox::new();
    let wish = json!({"path": sandbox.arg("a.txt"), "content": "new", "reason": REASON});
    let asked = file(&sandbox, "file_write", &wish).unwrap();
    assert_eq!(asked["arguments"]["expect_sha256"], "absent");
    same(&asked, &file(&sandbox, "file_write", &wish).unwrap());

    fs::write(sandbox.inside("a.txt"), "old").unwrap();
    let over = file(&sandbox, "file_write", &wish).unwrap();
    differ(&asked, &over, &["arguments.expect_sha256", "world.mode", "world.owner"]);
    fs::set_permissions(sandbox.inside("a.txt"), fs::Permissions::from_mode(0o600)).unwrap();
    differ(&over, &file(&sandbox, "file_write", &wish).unwrap(), &["world.mode"]);
    let other = json!({"path": sandbox.arg("a.txt"), "content": "new.", "reason": REASON});
    let names = ["arguments.content_sha256", "arguments.size", "world.mode"];
    differ(&over, &file(&sandbox, "file_write", &other).unwrap(), &names);
}

const UNIT: &str = "Id=web.service\nLoadState=loaded\nActiveState=active\nSubState=running\nMainPID=35\nNRestarts=0\nInvocationID=eff8e4ba57e24503824b4bdd881b4c76\nJob=\n";

#[test]
fn service_control_is_held_to_the_units_state() {
    let wish = json!({"unit": "web", "action": "restart", "dry_run": false, "reason": REASON});
    let with = |unit: &str, needed: &str| {
        paper(
            "service_control",
            &wish,
            &[("before", unit.as_bytes()), ("needed", needed.as_bytes()), ("protected", b"")],
        )
    };
    let asked = with(UNIT, "shop.service\n").unwrap();
    // What changes by itself is not part of it.
    same(&asked, &with(&UNIT.replace("NRestarts=0", "NRestarts=4"), "shop.service\n").unwrap());
    for (from, to, name) in [
        ("=loaded", "=masked", "world.load"),
        ("=active", "=failed", "world.active"),
        ("=running", "=exited", "world.sub"),
        ("=35", "=36", "world.main_pid"),
        ("=eff8", "=0238", "world.invocation_id"),
    ] {
        differ(&asked, &with(&UNIT.replace(from, to), "shop.service\n").unwrap(), &[name]);
    }
    differ(&asked, &with(UNIT, "bank.service\nshop.service\n").unwrap(), &["world.needed_by"]);
    let along = paper("service_control", &wish, &[("before", UNIT.as_bytes()), ("protected", b"ssh.service\n")]);
    pointless(along, "ssh.service");
}

#[test]
fn a_timer_may_run_while_people_think() {
    let wish = json!({"unit": "web.timer", "action": "stop", "dry_run": false, "reason": REASON});
    let with = |sub: &str| {
        let unit = format!("Id=web.timer\nLoadState=loaded\nActiveState=active\nSubState={sub}\n");
        paper("service_control", &wish, &[("before", unit.as_bytes()), ("protected", b"")]).unwrap()
    };
    same(&with("waiting"), &with("running"));
}

#[test]
fn service_configure_is_held_to_the_units_configuration() {
    const UNIT: &str =
        "Id=web.service\nLoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\n";
    let wish = json!({"unit": "web", "action": "disable", "now": true, "dry_run": false, "reason": REASON});
    let with = |unit: &str, install: &str, stops: &str| {
        let sections = [
            ("before", unit.as_bytes()),
            ("install", install.as_bytes()),
            ("stops", stops.as_bytes()),
            ("protected", b""),
        ];
        paper("service_configure", &wish, &sections).unwrap()
    };
    let asked = with(UNIT, "WantedBy=multi-user.target\n", "");
    same(&asked, &with(&UNIT.replace("running", "exited"), "WantedBy=multi-user.target\n", ""));
    for (from, to, name) in [
        ("=enabled", "=static", "world.enabled"),
        ("=active", "=inactive", "world.active"),
        ("=loaded", "=masked", "world.load"),
    ] {
        differ(&asked, &with(&UNIT.replace(from, to), "WantedBy=multi-user.target\n", ""), &[name]);
    }
    differ(&asked, &with(UNIT, "WantedBy=other.target\n", ""), &["world.install"]);
    differ(&asked, &with(UNIT, "WantedBy=multi-user.target\n", "shop.service\n"), &["world.stops"]);
    let sections: [(&str, &[u8]); 2] = [("before", UNIT.as_bytes()), ("protected", b"ssh.service\n")];
    pointless(paper("service_configure", &wish, &sections), "ssh.service");
}

#[test]
fn process_signal_is_held_to_what_the_process_runs() {
    let child = Child::sh("while :; do sleep 0.2; done");
    let (rig, tool) = (Rig::new(), tool("process_signal"));
    let wish = json!({"pid": child.id(), "start_ticks": child.stat().start_ticks, "signal": "TERM", "reason": REASON});
    let preview = rig.call(tool, preview_of(tool, &wish)).unwrap();
    let asked = rig.paper(tool, &wish, &preview).unwrap();
    same(&asked, &rig.paper(tool, &wish, &rig.call(tool, preview_of(tool, &wish)).unwrap()).unwrap());
    for name in ["name", "cmd", "user"] {
        let mut other = preview.clone();
        other.data["process"][name] = json!("another");
        differ(&asked, &rig.paper(tool, &wish, &other).unwrap(), &[&format!("world.{name}")]);
    }
    let mut asleep = preview;
    asleep.data["process"]["state"] = json!("sleeping");
    same(&asked, &rig.paper(tool, &wish, &asleep).unwrap());
}

#[test]
fn package_change_is_held_to_the_exact_changes() {
    const PLAN: &str = "Inst alpha (2.0 lab [all])\n";
    let digest = |plan: &str| crate::model::hex(ring::digest::digest(&ring::digest::SHA256, plan.as_bytes()).as_ref());
    let wish = |plan: &str| {
        json!({"action": "install", "packages": [{"name": "alpha"}], "plan_sha256": digest(plan), "dry_run": false,
            "reason": REASON})
    };
    let with = |wish: &Value, plan: &str, vital: &str| {
        let sections: [(&str, &[u8]); 4] = [
            ("plan", plan.as_bytes()),
            ("plan_sha256", &digest(plan).into_bytes()),
            ("vital", vital.as_bytes()),
            ("checked", b"0\n"),
        ];
        paper("package_change", wish, &sections)
    };
    let asked = with(&wish(PLAN), PLAN, "").unwrap();
    assert_eq!(asked["arguments"]["plan_sha256"], digest(PLAN));
    same(&asked, &with(&wish(PLAN), PLAN, "").unwrap());
    // A hash from another preview is refused before anybody is asked, and so is what the run itself would refuse.
    let error = with(&wish("Inst alpha (1.0 lab [all])\n"), PLAN, "").unwrap_err();
    assert!(error.code == "precondition_failed" && error.message.contains(&digest(PLAN)), "{error}");
    pointless(with(&wish(""), "", ""), "nothing to do");
    let removes = format!("{PLAN}Remv ssh-thing [1.0]\n");
    pointless(with(&wish(&removes), &removes, ""), "allow_remove");
    pointless(with(&wish(&removes), &removes, "ssh-thing\n"), "ssh-thing");
}

#[test]
fn host_power_control_is_held_to_the_boot() {
    const BOOT: &str = "3f0a3b0e-8c5a-4d8e-9f5e-0123456789ab";
    const FREE: &[u8] = br#"{"data":[[]]}"#;
    let wish = |boot: &str| json!({"action": "reboot", "boot_id": boot, "dry_run": false, "reason": REASON});
    let with = |wish: &Value, uptime: u32, busy: &str, sessions: &str| {
        let boot = format!("{BOOT}\n{uptime}\n");
        let sections: [(&str, &[u8]); 5] = [
            ("boot", boot.as_bytes()),
            ("sessions", sessions.as_bytes()),
            ("inhibitors", FREE),
            ("busy", busy.as_bytes()),
            ("checked", b"yes\n"),
        ];
        paper("host_power_control", wish, &sections)
    };
    let asked = with(&wish(BOOT), 17, "", "").unwrap();
    same(&asked, &with(&wish(BOOT), 99, "", "ops pts/0 Nov 21 08:00\n").unwrap());
    assert_eq!(asked["arguments"]["boot_id"], BOOT);
    pointless(with(&wish(BOOT), 17, "dpkg\n", ""), "dpkg");
    let error = with(&wish(&BOOT.replace('3', "4")), 17, "", "").unwrap_err();
    assert!(error.code == "precondition_failed" && error.message.contains("started since"), "{error}");
}

#[test]
fn token_revoke_is_held_to_whose_token_it_is() {
    let (rig, tool) = (Rig::new(), tool("token_revoke"));
    let wish = json!({"jti": rig::TOKEN, "reason": REASON});
    let with = |subject: &str, already: bool| {
        let operation = rig.plan_exactly(tool, &preview_of(tool, &wish)).unwrap();
        let answer = json!({
            "jti": rig::TOKEN, "subject": subject, "own": true, "revoked_at": null, "already": already,
        });
        let raw = RawOutput { operation, outputs: vec![StepOutput::Answer(answer)] };
        rig.paper(tool, &wish, &tool.render(&raw).unwrap()).unwrap()
    };
    let asked = with("agent-7", false);
    same(&asked, &with("agent-7", false));
    differ(&asked, &with("agent-8", false), &["world.subject"]);
    differ(&asked, &with("agent-7", true), &["world.already"]);
}

#[test]
fn package_refresh_and_http_probe_are_held_to_their_arguments() {
    let (rig, nothing) = (Rig::new(), Content::default());
    let refresh = json!({"reason": REASON});
    let asked = rig.paper(tool("package_refresh"), &refresh, &nothing).unwrap();
    same(&asked, &rig.paper(tool("package_refresh"), &refresh, &nothing).unwrap());
    let probe = json!({"url": "http://127.0.0.1:8080/healthz"});
    let asked = rig.paper(tool("http_probe"), &probe, &nothing).unwrap();
    same(&asked, &rig.paper(tool("http_probe"), &probe, &nothing).unwrap());
    let other = json!({"url": "http://127.0.0.1:8080/healthz", "method": "GET"});
    differ(&asked, &rig.paper(tool("http_probe"), &other, &nothing).unwrap(), &["arguments.method"]);
}

#[test]
fn what_counts_back_from_now_says_from_when() {
    let search = |wish: Value| Rig::new().plan(tool("file_search"), wish).unwrap().moment;
    let journal = |wish: Value| Rig::new().plan(tool("journal_query"), wish).unwrap().moment;
    let noon = Some("2026-11-21T12:00:00Z".parse().unwrap());
    assert_eq!(search(json!({"root": "/var/log", "newer_than": "24h"})), noon);
    assert_eq!(journal(json!({"since": "1h"})), noon);
    assert_eq!(search(json!({"root": "/var/log", "newer_than": "2026-11-20T12:00:00Z"})), None);
    assert_eq!(search(json!({"root": "/var/log", "name": "syslog"})), None);
    assert_eq!(journal(json!({"since": "2026-11-20T12:00:00Z"})), None);
    assert_eq!(journal(json!({})), None);
}

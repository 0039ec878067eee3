//! `service_inspect` on hostile arguments, on a host made by the test and on this machine.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::tools::{
    fakes::Fakes,
    rig::{self, Rig},
};

const SHOW: &str = "Id=web.service\nNames=web.service www.service\nDescription=Web\nLoadState=loaded\nActiveState=active\n\
                    SubState=running\nUnitFileState=enabled\nActiveEnterTimestamp=Sat 2026-11-21 08:46:21 UTC\n\
                    MainPID=35\nNRestarts=2\nResult=success\nExecMainStatus=0\nMemoryCurrent=1048576\n\
                    CPUUsageNSec=2500000000\nTasksCurrent=18446744073709551615\nNeedDaemonReload=yes\nLoadError=\nType=simple\n";
const ENTRY: &str = r#"{"__REALTIME_TIMESTAMP":"1795251308080742","__CURSOR":"s=1","MESSAGE":"up"}"#;

#[test]
fn wrong_arguments_are_named() {
    for (arguments, field) in [
        (json!({}), "unit"),
        (json!({"unit": ""}), "unit"),
        (json!({"unit": "ss*"}), "unit"),
        (json!({"unit": "-H"}), "unit"),
        (json!({"unit": "/etc/passwd"}), "unit"),
        (json!({"unit": "web", "log_lines": 101}), "log_lines"),
        (json!({"unit": "web", "log_lines": -1}), "log_lines"),
        (json!({"unit": "web", "follow": true}), "follow"),
    ] {
        let error = rig::plan(&ServiceInspect, arguments).unwrap_err();
        assert!(error.code == "invalid_arguments" && error.message.contains(field), "{field}: {error}");
    }
    rig::fits_budget(&ServiceInspect);
}

#[test]
fn journal_lines_need_their_own_scope() {
    let operation = rig::plan(&ServiceInspect, json!({"unit": "web"})).unwrap();
    assert_eq!((operation.scopes, operation.risk), (&[Scope::SystemRead][..], Risk::Low));
    let operation = rig::plan(&ServiceInspect, json!({"unit": "web", "log_lines": 1})).unwrap();
    assert_eq!(operation.scopes, [Scope::SystemRead, Scope::LogRead]);
}

#[test]
fn a_unit_is_shown_in_full() {
    let operation = rig::plan(&ServiceInspect, json!({"unit": "www", "log_lines": 5})).unwrap();
    let sections: &[(&str, &[u8])] = &[
        ("show", SHOW.as_bytes()),
        ("file", b"# /lib/systemd/system/web.service\n[Service]\nEnvironment=KEY=hunter2\n"),
        ("needed", b"multi-user.target\nshop.service\n"),
        ("needs", b"sysinit.target\n"),
        ("triggers", b""),
        ("log", ENTRY.as_bytes()),
    ];
    let content = ServiceInspect.render(&rig::pretend(operation, sections, "")).unwrap();
    rig::conforms(&ServiceInspect, &content.data);
    let unit = &content.data["unit"];
    assert_eq!((&unit["name"], &unit["aliases"]), (&json!("web.service"), &json!(["www.service"])));
    assert_eq!(
        (&unit["cpu_ms"], &unit["tasks"], &unit["memory_bytes"]),
        (&json!(2500), &Value::Null, &json!(1_048_576))
    );
    assert_eq!(unit["active_since"], "2026-11-21T08:46:21Z");
    assert_eq!(content.data["needed_by"], json!(["multi-user.target", "shop.service"]));
    assert_eq!(content.data["log"][0]["message"], "up");
    assert!(content.warnings[0].contains("changed"), "{:?}", content.warnings);
    assert!(!content.data.to_string().contains("hunter2"));
    assert!(content.partial.is_empty(), "{:?}", content.partial);
}

#[test]
fn what_cannot_be_had_is_named() {
    let operation = rig::plan(&ServiceInspect, json!({"unit": "web", "log_lines": 5})).unwrap();
    let sections: &[(&str, &[u8])] =
        &[("show", SHOW.as_bytes()), ("!file", b"no_file"), ("!log", b"permission_denied")];
    let content = ServiceInspect.render(&rig::pretend(operation.clone(), sections, "")).unwrap();
    let partial: Vec<_> = content.partial.iter().map(|part| (part.section.as_str(), part.reason.as_str())).collect();
    assert_eq!(partial, [("file", "no_file"), ("log", "permission_denied")]);
    assert_eq!(content.data["log"], Value::Null);
    let error = ServiceInspect.render(&rig::pretend(operation.clone(), &[], "")).unwrap_err();
    assert_eq!(error.code, "unreadable_output");
    let gone: &[(&str, &[u8])] =
        &[("show", b"Id=web.service\nLoadState=not-found\nActiveState=inactive\n"), ("near", b"web2.service\n")];
    let error = ServiceInspect.render(&rig::pretend(operation, gone, "")).unwrap_err();
    assert_eq!((error.code, error.hint.as_deref()), ("not_found", Some("did you mean web2.service?")));
}

#[test]
fn the_script_asks_only_for_what_was_wanted() {
    let systemctl =
        r#"echo "$*" >>"$FAKE/asked"; case $1 in show) cat "$FAKE/show" ;; cat) echo '# /x'; echo 'A=1' ;; esac"#;
    let host = Fakes::new(&[("systemctl", systemctl), ("journalctl", r#"touch "$FAKE/journal""#)]).with_systemd();
    host.keep("show", SHOW);
    let content = host.call(&Rig::new(), &ServiceInspect, &json!({"unit": "web"})).unwrap();
    assert_eq!(content.data["files"], json!([{"path": "/x", "text": "A=1"}]));
    assert!(!host.path("journal").exists() && content.data["log"].is_null());
    assert!(host.kept("asked").lines().all(|line| line.ends_with("-- web.service")), "{}", host.kept("asked"));
}

#[test]
fn this_machine_answers_or_says_why_not() {
    match rig::call(&ServiceInspect, json!({"unit": "tailops-no-such-unit"})) {
        Ok(content) => panic!("{content:?}"),
        Err(error) => assert!(["unsupported", "not_found"].contains(&error.code), "{error}"),
    }
}

proptest! {
    #[test]
    fn no_output_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0..7_usize) {
        let operation = rig::plan(&ServiceInspect, json!({"unit": "web", "log_lines": 5})).unwrap();
        let mut sections: Vec<(&str, &[u8])> = vec![("show", SHOW.as_bytes())];
        for name in ["file", "needed", "needs", "triggers", "log"] {
            sections.push((name, &bytes));
        }
        sections.truncate(cut);
        let _ = ServiceInspect.render(&rig::pretend(operation, &sections, ""));
    }
}

//! `service_configure` on hostile arguments and, with a `systemctl` made by the test, its real run.

use serde_json::json;

use super::*;
use crate::tools::{
    fakes::Fakes,
    rig::{self, Rig},
};

/// A `systemctl` whose units are files: `$FAKE/UNIT` holds its properties, `$FAKE/UNIT.file` its unit file. What it is
/// told to change it notes in `$FAKE/done`.
const SYSTEMCTL: &str = r#"
verb=$1; shift
names=; properties=; flags=
while [ $# -gt 0 ]; do
  case $1 in
  -p) properties=$2; shift ;;
  --) shift; names=$*; break ;;
  -*) flags="$flags $1" ;;
  *) names="$names $1" ;;
  esac
  shift
done
case $verb in
show)
  for name in $names; do
    if [ ! -f "$FAKE/$name" ]; then case $flags in *--value*) echo "${properties%%[!N]*}" | sed -n "s/^N.*/$name/p"; continue ;; esac; fi
    [ -f "$FAKE/$name" ] || { echo "Id=$name"; echo LoadState=not-found; echo ActiveState=inactive; echo SubState=dead; continue; }
    case $flags in
    *--value*) for p in $(echo "$properties" | tr , ' '); do sed -n "s/^$p=//p" "$FAKE/$name"; done ;;
    *) cat "$FAKE/$name" ;;
    esac
  done ;;
cat) for name in $names; do [ -f "$FAKE/$name.file" ] || exit 1; cat "$FAKE/$name.file"; done ;;
list-unit-files) echo 'web.service enabled enabled' ;;
*)
  echo "$verb$flags --$names" >>"$FAKE/done"
  if [ -f "$FAKE/refusal" ]; then cat "$FAKE/refusal" >&2; exit 1; fi
  case $verb in disable) state=disabled ;; enable) state=enabled ;; mask) state=masked ;; *) state=disabled ;; esac
  sed -i "s/^UnitFileState=.*/UnitFileState=$state/" "$FAKE/$names"
  case $flags in *--now*) sed -i 's/^ActiveState=.*/ActiveState=inactive/;s/^SubState=.*/SubState=dead/' "$FAKE/$names" ;; esac
  echo "Removed \"/etc/systemd/system/multi-user.target.wants/$names\"." >&2 ;;
esac
"#;

const WEB: &str = "Id=web.service\nNames=web.service www.service\nLoadState=loaded\nActiveState=active\nSubState=running\n\
                   UnitFileState=enabled\nUnitFilePreset=enabled\nRequiredBy=shop.service\nJob=\n";
const WEB_FILE: &str = "# /lib/systemd/system/web.service\n[Unit]\nDescription=Web\nAlso=no-install-section.service\n\
                        [Install]\nWantedBy=multi-user.target\nAlias=www.service\nAlso=web.socket\n";

fn host() -> Fakes {
    let fakes = Fakes::new(&[("systemctl", SYSTEMCTL)]).with_systemd();
    fakes.keep("web.service", WEB);
    fakes.keep("web.service.file", WEB_FILE);
    fakes.keep("web.socket", "Id=web.socket\nNames=web.socket\nLoadState=loaded\nActiveState=active\n");
    fakes.keep("shop.service", "Id=shop.service\nNames=shop.service\nLoadState=loaded\nActiveState=active\n");
    fakes
}

fn wish(action: &str, dry_run: bool) -> Value {
    json!({"unit": "web", "action": action, "reason": "moves to another host", "dry_run": dry_run})
}

#[test]
fn wrong_arguments_are_named() {
    for (arguments, field) in [
        (json!({"unit": "web", "action": "enable"}), "reason"),
        (json!({"unit": "web", "action": "enable", "reason": "no"}), "reason"),
        (json!({"unit": "web", "action": "edit", "reason": "because"}), "action"),
        (json!({"unit": "web", "action": "unmask", "now": true, "reason": "because"}), "now"),
        (json!({"unit": "web", "action": "mask", "force": true, "reason": "because"}), "force"),
        (json!({"unit": "multi-user.target", "action": "mask", "reason": "because"}), "unit"),
        (json!({"unit": "/etc/x.service", "action": "mask", "reason": "because"}), "unit"),
        (json!({"unit": "--global", "action": "mask", "reason": "because"}), "unit"),
        (json!({"unit": "web@.service", "action": "mask", "reason": "because"}), "unit"),
    ] {
        let error = rig::plan(&ServiceConfigure, arguments).unwrap_err();
        assert!(error.code == "invalid_arguments" && error.message.contains(field), "{field}: {error}");
    }
    rig::fits_budget(&ServiceConfigure);
}

#[test]
fn it_is_critical_and_a_dry_run_unless_asked() {
    let operation = rig::plan(&ServiceConfigure, json!({"unit": "web", "action": "mask", "reason": "why"})).unwrap();
    assert!(operation.dry_run && operation.effect == Effect::Read && operation.risk == Risk::Critical);
    let operation = rig::plan(&ServiceConfigure, wish("mask", false)).unwrap();
    assert!(!operation.dry_run && operation.effect == Effect::Destructive && operation.risk == Risk::Critical);
}

#[test]
fn a_preview_shows_what_goes_along_and_changes_nothing() {
    let host = host();
    let mut wish = wish("disable", true);
    wish["now"] = json!(true);
    let content = host.call(&Rig::new(), &ServiceConfigure, &wish).unwrap();
    assert_eq!((content.changed, host.kept("done").as_str()), (Some(false), ""));
    assert_eq!(
        content.data["install"],
        json!({"wanted_by": ["multi-user.target"], "required_by": [], "alias": ["www.service"], "also": ["web.socket"]})
    );
    assert_eq!(content.data["stops"], json!(["shop.service", "web.socket"]));
    assert_eq!(content.before.unwrap()["enabled"], "enabled");
    assert!(content.data["protected"].as_array().unwrap().is_empty());
}

#[test]
fn a_real_run_says_what_it_did() {
    let host = host();
    let content = host.call(&Rig::new(), &ServiceConfigure, &wish("disable", false)).unwrap();
    assert_eq!(host.kept("done"), "disable --no-ask-password --web.service\n");
    assert_eq!(content.changed, Some(true));
    assert_eq!(content.after.unwrap()["enabled"], "disabled");
    assert!(content.warnings[0].starts_with("Removed "), "{:?}", content.warnings);
    let again = host.call(&Rig::new(), &ServiceConfigure, &wish("disable", false)).unwrap();
    assert_eq!(again.changed, Some(false), "doing it twice is doing it once");

    let mut now = wish("mask", false);
    now["now"] = json!(true);
    let content = host.call(&Rig::new(), &ServiceConfigure, &now).unwrap();
    assert!(host.kept("done").ends_with("mask --now --no-block --no-ask-password --web.service\n"));
    assert_eq!((&content.data["settled"], &content.after.unwrap()["active"]), (&json!(true), &json!("inactive")));
}

#[test]
fn what_reaches_a_protected_unit_under_another_name_is_refused() {
    let spoil: [(&str, &str, &str, bool); 4] = [
        ("web.service", "Names=web.service ssh.service\n", "disable", false),
        ("web.service.file", "[Install]\nAlso=tailscaled.service\n", "enable", false),
        ("web.service.file", "[Install]\nAlias=sshd.service\n", "enable", false),
        ("shop.service", "RequiredBy=docker.service\n", "mask", true),
    ];
    for (file, more, action, now) in spoil {
        let host = host();
        host.keep(file, &format!("{}{more}", host.kept(file)));
        let mut wish = wish(action, false);
        wish["now"] = json!(now);
        let error = host.call(&Rig::new(), &ServiceConfigure, &wish).unwrap_err();
        assert_eq!((error.code, host.kept("done").as_str()), ("protected_unit", ""), "{more}");
        wish["dry_run"] = json!(true);
        let preview = host.call(&Rig::new(), &ServiceConfigure, &wish).unwrap();
        assert!(preview.warnings[0].contains("refused"), "{more}: {:?}", preview.warnings);
    }
    // By its own name it is for the approver to say.
    let host = host();
    host.keep("ssh.service", &WEB.replace("web.service www.service", "ssh.service").replace("web", "ssh"));
    let own = json!({"unit": "ssh", "action": "disable", "reason": "moves away", "dry_run": false});
    assert_eq!(host.call(&Rig::new(), &ServiceConfigure, &own).unwrap().changed, Some(true));
}

#[test]
fn refusals_say_what_would_help() {
    for (refusal, code, help) in [
        (
            "Failed to disable unit: Access denied",
            "permission_denied",
            "/usr/bin/systemctl disable --no-ask-password -- web.service",
        ),
        (
            "Failed to disable unit: Unit web.service is transient or generated.",
            "precondition_failed",
            "service_inspect",
        ),
        ("Failed to disable unit: No such process", "service_failed", "service_inspect"),
    ] {
        let host = host();
        host.keep("refusal", refusal);
        let error = host.call(&Rig::new(), &ServiceConfigure, &wish("disable", false)).unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.hint.as_ref().unwrap().contains(help), "{error:?}");
    }
}

#[test]
fn an_unknown_unit_and_a_host_without_systemd_are_errors() {
    let unknown = json!({"unit": "wbe", "action": "mask", "reason": "because"});
    let error = host().call(&Rig::new(), &ServiceConfigure, &unknown).unwrap_err();
    assert_eq!(error.code, "not_found");
    let bare = Fakes::new(&[("systemctl", SYSTEMCTL)]).moving("/run/systemd/system", "none");
    let error = bare.call(&Rig::new(), &ServiceConfigure, &wish("mask", false)).unwrap_err();
    assert_eq!(error.code, "unsupported");
    // A look that breaks off allows nothing.
    let operation = rig::plan(&ServiceConfigure, wish("mask", true)).unwrap();
    let raw = rig::pretend(operation, &[("before", WEB.as_bytes())], "");
    assert_eq!(ServiceConfigure.render(&raw).unwrap_err().code, "unreadable_output");
}

#[test]
fn sudo_is_used_where_the_target_allows_it() {
    if !rustix::process::geteuid().is_root() {
        let host = host();
        host.keep("refusal", "sudo: a password is required");
        assert!(host.call(&Rig::with_sudo(), &ServiceConfigure, &wish("disable", false)).is_err());
    }
    let operation = Rig::with_sudo().plan(&ServiceConfigure, wish("disable", false)).unwrap();
    let Some(Step::Script(script)) = operation.steps.first() else { panic!("no script") };
    assert_eq!(script.args[..7], ["web.service", "disable", "later", "30", "ordinary", "run", "sudo"]);
}

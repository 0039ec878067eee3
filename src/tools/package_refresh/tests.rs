//! `package_refresh` on hostile arguments, on recorded output and with an `apt-get` made by the test.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::tools::{
    fakes::Fakes,
    rig::{self, Rig},
};

/// What apt 2.6.1 printed: three suites of Debian and one archive that cannot be reached.
const OUT: &str = include_str!("../../../tests/cases/apt/update.txt");
const ERR: &str = include_str!("../../../tests/cases/apt/update-errors.txt");

/// An `apt-get` that prints what the test keeps.
const APT: &str = r#"
case $1 in
indextargets) echo 'http://deb.debian.org/debian bookworm' ;;
update)
  echo "$*" >>"$FAKE/done"
  if [ -f "$FAKE/lock" ]; then rm "$FAKE/lock"; echo 'E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (apt-get)' >&2; exit 100; fi
  cat "$FAKE/out"; cat "$FAKE/err" >&2; exit "$(cat "$FAKE/rc")" ;;
esac
"#;

fn host(out: &str, err: &str, rc: &str) -> Fakes {
    let fakes = Fakes::new(&[("apt-get", APT), ("sleep", "exit 0")]);
    for (name, content) in [("out", out), ("err", err), ("rc", rc)] {
        fakes.keep(name, content);
    }
    fakes
}

#[test]
fn wrong_arguments_are_named() {
    for (arguments, field) in [
        (json!({"reason": "x"}), "reason"),
        (json!({"reason": "a\nb c"}), "reason"),
        (json!({"dry_run": "no"}), "dry_run"),
        (json!({"source": "x"}), "source"),
    ] {
        let error = rig::plan(&PackageRefresh, arguments).unwrap_err();
        assert!(error.code == "invalid_arguments" && error.message.contains(field), "{field}: {error}");
    }
    rig::fits_budget(&PackageRefresh);
}

#[test]
fn a_real_run_is_a_write_and_a_dry_one_a_read_that_fetches_nothing() {
    let operation = rig::plan(&PackageRefresh, json!({})).unwrap();
    assert_eq!((operation.effect, operation.risk, operation.dry_run), (Effect::Write, Risk::Moderate, false));
    assert_eq!(rig::plan(&PackageRefresh, json!({"dry_run": true})).unwrap().effect, Effect::Read);
    let host = host("", "", "0");
    let content = host.call(&Rig::new(), &PackageRefresh, &json!({"dry_run": true})).unwrap();
    assert_eq!(content.data["sources"], json!(["http://deb.debian.org/debian bookworm"]));
    assert_eq!((content.changed, host.kept("done").as_str()), (Some(false), ""));
}

#[test]
fn sources_are_told_apart() {
    let host = host(OUT, ERR, "0");
    let content = host.call(&Rig::new(), &PackageRefresh, &json!({})).unwrap();
    assert_eq!(host.kept("done"), "update -q\n");
    assert_eq!(
        content.data["changed_sources"],
        json!([
            "http://deb.debian.org/debian bookworm",
            "http://deb.debian.org/debian bookworm-updates",
            "http://deb.debian.org/debian-security bookworm-security"
        ])
    );
    // An item that was got and then ignored is none that is new.
    assert_eq!(content.data["errors"].as_array().unwrap().len(), 1);
    let error = &content.data["errors"][0];
    assert_eq!(error["source"], "http://127.0.0.1:9/gone stable");
    assert!(error["message"].as_str().unwrap().starts_with("Could not connect to 127.0.0.1:9"), "{error}");
    assert_eq!(content.changed, Some(true));
    assert!(content.warnings.iter().any(|warning| warning.contains("not every source")));
}

#[test]
fn only_the_last_line_about_an_item_counts() {
    let out = "Get:1 file:/repo ./ InRelease\nIgn:1 file:/repo ./ InRelease\nGet:2 file:/repo ./ Packages\n\
               Ign:2 file:/repo ./ Packages\nErr:2 file:/repo ./ Packages\n  File not found\n  (2: No such file)\n";
    let host = host(out, "E: Failed to fetch file:/repo/./Packages\n", "100");
    let content = host.call(&Rig::new(), &PackageRefresh, &json!({})).unwrap();
    assert_eq!(content.data["changed_sources"], json!([]));
    assert_eq!(
        content.data["errors"][0],
        json!({"source": "file:/repo ./", "message": "File not found (2: No such file)"})
    );
    assert_eq!(content.data["errors"][1]["source"], Value::Null);
}

#[test]
fn nothing_new_is_no_change() {
    let host = host("Hit:1 http://deb.debian.org/debian bookworm InRelease\nReading package lists...\n", "", "0");
    let content = host.call(&Rig::new(), &PackageRefresh, &json!({})).unwrap();
    assert_eq!((content.changed, content.warnings.len()), (Some(false), 0));
}

#[test]
fn another_apt_is_waited_for() {
    let host = host("Hit:1 http://deb.debian.org/debian bookworm InRelease\n", "", "0");
    host.keep("lock", "");
    host.call(&Rig::new(), &PackageRefresh, &json!({})).unwrap();
    assert_eq!(host.kept("done"), "update -q\nupdate -q\n");
}

#[test]
fn refusals_say_what_would_help() {
    let denied = "E: Could not open lock file /var/lib/apt/lists/lock - open (13: Permission denied)\n\
                  E: Unable to lock directory /var/lib/apt/lists/\n";
    let locked = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (apt-get)\n";
    for (errors, code, help) in [
        (denied, "permission_denied", "NOPASSWD: /usr/bin/apt-get update -q"),
        ("sudo: a password is required\n", "permission_denied", "NOPASSWD: /usr/bin/apt-get update -q"),
        (locked, "busy", "try again"),
    ] {
        let operation = rig::plan(&PackageRefresh, json!({})).unwrap();
        let sections: &[(&str, &[u8])] = &[
            ("user", b"ops\n"),
            ("sources", b""),
            ("out", b"Reading package lists...\n"),
            ("errors", errors.as_bytes()),
            ("status", b"100\n"),
        ];
        let error = PackageRefresh.render(&rig::pretend(operation, sections, "")).unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.hint.as_ref().unwrap().contains(help), "{error:?}");
    }
}

#[test]
fn without_rights_the_real_apt_is_refused() {
    if !rustix::process::geteuid().is_root() || !std::path::Path::new("/usr/bin/apt-get").exists() {
        return;
    }
    let error = Rig::new().under(rig::AS_NOBODY).call(&PackageRefresh, json!({})).unwrap_err();
    assert_eq!(error.code, "permission_denied");
    assert!(error.message.contains("nobody"), "{error}");
}

proptest! {
    #[test]
    fn no_output_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0..8_usize) {
        let operation = rig::plan(&PackageRefresh, json!({})).unwrap();
        let mut sections: Vec<(&str, &[u8])> = vec![("sources", b""), ("out", OUT.as_bytes()), ("status", b"0\n")];
        for name in ["errors", "age_before", "age_after", "user", "out"] {
            sections.push((name, &bytes));
        }
        sections.truncate(cut);
        let _ = PackageRefresh.render(&rig::pretend(operation, &sections, ""));
    }
}

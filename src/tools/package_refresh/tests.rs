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
  cat "$FAKE/out"; cat "$FAKE/err" >&2; exit "$(cat "$FAKE/rc")" ;;
esac
"#;

fn host(out: &str, err: &str, rc: &str) -> Fakes {
    let sleep = r#"if [ "$1" = 1 ]; then : >"$FAKE/locks"; fi; exec /bin/sleep 0.05"#;
    let fakes = Fakes::new(&[("apt-get", APT), ("sleep", sleep)]).with_jobs();
    let fakes = fakes.moving("/proc/locks", "locks").moving("/var/lib/apt/lists/lock", "lock");
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
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(host.path("lock")).unwrap());
    let held = format!("1: POSIX  ADVISORY  WRITE 7 08:01:{inode} 0 EOF\n");
    host.keep("locks", &held);
    host.call(&Rig::new(), &PackageRefresh, &json!({})).unwrap();
    assert_eq!((host.kept("done").as_str(), host.kept("locks").as_str()), ("update -q\n", ""));
}

#[test]
fn it_is_a_job_that_the_host_starts_once() {
    let host = host("Hit:1 http://deb.debian.org/debian bookworm InRelease\n", "", "0");
    let content = host.call(&Rig::new(), &PackageRefresh, &json!({})).unwrap();
    assert_eq!(content.data["job"], json!({"id": rig::JOB, "state": "succeeded", "exit_status": 0}));
    // The same job again, as after a connection that broke: the host refuses, and apt does not run twice.
    let error = host.call(&Rig::new(), &PackageRefresh, &json!({})).unwrap_err();
    assert_eq!((error.code, host.kept("done").as_str()), ("already_started", "update -q\n"), "{error}");
    let command = host.kept("commands").lines().next().unwrap().to_owned();
    let wanted = rule(JOB_S, "apt-get update -q").replace("[0-9a-f]+", rig::JOB);
    assert_eq!(format!("^{}$", command.strip_prefix("systemd-run ").unwrap()), wanted, "what sudoers is told to allow");
}

#[test]
fn one_that_outlasts_the_call_goes_on() {
    let host = host("Hit:1 http://deb.debian.org/debian bookworm InRelease\n", "", "0");
    // Until the test lets it end.
    host.sh(br#"mkfifo "$FAKE/gate"; cd "$FAKE"; rm out; mkfifo out"#, &[]);
    let mut rig = Rig::new();
    rig.target.timeout = std::time::Duration::from_secs(1);
    let content = host.call(&rig, &PackageRefresh, &json!({})).unwrap();
    assert_eq!(content.data["job"], json!({"id": rig::JOB, "state": "running", "exit_status": null}));
    assert_eq!(content.changed, None);
    assert!(content.warnings[0].contains("job_inspect") && content.warnings[0].contains(rig::JOB));
    host.sh(br#"echo 'Hit:1 x y z' >"$FAKE/out""#, &[]);
}

#[test]
fn a_host_without_systemd_runs_nothing() {
    let host = host("", "", "0");
    std::fs::remove_dir(host.path("systemd")).unwrap();
    let error = host.call(&Rig::new(), &PackageRefresh, &json!({})).unwrap_err();
    assert!(error.code == "unsupported" && error.message.contains("no_systemd"), "{error}");
    assert_eq!((host.kept("done").as_str(), host.kept("started").as_str()), ("", ""));
}

#[test]
fn a_journal_that_cannot_be_read_is_said() {
    let host = host("Get:1 http://deb.debian.org/debian bookworm InRelease\n", "", "0");
    host.keep("unreadable", "");
    let content = host.call(&Rig::new(), &PackageRefresh, &json!({})).unwrap();
    assert_eq!((content.changed, content.partial[0].section.as_str()), (None, "out"));
    assert_eq!(content.data["job"]["state"], "succeeded");
}

#[test]
fn refusals_say_what_would_help() {
    let locked = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (apt-get)\n";
    let host_busy = host("Reading package lists...\n", locked, "100");
    let error = host_busy.call(&Rig::new(), &PackageRefresh, &json!({})).unwrap_err();
    assert!(error.code == "busy" && error.hint.unwrap().contains("try again"), "{}", error.message);
    let host_denied = host("", "", "0");
    host_denied.keep("forbidden", "");
    let error = host_denied.call(&Rig::new(), &PackageRefresh, &json!({})).unwrap_err();
    assert_eq!((error.code, host_denied.kept("done").as_str()), ("permission_denied", ""), "{error}");
    let hint = error.hint.unwrap();
    assert!(hint.contains("NOPASSWD: /usr/bin/systemd-run ^") && hint.contains("-- apt-get update -q$"), "{hint}");
    // sudo itself says no.
    let operation = rig::plan(&PackageRefresh, json!({})).unwrap();
    let sections: &[(&str, &[u8])] = &[
        ("user", b"ops\n"),
        ("sources", b""),
        ("job_start", b"1\n"),
        ("job_errors", b"sudo: a password is required\n"),
        ("job", b"LoadState=not-found\nActiveState=inactive\n"),
    ];
    let error = PackageRefresh.render(&rig::pretend(operation, sections, "")).unwrap_err();
    assert!(error.code == "permission_denied" && error.message.contains("ops"), "{error}");
}

proptest! {
    #[test]
    fn no_output_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0..8_usize) {
        let operation = rig::plan(&PackageRefresh, json!({})).unwrap();
        let mut sections: Vec<(&str, &[u8])> = vec![("sources", b""), ("out", OUT.as_bytes()), ("job_start", b"0\n")];
        for name in ["job", "age_before", "age_after", "user", "out"] {
            sections.push((name, &bytes));
        }
        sections.truncate(cut);
        let _ = PackageRefresh.render(&rig::pretend(operation, &sections, ""));
    }
}

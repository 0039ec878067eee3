//! The tailnet policy as an admin handles it: printed, merged into a file, checked.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

use crate::child::BINARY;

const CONFIG: &str = "[engagements.default]\n";

/// As an admin keeps it.
const POLICY: &str = "// ours\n{\n\t\"grants\": [\n\t\t// people\n\t\t{\"src\": [\"group:dev\"], \"dst\": [\"tag:web\"], \"ip\": [\"tcp:443\"]},\n\t],\n\t\"groups\": {\"group:dev\": [\"a@example.com\"]},\n\t\"tagOwners\": {\"tag:web\": []},\n}\n";

struct Desk {
    directory: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { directory: tempfile::tempdir().unwrap() };
        fs::write(desk.path("tailops.toml"), CONFIG).unwrap();
        fs::write(desk.path("policy.hujson"), POLICY).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs `acl` in the directory with the one port that the configuration does not have.
    fn acl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.current_dir(&self.directory).arg("acl").args(arguments).args(["--port", "8080"]).output().unwrap()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn fails(output: &Output, code: i32, wanted: &str) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(wanted), "{said}");
}

#[test]
fn a_printed_policy_checks_and_a_file_is_never_written_over() {
    let desk = Desk::new();
    let printed = desk.acl(&["print"]);
    assert!(printed.status.success() && printed.stderr.is_empty(), "{}", text(&printed.stderr));
    assert!(desk.acl(&["print", "--output", "new.hujson"]).status.success());
    assert_eq!(desk.read("new.hujson"), text(&printed.stdout));
    let checked = desk.acl(&["check", "new.hujson"]);
    assert!(checked.status.success(), "{}", text(&checked.stdout));
    assert!(text(&checked.stdout).ends_with(" 0 warn, 0 fail\n"), "{}", text(&checked.stdout));
    fails(&desk.acl(&["print", "--output", "policy.hujson"]), 1, "policy.hujson");
    assert_eq!(desk.read("policy.hujson"), POLICY);
    fails(&desk.acl(&["print", "--write"]), 2, "--merge");
    fails(&desk.acl(&["print", "--dialect", "headscale"]), 2, "--owner alice@");
    fails(&desk.acl(&["print", "--clients", "*"]), 2, "--clients: * lets in everybody");
    fs::write(desk.path("tailops.toml"), "[nodes]\n").unwrap();
    fails(&desk.acl(&["print"]), 3, "tailops.toml:1:");
}

#[test]
fn a_merge_shows_the_difference_and_writes_only_when_told() {
    let desk = Desk::new();
    let path = desk.path("policy.hujson");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let shown = desk.acl(&["print", "--merge", "policy.hujson"]);
    assert!(shown.status.success());
    assert_eq!(desk.read("policy.hujson"), POLICY, "nothing is written yet");
    let (merged, diff) = (text(&shown.stdout), text(&shown.stderr));
    assert!(diff.starts_with("--- policy.hujson\n+++ policy.hujson (merged)\n@@ "), "{diff}");
    // The one line that is not as it was has a comma more.
    let taken: Vec<&str> = diff.lines().skip(2).filter(|line| line.starts_with('-')).collect();
    assert_eq!(taken, ["-\t\"tagOwners\": {\"tag:web\": []},"], "{diff}");
    for line in POLICY.lines().filter(|line| !line.contains("tagOwners")) {
        assert!(merged.lines().any(|new| new == line), "{line}\n{merged}");
    }
    let written = desk.acl(&["print", "--merge", "policy.hujson", "--write"]);
    assert!(written.status.success() && written.stdout.is_empty());
    assert!(text(&written.stderr).contains("+\t\"tests\": ["), "{}", text(&written.stderr));
    assert_eq!(desk.read("policy.hujson"), merged);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(desk.names(), ["policy.hujson", "tailops.toml"], "nothing is left beside it");
    let again = desk.acl(&["print", "--merge", "policy.hujson", "--write"]);
    assert!(text(&again.stderr).contains("has all of it already"), "{}", text(&again.stderr));
    assert_eq!(desk.read("policy.hujson"), merged);
    assert!(desk.acl(&["check", "policy.hujson"]).status.success());
}

#[test]
fn what_cannot_be_merged_stays_as_it_is() {
    let desk = Desk::new();
    for (broken, place) in [
        ("{\n\t\"grants\": [\n\t\t{]\n", "broken.hujson:3:4: "),
        ("{\"grants\": {}}", "broken.hujson:1:12: grants must be an array"),
    ] {
        fs::write(desk.path("broken.hujson"), broken).unwrap();
        let output = desk.acl(&["print", "--merge", "broken.hujson", "--write"]);
        fails(&output, 1, place);
        assert!(output.stdout.is_empty());
        assert_eq!(desk.read("broken.hujson"), broken);
    }
    fails(&desk.acl(&["check", "absent.hujson"]), 1, "absent.hujson");
    fs::write(desk.path("broken.hujson"), "{,}").unwrap();
    fails(&desk.acl(&["check", "broken.hujson"]), 1, "broken.hujson:1:2: ");
    // Somebody else's half-written file is no place for ours.
    fs::write(desk.path("policy.hujson.new"), "x").unwrap();
    fails(&desk.acl(&["print", "--merge", "policy.hujson", "--write"]), 1, "policy.hujson.new");
    assert_eq!((desk.read("policy.hujson"), desk.read("policy.hujson.new")), (POLICY.to_owned(), "x".to_owned()));
}

#[test]
fn a_policy_behind_a_link_is_replaced_where_it_is() {
    let desk = Desk::new();
    symlink(Path::new("policy.hujson"), desk.path("link.hujson")).unwrap();
    assert!(desk.acl(&["print", "--merge", "link.hujson", "--write"]).status.success());
    assert!(fs::symlink_metadata(desk.path("link.hujson")).unwrap().is_symlink());
    assert!(desk.read("policy.hujson").contains("tag:tailops"));
}

#[test]
fn a_check_tells_programs_and_people_what_is_wrong() {
    let desk = Desk::new();
    let wide =
        POLICY.replace("\"group:dev\"], \"dst\": [\"tag:web\"]", "\"*\"], \"dst\": [\"*\"]").replace("tcp:443", "*");
    fs::write(desk.path("policy.hujson"), wide).unwrap();
    let people = desk.acl(&["check", "policy.hujson"]);
    fails(&people, 1, "policy.hujson does not do for this gateway");
    let said = text(&people.stdout);
    assert!(
        said.contains("fail policy.hujson:5: too_wide: lets * reach tag:tailops:8080: that is everybody"),
        "{said}"
    );
    let programs = desk.acl(&["check", "policy.hujson", "--json"]);
    assert_eq!(programs.status.code(), Some(1));
    let findings: Value = serde_json::from_slice(&programs.stdout).unwrap();
    let wide = findings.as_array().unwrap().iter().find(|finding| finding["about"] == "too_wide").unwrap();
    assert_eq!((&wide["level"], &wide["line"]), (&"fail".into(), &5.into()));
}

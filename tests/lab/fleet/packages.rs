//! Packages from a repository that the test makes on the host: exactly what was shown is installed, after a person
//! agreed, and dpkg says so too.

use serde_json::{Value, json};

use super::{Fleet, lend, of};
use crate::host::Host;

/// Makes a repository of `lab-tool`, of what it needs, and of `lab-slow`, which takes until somebody makes `/root/wake`;
/// lets apt know no other.
const REPOSITORY: &str = r#"
rm -rf /srv/repo /root/build /root/slow /root/wake; mkdir -p /srv/repo
package() {
    mkdir -p /root/build/DEBIAN
    printf '%s\n' "Package: $1" "Version: $2" 'Architecture: all' 'Maintainer: Lab <lab@example.com>' \
        'Description: of the lab' $3 "$4" | sed '/^$/d' >/root/build/DEBIAN/control
    [ -z "$5" ] || { printf '#!/bin/sh\n%s\n' "$5" >/root/build/DEBIAN/postinst; chmod 755 /root/build/DEBIAN/postinst; }
    file="$1_$2_all.deb"
    dpkg-deb --root-owner-group -b /root/build "/srv/repo/$file" >/dev/null
    { cat /root/build/DEBIAN/control
      echo "Filename: ./$file"; echo "Size: $(stat -c %s "/srv/repo/$file")"
      echo "SHA256: $(sha256sum <"/srv/repo/$file" | cut -d ' ' -f 1)"; echo; } >>/srv/repo/Packages
    rm -rf /root/build
}
package lab-library 1.0 '' '' ''
package lab-tool 2.0 '' 'Depends: lab-library' ''
package lab-slow 1.0 '' '' 'echo installing >>/root/slow; until [ -e /root/wake ]; do sleep 0.1; done'
rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/srv/repo ./' >/etc/apt/sources.list
"#;

/// What dpkg says is installed, of the test's packages.
pub fn installed(host: &Host) -> String {
    let list = "dpkg-query -W -f='${Package} ${Version} ${db:Status-Abbrev}\\n' 'lab-*' 2>/dev/null | sort || true";
    let said = host.sh(list);
    said.lines().filter_map(|line| line.trim_end().strip_suffix(" ii")).collect::<Vec<_>>().join(",")
}

/// Makes the repository, and nothing of it installed.
#[track_caller]
pub fn offer(host: &Host) {
    host.sh(
        "DEBIAN_FRONTEND=noninteractive dpkg --purge --force-all lab-tool lab-library lab-slow 2>/dev/null || true",
    );
    host.sh(REPOSITORY);
}

/// Lets the host's apt know the repository, and no other, by the tool for it.
#[track_caller]
pub fn stock(fleet: &Fleet, host: &Host) {
    offer(host);
    let reason = "learning of the test's packages";
    let refreshed = fleet.call("package_refresh", of(host, json!({"reason": reason, "dry_run": false})));
    refreshed.data();
}

fn names(changes: &Value) -> Vec<String> {
    let name = |change: &Value| change["package"].as_str().or(change["name"].as_str()).unwrap().to_owned();
    changes.as_array().unwrap().iter().map(name).collect()
}

#[test]
fn what_was_shown_is_installed_after_a_person_agreed_and_nothing_else() {
    lend(|fleet| {
        let host = &fleet.web1;
        stock(fleet, host);
        let wanted = json!({"action": "install", "packages": [{"name": "lab-tool"}], "reason": "the test wants it"});
        let shown = fleet.call("package_change", of(host, wanted.clone()));
        let shown = shown.data();
        assert_eq!(names(&shown["install"]), ["lab-library", "lab-tool"], "{shown}");
        assert_eq!((&shown["upgrade"], &shown["remove"]), (&json!([]), &json!([])), "{shown}");
        assert_eq!(installed(host), "", "a dry run installed something");

        let mut wanted = wanted;
        wanted["dry_run"] = false.into();
        wanted["plan_sha256"] = shown["plan_sha256"].clone();
        let done = fleet.call_approved("package_change", of(host, wanted));
        assert_eq!(installed(host), "lab-library 1.0,lab-tool 2.0", "{}", done.body);
        assert_eq!(names(&done.data()["install"]), ["lab-library", "lab-tool"], "{}", done.body);
        let record = fleet.last_record(|record| record["tool"] == "package_change" && record["approved"] == true);
        assert_eq!((&record["status"], &record["target"]), (&json!("ok"), &json!("web1")), "{record}");
        assert_eq!(record["approval"]["approvers"][0]["login"], "alice@example.com", "{record}");
    });
}

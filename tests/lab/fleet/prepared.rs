//! A host that was prepared by nothing but the script that is printed for it: it takes the gateway's login certificates,
//! allows what the script lists and nothing else, and takes the line that a refusal asks for.

use serde_json::{Value, json};

use super::{Fleet, lend, packages::offer};
use crate::{
    client::Answer,
    host::Host,
    wait::{until, until_some},
};

/// A login user that the hosts do not have before.
const OPS: &str = "ops";

/// The host under the name `id`, with these capabilities and no login key: what the gateway logs in with is its own.
fn entry(fleet: &Fleet, host: &Host, id: &str, capabilities: &[&str], sudo: &str) -> Value {
    let mut entry = fleet.entry(host);
    entry["id"] = id.into();
    entry["capabilities"] = json!(capabilities);
    entry["constraints"]["sudo_policy"] = sudo.into();
    let connection = entry["connection"].as_object_mut().unwrap();
    connection.remove("key_path");
    connection.insert("username".to_owned(), OPS.into());
    entry
}

/// The commands at the end of a script, which undo what it did.
fn undo(script: &str) -> String {
    let (_, lines) = script.split_once("# To undo all of it:\n").unwrap();
    lines.lines().map(|line| line.strip_prefix("#   ").unwrap()).collect::<Vec<_>>().join("\n")
}

/// Everything that a host is configured with, and the login user's home.
fn configured(host: &Host) -> String {
    host.sh(&format!(
        "find /etc /home/{OPS} -printf '%p %y %m %u %g %l\\n' | sort; find /etc /home/{OPS} -type f -exec sha256sum {{}} + | sort"
    ))
}

/// The line of sudoers that a refusal asks for.
#[track_caller]
fn line_to_add(refused: &Answer) -> String {
    assert_eq!(refused.code(), "permission_denied", "{}", refused.body);
    let hint = refused.body["result"]["structuredContent"]["hint"].as_str().unwrap();
    hint.rsplit_once("limited: ").unwrap_or_else(|| panic!("no line in {hint}")).1.to_owned()
}

/// Adds a line to sudoers, as its administrator would.
#[track_caller]
fn allow(host: &Host, line: &str) {
    host.put("/etc/sudoers.d/lab", 0o440, format!("{line}\n").as_bytes());
    host.sh("visudo -c");
}

/// A service that does nothing, for as long as it is wanted.
fn start_service(host: &Host, unit: &str) {
    host.put(&format!("/etc/systemd/system/{unit}"), 0o644, b"[Service]\nExecStart=/usr/bin/sleep infinity\n");
    host.sh(&format!("systemctl daemon-reload && systemctl start {unit}"));
}

#[test]
fn a_host_that_the_script_prepared_allows_what_it_lists_and_nothing_else() {
    lend(|fleet| {
        let host = &fleet.web2;
        fleet.enrol(&[("narrow", entry(fleet, host, "narrow", &["system:control", "log:read"], "limited"))]);
        let call = |tool: &str, mut arguments: Value| {
            arguments["target"] = "narrow".into();
            fleet.call(tool, arguments)
        };
        until("the target is registered", || call("host_inspect", json!({})).code() == "login_refused");
        for unit in ["lab.service", "unlisted.service"] {
            start_service(host, unit);
        }
        offer(host);

        let script = fleet.script("narrow", &["--unit", "lab"]);
        // An sshd that reads no more than its one file would not heed it, which is said.
        host.sh("sed -i 's/^Include/#Include/' /etc/ssh/sshd_config");
        host.put("/root/prepare", 0o700, script.as_bytes());
        let unheeded = host.try_sh("/root/prepare");
        host.sh("sed -i 's/^#Include/Include/' /etc/ssh/sshd_config");
        let said = String::from_utf8_lossy(&unheeded.stderr);
        assert!(!unheeded.status.success() && said.contains("Include /etc/ssh/sshd_config.d/*.conf"), "{said}");
        assert_eq!(call("host_inspect", json!({})).code(), "login_refused");

        fleet.prepare(host, &script);
        assert_eq!(host.sh("stat -c '%a %U:%G' /etc/sudoers.d/tailops"), "440 root:root");
        host.sh("visudo -c && sshd -t");
        let before = configured(host);
        fleet.prepare(host, &script);
        assert_eq!(configured(host), before, "the second time it did something");
        fleet.gateway.run(&["target", "test", "narrow"]);

        // The user may do nothing else as root, and its password is none.
        host.sh(&format!("! runuser -u {OPS} -- sudo -n true; passwd --status {OPS} | grep -q '^{OPS} L '"));
        let invocation = |unit: &str| host.sh(&format!("systemctl show -p InvocationID --value {unit}"));
        let was = invocation("lab.service");
        let restart = |unit: &str| json!({"unit": unit, "action": "restart", "reason": "seeing who may do it"});
        let answer = call("service_control", restart("lab.service"));
        let is = invocation("lab.service");
        assert_ne!(was, is);
        assert_eq!(answer.data()["invocation_id"], is.as_str(), "{}", answer.body);
        let record = fleet.last_record(|record| record["tool"] == "service_control" && record["status"] == "ok");
        let wire = &record["exec"][0]["wire"];
        assert_eq!(wire["login"], OPS, "{record}");
        assert!(wire["login_id"].as_str().unwrap().contains("subject=lab"), "{record}");

        host.sh("echo 'written for those who may read it' | systemd-cat -t lab");
        until_some("its journal is read", || {
            let answer = call("journal_query", json!({"grep": "written for those", "since": "5m"}));
            (!answer.data()["entries"].as_array().unwrap().is_empty()).then_some(())
        });

        let refresh = || call("package_refresh", json!({"reason": "learning what there is"}));
        let refreshed = refresh();
        assert_eq!(refreshed.data()["job"]["state"], "succeeded", "{}", refreshed.body);
        assert_eq!(refreshed.data()["errors"], json!([]), "{}", refreshed.body);
        until("the job's unit is cleared away", || units(host).is_empty());

        // What is not listed is refused, and the line that is asked for is all that is lacking.
        let was = invocation("unlisted.service");
        let line = line_to_add(&call("service_control", restart("unlisted.service")));
        assert_eq!(invocation("unlisted.service"), was);
        allow(host, &line);
        call("service_control", restart("unlisted.service")).data();
        assert_ne!(invocation("unlisted.service"), was);

        host.sh("sed -i '/systemd-run/d' /etc/sudoers.d/tailops");
        let line = line_to_add(&refresh());
        assert_eq!(units(host), "");
        allow(host, &line);
        assert_eq!(refresh().data()["job"]["state"], "succeeded");

        host.sh("rm /etc/sudoers.d/lab");
        host.sh(&undo(&script));
        host.sh(&format!("! id -u {OPS}; [ ! -e /etc/sudoers.d/tailops ]; visudo -c; sshd -t"));
        assert_eq!(host.sh("systemctl list-units --failed --plain --no-legend"), "");
        assert_eq!(call("host_inspect", json!({})).code(), "login_refused");
    });
}

fn units(host: &Host) -> String {
    host.sh("systemctl list-units --all --plain --no-legend 'tailops-*'")
}

/// Whether the host's sudo lets the login user run `command`, whose words stand apart by one blank.
fn allows(host: &Host, command: &str) -> bool {
    let words: Vec<String> = command.split(' ').map(|word| format!("'{word}'")).collect();
    host.try_sh(&format!("sudo -n -U {OPS} -l {}", words.join(" "))).status.success()
}

/// The command of a job that runs `command` for at most `seconds`.
fn job(seconds: u32, command: &str) -> String {
    format!(
        "/usr/bin/systemd-run --quiet --no-ask-password --unit=tailops-0123456789abcdef -p Type=exec \
         -p RemainAfterExit=yes -p RuntimeMaxSec={seconds} -E LC_ALL=C -E DEBIAN_FRONTEND=noninteractive -- {command}"
    )
}

#[test]
fn the_hosts_own_sudo_reads_every_line_as_it_is_meant() {
    lend(|fleet| {
        let host = &fleet.web2;
        let apt = |rest: &str| {
            let options =
                "-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=30";
            job(7200, &format!("apt-get -y -q {options} {rest}"))
        };
        let update = job(1800, "apt-get update -q");
        let control = [
            "/usr/bin/systemctl restart --no-ask-password -- web.service",
            "/usr/bin/systemctl stop --no-ask-password -- db.socket",
            "/usr/bin/systemctl start --no-ask-password -- getty@tty1.service",
            r"/usr/bin/systemctl reload --no-ask-password -- dev-disk\x2dby\x2dlabel.timer",
            "/usr/bin/systemctl stop --no-ask-password -- tailops-0123456789abcdef.service",
            "/usr/bin/systemctl reset-failed --no-ask-password -- tailops-0123456789abcdef.service",
            "/bin/kill -s TERM -- 4711",
            &update,
        ];
        let [install, chosen, upgrade] =
            ["install -- nginx:amd64=1.22.1-9+deb12u1 libc6", "--no-remove install -- g++-12=1:2~rc1-1", "upgrade"]
                .map(apt);
        let admin = [
            "/usr/bin/systemctl enable --no-ask-password -- web.service",
            "/usr/bin/systemctl mask --now --no-block --no-ask-password -- web.service",
            "/usr/sbin/shutdown -r +5",
            "/usr/sbin/shutdown -P +1440",
            "/usr/sbin/shutdown -c",
            &install,
            &chosen,
            &upgrade,
        ];
        let never = [
            "/usr/bin/true".to_owned(),
            "/usr/bin/systemctl restart --no-ask-password -- ssh.service".to_owned(),
            "/usr/bin/systemctl restart --no-ask-password -- web.service ssh.service".to_owned(),
            "/usr/bin/systemctl stop --no-ask-password -- tailops-0123.service ssh.service".to_owned(),
            "/usr/bin/systemctl stop --no-ask-password -- ssh.service".to_owned(),
            "/usr/sbin/shutdown -r now".to_owned(),
            "/bin/kill -s KILL -- -1".to_owned(),
            "/bin/kill -s KILL -- 1 2".to_owned(),
            job(1800, "apt-get update -q -o APT::Update::Pre-Invoke::=sh"),
            job(1800, "sh"),
            job(1800, "apt-get update -q").replace("tailops-", "ssh-"),
            apt("install -- ./x.deb"),
            apt("install -- nginx -o Dpkg::Pre-Invoke::=sh"),
            apt("upgrade -o x=y"),
        ];
        let all = ["system:control", "system:admin", "admin"].map(|capability| (capability, "limited"));
        for (capability, sudo) in all.into_iter().chain([("system:read", "full"), ("system:admin", "none")]) {
            fleet.enrol(&[("lines", entry(fleet, host, "lines", &[capability], sudo))]);
            let units = ["web", "db.socket", "getty@tty1", r"dev-disk\x2dby\x2dlabel.timer"];
            let script = fleet.script("lines", &units.map(|unit| ["--unit", unit]).concat());
            fleet.prepare(host, &script);
            host.sh("visudo -c");
            let all = sudo == "full";
            let controls = sudo == "limited";
            let commands = control.iter().map(|command| (*command, controls));
            let commands =
                commands.chain(admin.iter().map(|command| (*command, controls && capability != "system:control")));
            for (command, expected) in commands.chain(never.iter().map(|command| (command.as_str(), false))) {
                assert_eq!(allows(host, command), expected || all, "{capability}, {sudo}: {command}");
            }
            host.sh(&undo(&script));
            host.sh(&format!("! id -u {OPS}; [ ! -e /etc/sudoers.d/tailops ]; visudo -c; sshd -t"));
        }
    });
}

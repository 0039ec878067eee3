//! `host_inspect` on hostile arguments, hostile output and this machine.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::tools::rig::{Child, MARKER, Rig, call, conforms, fits_budget, plan, plan_exactly, recorded};

/// What the tool makes of these sections, asked for `sections`; `!NAME REASON` stands for a missing one.
fn shown(sections: Value, output: &[(&str, &str)]) -> Content {
    let operation = plan(&HostInspect, json!({"target": "here", "sections": sections})).unwrap();
    let stdout: String = output.iter().map(|(name, text)| format!("\n{MARKER} {name}\n{text}\n")).collect();
    let content = HostInspect.render(&recorded(operation, stdout, "")).unwrap();
    conforms(&HostInspect, &content.data);
    content
}

fn lacking(content: &Content) -> Vec<(&str, &str)> {
    content.partial.iter().map(|missing| (missing.section.as_str(), missing.reason.as_str())).collect()
}

#[test]
fn wrong_arguments_are_named() {
    for (bad, field) in [
        (json!({"target": "here", "sections": []}), "sections"),
        (json!({"target": "here", "sections": ["passwords"]}), "sections"),
        (json!({"target": "here", "sections": "cpu"}), "sections"),
        (json!({"target": "here", "sections": ["cpu; id"]}), "sections"),
        (json!({"target": "here", "auto_approve": true}), "auto_approve"),
        (json!({"target": 7}), "target"),
        (json!({}), "target"),
    ] {
        let error = plan_exactly(&HostInspect, &bad).unwrap_err();
        assert_eq!(error.code, "invalid_arguments");
        assert!(error.message.contains(field), "{bad}: {error}");
    }
    assert_eq!(plan(&HostInspect, json!({"target": "elsewhere"})).unwrap_err().code, "unknown_target");
}

#[test]
fn it_is_a_short_definition_of_one_idempotent_read() {
    fits_budget(&HostInspect);
    let operation = plan(&HostInspect, json!({"target": "here"})).unwrap();
    assert_eq!(
        (operation.effect, operation.risk, operation.scopes),
        (Effect::Read, Risk::Low, &[Scope::SystemRead][..])
    );
    assert_eq!(operation.steps.len(), 1);
    assert_eq!(operation.arguments["sections"].as_array().unwrap().len(), Part::ORDER.len(), "all by default");
    let twice = plan(&HostInspect, json!({"target": "here", "sections": ["fs", "cpu", "fs"]})).unwrap();
    assert_eq!(twice.arguments["sections"], json!(["cpu", "fs"]), "each once, in one order");
}

#[test]
fn this_machine_is_shown_as_it_is() {
    let content = call(&HostInspect, json!({"target": "here"})).unwrap();
    let data = &content.data;
    for value in Part::ORDER.iter().flat_map(|part| part.values()) {
        let there = data.pointer(&format!("/{}", value.replace('.', "/"))).is_some();
        let said = lacking(&content).iter().any(|(section, _)| {
            value == section || value.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
        });
        assert!(there != said, "{value}: {content:#?}");
    }
    let system = rustix::system::uname();
    assert_eq!(data["hostname"], system.nodename().to_str().unwrap());
    assert!(data["kernel"].as_str().unwrap().contains(system.release().to_str().unwrap()), "{data}");
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_eq!(data["boot_id"], boot.trim());
    let memory = rustix::system::sysinfo();
    assert_eq!(data["mem"]["total"], memory.totalram as u64 * u64::from(memory.mem_unit));
    assert_eq!(data["swap"]["total"], memory.totalswap as u64 * u64::from(memory.mem_unit));
    let up = data["uptime_s"].as_u64().unwrap();
    assert!(up > 0 && up <= u64::try_from(memory.uptime).unwrap() + 1, "{up}");
    let root = rustix::fs::statvfs("/").unwrap();
    let listed = data["fs"].as_array().unwrap().iter().find(|fs| fs["mount"] == "/").unwrap();
    assert_eq!(listed["total"], root.f_blocks * root.f_frsize);
    assert_eq!(listed["read_only"], false);
    assert!(listed["used_pct"].as_f64().unwrap() > 0.0);
    let now: jiff::Timestamp = data["time"]["now"].as_str().unwrap().parse().unwrap();
    assert!(now.as_second() > 1_700_000_000, "{now}");
}

#[test]
fn the_processors_are_measured_now() {
    let processors = std::thread::available_parallelism().unwrap().get();
    let _busy: Vec<Child> = (0..processors).map(|_| Child::sh("while :; do :; done")).collect();
    let content = call(&HostInspect, json!({"target": "here", "sections": ["cpu"]})).unwrap();
    let cpu = &content.data["cpu"];
    assert!(cpu["used_pct"].as_f64().unwrap() > 80.0, "{cpu}");
    assert!(cpu["n"].as_u64().unwrap() >= processors as u64, "{cpu}");
}

#[test]
fn shares_of_the_processors_come_from_what_grew() {
    let cpu =
        |first: &str, second: &str| shown(json!(["cpu"]), &[("cpu", &format!("n 4\nmodel X\n{first}\n{second}"))]);
    let content = cpu("first 100 0 100 1000 50 0 0 10 7 0", "second 120 5 110 1040 60 0 0 25 99 0");
    let expected = json!({
        "n": 4, "model": "X", "used_pct": 50.0, "user_pct": 25.0, "system_pct": 10.0, "iowait_pct": 10.0, "steal_pct": 15.0,
    });
    assert_eq!(content.data["cpu"], expected);
    assert_eq!(lacking(&content), []);
    let backwards = cpu("first 0 0 0 0 90 0 0 0", "second 10 0 0 10 0 0 0 0");
    assert_eq!(backwards.data["cpu"]["used_pct"], 50.0, "iowait ran backwards");
    for (first, second) in [
        ("first 1 1 1 1 1 1 1 1", "second 1 1 1 1 1 1 1 1"),
        ("first 1 2 3", "second 4 5 6"),
        ("first 1 1 1 1 1 1 1 -1", "second 1 1 1 1 1 1 1 x"),
        ("", "second 1 1 1 1 1 1 1 1"),
    ] {
        let content = cpu(first, second);
        assert!(content.data["cpu"].get("used_pct").is_none(), "{content:?}");
        assert_eq!(lacking(&content), [("cpu.used_pct", "unreadable_output")]);
    }
}

#[test]
fn where_the_kernel_says_nothing_the_answer_says_so() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // A small container's view: empty /sys and /run, no pressure, a newer kernel waiting.
    let strip = "mount -t tmpfs none /sys && mount -t tmpfs none /run && mount -t tmpfs none /proc/pressure && \
                 mount -t tmpfs none /boot && touch \"/boot/vmlinuz-$1$(uname -r)\" && shift && exec \"$@\"";
    let wrapper = |newer| ["unshare", "--mount", "sh", "-ec", strip, "sh", newer];
    let arguments = json!({"target": "here", "sections": ["block", "psi", "sessions", "time", "reboot", "swap", "fs"]});
    let content = Rig::new().under(&wrapper("99.")).call(&HostInspect, &arguments).unwrap();
    let said = lacking(&content);
    for wanted in [
        ("block", "no_sysfs"),
        ("sessions", "no_utmp"),
        ("time.synced", "no_systemd"),
        ("psi.cpu", "not_supported"),
        ("psi.memory", "not_supported"),
        ("psi.io", "not_supported"),
    ] {
        assert!(said.contains(&wanted), "{wanted:?} in {said:?}");
    }
    for absent in ["block", "sessions", "psi"] {
        assert!(content.data.get(absent).is_none(), "{absent}: {}", content.data);
    }
    assert_eq!(content.data["reboot"]["required"], true);
    assert!(content.data["reboot"]["newer_kernel"].as_str().unwrap().starts_with("99."), "{}", content.data);
    let content = Rig::new().under(&wrapper("0.")).call(&HostInspect, &arguments).unwrap();
    assert!(content.data["reboot"]["required"] != true, "an older kernel: {}", content.data["reboot"]);
}

#[test]
fn the_flag_of_a_pending_reboot_is_read_with_its_packages() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let flag = "mount -t tmpfs none /run && touch /run/reboot-required && \
                printf 'libc6\\ndbus\\nlibc6\\n' >/run/reboot-required.pkgs && exec \"$@\"";
    let arguments = json!({"target": "here", "sections": ["reboot"]});
    let content =
        Rig::new().under(&["unshare", "--mount", "sh", "-ec", flag, "sh"]).call(&HostInspect, &arguments).unwrap();
    assert_eq!(content.data["reboot"]["required"], true);
    assert_eq!(content.data["reboot"]["packages"], json!(["dbus", "libc6"]));
}

#[test]
fn file_systems_keep_hostile_names_apart_from_numbers() {
    let rows = "Type 1B-blocks Used Avail Inodes IUsed Mounted on\n\
                ext4 1000 600 200 100 25 /\n\
                fuse.x 10 0 10 - - /mnt/a ext4 9 9 9 9 9 /\n\
                btrfs 10 5 5 0 0 /mnt/b\n\
                tmpfs 10 10 0 5 1 /run/user/1000\n\
                tmpfs 10 10 0 5 1 /dev/shm\n\
                squashfs 10 10 0 5 5 /snap/x\n\
                overlay 1000 600 200 100 25 /var/lib/docker/overlay2/x/merged";
    let mounts =
        "rw old /\nro /dev/sd\\040a /\nrw e\\134\\777 /mnt/a\\040ext4\\0409\\0409\\0409\\0409\\0409\\040/\nxx y /mnt/b";
    let content = shown(json!(["fs"]), &[("fs", rows), ("mounts", mounts)]);
    let found = content.data["fs"].as_array().unwrap();
    let places: Vec<&str> = found.iter().map(|fs| fs["mount"].as_str().unwrap()).collect();
    assert_eq!(places, ["/", "/mnt/a ext4 9 9 9 9 9 /", "/mnt/b", "/dev/shm"]);
    assert_eq!(
        found[0],
        json!({
            "mount": "/", "type": "ext4", "source": "/dev/sd a", "read_only": true, "total": 1000, "used": 600,
            "available": 200, "used_pct": 75.0, "inodes": {"total": 100, "used": 25, "used_pct": 25.0},
        })
    );
    assert_eq!(found[1]["source"], r"e\\777");
    assert!(found[1].get("inodes").is_none() && found[2].get("inodes").is_none());
    assert!(found[2].get("source").is_none());
    assert_eq!(lacking(&content), []);

    let content = shown(json!(["fs"]), &[("fs", "heading\nrubbish\next4 1 2 x 4 5 /\next4 1 2 3 4 5 relative")]);
    assert!(content.data.get("fs").is_none());
    assert_eq!(lacking(&content), [("fs", "unreadable_line")]);
}

#[test]
fn block_devices_are_listed_with_what_they_lie_on() {
    let tree = json!({"blockdevices": [{"name": "vda", "type": "disk", "size": 10, "ro": false, "model": " ", "children":
        [{"name": "vda1", "type": "part", "size": "x", "mountpoint": "/", "children": [{"name": "root", "type": "crypt"}]}]}]});
    let content = shown(json!(["block"]), &[("block", &tree.to_string())]);
    let expected = json!([
        {"name": "vda", "type": "disk", "size": 10, "read_only": false},
        {"name": "vda1", "parent": "vda", "type": "part", "mount": "/"},
        {"name": "root", "parent": "vda1", "type": "crypt"},
    ]);
    assert_eq!(content.data["block"], expected);
    for bad in ["", "{}", "[]", r#"{"blockdevices": [{}]}"#, r#"{"blockdevices": [{"name": "a", "children": 1}]}"#] {
        assert_eq!(lacking(&shown(json!(["block"]), &[("block", bad)])), [("block", "unreadable_output")], "{bad}");
    }
    let deep = format!("{{\"blockdevices\":{}1{}}}", "[{\"name\":\"a\",\"children\":".repeat(500), "}]".repeat(500));
    assert!(shown(json!(["block"]), &[("block", &deep)]).data.get("block").is_none());
}

#[test]
fn sessions_are_read_and_bad_lines_said() {
    let lines = "ann      pts/0        2026-11-21 08:00   .          4242 (100.64.0.7)\n\
                 bob      tty1         2026-11-20 23:59 01:05       77\n\
                 eve      pts/1        2026-11-01 00:00  old          9 (host (x))\n\
                 mallory  pts/2        Nov 21 08:00   .          1\n";
    let content = shown(json!(["sessions"]), &[("sessions", lines)]);
    let expected = json!([
        {"user": "ann", "tty": "pts/0", "since": "2026-11-21T08:00:00Z", "idle_s": 0, "pid": 4242, "from": "100.64.0.7"},
        {"user": "bob", "tty": "tty1", "since": "2026-11-20T23:59:00Z", "idle_s": 3900, "pid": 77},
        {"user": "eve", "tty": "pts/1", "since": "2026-11-01T00:00:00Z", "idle_s": 86400, "pid": 9},
    ]);
    assert_eq!(content.data["sessions"], expected);
    assert_eq!(lacking(&content), [("sessions", "unreadable_line")]);
    assert_eq!(shown(json!(["sessions"]), &[("sessions", "")]).data["sessions"], json!([]), "no one is logged in");
}

#[test]
fn the_system_is_named_without_running_its_file() {
    let os = "NAME=x\nPRETTY_NAME=\"De \\\"b\\\" \\$(id)\"\nID='deb ian'\nVERSION_ID=\nVERSION_ID=\"12\"\nEVIL=$(touch /tmp/x)";
    let host = "hostname h\nkernel Linux 6 x86_64\nuptime_s 12.99 3.00\nboot_id b\nhostname forged";
    let content = shown(json!(["os"]), &[("host", host), ("os", os)]);
    let expected = json!({
        "hostname": "h", "kernel": "Linux 6 x86_64", "uptime_s": 12, "boot_id": "b",
        "os": {"name": "De \"b\" $(id)", "id": "deb ian", "version_id": "12"},
    });
    assert_eq!(content.data, expected);
}

#[test]
fn nothing_missing_is_a_zero_or_an_empty_success() {
    let garbage: Vec<(&str, &str)> = ["host", "cpu", "mem", "swap", "load", "psi.cpu", "time", "reboot"]
        .map(|name| (name, "MemTotal: many kB\n-1"))
        .into();
    let content = shown(json!(Part::ORDER), &garbage);
    assert_eq!(content.data, json!({}), "nothing could be read");
    for part in Part::ORDER {
        let said = |name: &str| content.partial.iter().any(|missing| missing.section == name);
        let mut whole = part.values().iter().filter(|value| part == Part::Psi || !value.contains('.'));
        assert!(whole.all(|value| said(value)), "{part:?}: {:?}", content.partial);
    }
    let content = shown(
        json!(["load", "mem", "swap"]),
        &[
            ("load", "NaN 1 2"),
            ("mem", "MemTotal: 18446744073709551615 kB"),
            ("swap", "SwapTotal: 0 kB\nSwapFree: 0 kB"),
        ],
    );
    assert_eq!(content.data, json!({"swap": {"total": 0, "free": 0}}), "no swap is known, the others are not");
    let operation = plan(&HostInspect, json!({"target": "here"})).unwrap();
    assert_eq!(HostInspect.render(&recorded(operation, "", "")).unwrap_err().code, "unreadable_output");
}

proptest! {
    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), numbers in "[0-9 .:/a-z=\n-]{0,120}") {
        let operation = plan(&HostInspect, json!({"target": "here"})).unwrap();
        let mut stdout = Vec::new();
        for name in [
            "host", "os", "cpu", "mem", "swap", "load", "psi.io", "fs", "mounts", "block", "time", "synced", "reboot",
            "packages", "sessions", "virtualization",
        ] {
            stdout.extend_from_slice(format!("\n{MARKER} {name}\n{numbers}\n").as_bytes());
            stdout.extend_from_slice(&bytes);
        }
        conforms(&HostInspect, &HostInspect.render(&recorded(operation, stdout, "")).unwrap().data);
    }
}

//! What `packaging/` ships fits what is built: the unit and the container start the program as it can be started, with
//! the user and the paths it has; the unit exposes little (P131).

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use tailops::{cli, config};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The settings of a unit file, section by section, in their order.
fn settings(text: &str) -> BTreeMap<&str, Vec<(&str, &str)>> {
    let mut sections: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    let mut section = "";
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(name) => section = name,
            None => sections.entry(section).or_default().push(line.split_once('=').expect(line)),
        }
    }
    sections
}

/// The value that a setting of `[Service]` has in the unit.
fn service(key: &str) -> String {
    let unit = read("packaging/systemd/tailops.service");
    let sections = settings(&unit);
    let values: Vec<_> = sections["Service"].iter().filter(|(name, _)| *name == key).map(|(_, value)| *value).collect();
    let [value] = values[..] else { panic!("{key} stands there {} times", values.len()) };
    value.to_owned()
}

#[track_caller]
fn starts(words: &[&str]) {
    let [program, arguments @ ..] = words else { panic!("no program") };
    assert_eq!(*program, "/usr/local/bin/tailops");
    cli::command().try_get_matches_from([&["tailops"], arguments].concat()).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_unit_starts_and_reloads_what_there_is_as_a_user_of_its_own() {
    let words = |key| service(key).split(' ').map(str::to_owned).collect::<Vec<_>>();
    for key in ["ExecStart", "ExecReload"] {
        let line = words(key);
        starts(&line.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(line.last().unwrap(), "/etc/tailops/tailops.toml");
    }
    assert_eq!((service("User"), service("Group")), ("tailops".to_owned(), "tailops".to_owned()));
    assert_eq!((service("StateDirectory"), service("StateDirectoryMode")), ("tailops".to_owned(), "0700".to_owned()));
    assert_eq!(config::DATA_DIR, "/var/lib/tailops");
    // The program says nothing to systemd; a type that waits for a word would wait for ever.
    assert_eq!(service("Type"), "exec");
    // Exit codes 2 and 3: command line and configuration.
    assert_eq!((service("Restart"), service("RestartPreventExitStatus")), ("on-failure".to_owned(), "2 3".to_owned()));
    assert!(!service("LoadCredential").is_empty() && service("NoNewPrivileges") == "yes");
    assert_eq!(service("RestrictAddressFamilies"), "AF_UNIX AF_INET AF_INET6 AF_NETLINK");
}

#[test]
fn the_drop_in_for_sudo_takes_back_all_that_forbids_privileges() {
    let (unit, drop_in) = (read("packaging/systemd/tailops.service"), read("packaging/systemd/own-host-sudo.conf"));
    let (unit, drop_in) = (settings(&unit), settings(&drop_in));
    // systemd.exec(5): each of these sets NoNewPrivileges for a service without privileges.
    let implied = [
        "SystemCallFilter",
        "SystemCallArchitectures",
        "RestrictAddressFamilies",
        "RestrictNamespaces",
        "PrivateDevices",
        "ProtectKernelTunables",
        "ProtectKernelModules",
        "ProtectKernelLogs",
        "ProtectClock",
        "ProtectHostname",
        "MemoryDenyWriteExecute",
        "RestrictRealtime",
        "RestrictSUIDSGID",
        "LockPersonality",
        "NoNewPrivileges",
        "CapabilityBoundingSet",
    ];
    for key in implied {
        assert!(unit["Service"].iter().any(|(name, _)| *name == key), "{key}: the list is out of date");
        let taken_back = drop_in["Service"].iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
        assert!(matches!(taken_back, Some("no" | "" | "~")), "{key} is still in force: {taken_back:?}");
    }
}

#[test]
fn systemd_finds_the_unit_little_exposed() {
    let found = |program| {
        let mut command = Command::new(program);
        command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !["systemd-analyze", "systemd-sysusers", "systemd-tmpfiles"].into_iter().all(found) {
        assert!(std::env::var_os("CI").is_none(), "systemd-analyze is missing: apt-get install systemd");
        println!("skipped: the exposure of the unit (there is no systemd-analyze)");
        return;
    }
    let output = Command::new(root().join("scripts/packaging")).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for wanted in ["ok: systemd understands", "ok: Overall exposure level for tailops.service", "ok: a unit without"] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
}

/// The instructions of the container file, continued lines joined.
fn instructions() -> Vec<(String, Vec<String>)> {
    let text = read("packaging/container/Containerfile").replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let split = lines.map(|line| line.split_once(' ').expect(line));
    split.map(|(word, rest)| (word.to_owned(), rest.split_whitespace().map(str::to_owned).collect())).collect()
}

#[test]
fn the_container_file_names_what_is_there() {
    let all = instructions();
    let of = |name: &str| all.iter().filter(|(word, _)| word == name).map(|(_, words)| words).collect::<Vec<_>>();
    let stages: Vec<&str> = of("FROM").into_iter().filter_map(|words| words.get(2)).map(String::as_str).collect();
    for words in of("COPY") {
        let from = words.iter().find_map(|word| word.strip_prefix("--from="));
        let paths: Vec<&String> = words.iter().filter(|word| !word.starts_with("--")).collect();
        let [sources @ .., _] = paths.as_slice() else { panic!("{words:?}") };
        match from {
            Some(stage) => assert!(stages.contains(&stage), "no stage {stage}"),
            None => assert!(sources.iter().all(|source| root().join(source).exists()), "{sources:?}"),
        }
    }
    let toolchain = read("rust-toolchain.toml");
    let toolchain: toml::Table = toolchain.parse().unwrap();
    let version = toolchain["toolchain"]["channel"].as_str().unwrap();
    let rust = of("FROM").into_iter().find(|words| words[0].contains("/rust:")).expect("a stage with Rust");
    let minor = version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    assert_eq!(rust[0], format!("docker.io/library/rust:{minor}-bookworm"));
    // The stage that is shipped is the last one: by number, as a runtime cannot resolve names to be sure it is not root.
    let last = all.iter().rposition(|(word, _)| word == "FROM").unwrap();
    let shipped = &all[last..];
    let user = shipped.iter().find(|(word, _)| word == "USER").expect("a user").1.concat();
    let (uid, gid) = user.split_once(':').expect("user and group");
    assert!([uid, gid].iter().all(|id| id.parse::<u32>().is_ok_and(|id| id > 0 && id != 65534)), "{user}");
    assert!(of("VOLUME") == [&[config::DATA_DIR.to_owned()]], "the volume is the data directory");
    let words = |name: &str| -> Vec<String> { serde_json::from_str(&of(name)[0].join(" ")).unwrap() };
    let line = [words("ENTRYPOINT"), words("CMD")].concat();
    starts(&line.iter().map(String::as_str).collect::<Vec<_>>());
    // A secret in an image is everybody's.
    for (word, words) in &all {
        let text = words.join(" ").to_ascii_lowercase();
        let secret = ["key", "secret", "token", "password"].iter().any(|secret| text.contains(secret));
        assert!(word != "ARG" && !(word == "ENV" && secret), "{word} {words:?}");
    }
    let left_out = read(".dockerignore");
    assert!(left_out.lines().any(|line| line == "/target") && left_out.lines().any(|line| line == "/.git"));
}

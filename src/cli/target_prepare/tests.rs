//! What is printed for a host: the exact files, nothing that the registry could smuggle into them, and that the programs
//! of the host would take them.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::json;

use super::*;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

fn entry(connection: Value, capabilities: &[&str], sudo: &str) -> Value {
    json!({
        "type": "remote", "executor": "ssh", "engagement": "default", "connection": connection,
        "capabilities": capabilities, "constraints": {"sudo_policy": sudo},
    })
}

fn targets(entries: &[(&str, Value)]) -> Vec<Target> {
    entries.iter().map(|(id, entry)| read(id, entry).unwrap()).collect()
}

/// What `prepare web` is given, and the public key in a file.
fn arguments(folder: &Path, units: &[&str]) -> Arguments {
    let public_key = folder.join("key.pub");
    fs::write(&public_key, format!("{KEY} somebody's comment\n")).unwrap();
    Arguments {
        id: "web".to_owned(),
        config: None,
        units: units.iter().map(|unit| (*unit).to_owned()).collect(),
        from: Vec::new(),
        public_key: Some(public_key),
        check: false,
        json: false,
    }
}

fn ca() -> config::Ssh {
    let ca = config::UserCa {
        key_file: "/etc/tailops/ssh_ca".into(),
        ttl: std::time::Duration::from_mins(5),
        source_addresses: vec!["100.64.0.7/32".to_owned()],
    };
    config::Ssh { ca: Some(ca), ..config::Ssh::default() }
}

fn content<'n>(needs: &'n Needs, path: &str) -> &'n str {
    let file = needs.files.iter().find(|file| file.path == path);
    &file.unwrap_or_else(|| panic!("no {path}: {:?}", needs.files)).content
}

#[expect(clippy::disallowed_methods, reason = "a test asks the shell, and sudo where it is installed")]
fn accepted(program: &str, args: &[&str], input: &str) -> Option<bool> {
    let child = Command::new(program).args(args).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let mut child = child.ok()?;
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    Some(child.wait().unwrap().success())
}

/// Whether `text` is a sudoers file of full command lines for root and nothing else.
fn is_exact(text: &str) -> bool {
    let line = regex::Regex::new(
        r"^[a-z_][a-z0-9_.-]* ALL=\(root\) NOPASSWD: /[a-z/-]+( \^[^*?]*\$|( ([A-Za-z0-9@._+/-]|\\[\\,:=])+)+|( \^.*\$))$",
    );
    let line = line.unwrap();
    text.lines().filter(|line| !line.starts_with('#')).all(|text| line.is_match(text))
}

#[test]
fn a_host_of_certificates_trusts_the_authority_for_one_user() {
    let folder = tempfile::tempdir().unwrap();
    let targets = targets(&[("web", entry(json!({"host": "web.example.org"}), &["system:control"], "limited"))]);
    let needs = needs(&targets, &ca(), &arguments(folder.path(), &["nginx"])).unwrap();
    assert_eq!((needs.user.as_str(), &needs.groups[..]), ("tailops", &["systemd-journal"][..]));
    assert_eq!(content(&needs, script::AUTHORITY), format!("{KEY} tailops user CA\n"));
    assert_eq!(content(&needs, script::PRINCIPALS), "tailops\n");
    assert_eq!(
        content(&needs, "/etc/ssh/sshd_config.d/50-tailops.conf"),
        "Match User tailops\n    AuthenticationMethods publickey\n    TrustedUserCAKeys /etc/ssh/tailops_user_ca.pub\n    \
         AuthorizedPrincipalsFile /etc/ssh/tailops_principals\n    AuthorizedKeysFile none\n    PermitTTY no\n    \
         X11Forwarding no\n    AllowAgentForwarding no\n    AllowStreamLocalForwarding no\n    PermitTunnel no\n    \
         AllowTcpForwarding no\n    PermitUserRC no\nMatch all\n"
    );
    let sudoers = content(&needs, "/etc/sudoers.d/tailops");
    let restart = "tailops ALL=(root) NOPASSWD: /usr/bin/systemctl restart --no-ask-password -- nginx.service\n";
    assert!(sudoers.contains(restart), "{sudoers}");
    let text = script::of(&needs);
    assert_eq!(accepted("sh", &["-n"], &text), Some(true), "{text}");
    for file in &needs.files {
        assert!(text.contains(&format!("{}TAILOPS_END\n", file.content)), "{}", file.path);
        assert!(!file.content.contains("TAILOPS_END"));
    }
    assert!(text.contains("rm -f -- /etc/sudoers.d/tailops /etc/ssh/sshd_config.d/50-tailops.conf"), "{text}");
    assert!(needs.notes.iter().any(|note| note.contains("no host key is enrolled")), "{:?}", needs.notes);
}

#[test]
fn a_host_of_keys_takes_this_one_key_from_these_networks_alone() {
    let folder = tempfile::tempdir().unwrap();
    let connection = json!({"host": "10.0.0.5", "username": "ops", "key_path": "/etc/tailops/web_key"});
    let targets = targets(&[("web", entry(connection, &["system:read"], "none"))]);
    let mut arguments = arguments(folder.path(), &[]);
    arguments.from = vec!["100.64.0.7/32".parse().unwrap(), "fd7a:115c:a1e0::7/128".parse().unwrap()];
    let needs = needs(&targets, &config::Ssh::default(), &arguments).unwrap();
    let line = format!("restrict,from=\"100.64.0.7/32,fd7a:115c:a1e0::7/128\" {KEY} tailops\n");
    assert_eq!(content(&needs, script::KEYS), line, "without the comment of the file");
    let sshd = content(&needs, "/etc/ssh/sshd_config.d/50-tailops.conf");
    assert!(
        sshd.starts_with("Match User ops\n")
            && sshd.contains("    AuthorizedKeysFile /etc/ssh/tailops_authorized_keys\n")
    );
    assert!(!sshd.contains("TrustedUserCAKeys") && !needs.files.iter().any(|file| file.path.contains("sudoers")));
}

#[test]
fn a_host_on_the_way_to_others_forwards_to_these_alone() {
    let folder = tempfile::tempdir().unwrap();
    let entries = [
        ("web", entry(json!({"host": "web"}), &[], "none")),
        ("db", entry(json!({"host": "10.0.0.9", "port": 2222, "jump": "web"}), &[], "none")),
        ("six", entry(json!({"host": "fd00::9", "jump": "web"}), &[], "none")),
        ("other", entry(json!({"host": "10.0.0.10", "jump": "db"}), &[], "none")),
    ];
    let needs = super::needs(&targets(&entries), &ca(), &arguments(folder.path(), &[])).unwrap();
    let sshd = content(&needs, script::CONFIGURATION);
    let lines = "    AllowTcpForwarding local\n    PermitOpen 10.0.0.9:2222 [fd00::9]:22\n";
    assert!(sshd.contains(lines), "{sshd}");

    // `restrict` alone would keep the login key from what sshd allows its user.
    let mut entries = entries;
    entries[0].1["connection"]["key_path"] = "/etc/tailops/web_key".into();
    let needs = super::needs(&targets(&entries), &ca(), &arguments(folder.path(), &[])).unwrap();
    let options = "restrict,port-forwarding,permitopen=\"10.0.0.9:2222\",permitopen=\"[fd00::9]:22\"";
    assert_eq!(content(&needs, script::KEYS), format!("{options} {KEY} tailops\n"));
}

#[test]
fn sudoers_are_full_command_lines_that_sudo_takes() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = arguments(folder.path(), &["nginx", "getty@tty1", r"dev-disk\x2dby\x2dlabel.timer"]);
    for capability in ["system:control", "system:admin", "admin"] {
        let targets = targets(&[("web", entry(json!({"host": "web"}), &[capability], "limited"))]);
        let needs = needs(&targets, &ca(), &arguments).unwrap();
        let sudoers = content(&needs, "/etc/sudoers.d/tailops");
        assert!(is_exact(sudoers), "{sudoers}");
        let file = folder.path().join("sudoers");
        fs::write(&file, sudoers).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o440)).unwrap();
        let taken = accepted("visudo", &["-cqf", file.to_str().unwrap()], "");
        assert_ne!(taken, Some(false), "{sudoers}");
    }
    for wrong in
        ["ops ALL=(root) NOPASSWD: ALL", "ALL ALL=(root) NOPASSWD: /bin/kill 1", "ops ALL=(root) NOPASSWD: /bin/x *"]
    {
        assert!(!is_exact(wrong), "{wrong}");
    }
    let targets = targets(&[("web", entry(json!({"host": "web"}), &["system:read"], "full"))]);
    let needs = needs(&targets, &ca(), &arguments).unwrap();
    assert!(content(&needs, "/etc/sudoers.d/tailops").contains("tailops ALL=(root) NOPASSWD: ALL\n"));
    assert!(needs.notes.iter().any(|note| note.contains("root without a password")), "{:?}", needs.notes);
}

#[test]
fn what_cannot_be_prepared_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let good = |connection: Value| entry(connection, &["system:control"], "limited");
    let local = json!({"type": "local", "executor": "local", "engagement": "default", "capabilities": []});
    let with_key = json!({"host": "web", "key_path": "/nowhere/key"});
    let by_variable = json!({"host": "web", "key_path": "${WEB_KEY}"});
    let certified = json!({"host": "web", "key_path": "/k", "certificate_path": "/k-cert.pub"});
    type Change = fn(&mut Arguments);
    let cases: [(&str, Value, Change); 9] = [
        ("is not reached by SSH", local, |_| {}),
        ("logs in as root", good(json!({"host": "web", "username": "root"})), |_| {}),
        ("in sudoers another name", good(json!({"host": "web", "username": "ALL"})), |_| {}),
        ("in sudoers another name", good(json!({"host": "web", "username": "1ops"})), |_| {}),
        ("--unit:", good(json!({"host": "web"})), |arguments| arguments.units.push("a b".to_owned())),
        ("ssh.ca.source_addresses", good(json!({"host": "web"})), |arguments| {
            arguments.from.push("10.0.0.0/8".parse().unwrap());
        }),
        ("/nowhere/key: its file cannot be read", good(with_key), |arguments| arguments.public_key = None),
        ("--public-key", good(by_variable), |arguments| arguments.public_key = None),
        ("whoever made it", good(certified), |_| {}),
    ];
    for (wanted, entry, change) in cases {
        let mut arguments = arguments(folder.path(), &[]);
        change(&mut arguments);
        let refused = needs(&targets(&[("web", entry)]), &ca(), &arguments).unwrap_err().to_string();
        assert!(refused.contains(wanted), "{wanted}: {refused}");
    }
    let web = targets(&[("web", good(json!({"host": "web"})))]);
    let refused = needs(&web, &config::Ssh::default(), &arguments(folder.path(), &[])).unwrap_err().to_string();
    assert!(refused.contains("--config FILE"), "{refused}");
    let other = Arguments { id: "wbe".to_owned(), ..arguments(folder.path(), &[]) };
    assert!(needs(&web, &ca(), &other).unwrap_err().to_string().contains("there is no target \"wbe\""));
    let bad = Arguments { public_key: Some("/etc/hostname".into()), ..arguments(folder.path(), &[]) };
    assert!(needs(&web, &ca(), &bad).unwrap_err().to_string().contains("no public key"));
}

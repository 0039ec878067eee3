//! `[ssh]` as people write it: what is refused, in which words, and that what is taken reads back the same.

use std::path::Path;

use super::*;
use crate::config::{Config, load};

const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
const FULL: &str = "[ssh]\nuser = \"ops\"\nauth_timeout = \"5s\"\nidle = \"2min\"\nkeepalive = \"30s\"\nmax_connections = 50\n\
    channels_per_connection = 4\nconnecting_per_host = 2\nbreaker_failures = 5\nbreaker_open = \"1min\"\n\
    revoked_keys = \"/etc/tailops/revoked_keys\"\n[ssh.ca]\nkey_file = \"/etc/tailops/ssh_ca\"\nttl = \"10min\"\n\
    source_addresses = [\"100.64.0.7/32\", \"fd7a:115c:a1e0::7/128\"]\n[[ssh.host_cas]]\nhosts = [\"*.example.org\", \"10.0.0.?\"]\n";

fn read(text: &str) -> Result<Config, String> {
    load(Path::new("tailops.toml"), text, &[]).map_err(|problems| problems.to_string())
}

#[test]
fn what_is_read_is_what_stands_there_and_reads_back_the_same() {
    let config = read(&format!("{FULL}public_key = \"{ED25519} ca@example\"\n")).unwrap();
    let ssh = &config.ssh;
    assert_eq!((ssh.user.as_str(), ssh.max_connections, ssh.channels_per_connection), ("ops", 50, 4));
    assert_eq!((ssh.auth_timeout, ssh.idle, ssh.keepalive), {
        let seconds = Duration::from_secs;
        (seconds(5), seconds(120), seconds(30))
    });
    assert_eq!((ssh.connecting_per_host, ssh.breaker_failures, ssh.breaker_open), (2, 5, Duration::from_mins(1)));
    assert_eq!(ssh.revoked_keys.as_deref(), Some(Path::new("/etc/tailops/revoked_keys")));
    let ca = ssh.ca.as_ref().unwrap();
    assert_eq!((ca.key_file.as_path(), ca.ttl), (Path::new("/etc/tailops/ssh_ca"), Duration::from_mins(10)));
    assert_eq!(ca.source_addresses, ["100.64.0.7/32", "fd7a:115c:a1e0::7/128"]);
    let [host_ca] = &ssh.host_cas[..] else { panic!("{:?}", ssh.host_cas) };
    assert_eq!(host_ca.hosts, ["*.example.org", "10.0.0.?"]);
    assert_eq!(host_ca.public_key, ED25519, "without the comment");
    assert_eq!(read(&config.effective()).unwrap().ssh, *ssh);
    assert_eq!(read("").unwrap().ssh, Ssh::default());
    assert_eq!(config.needs_restart(&read("").unwrap()), ["ssh"]);
}

#[test]
fn what_cannot_be_meant_is_refused_and_says_what_would_be_right() {
    let ca = |rest: &str| format!("[ssh.ca]\nkey_file = \"/ca\"\n{rest}");
    let host_ca = |rest: &str| format!("[[ssh.host_cas]]\n{rest}");
    let key = format!("public_key = \"{ED25519}\"\n");
    for (text, wanted) in [
        ("ssh.user = \"-oProxyCommand=x\"".to_owned(), "ssh.user: \"-oProxyCommand=x\" is no login name"),
        ("ssh.keepalive = \"1s\"".to_owned(), "ssh.keepalive: must be from 5s to 5min"),
        ("ssh.channels_per_connection = 0".to_owned(), "ssh.channels_per_connection: must be from 1 to 64"),
        ("ssh.host_key_checking = false".to_owned(), "ssh.host_key_checking: unknown key"),
        ("ssh.revoked_keys = \"revoked\"".to_owned(), "must be an absolute path"),
        ("[ssh.ca]\n".to_owned(), "ssh.ca.key_file: missing"),
        ("ssh.ca.key_file = \"../ca\"".to_owned(), "ssh.ca.key_file: \"../ca\" must be an absolute path"),
        (ca("ttl = \"2d\""), "ssh.ca.ttl: must be from 1min to 1d"),
        (ca("ttl = \"1s\""), "ssh.ca.ttl: must be from 1min to 1d"),
        (ca("source_addresses = [\"100.64.0.7\"]"), "is none of networks such as"),
        (ca("source_addresses = [\"100.64.0.7/10\"]"), "is none of networks such as"),
        (ca("source_addresses = [\"10.0.0.1/32,0.0.0.0/0\"]"), "is none of networks such as"),
        (ca("extensions = [\"permit-pty\"]"), "ssh.ca.extensions: unknown key"),
        (host_ca(&format!("{key}hosts = []")), "at least one pattern"),
        (host_ca(&key), "ssh.host_cas[0].hosts: missing"),
        (host_ca(&format!("{key}hosts = [\"!a\"]")), "ssh.host_cas[0].hosts[0]: \"!a\" is none of patterns"),
        (host_ca(&format!("{key}hosts = [\"a,b\"]")), "is none of patterns"),
        (host_ca("hosts = [\"*\"]"), "ssh.host_cas[0].public_key: missing"),
        (host_ca("hosts = [\"*\"]\npublic_key = \"/etc/ca.pub\""), "must be a public key in one line"),
        (host_ca(&format!("hosts = [\"*\"]\npublic_key = \"cert-authority {ED25519}\"")), "must be a public key"),
        (host_ca(&format!("hosts = [\"*\"]\npublic_key = \"{ED25519}\\n{ED25519}\"")), "must be a public key"),
    ] {
        let problems = read(&text).unwrap_err();
        assert_eq!(problems.lines().count(), 1, "{text}: {problems}");
        assert!(problems.contains(wanted), "{text}: {problems}");
    }
    let private = "-----BEGIN OPENSSH PRIVATE KEY-----hunter2";
    let refused = read(&host_ca(&format!("hosts = [\"*\"]\npublic_key = \"{private}\""))).unwrap_err();
    assert!(!refused.contains("hunter2"), "{refused}");
}

#[test]
fn profile_maximum_keeps_logins_short() {
    let maximum = |text: &str| read(&format!("profile = \"maximum\"\n{text}"));
    for (text, wanted) in [
        ("[ssh.ca]\nkey_file = \"/ca\"\nttl = \"61min\"", "ssh.ca.ttl: profile maximum allows at most 1h, not 61min"),
        ("[ssh]\nidle = \"6min\"", "ssh.idle: profile maximum allows at most 5min, not 6min"),
    ] {
        assert!(read(text).is_ok(), "{text}");
        assert!(maximum(text).unwrap_err().contains(wanted), "{text}");
    }
    let advice = maximum("[ssh.ca]\nkey_file = \"/ca\"").unwrap().advice();
    assert!(advice.iter().any(|advice| advice.starts_with("ssh.ca.source_addresses:")), "{advice:?}");
}

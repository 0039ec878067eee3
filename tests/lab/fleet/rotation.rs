//! A login key replaced on real hosts: their own sshds let in whoever has the new one and nobody with the old one, as
//! OpenSSH's own client finds too.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::{Fleet, lend};
use crate::{
    host::{Host, fingerprint_of, keygen},
    wait::until,
};

/// A login user that the hosts do not have before, who keeps the file of its keys itself.
const KEEPER: &str = "keeper";

/// The host under another name, logged in to as that user.
fn entry(fleet: &Fleet, host: &Host, key: &Path) -> (String, Value) {
    let id = format!("kept-{}", host.name());
    let mut entry = fleet.entry(host);
    entry["id"] = id.as_str().into();
    entry["connection"]["username"] = KEEPER.into();
    entry["connection"]["key_path"] = json!(key);
    (id, entry)
}

/// A new key: what authorized_keys holds for it, and its fingerprint.
#[track_caller]
fn new_key(path: &Path) -> (String, String) {
    keygen(&["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path.to_str().unwrap()]);
    known(path)
}

/// The same for the key that a file holds, whatever the file beside it says.
#[track_caller]
fn known(path: &Path) -> (String, String) {
    let _ = fs::remove_file(path.with_extension("pub"));
    let public = keygen(&["-y", "-f", path.to_str().unwrap()]);
    let public = public.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    (public, fingerprint_of(path))
}

/// Whether OpenSSH's client gets in with a key, from where the gateway is.
fn lets_in(fleet: &Fleet, host: &Host, key: &Path) -> bool {
    let mut ssh = fleet.ops.machine.command("ssh");
    ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no"]);
    ssh.args(["-o", "UserKnownHostsFile=/dev/null", "-i", key.to_str().unwrap()]);
    let output = ssh.arg(format!("{KEEPER}@{}", host.node.ipv4())).arg("true").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || said.contains("Permission denied"), "{said}");
    output.status.success()
}

#[test]
fn a_login_key_is_replaced_on_every_host_and_the_old_one_opens_nothing() {
    lend(|fleet| {
        let hosts = [&fleet.web1, &fleet.db1];
        let file = |name| fleet.ops.machine.directory.join(name);
        let (key, old_key, other_key) = (file("kept"), file("kept.before"), file("kept.other"));
        let ((old, old_print), (other, _)) = (new_key(&key), new_key(&other_key));
        fs::copy(&key, &old_key).unwrap();
        for host in hosts {
            host.sh(&format!("useradd --create-home {KEEPER}; install -d -m 700 -o {KEEPER} /home/{KEEPER}/.ssh"));
            let lines = format!("# by hand\nrestrict,pty {old} the gateway\n{other} somebody else\n");
            host.put(&format!("/home/{KEEPER}/.ssh/authorized_keys"), 0o600, lines.as_bytes());
            host.sh(&format!("chown {KEEPER} /home/{KEEPER}/.ssh/authorized_keys"));
        }
        let entries = hosts.map(|host| entry(fleet, host, &key));
        fleet.enrol(&entries.each_ref().map(|(id, entry)| (id.as_str(), entry.clone())));
        let ask = |id: &str| fleet.call("host_inspect", json!({"target": id, "sections": ["os"]}));
        for (id, _) in &entries {
            until(&format!("{id} answers"), || ask(id).code().is_empty());
        }

        let rotated = fleet.gateway.run(&["credential", "rotate", key.to_str().unwrap(), "--yes", "--json"]);
        let rotation: Value = serde_json::from_str(&rotated).unwrap();
        let (new, new_print) = known(&key);
        assert_eq!(rotation[0]["stage"], "done", "{rotation}");
        assert_eq!((&rotation[0]["old_key"], &rotation[0]["new_key"]), (&json!(old_print), &json!(new_print)));
        let targets = rotation[0]["targets"].as_array().unwrap();
        assert!(targets.len() == 2 && targets.iter().all(|target| target["reached"] == "refused"), "{rotation}");
        for host in hosts {
            let lines = format!("# by hand\nrestrict,pty {new} the gateway\n{other} somebody else");
            assert_eq!(host.sh(&format!("cat /home/{KEEPER}/.ssh/authorized_keys")), lines);
            let files = host.sh(&format!("find /home/{KEEPER}/.ssh -type f -printf '%f %m %u\\n'"));
            assert_eq!(files, format!("authorized_keys 600 {KEEPER}"));
            let who = [&key, &old_key, &other_key].map(|key| lets_in(fleet, host, key));
            assert_eq!(who, [true, false, true], "{}", host.name());
        }

        // The gateway goes on by itself, with the new key.
        for (id, _) in &entries {
            ask(id).data();
            let record = fleet.last_record(|record| record["target"] == id.as_str() && record["status"] == "ok");
            assert!(record["exec"][0]["wire"].to_string().contains(&new_print), "{record}");
        }
        for host in hosts {
            host.throw_out();
            host.sh(&format!("userdel --force --remove {KEEPER} 2>&1"));
        }
    });
}

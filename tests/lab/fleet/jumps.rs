//! A host that only another host leads to: reached through it, and held to its key as strictly as any.

use serde_json::{Value, json};

use super::{Fleet, UNITS, lend};
use crate::{run::ip, wait::until};

/// Addresses of a network that only the two hosts are in.
const NEAR: &str = "10.77.0.1";
const FAR: &str = "10.77.0.2";

/// db1 at its address in that network.
fn far(fleet: &Fleet, id: &str, jump: Option<&str>, fingerprint: &str) -> Value {
    let mut entry = fleet.entry(&fleet.db1);
    entry["id"] = id.into();
    let connection = entry["connection"].as_object_mut().unwrap();
    connection.insert("host".to_owned(), FAR.into());
    connection.insert("host_keys".to_owned(), json!([fingerprint]));
    connection.insert("timeout".to_owned(), 5.into());
    if let Some(jump) = jump {
        connection.insert("jump".to_owned(), jump.into());
    }
    entry
}

#[test]
fn a_host_behind_another_is_reached_through_it_alone() {
    lend(|fleet| {
        let (jump, host) = (&fleet.web1, &fleet.db1);
        let alone = fleet.script("web1", &UNITS);
        for (host, address) in [(jump, NEAR), (host, FAR)] {
            ip(&["-n", &host.node.machine.namespace, "address", "replace", &format!("{address}/24"), "dev", "eth0"]);
        }
        let key = host.fingerprint();
        fleet.enrol(&[
            ("behind", far(fleet, "behind", Some("web1"), &key)),
            ("alone", far(fleet, "alone", None, &key)),
            ("other", far(fleet, "other", Some("web1"), &jump.fingerprint())),
        ]);
        let call = |target: &str| fleet.call("host_inspect", json!({"target": target, "sections": ["os"]}));
        until("the host is registered", || call("behind").code() != "unknown_target");
        // Nobody has said yet that it may be gone through.
        assert_eq!(call("behind").code(), "unreachable", "{}", call("behind").body);
        fleet.prepare(jump, &fleet.script("web1", &UNITS));
        // A connection that is kept has the rights it was logged in with.
        jump.throw_out();
        assert_eq!(call("alone").code(), "unreachable", "{}", call("alone").body);
        assert_eq!(call("behind").data()["hostname"], host.name(), "{}", call("behind").body);
        assert_eq!(call("other").code(), "host_key_mismatch", "{}", call("other").body);
        // So are its keys, by people at the command line: the same as it has them itself.
        let look = |arguments: &[&str]| fleet.gateway.run(&[&["target", "scan"], arguments].concat());
        let (enrolled, bare) = (look(&["behind"]), look(&[FAR, "--jump", "web1"]));
        let line = |text: &str| text.lines().find(|line| line.contains(&key)).map(str::to_owned);
        assert!(line(&enrolled).is_some_and(|line| line.ends_with("enrolled")), "{enrolled}");
        assert!(line(&bare).is_some_and(|line| line.ends_with('-')), "{bare}");
        // Its log knows whence it came.
        let log = host.logins();
        assert!(log.contains(&format!(" from {NEAR} ")), "{log}");

        // Without the jump host's word there is no way.
        fleet.prepare(jump, &alone);
        jump.throw_out();
        host.throw_out();
        assert_eq!(call("behind").code(), "unreachable", "{}", call("behind").body);
    });
}

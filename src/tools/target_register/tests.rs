//! What may be registered by a call, and what people are asked about.

use serde_json::{Value, json};

use super::{super::rig, *};
use crate::model::{Registered, StepOutput};

const PIN: &str = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
const REASON: &str = "a new machine";

fn wish() -> Value {
    json!({"action": "add", "id": "web-9", "host_key_fp": [PIN], "dry_run": false, "reason": REASON, "spec": {
        "connection": {"host": "192.0.2.7", "username": "ops"}, "capabilities": ["system:read"],
    }})
}

/// A rig whose target `here` is reached by SSH with a key file.
fn rig() -> rig::Rig {
    let mut rig = rig::Rig::new();
    rig.target.kind = TargetKind::Ssh;
    let connection = Connection {
        host: "192.0.2.1".into(),
        port: None,
        username: None,
        key: Some(crate::model::KeyReference::File("/etc/tailops/key".into())),
        certificate: None,
        host_keys: vec![PIN.parse().unwrap()],
        node: None,
        jump: None,
        via: None,
        timeout: std::time::Duration::from_secs(30),
    };
    rig.target.registered = Some(Box::new(Registered { connection: Some(connection), ..Registered::default() }));
    rig
}

#[track_caller]
fn registered(wish: &Value) -> Target {
    let operation = rig().plan_exactly(&TargetRegister, wish).unwrap();
    let [Step::Gateway(Question::Registration(registration))] = &operation.steps[..] else { panic!("{operation:?}") };
    *registration.wanted.clone().unwrap()
}

#[test]
fn an_entry_is_read_as_that_of_a_file_and_gets_the_keys_that_are_named() {
    let target = registered(&wish());
    assert_eq!((target.kind, target.engagement.as_str()), (TargetKind::Ssh, "lab"));
    assert_eq!(target.connection().unwrap().host_keys, [PIN.parse().unwrap()]);
    let mut through = wish();
    through["spec"]["connection"]["jump"] = json!("here");
    through["spec"]["connection"]["key_path"] = json!("/etc/tailops/key");
    through["spec"]["constraints"] = json!({"roots": ["/srv/web"]});
    assert_eq!(registered(&through).connection().unwrap().jump, Some("here".into()));
    let operation = rig().plan_exactly(&TargetRegister, &through).unwrap();
    assert_eq!((operation.places, operation.risk), (vec!["/srv/web".to_owned()], Risk::Critical));
    rig::fits_budget(&TargetRegister);
}

#[test]
fn what_would_give_a_caller_more_is_refused() {
    for (pointer, value, wanted) in [
        ("/spec/executor", json!("local"), "only machines reached by SSH"),
        ("/spec/executor", json!("docker"), "only machines reached by SSH"),
        ("/spec/type", json!("local"), "only machines reached by SSH"),
        ("/spec/engagement", json!("other"), "no engagement"),
        ("/spec/connection/key_path", json!("/etc/shadow"), "key_path"),
        ("/spec/connection/key_path", json!("${HOME}"), "key_path"),
        ("/spec/connection/certificate_path", json!("/etc/shadow"), "certificate_path"),
        ("/spec/connection/host_keys", json!([PIN]), "host_key_fp"),
        ("/spec/connection/jump", json!("web-9"), "jump"),
        ("/spec/connection/jump", json!("nobody"), "no target nobody"),
        ("/spec/connection/host", json!("-oProxyCommand=x"), "no host name"),
        ("/spec/id", json!("other"), "as the target's key is"),
        ("/spec/capabilities", json!(["everything"]), "unknown scope"),
        ("/spec/a: 1\n  evil: {type: local}\n  b", json!(1), "unknown key"),
        ("/host_key_fp", json!(["SHA256:short"]), "host_key_fp"),
        ("/expect_sha256", json!("yes"), "expect_sha256"),
        ("/id", json!("../x"), "`id`"),
        ("/reason", json!(""), "reason"),
    ] {
        let mut wish = wish();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        wish.pointer_mut(parent).unwrap()[key] = value;
        let error = rig().plan_exactly(&TargetRegister, &wish).unwrap_err();
        assert!(error.code == "invalid_arguments" && error.message.contains(wanted), "{pointer}: {error}");
    }
    let both = json!({"action": "remove", "id": "here", "spec": {}, "reason": REASON});
    assert!(rig().plan_exactly(&TargetRegister, &both).unwrap_err().message.contains("spec"));
}

#[test]
fn an_update_keeps_host_keys_only_for_the_same_place() {
    let mut update = wish();
    (update["action"], update["id"]) = (json!("update"), json!("here"));
    update.as_object_mut().unwrap().remove("host_key_fp");
    update["spec"]["connection"]["host"] = json!("192.0.2.1");
    assert_eq!(registered(&update).connection().unwrap().host_keys.len(), 1);
    for (key, value) in [("host", json!("192.0.2.2")), ("port", json!(2222))] {
        let mut moved = update.clone();
        moved["spec"]["connection"][key] = value;
        // So it has to prove itself by a certificate, or is refused by who looks at it.
        assert!(registered(&moved).connection().unwrap().host_keys.is_empty(), "{key}");
    }
}

#[test]
fn people_agree_to_the_key_that_the_host_shows_and_to_the_entry_it_replaces() {
    let settled = |host: Value| {
        let preview = rig().plan_exactly(&TargetRegister, &rig::preview_of(&TargetRegister, &wish())).unwrap();
        assert!(preview.dry_run && preview.effect == Effect::Read);
        let answer = json!({"id": "web-9", "before": null, "after": {}, "before_sha256": "absent", "host": host});
        let raw = RawOutput { operation: preview, outputs: vec![StepOutput::Answer(answer)] };
        let content = TargetRegister.render(&raw).unwrap();
        TargetRegister.settle(wish().as_object().unwrap(), &content)
    };
    let shows =
        |keys: Value, code: Value| json!({"seen": code.is_null(), "code": code, "keys": keys, "enrolled": keys});
    let full = format!("{PIN} ssh-ed25519");
    let arguments = settled(shows(json!([full]), Value::Null)).unwrap().arguments;
    assert_eq!((&arguments["host_key_fp"], &arguments["expect_sha256"]), (&json!([full]), &json!("absent")));
    // What is settled can be planned.
    rig().plan_exactly(&TargetRegister, &arguments.into()).unwrap();
    for (host, wanted) in [
        (shows(json!([]), Value::Null), "shows none of the keys"),
        (shows(json!([]), json!("unreachable")), "unreachable"),
    ] {
        let error = settled(host).unwrap_err();
        assert!(error.code == "precondition_failed" && error.message.contains(wanted), "{error}");
    }
    assert_eq!(settled(shows(json!([]), json!("behind_jump_host"))).unwrap().arguments["host_key_fp"], json!([PIN]));
}

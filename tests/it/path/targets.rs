//! The registry through the whole gateway: an agent registers a machine once people agreed to it, and can neither reach
//! beyond its tenant and its own rights by that nor have the gateway read or connect to what is not its own.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU32,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

use futures_util::{FutureExt, future::BoxFuture};
use russh::keys::{
    PrivateKey, PublicKey,
    ssh_key::{
        LineEnding,
        certificate::{Builder, CertType},
    },
};
use serde_json::{Value, json};
use tailops::{
    config::{Engagement, HostCa, read_registry},
    exec::{Resolver, SystemResolver},
};

use crate::{
    harness::{Answer, Gateway, Grant, eventually},
    people::{People, Visitor, on_host},
    sshd::{Settings, Sshd, new_key, pin_of},
};

/// A gateway with the target `seed`, which is reached by SSH, and `theirs` of another tenant; and who is around it.
struct Rig {
    gateway: Gateway,
    agent: Visitor,
    bob: Visitor,
    token: String,
    sshd: Sshd,
    login: PrivateKey,
    key: String,
    pin: String,
    _folder: tempfile::TempDir,
}

async fn rig() -> Rig {
    rig_with(Arc::new(SystemResolver), |_, _| Vec::new()).await
}

/// The same, where `certify` changes the host and gives the authorities of host certificates.
async fn rig_with(resolver: Arc<dyn Resolver>, certify: impl FnOnce(&mut Settings, &PublicKey) -> Vec<HostCa>) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let (host_key, login) = (new_key(), new_key());
    let key = folder.path().canonicalize().unwrap().join("login_key");
    fs::write(&key, login.to_openssh(LineEnding::LF).unwrap().as_bytes()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let key = key.to_str().unwrap().to_owned();
    let mut settings = Settings::new(&host_key, login.public_key());
    let host_cas = certify(&mut settings, host_key.public_key());
    let sshd = Sshd::start(settings).await;
    let pin = pin_of(host_key.public_key());
    let target = |id: &str, engagement: &str, more: &str| {
        format!(
            "  {id}:\n    type: remote\n    executor: ssh\n    engagement: {engagement}\n    capabilities: [admin]\n    \
             connection: {{host: 127.0.0.1, port: {}, username: ops, key_path: {key}, host_keys: [\"{pin}\"]{more}}}\n",
            sshd.address.port()
        )
    };
    let text = ["version: \"1.0\"\ntargets:\n", &target("seed", "default", ""), &target("theirs", "other", "")]
        .concat()
        + &target("cut-off", "default", ", jump: nobody");
    let engagements = ["default".into(), "other".into()];
    let registered = read_registry(Path::new("t.yaml"), &text, &engagements[0], &engagements).unwrap();
    let gateway = Gateway::resolving_by(resolver, |config| {
        config.ssh.host_cas = host_cas;
        config.engagements.push(Engagement { id: "other".into(), tools: None, data_root: None });
        config.registered = registered;
        let many = NonZeroU32::new(1000).unwrap();
        (config.limits.critical_per_hour, config.approvals.max_pending_per_token) = (many, many);
    })
    .await;
    let people = People::of(&gateway);
    let (agent, bob) = (people.agent("agent"), people.approver("bob", json!(true)));
    let token = gateway.mint(Grant::bound("admin", "tag:mcp-client")).await;
    Rig { gateway, agent, bob, token, sshd, login, key, pin, _folder: folder }
}

impl Rig {
    /// The call that adds the machine as `id`.
    fn adding(&self, id: &str) -> Value {
        let fingerprint = self.pin.split(' ').next().unwrap();
        json!({"action": "add", "id": id, "host_key_fp": [fingerprint], "dry_run": false, "reason": "a new machine",
        "spec": {"capabilities": ["system:read", "fleet:read"], "connection": {
            "host": "127.0.0.1", "port": self.sshd.address.port(), "username": "ops", "key_path": self.key,
        }}})
    }

    async fn call(&self, tool: &str, arguments: Value) -> Answer {
        self.agent.call(&self.token, tool, arguments).await
    }

    /// The call again, with a yes of bob's to what it asked.
    async fn agreed(&self, call: &Value) -> Value {
        let asked = self.call("target_register", call.clone()).await;
        assert_eq!(asked.code(), "approval_required", "{}", asked.body);
        let id = asked.content()["approval_id"].as_str().unwrap().to_owned();
        let decided = self.bob.decide(&id, "approve").await;
        assert_eq!(decided.status, 200, "{}", decided.body);
        let mut again = call.clone();
        again["approval_id"] = json!(id);
        again
    }

    async fn rows(&self) -> Vec<String> {
        self.gateway.store().targets().await.unwrap().into_iter().map(|row| row.id).collect()
    }

    async fn is_there(&self, id: &str) -> bool {
        let list = self.call("fleet_list", json!({"kind": "ssh"})).await;
        list.data()["targets"].as_array().unwrap().iter().any(|target| target["id"] == id)
    }
}

#[tokio::test]
async fn a_machine_is_registered_once_people_agreed_and_is_in_force_at_once() {
    let rig = rig().await;
    let mut preview = rig.adding("web");
    preview["dry_run"] = json!(true);
    let answer = rig.call("target_register", preview).await;
    let data = answer.data();
    assert_eq!((&data["host"]["enrolled"], &data["before_sha256"]), (&json!([rig.pin]), &json!("absent")));
    assert_eq!(answer.content()["after"]["connection"]["host"], "127.0.0.1");
    assert!(rig.sshd.seen.logins.lock().unwrap().is_empty(), "a look is no login");

    let call = rig.adding("web");
    let again = rig.agreed(&call).await;
    assert_eq!(rig.rows().await, [""; 0], "agreeing changes nothing by itself");
    let done = rig.call("target_register", again.clone()).await;
    assert_eq!(done.content()["changed"], true, "{}", done.body);
    eventually("the target is in force", async || rig.is_there("web").await).await;
    let inspected = rig.call("target_inspect", json!({"target": "web"})).await;
    assert_eq!(inspected.data()["registry"]["connection"]["host_keys"], json!([rig.pin]));
    assert!(!rig.sshd.seen.commands.lock().unwrap().is_empty());
    let record = rig.gateway.records_of(&done).await.pop().unwrap();
    assert_eq!((&record["status"], &record["args"]["host_key_fp"]), (&json!("ok"), &json!([rig.pin])), "{record}");
    // A yes is good once.
    assert_ne!(rig.call("target_register", again).await.content()["changed"], true);

    // An update keeps the host key of the same place, and shows no reference to a key that it did not bring.
    let mut update = rig.adding("web");
    update["action"] = json!("update");
    update.as_object_mut().unwrap().remove("host_key_fp");
    update["spec"]["metadata"] = json!({"tags": ["new"]});
    let again = rig.agreed(&update).await;
    let done = rig.call("target_register", again).await;
    assert_eq!(done.content()["after"]["connection"]["host_keys"], json!([rig.pin]), "{}", done.body);
    assert!(!done.body.to_string().contains(&rig.key), "{}", done.body);
    let removal = json!({"action": "remove", "id": "web", "dry_run": false, "reason": "it is gone"});
    let again = rig.agreed(&removal).await;
    assert_eq!(rig.call("target_register", again).await.content()["changed"], true);
    eventually("the target is gone", async || !rig.is_there("web").await).await;
    rig.gateway.stop().await;
}

#[tokio::test]
async fn nobody_is_asked_about_what_would_give_the_caller_more() {
    let rig = rig().await;
    let narrow = rig.gateway.mint(Grant::bound("fleet:admin,system:read", "tag:mcp-client")).await;
    let only = Grant { targets: Some(vec!["seed".to_owned()]), ..Grant::bound("admin", "tag:mcp-client") };
    let only = rig.gateway.mint(only).await;
    let with = |pointer: &str, value: Value| {
        let mut call = rig.adding("web");
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        call.pointer_mut(parent).unwrap()[key] = value;
        call
    };
    let update = |id: &str| {
        let mut call = rig.adding(id);
        call["action"] = json!("update");
        call
    };
    let host = "/spec/connection/host";
    for (token, call, code) in [
        (&narrow, with("/spec/capabilities", json!(["file:write"])), "insufficient_scope"),
        (&narrow, with("/spec/capabilities", json!(["admin"])), "insufficient_scope"),
        (&only, rig.adding("web"), "token_target_denied"),
        (&rig.token, rig.adding("theirs"), "id_taken"),
        (&rig.token, rig.adding("seed"), "id_taken"),
        (&rig.token, update("theirs"), "unknown_target"),
        (&rig.token, update("nobody"), "unknown_target"),
        (&rig.token, update("seed"), "target_configured"),
        (&rig.token, with("/spec/engagement", json!("other")), "invalid_arguments"),
        (&rig.token, with("/spec/connection/key_path", json!("/etc/shadow")), "invalid_arguments"),
        // Nothing would speak for the machine.
        (&rig.token, with("/host_key_fp", json!([])), "invalid_arguments"),
        (&rig.token, with(host, json!("169.254.169.254")), "address_refused"),
        (&rig.token, with(host, json!("10.0.0.1")), "address_refused"),
        // The machine shows another key than the one that is named.
        (&rig.token, with("/host_key_fp", json!([pin_of(new_key().public_key())])), "precondition_failed"),
        (&rig.token, with("/spec/connection/port", json!(1)), "precondition_failed"),
    ] {
        let answer = rig.agent.call(token, "target_register", call.clone()).await;
        assert_eq!(answer.code(), code, "{call}: {}", answer.body);
    }
    assert_eq!(rig.gateway.store().pending_approvals(None).await.unwrap().0, 0, "nobody was asked");
    assert_eq!(rig.rows().await, [""; 0]);
    rig.gateway.stop().await;
}

/// An authority that speaks for `hosts`.
fn authority(ca: &PrivateKey, hosts: &str) -> HostCa {
    HostCa { hosts: vec![hosts.to_owned()], public_key: ca.public_key().to_openssh().unwrap() }
}

/// Gives the host a certificate by `ca`, from a while ago to `left` seconds from now.
fn certify(settings: &mut Settings, ca: &PrivateKey, key: &PublicKey, left: i64) {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let until = now.checked_add_signed(left).unwrap();
    let mut builder = Builder::new(vec![1; 16], key.key_data().clone(), now - 7200, until).unwrap();
    builder.cert_type(CertType::Host).unwrap().valid_principal("127.0.0.1").unwrap();
    settings.host_certificates = vec![builder.sign(ca).unwrap()];
}

/// The call that adds the machine as `id`, where no key is named.
fn unpinned(rig: &Rig, id: &str) -> Value {
    let mut call = rig.adding(id);
    call.as_object_mut().unwrap().remove("host_key_fp");
    call
}

#[tokio::test]
async fn a_machine_that_an_authority_speaks_for_is_registered_without_a_key() {
    let ca = new_key();
    let rig = rig_with(Arc::new(SystemResolver), |settings, key| {
        certify(settings, &ca, key, 3600);
        settings.says.lock().unwrap().identification = Some("SSH-2.0-Lab_1".to_owned());
        vec![authority(&ca, "127.0.0.*")]
    })
    .await;
    let mut preview = unpinned(&rig, "web");
    preview["dry_run"] = json!(true);
    let answer = rig.call("target_register", preview).await;
    let by = ca.public_key().fingerprint(russh::keys::HashAlg::Sha256).to_string();
    assert_eq!(answer.data()["host"]["certified"], json!([format!("{} by {by}", rig.pin)]), "{}", answer.body);
    let again = rig.agreed(&unpinned(&rig, "web")).await;
    let done = rig.call("target_register", again).await;
    assert_eq!(done.content()["changed"], true, "{}", done.body);
    // What it says of itself was seen by then, and is kept with it.
    let kept = rig.gateway.store().greeting("web").await.unwrap().unwrap();
    assert_eq!((kept.identification.as_str(), kept.banner_sha256), ("SSH-2.0-Lab_1", None));
    eventually("the target is in force", async || rig.is_there("web").await).await;
    let inspected = rig.call("host_inspect", json!({"target": "web"})).await;
    let records = rig.gateway.records_of(&inspected).await;
    let wire = &records.last().unwrap()["exec"][0]["wire"];
    assert_eq!((&wire["host_trust"], &wire["host_authority"]), (&json!("certificate"), &json!(by)), "{records:?}");
    let tested = on_host(&rig.gateway, "POST", "/api/v1/targets/web/test", Some(json!({}))).await.body;
    assert_eq!((&tested["host_trust"], &tested["host_authority"]), (&json!("certificate"), &json!(by)), "{tested}");
    let pinned = on_host(&rig.gateway, "POST", "/api/v1/targets/seed/test", Some(json!({}))).await.body;
    assert_eq!(pinned["host_trust"], "certificate", "a certificate counts before a pin: {pinned}");
    // Taken out, nothing of it is kept.
    let removal = json!({"action": "remove", "id": "web", "dry_run": false, "reason": "it is gone"});
    let again = rig.agreed(&removal).await;
    assert_eq!(rig.call("target_register", again).await.content()["changed"], true);
    assert_eq!(rig.gateway.store().greeting("web").await.unwrap(), None);
    rig.gateway.stop().await;
}

#[tokio::test]
async fn a_machine_without_a_certificate_that_counts_needs_a_key() {
    let (ca, other) = (new_key(), new_key());
    for (by, hosts, left, why) in [
        (Some(&ca), "10.*", 3600, "as the machine itself shows it"),
        (Some(&ca), "127.*", -60, "host_certificate_invalid"),
        (Some(&other), "127.*", 3600, "host_certificate_invalid"),
        (None, "127.*", 3600, "host_key_unknown"),
    ] {
        let rig = rig_with(Arc::new(SystemResolver), |settings, key| {
            if let Some(by) = by {
                certify(settings, by, key, left);
            }
            vec![authority(&ca, hosts)]
        })
        .await;
        for dry_run in [true, false] {
            let mut call = unpinned(&rig, "web");
            call["dry_run"] = json!(dry_run);
            let answer = rig.call("target_register", call).await;
            assert_eq!(answer.code(), "invalid_arguments", "{}", answer.body);
            let told = answer.body.to_string();
            assert!(told.contains("host_key_fp") && told.contains(why), "{why}: {told}");
        }
        let looked = rig.sshd.seen.connections.load(Ordering::SeqCst) > 0;
        assert_eq!(looked, hosts == "127.*", "a host that no authority covers is not even asked");
        assert_eq!(rig.gateway.store().pending_approvals(None).await.unwrap().0, 0, "nobody was asked");
        rig.gateway.stop().await;
    }
}

/// Knows one name, which no other resolver does.
struct Knows;

impl Resolver for Knows {
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, std::io::Result<Vec<IpAddr>>> {
        let known = (name == "web.invalid").then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        std::future::ready(Ok(known.into_iter().collect())).boxed()
    }
}

#[tokio::test]
async fn a_machine_is_looked_for_where_the_gateways_resolver_says() {
    let rig = rig_with(Arc::new(Knows), |_, _| Vec::new()).await;
    let mut call = rig.adding("web");
    (call["dry_run"], call["spec"]["connection"]["host"]) = (json!(true), json!("web.invalid"));
    let answer = rig.call("target_register", call.clone()).await;
    assert_eq!(answer.data()["host"]["enrolled"], json!([rig.pin]), "{}", answer.body);
    call["spec"]["connection"]["host"] = json!("localhost");
    assert_eq!(rig.call("target_register", call).await.code(), "unreachable");
    rig.gateway.stop().await;
}

#[tokio::test]
async fn a_machine_that_is_swapped_after_the_yes_is_not_enrolled() {
    let rig = rig().await;
    let again = rig.agreed(&rig.adding("web")).await;
    let Rig { gateway, agent, token, sshd, login, .. } = rig;
    let address = sshd.address;
    drop(sshd);
    let gone = async || tokio::net::TcpListener::bind(address).await.is_ok();
    eventually("the port is free", gone).await;
    let _other = Sshd::start_on(address, Settings::new(&new_key(), login.public_key())).await;
    let answer = agent.call(&token, "target_register", again).await;
    assert_eq!(answer.code(), "precondition_failed", "{}", answer.body);
    assert!(gateway.store().targets().await.unwrap().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn a_target_whose_jump_host_is_not_there_is_not_reached_directly() {
    let rig = rig().await;
    let answer = rig.call("target_inspect", json!({"target": "cut-off"})).await;
    assert_eq!(answer.code(), "jump_unusable", "{}", answer.body);
    let tested = on_host(&rig.gateway, "POST", "/api/v1/targets/cut-off/test", Some(json!({}))).await;
    assert_eq!((tested.status, &tested.body["code"]), (200, &json!("jump_unusable")), "{}", tested.body);
    assert_eq!(rig.sshd.seen.connections.load(Ordering::SeqCst), 0);
    rig.gateway.stop().await;
}

#[tokio::test]
async fn people_test_and_scan_on_the_gateways_own_host_only() {
    let rig = rig().await;
    let tested = on_host(&rig.gateway, "POST", "/api/v1/targets/seed/test", Some(json!({}))).await;
    let trial = &tested.body;
    assert_eq!((tested.status, &trial["ok"], &trial["sudo"]), (200, &json!(true), &Value::Null), "{trial}");
    assert!(trial["host_key"].as_str().unwrap().contains("SHA256:"), "{trial}");
    let look = json!({"host": "127.0.0.1", "port": rig.sshd.address.port()});
    let scanned = on_host(&rig.gateway, "POST", "/api/v1/targets/scan", Some(look.clone())).await;
    let keys: Vec<String> = scanned.body["keys"].as_array().unwrap().iter().map(Value::to_string).collect();
    assert!(keys.len() == 1 && keys[0].contains(rig.pin.split(' ').next().unwrap()), "{}", scanned.body);
    for (path, body, status) in [
        ("/api/v1/targets/nobody/test", json!({}), 404),
        ("/api/v1/targets/seed/test", json!({"command": "id"}), 400),
        ("/api/v1/targets/scan", json!({"host": "-x", "port": 22}), 400),
        ("/api/v1/targets/scan", json!({"host": "127.0.0.1", "port": 0}), 400),
        ("/api/v1/targets/scan", json!({"host": "127.0.0.1", "port": 1}), 502),
    ] {
        let answer = on_host(&rig.gateway, "POST", path, Some(body)).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
    }
    let connections = || rig.sshd.seen.connections.load(Ordering::SeqCst);
    let before = connections();
    let rotate = json!({"file": rig.key});
    for (path, body) in [
        ("/api/v1/targets/seed/test", json!({})),
        ("/api/v1/targets/scan", look),
        ("/api/v1/credentials/rotate", rotate.clone()),
    ] {
        let answer = rig.bob.post(path, body).await;
        assert_eq!((answer.status, answer.code()), (403, "host_only"), "{}", answer.body);
    }
    for path in ["/api/v1/credentials", "/api/v1/credentials/rotations/x"] {
        let answer = rig.bob.get(path).await;
        assert_eq!((answer.status, answer.code()), (403, "host_only"), "{}", answer.body);
    }
    let relative = on_host(&rig.gateway, "POST", "/api/v1/credentials/rotate", Some(json!({"file": "key"}))).await;
    assert_eq!(relative.status, 400, "{}", relative.body);
    let mut odd = rotate;
    odd["act"] = json!("force");
    let refused = on_host(&rig.gateway, "POST", "/api/v1/credentials/rotate", Some(odd)).await;
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert_eq!(connections(), before, "nothing was connected to");
    let records = rig.gateway.records().await;
    let of = |act: &str| records.iter().filter(|record| record["tool"] == act).count();
    assert!(of("target.test") == 1 && of("target.scan") == 2, "{records:?}");
    rig.gateway.stop().await;
}

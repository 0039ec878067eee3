//! Machines reached by SSH, at the command line: enrolled with the keys that they show and no others, kept and dropped by
//! imports, scanned, tested.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use russh::keys::{PrivateKey, ssh_key::LineEnding};
use serde_json::{Value, json};
use tailops::{
    config::{self, read_import},
    fleet::Registry,
    model::Target,
    tools,
};

use crate::{
    harness::eventually,
    served::{Place, Served},
    sshd::{Says, Settings, Sshd, new_key, pin_of},
};

const CONFIG: &str = "data_dir = \"DATA\"\nnode.listen = \"127.0.0.1:0\"\nlog.format = \"json\"\n[engagements.default]\n\
    [targets.here]\nkind = \"local\"\nengagement = \"default\"\ncapabilities = [\"system:admin\"]\n";

/// A service, a machine beside it, and the key that the machine lets in.
struct Rig {
    place: Place,
    service: Served,
    sshd: Sshd,
    says: Arc<Mutex<Says>>,
    host_key: PrivateKey,
    key: PathBuf,
}

impl Rig {
    async fn start() -> Self {
        let place = Place::with(CONFIG);
        let (host_key, login) = (new_key(), new_key());
        let key = place.beside("login_key", &login.to_openssh(LineEnding::LF).unwrap());
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let settings = Settings { forwards: true, ..Settings::new(&host_key, login.public_key()) };
        let says = settings.says.clone();
        says.lock().unwrap().identification = Some("SSH-2.0-Before_1".to_owned());
        let sshd = Sshd::start(settings).await;
        let service = Served::start(&place).await;
        Self { place, service, sshd, says, host_key, key }
    }

    fn port(&self) -> String {
        self.sshd.address.port().to_string()
    }

    /// The pin, and the fingerprint alone.
    fn pin(&self) -> (String, String) {
        let pin = pin_of(self.host_key.public_key());
        let fingerprint = pin.split(' ').next().unwrap().to_owned();
        (pin, fingerprint)
    }

    /// The arguments that add the machine as `id`.
    fn adding<'a>(&'a self, id: &'a str, port: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let key = self.key.to_str().unwrap();
        let fixed = ["target", "add", id, "--host", "127.0.0.1", "--port", port, "--user", "ops", "--key", key];
        let rights = ["--capability", "system:read,fleet:read"];
        fixed.into_iter().chain(rights).chain(more.iter().copied()).collect()
    }

    /// Adds the machine as `id`, and waits until the service can use it.
    async fn enrolled(&self, id: &str) {
        self.place.said(&self.adding(id, &self.port(), &["--host-key", &self.pin().1])).await;
        let usable = async || self.place.tailops(&["target", "test", id]).await.status.success();
        eventually("the target can be used", usable).await;
    }

    fn connections(&self) -> usize {
        self.sshd.seen.connections.load(std::sync::atomic::Ordering::SeqCst)
    }
}

/// A pin of a key that no machine has.
const STRANGER: &str = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";

#[tokio::test]
async fn a_machine_is_added_with_the_key_that_it_shows_and_no_other() {
    let rig = Rig::start().await;
    let (port, (pin, fingerprint)) = (rig.port(), rig.pin());
    // Without a key, with the wrong one, or with one that nobody can look at, there is no target.
    let refused = rig.place.refused(2, &rig.adding("web", &port, &[])).await;
    assert!(refused.contains("--host-key") && refused.contains(&format!("target scan 127.0.0.1:{port}")), "{refused}");
    assert_eq!(rig.connections(), 0, "nothing was asked of it");
    let refused = rig.place.refused(1, &rig.adding("web", &port, &["--host-key", STRANGER])).await;
    assert!(refused.contains("somebody stands between") && refused.contains(&fingerprint), "{refused}");
    let refused = rig.place.refused(1, &rig.adding("web", "1", &["--host-key", &fingerprint])).await;
    assert!(refused.contains("--offline"), "{refused}");
    for (more, wanted) in [
        (&["--host-key", "SHA256:x"][..], "--host-key: "),
        (&["--host-key", STRANGER, "--root", "relative"], "--root: "),
        (&["--host-key", STRANGER, "--jump", "nobody", "--offline"], "--jump: "),
        (&["--host-key", STRANGER, "--capability", "everything"], "--capability: "),
        (&["--host-key", STRANGER, "--tag", "A B"], "--tag: "),
        (&["--host-key", STRANGER, "--engagement", "nobody"], "--engagement: "),
    ] {
        let refused = rig.place.refused(2, &rig.adding("web", &port, more)).await;
        assert!(refused.contains(wanted), "{wanted}: {refused}");
    }
    assert_eq!(rig.place.said(&["target", "export"]).await, "version: \"1.0\"\ntargets: {}\n");
    let said = rig.place.said(&rig.adding("web", &port, &["--host-key", &fingerprint])).await;
    assert_eq!(said, format!("enrolled   {pin} (shown by the host)\nadded      web\n"));
    let shown = rig.place.said(&["target", "show", "web"]).await;
    assert!(shown.contains(&format!("\"host_keys\":[\"{pin}\"]")), "{shown}");
    // In force at once, and really reached. What it said while it was added is what it is expected to say.
    rig.says.lock().unwrap().identification = Some("SSH-2.0-After_2".to_owned());
    let token = rig.place.token("default").await;
    let inspect = async || rig.service.call(&token, "target_inspect", json!({"target": "web"})).await;
    eventually("the target is in force", async || inspect().await.code() != "unknown_target").await;
    let answer = inspect().await;
    let connection = &answer.data()["registry"]["connection"];
    assert_eq!((&connection["host_keys"], &connection["login"]), (&json!([pin]), &json!("key")));
    assert!(!answer.body.to_string().contains("login_key"), "where the key lies is the gateway's own");
    // Twice is once.
    let refused = rig.place.refused(1, &rig.adding("web", &port, &["--host-key", &fingerprint])).await;
    assert!(refused.contains("remove it first"), "{refused}");
    let offline = rig.adding("later", "1", &["--host-key", STRANGER, "--offline", "--jump", "web"]);
    assert!(rig.place.said(&offline).await.contains("(not seen)"));
    assert!(rig.place.refused(1, &["target", "remove", "web"]).await.contains("jump host of later"));
    let records = rig.place.records().await;
    let added: Vec<&Value> = records.iter().filter(|record| record["tool"] == "target.add").collect();
    assert_eq!(
        (added.len(), &added[0]["args"]["host_keys"], &added[0]["args"]["seen"]),
        (2, &json!([pin]), &json!(true))
    );
    assert_eq!(added[1]["args"]["seen"], false);
    let alerts: Vec<&Value> = records.iter().filter(|record| record["kind"] == "alert").collect();
    let [alert] = &alerts[..] else { panic!("{alerts:?}") };
    assert_eq!((&alert["code"], &alert["target"]), (&json!("host_identification_changed"), &json!("web")));
    assert_eq!(
        (&alert["args"]["enrolled"], &alert["args"]["shown"]),
        (&json!(["SSH-2.0-Before_1"]), &json!("SSH-2.0-After_2"))
    );
    rig.service.stop().await;
}

#[tokio::test]
async fn scanning_trusts_nothing_and_tells_what_changed() {
    let rig = Rig::start().await;
    let (port, (pin, fingerprint)) = (rig.port(), rig.pin());
    let place = format!("127.0.0.1:{port}");
    let said = rig.place.said(&["target", "scan", &place]).await;
    assert!(said.contains("ssh-ed25519") && said.contains(&fingerprint), "{said}");
    assert!(rig.sshd.seen.logins.lock().unwrap().is_empty(), "nobody logged in");
    let found: Value = serde_json::from_str(&rig.place.said(&["target", "scan", &place, "--json"]).await).unwrap();
    assert_eq!((&found["keys"][0]["fingerprint"], &found["keys"][0]["state"]), (&json!(fingerprint), &Value::Null));
    assert_eq!(found["identification"], "SSH-2.0-Before_1");
    assert_eq!(rig.place.said(&["target", "export"]).await, "version: \"1.0\"\ntargets: {}\n");
    rig.place.said(&rig.adding("web", &port, &["--host-key", &fingerprint])).await;
    assert!(rig.place.said(&["target", "scan", "web"]).await.contains("enrolled"));
    let other = format!("{STRANGER} ssh-ed25519");
    rig.place.said(&rig.adding("old", &port, &["--host-key", &other, "--offline"])).await;
    let output = rig.place.tailops(&["target", "scan", "old"]).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("changed") && !said.contains(&pin), "{said}");
    assert!(rig.place.refused(1, &["target", "scan", "here"]).await.contains("not reached by SSH"));
    assert!(rig.place.refused(2, &["target", "scan", "web:0"]).await.contains("ID|HOST"));
    assert!(rig.place.refused(1, &["target", "scan", "127.0.0.1:1"]).await.contains("unreachable"));
    let records = rig.place.records().await;
    assert!(records.iter().any(|record| record["tool"] == "target.scan" && record["args"]["host"] == "127.0.0.1"));
    rig.service.stop().await;
    let nobody = rig.place.refused(1, &["target", "scan", &place]).await;
    assert!(nobody.contains("no gateway runs"), "{nobody}");
}

#[tokio::test]
async fn a_machine_behind_another_is_looked_at_from_there() {
    let rig = Rig::start().await;
    rig.enrolled("bastion").await;
    let fingerprint = rig.pin().1;
    let far_key = new_key();
    let far = Sshd::start(Settings::new(&far_key, new_key().public_key())).await;
    let far_pin = pin_of(far_key.public_key());
    let (far_fingerprint, far_port) = (far_pin.split(' ').next().unwrap(), far.address.port().to_string());
    let far_place = format!("127.0.0.1:{far_port}");
    let looked = rig.place.said(&["target", "scan", &far_place, "--jump", "bastion"]).await;
    assert!(looked.contains(far_fingerprint), "{looked}");
    let adding = |id, pin| rig.adding(id, &far_port, &["--jump", "bastion", "--host-key", pin]);
    let refused = rig.place.refused(1, &adding("far", &fingerprint)).await;
    assert!(refused.contains("somebody stands between") && refused.contains(far_fingerprint), "{refused}");
    let said = rig.place.said(&adding("far", far_fingerprint)).await;
    assert_eq!(said, format!("enrolled   {far_pin} (shown by the host)\nadded      far\n"));
    let looked = rig.place.said(&["target", "scan", "far", "--json"]).await;
    let looked: Value = serde_json::from_str(&looked).unwrap();
    assert_eq!((&looked["jump"], &looked["keys"][0]["state"]), (&json!("bastion"), &json!("enrolled")));
    let forwarded = rig.sshd.seen.forwarded.lock().unwrap().clone();
    assert!(!forwarded.is_empty() && forwarded.iter().all(|place| *place == far_place), "{forwarded:?}");
    assert!(far.seen.logins.lock().unwrap().is_empty(), "nobody logged in");

    // Never around the one that was named, and never by what cannot be one.
    let connections = far.seen.connections.load(std::sync::atomic::Ordering::SeqCst);
    for (arguments, status, wanted) in [
        (["scan", &far_place, "--jump", "nobody"], 1, "unknown_target"),
        (["scan", &far_place, "--jump", "here"], 1, "jump_unusable"),
        (["scan", "far", "--jump", "bastion"], 2, "--jump: far is a target"),
    ] {
        let refused = rig.place.refused(status, &[&["target"], &arguments[..]].concat()).await;
        assert!(refused.contains(wanted), "{wanted}: {refused}");
    }
    assert_eq!(far.seen.connections.load(std::sync::atomic::Ordering::SeqCst), connections);
    // On record with the way, and with the id that the bastion's log has for the login.
    let records = rig.place.records().await;
    let scans: Vec<&Value> = records.iter().filter(|record| record["tool"] == "target.scan").collect();
    let refused = scans.iter().filter(|record| record["args"]["host_keys"].is_null()).count();
    let behind = scans.iter().filter(|record| record["args"]["jump"] == "bastion");
    assert_eq!((refused, behind.count()), (2, 4), "{scans:?}");
    let of_place = scans.iter().find(|record| record["args"]["port"] == json!(far.address.port())).unwrap();
    assert!(of_place["args"]["correlation_id"].is_string(), "{of_place}");
    rig.service.stop().await;
}

#[tokio::test]
async fn a_test_of_all_targets_says_which_cannot_be_used() {
    let rig = Rig::start().await;
    rig.enrolled("web").await;
    let port = rig.port();
    let said = rig.place.said(&["target", "test", "--all"]).await;
    let rows: Vec<&str> = said.lines().collect();
    assert!(rows.len() == 3 && rows[1].starts_with("here    ok") && rows[2].starts_with("web     ok"), "{said}");
    rig.place.said(&rig.adding("old", &port, &["--host-key", STRANGER, "--offline"])).await;
    rig.place.said(&rig.adding("gone", "1", &["--host-key", STRANGER, "--offline"])).await;
    let codes = async || {
        let output = rig.place.tailops(&["target", "test", "--all", "--json"]).await;
        assert!(String::from_utf8_lossy(&output.stderr).contains("failed of 4") || output.status.success());
        let trials: Value = serde_json::from_slice(&output.stdout).unwrap();
        let all = trials.as_array().unwrap().iter();
        all.map(|one| (one["target"].as_str().unwrap().to_owned(), one["code"].as_str().map(str::to_owned)))
            .collect::<Vec<_>>()
    };
    let wanted: Vec<(String, Option<String>)> =
        [("gone", Some("unreachable")), ("old", Some("host_key_mismatch")), ("here", None), ("web", None)]
            .map(|(id, code)| (id.to_owned(), code.map(str::to_owned)))
            .into();
    eventually("the new targets are tested, the worst first", async || codes().await == wanted).await;
    let table = rig.place.tailops(&["target", "test", "old", "gone"]).await;
    assert_eq!(table.status.code(), Some(1));
    for (code, arguments) in [(2, &["target", "test"][..]), (2, &["target", "test", "nobody"])] {
        rig.place.refused(code, arguments).await;
    }
    let records = rig.place.records().await;
    let tested = |id: &str, ok: bool| {
        let of = |record: &&Value| record["tool"] == "target.test" && record["args"]["id"] == id;
        records.iter().filter(of).any(|record| record["args"]["ok"] == ok)
    };
    assert!(tested("web", true) && tested("old", false) && tested("gone", false) && tested("here", true));
    rig.service.stop().await;
}

/// One machine in a registry file, as files of a time before host keys have it.
fn file(host: &str, more: &str) -> String {
    format!(
        "version: \"1.0\"\ntargets:\n  web:\n    type: remote\n    executor: ssh\n    capabilities: [\"system:read\"]\n    \
         connection: {{host: {host}, username: ops{more}}}\n"
    )
}

#[tokio::test]
async fn an_import_takes_no_key_from_the_same_machine_and_all_from_another() {
    let place = Place::with(CONFIG);
    Served::start(&place).await.stop().await;
    let path = place.beside("targets.yaml", &file("192.0.2.7", &format!(", host_keys: [\"{STRANGER}\"]")));
    let import = ["target", "import", path.to_str().unwrap()];
    place.said(&import).await;
    fs::write(&path, file("192.0.2.7", ", port: 22")).unwrap();
    let said = place.said(&import).await;
    assert!(said.contains("web: the file names no host keys; those enrolled stay"), "{said}");
    assert!(place.said(&["target", "show", "web"]).await.contains(STRANGER));
    for moved in [file("192.0.2.8", ""), file("192.0.2.7", ", port: 2222")] {
        let kept = place.said(&["target", "export"]).await;
        fs::write(&path, moved).unwrap();
        let said = place.said(&import).await;
        assert!(said.contains("web: it is another machine now"), "{said}");
        assert!(!place.said(&["target", "show", "web"]).await.contains("SHA256"));
        fs::write(&path, kept).unwrap();
        place.said(&import).await;
    }
    let records = place.records().await;
    let noted = |key: &str| records.iter().any(|record| record["args"][key] == json!(["web"]));
    assert!(noted("host_keys_kept") && noted("host_keys_dropped"));
}

#[tokio::test]
async fn a_jump_host_has_to_be_there() {
    let place = Place::with(CONFIG);
    Served::start(&place).await.stop().await;
    let path = place.beside("targets.yaml", "");
    let import = ["target", "import", path.to_str().unwrap()];
    let bastion =
        "  bastion:\n    type: remote\n    executor: ssh\n    capabilities: []\n    connection: {host: 192.0.2.1";
    for (text, wanted) in [
        (file("192.0.2.7", ", jump: bastion"), "targets.yaml:7:"),
        (file("192.0.2.7", ", jump: web"), "the way leads through web twice"),
        (file("192.0.2.7", ", jump: here"), "a jump host one of kind ssh"),
        (file("192.0.2.7", ", jump: bastion") + bastion + ", jump: web}\n", "twice"),
    ] {
        fs::write(&path, text).unwrap();
        let refused = place.refused(3, &import).await;
        assert!(refused.contains(wanted), "{wanted}: {refused}");
    }
    fs::write(&path, file("192.0.2.7", ", jump: bastion") + bastion + "}\n").unwrap();
    assert!(place.said(&import).await.contains("2 added"));
    // And may stand in the database already.
    fs::write(&path, file("192.0.2.9", ", jump: bastion").replace("  web:", "  web-2:")).unwrap();
    assert!(place.said(&import).await.contains("1 added"));
}

#[test]
fn the_example_of_a_fleet_is_whole() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/fleet");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let names: Vec<_> = tools::ALL.iter().map(|tool| tool.spec().name).collect();
    let config = config::load(&folder.join("tailops.toml"), &read("tailops.toml"), &names).unwrap();
    let engagements = config.engagement_ids();
    let path = folder.join("targets.yaml");
    let targets = read_import(&path, &read("targets.yaml"), &"default".into(), &engagements, &[]).unwrap();
    let registry = Registry::new(targets);
    assert_eq!(registry.all().count(), 3);
    let enrolled = |target: &Target| {
        let connection = target.connection().unwrap();
        !target.is_cut_off() && (!connection.host_keys.is_empty() || connection.node.is_some())
    };
    assert!(registry.all().all(|target| enrolled(target)));
}

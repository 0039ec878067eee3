//! Login keys replaced on hosts whose SSH servers read a real authorized_keys: what stops a rotation, what is taken back,
//! what a kill leaves, and what the end looks like.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    sync::Arc,
};

use russh::keys::{HashAlg, PrivateKey};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{DAY, made, secret, text_of};
use crate::{
    served::{Place, Served, serve, stderr},
    sshd::{Settings, Sshd, new_key, pin_of},
};

/// A host that lets in whom its file names, and where scripts find the home directory in which the file is.
struct Host {
    sshd: Sshd,
    settings: Settings,
    home: TempDir,
    pin: String,
}

/// What a host's file holds for `login`.
fn authorized(login: &PrivateKey) -> String {
    let (line, other) = (public(login), public(&new_key()));
    format!("# keys\nfrom=\"127.0.0.1\",no-pty {line} ops@old\n{other} somebody else")
}

fn public(key: &PrivateKey) -> String {
    let mut key = key.public_key().clone();
    key.set_comment("");
    key.to_openssh().unwrap()
}

fn print(key: &PrivateKey) -> String {
    key.public_key().fingerprint(HashAlg::Sha256).to_string()
}

impl Host {
    async fn start(login: &PrivateKey) -> Self {
        Self::with(login, |_, _| {}).await
    }

    async fn with(login: &PrivateKey, change: impl FnOnce(&mut Settings, &Path)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().canonicalize().unwrap();
        fs::create_dir_all(path.join(".ssh")).unwrap();
        fs::create_dir_all(path.join("bin")).unwrap();
        let file = path.join(".ssh/authorized_keys");
        fs::write(&file, authorized(login)).unwrap();
        let getent = path.join("bin/getent");
        fs::write(&getent, format!("#!/bin/sh\necho \"ops:x:0:0:,,,:{}:/bin/sh\"\n", path.display())).unwrap();
        fs::set_permissions(&getent, fs::Permissions::from_mode(0o755)).unwrap();
        let (host_key, nobody) = (new_key(), new_key());
        let mut settings = Settings::new(&host_key, nobody.public_key());
        settings.authorized_keys = Some(file);
        settings.forwards = true;
        let bin = path.join("bin").display().to_string();
        settings.instead =
            Some(Arc::new(move |line: &str| line.replace(" PATH=/usr/sbin", &format!(" PATH={bin}:/usr/sbin"))));
        change(&mut settings, &path);
        let sshd = Sshd::start(settings.clone()).await;
        Self { sshd, settings, home, pin: pin_of(host_key.public_key()) }
    }

    fn file(&self) -> PathBuf {
        self.home.path().canonicalize().unwrap().join(".ssh/authorized_keys")
    }

    fn lines(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    /// The fingerprints of the keys that logged in, the last first.
    fn logins(&self) -> Vec<String> {
        self.sshd.seen.logins.lock().unwrap().iter().rev().map(|(_, key)| key.clone()).collect()
    }
}

/// A service with one login key and the targets that it opens.
struct Rig {
    place: Place,
    service: Served,
    key: PathBuf,
    login: PrivateKey,
}

/// One target in a registry file: id, port, pin, and what else stands in its connection.
fn target((id, port, pin, more): (&str, u16, &str, &str), key: &Path) -> String {
    format!(
        "  {id}:\n    type: remote\n    executor: ssh\n    engagement: default\n    capabilities: [\"system:read\"]\n    \
         connection: {{host: 127.0.0.1, port: {port}, username: ops, key_path: {}, host_keys: [\"{pin}\"]{more}}}\n",
        key.display()
    )
}

fn at<'a>(host: &'a Host, id: &'a str, more: &'a str) -> (&'a str, u16, &'a str, &'a str) {
    (id, host.sshd.address.port(), &host.pin, more)
}

impl Rig {
    async fn start(login: PrivateKey, targets: &[(&str, u16, &str, &str)]) -> Self {
        Self::dying_at(None, login, targets).await
    }

    /// One whose service is killed at `step`.
    async fn dying_at(step: Option<&str>, login: PrivateKey, targets: &[(&str, u16, &str, &str)]) -> Self {
        let place = Place::with("");
        let key = secret(&place, "login_key", &text_of(&login), DAY);
        let hook = secret(&place, "hook", &"s3cr3t-".repeat(8), DAY);
        let text: String = targets.iter().map(|one| target(*one, &key)).collect();
        let targets = place.beside("targets.yaml", &format!("version: \"1.0\"\ntargets:\n{text}"));
        place.write(&format!(
            "data_dir = \"DATA\"\ntargets_file = \"{}\"\nnode.listen = \"127.0.0.1:0\"\nlog.format = \"json\"\n\
             [engagements.default]\n[[approvals.webhooks]]\nname = \"duty\"\nurl = \"https://127.0.0.1:9/x\"\n\
             secret_file = \"{}\"\nidentity = \"maria@example.org\"\n",
            targets.display(),
            hook.display()
        ));
        let mut command = serve(&place.file);
        if let Some(step) = step {
            command.env("TAILOPS_FAILPOINT", step);
        }
        let service = Served::run(&mut command).await;
        Self { place, service, key, login }
    }

    /// A new service in the place of one that was killed.
    async fn again(&mut self) {
        self.service = Served::start(&self.place).await;
    }

    /// The exit code of `tailops credential rotate`, and the one rotation it tells of.
    async fn rotate(&self, more: &[&str]) -> (Option<i32>, Value) {
        let arguments = [&["credential", "rotate", self.key.to_str().unwrap(), "--json"], more].concat();
        let output = self.place.tailops(&arguments).await;
        let rotations: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)));
        (output.status.code(), rotations[0].clone())
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        PathBuf::from(format!("{}{suffix}", self.key.display()))
    }

    /// The key that the file holds now.
    fn now(&self) -> PrivateKey {
        PrivateKey::from_openssh(fs::read_to_string(&self.key).unwrap()).unwrap()
    }

    fn is_as_before(&self) {
        assert_eq!(print(&self.now()), print(&self.login));
        assert!(!self.beside(".new").exists() && !self.beside(".old").exists());
    }
}

/// How far a rotation is on a target, and the code of what is wrong there.
fn on<'a>(rotation: &'a Value, id: &str) -> (&'a str, Option<&'a str>) {
    let all = rotation["targets"].as_array().unwrap();
    let one = all.iter().find(|one| one["target"] == id).unwrap_or_else(|| panic!("{rotation}"));
    (one["reached"].as_str().unwrap(), one["problem"]["code"].as_str())
}

#[tokio::test]
async fn p104_a_rotation_installs_verifies_and_then_removes_the_old_key_everywhere() {
    let login = new_key();
    let (web, bastion, inner) = (Host::start(&login).await, Host::start(&login).await, Host::start(&login).await);
    let targets = [
        at(&web, "web", ""),
        at(&web, "web-2", ""),
        at(&bastion, "bastion", ""),
        at(&inner, "inner", ", jump: bastion"),
    ];
    let rig = Rig::start(login, &targets).await;
    let old = public(&rig.login);
    let before = web.lines();
    // A connection with the old key is kept now, and must not stand in for one with the new.
    rig.place.said(&["target", "test", "--all"]).await;

    let (code, looked) = rig.rotate(&["--dry-run"]).await;
    assert_eq!((code, &looked["stage"]), (Some(0), &json!("planned")), "{looked}");
    assert_eq!((on(&looked, "inner"), web.lines()), (("found", None), before.clone()));
    rig.is_as_before();
    let refused = rig.place.refused(2, &["credential", "rotate", rig.key.to_str().unwrap()]).await;
    assert!(refused.contains("--yes"), "{refused}");

    let (code, rotation) = rig.rotate(&["--yes"]).await;
    assert_eq!((code, &rotation["stage"]), (Some(0), &json!("done")), "{rotation}");
    for id in ["web", "web-2", "bastion", "inner"] {
        assert_eq!(on(&rotation, id), ("refused", None), "{rotation}");
    }
    let new = rig.now();
    assert_ne!(public(&new), old);
    assert_eq!((&rotation["old_key"], &rotation["new_key"]), (&json!(print(&rig.login)), &json!(print(&new))));
    assert!(!rig.beside(".new").exists() && !rig.beside(".old").exists());
    assert_eq!(fs::metadata(&rig.key).unwrap().permissions().mode() & 0o7777, 0o600);
    for host in [&web, &bastion, &inner] {
        let lines = host.lines();
        let wanted = format!("# keys\nfrom=\"127.0.0.1\",no-pty {} ops@old\n", public(&new));
        assert!(lines.starts_with(&wanted) && !lines.contains(&old), "{lines}");
        assert!(lines.ends_with("somebody else\n") && lines.lines().count() == 3, "{lines}");
        assert_eq!(fs::metadata(host.file()).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(host.file().parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
        assert_eq!(host.logins()[0], print(&new));
    }

    // The running service logs in with it by itself, and knows since when there is it.
    let tested: Value = serde_json::from_str(&rig.place.said(&["target", "test", "--all", "--json"]).await).unwrap();
    assert!(tested.as_array().unwrap().iter().all(|one| one["credential"] == print(&new)), "{tested}");
    made(&rig.key, 4000 * DAY);
    let rows: Value = serde_json::from_str(&rig.place.said(&["credential", "status", "--json"]).await).unwrap();
    let row = rows.as_array().unwrap().iter().find(|row| row["kind"] == "login_key").unwrap();
    assert_eq!((&row["known_by"], &row["state"]), (&json!("record"), &json!("ok")), "{row}");

    let records = rig.place.records().await;
    let of = |phase: &str| {
        let mut all = records.iter().filter(|one| one["tool"] == "credential.rotate");
        all.find(|one| one["args"]["phase"] == phase).unwrap_or_else(|| panic!("{phase}")).clone()
    };
    assert_eq!(of("looked")["args"]["targets"]["inner"], "found");
    assert_eq!(of("begun")["args"]["targets"]["inner"], "pending");
    let ended = of("ended");
    assert_eq!((&ended["args"]["stage"], &ended["args"]["targets"]["inner"]), (&json!("done"), &json!("refused")));
    assert_eq!((&ended["args"]["old_key"], &ended["status"]), (&json!(print(&rig.login)), &json!("ok")), "{ended}");
    assert!(!json!(records).to_string().contains("login_key.") && !json!(records).to_string().contains("PRIVATE"));
    rig.service.stop().await;
}

#[tokio::test]
async fn p103_all_that_is_due_is_replaced_by_one_command_for_a_timer() {
    let login = new_key();
    let web = Host::start(&login).await;
    let rig = Rig::start(login, &[at(&web, "web", "")]).await;
    let all = ["credential", "rotate", "--all-due", "--yes"];
    assert!(rig.place.said(&all).await.contains("no login key is due"));
    made(&rig.key, 91 * DAY);
    rig.place.refused(1, &["credential", "status"]).await;
    let said = rig.place.said(&all).await;
    assert!(said.contains("old key refused") && said.contains("opens nothing any more"), "{said}");
    rig.place.said(&["credential", "status"]).await;
    assert_ne!(public(&rig.now()), public(&rig.login));
    // What only a person can replace is said, and fails once it is overdue.
    made(&rig.place.file.with_file_name("hook"), 31 * DAY);
    let refused = rig.place.refused(1, &all).await;
    assert!(refused.contains("openssl rand") && refused.contains("1 overdue"), "{refused}");
    let hook = rig.place.file.with_file_name("hook");
    let refused = rig.place.refused(2, &["credential", "rotate", hook.to_str().unwrap(), "--yes"]).await;
    assert!(refused.contains("is not replaced by itself"), "{refused}");
    rig.service.stop().await;
}

#[tokio::test]
async fn p104_what_cannot_be_replaced_everywhere_is_replaced_nowhere() {
    let login = new_key();
    let (web, linked) = (Host::start(&login).await, Host::start(&login).await);
    let gone = ("gone", 1, web.pin.as_str(), "");
    let rig = Rig::start(login, &[at(&web, "web", ""), at(&linked, "linked", ""), gone]).await;
    let before = web.lines();

    let (code, rotation) = rig.rotate(&["--yes"]).await;
    assert_eq!((code, &rotation["stage"]), (Some(1), &json!("undone")), "{rotation}");
    assert_eq!(on(&rotation, "gone"), ("pending", Some("unreachable")), "{rotation}");
    assert_eq!(rotation["problem"]["code"], "unreachable");
    rig.is_as_before();

    // A link in the place of the file leads who knows where.
    let elsewhere = linked.home.path().join("elsewhere");
    fs::rename(linked.file(), &elsewhere).unwrap();
    symlink(&elsewhere, linked.file()).unwrap();
    let (code, rotation) = rig.rotate(&["--dry-run"]).await;
    assert_eq!((code, on(&rotation, "linked")), (Some(1), ("pending", Some("authorized_keys_unsafe"))), "{rotation}");
    let (_, rotation) = rig.rotate(&["--yes"]).await;
    assert_eq!((&rotation["stage"], on(&rotation, "web").0), (&json!("undone"), "found"), "{rotation}");
    assert_eq!(fs::read_to_string(&elsewhere).unwrap().lines().count(), 3);
    assert_eq!(web.lines(), before);
    rig.is_as_before();

    // What is in the way, and a key that is not private.
    fs::write(rig.beside(".new"), "mine").unwrap();
    let key = rig.key.to_str().unwrap();
    let refused = rig.place.refused(1, &["credential", "rotate", key, "--yes"]).await;
    assert!(refused.contains("file_in_the_way"), "{refused}");
    assert_eq!(fs::read_to_string(rig.beside(".new")).unwrap(), "mine");
    fs::remove_file(rig.beside(".new")).unwrap();
    fs::set_permissions(&rig.key, fs::Permissions::from_mode(0o644)).unwrap();
    for (more, code) in [("--yes", "credential_unusable"), ("--dry-run", "credential_unusable")] {
        let refused = rig.place.refused(1, &["credential", "rotate", key, more]).await;
        assert!(refused.contains(code) && refused.contains("0644"), "{refused}");
    }
    let refused = rig.place.refused(1, &["credential", "rotate", "/nowhere", "--yes"]).await;
    assert!(refused.contains("not_a_login_key"), "{refused}");
    let refused = rig.place.refused(1, &["credential", "rotate", key, "--yes", "--resume"]).await;
    assert!(refused.contains("rotation_unknown"), "{refused}");
    assert_eq!(web.lines(), before);
    rig.service.stop().await;
}

#[tokio::test]
async fn p104_a_file_that_is_not_the_login_users_text_is_not_touched() {
    let login = new_key();
    let web = Host::start(&login).await;
    let rig = Rig::start(login, &[at(&web, "web", "")]).await;
    let before = web.lines();
    let mut cases = vec![("is no text", format!("{before}\n\0"))];
    // Only root can give files away.
    if rustix::process::geteuid().is_root() {
        cases.push(("belongs to somebody else", before.clone()));
    }
    for (why, text) in cases {
        fs::write(web.file(), &text).unwrap();
        let foreign = why.contains("somebody").then_some(65534);
        chown(web.file(), foreign, None).unwrap();
        let (code, rotation) = rig.rotate(&["--yes"]).await;
        assert_eq!((code, on(&rotation, "web")), (Some(1), ("pending", Some("authorized_keys_unsafe"))), "{rotation}");
        assert!(rotation.to_string().contains(why), "{rotation}");
        assert_eq!(web.lines(), text);
        rig.is_as_before();
    }
    rig.service.stop().await;
}

#[tokio::test]
async fn p104_what_somebody_else_writes_meanwhile_is_not_lost() {
    let login = new_key();
    let web = Host::start(&login).await;
    let rig = Rig::start(login, &[at(&web, "web", "")]).await;
    let before = web.lines();
    // The script sets the mode of its own file as the last thing before it looks at the old one again.
    let chmod = web.file().parent().unwrap().with_file_name("bin/chmod");
    let text = format!("#!/bin/sh\necho '# theirs' >>'{}'\nexec /bin/chmod \"$@\"\n", web.file().display());
    fs::write(&chmod, text).unwrap();
    fs::set_permissions(&chmod, fs::Permissions::from_mode(0o755)).unwrap();
    let (code, rotation) = rig.rotate(&["--yes"]).await;
    assert_eq!((code, &rotation["stage"]), (Some(1), &json!("undone")), "{rotation}");
    assert_eq!(on(&rotation, "web").1, Some("busy"), "{rotation}");
    assert_eq!(web.lines(), format!("{before}# theirs\n"));
    assert_eq!(fs::read_dir(web.file().parent().unwrap()).unwrap().count(), 1, "nothing is left beside the file");
    rig.is_as_before();
    rig.service.stop().await;
}

#[tokio::test]
async fn p104_a_host_that_does_not_take_the_new_key_has_it_taken_back_everywhere() {
    let login = new_key();
    let web = Host::start(&login).await;
    // Reads another file than the one that is changed, as with AuthorizedKeysFile elsewhere.
    let stubborn = Host::with(&login, |settings, home| {
        let frozen = home.join("frozen");
        fs::copy(home.join(".ssh/authorized_keys"), &frozen).unwrap();
        settings.authorized_keys = Some(frozen);
    })
    .await;
    let rig = Rig::start(login, &[at(&web, "a-web", ""), at(&stubborn, "b-stubborn", "")]).await;
    let (before, theirs) = (web.lines(), stubborn.lines());
    let (code, rotation) = rig.rotate(&["--yes"]).await;
    assert_eq!((code, &rotation["stage"]), (Some(1), &json!("undone")), "{rotation}");
    assert_eq!(on(&rotation, "a-web"), ("taken_back", None), "{rotation}");
    assert_eq!(on(&rotation, "b-stubborn"), ("taken_back", Some("login_refused")), "{rotation}");
    assert_eq!((web.lines(), stubborn.lines()), (format!("{before}\n"), format!("{theirs}\n")));
    assert!(rig.sshd_saw_new(&web), "the login with the new key was tried where it could work");
    rig.is_as_before();
    let records = rig.place.records().await;
    let ended = records.iter().rfind(|one| one["tool"] == "credential.rotate").unwrap();
    assert_eq!((&ended["status"], &ended["args"]["stage"]), (&json!("failed"), &json!("undone")), "{ended}");
    rig.service.stop().await;
}

impl Rig {
    fn sshd_saw_new(&self, host: &Host) -> bool {
        host.logins().iter().any(|key| *key != print(&self.login))
    }
}

#[tokio::test]
async fn p104_a_kill_before_the_file_changes_hands_is_taken_up_to_the_end() {
    let login = new_key();
    let web = Host::start(&login).await;
    let mut rig = Rig::dying_at(Some("rotation.proven"), login, &[at(&web, "web", "")]).await;
    let key = rig.key.to_str().unwrap().to_owned();
    rig.place.refused(1, &["credential", "rotate", &key, "--yes"]).await;
    assert_eq!(print(&rig.now()), print(&rig.login), "the file is still the old key");
    let (lines, old) = (web.lines(), public(&rig.login));
    assert!(lines.contains(&old) && lines.lines().count() == 4, "{lines}");
    rig.again().await;
    let refused = rig.place.refused(1, &["credential", "rotate", &key, "--yes"]).await;
    assert!(refused.contains("rotation_open") && refused.contains("--resume"), "{refused}");
    let (code, rotation) = rig.rotate(&["--yes", "--resume"]).await;
    assert_eq!((code, &rotation["stage"]), (Some(0), &json!("done")), "{rotation}");
    assert!(!web.lines().contains(&old) && web.lines().contains(&public(&rig.now())), "{}", web.lines());
    assert!(!rig.beside(".new").exists() && !rig.beside(".old").exists());
    rig.service.stop().await;
}

#[tokio::test]
async fn p104_a_kill_after_it_and_a_host_that_is_down_leave_a_rotation_that_can_be_finished() {
    let login = new_key();
    let (web, down) = (Host::start(&login).await, Host::start(&login).await);
    let targets = [at(&web, "web", ""), at(&down, "down", "")];
    let mut rig = Rig::dying_at(Some("rotation.swapped"), login, &targets).await;
    let (key, old) = (rig.key.to_str().unwrap().to_owned(), public(&rig.login));
    rig.place.refused(1, &["credential", "rotate", &key, "--yes"]).await;
    assert_ne!(print(&rig.now()), print(&rig.login), "the file is the new key");
    assert!(rig.beside(".old").exists());
    let address: SocketAddr = down.sshd.address;
    let (file, settings, home) = (down.file(), down.settings.clone(), down.home);
    down.sshd.hang_up();
    drop(down.sshd);
    rig.again().await;
    let (code, rotation) = rig.rotate(&["--yes", "--resume"]).await;
    assert_eq!((code, &rotation["stage"]), (Some(1), &json!("removing")), "{rotation}");
    assert_eq!((on(&rotation, "web"), on(&rotation, "down")), (("refused", None), ("verified", Some("unreachable"))));
    assert!(rig.beside(".old").exists() && !web.lines().contains(&old));
    let _back = Sshd::start_on(address, settings).await;
    let (code, rotation) = rig.rotate(&["--yes", "--resume"]).await;
    assert_eq!((code, &rotation["stage"]), (Some(0), &json!("done")), "{rotation}");
    assert!(!fs::read_to_string(&file).unwrap().contains(&old) && !rig.beside(".old").exists());
    drop(home);
    rig.service.stop().await;
}

#[tokio::test]
async fn p104_a_host_that_still_takes_the_old_key_is_told_and_the_rotation_stays_open() {
    let login = new_key();
    let also = login.public_key().clone();
    let web = Host::with(&login, |settings, _| settings.authorized.push(also)).await;
    let rig = Rig::start(login, &[at(&web, "web", "")]).await;
    let (code, rotation) = rig.rotate(&["--yes"]).await;
    assert_eq!((code, &rotation["stage"]), (Some(1), &json!("removing")), "{rotation}");
    assert_eq!(on(&rotation, "web"), ("removed", Some("old_key_accepted")));
    assert!(!web.lines().contains(&public(&rig.login)) && rig.beside(".old").exists());
    rig.service.stop().await;
}

#[tokio::test]
async fn p104_only_a_line_that_is_the_key_counts_as_its_line() {
    let login = new_key();
    let web = Host::with(&login, |settings, _| settings.authorized.push(login.public_key().clone())).await;
    let rig = Rig::start(login, &[at(&web, "web", "")]).await;
    let line = public(&rig.login);
    let blob = line.split(' ').nth(1).unwrap();
    for (text, wanted) in [
        (line.clone(), None),
        (format!("{line}\n"), None),
        (format!("command=\"echo \\\"a b\\\"\",no-pty\t{line}\tme\n"), None),
        (String::new(), Some("old_key_not_found")),
        (format!("#{line}\n"), Some("old_key_not_found")),
        (format!("{line}AAAA\n"), Some("old_key_not_found")),
        (format!("x{line}\n"), Some("old_key_not_found")),
        (format!("ssh-rsa {blob}\n"), Some("old_key_not_found")),
        (format!("command=\"echo {line} \" ssh-ed25519 AAAA\n"), Some("old_key_not_found")),
        (format!("{line}\n\0"), Some("authorized_keys_unsafe")),
        (format!("{line}\n{}", "#\n".repeat(600_000)), Some("authorized_keys_unsafe")),
    ] {
        fs::write(web.file(), &text).unwrap();
        let (code, rotation) = rig.rotate(&["--dry-run"]).await;
        let shown: String = text.chars().take(60).collect();
        assert_eq!(on(&rotation, "web").1, wanted, "{shown:?}: {rotation}");
        assert_eq!(code, Some(i32::from(wanted.is_some())), "{shown:?}");
        assert_eq!(fs::read_to_string(web.file()).unwrap(), text);
    }
    rig.service.stop().await;
}

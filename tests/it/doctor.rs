//! `tailops doctor` as people run it: on a gateway that runs, one that was killed, one that never was, and as the
//! wrong user.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::{
        fs::{FileExt, FileTypeExt, PermissionsExt},
        process::CommandExt,
    },
    path::Path,
    process::{Command, Output},
};

use rustix::process::{Signal, kill_process};
use serde_json::Value;
use tailops::model::{Level, Report, Subject};

use crate::{
    child::{BINARY, Service, directory},
    daemon::{Daemon, Reply},
    served::{Place, Served},
};

/// What the service's own user is not.
const NOBODY: u32 = 65534;

async fn doctor(data: &Path, arguments: &[&str]) -> Output {
    run(Command::new(BINARY).arg("doctor").args(arguments).arg("--data-dir").arg(data)).await
}

/// Runs `command` beside the test's own runtime.
async fn run(command: &mut Command) -> Output {
    let mut command = std::mem::replace(command, Command::new(BINARY));
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// The report that `--json` prints, with the exit code it must have.
#[track_caller]
fn report(output: &Output, code: i32) -> Report {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}{}", String::from_utf8_lossy(&output.stdout));
    let keys = serde_json::from_slice::<Value>(&output.stdout).unwrap();
    let keys: BTreeSet<_> = keys.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["level", "lines", "running", "version"].map(str::to_owned).into());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn worst(report: &Report, subject: Subject) -> Level {
    let of = report.lines.iter().filter(|line| line.subject == subject);
    of.map(|line| line.level).max().unwrap_or_else(|| panic!("no line {}: {report:#?}", subject.as_str()))
}

#[tokio::test]
async fn a_gateway_that_runs_is_well_and_one_that_stopped_is_not() {
    let (_directory, data) = directory();
    let service = Service::start(&data).await;
    let socket = data.join("control.sock");
    let found = fs::metadata(&socket).unwrap();
    assert!(found.file_type().is_socket() && found.permissions().mode() & 0o777 == 0o600);
    let output = doctor(&data, &[]).await;
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.starts_with("ok    service ") && text.contains("\nok    database "), "{text}");
    assert!(!text.contains('\u{1b}'), "colours are for terminals");
    assert!(text.lines().all(|line| ["ok  ", "warn", "fail", "    "].contains(&&line[..4])), "{text}");
    let running = report(&doctor(&data, &["--json"]).await, 0);
    assert!(running.running && running.lines.iter().all(|line| (line.level == Level::Ok) == line.mend.is_none()));
    for subject in [Subject::Service, Subject::Disk, Subject::Audit, Subject::Clock, Subject::Node, Subject::Peers] {
        assert_eq!(worst(&running, subject), Level::Ok);
    }
    kill_process(service.pid(), Signal::TERM).unwrap();
    assert!(service.ended().await.success());
    assert!(!socket.exists(), "the socket goes with the service");
    let stopped = report(&doctor(&data, &["--json"]).await, 1);
    assert!(!stopped.running && worst(&stopped, Subject::Service) == Level::Fail);
    assert_eq!(worst(&stopped, Subject::Database), Level::Ok);
    let absent = report(&doctor(&data.join("nowhere"), &["--json"]).await, 1);
    assert_eq!(worst(&absent, Subject::Directory), Level::Fail);
    assert!(!data.join("nowhere").exists(), "looking makes nothing");
    assert_eq!(doctor(&data, &["--colour"]).await.status.code(), Some(2));
}

#[tokio::test]
async fn the_socket_of_a_killed_service_is_replaced_and_nothing_else_is() {
    let (_directory, data) = directory();
    Service::start(&data).await.kill().await;
    let socket = data.join("control.sock");
    assert!(socket.exists(), "a killed service leaves it");
    report(&doctor(&data, &["--json"]).await, 1);
    let service = Service::start(&data).await;
    report(&doctor(&data, &["--json"]).await, 0);
    // A second one on the same data does not get as far as the socket.
    let second =
        run(Command::new(BINARY).args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data)).await;
    assert_eq!(second.status.code(), Some(4));
    report(&doctor(&data, &["--json"]).await, 0);
    service.kill().await;
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "mine").unwrap();
    let refused =
        run(Command::new(BINARY).args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data)).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("control.sock"), "{said}");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "mine");
}

#[tokio::test]
async fn a_process_that_hangs_is_told_from_one_that_is_gone() {
    let (_directory, data) = directory();
    let service = Service::start(&data).await;
    fs::remove_file(data.join("control.sock")).unwrap();
    let hung = report(&doctor(&data, &["--json"]).await, 1);
    let line = hung.lines.iter().find(|line| line.subject == Subject::Service).unwrap();
    assert!(line.finding.contains(&format!("process {} holds", service.pid().as_raw_nonzero())), "{line:?}");
    service.kill().await;
}

#[tokio::test]
async fn a_long_path_does_not_keep_the_socket_away() {
    let (_directory, data) = directory();
    let data = data.join("d".repeat(90)).join("e".repeat(90));
    let service = Service::start(&data).await;
    report(&doctor(&data, &["--json"]).await, 0);
    service.kill().await;
}

/// Needs root to become someone else; without it there is nobody to refuse.
#[tokio::test]
async fn another_user_is_refused_and_root_is_not() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: becoming another user needs root");
        return;
    }
    let (directory, data) = directory();
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    open(directory.path(), 0o755);
    let binary = directory.path().join("tailops");
    fs::hard_link(BINARY, &binary).or_else(|_| fs::copy(BINARY, &binary).map(drop)).unwrap();
    let as_nobody = |data: &Path| {
        let mut command = Command::new(&binary);
        command.args(["doctor", "--json", "--data-dir"]).arg(data).uid(NOBODY).gid(NOBODY);
        command
    };
    let service = Service::start(&data).await;
    let closed = report(&run(&mut as_nobody(&data)).await, 1);
    assert_eq!(worst(&closed, Subject::Service), Level::Fail);
    // Even where the modes let it through, the kernel tells who connects.
    open(&data, 0o755);
    open(&data.join("control.sock"), 0o666);
    let output = run(&mut as_nobody(&data)).await;
    let turned_away = report(&output, 1);
    let line = turned_away.lines.iter().find(|line| line.subject == Subject::Service).unwrap();
    assert!(line.finding.contains("403") && line.finding.contains("own user and root"), "{line:?}");
    let own = report(&doctor(&data, &["--json"]).await, 1);
    let line = own.lines.iter().find(|line| line.subject == Subject::Directory).unwrap();
    assert_eq!(line.mend.as_deref(), Some(format!("chmod 0700 {}", data.display()).as_str()));
    assert!(own.running && worst(&own, Subject::Service) == Level::Ok, "its own user is served");
    service.kill().await;

    let theirs = directory.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    std::os::unix::fs::chown(&theirs, Some(NOBODY), Some(NOBODY)).unwrap();
    open(&theirs, 0o700);
    let mut command = tokio::process::Command::new(&binary);
    command.uid(NOBODY).gid(NOBODY);
    let service = Service::run(command, &theirs).await;
    let by_root = report(&doctor(&theirs, &["--json"]).await, 0);
    assert!(by_root.running);
    service.kill().await;
}

#[tokio::test]
async fn a_broken_database_and_open_modes_are_named_with_their_mend() {
    let (_directory, data) = directory();
    let service = Service::start(&data).await;
    kill_process(service.pid(), Signal::TERM).unwrap();
    assert!(service.ended().await.success());
    let key = fs::read_dir(data.join("keys")).unwrap().next().unwrap().unwrap().path();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let database = fs::OpenOptions::new().write(true).open(data.join("tailops.db")).unwrap();
    let pages = database.metadata().unwrap().len() / 4096;
    for page in 2..pages {
        database.write_all_at(&[0xff; 512], page * 4096).unwrap();
    }
    let report = report(&doctor(&data, &["--json"]).await, 1);
    assert_eq!(worst(&report, Subject::Database), Level::Fail, "{report:#?}");
    let directory = report.lines.iter().find(|line| line.subject == Subject::Directory).unwrap();
    assert_eq!(directory.mend.as_deref(), Some(format!("chmod 0600 {}", key.display()).as_str()));
}

const CONFIG: &str =
    "data_dir = \"DATA\"\nnode.listen = \"127.0.0.1:0\"\nlog.format = \"json\"\n[engagements.default]\n";

#[tokio::test]
async fn a_configuration_is_checked_beside_the_service_that_runs() {
    let place = Place::with(CONFIG);
    let check = async |code| {
        let mut command = Command::new(BINARY);
        report(&run(command.args(["doctor", "--json", "--config"]).arg(&place.file)).await, code)
    };
    let before = check(1).await;
    assert_eq!(worst(&before, Subject::Configuration), Level::Ok, "{before:#?}");
    assert_eq!(worst(&before, Subject::Service), Level::Fail);
    let service = Served::start(&place).await;
    let during = check(0).await;
    assert!(during.running && worst(&during, Subject::Targets) == Level::Warn, "it has no targets: {during:#?}");
    place.write(&CONFIG.replace("[engagements.default]", "[engagement.default]\nport = 1"));
    let broken = check(1).await;
    assert!(broken.running, "the data is found all the same: {broken:#?}");
    let problem = broken.lines.iter().find(|line| line.subject == Subject::Configuration).unwrap();
    assert!(problem.level == Level::Fail && problem.finding.contains("engagement"), "{problem:?}");
    place.write(CONFIG);
    fs::write(place.file.with_file_name("tailops.toml.sha256"), format!("{}  tailops.toml\n", "0".repeat(64))).unwrap();
    let altered = check(1).await;
    assert_eq!(worst(&altered, Subject::Configuration), Level::Fail, "{altered:#?}");
    fs::remove_file(&place.file).unwrap();
    let gone = check(1).await;
    assert_eq!(worst(&gone, Subject::Configuration), Level::Fail, "{gone:#?}");
    service.stop().await;
}

#[tokio::test]
async fn it_says_who_could_approve_with_the_service_and_without() {
    let place = Place::with(CONFIG);
    let approvals = |approvals: &str| {
        place.write(&CONFIG.replace("[engagements", &format!("[approvals]\n{approvals}\n[engagements")))
    };
    let line = async |code| {
        let mut command = Command::new(BINARY);
        let report = report(&run(command.args(["doctor", "--json", "--config"]).arg(&place.file)).await, code);
        report.lines.into_iter().find(|line| line.subject == Subject::Approvals).unwrap()
    };
    let nobody = line(1).await;
    assert!(nobody.level == Level::Warn && nobody.finding.contains("nobody"), "{nobody:?}");
    approvals("approvers = [\"jan\"]");
    let one = line(1).await;
    assert!(one.level == Level::Warn && one.finding.contains("only jan could approve"), "{one:?}");
    approvals("approvers = [\"jan\", \"maria\"]");
    let service = Served::start(&place).await;
    let two = line(0).await;
    assert!(two.level == Level::Ok && two.finding.starts_with("2 people could approve: jan"), "{two:?}");
    approvals("approvers = [\"jan\", \"maria\"]\nstrength = \"signature\"");
    assert_eq!(line(0).await.level, Level::Ok, "it is about what is in force");
    place.said(&["reload"]).await;
    let unsigned = line(1).await;
    assert!(unsigned.level == Level::Fail && unsigned.mend.unwrap().contains("tailops approver add"));
    service.stop().await;
    assert_eq!(line(1).await.level, Level::Fail, "the keys are looked up in the database");
}

/// An answer that a real daemon gave.
fn answer(name: &str) -> Reply {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/cases/localapi/{name}.json"));
    Reply::Json(serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())
}

#[tokio::test]
async fn in_host_mode_the_daemon_is_asked_without_the_gateway_too() {
    let mut daemon = Daemon::start(|head| match head {
        head if head.contains("/status") => answer("status-1.98"),
        head if head.contains("/whois") => answer("whois-1.102"),
        _ => Reply::Status(404, "no such thing".to_owned()),
    });
    let socket = daemon.socket().to_str().unwrap().to_owned();
    let config =
        format!("data_dir = \"DATA\"\nnode.mode = \"host\"\nnode.socket = {socket:?}\n[engagements.default]\n");
    let place = Place::with(&config);
    let check = async || {
        let mut command = Command::new(BINARY);
        report(&run(command.args(["doctor", "--json", "--config"]).arg(&place.file)).await, 1)
    };
    let up = check().await;
    assert_eq!(worst(&up, Subject::Node), Level::Ok, "{up:#?}");
    assert!(up.lines.iter().any(|line| line.subject == Subject::Peer), "{up:#?}");
    assert!(daemon.heads().iter().any(|head| head.contains("proto=tcp")), "each peer was asked for");
    daemon.answers(|_| answer("status-needs-login"));
    let out = check().await;
    let line = out.lines.iter().find(|line| line.subject == Subject::Node).unwrap();
    assert!(line.level == Level::Fail && line.mend.as_ref().unwrap().contains("tailscale up"), "{line:?}");
    assert!(!out.lines.iter().any(|line| line.subject == Subject::Peer));
    daemon.kill().await;
    let down = check().await;
    let line = down.lines.iter().find(|line| line.subject == Subject::Node).unwrap();
    assert!(line.level == Level::Fail && line.mend.as_ref().unwrap().contains("tailscaled"), "{line:?}");
}

#[test]
fn every_subject_is_explained_and_no_other() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/doctor.md")).unwrap();
    let rows = page.lines().filter_map(|row| row.strip_prefix("| `")?.split_once('`').map(|(subject, _)| subject));
    let explained: Vec<&str> = rows.collect();
    let wanted: Vec<&str> = Subject::ALL.iter().map(|subject| subject.as_str()).collect();
    let mut once = explained.clone();
    once.dedup();
    assert_eq!(once, wanted);
}

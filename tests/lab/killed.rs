//! A lab whose test is killed takes itself down.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    control::{Control, Owner},
    lab::is_skipped,
    node::{Mode, Node},
    parts::Parts,
    policy,
    run::{NAMESPACES, Run, directory, prefix},
    wait::until,
};

/// Makes this test be the one that is killed.
const HOLD: &str = "TAILOPS_LAB_HOLD";
const UP: &str = "the small lab is up";

#[test]
fn a_run_that_is_killed_leaves_nothing() {
    if is_skipped() {
        return;
    }
    if std::env::var_os(HOLD).is_some() {
        return hold();
    }
    // A test that is killed must not take the shared lab with it.
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", "killed::a_run_that_is_killed_leaves_nothing", "--nocapture"]).env(HOLD, "1");
    let mut test = test.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(test.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.into_iter().any(|line| line == UP), "it ended too early");

    let pid = test.id();
    let inhabitants = inhabitants(pid);
    assert!(namespaces(pid).len() == 3 && inhabitants.len() == 2, "{:?} {inhabitants:?}", namespaces(pid));
    assert!(directory(pid).join("control/db.sqlite").exists());
    test.kill().unwrap();
    test.wait().unwrap();
    until("its namespaces are gone", || namespaces(pid).is_empty());
    until("its processes are gone", || !inhabitants.iter().any(|process| process.exists()));
    until("its directory is gone", || !directory(pid).exists());
}

/// Is a small lab until killed, or until the test that wants it is gone.
fn hold() {
    let (parts, run) = (Parts::build(), Run::begin());
    let control = Control::start(&parts, run.machine("control"), &policy::baseline_without_users());
    let _node = Node::join(&parts, &control, run.machine("node"), Owner::Tag("tag:web"), Mode::Tun);
    println!("{UP}");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

fn namespaces(pid: u32) -> Vec<String> {
    let names = fs::read_dir(NAMESPACES).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(&prefix(pid))).collect()
}

/// The processes in a run's namespaces.
fn inhabitants(pid: u32) -> Vec<PathBuf> {
    let pids = namespaces(pid).into_iter().flat_map(|name| {
        let output = Command::new("ip").args(["netns", "pids", &name]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    });
    pids.map(|pid| Path::new("/proc").join(pid)).collect()
}

//! Manual pages and completions: made for every command, and readable by the programs that read them.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::child::BINARY;

fn tailops(arguments: &[&str]) -> String {
    let output = Command::new(BINARY).args(arguments).env_clear().output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The names of the pages of `command` and of what is below it.
fn pages(command: &clap::Command, name: &str, names: &mut BTreeSet<String>) {
    names.insert(format!("{name}.1"));
    // One that nobody types has none.
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        pages(below, &format!("{name}-{}", below.get_name()), names);
    }
}

/// Whether this program is installed.
fn installed(program: &str) -> bool {
    let status = Command::new("sh").args(["-c", "command -v \"$0\" >/dev/null", program]).status();
    status.unwrap().success()
}

/// Runs `program` on `text`; it must be content and silent.
#[track_caller]
fn content(program: &str, arguments: &[&str], text: &str) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let text = text.to_owned();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{program} {arguments:?}: {said}");
    writer.join().unwrap().unwrap();
    output
}

#[test]
fn every_command_has_a_page_that_renders() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("share/man/man1");
    assert_eq!(tailops(&["man", "--out", folder.to_str().unwrap()]), "");
    let written = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let written: BTreeSet<String> = written.collect();
    let mut wanted = BTreeSet::new();
    pages(&tailops::cli::command(), "tailops", &mut wanted);
    assert!(wanted.contains("tailops-token-mint.1") && wanted.contains("tailops-man.1"));
    assert_eq!(written, wanted);
    for name in &written {
        let page = fs::read_to_string(folder.join(name)).unwrap();
        let title = format!(".TH {} 1 ", name.strip_suffix(".1").unwrap());
        assert!(page.lines().any(|line| line.starts_with(&title)), "{name} has no {title:?}: {page}");
        for section in [".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH OPTIONS"] {
            assert!(page.lines().any(|line| line == section), "{name} has no {section}");
        }
        // Where there is no formatter, the headings are all that is checked.
        if installed("groff") {
            let shown = content("groff", &["-man", "-Tutf8", "-ww"], &page);
            assert!(shown.stdout.len() > 200, "{name} shows nothing");
        }
    }
    let mint = fs::read_to_string(folder.join("tailops-token-mint.1")).unwrap();
    for wanted in ["agent", "scopes", "ttl", "tenant it belongs to"] {
        assert!(mint.contains(wanted), "{wanted} in {mint}");
    }
    let first = fs::read_to_string(folder.join("tailops.1")).unwrap();
    assert_eq!(tailops(&["man"]), first);
    assert!(first.contains("Exit codes"));
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let below = file.path().join("man1");
    let output = Command::new(BINARY).arg("man").arg("--out").arg(&below).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains(below.to_str().unwrap()));
}

#[test]
fn bash_reads_its_completions_and_completes_with_them() {
    let script = tailops(&["completions", "bash"]);
    content("bash", &["-n"], &script);
    let completes = |words: &str, wanted: &[&str]| {
        let count = words.split(' ').count();
        let asked = format!(
            "{script}\nCOMP_WORDS=({words} ''); COMP_CWORD={count}; _tailops tailops '' ''; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let output = content("bash", &["--norc"], &asked);
        let found = String::from_utf8(output.stdout).unwrap();
        for wanted in wanted {
            assert!(found.lines().any(|line| line == *wanted), "{wanted} behind {words:?} in {found}");
        }
    };
    completes("tailops", &["serve", "token", "audit", "man"]);
    completes("tailops token", &["mint", "revoke", "rotate-key"]);
    completes("tailops token mint", &["--agent", "--scopes", "--data-dir"]);
}

#[test]
fn zsh_and_fish_get_theirs() {
    let (zsh, fish) = (tailops(&["completions", "zsh"]), tailops(&["completions", "fish"]));
    assert!(zsh.starts_with("#compdef tailops\n") && zsh.contains("rotate-key"));
    assert!(fish.contains("complete -c tailops") && fish.contains("rotate-key"));
    for (shell, script) in [("zsh", &zsh), ("fish", &fish)] {
        if installed(shell) {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("completions");
            fs::write(&file, script).unwrap();
            content(shell, &["-n", file.to_str().unwrap()], "");
        }
    }
    let other = Command::new(BINARY).args(["completions", "tcsh"]).output().unwrap();
    assert_eq!(other.status.code(), Some(2));
    assert!(!Path::new("tailops.1").exists(), "nothing is left behind");
}

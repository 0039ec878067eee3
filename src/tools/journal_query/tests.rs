//! `journal_query` on hostile arguments, on what a real journal printed and on this machine.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::tools::rig;

const JOURNAL: &str = include_str!("../../../tests/cases/systemd/journal.jsonl");

fn shown(arguments: Value, entries: &str, stderr: &str) -> Result<Content, ToolError> {
    let operation = rig::plan(&JournalQuery, arguments).unwrap();
    let sections: &[(&str, &[u8])] = &[("entries", entries.as_bytes()), ("status", b"0\n")];
    let content = JournalQuery.render(&rig::pretend(operation, sections, stderr))?;
    rig::conforms(&JournalQuery, &content.data);
    Ok(content)
}

fn given(arguments: Value) -> Vec<String> {
    let operation = rig::plan(&JournalQuery, arguments).unwrap();
    let Some(Step::Script(script)) = operation.steps.into_iter().next() else { panic!("no script") };
    script.args
}

#[test]
fn wrong_arguments_are_named() {
    for (arguments, field) in [
        (json!({"mode": "tail"}), "mode"),
        (json!({"unit": "--file=/etc/shadow"}), "unit"),
        (json!({"unit": "a/../b"}), "unit"),
        (json!({"priority": 8}), "priority"),
        (json!({"priority": "loud"}), "priority"),
        (json!({"since": "yesterday"}), "since"),
        (json!({"since": "@0; id"}), "since"),
        (json!({"since": "5"}), "since"),
        (json!({"since": "-"}), "since"),
        (json!({"since": "99999999999999999999d"}), "since"),
        (json!({"since": "9999999w"}), "since"),
        (json!({"until": "1é"}), "until"),
        (json!({"since": "1h", "until": "2h"}), "since"),
        (json!({"grep": "-v"}), "grep"),
        (json!({"grep": ""}), "grep"),
        (json!({"grep": "a\nb"}), "grep"),
        (json!({"grep": "x".repeat(201)}), "grep"),
        (json!({"boot": "1"}), "boot"),
        (json!({"boot": "-1 --file=x"}), "boot"),
        (json!({"boot": ""}), "boot"),
        (json!({"limit": 0}), "limit"),
        (json!({"limit": 1001}), "limit"),
        (json!({"cursor": "s=1 --file=x"}), "cursor"),
        (json!({"cursor": "s=1", "mode": "summary"}), "cursor"),
        (json!({"directory": "/"}), "directory"),
    ] {
        let error = rig::plan(&JournalQuery, arguments).unwrap_err();
        assert!(error.code == "invalid_arguments" && error.message.contains(field), "{field}: {error}");
    }
    rig::fits_budget(&JournalQuery);
}

#[test]
fn times_become_absolute_when_planned() {
    let args = given(json!({"since": "-1h", "until": "2026-11-21T12:30:00+01:00"}));
    assert_eq!(args, ["--lines=101", "--since=@1795258800", "--until=@1795260600"]);
    let operation = rig::plan(&JournalQuery, json!({"since": "1d12h"})).unwrap();
    assert_eq!(operation.arguments["since"], "2026-11-20T00:00:00Z");
}

#[test]
fn a_search_text_is_never_a_pattern() {
    let args = given(json!({"grep": "a.*\\E(b)", "priority": "err", "kernel": true, "boot": "-1", "unit": "ssh"}));
    assert!(args.contains(&r"--grep=a\.\*\\E\(b\)".to_owned()), "{args:?}");
    for wanted in ["--priority=3", "--boot=-1", "--unit=ssh.service", "_TRANSPORT=kernel"] {
        assert!(args.contains(&wanted.to_owned()), "{args:?}");
    }
}

#[test]
fn this_machine_answers_honestly() {
    let content = rig::call(&JournalQuery, json!({})).unwrap();
    assert!(!content.partial.is_empty() || !content.data["entries"].as_array().unwrap().is_empty());
}

#[test]
fn what_cannot_be_read_is_said() {
    for reason in ["no_journal", "permission_denied", "missing_tool"] {
        let operation = rig::plan(&JournalQuery, json!({})).unwrap();
        let sections: &[(&str, &[u8])] = &[("!entries", reason.as_bytes())];
        let content = JournalQuery.render(&rig::pretend(operation, sections, "")).unwrap();
        assert_eq!(content.partial, [Missing { section: "entries".into(), reason: reason.into() }]);
    }
    let stderr = "Data from the specified boot (-5) is not available: No such boot ID in journal\n";
    assert_eq!(shown(json!({"boot": "-5"}), "", stderr).unwrap_err().code, "not_found");
}

#[test]
fn a_failure_without_a_word_is_no_empty_success() {
    let operation = rig::plan(&JournalQuery, json!({})).unwrap();
    let content = JournalQuery.render(&rig::pretend(operation, &[("entries", b""), ("status", b"1\n")], "")).unwrap();
    assert_eq!(content.partial[0].reason, "journalctl_failed");
}

#[test]
fn a_page_ends_with_the_cursor_of_its_last_entry_and_the_next_leaves_that_one_out() {
    let all = entries::read(JOURNAL).entries;
    assert!(all.len() > 20);
    let first = shown(json!({"limit": 10}), &JOURNAL.lines().take(11).collect::<Vec<_>>().join("\n"), "").unwrap();
    assert_eq!(first.next_cursor.as_deref(), Some(&*all[9].cursor));
    assert!(first.truncated);
    let rest = JOURNAL.lines().skip(9).take(12).collect::<Vec<_>>().join("\n");
    let second = shown(json!({"limit": 10, "cursor": all[9].cursor}), &rest, "").unwrap();
    assert_eq!(second.data["entries"][0]["time"], all[10].time);
    assert_eq!(second.next_cursor.as_deref(), Some(&*all[19].cursor));
}

#[test]
fn an_answer_cut_in_its_middle_ends_at_the_cut_and_can_be_continued() {
    let lines: Vec<&str> = JOURNAL.lines().collect();
    let cut = format!("{}\n{}\n[… 900 bytes dropped …]\n{}\n", lines[0], &lines[1][..30], lines[9]);
    let content = shown(json!({}), &cut, "").unwrap();
    assert!(content.truncated);
    assert_eq!(content.data["entries"].as_array().unwrap().len(), 1);
    assert_eq!(content.next_cursor, Some(entries::read(JOURNAL).entries[0].cursor.clone()));
}

#[test]
fn a_summary_counts_every_entry_once() {
    let content = shown(json!({"mode": "summary"}), JOURNAL, "").unwrap();
    let groups = content.data["groups"].as_array().unwrap();
    let total: u64 = groups.iter().map(|group| group["count"].as_u64().unwrap()).sum();
    assert_eq!(total, content.data["scanned"].as_u64().unwrap());
    let short = shown(json!({"mode": "summary", "limit": 1}), JOURNAL, "").unwrap();
    assert!(short.truncated && short.data["groups"].as_array().unwrap().len() == 1);
}

proptest! {
    #[test]
    fn no_output_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), summary: bool) {
        let mode = if summary { "summary" } else { "entries" };
        let operation = rig::plan(&JournalQuery, json!({"mode": mode})).unwrap();
        let sections: &[(&str, &[u8])] = &[("entries", &bytes), ("status", &bytes)];
        let _ = JournalQuery.render(&rig::pretend(operation, sections, ""));
    }

    #[test]
    fn no_argument_becomes_an_option_of_its_own(text in "\\PC{0,60}") {
        for field in ["unit", "since", "until", "grep", "boot", "cursor"] {
            if let Ok(operation) = rig::plan(&JournalQuery, json!({field: text})) {
                let Some(Step::Script(script)) = operation.steps.first() else { panic!("no script") };
                let own = format!("--{field}=");
                let known = |arg: &String| arg.starts_with(&own) || arg == "--case-sensitive=false";
                prop_assert!(script.args.iter().skip(1).all(known));
            }
        }
    }
}

//! Hostile arguments and content reach the process byte for byte, whatever a shell would make of them.

use bytes::Bytes;

use super::*;
use crate::model::Section;

pub(in crate::exec) const BODY: &str = r#"printf '%s\0' "$@""#;

/// Runs `script` with room for all of its output.
pub(in crate::exec) async fn run(bench: &impl Bench, script: &Script) -> ScriptOutput {
    run_with(bench, Exec { max_stdout_bytes: 16 << 20, ..Exec::default() }, script, LONG).await
}

/// The arguments as a process got them.
pub(in crate::exec) async fn received(bench: &impl Bench, template: &'static Template, args: &[String]) -> Vec<String> {
    let output = run(bench, &Script::new(template, args)).await;
    assert_eq!(output.outcome, StepOutcome::Exited(0), "{}", output.stderr.text());
    let text = String::from_utf8(output.stdout.head).unwrap();
    text.strip_suffix('\0').unwrap().split('\0').map(str::to_owned).collect()
}

/// Every ASCII byte that an argument can carry, and what has broken programs that quote.
fn hostile() -> Vec<String> {
    let mut strings: Vec<String> = (1..=127u8).map(|byte| char::from(byte).to_string()).collect();
    strings.extend((1..=127u8).map(|byte| format!("a{}b", char::from(byte).to_string().repeat(2))));
    let written = include_str!("../../../tests/cases/hostile-arguments.txt");
    strings.extend(written.lines().filter(|line| !line.starts_with("##")).map(str::to_owned));
    strings.extend([
        String::new(),
        "x".repeat(100 << 10),
        "'".repeat(20_000),
        "\u{1}".repeat(1000),
        "line\r\nline\r\n".into(),
        "\n\n\n".into(),
        "$(id)\n`id`\n".into(),
        "trailing newline\n".into(),
        "trailing backslash\\\n".into(),
        "\u{feff}\u{202e}right to left\u{2066}\u{200b}".into(),
        "é".repeat(10_000),
    ]);
    strings
}

pub(in crate::exec) async fn arguments_arrive_byte_identical(bench: &impl Bench) {
    let strings = hostile();
    assert!(strings.len() >= 200, "{}", strings.len());
    for stdin in [false, true] {
        let template = template(BODY, stdin);
        let mut batch: Vec<String> = Vec::new();
        for (i, string) in strings.iter().enumerate() {
            batch.push(string.clone());
            // One command line is one argument to the shell, and quoting makes it longer.
            let room = batch.iter().map(String::len).sum::<usize>() < 10_000;
            if batch.len() < 16 && room && i + 1 < strings.len() {
                continue;
            }
            // A long one goes alone.
            let last = (!room).then(|| batch.pop()).flatten();
            for args in [batch, last.into_iter().collect()] {
                if !args.is_empty() {
                    assert_eq!(received(bench, template, &args).await, args);
                }
            }
            batch = Vec::new();
        }
    }
}

pub(in crate::exec) async fn content_on_standard_input_arrives_byte_identical(bench: &impl Bench) {
    let every: Vec<u8> = (0..=255).collect();
    let template = template("printf '%s|' \"$@\"; cat", true);
    for content in [Vec::new(), every.clone(), every.repeat(8 << 10), b"\n'\"$(id)`id`\\".to_vec()] {
        let script = Script { stdin: Some(Bytes::from(content.clone())), ..Script::new(template, ["a'b", "-n"]) };
        let output = run(bench, &script).await;
        assert_eq!(output.outcome, StepOutcome::Exited(0));
        assert_eq!(output.stdout.head, [b"a'b|-n|", content.as_slice()].concat());
    }
}

pub(in crate::exec) async fn content_that_nobody_reads_is_no_error(bench: &impl Bench) {
    let script = Script { stdin: Some(vec![b'x'; 1 << 20].into()), ..Script::new(template("echo ok", true), ["a"]) };
    let output = run(bench, &script).await;
    assert_eq!((output.outcome.clone(), output.stdout.text()), (StepOutcome::Exited(0), "ok\n".into()));
}

pub(in crate::exec) async fn a_line_that_looks_like_a_marker_is_content(bench: &impl Bench) {
    let body = r#"section one; printf '%s\n' "$1"; missing two no_tool; section three; printf '%s' "$1""#;
    let fake = "00000000000000000000000000000000 evil\n m evil\n$m evil\n!evil reason";
    let sections = run(bench, &Script::new(template(body, false), [fake])).await.sections();
    let expected = [
        Section { name: "one".into(), content: Ok(format!("{fake}\n").into()) },
        Section { name: "two".into(), content: Err("no_tool".into()) },
        Section { name: "three".into(), content: Ok(fake.into()) },
    ];
    assert_eq!(sections, expected);
}

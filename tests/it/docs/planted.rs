//! The test of the test: each fault that is planted in a small book is found, at its line, and nothing else.

use std::fs;

use super::{book::Book, codes, shell};

/// A book without a fault, of one page and its index.
const CLEAN: &str = "\
# Title of `one` page

A [link](#title-of-one-page), [another](README.md) and one to a [file](../src/a.rs). Read `src/a.rs`, `a.rs` and
`tailops token mint`.

```sh
# A comment about tailops nonsense
export T=$(tailops token mint --agent a --scopes readonly --ttl 1h) # with one
cargo run --quiet -- audit export --data-dir DIR \\
  --all 2>/dev/null | jq 'select(.tool == \"x\")' > \"out file\"
```

```console
$ tailops token list --json
tailops nonsense, as it was printed
```

```toml
profile = \"recommended\"
```

```toml fragment
anything = true
```

```json
{\"name\": \"fleet_list\", \"arguments\": {}}
{\"free\": 1}
```
";

/// The faults of the clean book with `page` behind its first page.
fn faults(page: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("docs/page.md", page);
    write("docs/README.md", "# Index\n\n- [page](page.md)\n");
    write("src/a.rs", "");
    Book::load(folder.path()).faults()
}

#[test]
fn a_clean_book_has_no_faults() {
    assert_eq!(faults(CLEAN), Vec::<String>::new());
}

/// Plants `text` behind the clean page; exactly one fault says `wanted`, `below` lines under the first of `text`.
#[track_caller]
fn planted(text: &str, below: usize, wanted: &str) {
    let found = faults(&format!("{CLEAN}\n{text}\n"));
    let line = CLEAN.lines().count() + 2 + below;
    assert_eq!(found.len(), 1, "wanted {wanted:?}, found {found:?}");
    let right = found[0].starts_with(&format!("docs/page.md:{line}: ")) && found[0].contains(wanted);
    assert!(right, "wanted {wanted:?} in line {line}, found {found:?}");
}

#[test]
fn a_configuration_that_does_not_load_is_found() {
    planted("```toml\n[http]\nmax_bdy = 3\n```", 2, "did you mean max_body?");
    planted("```toml fragment\na =\n```", 1, "no TOML");
    planted("```toml piece\n```", 0, "says more than is known");
}

#[test]
fn json_that_does_not_parse_is_found_and_calls_that_no_tool_takes() {
    planted("```json\n{\"a\": 1,\n}\n```", 2, "no JSON");
    planted("```json\n{}\n{\"name\": \"fleet_lits\", \"arguments\": {}}\n```", 2, "no tool \"fleet_lits\"");
    planted("```json\n{\"name\": \"fleet_list\", \"arguments\": {\"x\": 1}}\n```", 1, "does not take these arguments");
}

#[test]
fn a_command_that_is_not_taken_is_found_wherever_it_stands() {
    for (text, below) in [
        ("```sh\ntailops tokn list\n```", 1),
        ("```sh\n\ncd x && tailops serve --devv\n```", 2),
        ("```sh\nfor x in a b; do tailops token show; done\n```", 1),
        ("```sh\nX=\"$(tailops token mint --agent a)\"\n```", 1),
        ("```sh\ncat <(A=b tailops audit exprt)\n```", 1),
        ("```sh\ncat <<EOF\ntailops is named here\nEOF\nsudo tailops config chek\n```", 4),
        ("```sh\nsudo -u tailops tailops token mimt\n```", 1),
        ("```bash\ncargo run -- serve --dve\n```", 1),
        ("```console\n$ true\n$ tailops token mint --agent a \\\n    --scopes nothing --ttl 1h\n```", 2),
        ("1. A list:\n\n   ```sh\n   tailops serve\n   ```", 3),
    ] {
        planted(text, below, "tailops does not take");
    }
    planted("```\ntailops serve --dev\n```", 1, "open it with ```sh");
    planted("```console\ntailops serve --dev\n```", 1, "nothing is typed");
    planted("```sh\necho 'a\n```", 1, "a quote is not closed");
    planted("See `tailops token\nmimt`.", 0, "no command \"mimt\"");
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    planted("[x](nowhere.md)", 0, "leads nowhere");
    planted("line\n[broken\nover lines](../nowhere/) end", 2, "leads nowhere");
    planted("[x](#no-such)", 0, "no heading #no-such");
    planted("[x](README.md#title-of-one-page)", 0, "docs/README.md has no heading");
    planted("[x](/docs/page.md)", 0, "relative");
    planted("![x](x.svg)", 0, "leads nowhere");
    planted("<img src=\"x.svg\" alt=\"x\">", 0, "leads nowhere");
    planted("| a | b |\n|---|---|\n| [x](x.md) | y |", 2, "leads nowhere");
}

#[test]
fn a_path_that_is_not_there_is_found() {
    planted("See `src/b.rs`.", 0, "no such file");
    planted("See\n`b/a.rs`.", 1, "no such file");
    planted("See `tests/it/`.", 0, "no such file");
}

#[test]
fn a_block_that_stays_open_is_found() {
    planted("```text\nabc", 0, "never closed");
}

#[test]
fn a_page_that_the_index_forgets_is_found() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("docs")).unwrap();
    fs::write(folder.path().join("docs/page.md"), "# Page\n").unwrap();
    fs::write(folder.path().join("docs/README.md"), "# Index\n").unwrap();
    let found = Book::load(folder.path()).faults();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("does not link to page.md"), "{found:?}");
}

#[test]
fn an_example_that_does_not_load_is_found() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("examples/one")).unwrap();
    fs::write(folder.path().join("examples/one/tailops.toml"), "\nprofile = 3\n").unwrap();
    let found = Book::load(folder.path()).faults();
    assert!(found.len() == 1 && found[0].starts_with("examples/one/tailops.toml:2:"), "{found:?}");
}

#[test]
fn shell_text_is_taken_apart_as_a_shell_does() {
    let words = |text: &str| -> Vec<Vec<String>> {
        shell::commands(text).unwrap().into_iter().map(|command| command.words).collect()
    };
    assert_eq!(words("a 'b c' \"d\\\"e\" f\\ g # h"), [["a", "b c", "d\"e", "f g"]]);
    assert_eq!(words("a >x 2>&1 <y b <<< z | c\nd"), [vec!["a", "b"], vec!["c"], vec!["d"]]);
    assert_eq!(words("a \"$(b $(c))\" d"), [vec!["c"], vec!["b", "$"], vec!["a", "$", "d"]]);
    assert_eq!(words("a b#c '' d"), [["a", "b#c", "", "d"]]);
}

#[test]
fn codes_are_seen_however_they_are_written() {
    let source = r#"
        ToolError::new("one", x); ToolError::new(
            "two", y);
        let code = if a { "three" } else { "four" };
        let (code, hint) = match reason { "not_a_code" => ("five", "a hint"), _ => ("six", "b") };
        Refused::new(StatusCode::FORBIDDEN, "seven", m); (StatusCode::X, "eight")
        Check::new("name", a.b(c), "nine", || {});
    fn code(&self) -> &'static str {
        match self { Self::A => "ten", Self::B { limit: "not_a_code" } => "eleven" }
    }
#[cfg(test)]
mod tests { ToolError::new("not_a_code", "") }"#;
    let found: Vec<String> = codes::of_source(source).into_iter().map(|(_, code)| code).collect();
    assert!(!found.iter().any(|code| code == "not_a_code"), "{found:?}");
    for code in ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"] {
        assert!(found.iter().any(|found| found == code), "{code} in {found:?}");
    }
}

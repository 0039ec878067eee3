//! What the documentation says is so: its examples load, its commands exist, its links lead somewhere, every code is
//! explained, and what it says of the log's format is what the code writes.

mod book;
mod codes;
mod page;
mod planted;
mod shell;

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use book::Book;
use tailops::tools;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The fields of a struct in a source text.
fn fields(source: &str, name: &str) -> BTreeSet<String> {
    let (_, rest) = source.split_once(&format!("pub struct {name} {{")).unwrap();
    let (body, _) = rest.split_once("\n}").unwrap();
    let field = |line: &str| line.trim().strip_prefix("pub ")?.split_once(':').map(|(name, _)| name.to_owned());
    body.lines().filter_map(field).collect()
}

/// The keys of the first table behind `heading`.
fn documented(page: &str, heading: &str) -> BTreeSet<String> {
    let (_, rest) = page.split_once(heading).unwrap_or_else(|| panic!("no {heading:?}"));
    let rows = rest.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    rows.filter_map(|row| row.strip_prefix("| `")?.split_once('`').map(|(key, _)| key.to_owned())).collect()
}

#[test]
fn every_key_of_a_record_is_explained_and_no_other() {
    let source = read("src/audit/record.rs") + &read("src/audit/surveyed.rs");
    let page = read("docs/audit.md");
    for (name, heading) in [
        ("Record", "\n## A record\n"),
        ("ApprovalFacts", "In `approval`:"),
        ("ApproverFacts", "In each entry of `approvers`:"),
        ("SignedFacts", "In `signed`, as it came, and past redaction:"),
        ("PeerFacts", "In `tailscale`:"),
        ("Execution", "In each entry of `exec`:"),
        ("WireFacts", "In `wire`:"),
        ("HttpFacts", "In `http`:"),
        ("Folded", "In `folded`:"),
        ("Surveyed", "In `survey`:"),
        ("TargetFailure", "In each entry of `failed`:"),
    ] {
        let fields = fields(&source, name);
        assert!(!fields.is_empty(), "{name}");
        assert_eq!(fields, documented(&page, heading), "{name}");
    }
}

/// What `docs/approvals.md` tells others of the hash is what the code does, and what sha256sum makes of it.
#[test]
fn the_hash_of_an_operation_can_be_made_as_the_page_says() {
    let page = read("docs/approvals.md");
    let (_, rest) = page.split_once("\nThis operation\n\n```json\n").expect("the operation");
    let (operation, rest) = rest.split_once("\n```\n\nhas the hash\n\n```\n").expect("its hash");
    let (hash, _) = rest.split_once("\n```\n").expect("the end of the block");
    let operation: serde_json::Value = serde_json::from_str(operation).unwrap();
    let canonical = tailops::model::canonical_json(&operation).unwrap();
    assert_eq!(tailops::approval::hash_of(&canonical), hash);
    let mut bytes = b"tailops operation v1\n".to_vec();
    bytes.extend(&canonical);
    assert!(page.contains("printf 'tailops operation v1\\n'"), "the page's prefix is another one");
    assert_eq!(sha256sum(&bytes), hash);
    // The page's own recipe, where its program is installed.
    if let Some(by_jq) = piped("jq", &["-cjS", "."], &canonical) {
        assert_eq!(by_jq, canonical);
    }
    let keys: BTreeSet<String> = operation.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, documented(&page, "The operation on paper is one JSON object:"));
}

/// Every act on a question that can stand in a record is explained, and no other.
#[test]
fn every_act_of_approvals_is_explained() {
    let name = regex::Regex::new(r#""((?:approval|approver_key|break_glass|review)\.[a-z_]+)""#).unwrap();
    let source = all_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/approval"));
    let acts: BTreeSet<String> = name.captures_iter(&source).map(|found| found[1].to_owned()).collect();
    assert_eq!(acts, documented(&read("docs/audit.md"), "The acts of kind `approval`:"));
}

/// What the page lists for each tool is what the tool declares.
#[test]
fn what_each_tool_looks_at_again_is_on_the_page() {
    let page = read("docs/approvals.md");
    let (_, rest) = page.split_once("| tool | what has to be found the same |").expect("the table");
    let rows = rest.lines().skip(2).take_while(|line| line.starts_with('|'));
    let words = |row: &str| row.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let listed: Vec<Vec<String>> = rows.map(words).collect();
    let declared = tools::ALL.iter().filter(|tool| !tool.rechecks().is_empty()).map(|tool| {
        let names = tool.rechecks().iter().copied();
        std::iter::once(tool.spec().name).chain(names).map(str::to_owned).collect()
    });
    assert_eq!(listed, declared.collect::<Vec<Vec<String>>>());
}

fn sha256sum(bytes: &[u8]) -> String {
    let said = String::from_utf8(piped("sha256sum", &[], bytes).expect("coreutils")).unwrap();
    said.split_whitespace().next().unwrap().to_owned()
}

/// What the program makes of these bytes; none where it is not installed.
fn piped(program: &str, arguments: &[&str], bytes: &[u8]) -> Option<Vec<u8>> {
    let mut command = Command::new(program);
    let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program}");
    Some(output.stdout)
}

#[test]
fn every_example_command_link_and_path_is_right() {
    let book = Book::load(Path::new(env!("CARGO_MANIFEST_DIR")));
    let count = |language: &str| {
        let blocks = book.pages().flat_map(|page| &page.blocks);
        blocks.filter(|block| block.info.split_whitespace().next() == Some(language)).count()
    };
    assert!(count("sh") > 10 && count("json") > 1 && book.pages().count() > 10, "the pages were not found");
    let faults = book.faults();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_code_is_explained_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let answered = codes::answered(root);
    // One of each form in which sources write them.
    for code in ["busy", "outside_roots", "host_not_allowed", "not_json", "insufficient_scope", "failed", "refused"] {
        assert!(answered.contains_key(code), "the scan no longer sees {code}: look at tests/it/docs/codes.rs");
    }
    let book = Book::load(root);
    let explained: BTreeSet<String> = book.pages().flat_map(codes::explained).collect();
    let missing = answered.iter().filter(|(code, _)| !explained.contains(*code)).map(|(code, places)| {
        format!("{}: `{code}` is in no table of docs: add a row to docs/troubleshooting.md", places.join(", "))
    });
    let missing: Vec<String> = missing.collect();
    assert!(missing.is_empty(), "{} codes:\n{}", missing.len(), missing.join("\n"));
    let sources = all_sources(&root.join("src"));
    let page = book.pages().find(|page| page.name == "docs/troubleshooting.md").expect("the page is there");
    for code in codes::explained(page) {
        let literal = format!("\"{code}\"");
        assert!(sources.contains(&literal), "docs/troubleshooting.md: no source has `{code}`: take its row out");
    }
}

#[test]
fn the_figures_of_the_readme_are_those_that_were_measured() {
    let measured = read("docs/benchmarks.md");
    let cells = |text: &str| -> BTreeSet<String> {
        text.lines().flat_map(|line| line.split('|')).map(|cell| cell.trim().to_owned()).collect()
    };
    let readme = read("README.md");
    let (_, table) = readme.split_once("| measured |").expect("the table of figures");
    let rows: Vec<&str> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() >= 3, "{rows:?}");
    for row in rows {
        for figure in row.trim_matches('|').split('|').skip(1).map(str::trim) {
            assert!(cells(&measured).contains(figure), "README.md: {figure} is no figure of docs/benchmarks.md: {row}");
        }
    }
}

fn all_sources(folder: &Path) -> String {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let texts = entries.map(|path| if path.is_dir() { all_sources(&path) } else { fs::read_to_string(path).unwrap() });
    texts.collect()
}

//! What the documentation says of the log's format is what the code writes.

use std::{collections::BTreeSet, fs, path::Path};

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
    let (source, page) = (read("src/audit/record.rs"), read("docs/audit.md"));
    for (name, heading) in [
        ("Record", "\n## A record\n"),
        ("PeerFacts", "In `tailscale`:"),
        ("Execution", "In each entry of `exec`:"),
        ("HttpFacts", "In `http`:"),
        ("Folded", "In `folded`:"),
    ] {
        let fields = fields(&source, name);
        assert!(!fields.is_empty(), "{name}");
        assert_eq!(fields, documented(&page, heading), "{name}");
    }
}

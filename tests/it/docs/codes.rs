//! The codes that the gateway can answer, collected from its sources by how they are written there, and those that the
//! documentation explains in a table.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use regex::Regex;

use super::page::Page;

/// A literal that stands where a code is chosen: behind `=>`, or in a branch of its own.
const CHOSEN: &str = r#"=>\s*\(?"([a-z][a-z0-9_]+)"|\{\s*"([a-z][a-z0-9_]+)"\s*\}"#;

/// The codes in one source, each with its line. `text` ends where its tests begin.
pub fn of_source(text: &str) -> Vec<(usize, String)> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let simple = [
        // The code is given as it is.
        r#"ToolError::new\(\s*"([a-z][a-z0-9_]+)""#,
        r#"Self::new\(\s*"([a-z]+_[a-z_]+)",\s*(?:format!\(|"|message)"#,
        r#"Refused::new\([^",;]+,\s*"([a-z][a-z0-9_]+)""#,
        r#"\(StatusCode::[A-Z_]+,\s*"([a-z][a-z0-9_]+)"\)"#,
        r#"Check::new\("[a-z_]+",[^"]*?,\s*"([a-z][a-z0-9_]+)""#,
        r#"\bcode: "([a-z][a-z0-9_]+)""#,
        // One of two.
        r#"ToolError::new\(\s*if [^{]+\{\s*"([a-z][a-z0-9_]+)""#,
        r#"ToolError::new\(\s*if [^{]+\{\s*"[a-z0-9_]+"\s*\}\s*else\s*\{\s*"([a-z][a-z0-9_]+)""#,
    ];
    // The code is chosen in a statement or a function of its own.
    let places = [r"let \(?code\b[^;]*;", r"fn code\(&self\)[^{]*\{(?s:.*?)\n    \}"];
    let mut found = BTreeSet::new();
    let line_of = |at: usize| text[..at].matches('\n').count() + 1;
    for pattern in simple {
        for capture in Regex::new(pattern).unwrap().captures_iter(text) {
            let code = capture.get(1).unwrap();
            found.insert((line_of(code.start()), code.as_str().to_owned()));
        }
    }
    let chosen = Regex::new(CHOSEN).unwrap();
    for pattern in places {
        for place in Regex::new(pattern).unwrap().find_iter(text) {
            for capture in chosen.captures_iter(place.as_str()) {
                let code = capture.get(1).or(capture.get(2)).unwrap();
                found.insert((line_of(place.start() + code.start()), code.as_str().to_owned()));
            }
        }
    }
    found.into_iter().collect()
}

/// Every code under `root`/src, with the places where it stands.
pub fn answered(root: &Path) -> BTreeMap<String, Vec<String>> {
    let mut codes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                for (line, code) in of_source(&fs::read_to_string(&path).unwrap()) {
                    codes.entry(code).or_default().push(format!("{name}:{line}"));
                }
            }
        }
    }
    codes
}

/// The codes in those columns of a page's tables that are headed `code`.
pub fn explained(page: &Page) -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    for rows in &page.tables {
        let Some((head, rows)) = rows.split_first() else { continue };
        let Some(column) = head.iter().position(|cell| cell == "code") else { continue };
        for cell in rows.iter().filter_map(|row| row.get(column)) {
            codes.extend(cell.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    codes
}

//! Reads `apt-cache policy NAME`: the versions there are of one package and where each comes from.

use schemars::JsonSchema;
use serde::Serialize;

/// One package, as apt's pins see it.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Detail {
    name: String,
    /// Null where it is not installed
    installed: Option<String>,
    /// What an installation would choose
    candidate: Option<String>,
    versions: Vec<Version>,
}

#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct Version {
    version: String,
    priority: Option<i32>,
    installed: bool,
    /// Priority, address and archive
    sources: Vec<String>,
}

/// What `text` says of `name`; none where it says nothing. The form is that of `LC_ALL=C`.
pub(super) fn read(name: &str, text: &str) -> Option<Detail> {
    let mut lines = text.lines();
    lines.find(|line| line.strip_suffix(':') == Some(name))?;
    let mut detail = Detail { name: name.to_owned(), installed: None, candidate: None, versions: Vec::new() };
    let set = |value: &str| Some(value.trim().to_owned()).filter(|value| value != "(none)");
    for line in lines {
        if let Some(value) = line.strip_prefix("  Installed:") {
            detail.installed = set(value);
        } else if let Some(value) = line.strip_prefix("  Candidate:") {
            detail.candidate = set(value);
        } else if let Some(source) = line.strip_prefix("        ") {
            // Sources stand deeper than versions.
            if let Some(version) = detail.versions.last_mut() {
                version.sources.push(source.trim().to_owned());
            }
        } else if let Some(rest) = line.strip_prefix(" *** ").or_else(|| line.strip_prefix("     ")) {
            let mut words = rest.split_whitespace();
            if let Some(version) = words.next() {
                detail.versions.push(Version {
                    version: version.to_owned(),
                    priority: words.next().and_then(|word| word.parse().ok()),
                    installed: line.starts_with(" ***"),
                    sources: Vec::new(),
                });
            }
        }
    }
    Some(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_answer_is_read() {
        let detail = read("curl", include_str!("../../../tests/cases/apt/policy-curl.txt")).unwrap();
        assert_eq!(detail.installed.as_deref(), Some("7.88.1-10+deb12u14"));
        assert_eq!(detail.candidate.as_deref(), Some("7.88.1-10+deb12u15"));
        let versions: Vec<_> = detail.versions.iter().map(|v| (v.version.as_str(), v.installed)).collect();
        assert_eq!(
            versions,
            [("7.88.1-10+deb12u15", false), ("7.88.1-10+deb12u14", true), ("7.88.1-10+deb12u5", false)]
        );
        assert_eq!(detail.versions[1].sources, ["100 /var/lib/dpkg/status"]);
        assert_eq!(detail.versions[0].priority, Some(500));
    }

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(read("nosuch", ""), None);
        assert_eq!(read("a", "b:\n  Installed: 1\n"), None);
        let virtual_one = read("x", "x:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n").unwrap();
        assert_eq!((virtual_one.installed, virtual_one.versions.len()), (None, 0));
    }
}

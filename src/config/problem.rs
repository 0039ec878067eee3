//! What is wrong with a configuration: every problem with its place. Never stops at the first.

use std::{cell::RefCell, fmt, ops::Range};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// Where in the tree, e.g. `targets.web.roots[1]`. Empty for a text that is not TOML.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Everything that is wrong with one file, in the order of the file. Prints one problem a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    file: String,
    list: Vec<Problem>,
}

impl Problems {
    /// The problems, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// How many there are; never none.
    pub fn count(&self) -> usize {
        self.list.len()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { line, column, path, message }) in self.list.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            let colon = if path.is_empty() { "" } else { ": " };
            write!(f, "{end}{}:{line}:{column}: {path}{colon}{message}", self.file)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Collects problems while a text is read.
#[derive(Debug)]
pub(super) struct Report<'t> {
    text: &'t str,
    found: RefCell<Vec<(usize, Problem)>>,
}

impl<'t> Report<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, found: RefCell::default() }
    }

    /// Notes a problem at this place of the text.
    pub(super) fn add(&self, place: Range<usize>, path: &str, message: impl fmt::Display) {
        let before = self.text.get(..place.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let problem = Problem {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            path: path.to_owned(),
            message: message.to_string(),
        };
        self.found.borrow_mut().push((place.start, problem));
    }

    /// All of them, if any.
    pub(super) fn into_problems(self, file: impl fmt::Display) -> Option<Problems> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|(place, _)| *place);
        let list: Vec<Problem> = found.into_iter().map(|(_, problem)| problem).collect();
        (!list.is_empty()).then(|| Problems { file: file.to_string(), list })
    }
}

/// `, did you mean …?` if one of `known` is near what was `given`.
pub fn did_you_mean<'k>(given: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(known, given), known))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| format!(", did you mean {known}?"))
}

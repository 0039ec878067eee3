//! What is wrong with a site's policies: every problem with its place. Never stops at the first.

use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SiteProblem {
    /// The file, or the configuration key.
    pub file: String,
    /// Line and column, counted from 1, in characters; none for a configuration key.
    pub place: Option<(usize, usize)>,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for SiteProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A problem is one line, whatever stands in the file.
        let message: String = self.message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        match self.place {
            Some((line, column)) => write!(f, "{}:{line}:{column}: {message}", self.file),
            None => write!(f, "{}: {message}", self.file),
        }
    }
}

/// Everything that is wrong, in order. Prints one problem a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteProblems(Vec<SiteProblem>);

impl SiteProblems {
    /// Sorted by file and place.
    pub(super) fn new(mut list: Vec<SiteProblem>) -> Self {
        list.sort();
        list.dedup();
        Self(list)
    }

    /// One problem that has no place in a file of policies.
    pub fn about(file: impl fmt::Display, message: impl fmt::Display) -> Self {
        Self(vec![SiteProblem { file: file.to_string(), place: None, message: message.to_string() }])
    }

    /// The problems, in order.
    pub fn iter(&self) -> impl Iterator<Item = &SiteProblem> {
        self.0.iter()
    }
}

impl fmt::Display for SiteProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SiteProblems {}

/// Collects problems of one file.
pub(super) struct Report<'t> {
    file: &'t str,
    text: &'t str,
    pub(super) list: Vec<SiteProblem>,
}

impl<'t> Report<'t> {
    pub(super) fn new(file: &'t str, text: &'t str) -> Self {
        Self { file, text, list: Vec::new() }
    }

    /// Notes a problem at this byte of the text.
    pub(super) fn add(&mut self, offset: usize, message: impl fmt::Display) {
        self.list.push(at(self.file, self.text, offset, message));
    }
}

/// A problem at byte `offset` of `text`.
pub(super) fn at(file: &str, text: &str, offset: usize, message: impl fmt::Display) -> SiteProblem {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    let place = Some((before.matches('\n').count() + 1, column));
    SiteProblem { file: file.to_owned(), place, message: message.to_string() }
}

//! Reads a page of Markdown: its code blocks, headings, links and code spans, each with its line. Knows the part of
//! Markdown that the documentation uses.

use std::collections::BTreeSet;

/// A fenced block of code.
pub struct Block {
    /// The line of its first line of code, counted from 1.
    pub line: usize,
    /// What stands behind the opening fence.
    pub info: String,
    pub text: String,
}

/// A piece of text and the line where it begins.
pub struct Span {
    pub line: usize,
    pub text: String,
}

pub struct Page {
    /// Its path in the repository.
    pub name: String,
    pub blocks: Vec<Block>,
    /// Where links and pictures lead, as written.
    pub links: Vec<Span>,
    /// What stands between backticks.
    pub code: Vec<Span>,
    /// The anchors that its headings and `id`s make.
    pub anchors: BTreeSet<String>,
    /// The rows of its tables, each with its cells; the row of dashes is left out.
    pub tables: Vec<Vec<Vec<String>>>,
    /// Lines of blocks that were never closed.
    pub open: Vec<usize>,
}

impl Page {
    pub fn read(name: &str, text: &str) -> Self {
        let mut page = Self {
            name: name.to_owned(),
            blocks: Vec::new(),
            links: Vec::new(),
            code: Vec::new(),
            anchors: BTreeSet::new(),
            tables: Vec::new(),
            open: Vec::new(),
        };
        let mut prose: Vec<(usize, &str)> = Vec::new();
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
        while let Some((number, line)) = lines.next() {
            let Some((fence, info)) = opening(line) else {
                if line.trim().is_empty() || line.starts_with('|') || line.starts_with('#') {
                    page.prose(&std::mem::take(&mut prose));
                }
                page.line(number, line, &mut prose);
                continue;
            };
            page.prose(&std::mem::take(&mut prose));
            let indent = line.len() - line.trim_start().len();
            let mut body = Vec::new();
            let mut closed = false;
            for (_, line) in lines.by_ref() {
                if line.trim().starts_with(fence) && line.trim().chars().all(|c| fence.starts_with(c)) {
                    closed = true;
                    break;
                }
                let deep = line.len() - line.trim_start().len();
                body.push(&line[indent.min(deep)..]);
            }
            if !closed {
                page.open.push(number);
            }
            page.blocks.push(Block { line: number + 1, info: info.trim().to_owned(), text: body.join("\n") });
        }
        page.prose(&prose);
        page
    }

    /// One line outside of blocks.
    fn line<'t>(&mut self, number: usize, line: &'t str, prose: &mut Vec<(usize, &'t str)>) {
        if line.trim_start().starts_with('|') {
            self.row(line);
            self.prose(&[(number, line)]);
            return;
        }
        self.tables.push(Vec::new());
        if let Some(heading) = line.strip_prefix('#') {
            self.heading(heading.trim_start_matches('#').trim());
            self.prose(&[(number, line)]);
        } else if !line.trim().is_empty() {
            prose.push((number, line));
        }
    }

    fn row(&mut self, line: &str) {
        // A bar inside a cell is written `\|`.
        let line = line.trim().replace("\\|", "\u{1}");
        let cells: Vec<String> =
            line.trim_matches('|').split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect();
        let rule = cells.iter().all(|cell| !cell.is_empty() && cell.chars().all(|c| "-:".contains(c)));
        if self.tables.is_empty() {
            self.tables.push(Vec::new());
        }
        if let (false, Some(table)) = (rule, self.tables.last_mut()) {
            table.push(cells);
        }
    }

    /// The anchor of a heading, as code hosts make it.
    fn heading(&mut self, text: &str) {
        let text = without_targets(text);
        let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let slug: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>().to_lowercase();
        let numbered = (1..).map(|number| format!("{slug}-{number}"));
        let free = std::iter::once(slug.clone()).chain(numbered).find(|slug| !self.anchors.contains(slug));
        self.anchors.extend(free);
    }

    /// One paragraph, for a span or a link may be broken over lines.
    fn prose(&mut self, lines: &[(usize, &str)]) {
        let mut outside: Vec<(usize, char)> = Vec::new();
        let mut inside: Option<(usize, String, usize)> = None;
        let all: Vec<(usize, char)> =
            lines.iter().flat_map(|(number, line)| line.chars().chain(['\n']).map(|c| (*number, c))).collect();
        let mut at = 0;
        while let Some((number, c)) = all.get(at).copied() {
            if c != '`' {
                match &mut inside {
                    Some((_, text, _)) => text.push(c),
                    None => outside.push((number, c)),
                }
                at += 1;
                continue;
            }
            let ticks = all[at..].iter().take_while(|(_, c)| *c == '`').count();
            at += ticks;
            match inside.take() {
                None => inside = Some((number, String::new(), ticks)),
                Some((line, text, opened)) if opened == ticks => {
                    self.code.push(Span { line, text: text.trim().replace('\n', " ") });
                }
                Some((line, mut text, opened)) => {
                    text.extend(std::iter::repeat_n('`', ticks));
                    inside = Some((line, text, opened));
                }
            }
        }
        self.links_in(&outside);
    }

    fn links_in(&mut self, text: &[(usize, char)]) {
        let starts = |at: usize, wanted: &str| {
            wanted.chars().enumerate().all(|(index, c)| text.get(at + index).is_some_and(|(_, found)| *found == c))
        };
        for at in 0..text.len() {
            let found = [("](", ')'), ("src=\"", '"'), ("href=\"", '"'), ("srcset=\"", '"'), ("id=\"", '"')]
                .into_iter()
                .find(|(opens, _)| starts(at, opens));
            let Some((opens, closes)) = found else { continue };
            let target: String =
                text[at + opens.len()..].iter().map(|(_, c)| *c).take_while(|c| *c != closes).collect();
            if opens == "id=\"" {
                self.anchors.insert(target);
            } else {
                // What follows a space is the title.
                let target = target.split_whitespace().next().unwrap_or_default().to_owned();
                self.links.push(Span { line: text[at].0, text: target });
            }
        }
    }
}

/// The fence that this line opens, and what stands behind it.
fn opening(line: &str) -> Option<(&'static str, &str)> {
    let line = line.trim_start();
    ["````", "```", "~~~"].into_iter().find_map(|fence| Some((fence, line.strip_prefix(fence)?)))
}

/// `[text](target)` as `text`.
fn without_targets(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("](") {
        out.push_str(before);
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    out + rest
}

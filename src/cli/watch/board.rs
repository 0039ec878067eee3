//! The list that somebody chooses from, and what their keys mean. A choice sticks to its question, wherever that moves
//! in the list. Reads and writes no terminal.

use jiff::Timestamp;

use crate::{
    approval::ApprovalView,
    cli::{columns, question, visible::cut},
    model::Vote,
};

/// Lines around the list.
const AROUND: usize = 6;
const HELP: &str = "arrows or 1-9 choose   v view   a approve   d deny   q quit";

/// What somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// To go.
    Leave,
    /// To see this question, and to say this to it.
    Look(String, Option<Vote>),
}

/// The open questions.
pub(super) struct Board {
    views: Vec<ApprovalView>,
    /// The id of the question that is chosen.
    chosen: Option<String>,
    /// Why the list may be old.
    failure: Option<String>,
    coloured: bool,
}

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Up,
    Down,
    Number(usize),
    Letter(u8),
}

impl Board {
    pub(super) fn new(views: Vec<ApprovalView>, coloured: bool) -> Self {
        let mut board = Self { views: Vec::new(), chosen: None, failure: None, coloured };
        board.take(views);
        board
    }

    /// The questions as they are now: `views` with the newest first. The oldest is shown first: its time ends first.
    pub(super) fn take(&mut self, mut views: Vec<ApprovalView>) {
        views.reverse();
        let before = self.place();
        self.views = views;
        self.failure = None;
        if self.place().is_none() {
            // Beside where the choice was.
            let beside = before.unwrap_or_default().min(self.views.len().saturating_sub(1));
            self.choose(beside);
        }
    }

    /// The gateway could not be asked.
    pub(super) fn fail(&mut self, why: &str) {
        self.failure = Some(why.to_owned());
    }

    /// Where the chosen question stands in the list.
    fn place(&self) -> Option<usize> {
        self.views.iter().position(|view| Some(&view.id) == self.chosen.as_ref())
    }

    fn choose(&mut self, place: usize) {
        self.chosen = self.views.get(place).map(|view| view.id.clone());
    }

    /// What `bytes` from a terminal want. What was typed behind it is forgotten: it was meant for another sight.
    pub(super) fn typed(&mut self, bytes: &[u8]) -> Option<Act> {
        let last = self.views.len().saturating_sub(1);
        for key in keys(bytes) {
            let place = self.place().unwrap_or_default();
            let vote = match key {
                Key::Up | Key::Letter(b'k') => {
                    self.choose(place.saturating_sub(1));
                    continue;
                }
                Key::Down | Key::Letter(b'j') => {
                    self.choose(place.saturating_add(1).min(last));
                    continue;
                }
                Key::Number(number) if number <= self.views.len() => {
                    self.choose(number - 1);
                    continue;
                }
                // 3 and 4 are Ctrl-C and Ctrl-D.
                Key::Letter(b'q' | 3 | 4) => return Some(Act::Leave),
                Key::Letter(b'a') => Some(Vote::Approve),
                Key::Letter(b'd') => Some(Vote::Deny),
                Key::Letter(b'v' | b'\r') => None,
                _ => continue,
            };
            if let Some(id) = &self.chosen {
                return Some(Act::Look(id.clone(), vote));
            }
        }
        None
    }

    /// What a screen of `size` (rows and columns) shows.
    pub(super) fn lines(&self, (rows, width): (usize, usize), now: Timestamp) -> Vec<String> {
        let count = self.views.len();
        let waits = if count == 1 { "approval waits".to_owned() } else { "approvals wait".to_owned() };
        let mut lines = vec![cut(&format!("tailops: {count} {waits}, {now:.0}"), width), String::new()];
        let fits = rows.saturating_sub(AROUND).max(1);
        let place = self.place().unwrap_or_default();
        let first = place.saturating_sub(fits / 2).min(count.saturating_sub(fits));
        let numbered = self.views.iter().enumerate().map(|(index, view)| {
            let number = if index < 9 { (index + 1).to_string() } else { String::new() };
            std::iter::once(number).chain(question::row(view, now)).collect()
        });
        let head: Vec<&str> = std::iter::once("").chain(question::HEAD).collect();
        for (index, line) in columns(&head, numbered).into_iter().enumerate() {
            // The first is the head.
            match index.checked_sub(1) {
                Some(row) if !(first..first + fits).contains(&row) => {}
                Some(row) if row == place => {
                    let line = cut(&format!("> {line}"), width);
                    lines.push(if self.coloured { format!("\u{1b}[7m{line}\u{1b}[0m") } else { line });
                }
                _ => lines.push(cut(&format!("  {line}"), width)),
            }
        }
        lines.push(String::new());
        if let Some(failure) = &self.failure {
            lines.push(cut(&format!("the gateway cannot be asked now: {failure}"), width));
        }
        lines.push(cut(HELP, width));
        lines
    }
}

/// The keys in `bytes`, as terminals send them; what is no key of ours is skipped.
fn keys(bytes: &[u8]) -> Vec<Key> {
    let (mut keys, mut rest) = (Vec::new(), bytes);
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            0x1b => {
                let Some((b'[' | b'O', sequence)) = rest.split_first() else { continue };
                // ECMA-48: parameters and intermediates, then one final byte.
                let end = sequence.iter().position(|byte| (0x40..=0x7e).contains(byte));
                match end.and_then(|end| sequence.get(end)) {
                    Some(b'A') => keys.push(Key::Up),
                    Some(b'B') => keys.push(Key::Down),
                    _ => {}
                }
                rest = end.and_then(|end| sequence.get(end + 1..)).unwrap_or_default();
            }
            b'1'..=b'9' => keys.push(Key::Number(usize::from(byte - b'0'))),
            other => keys.push(Key::Letter(other.to_ascii_lowercase())),
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::question::tests::question;

    fn open(ids: &[&str]) -> Vec<ApprovalView> {
        ids.iter().map(|id| ApprovalView { id: (*id).to_owned(), ..question("why") }).collect()
    }

    fn approves(id: &str) -> Option<Act> {
        Some(Act::Look(id.to_owned(), Some(Vote::Approve)))
    }

    #[test]
    fn a_choice_stays_with_its_question_when_others_come_and_go() {
        let mut board = Board::new(open(&["c", "b", "a"]), false);
        assert_eq!(board.typed(b"a"), approves("a"), "the oldest comes first");
        assert_eq!(board.typed(b"\x1b[Ba"), approves("b"));
        board.take(open(&["e", "d", "c", "b"]));
        assert_eq!(board.typed(b"a"), approves("b"), "though it moved");
        board.take(open(&["e", "d", "c"]));
        assert_eq!(board.typed(b"a"), approves("c"), "what was chosen is gone");
        board.take(Vec::new());
        assert_eq!((board.typed(b"a"), board.typed(b"d"), board.typed(b"\r")), (None, None, None));
    }

    #[test]
    fn keys_mean_what_the_help_says_and_nothing_is_left_over() {
        let mut board = Board::new(open(&["c", "b", "a"]), false);
        assert_eq!(board.typed(b"3d"), Some(Act::Look("c".into(), Some(Vote::Deny))));
        assert_eq!(board.typed(b"9v"), Some(Act::Look("c".into(), None)), "there is no ninth");
        assert_eq!(board.typed(b"\x1bOA\x1bOA\x1bOA\x1bOAaq"), approves("a"), "what follows is forgotten");
        assert_eq!((board.typed(b"q"), board.typed(&[3])), (Some(Act::Leave), Some(Act::Leave)));
        // Answers of the terminal, pasted junk and torn sequences decide nothing.
        for junk in [&b"\x1b[1;5A\x1b"[..], b"\x1b[?62;c", b"\x1b[200~", b"\x1b[", b"xyz\xff\x00"] {
            assert_eq!(board.typed(junk), None, "{junk:?}");
        }
    }

    #[test]
    fn a_board_fits_its_screen_and_holds_no_text_of_others_raw() {
        let ids: Vec<String> = (0..50).map(|n| format!("id{n}")).collect();
        let mut views = open(&ids.iter().map(String::as_str).collect::<Vec<_>>());
        for view in &mut views {
            view.subject = "x\u{1b}[2J\u{202e}\n".repeat(9);
        }
        let mut board = Board::new(views, false);
        board.typed(&b"j".repeat(30));
        board.fail("\u{1b}]0;x\u{7}");
        let lines = board.lines((24, 80), Timestamp::UNIX_EPOCH);
        assert!(lines.len() <= 24 && lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
        assert!(lines.iter().all(|line| !line.chars().any(char::is_control)));
        assert_eq!(lines.iter().filter(|line| line.starts_with("> ")).count(), 1, "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("id19")), "{lines:#?}");
        board.coloured = true;
        assert!(board.lines((24, 80), Timestamp::UNIX_EPOCH).iter().any(|line| line.starts_with("\u{1b}[7m> ")));
    }
}

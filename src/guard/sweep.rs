//! The one pass over a text that says where detectors have something to look at. Answers for costing the same for
//! every byte and for finding nothing at almost no cost; never decides what is a secret.
//!
//! Two readings of the same bytes: an automaton over all literal anchors, blind to case, and a table of byte classes
//! that sees digits, `@`, `+` and long words.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use super::{command, header, marker, name, pii, token};

/// What an anchor calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    /// The form of this index in [`token::FORMS`].
    Token(usize),
    /// A JSON object in base64, as JWTs begin.
    Jwt,
    /// Part of a name that tells of a secret.
    Stem,
    /// Part of a name whose value is a secret where it looks like one.
    Weak,
    /// The header of this index in [`header::ANCHORS`].
    Header(usize),
    /// `PRIVATE KEY`.
    Pem,
    /// The command of this index in [`command::ANCHORS`].
    Command(usize),
    /// A name that tells of a phone number.
    Phone,
    /// The family of this index in [`marker::FAMILIES`].
    Marker(usize),
}

/// An anchor in a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit {
    /// What it calls for.
    pub(super) anchor: Anchor,
    /// Its first byte.
    pub(super) start: usize,
    /// Behind its last byte.
    pub(super) end: usize,
}

/// Where to look, each list in order of the text.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// The anchors.
    pub(super) hits: Vec<Hit>,
    /// Words of at least [`LONG`] bytes that could be base64.
    pub(super) words: Vec<Range<usize>>,
    /// Stretches of digits, blanks, hyphens and closing brackets with at least [`MANY_DIGITS`] digits.
    pub(super) digits: Vec<Range<usize>>,
    /// Starts of two letters with two digits behind them.
    pub(super) ibans: Vec<usize>,
    /// Every `@`, `+` and `%`.
    pub(super) signs: Vec<usize>,
}

/// Shortest word worth decoding: 15 bytes of text.
pub(super) const LONG: usize = 20;
/// Fewest digits worth a look.
const MANY_DIGITS: usize = 10;

const WORD: u8 = 1;
const DIGIT: u8 = 2;
const LETTER: u8 = 4;
const GAP: u8 = 8;
const SIGN: u8 = 16;

#[expect(clippy::indexing_slicing, reason = "the index is a byte, the table has a place for each")]
const CLASSES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'0'..=b'9' => WORD | DIGIT,
            b'a'..=b'z' | b'A'..=b'Z' => WORD | LETTER,
            b'+' => WORD | SIGN,
            b'-' => WORD | GAP,
            b'/' | b'_' => WORD,
            b' ' | b')' => GAP,
            b'@' | b'%' => SIGN,
            _ => 0,
        };
        byte += 1;
    }
    table
};

/// All anchors, ready to search.
#[derive(Debug)]
pub(super) struct Anchors {
    search: AhoCorasick,
    meanings: Vec<Anchor>,
}

impl Anchors {
    /// The anchors of every detector, and `more` parts of telling names.
    pub(super) fn new<'a>(more: impl Iterator<Item = &'a str>) -> Self {
        let mut anchors: Vec<(&str, Anchor)> = vec![("eyJ", Anchor::Jwt), ("PRIVATE KEY", Anchor::Pem)];
        for (index, form) in token::FORMS.iter().enumerate() {
            anchors.extend(form.anchors.iter().map(|literal| (*literal, Anchor::Token(index))));
        }
        anchors.extend(name::STEMS.iter().map(|literal| (*literal, Anchor::Stem)));
        anchors.extend(more.map(|literal| (literal, Anchor::Stem)));
        anchors.extend(name::WEAK_STEMS.iter().map(|literal| (*literal, Anchor::Weak)));
        anchors.extend(header::ANCHORS.iter().enumerate().map(|(index, literal)| (*literal, Anchor::Header(index))));
        anchors.extend(command::ANCHORS.iter().enumerate().map(|(index, literal)| (*literal, Anchor::Command(index))));
        anchors.extend(pii::PHONE_NAMES.iter().map(|literal| (*literal, Anchor::Phone)));
        for (index, family) in marker::FAMILIES.iter().enumerate() {
            anchors.extend(family.anchors.iter().map(|literal| (*literal, Anchor::Marker(index))));
        }
        #[expect(clippy::expect_used, reason = "a few hundred short constants and names of bounded number and length")]
        let search = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .kind(Some(AhoCorasickKind::DFA))
            .build(anchors.iter().map(|(literal, _)| literal))
            .expect("an automaton of this size");
        Self { search, meanings: anchors.into_iter().map(|(_, meaning)| meaning).collect() }
    }

    /// Reads `text` once.
    pub(super) fn sweep(&self, text: &str) -> Sweep {
        let mut sweep = classes(text.as_bytes());
        for found in self.search.find_overlapping_iter(text) {
            if let Some(anchor) = self.meanings.get(found.pattern().as_usize()) {
                sweep.hits.push(Hit { anchor: *anchor, start: found.start(), end: found.end() });
            }
        }
        sweep.hits.sort_by_key(|hit| hit.start);
        sweep
    }
}

/// What the classes of the bytes show.
fn classes(text: &[u8]) -> Sweep {
    const PAIR: u32 = u32::from_be_bytes([LETTER, LETTER, DIGIT, DIGIT]);
    let mut sweep = Sweep::default();
    let (mut word, mut digits, mut stretch, mut last) = (0, 0, 0, 0u32);
    for (at, byte) in text.iter().enumerate() {
        let class = CLASSES.get(usize::from(*byte)).copied().unwrap_or_default();
        if class & WORD == 0 {
            if word >= LONG {
                sweep.words.push(at - word..at);
            }
            word = 0;
        } else {
            word += 1;
        }
        if class & DIGIT != 0 {
            digits += 1;
        } else if class & GAP == 0 {
            if digits >= MANY_DIGITS {
                sweep.digits.push(stretch..at);
            }
            digits = 0;
            stretch = at + 1;
        }
        last = last << 8 | u32::from(class & (LETTER | DIGIT));
        if last == PAIR {
            sweep.ibans.push(at - 3);
        }
        if class & SIGN != 0 {
            sweep.signs.push(at);
        }
    }
    if word >= LONG {
        sweep.words.push(text.len() - word..text.len());
    }
    if digits >= MANY_DIGITS {
        sweep.digits.push(stretch..text.len());
    }
    sweep
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_show_words_digits_and_signs() {
        let sweep = classes(b"at 4111 1111-11 +49 DE89x a@b aGVsbG8gd29ybGQgZm9vYmFy=");
        assert_eq!(sweep.digits, [2..16]);
        assert_eq!(sweep.ibans.first(), Some(&20));
        assert_eq!(sweep.signs, [16, 27]);
        assert_eq!(sweep.words, [30..54]);
    }

    #[test]
    fn what_ends_with_the_text_is_seen() {
        let sweep = classes(b"x 4111111111111111");
        assert_eq!(sweep.digits, [1..18]);
        assert_eq!(classes(&[b'a'; LONG]).words, [0..LONG]);
        assert!(classes(&[b'a'; LONG - 1]).words.is_empty());
    }

    #[test]
    fn anchors_are_found_in_every_case_and_where_they_overlap() {
        let anchors = Anchors::new(["corp"].into_iter());
        let found = |text: &str| anchors.sweep(text).hits.iter().map(|hit| hit.anchor).collect::<Vec<_>>();
        assert_eq!(found("PassWord"), [Anchor::Stem]);
        assert_eq!(found("x-CORP"), [Anchor::Stem]);
        assert!(found("keyJhb").contains(&Anchor::Jwt), "{:?}", found("keyJhb"));
        assert!(found("nothing to see here").is_empty());
    }
}

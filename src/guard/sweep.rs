//! The one pass over a text that says where detectors have something to look at. Answers for costing the same for
//! every byte and for finding nothing at almost no cost; never decides what is a secret.
//!
//! Each byte goes through two tables: a filter of the three bytes that literal anchors begin with, blind to case, and the
//! classes of bytes, which show digits, `@`, `+` and long words. What the filter lets through is compared in full.

use std::ops::Range;

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
    anchors: Vec<(Vec<u8>, Anchor)>,
    /// One bit for every hash of three bytes that some anchor begins with.
    filter: Vec<u64>,
    /// Which anchors begin with three bytes of this hash; sorted.
    index: Vec<(usize, usize)>,
}

/// Bits a byte adds to the hash of three.
const STEP: usize = 5;
const HASHES: usize = 1 << (3 * STEP);

/// The hash of three bytes, from that of those before: blind to case, and the fourth last falls out.
fn hash(before: usize, byte: u8) -> usize {
    (before << STEP ^ usize::from(byte & 0x1F)) & (HASHES - 1)
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
        let mut index = Vec::new();
        for (which, (literal, _)) in anchors.iter().enumerate() {
            let head = literal.bytes().take(3).fold(0, hash);
            match literal.len() {
                0 | 1 => {}
                // The third byte may be any.
                2 => index.extend((0..1 << STEP).map(|third| (hash(head, third), which))),
                _ => index.push((head, which)),
            }
        }
        index.sort_unstable();
        let mut filter = vec![0; HASHES / 64];
        for (hash, _) in &index {
            if let Some(word) = filter.get_mut(hash / 64) {
                *word |= 1 << (hash % 64);
            }
        }
        let anchors = anchors.into_iter().map(|(literal, meaning)| (literal.as_bytes().to_vec(), meaning)).collect();
        Self { anchors, filter, index }
    }

    /// Reads `text` once.
    pub(super) fn sweep(&self, text: &str) -> Sweep {
        const PAIR: u32 = u32::from_be_bytes([LETTER, LETTER, DIGIT, DIGIT]);
        let text = text.as_bytes();
        let mut sweep = Sweep::default();
        let (mut word, mut digits, mut stretch, mut last, mut three) = (0, 0, 0, 0u32, 0);
        for (at, byte) in text.iter().enumerate() {
            three = hash(three, *byte);
            if self.filter.get(three / 64).is_some_and(|word| word >> (three % 64) & 1 != 0) {
                self.anchored(text, at, three, &mut sweep.hits);
            }
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

    /// Adds the anchors whose third byte is at `at`, where the three have this hash. Not a part of the loop, which
    /// hardly ever comes here.
    #[cold]
    fn anchored(&self, text: &[u8], at: usize, three: usize, hits: &mut Vec<Hit>) {
        let Some(start) = at.checked_sub(2) else { return };
        let rest = text.get(start..).unwrap_or_default();
        let first = self.index.partition_point(|(hash, _)| *hash < three);
        let same = self.index.get(first..).unwrap_or_default().iter().take_while(|(hash, _)| *hash == three);
        for (literal, anchor) in same.filter_map(|(_, which)| self.anchors.get(*which)) {
            if rest.get(..literal.len()).is_some_and(|head| head.eq_ignore_ascii_case(literal)) {
                hits.push(Hit { anchor: *anchor, start, end: start + literal.len() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(text: &str) -> Sweep {
        Anchors::new(std::iter::empty()).sweep(text)
    }

    fn only(ranges: &[Range<usize>]) -> (usize, usize) {
        let [range] = ranges else { panic!("{ranges:?}") };
        (range.start, range.end)
    }

    #[test]
    fn classes_show_words_digits_and_signs() {
        let sweep = sweep("at 4111 1111-11 +49 DE89x a@b aGVsbG8gd29ybGQgZm9vYmFy=");
        assert_eq!(only(&sweep.digits), (2, 16));
        assert_eq!(sweep.ibans.first(), Some(&20));
        assert_eq!(sweep.signs, [16, 27]);
        assert_eq!(only(&sweep.words), (30, 54));
    }

    #[test]
    fn what_ends_with_the_text_is_seen() {
        assert_eq!(only(&sweep("x 4111111111111111").digits), (1, 18));
        assert_eq!(only(&sweep(&"a".repeat(LONG)).words), (0, LONG));
        assert!(sweep(&"a".repeat(LONG - 1)).words.is_empty());
    }

    #[test]
    fn anchors_are_found_in_every_case_and_where_they_overlap() {
        let anchors = Anchors::new(["corp"].into_iter());
        let found = |text: &str| anchors.sweep(text).hits.iter().map(|hit| hit.anchor).collect::<Vec<_>>();
        assert_eq!(found("PassWord"), [Anchor::Stem]);
        assert_eq!(found("x-CORP"), [Anchor::Stem]);
        assert!(found("keyJhb").contains(&Anchor::Jwt), "{:?}", found("keyJhb"));
        assert!(found("nothing to see here").is_empty());
        assert!(found("Q~x").contains(&found("q~-")[0]), "two bytes are enough");
    }
}

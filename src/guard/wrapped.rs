//! Secrets inside base64. Answers for looking into every word that decodes to something: one layer into another, lines
//! that were wrapped, UTF-16. Never reports where inside a secret stands: the whole word goes.

use std::{borrow::Cow, ops::Range};

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::{
    control,
    secret::{Detectors, Rank, Span},
    sweep::LONG,
};

/// Decodes what was cut off in the middle too.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
const PLAIN: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

/// Lines at least this long may go on in the next.
const WRAPPED: usize = 40;
/// How many characters show whether a word decodes to text.
const SAMPLE: usize = 16;
/// Words at least this long are looked into even if they do not begin as text.
const BULK: usize = 256;
/// Layers that are unwrapped.
pub(super) const LAYERS: u8 = 3;

/// Adds the words of `text` that hold a secret in base64; `layers` more may be unwrapped.
pub(super) fn find(text: &str, words: &[Range<usize>], detectors: &Detectors, layers: u8, spans: &mut Vec<Span>) {
    let Some(layers) = layers.checked_sub(1) else { return };
    let mut words = words.iter().cloned().peekable();
    while let Some(mut range) = words.next() {
        // Wrapped lines are one word.
        let mut joined = text.get(range.clone()).map_or(Cow::Borrowed(""), Cow::Borrowed);
        let mut line = range.len();
        while line >= WRAPPED
            && let Some(next) = next_line(text, range.end, words.peek())
        {
            joined.to_mut().push_str(text.get(next.clone()).unwrap_or_default());
            (line, range.end) = (next.len(), next.end);
            words.next_if(|word| word.start < next.end);
        }
        let kind = holds(&joined, detectors, layers).or_else(|| {
            // A path or a query may stand around it.
            let mut parts =
                joined.split(['/', '-', '_', '+']).filter(|part| part.len() >= LONG && part.len() < joined.len());
            parts.find_map(|part| holds(part, detectors, layers))
        });
        if let Some(kind) = kind {
            let padding = text.get(range.end..).unwrap_or_default();
            range.end += padding.bytes().take(2).take_while(|byte| *byte == b'=').count();
            spans.push(Span { range, kind, rank: Rank::Wrapped });
        }
    }
}

/// The word on the line behind the one that ends at `end`.
fn next_line(text: &str, end: usize, next: Option<&Range<usize>>) -> Option<Range<usize>> {
    let behind = text.get(end..)?;
    let feed = ["\r\n", "\n", "\\r\\n", "\\n"].iter().find(|feed| behind.starts_with(**feed))?;
    let body = behind.get(feed.len()..)?;
    let indented = body.len() - body.trim_start_matches([' ', '\t']).len();
    let start = end + feed.len() + indented.min(64);
    if let Some(next) = next.filter(|next| next.start == start) {
        return Some(next.clone());
    }
    // The last line may be too short to be in the list.
    let word = text.get(start..)?.bytes().take(LONG);
    let length = word.take_while(|byte| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte)).count();
    let behind = text.as_bytes().get(start + length).copied().unwrap_or(b'\n');
    (length > 0 && matches!(behind, b'=' | b'\n' | b'"' | b'\'' | b'\\')).then_some(start..start + length)
}

/// The kind of the first secret inside `word`.
fn holds(word: &str, detectors: &Detectors, layers: u8) -> Option<&'static str> {
    let engine = if word.bytes().any(|byte| matches!(byte, b'-' | b'_')) { &URL } else { &PLAIN };
    let decode = |part: &str| engine.decode(part.get(..part.len() - usize::from(part.len() % 4 == 1))?).ok();
    if word.len() < BULK && !decode(word.get(..SAMPLE)?)?.iter().all(|byte| readable(*byte)) {
        return None;
    }
    let bytes = decode(word)?;
    let wide = bytes.iter().skip(1).step_by(2).take(8).all(|byte| *byte == 0);
    let bytes = if wide { bytes.into_iter().step_by(2).collect() } else { bytes };
    let decoded = String::from_utf8_lossy(&bytes);
    let (clean, _) = control::clean(&decoded);
    detectors.secrets(&clean, layers).first().map(|span| span.kind)
}

fn readable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t' | 0)
}

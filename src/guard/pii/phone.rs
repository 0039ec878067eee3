//! Phone numbers. Answers for those written with their country, those grouped as only phone numbers are, and those whose
//! name says so; a bare row of digits is none.

use std::ops::Range;

use super::card::{alone, groups};

/// Country calling codes of one and two digits; those of three begin with these.
const ONE: &[u32] = &[1, 7];
const TWO: &[u32] = &[
    20, 27, 30, 31, 32, 33, 34, 36, 39, 40, 41, 43, 44, 45, 46, 47, 48, 49, 51, 52, 53, 54, 55, 56, 57, 58, 60, 61, 62,
    63, 64, 65, 66, 81, 82, 84, 86, 90, 91, 92, 93, 94, 95, 98,
];
const THREE: &[u32] = &[21, 22, 23, 24, 25, 26, 29, 35, 37, 38, 42, 50, 59, 67, 68, 69, 80, 85, 87, 88, 96, 97, 99];

/// Longest number with its gaps, in bytes.
const LONGEST: usize = 28;

/// The number that begins with the `+`, or its encoded form, at `at`.
pub(super) fn international(text: &str, at: usize) -> Option<Range<usize>> {
    let rest = text.get(at..)?;
    let sign = ["+", "%2B", "%2b"].iter().find(|sign| rest.starts_with(**sign))?.len();
    let before = text.get(..at)?.chars().next_back().unwrap_or(' ');
    if before.is_alphanumeric() || matches!(before, '.' | '+' | '-' | '/' | '_' | '%' | '\\' | '@' | '~') {
        return None;
    }
    let (digits, length, gaps) = number(rest.get(sign..)?)?;
    let range = at..at + sign + length;
    (dialled(&digits, gaps) && ends(text, range.end)).then_some(range)
}

/// Digits, length and number of gaps of what begins `text` and is written as a phone number.
fn number(text: &str) -> Option<(Vec<u32>, usize, usize)> {
    let (mut digits, mut end, mut gaps, mut gap) = (Vec::new(), 0, 0, 0);
    for (at, byte) in text.bytes().take(LONGEST).enumerate() {
        match byte {
            b'0'..=b'9' => {
                digits.push(u32::from(byte - b'0'));
                end = at + 1;
                gaps += usize::from(gap > 0);
                gap = 0;
            }
            b' ' | b'-' | b'.' | b'(' | b')' | b'/' if gap < 3 => gap += 1,
            _ => break,
        }
    }
    text.bytes().next().filter(|byte| byte.is_ascii_digit() || *byte == b'(').map(|_| (digits, end, gaps))
}

/// Whether a country's numbers begin so and are so long (E.164).
fn dialled(digits: &[u32], gaps: usize) -> bool {
    let [first, second, rest @ ..] = digits else { return false };
    let (one, two) = (*first, first * 10 + second);
    match one {
        // North America: area and exchange begin with 2 to 9.
        1 => digits.len() == 11 && *second >= 2 && rest.get(2).is_some_and(|digit| *digit >= 2),
        7 => digits.len() == 11 && matches!(second, 3 | 4 | 6..=9),
        _ => {
            debug_assert!(!ONE.contains(&one));
            let least = if gaps > 0 { 9 } else { 10 };
            (TWO.contains(&two) || THREE.contains(&two)) && (least..=15).contains(&digits.len())
        }
    }
}

fn ends(text: &str, at: usize) -> bool {
    let after = text.get(at..).unwrap_or_default().chars().next().unwrap_or(' ');
    !(after.is_alphanumeric() || matches!(after, '_' | '@' | '='))
}

/// The number behind a name that tells of one: `phone=0171 1234567`.
pub(super) fn named(text: &str, start: usize, end: usize) -> Option<Range<usize>> {
    let name = text.get(start..end)?;
    let before = text.as_bytes().get(start.wrapping_sub(1)).copied().unwrap_or(b' ');
    if name.eq_ignore_ascii_case("tel") && before.is_ascii_alphanumeric() {
        return None;
    }
    let rest = text.get(end..)?;
    // `phone_number`, `PhoneNo.`
    let tail = rest.trim_start_matches(['_', '-', ' ', '.']);
    let words = ["number", "Number", "NUMBER", "no", "No", "nr", "Nr", "nummer"];
    let rest = words.iter().find_map(|word| tail.strip_prefix(word)).unwrap_or(rest);
    let rest = rest.strip_prefix('.').unwrap_or(rest);
    let signs = rest.trim_start_matches(['"', '\'', '\\', ' ']);
    let body =
        signs.strip_prefix([':', '=']).or_else(|| signs.strip_prefix("%3D")).or_else(|| signs.strip_prefix("to "))?;
    let body = body.trim_start_matches(['"', '\'', '\\', ' ']);
    let start = text.len() - body.len();
    let (digits, length, _) = number(body)?;
    ((7..=15).contains(&digits.len()) && ends(text, start + length)).then_some(start..start + length)
}

/// Whether all of `value` is written as a phone number.
pub(super) fn national(value: &str) -> bool {
    let value = value.trim();
    let value = value.strip_prefix('+').unwrap_or(value);
    number(value).is_some_and(|(digits, length, _)| (7..=15).contains(&digits.len()) && length == value.len())
}

/// Reports the numbers in a stretch of digits that are grouped as in North America: `(415) 555-2671`, `415-555-2671`.
pub(super) fn grouped(text: &str, stretch: Range<usize>, mut found: impl FnMut(Range<usize>)) {
    let groups = groups(text, &stretch);
    let byte = |at: usize| text.as_bytes().get(at).copied().unwrap_or(b' ');
    for three in groups.windows(3) {
        let [area, exchange, line] = three else { continue };
        if (area.len(), exchange.len(), line.len()) != (3, 3, 4)
            || byte(area.start) < b'2'
            || byte(exchange.start) < b'2'
        {
            continue;
        }
        let bracketed = byte(area.start.wrapping_sub(1)) == b'(' && byte(area.end) == b')';
        let start = area.start - usize::from(bracketed);
        let joined = byte(area.end) == b'-' || bracketed && exchange.start - area.end <= 2;
        let gaps = joined && exchange.end + 1 == line.start && byte(exchange.end) == b'-';
        if gaps && alone(text, &(start..line.end)) && (bracketed || exchange.start == area.end + 1) {
            found(start..line.end);
        }
    }
}

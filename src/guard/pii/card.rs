//! Card numbers. Answers for issuer, length, grouping and check digit; a number that only passes the check digit by
//! chance, as every tenth does, stays.

use std::ops::Range;

/// Names that tell of a card number.
pub(super) const NAMES: &[&str] = &["card", "cardnumber", "pan", "ccnum", "creditcard", "kreditkarte", "cardno"];

/// Names of what else has so many digits.
const OTHERS: &[&str] = &[
    "id",
    "trace",
    "span",
    "seq",
    "sequence",
    "offset",
    "inode",
    "time",
    "timestamp",
    "ts",
    "cursor",
    "lsn",
    "serial",
    "size",
    "bytes",
    "count",
    "uid",
    "version",
    "request",
    "nonce",
];

/// Reports the card numbers in a stretch of digits, blanks and hyphens.
pub(super) fn find(text: &str, stretch: Range<usize>, mut found: impl FnMut(Range<usize>)) {
    let groups = groups(text, &stretch);
    let mut index = 0;
    while let Some(first) = groups.get(index) {
        if first.len() >= 12 {
            if alone(text, first) && single(text, first) {
                found(first.clone());
            }
        } else if first.len() == 4
            && let Some((count, range)) = grouped(text, groups.get(index..).unwrap_or_default())
        {
            found(range);
            index += count;
            continue;
        }
        index += 1;
    }
}

/// Whether all of `value` is a card number.
pub(super) fn whole(value: &str) -> bool {
    let digits: Vec<u8> = digits(value).collect();
    value.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b' ' | b'-'))
        && issued(&digits, true)
        && luhn(&digits)
}

/// The runs of digits in `stretch`.
pub(super) fn groups(text: &str, stretch: &Range<usize>) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (offset, byte) in text.as_bytes().get(stretch.clone()).unwrap_or_default().iter().enumerate() {
        let at = stretch.start + offset;
        match groups.last_mut() {
            _ if !byte.is_ascii_digit() => {}
            Some(last) if last.end == at => last.end += 1,
            _ => groups.push(at..at + 1),
        }
    }
    groups
}

fn digits(text: &str) -> impl Iterator<Item = u8> {
    text.bytes().filter(u8::is_ascii_digit).map(|byte| byte - b'0')
}

/// Whether neither a word nor a fraction goes on at either end.
pub(super) fn alone(text: &str, range: &Range<usize>) -> bool {
    let bytes = text.as_bytes();
    let before = bytes.get(range.start.wrapping_sub(1)).copied().unwrap_or(b' ');
    let after = bytes.get(range.end).copied().unwrap_or(b' ');
    let further = bytes.get(range.end + 1).copied().unwrap_or(b' ');
    let joins =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/' | b'\\' | b'#' | b'@' | b'~');
    let goes_on = after.is_ascii_alphanumeric()
        || matches!(after, b'_' | b'/' | b'@')
        || matches!(after, b'.' | b'-' | b':') && further.is_ascii_alphanumeric();
    !joins(before) && before != b'-' && !goes_on
}

/// A number without gaps. Of 15 or 16 digits it counts wherever nothing says that it is something else, of other lengths
/// only where its name says so.
fn single(text: &str, range: &Range<usize>) -> bool {
    let digits: Vec<u8> = digits(text.get(range.clone()).unwrap_or_default()).collect();
    if !issued(&digits, true) || !luhn(&digits) {
        return false;
    }
    let name = name_before(text, range.start);
    let is = |names: &[&str]| names.iter().any(|known| name.ends_with(known));
    is(NAMES) || (issued(&digits, false) && !is(OTHERS))
}

/// The name before a value, in lower case and without its signs.
fn name_before(text: &str, at: usize) -> String {
    const FAR: usize = 48;
    let head = text.get(text.floor_char_boundary(at.saturating_sub(FAR))..at).unwrap_or_default();
    let head = head.trim_end_matches([' ', '"', '\'', '=', ':', '\\', '#', '\t']);
    let word = head.rsplit(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-'))).next().unwrap_or_default();
    word.chars().filter(|c| c.is_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect()
}

/// A number in the groups that cards show: 4-4-4-4, 4-4-4-4-3, 4-6-5 and 4-6-4, always with the same gap.
fn grouped(text: &str, groups: &[Range<usize>]) -> Option<(usize, Range<usize>)> {
    for lengths in [&[4, 4, 4, 4, 3][..], &[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4]] {
        let Some(taken) = groups.get(..lengths.len()) else { continue };
        let (Some(first), Some(last)) = (taken.first(), taken.last()) else { continue };
        let range = first.start..last.end;
        let gap = text.as_bytes().get(first.end);
        let even = taken.iter().zip(lengths).all(|(group, length)| group.len() == *length)
            && taken.windows(2).all(|two| {
                matches!(two, [left, right] if right.start == left.end + 1 && text.as_bytes().get(left.end) == gap)
            });
        let gapped = matches!(gap, Some(b' ' | b'-'));
        let digits: Vec<u8> = digits(text.get(range.clone()).unwrap_or_default()).collect();
        if even && gapped && alone(text, &range) && issued(&digits, true) && luhn(&digits) {
            return Some((lengths.len(), range));
        }
    }
    None
}

/// Whether an issuer has numbers that begin so and are so long; `rare` lengths included or not.
fn issued(digits: &[u8], rare: bool) -> bool {
    let head = |count: usize| digits.iter().take(count).fold(0u32, |number, digit| number * 10 + u32::from(*digit));
    let (two, three, four) = (head(2), head(3), head(4));
    match digits.len() {
        16 => {
            two / 10 == 4
                || (51..=55).contains(&two)
                || (2221..=2720).contains(&four)
                || four == 6011
                || (644..=649).contains(&three)
                || matches!(two, 65 | 62 | 81 | 60)
                || (3528..=3589).contains(&four)
                || rare && matches!(two, 50 | 56..=58 | 63 | 67)
        }
        15 => matches!(two, 34 | 37),
        14 if rare => matches!(two, 36 | 38 | 39) || (300..=305).contains(&three),
        13 if rare => two / 10 == 4,
        19 if rare => two / 10 == 4 || matches!(two, 62 | 50 | 63 | 67) || four == 6011,
        17 | 18 if rare => matches!(two, 62 | 50 | 56..=58 | 63 | 67),
        _ => false,
    }
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let doubled = u32::from(*digit) << (place % 2);
            if doubled > 9 { doubled - 9 } else { doubled }
        })
        .sum();
    let first = digits.first();
    sum.is_multiple_of(10) && !digits.iter().all(|digit| Some(digit) == first)
}

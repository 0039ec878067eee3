//! IBANs. Answers for country, length and check digits (ISO 13616, ISO 7064 mod 97-10).

use std::ops::Range;

/// Countries with the length of their IBANs, and whether all behind the country is digits.
const COUNTRIES: &[(&str, usize, bool)] = &[
    ("AD", 24, false),
    ("AE", 23, true),
    ("AL", 28, false),
    ("AT", 20, true),
    ("AZ", 28, false),
    ("BA", 20, true),
    ("BE", 16, true),
    ("BG", 22, false),
    ("BH", 22, false),
    ("BR", 29, false),
    ("BY", 28, false),
    ("CH", 21, false),
    ("CR", 22, true),
    ("CY", 28, false),
    ("CZ", 24, true),
    ("DE", 22, true),
    ("DK", 18, true),
    ("DO", 28, false),
    ("EE", 20, true),
    ("EG", 29, true),
    ("ES", 24, true),
    ("FI", 18, true),
    ("FO", 18, true),
    ("FR", 27, false),
    ("GB", 22, false),
    ("GE", 22, false),
    ("GI", 23, false),
    ("GL", 18, true),
    ("GR", 27, false),
    ("GT", 28, false),
    ("HR", 21, true),
    ("HU", 28, true),
    ("IE", 22, false),
    ("IL", 23, true),
    ("IQ", 23, false),
    ("IS", 26, true),
    ("IT", 27, false),
    ("JO", 30, false),
    ("KW", 30, false),
    ("KZ", 20, false),
    ("LB", 28, false),
    ("LC", 32, false),
    ("LI", 21, false),
    ("LT", 20, true),
    ("LU", 20, false),
    ("LV", 21, false),
    ("LY", 25, true),
    ("MC", 27, false),
    ("MD", 24, false),
    ("ME", 22, true),
    ("MK", 19, false),
    ("MR", 27, true),
    ("MT", 31, false),
    ("MU", 30, false),
    ("NL", 18, false),
    ("NO", 15, true),
    ("PK", 24, false),
    ("PL", 28, true),
    ("PS", 29, false),
    ("PT", 25, true),
    ("QA", 29, false),
    ("RO", 24, false),
    ("RS", 22, true),
    ("SA", 24, false),
    ("SC", 31, false),
    ("SE", 24, true),
    ("SI", 19, true),
    ("SK", 24, true),
    ("SM", 27, false),
    ("ST", 25, true),
    ("SV", 28, false),
    ("TL", 23, true),
    ("TN", 24, true),
    ("TR", 26, false),
    ("UA", 29, false),
    ("VA", 22, true),
    ("VG", 24, false),
    ("XK", 20, true),
];

/// The IBAN whose country code is at `at`.
pub(super) fn at(text: &str, at: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let before = bytes.get(at.wrapping_sub(1)).copied().unwrap_or(b' ');
    if before.is_ascii_alphanumeric() || matches!(before, b'_' | b'-' | b'/' | b'.') {
        return None;
    }
    let country = text.get(at..at + 2)?;
    let (_, length, numeric) = COUNTRIES.iter().find(|(code, ..)| code.eq_ignore_ascii_case(country))?;
    let mut characters: Vec<u8> = Vec::with_capacity(*length);
    let mut end = at;
    while characters.len() < *length {
        let byte = *bytes.get(end)?;
        let in_group = !characters.len().is_multiple_of(4);
        match byte {
            b' ' | b'-' if !in_group && bytes.get(end.wrapping_sub(1)).is_some_and(u8::is_ascii_alphanumeric) => {}
            byte if byte.is_ascii_alphanumeric() => characters.push(byte.to_ascii_uppercase()),
            _ => return None,
        }
        end += 1;
    }
    let after = bytes.get(end).copied().unwrap_or(b' ');
    let behind = characters.get(4..)?;
    let shaped = !numeric || behind.iter().all(u8::is_ascii_digit);
    let ends = !after.is_ascii_alphanumeric() && after != b'_';
    (ends && shaped && checked(&characters)).then_some(at..end)
}

/// Whether the number that the characters make, the first four last, leaves 1 when divided by 97.
fn checked(characters: &[u8]) -> bool {
    let (head, tail) = characters.split_at_checked(4).unwrap_or((characters, &[]));
    let remainder = tail.iter().chain(head).fold(0u32, |remainder, byte| match byte {
        b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
        _ => (remainder * 100 + u32::from(byte - b'A') + 10) % 97,
    });
    remainder == 1
}

//! What a terminal would act on and a reader cannot see. Answers for text in which every character shows; never
//! judges what the text says.
//!
//! Escape sequences (CSI, OSC and their kin) and invisible format characters are removed. Control characters that
//! often separate fields are shown: C0 and DEL as control pictures (NUL is `␀`), C1 as `\x85`. A carriage return
//! before a line feed is removed.

use std::borrow::Cow;

/// `text` without control sequences and invisible characters, and how many were taken out or made visible.
pub(super) fn clean(text: &str) -> (Cow<'_, str>, u32) {
    // In pieces without a way out in between, which the compiler turns into one comparison of many bytes at once.
    let plain =
        |piece: &[u8]| piece.iter().fold(true, |plain, byte| plain & matches!(byte, b'\n' | b'\t' | b' '..=b'~'));
    if text.as_bytes().chunks(256).all(plain) {
        return (Cow::Borrowed(text), 0);
    }
    let Some(first) = text.find(unwanted) else { return (Cow::Borrowed(text), 0) };
    let (head, mut rest) = text.split_at(first);
    let mut out = String::with_capacity(text.len());
    let mut count = 0u32;
    out.push_str(head);
    while let Some(character) = rest.chars().next() {
        let after = rest.get(character.len_utf8()..).unwrap_or_default();
        if !unwanted(character) {
            let plain = rest.find(unwanted).unwrap_or(rest.len());
            let (head, tail) = rest.split_at(plain);
            out.push_str(head);
            rest = tail;
            continue;
        }
        count = count.saturating_add(1);
        rest = match sequence(character, after) {
            Some(after) => after,
            None => {
                show(character, after, &mut out);
                after
            }
        };
    }
    (Cow::Owned(out), count)
}

/// Whether this character may not leave as it is.
fn unwanted(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        _ => character.is_control() || is_invisible(character),
    }
}

/// Format characters without a shape of their own: soft hyphen, bidi marks, overrides and isolates, zero-width
/// characters, annotations, tags and the variation selectors that can carry hidden bytes.
pub fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{AD}' | '\u{61C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E01EF}')
}

/// What follows the escape sequence that `introducer` opens; None if it opens none. Sequences are those of ECMA-48.
fn sequence(introducer: char, after: &str) -> Option<&str> {
    match introducer {
        '\u{9B}' => parameters(after),
        '\u{90}' | '\u{98}' | '\u{9D}'..='\u{9F}' => string(after),
        '\u{1B}' => {
            let next = after.chars().next()?;
            let body = after.get(next.len_utf8()..)?;
            match next {
                '[' => parameters(body),
                ']' | 'P' | 'X' | '^' | '_' => string(body),
                ' '..='/' => {
                    let rest = body.trim_start_matches(|c| matches!(c, ' '..='/'));
                    rest.strip_prefix(|c| matches!(c, '0'..='~'))
                }
                '0'..='~' => Some(body),
                _ => None,
            }
        }
        _ => None,
    }
}

/// After the parameters and the final byte of a control sequence.
fn parameters(body: &str) -> Option<&str> {
    body.trim_start_matches(|c| matches!(c, '0'..='?'))
        .trim_start_matches(|c| matches!(c, ' '..='/'))
        .strip_prefix(|c| matches!(c, '@'..='~'))
}

/// After the terminator of a control string. It ends at the next control character, so that one that is never
/// closed swallows nothing and many of them cost one pass.
fn string(body: &str) -> Option<&str> {
    let end = body.find(char::is_control)?;
    let rest = body.get(end..)?;
    ["\u{7}", "\u{1B}\\", "\u{9C}"].iter().find_map(|terminator| rest.strip_prefix(terminator))
}

/// Makes a control character visible.
fn show(character: char, after: &str, out: &mut String) {
    let code = u32::from(character);
    match character {
        '\r' if after.starts_with('\n') => {}
        '\u{0}'..='\u{1F}' => out.extend(char::from_u32(0x2400 + code)),
        '\u{7F}' => out.push('\u{2421}'),
        '\u{80}'..='\u{9F}' => out.push_str(&format!("\\x{code:02x}")),
        '\u{2028}' | '\u{2029}' => out.push('\n'),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_go_whole() {
        for (dirty, wanted) in [
            ("\u{1B}[1;31mred\u{1B}[0m", "red"),
            ("\u{9B}2Jx", "x"),
            ("a\u{1B}]0;title\u{7}b", "ab"),
            ("a\u{1B}]8;;http://x\u{1B}\\link\u{1B}]8;;\u{1B}\\b", "alinkb"),
            ("a\u{1B}Pdcs\u{9C}b", "ab"),
            ("a\u{1B}(Bb\u{1B}7c", "abc"),
            ("a\u{1B}]never closed", "a␛]never closed"),
            ("\u{1B}", "␛"),
        ] {
            assert_eq!(clean(dirty).0, wanted, "{dirty:?}");
        }
    }

    #[test]
    fn hidden_characters_go_and_separators_show() {
        assert_eq!(clean("A=1\0B=2\0").0, "A=1␀B=2␀");
        assert_eq!(clean("one\r\ntwo\rthree").0, "one\ntwo␍three");
        assert_eq!(clean("x\u{7F}\u{85}y").0, "x␡\\x85y");
        assert_eq!(clean("pass\u{200B}word\u{202E}\u{2066}\u{FEFF}\u{E0041}").0, "password");
        assert_eq!(clean("a\u{2028}b").0, "a\nb");
        assert_eq!(clean("a\u{0}\u{200B}b"), (Cow::Owned("a␀b".into()), 2));
    }

    #[test]
    fn plain_text_is_not_copied() {
        for plain in ["", "line\n\ttab", "Grüße, 日本語, 🙂 \u{FFFD}"] {
            assert!(matches!(clean(plain), (Cow::Borrowed(_), 0)), "{plain}");
        }
    }

    #[test]
    fn a_flood_of_open_sequences_costs_one_pass() {
        let flood = "\u{1B}]".repeat(200_000) + &"\u{1B}[".repeat(200_000);
        assert!(clean(&flood).1 >= 200_000);
    }
}

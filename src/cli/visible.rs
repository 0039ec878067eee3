//! Text of others on a terminal: what would steer it or hide in it is made visible, and what is too long is cut. Judges
//! no text.

use serde::Serialize;

use crate::guard::is_invisible;

/// `text` with every character shown: those that a terminal acts on, and those that nobody sees, as `\n` or `\u{1b}`.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_invisible(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// The beginning of `text` in at most `most` characters, made visible; a cut shows as `…`.
pub(super) fn cut(text: &str, most: usize) -> String {
    // No character gets shorter by being shown.
    let shown = visible(&text.chars().take(most + 1).collect::<String>());
    if shown.chars().count() <= most {
        return shown;
    }
    let mut head: String = shown.chars().take(most.saturating_sub(1)).collect();
    head.push('…');
    head
}

/// `value` as JSON over several lines, in which also those characters are escaped that JSON itself lets through.
pub(super) fn json(value: &impl Serialize) -> serde_json::Result<String> {
    let text = serde_json::to_string_pretty(value)?;
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        // Outside of its strings, the text holds no such character but the ends of its lines.
        if c != '\n' && (c.is_control() || is_invisible(c)) {
            shown.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            shown.push(c);
        }
    }
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_stays_what_it_is_and_holds_nothing_that_steers() {
        let value = serde_json::json!({"a\u{9b}\u{202e}": ["\u{1b}[2J\n\u{7f}", "\u{e0041}é"]});
        let text = json(&value).unwrap();
        assert!(text.chars().all(|c| c == '\n' || !c.is_control() && !is_invisible(c)), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn nothing_that_steers_a_terminal_or_hides_gets_through() {
        let hostile = "a\u{1b}[2J\u{9b}31m\r\n\t\u{7}\u{0}\u{7f}\u{202e}b\u{200b}\u{2066}\u{feff}\u{e0041}é日";
        let shown = visible(hostile);
        assert!(shown.chars().all(|c| !c.is_control() && !is_invisible(c)), "{shown:?}");
        assert_eq!(visible("é 日本 🙂 \\n"), "é 日本 🙂 \\n");
        assert_eq!(visible("\u{1b}[2J\n"), "\\u{1b}[2J\\n");
    }

    #[test]
    fn a_cut_shows_and_is_never_too_long() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("a\u{1b}bc", 4), "a\\u…");
        for most in 1..12 {
            assert!(cut("\u{1b}\u{1b}日本語 and more", most).chars().count() <= most);
        }
    }
}

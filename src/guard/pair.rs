//! Secrets that only their name gives away: `password=…`, `--api-key …`, `"token": "…"`, `<secret>…</secret>`.
//! Answers for where such a value begins and ends; never judges a value by its look alone.

use std::ops::Range;

use regex::Regex;

use super::{
    ledger::{is_mark, placeholder_len},
    name,
    secret::Span,
};

/// The part every telling name has.
pub(super) const STEM: &str = r"(?i-u:passw(?:or)?[dt]s?|passphrase|passcode|pwd|pass|secrets?(?:[ _.-]?(?:access[ _.-]?)?key)?|token|credentials?|psk|(?:api|access|account|auth|encryption|license|master|private|shared|signing|storage|deploy|hmac)[ _.-]?key)";

/// Longer names tell nothing.
const LONGEST_NAME: usize = 96;

/// How far behind its opening bracket a list of secrets may end.
const LONGEST_LIST: usize = 4096;

/// First words of prose after a name: `token: expired`, `password is …`.
const PROSE: &[&str] = &[
    "a",
    "an",
    "and",
    "any",
    "are",
    "as",
    "at",
    "authentication",
    "bad",
    "by",
    "can",
    "cannot",
    "check",
    "denied",
    "disabled",
    "does",
    "empty",
    "enabled",
    "error",
    "expired",
    "failed",
    "failure",
    "for",
    "from",
    "has",
    "if",
    "in",
    "incorrect",
    "invalid",
    "is",
    "it",
    "login",
    "malformed",
    "mismatch",
    "missing",
    "must",
    "no",
    "not",
    "of",
    "off",
    "ok",
    "on",
    "optional",
    "or",
    "permission",
    "prompt",
    "rejected",
    "required",
    "reset",
    "set",
    "should",
    "skipped",
    "str",
    "string",
    "succeeded",
    "that",
    "the",
    "to",
    "too",
    "unable",
    "unauthorized",
    "unexpected",
    "unknown",
    "unset",
    "unsupported",
    "updated",
    "valid",
    "verification",
    "was",
    "were",
    "will",
    "with",
    "wrong",
    "yes",
    "you",
    "your",
];

/// Directories that a value names instead of being a secret itself.
const PATHS: &[&str] =
    &["/etc/", "/run/", "/var/", "/home/", "/usr/", "/opt/", "/tmp/", "/root/", "/srv/", "/proc/", "/dev/", "./", "~/"];

/// Adds the named secrets of `text`. `stem` is the compiled [`STEM`].
pub(super) fn find(text: &str, stem: &Regex, spans: &mut Vec<Span>) {
    let mut from = 0;
    while let Some(found) = stem.find_at(text, from) {
        let start = identifier_start(text, from, found.start());
        let end = identifier_end(text, found.end());
        from = end;
        let Some(identifier) = text.get(start..end) else { continue };
        let before = text.get(..start).unwrap_or_default();
        if before.ends_with('‹') && placeholder_len(text.get(start - '‹'.len_utf8()..).unwrap_or_default()).is_some()
        {
            continue;
        }
        // `pam_unix(passwd:chauthtok)` names a service.
        if before.strip_suffix('(').is_some_and(|module| module.ends_with("pam_unix") || module.ends_with("pam_sss")) {
            continue;
        }
        let Some(kind) = name::kind(identifier) else { continue };
        let Some(range) = value(text, end, identifier, before.ends_with('<')) else { continue };
        from = range.end.max(end);
        let Some(value) = text.get(range.clone()) else { continue };
        if !(name::placeholder(value) || name::ambiguous(identifier) && unlikely(value)) {
            spans.push(Span { range, kind });
        }
    }
}

/// `pass: 12` counts tests, `PWD=/root` is a directory.
fn unlikely(value: &str) -> bool {
    value.starts_with('/') || value.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'%' | b'.' | b'/'))
}

fn identifier(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

fn identifier_start(text: &str, lowest: usize, at: usize) -> usize {
    let head = text.get(lowest..at).unwrap_or_default();
    at - head.bytes().rev().take(LONGEST_NAME).take_while(|byte| identifier(*byte)).count()
}

fn identifier_end(text: &str, at: usize) -> usize {
    at + text.get(at..).unwrap_or_default().bytes().take(LONGEST_NAME).take_while(|byte| identifier(*byte)).count()
}

/// Where the value of the name that ends at `at` stands.
fn value(text: &str, at: usize, identifier: &str, in_tag: bool) -> Option<Range<usize>> {
    let rest = text.get(at..)?;
    if in_tag && let Some(body) = rest.strip_prefix('>') {
        let start = text.len() - body.len();
        return Some(start..start + body.find(['<', '\n'])?);
    }
    // The closing quote of a quoted name, itself escaped where JSON stands in a string.
    let bare = rest.trim_start_matches('\\');
    let bare = bare.strip_prefix(['"', '\'', '`']).unwrap_or(rest);
    let bare = bare.strip_prefix(']').unwrap_or(bare);
    let quoted_name = bare.len() < rest.len();
    let spaced = bare.trim_start_matches([' ', '\t']);
    let separator = ["=>", ":=", "%3D", "%3d", "%3A", "%3a", "=", ":"].iter().find(|sign| spaced.starts_with(**sign));
    let (body, told) = match separator {
        // `==` compares, `::` is a path.
        Some(&("=" | ":")) if spaced.starts_with("==") || spaced.starts_with("::") => return None,
        Some(sign) => (spaced.get(sign.len()..)?, !matches!(*sign, ":")),
        None if quoted_name || spaced.len() == bare.len() => return None,
        None if identifier.starts_with('-') && !spaced.starts_with('-') => (spaced, false),
        None if spaced.starts_with('\'') && name::kind(identifier) == Some("password") => (spaced, true),
        None => return None,
    };
    let body = body.trim_start_matches([' ', '\t']);
    let start = text.len() - body.len();
    let slashes = body.len() - body.trim_start_matches('\\').len();
    let inner = body.get(slashes..)?;
    if let Some(quote @ ('"' | '\'' | '`')) = inner.chars().next() {
        let open = start + slashes + 1;
        return Some(open..open + closing(text.get(open..)?, quote, slashes));
    }
    if let Some(list) = body.strip_prefix('[') {
        if is_mark(list) {
            return None;
        }
        let line = body.get(..body.floor_char_boundary(LONGEST_LIST))?.lines().next()?;
        if let Some(end) = line.rfind(']')
            && line.contains(['"', '\''])
        {
            return Some(start + 1..start + end);
        }
    }
    let long = identifier.to_ascii_lowercase().ends_with("passphrase");
    let end = unquoted(body, long);
    let value = body.get(..end)?;
    let called = body.get(end..)?.starts_with('(') || value.contains("()") || value.ends_with('(');
    let placed = PATHS.iter().any(|path| value.starts_with(path));
    let word = value.trim_matches(|c: char| c.is_ascii_punctuation()).to_ascii_lowercase();
    if called || placed || (!told && PROSE.contains(&word.as_str())) {
        return None;
    }
    Some(start..start + end)
}

/// How long the text before the closing quote is; to the end of the line where it is missing. A quote escaped more
/// deeply than the opening one belongs to the value.
fn closing(body: &str, quote: char, slashes: usize) -> usize {
    let mut run = 0;
    for (index, character) in body.char_indices() {
        if character == '\n' {
            return index;
        }
        if character == quote && (if slashes == 0 { run % 2 == 0 } else { run <= slashes }) {
            return if slashes == 0 { index } else { index - run };
        }
        run = if character == '\\' { run + 1 } else { 0 };
    }
    body.len()
}

/// How long an unquoted value is: to a blank, a quote, a shown control character, or to a separator that the next
/// name follows.
fn unquoted(body: &str, to_end_of_line: bool) -> usize {
    let stops = |c: char| match c {
        ' ' | '\t' => !to_end_of_line,
        _ => c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '\u{2400}'..='\u{2424}'),
    };
    // A stand-in such as `<redacted>` or `${VAR}` is one value.
    if body.starts_with('<') {
        return body.find(['>', '\n']).map_or(body.len(), |end| end + 1);
    }
    if let Some(len) = placeholder_len(body) {
        return len;
    }
    let ends = |(at, character): &(usize, char)| {
        stops(*character)
            || (matches!(*character, '&' | ',' | ';') && name_follows(body.get(at + 1..).unwrap_or_default()))
    };
    let end = body.char_indices().find(ends).map_or(body.len(), |(at, _)| at);
    let word = body.get(..end).unwrap_or(body);
    let trimmed = word.trim_end_matches([')', ']', '}', ',', ';', '.', '\\']);
    if word.starts_with("${") || word.starts_with(['[', '(', '{']) || trimmed.is_empty() {
        word.len()
    } else {
        trimmed.len()
    }
}

/// Whether the text behind a separator is at its end or begins with a name and its value.
fn name_follows(rest: &str) -> bool {
    let signs = rest.bytes().take(4).take_while(u8::is_ascii_punctuation).count();
    let rest = rest.get(signs..).unwrap_or_default();
    let name = rest.bytes().take(LONGEST_NAME).take_while(|byte| identifier(*byte)).count();
    rest.is_empty() || (name > 0 && rest.get(name..).is_some_and(|rest| rest.starts_with(['=', ':'])))
}

//! Private keys in PEM armour, whole or torn. Answers for where they begin and end in a text; never decodes them.

use std::ops::Range;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";
/// Longer labels are no PEM.
const LONGEST_LABEL: usize = 64;
/// Fewer base64 characters in a row are prose.
const SHORTEST_BODY: usize = 24;
/// A last line of base64 may be short.
const SHORTEST_LINE: usize = 4;
/// How far behind its BEGIN line the body of a torn block must start.
const NEAR: usize = 512;

/// The private keys in `text`, in order. A block without its END reaches to the end of the text, a block without its
/// BEGIN back over the lines that are base64 alone.
pub(super) fn find(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some((start, after, opens)) = line(text, from) {
        from = after;
        if !opens {
            let lowest = found.last().map_or(0, |last: &Range<usize>| last.end);
            let body = body_before(text, lowest, start);
            if body < start {
                found.push(body..after);
            }
            continue;
        }
        let mut search = after;
        let end = loop {
            match line(text, search) {
                Some((_, after, false)) => break Some(after),
                Some((_, after, true)) => search = after,
                None => break None,
            }
        };
        match end {
            Some(end) => {
                found.push(start..end);
                from = end;
            }
            None => {
                if has_body(text.get(after..).unwrap_or_default()) {
                    found.push(start..text.len());
                    break;
                }
                from = search;
            }
        }
    }
    found
}

/// The next BEGIN or END line of a private key at or after `from`: where it starts, where it ends, whether it opens.
fn line(text: &str, mut from: usize) -> Option<(usize, usize, bool)> {
    loop {
        let start = from + text.get(from..)?.find(DASHES)?;
        let rest = text.get(start..)?;
        let label =
            rest.strip_prefix(BEGIN).map(|rest| (rest, true)).or(rest.strip_prefix(END).map(|rest| (rest, false)));
        if let Some((label, opens)) = label
            && let Some(end) = label.bytes().take(LONGEST_LABEL).position(|byte| byte == b'-')
            && let Some((name, after)) = label.split_at_checked(end)
            && after.starts_with(DASHES)
            && (name.ends_with("PRIVATE KEY") || name.ends_with("PRIVATE KEY BLOCK"))
        {
            return Some((start, text.len() - after.len() + DASHES.len(), opens));
        }
        from = start + 1;
    }
}

/// Whether key material follows soon.
fn has_body(after: &str) -> bool {
    let mut run = 0;
    after.bytes().take(NEAR).any(|byte| {
        run = if base64(byte) { run + 1 } else { 0 };
        run >= SHORTEST_BODY
    })
}

/// Where the lines of base64 that stand right before `end` begin.
fn body_before(text: &str, lowest: usize, end: usize) -> usize {
    let mut start = end;
    let head = text.get(lowest..end).unwrap_or_default();
    let head = head.strip_suffix("\\n").or(head.strip_suffix('\n')).unwrap_or(head);
    for line in head.rsplit('\n') {
        // One line may hold several where the line feeds are literal `\n`.
        let mut torn = false;
        for piece in line.rsplit("\\n") {
            let piece = piece.trim_end();
            let tail = piece.len() - piece.bytes().rev().take_while(|byte| base64(*byte)).count();
            let material = piece.get(tail..).unwrap_or_default();
            if material.len() < if tail > 0 { SHORTEST_BODY } else { SHORTEST_LINE } {
                return start;
            }
            start = offset(text, material);
            torn = tail > 0;
            if torn {
                break;
            }
        }
        if torn {
            break;
        }
    }
    start
}

/// Where `part`, a slice of `text`, starts in it.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr().addr().saturating_sub(text.as_ptr().addr())
}

fn base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7";

    fn armour(what: &str) -> (String, String) {
        (format!("-----BEGIN {what}-----"), format!("-----END {what}-----"))
    }

    fn only(text: &str) -> Range<usize> {
        let [range] = find(text).try_into().expect("one block");
        range
    }

    #[test]
    fn whole_blocks_are_found_with_real_and_literal_line_feeds() {
        for what in ["PRIVATE KEY", "RSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK"] {
            let (begin, end) = armour(what);
            for feed in ["\n", "\\n", "\n    ", " "] {
                let block = format!("{begin}{feed}{BODY}{feed}{BODY}{feed}{end}");
                let text = format!("key: {block} after");
                assert_eq!(only(&text), 5..5 + block.len(), "{text}");
            }
        }
    }

    #[test]
    fn torn_blocks_are_found() {
        let (begin, end) = armour("EC PRIVATE KEY");
        let open = format!("x {begin}\n{BODY}\n{BODY}");
        assert_eq!(only(&open), 2..open.len());
        let closed = format!("prose before\n{BODY}\n{BODY}\n{end} z");
        assert_eq!(only(&closed), 13..closed.len() - 2);
        let literal = format!("prose {BODY}\\n{BODY}\\n{end}");
        assert_eq!(only(&literal), 6..literal.len());
    }

    #[test]
    fn certificates_public_keys_and_prose_stay() {
        for text in [
            format!("-----BEGIN CERTIFICATE-----\n{BODY}\n-----END CERTIFICATE-----"),
            format!("-----BEGIN PUBLIC KEY-----\n{BODY}\n-----END PUBLIC KEY-----"),
            "expecting: -----BEGIN PRIVATE KEY----- but found nothing".into(),
            "no -----END PRIVATE KEY----- line".into(),
        ] {
            assert!(find(&text).is_empty(), "{text}");
        }
    }

    #[test]
    fn many_open_blocks_cost_one_pass() {
        assert!(find(&"-----BEGIN PRIVATE KEY-----\n".repeat(50_000)).is_empty());
    }
}

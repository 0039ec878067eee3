//! Secrets that only their name gives away: `password=…`, `--api-key …`, `"token": "…"`, `<secret>…</secret>`.
//! Answers for where such a value begins and ends; never judges a value by its look alone.

use std::ops::Range;

use super::{
    ledger::{is_mark, placeholder_len},
    name,
    secret::{Detectors, Rank, Span},
    sweep::Hit,
};

/// Longer names tell nothing.
const LONGEST_NAME: usize = 96;

/// How far behind its opening bracket a list of secrets may end.
const LONGEST_LIST: usize = 1024;

/// Directories that a value names instead of being a secret itself.
const PATHS: &[&str] = &[
    "/bin/", "/sbin/", "/etc/", "/run/", "/var/", "/home/", "/usr/", "/opt/", "/tmp/", "/root/", "/srv/", "/proc/",
    "/dev/", "./", "~/",
];

/// Finds named secrets, from one anchor to the next.
pub(super) struct Pairs<'d> {
    detectors: &'d Detectors,
    /// What was read to here is done.
    from: usize,
}

impl<'d> Pairs<'d> {
    pub(super) fn new(detectors: &'d Detectors) -> Self {
        Self { detectors, from: 0 }
    }

    /// Adds the secret whose name holds the anchor `hit`.
    pub(super) fn at(&mut self, text: &str, hit: &Hit, spans: &mut Vec<Span>) {
        if hit.start < self.from {
            return;
        }
        let start = identifier_start(text, self.from, hit.start);
        let start = compound_start(text, self.from, start);
        let end = identifier_end(text, hit.end);
        self.from = end;
        let Some(identifier) = text.get(start..end).filter(|name| introduces(text, end, name)) else { return };
        let before = text.get(..start).unwrap_or_default();
        if before.ends_with('‹') && placeholder_len(text.get(start - '‹'.len_utf8()..).unwrap_or_default()).is_some()
        {
            return;
        }
        // `pam_unix(passwd:chauthtok)` names a service.
        if before.strip_suffix('(').is_some_and(|module| module.ends_with("pam_unix") || module.ends_with("pam_sss")) {
            return;
        }
        // A user in a URL, and a resource that holds a secret elsewhere.
        if before.ends_with("://") || resource(before) {
            return;
        }
        let kind = self.detectors.kind(identifier);
        let weak = kind.is_none();
        if weak && (!name::weak(identifier) || name::public(before)) {
            return;
        }
        let Some(range) = value(text, end, identifier, opens_tag(before)) else { return };
        let Some(value) = text.get(range.clone()) else { return };
        if weak && (!name::entropic(value) || value.starts_with("AAAA")) {
            return;
        }
        self.from = range.end.max(end);
        let changed = changed(text, range.end);
        if !(name::placeholder(value) || name::ambiguous(identifier) && unlikely(value)) {
            spans.push(Span { range, kind: kind.unwrap_or("high-entropy"), rank: Rank::Name });
        }
        // `"old" -> "new"`, as a plan shows a change.
        if let Some(range) = changed
            && let Some(new) = text.get(range.clone())
            && !name::placeholder(new)
        {
            self.from = range.end;
            spans.push(Span { range, kind: kind.unwrap_or("high-entropy"), rank: Rank::Name });
        }
    }
}

/// Whether `head` ends inside the name of a cloud resource, such as `arn:aws:secretsmanager:…:`.
fn resource(head: &str) -> bool {
    let near = head.get(head.floor_char_boundary(head.len().saturating_sub(LONGEST_NAME))..).unwrap_or_default();
    near.ends_with(':') && near.rsplit([' ', '"', '\'', '=', '\n']).next().is_some_and(|word| word.starts_with("arn:"))
}

/// Whether `head` ends where the name of a tag begins: `<` or `<prefix:`.
fn opens_tag(head: &str) -> bool {
    let near = head.get(head.floor_char_boundary(head.len().saturating_sub(24))..).unwrap_or_default();
    let prefix = near.strip_suffix(':').map(|near| near.trim_end_matches(|c: char| c.is_ascii_alphanumeric()));
    prefix.unwrap_or(near).ends_with('<')
}

/// The quoted value behind an arrow that follows a quoted value's end.
fn changed(text: &str, end: usize) -> Option<Range<usize>> {
    let rest = text.get(end..)?;
    let body = rest.strip_prefix("\" -> \"")?;
    let start = text.len() - body.len();
    Some(start..start + closing(body, '"', 0))
}

/// Whether a value can follow the name that ends at `at`: cheap to see, and rarely so.
fn introduces(text: &str, at: usize, identifier: &str) -> bool {
    match text.as_bytes().get(at) {
        Some(b' ' | b'\t') => {
            let rest = text.get(at..).unwrap_or_default().trim_start_matches([' ', '\t']);
            rest.starts_with([':', '=', '\'', '%']) || identifier.starts_with('-') || directive(identifier)
        }
        Some(b'\n') => {
            let rest = text.get(at..).unwrap_or_default().trim_start();
            rest.get(.."value".len()).is_some_and(|word| word.eq_ignore_ascii_case("value"))
        }
        Some(byte) => byte.is_ascii_punctuation(),
        None => false,
    }
}

/// Whether the name is one that configuration files part from its value by a blank.
fn directive(identifier: &str) -> bool {
    ["requirepass", "masterauth"].iter().any(|known| known.eq_ignore_ascii_case(identifier))
}

/// Words that make `key` behind a blank a telling name: `API key: …`.
const COMPOUNDS: &[&str] = &[
    "api",
    "access",
    "account",
    "auth",
    "encryption",
    "license",
    "master",
    "private",
    "shared",
    "signing",
    "storage",
    "deploy",
    "hmac",
    "secret",
];

/// Where a name of two or three words begins whose last one begins at `start`.
fn compound_start(text: &str, lowest: usize, mut start: usize) -> usize {
    for _ in 0..2 {
        let Some(head) = text.get(lowest..start).and_then(|head| head.strip_suffix(' ')) else { break };
        let word = head.len() - head.bytes().rev().take(12).take_while(u8::is_ascii_alphabetic).count();
        let known = head.get(word..).is_some_and(|word| COMPOUNDS.iter().any(|known| known.eq_ignore_ascii_case(word)));
        if !known {
            break;
        }
        start = lowest + word;
    }
    start
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
    if let Some(range) = in_markup(text, at).or_else(|| in_field(text, at)) {
        return Some(range);
    }
    // The closing quote of a quoted name, itself escaped where JSON stands in a string.
    let bare = rest.trim_start_matches('\\');
    let bare = bare.strip_prefix(['"', '\'', '`']).unwrap_or(rest);
    let bare = bare.strip_prefix(']').or(bare.strip_prefix("[]")).unwrap_or(bare);
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
        None if directive(identifier) => (spaced, false),
        None => return None,
    };
    let body = declared(body.trim_start_matches([' ', '\t']));
    let start = text.len() - body.len();
    let slashes = body.len() - body.trim_start_matches('\\').len();
    let inner = body.get(slashes..)?;
    if let Some(quote @ ('"' | '\'' | '`')) = inner.chars().next() {
        let open = start + slashes + 1;
        return Some(open..open + quoted(text.get(open..)?, quote, slashes));
    }
    if let Some(range) = block(text, at, start) {
        return Some(range);
    }
    // `(sensitive value)` stands in for one.
    if let Some((inner, _)) = body.strip_prefix('(').and_then(|body| body.split_once(')'))
        && name::placeholder(body.get(..inner.len() + 2)?)
    {
        return None;
    }
    if let Some(list) = body.strip_prefix('[') {
        if is_mark(list) {
            return None;
        }
        let near = body.get(..body.floor_char_boundary(LONGEST_LIST))?;
        // Its items may stand on lines of their own.
        let over_lines = list.trim_start_matches([' ', '\r']).starts_with('\n');
        let line = if over_lines { near.split_inclusive(']').next()? } else { near.lines().next()? };
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
    if called || placed || (!told && name::prose(value)) {
        return None;
    }
    Some(start..start + end)
}

/// A value without what a language puts before it: a YAML tag or anchor, or the type of a declaration.
fn declared(body: &str) -> &str {
    const LONGEST_TYPE: usize = 24;
    let word =
        body.bytes().take(LONGEST_TYPE).take_while(|byte| identifier(*byte) || matches!(byte, b'&' | b'!')).count();
    let Some((first, rest)) = body.split_at_checked(word) else { return body };
    if let Some(value) = rest.strip_prefix(" = ").filter(|value| value.starts_with(['"', '\''])) {
        return value;
    }
    match rest.strip_prefix(' ') {
        Some(value) if first.len() > 1 && (first.starts_with("!!") || first.starts_with('&')) => value,
        _ => body,
    }
}

/// The value between quotes as markup writes them: `&quot;password&quot;:&quot;…&quot;`, `\\u0022` in JSON.
fn in_markup(text: &str, at: usize) -> Option<Range<usize>> {
    let rest = text.get(at..)?;
    let quote = ["&quot;", "&#34;", "\\u0022", "%22"].into_iter().find(|quote| rest.starts_with(*quote))?;
    let rest = rest.get(quote.len()..)?.trim_start_matches(' ');
    let rest = ["%3A", "%3a", ":", "="].iter().find_map(|sign| rest.strip_prefix(sign))?.trim_start_matches([' ', '+']);
    let rest = rest.strip_prefix("%20").unwrap_or(rest);
    let body = rest.strip_prefix(quote)?;
    let start = text.len() - body.len();
    let line = body.get(..body.floor_char_boundary(LONGEST_LIST))?;
    Some(start..start + line.find(quote).or(line.find('\n')).unwrap_or(line.len()))
}

/// The value in a field of its own behind the one that holds the name: `name="password" value="…"`,
/// `- name: PASSWORD` with `value: …` on the next line, `"name": "PASSWORD", "value": "…"`.
fn in_field(text: &str, at: usize) -> Option<Range<usize>> {
    let rest = text.get(at..)?;
    let rest = rest.trim_start_matches('\\');
    let rest = rest.strip_prefix(['"', '\'']).unwrap_or(rest);
    let field = rest.trim_start_matches([' ', '\t', '\n', ',']);
    if field.len() == rest.len() || rest.len() - field.len() > 64 {
        return None;
    }
    let field = field.trim_start_matches('\\');
    let field = field.strip_prefix('"').unwrap_or(field);
    let behind = field.get(.."value".len()).filter(|word| word.eq_ignore_ascii_case("value")).map(|word| word.len());
    let behind = field.get(behind?..)?.trim_start_matches('\\');
    let behind = behind.strip_prefix('"').unwrap_or(behind).trim_start_matches(' ');
    let body = behind.strip_prefix([':', '='])?.trim_start_matches(' ');
    let start = text.len() - body.len();
    let slashes = body.len() - body.trim_start_matches('\\').len();
    match body.get(slashes..)?.chars().next()? {
        quote @ ('"' | '\'') => {
            let open = start + slashes + 1;
            Some(open..open + closing(text.get(open..)?, quote, slashes))
        }
        _ => Some(start..start + unquoted(body, false)),
    }
}

/// The lines of a YAML block: those behind `password: |` that are indented deeper than its line.
fn block(text: &str, at: usize, start: usize) -> Option<Range<usize>> {
    let body = text.get(start..)?;
    let sign = body.trim_start_matches(['|', '>']);
    let lines = sign.strip_prefix(['-', '+']).unwrap_or(sign).trim_start_matches([' ', '\t']).strip_prefix('\n')?;
    if sign.len() + 1 != body.len() {
        return None;
    }
    let head = text.get(text.floor_char_boundary(at.saturating_sub(2 * LONGEST_NAME))..at)?;
    let name_line = head.rsplit('\n').next().unwrap_or(head);
    let depth = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let own = depth(name_line);
    let first = text.len() - lines.len();
    let mut end = first;
    for line in lines.split_inclusive('\n') {
        if !line.trim().is_empty() && depth(line) <= own {
            break;
        }
        end += line.len();
    }
    let block = text.get(first..end)?;
    let from = first + depth(block);
    (from < end).then(|| from..first + block.trim_end().len())
}

/// How long the text before the closing quote is. A value of several lines counts as one where nothing but a separator
/// follows its closing quote; else it ends with its line.
fn quoted(body: &str, quote: char, slashes: usize) -> usize {
    const MOST_LINES: usize = 8;
    const FAR: usize = 2048;
    let end = closing(body, quote, slashes);
    if slashes > 0 || !body.get(end..).is_some_and(|rest| rest.starts_with('\n')) {
        return end;
    }
    let near = body.get(..body.floor_char_boundary(FAR)).unwrap_or_default();
    let Some(close) = near.find(quote) else { return end };
    let lines = near.get(..close).unwrap_or_default().matches('\n').count();
    let behind = body.get(close + 1..).unwrap_or_default().chars().next().unwrap_or('\n');
    if lines <= MOST_LINES && matches!(behind, '\n' | ',' | ';' | ')' | '}') { close } else { end }
}

/// How long the text before the closing quote is; to the end of the line where it is missing. A quote escaped more
/// deeply than the opening one belongs to the value.
fn closing(body: &str, quote: char, slashes: usize) -> usize {
    let (mut run, mut doubled) = (0, false);
    for (index, character) in body.char_indices() {
        if character == '\n' {
            return index;
        }
        // `''` is one quote inside, in YAML and SQL.
        if doubled
            || (quote == '\''
                && slashes == 0
                && index > 0
                && body.get(index..).is_some_and(|rest| rest.starts_with("''")))
        {
            doubled = !doubled;
            run = 0;
            continue;
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
    let trimmed = word.trim_end_matches([')', ']', '}', ',', ';', '.', ':', '\\']);
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

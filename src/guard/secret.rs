//! Secrets inside one text. Answers for which parts of it are secret and of which kind; never changes the rest.
//!
//! One pass of a regex set over the text says which detectors have something to look for; a text without any
//! suspicious part costs that pass alone.

use std::{borrow::Cow, ops::Range, sync::LazyLock};

use regex::{Regex, RegexSet};

use super::{
    ledger::{Ledger, placeholder_len},
    name, pair, pem,
};

/// Tokens that are known by their own form: kind and pattern. The forms are those the issuers publish.
const TOKENS: &[(&str, &str)] = &[
    ("tailops-token", r"tailops_[A-Za-z0-9_-]{1,64}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}"),
    ("jwt", r"eyJ[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]*){2,4}"),
    ("tailscale-key", r"tskey-[A-Za-z0-9-]{10,}"),
    ("aws-key", r"(?-u:\b)(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?-u:\b)"),
    ("github-token", r"gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}"),
    ("gitlab-token", r"gl(?:pat|dt|rt|cbt|ptt|ft|agent|oas)-[A-Za-z0-9_.-]{16,}"),
    (
        "slack-token",
        r"xox[a-z]-[A-Za-z0-9-]{10,}|xapp-[0-9]-[A-Za-z0-9-]{10,}|hooks\.slack\.com/services/[A-Za-z0-9/]{20,}",
    ),
    ("google-key", r"AIza[A-Za-z0-9_-]{35}|GOCSPX-[A-Za-z0-9_-]{20,}|(?-u:\b)ya29\.[A-Za-z0-9_-]{20,}"),
    ("stripe-key", r"[srp]k_(?:live|test)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/=]{20,}"),
    ("ai-key", r"(?-u:\b)sk-(?:(?:ant|proj|svcacct|admin|or|lf)-[A-Za-z0-9_-]{16,}|[A-Za-z0-9]{20,})"),
    ("npm-token", r"npm_[A-Za-z0-9]{36}"),
    ("pypi-token", r"pypi-AgE[A-Za-z0-9_-]{30,}"),
    ("vault-token", r"(?-u:\b)hv[sbr]\.[A-Za-z0-9_-]{20,}"),
    ("age-key", r"AGE-SECRET-KEY-1[0-9A-Z]{40,}"),
    ("password-hash", r"\$(?:1|5|6|7|y|gy|2[abxy]|argon2(?:id|i|d))\$[./A-Za-z0-9$=,+]{20,}"),
];

/// `Authorization` and `Proxy-Authorization` headers with a scheme: the rest of the value.
const AUTHORIZATION: &str = r#"(?i-u:authorization)\\*["']?[ \t]{0,8}[:=][ \t]{0,8}\\*["']?(?:(?i-u:bearer|basic|digest|negotiate|ntlm|token|apikey|aws4-hmac-sha256)[ \t]{1,8}([^\n"'\\]+)|([A-Za-z0-9+/=._~-]{16,}))"#;
/// A bearer token elsewhere; it needs a digit to be told from prose.
const BEARER: &str = r"(?-u:\b)(?i-u:bearer)[ \t]{1,8}([A-Za-z0-9._~+/=-]{16,})";
/// `Cookie` and `Set-Cookie` headers: all their pairs.
const COOKIE: &str =
    r#"(?-u:\b)(?i-u:(?:set-)?cookie2?)\\*["']?[ \t]{0,8}:[ \t]{0,8}\\*["']?([A-Za-z0-9!#$%&*+.^_|~-]+=[^\n"'\\]+)"#;
/// `scheme://user:password@`: the password.
const URL: &str = r#"://[^ \t\n"'<>/@:]*:([^ \t\n"'<>/?]+)@"#;

/// What makes the detectors below the table worth running.
const HINTS: &[&str] =
    &[r"(?i-u:authorization)", r"(?i-u:bearer)[ \t]", r"(?i-u:cookie)", r"://[^ \t\n/@]*@", r"PRIVATE KEY", pair::STEM];

struct Detectors {
    gate: RegexSet,
    tokens: Vec<(&'static str, Regex)>,
    headers: [(&'static str, Regex); 4],
    stem: Regex,
}

#[expect(clippy::expect_used, reason = "the patterns are constants; every test compiles them")]
static DETECTORS: LazyLock<Detectors> = LazyLock::new(|| {
    let regex = |pattern: &str| Regex::new(pattern).expect("a valid pattern");
    Detectors {
        gate: RegexSet::new(TOKENS.iter().map(|(_, pattern)| *pattern).chain(HINTS.iter().copied()))
            .expect("valid patterns"),
        tokens: TOKENS.iter().map(|(kind, pattern)| (*kind, regex(pattern))).collect(),
        headers: [
            ("authorization", regex(AUTHORIZATION)),
            ("authorization", regex(BEARER)),
            ("cookie", regex(COOKIE)),
            ("url-password", regex(URL)),
        ],
        stem: regex(pair::STEM),
    }
});

/// One secret in a text.
#[derive(Debug)]
pub(super) struct Span {
    /// Where.
    pub(super) range: Range<usize>,
    /// What.
    pub(super) kind: &'static str,
}

/// More rounds than any text was seen to need.
const MAX_ROUNDS: usize = 8;

/// `text` with every secret in it replaced. A secret can come to stand apart only once its neighbour is replaced, so
/// a text that held one is searched again.
pub(super) fn redact<'t>(text: &'t str, ledger: &mut Ledger) -> Cow<'t, str> {
    let mut text = Cow::Borrowed(text);
    for _ in 0..MAX_ROUNDS {
        let spans = find(&text);
        if spans.is_empty() {
            break;
        }
        text = Cow::Owned(replace(&text, spans, ledger));
    }
    text
}

fn replace(text: &str, spans: Vec<Span>, ledger: &mut Ledger) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for Span { range, kind } in spans {
        out.push_str(text.get(from..range.start).unwrap_or_default());
        out.push_str(&ledger.placeholder(kind, text.get(range.clone()).unwrap_or_default()));
        from = range.end;
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out
}

/// The secrets in `text`: in order, apart from each other. Where two detectors overlap the whole of both is one
/// secret, of the kind of the more specific one.
pub(super) fn find(text: &str) -> Vec<Span> {
    if too_short(text) {
        return Vec::new();
    }
    let detectors = &*DETECTORS;
    let gate = detectors.gate.matches(text);
    if !gate.matched_any() {
        return Vec::new();
    }
    // Found in order of rank: a private key tells most, a name least.
    let mut spans = Vec::new();
    let hinted = |hint: usize| gate.matched(TOKENS.len() + hint);
    if hinted(4) {
        spans.extend(pem::find(text).into_iter().map(|range| Span { range, kind: "private-key" }));
    }
    for (index, (kind, regex)) in detectors.tokens.iter().enumerate() {
        if gate.matched(index) {
            spans.extend(regex.find_iter(text).map(|found| Span { range: found.range(), kind }));
        }
    }
    for (hint, (kind, regex)) in detectors.headers.iter().enumerate() {
        if hinted(hint) {
            let values = regex.captures_iter(text).filter_map(|found| found.get(1).or(found.get(2)));
            let secret =
                values.filter(|value| !name::placeholder(value.as_str()) && (hint != 1 || digit(value.as_str())));
            spans.extend(secret.map(|value| Span { range: value.range(), kind }));
        }
    }
    if hinted(5) {
        pair::find(text, &detectors.stem, &mut spans);
    }
    merge(text, spans)
}

/// Whether `text` is one word, shorter than any token and without anything that could part a name from a value.
fn too_short(text: &str) -> bool {
    text.len() < SHORTEST && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

/// No detector of [`TOKENS`] matches fewer bytes.
const SHORTEST: usize = 14;

/// Prose has no digits.
fn digit(value: &str) -> bool {
    value.bytes().any(|byte| byte.is_ascii_digit())
}

fn merge(text: &str, mut spans: Vec<Span>) -> Vec<Span> {
    let mut ranked: Vec<(usize, Span)> = spans.drain(..).enumerate().collect();
    ranked.sort_by_key(|(rank, span)| (span.range.start, *rank));
    let mut merged: Vec<(usize, Span)> = Vec::new();
    for (rank, span) in ranked {
        match merged.last_mut() {
            Some((best, last)) if span.range.start < last.range.end => {
                last.range.end = last.range.end.max(span.range.end);
                if rank < *best {
                    (*best, last.kind) = (rank, span.kind);
                }
            }
            _ => merged.push((rank, span)),
        }
    }
    // A second pass finds placeholders where the first found secrets.
    merged.into_iter().map(|(_, span)| span).filter(|span| !is_placeholder(text, &span.range)).collect()
}

fn is_placeholder(text: &str, range: &Range<usize>) -> bool {
    text.get(range.clone()).and_then(placeholder_len).is_some_and(|len| len == range.len())
}

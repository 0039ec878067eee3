//! Secrets and personal data inside one text. Answers for which parts of it must go and of which kind they are; never
//! changes the rest.
//!
//! [`sweep`](super::sweep) reads the text once and says where there is something to look at. A text without any
//! suspicious part costs that reading alone.

use std::{
    borrow::Cow,
    ops::Range,
    sync::{Arc, LazyLock},
};

use super::{
    PiiSettings, command, header,
    ledger::{Ledger, placeholder_len},
    name, pair, pem, pii,
    sweep::{Anchor, Anchors, Sweep},
    token, wrapped,
};

/// One part of a text that must go.
#[derive(Debug)]
pub(super) struct Span {
    /// Where.
    pub(super) range: Range<usize>,
    /// What.
    pub(super) kind: &'static str,
    /// How much its detector knows.
    pub(super) rank: Rank,
}

/// Detectors by how much they know of what they found, the surest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// A private key in armour.
    Key,
    /// A token of a known form.
    Token,
    /// Something of the above in base64.
    Wrapped,
    /// The place in a header, URL or command.
    Header,
    /// The name before it.
    Name,
    /// Personal data.
    Personal,
}

/// Everything that is looked for.
#[derive(Debug)]
pub(super) struct Detectors {
    anchors: Anchors,
    /// Further names whose values are secret: lower case, letters and digits only.
    names: Vec<String>,
}

static USUAL: LazyLock<Arc<Detectors>> = LazyLock::new(|| Arc::new(Detectors::with(Vec::new())));

/// More rounds than any text was seen to need.
const MAX_ROUNDS: usize = 8;
/// Nothing that is looked for is shorter.
const SHORTEST: usize = 5;

impl Detectors {
    /// The detectors, with `names` as further names whose values are secret.
    pub(super) fn new(names: &[String]) -> Arc<Self> {
        if names.is_empty() { USUAL.clone() } else { Arc::new(Self::with(names.to_vec())) }
    }

    fn with(names: Vec<String>) -> Self {
        let longest = |name: &'_ str| {
            let words = name.split(|c: char| !c.is_ascii_alphanumeric());
            words.max_by_key(|word| word.len()).unwrap_or_default().to_owned()
        };
        let stems: Vec<String> = names.iter().map(|name| longest(name)).filter(|stem| !stem.is_empty()).collect();
        let anchors = Anchors::new(stems.iter().map(String::as_str));
        Self { anchors, names: names.iter().map(|name| plain(name)).collect() }
    }

    /// The kind of secret that a value of this name is.
    pub(super) fn kind(&self, name: &str) -> Option<&'static str> {
        name::kind(name).or_else(|| self.named(name))
    }

    /// The kind of a name the site added.
    pub(super) fn named(&self, name: &str) -> Option<&'static str> {
        let known = !self.names.is_empty() && name.len() <= 128 && self.names.contains(&plain(name));
        known.then_some("named-secret")
    }

    /// Reads `text` once.
    pub(super) fn sweep(&self, text: &str) -> Sweep {
        if text.len() < SHORTEST { Sweep::default() } else { self.anchors.sweep(text) }
    }

    /// `text` with everything replaced that must go. `sweep` is its own. A secret can come to stand apart only once
    /// its neighbour is replaced, so a text that held one is searched again.
    pub(super) fn redact<'t>(
        &self,
        text: &'t str,
        sweep: Sweep,
        pii: PiiSettings,
        ledger: &mut Ledger,
    ) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        let mut sweep = Some(sweep);
        for _ in 0..MAX_ROUNDS {
            let sweep = sweep.take().unwrap_or_else(|| self.sweep(&text));
            let spans = self.spans(&text, &sweep, pii, wrapped::LAYERS);
            if spans.is_empty() {
                break;
            }
            text = Cow::Owned(replace(&text, spans, ledger));
        }
        text
    }

    /// What must go from `text` apart from personal data, in order; `layers` of base64 are unwrapped.
    pub(super) fn secrets(&self, text: &str, layers: u8) -> Vec<Span> {
        self.spans(text, &self.sweep(text), PiiSettings::KEEP, layers)
    }

    /// What must go: in order, apart from each other. Where two detectors overlap the whole of both is one secret, of
    /// the kind of the surer one.
    fn spans(&self, text: &str, sweep: &Sweep, pii: PiiSettings, layers: u8) -> Vec<Span> {
        let mut spans = Vec::new();
        wrapped::find(text, &sweep.words, self, layers, &mut spans);
        pii::find(text, sweep, pii, &mut spans);
        if !sweep.hits.is_empty() {
            self.anchored(text, sweep, &mut spans);
        }
        if spans.is_empty() { spans } else { merge(text, spans) }
    }

    fn anchored(&self, text: &str, sweep: &Sweep, spans: &mut Vec<Span>) {
        // What was read to here needs no second look by detectors of the same sort: else a text full of anchors would
        // be read from each of them to its end.
        let (mut tokens, mut headers, mut commands) = (0, [0; header::ANCHORS.len()], [0; command::ANCHORS.len()]);
        let (mut jwts, mut pairs, mut armour) = (token::Jwts::default(), pair::Pairs::new(self), false);
        for hit in &sweep.hits {
            match hit.anchor {
                Anchor::Token(_) | Anchor::Jwt if hit.start < tokens => {}
                Anchor::Token(index) => {
                    if let Some(span) = token::at(text, index, hit.start) {
                        tokens = span.range.end;
                        spans.extend(
                            Some(&span)
                                .filter(|span| span.kind == "aws-key")
                                .and_then(|span| token::aws_secret_behind(text, &span.range)),
                        );
                        spans.push(span);
                    }
                }
                Anchor::Jwt => {
                    if let Some(span) = jwts.at(text, hit.start) {
                        tokens = span.range.end;
                        spans.push(span);
                    }
                }
                Anchor::Header(index) => {
                    if let Some(read) = headers.get_mut(index).filter(|read| hit.start >= **read)
                        && let Some(span) = header::at(text, index, hit.start)
                    {
                        *read = span.range.end;
                        spans.push(span);
                    }
                }
                Anchor::Command(index) => {
                    if let Some(read) = commands.get_mut(index).filter(|read| hit.start >= **read) {
                        *read = command::at(text, index, hit.start..hit.end, spans);
                    }
                }
                Anchor::Stem | Anchor::Weak => pairs.at(text, hit, spans),
                Anchor::Pem => armour = true,
                Anchor::Phone | Anchor::Marker(_) => {}
            }
        }
        if armour {
            spans.extend(pem::find(text).into_iter().map(|range| Span { range, kind: "private-key", rank: Rank::Key }));
        }
    }
}

/// The letters and digits of a name, in lower case.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn replace(text: &str, spans: Vec<Span>, ledger: &mut Ledger) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for Span { range, kind, .. } in spans {
        out.push_str(text.get(from..range.start).unwrap_or_default());
        out.push_str(&ledger.placeholder(kind, text.get(range.clone()).unwrap_or_default()));
        from = range.end;
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out
}

fn merge(text: &str, mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|span| (span.range.start, span.rank));
    let mut merged: Vec<Span> = Vec::new();
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.range.start < last.range.end => {
                last.range.end = last.range.end.max(span.range.end);
                if span.rank < last.rank {
                    (last.rank, last.kind) = (span.rank, span.kind);
                }
            }
            _ => merged.push(span),
        }
    }
    // A second pass finds placeholders where the first found secrets.
    merged.retain(|span| !is_placeholder(text, &span.range));
    merged
}

fn is_placeholder(text: &str, range: &Range<usize>) -> bool {
    text.get(range.clone()).and_then(placeholder_len).is_some_and(|len| len == range.len())
}

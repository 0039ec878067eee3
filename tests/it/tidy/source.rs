//! Reads a Rust source as far as the house rules need it: which paths it names. Comments, strings and test-only items
//! are left out. Never judges what it finds, and knows nothing of types or macros.

use std::collections::BTreeMap;

/// One token. Numbers are left out, of lifetimes only the name is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A keyword or identifier.
    Word(String),
    /// The content of a string, as written between its quotes.
    Text(String),
    /// `::`
    Colons,
    /// Any other character.
    Mark(char),
}

/// A Rust file, read.
pub(crate) struct Source {
    /// What is part of the product: test-only items left out.
    pub(crate) tokens: Vec<Token>,
    /// The modules it declares for tests alone.
    pub(crate) test_modules: Vec<String>,
    imports: Vec<Path>,
    mentions: Vec<Path>,
    bindings: BTreeMap<String, Path>,
}

/// A path with the inline modules it was written in.
#[derive(Clone, Debug)]
struct Path {
    inside: Vec<String>,
    segments: Vec<String>,
}

impl Source {
    pub(crate) fn read(text: &str) -> Self {
        let (tokens, test_modules) = without_tests(&tokens(text));
        let mut source =
            Self { tokens, test_modules, imports: Vec::new(), mentions: Vec::new(), bindings: BTreeMap::new() };
        source.find_paths();
        source
    }

    /// Every path the file names, from the crate's root where it leads there (`crate`, `self`, `super` and names
    /// bound by `use` are followed). `module` is where the file stands, e.g. `["auth", "token"]`. A glob ends in `*`.
    pub(crate) fn paths(&self, module: &[String]) -> Vec<Vec<String>> {
        self.imports.iter().chain(&self.mentions).map(|path| self.resolve(path, module, 8)).collect()
    }

    /// The modules it declares, with a body or without.
    pub(crate) fn modules(&self) -> impl Iterator<Item = &str> {
        self.tokens.windows(3).filter_map(|three| match three {
            [Token::Word(keyword), Token::Word(name), Token::Mark(';' | '{')] if keyword == "mod" => Some(&**name),
            _ => None,
        })
    }

    fn resolve(&self, path: &Path, module: &[String], hops: u8) -> Vec<String> {
        let mut base: Vec<String> = module.iter().chain(&path.inside).cloned().collect();
        let mut rest = path.segments.as_slice();
        let mut rooted = false;
        while let Some((first, after)) = rest.split_first() {
            match first.as_str() {
                "crate" => base.clear(),
                "super" => drop(base.pop()),
                "self" if !rooted => {}
                _ => break,
            }
            rooted = true;
            rest = after;
        }
        if rooted {
            return ["crate".to_owned()].into_iter().chain(base).chain(rest.iter().cloned()).collect();
        }
        match rest.split_first() {
            // A name bound to itself (`use serde;`) leads nowhere else.
            Some((first, after)) if hops > 0 => match self.bindings.get(first) {
                Some(bound) if bound.segments.first() != Some(first) => {
                    let mut whole = self.resolve(bound, module, hops - 1);
                    whole.extend(after.iter().cloned());
                    whole
                }
                _ => rest.to_vec(),
            },
            _ => rest.to_vec(),
        }
    }

    fn find_paths(&mut self) {
        let tokens = std::mem::take(&mut self.tokens);
        let mut inside: Vec<(String, usize)> = Vec::new();
        let mut depth = 0_usize;
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let rest = tokens.get(at..).unwrap_or_default();
            let names = || inside.iter().map(|(name, _)| name.clone()).collect();
            match (token, rest.get(1)) {
                (Token::Mark('{'), _) => depth += 1,
                (Token::Mark('}'), _) => {
                    depth = depth.saturating_sub(1);
                    inside.pop_if(|(_, opened)| *opened == depth);
                }
                (Token::Word(word), Some(Token::Word(name)))
                    if word == "mod" && rest.get(2) == Some(&Token::Mark('{')) =>
                {
                    inside.push((name.clone(), depth));
                }
                // `use<'a>` is a list of captured lifetimes, not an import.
                (Token::Word(word), Some(next)) if word == "use" && *next != Token::Mark('<') => {
                    let end = rest.iter().position(|token| *token == Token::Mark(';')).unwrap_or(rest.len());
                    let tree = rest.get(1..end).unwrap_or_default();
                    let inside: Vec<String> = names();
                    for (segments, alias) in branches(&mut tree.iter(), &[]) {
                        self.import(segments, alias, &inside);
                    }
                    at += end;
                }
                (Token::Word(_), Some(Token::Colons)) => {
                    let segments = words(rest);
                    at += segments.len() * 2 - 2;
                    self.mentions.push(Path { inside: names(), segments });
                }
                _ => {}
            }
            at += 1;
        }
        self.tokens = tokens;
    }

    fn import(&mut self, mut segments: Vec<String>, alias: Option<String>, inside: &[String]) {
        if segments.len() > 1 {
            segments.pop_if(|last| last == "self");
        }
        let path = Path { inside: inside.to_vec(), segments };
        if let Some(name) = alias.or_else(|| path.segments.last().cloned()) {
            self.bindings.insert(name, path.clone());
        }
        self.imports.push(path);
    }
}

/// The branches of what stands between `use` and its semicolon, each with the name it is bound to by `as`. Stops
/// behind the bracket that closes the group it began in.
fn branches(tokens: &mut std::slice::Iter<'_, Token>, prefix: &[String]) -> Vec<(Vec<String>, Option<String>)> {
    let mut found = Vec::new();
    let (mut segments, mut alias) = (prefix.to_vec(), None);
    loop {
        let token = tokens.next();
        match token {
            Some(Token::Word(word)) if word == "as" => {
                alias = tokens.next().and_then(|token| match token {
                    Token::Word(name) => Some(name.clone()),
                    _ => None,
                });
            }
            Some(Token::Word(word)) => segments.push(word.clone()),
            Some(Token::Mark('*')) => segments.push("*".to_owned()),
            Some(Token::Mark('{')) => {
                found.extend(branches(tokens, &segments));
                segments = prefix.to_vec();
            }
            Some(Token::Mark(',' | '}')) | None => {
                if segments.len() > prefix.len() {
                    found.push((std::mem::replace(&mut segments, prefix.to_vec()), alias.take()));
                }
                if token != Some(&Token::Mark(',')) {
                    return found;
                }
            }
            Some(Token::Colons | Token::Text(_) | Token::Mark(_)) => {}
        }
    }
}

/// The words at the start of `tokens`, as far as `::` joins them.
fn words(tokens: &[Token]) -> Vec<String> {
    let mut segments = Vec::new();
    let mut tokens = tokens.iter();
    while let Some(Token::Word(word)) = tokens.next() {
        segments.push(word.clone());
        if tokens.next() != Some(&Token::Colons) {
            break;
        }
    }
    segments
}

/// `tokens` without the items under `#[cfg(test)]`, and the names of the modules among those.
fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    let word = |text: &str| Token::Word(text.to_owned());
    let test_only = [
        Token::Mark('#'),
        Token::Mark('['),
        word("cfg"),
        Token::Mark('('),
        word("test"),
        Token::Mark(')'),
        Token::Mark(']'),
    ];
    let (mut kept, mut modules) = (Vec::new(), Vec::new());
    let mut rest = tokens;
    while let Some((first, after)) = rest.split_first() {
        let Some(item) = rest.strip_prefix(test_only.as_slice()) else {
            kept.push(first.clone());
            rest = after;
            continue;
        };
        let (item, behind) = item.split_at(item_length(item));
        // Whatever stands before it, such as `pub(super)`.
        if let [.., Token::Word(keyword), Token::Word(name), Token::Mark(';')] = item
            && keyword == "mod"
        {
            modules.push(name.clone());
        }
        rest = behind;
    }
    (kept, modules)
}

/// How many tokens the item at the start of `tokens` has: up to its semicolon or the end of its body.
fn item_length(tokens: &[Token]) -> usize {
    let import = tokens.first() == Some(&Token::Word("use".to_owned()));
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Mark('{' | '[' | '(') => depth += 1,
            // The bracket of what the item stands in.
            Token::Mark('}' | ']' | ')') if depth == 0 => return at,
            Token::Mark(close @ ('}' | ']' | ')')) => {
                depth -= 1;
                if depth == 0 && *close == '}' && !import {
                    return at + 1;
                }
            }
            Token::Mark(';') if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '/' if rest.starts_with("//") => (None, rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => (None, block_comment(rest)),
            '"' => string(rest, 0),
            '\'' => (None, character(rest)),
            ':' if rest.starts_with("::") => (Some(Token::Colons), 2),
            _ if first == '_' || first.is_alphanumeric() => word(rest),
            _ if first.is_whitespace() => (None, first.len_utf8()),
            _ => (Some(Token::Mark(first)), first.len_utf8()),
        };
        tokens.extend(token);
        rest = rest.get(length..).unwrap_or_default();
    }
    tokens
}

/// The length of the block comment `text` begins with; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The string at `text[open..]`, which begins with its quote.
fn string(text: &str, open: usize) -> (Option<Token>, usize) {
    let content = text.get(open + 1..).unwrap_or_default();
    let mut escaped = false;
    for (at, character) in content.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return (content.get(..at).map(|content| Token::Text(content.to_owned())), open + at + 2),
            _ => {}
        }
    }
    (None, text.len())
}

/// The length of the character literal `text` begins with, or of the quote alone where a lifetime begins.
fn character(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    let Some((_, first)) = characters.next() else { return text.len() };
    if first == '\\' {
        // Behind the escaped character, which may itself be a quote.
        let rest = text.get(3..).unwrap_or_default();
        return rest.find('\'').map_or(text.len(), |end| 3 + end + 1);
    }
    match characters.next() {
        Some((at, '\'')) => at + 1,
        _ => 1,
    }
}

/// The word `text` begins with; a string where the word is its prefix; nothing for a number.
fn word(text: &str) -> (Option<Token>, usize) {
    let length = text.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(text.len());
    let (word, rest) = text.split_at(length);
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    match word {
        "b" | "c" if rest.starts_with('"') => string(text, length),
        "b" if rest.starts_with('\'') => (None, length + character(rest)),
        "r" | "br" | "cr" if rest.trim_start_matches('#').starts_with('"') => {
            let open = length + hashes + 1;
            let close = format!("\"{}", "#".repeat(hashes));
            let content = text.get(open..).unwrap_or_default();
            match content.find(&close) {
                Some(end) => {
                    (content.get(..end).map(|content| Token::Text(content.to_owned())), open + end + close.len())
                }
                None => (None, text.len()),
            }
        }
        // A raw identifier: the word behind the `#`.
        "r" if hashes == 1 => (None, length + 1),
        _ if word.starts_with(|c: char| c.is_ascii_digit()) => (None, length),
        _ => (Some(Token::Word(word.to_owned())), length),
    }
}

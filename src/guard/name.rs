//! Which names tell that their value is a secret, and which values are obviously none. Answers for field names,
//! variables and flags alike; never looks at where they stand.

use serde_json::Value;

use super::ledger::is_mark;

/// The kind of secret that a field, variable or flag of this name holds. None for names that only speak about
/// secrets, such as `token_count` or `password_changed_at`.
pub(super) fn kind(name: &str) -> Option<&'static str> {
    if name.len() > 128 || name.contains(['=', '‹']) || !telling(name) {
        return None;
    }
    let words = words(name);
    let mut words: &[String] = &words;
    while let [rest @ .., last] = words
        && !rest.is_empty()
        && (last.bytes().all(|byte| byte.is_ascii_digit()) || QUALIFIERS.contains(&last.as_str()))
    {
        words = rest;
    }
    let [rest @ .., last] = words else { return None };
    let last = last.trim_end_matches(|c: char| c.is_ascii_digit());
    let before = rest.last().map(String::as_str).unwrap_or_default();
    let compound = format!("{before}{last}");
    if compound == "accesskey" && rest.iter().any(|word| word == "secret") {
        return Some("aws-secret");
    }
    for (suffix, kind) in SUFFIXES {
        if last.ends_with(suffix)
            || (compound.ends_with(suffix)
                && (suffix.ends_with("key") && last == "key" || *suffix == "password" && last == "word"))
        {
            let speaks = SPEAKING.contains(&compound.as_str()) || last == *suffix && ABOUT.contains(&before);
            return (!speaks).then_some(*kind);
        }
    }
    match last {
        "pass" | "dbpass" | "userpass" | "rootpass" | "smtppass" | "keypass" | "storepass" | "authpass" | "psk"
        | "requirepass" | "masterauth" => Some("password"),
        _ => None,
    }
}

/// Whether a name holds the stem of one that could be known: nearly none does, and this is cheap to see.
fn telling(name: &str) -> bool {
    let holds =
        |stem: &&str| name.as_bytes().windows(stem.len()).any(|part| part.eq_ignore_ascii_case(stem.as_bytes()));
    STEMS.iter().any(holds)
}

/// What every name that [`kind`] knows holds.
pub(super) const STEMS: &[&str] = &["pass", "pwd", "psk", "secret", "credential", "token", "key", "masterauth"];

/// What names hold whose value is a secret only where it looks like one; `key` is in [`STEMS`].
pub(super) const WEAK_STEMS: &[&str] = &["auth", "signature", "session", "licen", "nonce"];

/// Last words of such names.
const WEAK: &[&str] =
    &["key", "keys", "auth", "signature", "session", "sessionid", "license", "licence", "authorization"];

/// Words before `key` that make it a name in a table, or something everybody may know.
const PUBLIC: &[&str] =
    &["public", "pub", "host", "primary", "foreign", "cache", "index", "sort", "partition", "routing", "object", "s3"];

/// Whether a value of this name is a secret if it looks like one.
pub(super) fn weak(name: &str) -> bool {
    let words = words(name);
    let [rest @ .., last] = words.as_slice() else { return false };
    name.len() <= 128
        && WEAK.contains(&last.as_str())
        && !rest.last().is_some_and(|word| PUBLIC.contains(&word.as_str()))
}

/// Whether the word before a name, parted by a blank, makes it public: `public key`.
pub(super) fn public(head: &str) -> bool {
    let Some(head) = head.strip_suffix(' ') else { return false };
    let word = head.len() - head.bytes().rev().take(12).take_while(u8::is_ascii_alphabetic).count();
    head.get(word..).is_some_and(|word| PUBLIC.iter().any(|known| known.eq_ignore_ascii_case(word)))
}

/// Tags of YAML that stand for a value kept elsewhere.
const TAGS: &[&str] = &["!vault", "!secret", "!ref", "!sub", "!getatt", "!env", "!env_var", "!reference"];

/// Whether `value` looks as if a machine had made it up: letters of both cases and digits in one long run, hardly any
/// of them twice. Digests, ids and paths do not.
pub(super) fn entropic(value: &str) -> bool {
    let run = value.split(|c: char| !c.is_ascii_alphanumeric()).max_by_key(|run| run.len()).unwrap_or_default();
    let has = |is: fn(&u8) -> bool| run.as_bytes().iter().any(is);
    let mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit);
    value.len() >= 20 && run.len() >= 16 && mixed && bits(run) >= 3.5
}

/// Shannon's entropy of a text, in bits a byte.
fn bits(text: &str) -> f64 {
    let mut counts = [0u32; 128];
    for byte in text.bytes() {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count += 1;
        }
    }
    let all = f64::from(u32::try_from(text.len()).unwrap_or(u32::MAX));
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count) / all)
        .map(|share| -share * share.log2())
        .sum()
}

/// The kind of secret in a JSON field. Beyond [`kind`] it knows names that only there mean one.
pub(super) fn field(name: &str, value: &Value) -> Option<&'static str> {
    let kind = kind(name).filter(|_| !(ambiguous(name) && (value.is_number() || path(value))));
    let text = value.as_str();
    let is = |names: [&str; 2]| names.iter().any(|known| name.eq_ignore_ascii_case(known));
    kind.or(match text {
        Some(_) if is(["authorization", "proxy-authorization"]) => Some("authorization"),
        Some(text) if is(["cookie", "set-cookie"]) && text.contains('=') => Some("cookie"),
        // What Docker and npm keep: base64 of `user:password`.
        Some(text) if is(["auth", "_auth"]) && encoded(text) => Some("password"),
        _ => None,
    })
}

fn path(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.starts_with('/'))
}

fn encoded(text: &str) -> bool {
    text.len() >= 12
        && text.bytes().any(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_'))
}

/// Whether a lone name is so common a word that only a telling value makes it one.
pub(super) fn ambiguous(name: &str) -> bool {
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    ["pass", "pwd"].iter().any(|word| name.eq_ignore_ascii_case(word))
}

/// Endings of the last word, or of the last two where the last is `key`, with their kind.
const SUFFIXES: &[(&str, &str)] = &[
    ("password", "password"),
    ("passwords", "password"),
    ("passwd", "password"),
    ("passwort", "password"),
    ("passphrase", "password"),
    ("passcode", "password"),
    ("pwd", "password"),
    ("presharedkey", "password"),
    ("secret", "secret"),
    ("secrets", "secret"),
    ("credential", "secret"),
    ("credentials", "secret"),
    ("token", "token"),
    ("privatekey", "private-key"),
    ("apikey", "api-key"),
    ("secretkey", "secret"),
    ("authkey", "api-key"),
    ("accesskey", "api-key"),
    ("accountkey", "api-key"),
    ("sharedkey", "api-key"),
    ("masterkey", "api-key"),
    ("signingkey", "api-key"),
    ("encryptionkey", "api-key"),
    ("storagekey", "api-key"),
    ("deploykey", "api-key"),
    ("hmackey", "api-key"),
    ("licensekey", "api-key"),
];

/// Trailing words that only tell secrets of one kind apart.
const QUALIFIERS: &[&str] = &[
    "old",
    "new",
    "prod",
    "production",
    "dev",
    "staging",
    "stage",
    "base",
    "value",
    "confirmation",
    "confirm",
    "current",
    "primary",
    "secondary",
    "b64",
    "base64",
    "plain",
    "plaintext",
    "raw",
    "text",
];

/// Words before the last that make it a place in a list, a counter or a grammar, not a secret.
const ABOUT: &[&str] = &[
    "next",
    "page",
    "continuation",
    "continue",
    "sync",
    "start",
    "end",
    "max",
    "min",
    "stop",
    "eos",
    "bos",
    "pad",
    "unexpected",
    "load",
    "import",
    "encrypted",
    "per",
    "ask",
    "no",
    "without",
];

/// Whole endings that are none.
const SPEAKING: &[&str] = &["oldpwd", "nextpagetoken", "pagetoken", "nexttoken", "continuationtoken"];

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

/// Whether `word` goes on a sentence instead of being a value.
pub(super) fn prose(word: &str) -> bool {
    let word = word.trim_matches(|c: char| c.is_ascii_punctuation()).to_ascii_lowercase();
    PROSE.contains(&word.as_str())
}

/// The words of a name, in lower case: `dbPassword`, `DB_PASSWORD` and `db-password` have the same two.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut characters = name.chars().peekable();
    let mut previous = ' ';
    while let Some(character) = characters.next() {
        let next_is_lower = characters.peek().is_some_and(char::is_ascii_lowercase);
        let starts = character.is_ascii_uppercase()
            && (previous.is_ascii_lowercase()
                || previous.is_ascii_digit()
                || (previous.is_ascii_uppercase() && next_is_lower));
        if !character.is_ascii_alphanumeric() || starts {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut()
            && character.is_ascii_alphanumeric()
        {
            word.push(character.to_ascii_lowercase());
        }
        previous = character;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Whether a value obviously stands in for a secret, or for none: empty, masked, a literal, a variable, or a mark
/// of the guard itself.
pub(super) fn placeholder(value: &str) -> bool {
    let value = value.trim();
    if value.is_empty() || is_mark(value) || !value.chars().any(char::is_alphanumeric) {
        return true;
    }
    let lower = value.to_ascii_lowercase();
    if matches!(lower.as_str(), "null" | "(null)" | "true" | "false" | "none" | "nil" | "undefined") {
        return true;
    }
    if TAGS.contains(&lower.as_str()) {
        return true;
    }
    if lower.len() > 2 && lower.bytes().all(|byte| matches!(byte, b'x' | b'*')) {
        return true;
    }
    let inner = |open: &str, close: &str| lower.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    if let Some(word) = inner("<", ">").or(inner("[", "]")).or(inner("(", ")")).or(Some(&lower)) {
        let masked = matches!(
            word,
            "redacted"
                | "hidden"
                | "filtered"
                | "masked"
                | "removed"
                | "secret"
                | "omitted"
                | "sensitive"
                | "sensitive value"
                | "known after apply"
                | "sensitive, known after apply"
        );
        if masked && (word.len() < lower.len() || word == "redacted") {
            return true;
        }
    }
    if inner("<", ">").is_some_and(|word| word.bytes().all(|b| b.is_ascii_alphabetic() || b"-_ ".contains(&b))) {
        return true;
    }
    if inner("${", "}").is_some_and(variable) || inner("{{", "}}").is_some() {
        return true;
    }
    let named = value.strip_prefix('$').unwrap_or_default();
    variable(named) && !named.bytes().any(|byte| byte.is_ascii_lowercase())
}

fn variable(name: &str) -> bool {
    name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests;

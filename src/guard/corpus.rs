//! What must go and what must stay, from the lists in `tests/cases/guard/`.

use super::{Guard, GuardLimits};

const RECALL: &str = include_str!("../../tests/cases/guard/recall.txt");
const SHAPES: &str = include_str!("../../tests/cases/guard/shapes.txt");
const PRECISION: &str = include_str!("../../tests/cases/guard/precision.txt");

fn lines(list: &str) -> impl Iterator<Item = String> {
    list.lines().filter(|line| !line.starts_with("# ") && !line.is_empty()).map(|line| line.to_owned())
}

fn guard() -> Guard {
    Guard::new(GuardLimits::default())
}

/// `length` characters of `alphabet`, the same every time.
fn made_up(alphabet: &str, length: usize) -> String {
    let alphabet: Vec<char> = alphabet.chars().collect();
    (0..length).map(|index| alphabet[(index * 7 + index / 3 + 5) % alphabet.len()]).collect()
}

/// One token of every form, made from parts.
pub(super) fn tokens() -> Vec<(&'static str, String)> {
    let word = |length| made_up("abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ0123456789", length);
    let upper = |length| made_up("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", length);
    let part = |json: &str| {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        URL_SAFE_NO_PAD.encode(json)
    };
    vec![
        ("tailops-token", format!("tailops_k1.{}.{}", part(r#"{"jti":"x","subject":"agent"}"#), word(43))),
        ("jwt", format!("{}.{}.{}", part(r#"{"alg":"HS256","typ":"JWT"}"#), part(r#"{"sub":"1234567890"}"#), word(43))),
        ("tailscale-key", format!("tskey-{}-{}", "auth", word(17))),
        ("tailscale-key", format!("tskey-{}-{}-{}", "client", word(12), word(24))),
        ("aws-key", format!("{}{}", "AKIA", upper(16))),
        ("aws-key", format!("{}{}", "ASIA", upper(16))),
        ("github-token", format!("{}_{}", "ghp", word(36))),
        ("github-token", format!("{}_{}", "gho", word(36))),
        ("github-token", format!("{}_{}", "ghs", word(36))),
        ("github-token", format!("{}_{}_{}", "github_pat", word(22), word(59))),
        ("gitlab-token", format!("{}-{}", "glpat", word(20))),
        ("slack-token", format!("{}-{}-{}", "xoxb", made_up("0123456789", 12), word(24))),
        ("google-key", format!("{}{}", "AIza", word(35))),
        ("stripe-key", format!("{}_{}_{}", "sk", "live", word(24))),
        ("ai-key", format!("{}-{}", "sk", word(48))),
        ("ai-key", format!("{}-{}-{}", "sk-ant", "api03", word(48))),
        ("npm-token", format!("{}_{}", "npm", word(36))),
        ("vault-token", format!("{}.{}", "hvs", word(24))),
        ("password-hash", format!("$6${}${}", word(8), word(60))),
    ]
}

#[test]
fn tokens_are_found_in_every_shape() {
    let mut count = 0;
    for (kind, token) in tokens() {
        for shape in lines(SHAPES) {
            let text = shape.replace("{}", &token).replace("\\n", "\n");
            let cleaned = guard().text(&text);
            assert!(!cleaned.text.contains(&token), "{text}\n{}", cleaned.text);
            assert_eq!(cleaned.redactions.get(kind), Some(&1), "{text}\n{}\n{:?}", cleaned.text, cleaned.redactions);
            count += 1;
        }
    }
    assert!(count >= 200, "{count}");
    #[expect(clippy::print_stdout, reason = "the count is for the reader of the test run")]
    {
        println!("tokens by form: {count} found of {count}");
    }
}

#[test]
fn named_secrets_are_found() {
    let mut missed = Vec::new();
    let mut count = 0;
    for line in lines(RECALL) {
        let line = line.replace('~', "").replace("\\n", "\n");
        let mut rest = line.as_str();
        let mut secrets = Vec::new();
        while let Some((_, after)) = rest.split_once('⟦') {
            let (secret, after) = after.split_once('⟧').expect("a closing ⟧");
            secrets.push(secret);
            rest = after;
        }
        assert!(!secrets.is_empty(), "{line}");
        count += secrets.len();
        let text = line.replace(['⟦', '⟧'], "");
        let cleaned = guard().text(&text);
        // What stands around the secrets must stay.
        let mut left = cleaned.text.as_str();
        let kept = line.split('⟦').map(|piece| piece.split_once('⟧').map_or(piece, |(_, after)| after)).all(|piece| {
            let found = left.find(piece);
            left = found.map_or(left, |at| &left[at + piece.len()..]);
            found.is_some()
        });
        if !kept || secrets.iter().any(|secret| cleaned.text.contains(*secret)) || cleaned.redactions.is_empty() {
            missed.push(format!("{text}\n   -> {}", cleaned.text));
        }
    }
    assert!(missed.is_empty(), "{} of {count}:\n{}", missed.len(), missed.join("\n"));
    assert!(count >= 100, "{count}");
    #[expect(clippy::print_stdout, reason = "the count is for the reader of the test run")]
    {
        println!("named secrets: {count} found of {count}");
    }
}

#[test]
fn ordinary_lines_stay() {
    let mut changed = Vec::new();
    let mut count = 0;
    for line in lines(PRECISION) {
        let text = line.replace("\\n", "\n");
        let cleaned = guard().text(&text);
        if cleaned.text != text || !cleaned.redactions.is_empty() {
            changed.push(format!("{text}\n   -> {}", cleaned.text));
        }
        count += 1;
    }
    assert!(changed.is_empty(), "{} of {count}:\n{}", changed.len(), changed.join("\n"));
    assert!(count >= 150, "{count}");
    #[expect(clippy::print_stdout, reason = "the count is for the reader of the test run")]
    {
        println!("ordinary lines: {count} unchanged of {count}");
    }
}

#[test]
fn every_listed_text_is_guarded_once() {
    for line in lines(RECALL).chain(lines(PRECISION)) {
        let once = guard().text(&line.replace(['⟦', '⟧'], ""));
        let twice = guard().text(&once.text);
        assert_eq!(twice.text, once.text);
        assert!(twice.redactions.is_empty(), "{}", once.text);
    }
}

#[test]
fn hostile_texts_cost_linear_time() {
    // Each would take minutes, were any detector quadratic in it.
    for piece in [
        "password=\"",
        "password='\\\"",
        "token",
        "secret.",
        "://a:",
        "Bearer ",
        "eyJaaaaaaaaaaaa.",
        "[",
        "cookie:a=",
        "‹secret:",
    ] {
        let text = piece.repeat(400_000 / piece.len());
        let limits = GuardLimits { max_string_bytes: 8 << 20, max_total_bytes: 32 << 20, ..GuardLimits::default() };
        let cleaned = Guard::new(limits).text(&text);
        assert!(cleaned.text.len() <= 8 << 20);
    }
}

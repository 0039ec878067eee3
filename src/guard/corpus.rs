//! What must go and what must stay, from the lists in `tests/cases/guard/`.

use std::collections::BTreeMap;

use super::{Guard, GuardLimits};
use crate::config;

const RECALL: &str = include_str!("../../tests/cases/guard/recall.txt");
const SHAPES: &str = include_str!("../../tests/cases/guard/shapes.txt");
const PERSONAL: &str = include_str!("../../tests/cases/guard/personal.txt");
const INJECTION: &str = include_str!("../../tests/cases/guard/injection.txt");
const NOT_INJECTION: &str = include_str!("../../tests/cases/guard/not-injection.txt");
const PRECISION: &str = include_str!("../../tests/cases/guard/precision.txt");

fn lines(list: &str) -> impl Iterator<Item = String> {
    list.lines().filter(|line| !line.starts_with("# ") && !line.is_empty()).map(|line| line.to_owned())
}

fn guard() -> Guard {
    Guard::new(GuardLimits::default(), &config::Guard::default())
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
    let hex = |length| made_up("0123456789abcdef", length);
    let part = |json: &str| {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        URL_SAFE_NO_PAD.encode(json)
    };
    vec![
        ("tailops-token", format!("tailops_k1.{}.{}", part(r#"{"jti":"x","subject":"agent"}"#), word(43))),
        ("tailops-token", format!("{}_{}A", "bg", word(42))),
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
        ("password-hash", format!("${}$10${}", "2b", word(53))),
        ("webhook-url", format!("{}.slack.com/services/T{}/B{}/{}", "hooks", upper(8), upper(8), word(24))),
        ("google-key", format!("{}-{}", "GOCSPX", word(28))),
        ("google-key", format!("{}.{}", "ya29", word(60))),
        ("gitlab-token", format!("{}-{}", "glrt", word(20))),
        ("slack-token", format!("{}-1-{}-{}", "xapp", upper(10), word(30))),
        ("pypi-token", format!("{}-{}{}", "pypi", "AgE", word(60))),
        ("docker-token", format!("{}_{}_{}", "dckr", "pat", word(27))),
        ("age-key", format!("{}-{}-1{}", "AGE-SECRET", "KEY", upper(58))),
        ("digitalocean-token", format!("{}_v1_{}", "dop", hex(64))),
        ("sendgrid-key", format!("{}.{}.{}", "SG", word(22), word(43))),
        ("mailgun-key", format!("{}-{}", "key", hex(32))),
        ("twilio-key", format!("{}{}", "SK", hex(32))),
        ("databricks-token", format!("{}{}", "dapi", hex(32))),
        ("grafana-token", format!("{}_{}_{}", "glsa", word(32), hex(8))),
        ("shopify-token", format!("{}_{}", "shpat", hex(32))),
        ("postman-key", format!("{}-{}-{}", "PMAK", hex(24), hex(34))),
        ("newrelic-key", format!("{}-{}", "NRAK", upper(27))),
        ("linear-key", format!("{}_api_{}", "lin", word(40))),
        ("supabase-key", format!("{}_{}", "sbp", hex(40))),
        ("heroku-key", format!("{}-{}", "HRKU", word(36))),
        ("rubygems-key", format!("{}_{}", "rubygems", hex(48))),
        ("ai-key", format!("{}_{}", "hf", word(34))),
        ("telegram-token", format!("{}:{}{}", made_up("123456789", 10), "AA", word(33))),
        ("terraform-token", format!("{}.{}.{}", word(14), "atlasv1", word(60))),
        ("azure-key", format!("{}8{}{}", word(3), "Q~", word(34))),
    ]
}

/// How many of each kind were found.
type Counts = BTreeMap<String, usize>;

/// Every token in every shape.
fn count_tokens() -> Counts {
    let mut counts = Counts::new();
    for (kind, token) in tokens() {
        for shape in lines(SHAPES) {
            let text = shape.replace("{}", &token).replace("\\n", "\n");
            let cleaned = guard().text(&text);
            assert!(!cleaned.text.contains(&token), "{text}\n{}", cleaned.text);
            assert_eq!(cleaned.redactions.get(kind), Some(&1), "{text}\n{}\n{:?}", cleaned.text, cleaned.redactions);
            *counts.entry(kind.to_owned()).or_default() += 1;
        }
    }
    counts
}

/// Every token, wrapped in base64 in several ways, in every shape that does not end inside a word.
fn count_wrapped() -> usize {
    use base64::{
        Engine,
        engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
    };
    let mut count = 0;
    for (kind, token) in tokens() {
        let wide: Vec<u8> = token.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let line = STANDARD.encode(format!("user=x\nvalue={token}\nmore lines that follow\n").repeat(3));
        let folded: Vec<&str> = line.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
        for wrapped in [
            STANDARD.encode(&token),
            URL_SAFE_NO_PAD.encode(&token),
            STANDARD.encode(format!("x {token} y")),
            STANDARD.encode(STANDARD.encode(&token)),
            STANDARD.encode(wide),
            folded.join("\n"),
            folded.join("\n    "),
        ] {
            for shape in
                ["{}", "data: {}", "{\"data\":\"{}\"}", "Nov 21 web1 app[1]: got {}\nfrom x", "  blob: {}\nnext: 1"]
            {
                let cleaned = guard().text(&shape.replace("{}", &wrapped));
                let left = wrapped.lines().any(|line| cleaned.text.contains(line.trim()));
                assert!(!left, "{kind} {shape}\n{wrapped}\n{}", cleaned.text);
                assert!(cleaned.redactions.contains_key(kind), "{kind} {:?}", cleaned.redactions);
                count += 1;
            }
        }
    }
    count
}

#[test]
fn tokens_are_found_in_every_shape() {
    let counts = count_tokens();
    let count: usize = counts.values().sum();
    assert!(count >= 1000 && counts.len() >= 30, "{count} {}", counts.len());
    print(format_args!("tokens by form: {count} found of {count}"));
}

#[test]
fn tokens_are_found_inside_base64() {
    let count = count_wrapped();
    assert!(count >= 1000, "{count}");
    print(format_args!("tokens in base64: {count} found of {count}"));
}

#[expect(clippy::print_stdout, reason = "the counts are for the reader of the test run")]
fn print(line: std::fmt::Arguments<'_>) {
    println!("{line}");
}

/// What stands in ⟦ ⟧ in `line`, and the line without those brackets.
fn marked(line: &str) -> (Vec<&str>, String) {
    let secrets: Vec<&str> =
        line.split('⟦').skip(1).filter_map(|part| part.split_once('⟧').map(|(secret, _)| secret)).collect();
    assert!(!secrets.is_empty(), "{line}");
    (secrets, line.replace(['⟦', '⟧'], ""))
}

fn count_personal() -> Counts {
    let mut counts = Counts::new();
    let mut missed = Vec::new();
    for line in lines(PERSONAL) {
        let (kind, line) = line.split_once('\t').expect("a tab");
        let (values, text) = marked(line);
        let cleaned = guard().text(&text);
        let replaced = values.iter().enumerate().fold(line.to_owned(), |line, (index, value)| {
            line.replacen(&format!("⟦{value}⟧"), &format!("‹pii:{kind}#{}›", index + 1), 1)
        });
        if cleaned.text != replaced {
            missed.push(format!("{text}\n   -> {}", cleaned.text));
        }
        *counts.entry(kind.to_owned()).or_default() += values.len();
    }
    assert!(missed.is_empty(), "{}:\n{}", missed.len(), missed.join("\n"));
    counts
}

#[test]
fn personal_data_is_found() {
    let counts = count_personal();
    assert!(counts.values().all(|count| *count >= 10) && counts.len() == 4, "{counts:?}");
    print(format_args!("personal data: all found of {counts:?}"));
}

fn count_injection() -> Counts {
    let mut counts = Counts::new();
    let mut missed = Vec::new();
    for line in lines(INJECTION) {
        let (name, text) = line.split_once('\t').expect("a tab");
        let text = text.replace("\\n", "\n");
        let cleaned = guard().text(&text);
        if !cleaned.injection.iter().any(|found| found.marker == name) {
            missed.push(format!("{name}: {text}\n   -> {:?}", cleaned.injection));
        }
        assert!(
            ["<|", "[INST]", "[/INST]", "<<SYS>>"].iter().all(|token| !cleaned.text.contains(token)),
            "{}",
            cleaned.text
        );
        *counts.entry(name.to_owned()).or_default() += 1;
    }
    assert!(missed.is_empty(), "{}:\n{}", missed.len(), missed.join("\n"));
    counts
}

#[test]
fn injection_is_flagged_and_ordinary_lines_are_not() {
    let counts = count_injection();
    let mut flagged = Vec::new();
    let ordinary = lines(NOT_INJECTION).chain(lines(PRECISION));
    let number = ordinary
        .map(|line| line.replace("\\n", "\n"))
        .inspect(|text| {
            let cleaned = guard().text(text);
            if !cleaned.injection.is_empty() {
                flagged.push(format!("{text}\n   -> {:?}", cleaned.injection));
            }
        })
        .count();
    assert!(flagged.is_empty(), "{}:\n{}", flagged.len(), flagged.join("\n"));
    print(format_args!("injection: all flagged of {counts:?}, none of {number} ordinary lines"));
}

/// The secrets of real lines, by the kind they were found as.
fn count_named() -> Counts {
    let mut counts = Counts::new();
    let mut missed = Vec::new();
    for line in lines(RECALL) {
        let line = line.replace('~', "").replace("\\n", "\n");
        let (secrets, text) = marked(&line);
        let cleaned = guard().text(&text);
        // What stands around the secrets must stay.
        let mut left = cleaned.text.as_str();
        let kept = line.split('⟦').map(|piece| piece.split_once('⟧').map_or(piece, |(_, after)| after)).all(|piece| {
            let found = left.find(piece);
            left = found.map_or(left, |at| &left[at + piece.len()..]);
            found.is_some()
        });
        let found: u32 = cleaned.redactions.values().sum();
        if !kept || secrets.iter().any(|secret| cleaned.text.contains(*secret)) || found == 0 {
            missed.push(format!("{text}\n   -> {}", cleaned.text));
        }
        // One line may hold several secrets of which two stand in one placeholder.
        let kind = cleaned.redactions.keys().find(|kind| **kind != "control").copied().unwrap_or_default();
        *counts.entry(kind.to_owned()).or_default() += secrets.len();
    }
    assert!(missed.is_empty(), "{}:\n{}", missed.len(), missed.join("\n"));
    counts
}

#[test]
fn named_secrets_are_found() {
    let counts = count_named();
    let count: usize = counts.values().sum();
    assert!(count >= 250, "{count}");
    print(format_args!("named secrets: {count} found of {count}"));
}

/// The counts as they stand in docs/guard.md, so that the page cannot claim what was not found.
#[test]
fn the_page_tells_the_counts() {
    let (tokens, named, personal, injection) = (count_tokens(), count_named(), count_personal(), count_injection());
    let sum = |counts: &Counts| counts.values().sum::<usize>();
    let mut table = String::from("| corpus | texts | found |\n|---|---|---|\n");
    for (name, count) in [
        ("tokens by form, in log shapes", sum(&tokens)),
        ("tokens inside base64", count_wrapped()),
        ("secrets by name and place", sum(&named)),
        ("personal data", sum(&personal)),
        ("texts that pose as instructions", sum(&injection)),
    ] {
        table += &format!("| {name} | {count} | {count} |\n");
    }
    table += &format!("| ordinary lines that must stay | {} | 0 |\n", lines(PRECISION).count());
    table += &format!(
        "| ordinary lines that must not be flagged | {} | 0 |\n\n",
        lines(PRECISION).chain(lines(NOT_INJECTION)).count()
    );
    table += "| kind | in log shapes | in lines of their own |\n|---|---|---|\n";
    let kinds = tokens.keys().chain(named.keys()).chain(personal.keys()).collect::<std::collections::BTreeSet<_>>();
    for kind in kinds {
        let count = |counts: &Counts| counts.get(kind).copied().unwrap_or(0);
        table += &format!("| `{kind}` | {} | {} |\n", count(&tokens), count(&named) + count(&personal));
    }
    table += "\n| marker | texts |\n|---|---|\n";
    table += &injection.iter().map(|(name, count)| format!("| `{name}` | {count} |\n")).collect::<String>();
    let page = include_str!("../../docs/guard.md");
    assert!(page.contains(&table), "docs/guard.md must hold this:\n{table}");
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
    assert!(count >= 330, "{count}");
    print(format_args!("ordinary lines: {count} unchanged of {count}"));
}

#[test]
fn every_listed_text_is_guarded_once() {
    for line in [RECALL, PRECISION, PERSONAL, INJECTION, NOT_INJECTION].into_iter().flat_map(lines) {
        let once = guard().text(&line.replace(['⟦', '⟧'], ""));
        let twice = guard().text(&once.text);
        assert_eq!(twice.text, once.text);
        assert!(twice.redactions.keys().all(|kind| *kind == "injection"), "{}", once.text);
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
        let cleaned = Guard::new(limits, &config::Guard::default()).text(&text);
        assert!(cleaned.text.len() <= 8 << 20);
    }
}

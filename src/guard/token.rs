//! Tokens that are known by their own form, whatever stands around them. Answers for where they begin and end; the forms
//! are those the issuers publish.

use std::{ops::Range, sync::LazyLock};

use regex::Regex;

use super::secret::{Rank, Span};

/// Tokens of one kind.
pub(super) struct Form {
    /// What they are.
    pub(super) kind: &'static str,
    /// What each begins with, in any case: what [`Form::pattern`] matches begins with one of these.
    pub(super) anchors: &'static [&'static str],
    /// The whole token. Fails within a bounded number of bytes or matches, so that a text costs no more than its length.
    pattern: &'static str,
    /// Whether it may not follow right on a letter or digit.
    apart: bool,
}

const fn form(kind: &'static str, anchors: &'static [&'static str], pattern: &'static str) -> Form {
    Form { kind, anchors, pattern, apart: false }
}

const fn apart(kind: &'static str, anchors: &'static [&'static str], pattern: &'static str) -> Form {
    Form { kind, anchors, pattern, apart: true }
}

/// Every form.
pub(super) const FORMS: &[Form] = &[
    form("tailops-token", &["tailops_"], r"tailops_[A-Za-z0-9_-]{1,64}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}"),
    // A break-glass credential: 32 bytes, so the last letter holds four bits.
    form("tailops-token", &["bg_"], r"bg_[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]"),
    form("tailscale-key", &["tskey-"], r"tskey-[A-Za-z0-9-]{10,}"),
    apart("aws-key", &["AKIA", "ASIA", "ABIA", "ACCA"], r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?-u:\b)"),
    form(
        "github-token",
        &["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"],
        r"gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}",
    ),
    form(
        "gitlab-token",
        &["glpat-", "gldt-", "glrt-", "glcbt-", "glptt-", "glft-", "glagent-", "gloas-", "glsoat-", "glimt-"],
        r"gl(?:pat|dt|rt|cbt|ptt|ft|agent|oas|soat|imt)-[A-Za-z0-9_.-]{16,}",
    ),
    form(
        "slack-token",
        &["xoxa-", "xoxb-", "xoxc-", "xoxd-", "xoxe-", "xoxe.", "xoxo-", "xoxp-", "xoxr-", "xoxs-", "xapp-"],
        r"xox[a-z][.-][A-Za-z0-9.%+/-]{10,}|xapp-[0-9]-[A-Za-z0-9-]{10,}",
    ),
    form(
        "webhook-url",
        &["hooks.slack.com/", "discord.com/api/webhooks/", "discordapp.com/api/webhooks/", "webhook.office.com/"],
        r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/]{20,}|discord(?:app)?\.com/api/webhooks/[0-9]{15,}/[A-Za-z0-9_-]{30,}|webhook\.office\.com/webhookb2/[A-Za-z0-9@/-]{40,}",
    ),
    form("google-key", &["AIza", "GOCSPX-"], r"AIza[A-Za-z0-9_-]{35}|GOCSPX-[A-Za-z0-9_-]{20,}"),
    apart("google-key", &["ya29."], r"ya29\.[A-Za-z0-9_-]{20,}"),
    apart(
        "azure-key",
        &["sig="],
        r"sig=[A-Za-z0-9+/]{20,}(?:%2[BbFf][A-Za-z0-9+/%]{0,60})?(?:%3[Dd]|=)|sig=[A-Za-z0-9+/%]{40,}",
    ),
    form(
        "stripe-key",
        &["sk_live_", "sk_test_", "rk_live_", "rk_test_", "pk_live_", "whsec_"],
        r"[srp]k_(?:live|test)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/=]{20,}",
    ),
    apart("ai-key", &["sk-"], r"sk-(?:(?:ant|proj|svcacct|admin|or|lf)-[A-Za-z0-9_-]{16,}|[A-Za-z0-9]{20,})"),
    apart(
        "ai-key",
        &["hf_", "gsk_", "r8_", "xai-"],
        r"hf_[A-Za-z0-9]{30,}|gsk_[A-Za-z0-9]{40,}|r8_[A-Za-z0-9]{36,}|xai-[A-Za-z0-9]{40,}",
    ),
    form("npm-token", &["npm_"], r"npm_[A-Za-z0-9]{36}"),
    form("pypi-token", &["pypi-AgE"], r"pypi-AgE[A-Za-z0-9_-]{30,}"),
    form("rubygems-key", &["rubygems_"], r"rubygems_[0-9a-f]{48}"),
    form("docker-token", &["dckr_pat_", "dckr_oat_"], r"dckr_[po]at_[A-Za-z0-9_-]{20,}"),
    apart("vault-token", &["hvs.", "hvb.", "hvr."], r"hv[sbr]\.[A-Za-z0-9_-]{20,}"),
    form("terraform-token", &[".atlasv1."], r"\.atlasv1\.[A-Za-z0-9_=-]{40,}"),
    form("age-key", &["AGE-SECRET-KEY-1"], r"AGE-SECRET-KEY-1[0-9A-Z]{40,}"),
    form("digitalocean-token", &["dop_v1_", "doo_v1_", "dor_v1_"], r"do[por]_v1_[0-9a-f]{40,}"),
    apart("sendgrid-key", &["SG."], r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{30,}"),
    apart("mailgun-key", &["key-"], r"key-[0-9a-f]{32}(?-u:\b)"),
    apart("twilio-key", &["SK"], r"SK[0-9a-f]{32}(?-u:\b)"),
    apart("databricks-token", &["dapi"], r"dapi[0-9a-f]{32}(?:-[0-9])?(?-u:\b)"),
    form("grafana-token", &["glsa_", "glc_"], r"glsa_[A-Za-z0-9]{32}_[0-9a-f]{8}|glc_[A-Za-z0-9+/]{32,}={0,2}"),
    form("shopify-token", &["shpat_", "shpca_", "shppa_", "shpss_"], r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"),
    form("atlassian-token", &["ATATT3"], r"ATATT3[A-Za-z0-9_=-]{40,}"),
    form("postman-key", &["PMAK-"], r"PMAK-[0-9a-f]{24}-[0-9a-f]{34}"),
    form("newrelic-key", &["NRAK-"], r"NRAK-[A-Z0-9]{27}"),
    form("sentry-token", &["sntrys_", "sntryu_"], r"sntry[su]_[A-Za-z0-9_+/=-]{30,}"),
    form("linear-key", &["lin_api_"], r"lin_api_[A-Za-z0-9]{32,}"),
    form(
        "doppler-token",
        &["dp.pt.", "dp.st.", "dp.ct.", "dp.sa."],
        r"dp\.(?:pt|st|ct|sa)\.(?:[a-z0-9_-]{1,32}\.)?[A-Za-z0-9]{32,}",
    ),
    form("supabase-key", &["sbp_"], r"sbp_[0-9a-f]{40}"),
    form("heroku-key", &["HRKU-"], r"HRKU-[A-Za-z0-9_-]{30,}"),
    apart("fly-token", &["fm1r_", "fm2_"], r"fm(?:1r|2)_[A-Za-z0-9+/=_-]{40,}"),
    form("firebase-key", &[":APA91b"], r":APA91b[A-Za-z0-9_-]{60,}"),
    form("telegram-token", &[":AA"], r":AA[A-Za-z0-9_-]{33}(?-u:\b)"),
    form(
        "password-hash",
        &[
            "$1$", "$5$", "$6$", "$7$", "$y$", "$gy$", "$2a$", "$2b$", "$2x$", "$2y$", "$argon2", "$apr1$", "$scrypt$",
            "$pbkdf2",
        ],
        r"\$(?:1|5|6|7|y|gy|2[abxy]|argon2(?:id|i|d)|apr1|scrypt|pbkdf2(?:-sha(?:1|256|512))?)\$[./A-Za-z0-9$=,+]{20,}",
    ),
    form(
        "password-hash",
        &["{SSHA", "{SMD5}", "pbkdf2_sha256$"],
        r"\{(?:SSHA(?:256|512)?|SMD5)\}[A-Za-z0-9+/]{20,}={0,2}|pbkdf2_sha256\$[0-9]{1,9}\$[A-Za-z0-9+/$]{30,}={0,2}",
    ),
    form("azure-key", &["Q~"], r"Q~[A-Za-z0-9_.~-]{31,34}"),
];

#[expect(clippy::expect_used, reason = "the patterns are constants; every test compiles them")]
static PATTERNS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let regex = |form: &Form| Regex::new(&format!(r"\A(?:{})", form.pattern)).expect("a valid pattern");
    FORMS.iter().map(regex).collect()
});

/// The token of form `index` whose anchor starts at `start`.
pub(super) fn at(text: &str, index: usize, start: usize) -> Option<Span> {
    let form = FORMS.get(index)?;
    let before = text.as_bytes().get(start.wrapping_sub(1)).copied().unwrap_or(b' ');
    if form.apart && (before.is_ascii_alphanumeric() || before == b'_') {
        return None;
    }
    let found = PATTERNS.get(index)?.find(text.get(start..)?)?;
    let mut range = start..start + found.end();
    match form.kind {
        // The parameter's name stays.
        "azure-key" if form.apart => range.start += "sig=".len(),
        // The parts before the anchor belong to the token.
        "telegram-token" => range.start -= digits_before(text, start).filter(|digits| *digits >= 8)?,
        "firebase-key" | "terraform-token" => range.start -= word_before(text, start),
        "azure-key" => range.start -= Some(word_before(text, start)).filter(|word| *word >= 3)?.min(4),
        _ => {}
    }
    Some(Span { range, kind: form.kind, rank: Rank::Token })
}

fn digits_before(text: &str, at: usize) -> Option<usize> {
    let head = text.as_bytes().get(..at)?;
    Some(head.iter().rev().take(12).take_while(|byte| byte.is_ascii_digit()).count())
}

fn word_before(text: &str, at: usize) -> usize {
    let head = text.as_bytes().get(..at).unwrap_or_default();
    head.iter().rev().take(64).take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')).count()
}

/// The secret access key right behind an access key id, as in a list of credentials without names.
pub(super) fn aws_secret_behind(text: &str, id: &Range<usize>) -> Option<Span> {
    const FAR: usize = 24;
    let behind = text.as_bytes().get(id.end..)?;
    let gap = behind.iter().take(FAR).take_while(|byte| !key_byte(**byte)).count();
    let key = behind.get(gap..)?;
    let length = key.iter().take(41).take_while(|byte| key_byte(**byte)).count();
    let key = key.get(..length).filter(|key| key.len() == 40)?;
    let has = |is: fn(&u8) -> bool| key.iter().any(is);
    let mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit);
    let start = id.end + gap;
    mixed.then_some(Span { range: start..start + length, kind: "aws-secret", rank: Rank::Token })
}

fn key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

/// Finds JWTs. Remembers the dots of the word it looked at last, so that many beginnings in one word cost one pass.
#[derive(Default)]
pub(super) struct Jwts {
    word: Range<usize>,
    dots: Vec<usize>,
}

impl Jwts {
    /// The JWT that starts at `start`: two to four dots, the part before the first at least 13 bytes long.
    pub(super) fn at(&mut self, text: &str, start: usize) -> Option<Span> {
        let rest = text.as_bytes().get(start..)?;
        if !rest.starts_with(b"eyJ") {
            return None;
        }
        if start >= self.word.end {
            let member = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
            let length = rest.iter().take_while(|byte| member(byte)).count();
            self.word = start..start + length;
            let dots = rest.iter().take(length).enumerate().filter(|(_, byte)| **byte == b'.');
            self.dots = dots.map(|(at, _)| start + at).collect();
        }
        let first = self.dots.partition_point(|dot| *dot < start);
        let dots = self.dots.get(first..)?;
        let end = dots.get(4).copied().unwrap_or(self.word.end);
        (dots.len() >= 2 && dots.first()? - start >= 13).then_some(Span {
            range: start..end,
            kind: "jwt",
            rank: Rank::Token,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_begins_with_one_of_its_anchors() {
        for form in FORMS {
            for anchor in form.anchors {
                assert!(anchor.len() >= 2 && anchor.is_ascii(), "{anchor}");
            }
        }
        assert_eq!(PATTERNS.len(), FORMS.len());
    }

    #[test]
    fn many_beginnings_in_one_word_cost_one_pass() {
        let text = "eyJ".repeat(200_000);
        let mut jwts = Jwts::default();
        assert!((0..text.len()).step_by(3).all(|at| jwts.at(&text, at).is_none()));
        assert_eq!(jwts.word, 0..text.len());
    }
}

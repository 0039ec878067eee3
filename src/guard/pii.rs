//! Personal data that is known by its form: e-mail addresses, phone numbers, IBANs and card numbers. Answers for taking
//! out what has the form and the check digits; never takes a number for personal because it is long.

mod account;
mod card;
mod email;
mod phone;

use std::borrow::Cow;

use super::{
    PiiSettings,
    secret::{Rank, Span},
    sweep::{Anchor, Sweep},
};

/// The kinds there are, by their names in placeholders, counts and settings.
pub(super) const KINDS: &[&str] = &["email", "phone", "iban", "card"];

/// Names that tell of a phone number behind them.
pub(super) const PHONE_NAMES: &[&str] = &["phone", "telefon", "tel", "mobile", "msisdn", "fax", "whatsapp"];

/// Adds the personal data of `text` that `pii` does not keep. `sweep` is the text's own.
pub(super) fn find(text: &str, sweep: &Sweep, pii: PiiSettings, spans: &mut Vec<Span>) {
    let mut add = |range, kind| spans.push(Span { range, kind, rank: Rank::Personal });
    let (mut emails, mut phones) = (0, 0);
    for at in &sweep.signs {
        if pii.email
            && *at >= emails
            && let Some(range) = email::at(text, *at)
        {
            emails = range.end;
            add(range, "email");
        } else if pii.phone
            && *at >= phones
            && let Some(range) = phone::international(text, *at)
        {
            phones = range.end;
            add(range, "phone");
        }
    }
    if pii.phone {
        let names = sweep.hits.iter().filter(|hit| hit.anchor == Anchor::Phone);
        for range in names.filter_map(|hit| phone::named(text, hit.start, hit.end)) {
            add(range, "phone");
        }
    }
    if pii.iban {
        for range in sweep.ibans.iter().filter_map(|at| account::at(text, *at)) {
            add(range, "iban");
        }
    }
    for stretch in &sweep.digits {
        if pii.card {
            card::find(text, stretch.clone(), |range| add(range, "card"));
        }
        if pii.phone {
            phone::grouped(text, stretch.clone(), |range| add(range, "phone"));
        }
    }
}

/// The kind of personal data that the whole of `value` is under a field of this name.
pub(super) fn field(name: &str, value: &str, pii: PiiSettings) -> Option<&'static str> {
    let telling = |names: &[&str]| {
        let lower = name.to_ascii_lowercase();
        let last = lower.rsplit(|c: char| !c.is_ascii_alphanumeric()).find(|word| !word.is_empty()).unwrap_or_default();
        names.iter().any(|known| last.ends_with(known))
            || lower.strip_suffix("number").or(lower.strip_suffix("_no")).is_some_and(|head| {
                let head = head.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
                names.iter().any(|known| head.ends_with(known))
            })
    };
    if pii.phone && telling(PHONE_NAMES) && phone::national(value) {
        return Some("phone");
    }
    (pii.card && telling(card::NAMES) && card::whole(value)).then_some("card")
}

/// One spelling of a value, so that two spellings of it get the same number.
pub(super) fn canonical(value: &str) -> Cow<'_, str> {
    let value = value.to_lowercase().replace("%40", "@").replace("%2b", "+");
    Cow::Owned(if value.contains('@') { value } else { value.chars().filter(|c| c.is_alphanumeric()).collect() })
}

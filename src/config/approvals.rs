//! `[approvals]`: who may say yes where the tailnet policy does not tell, how strong a yes must be, how long a question
//! stays open, and who is told of it. Reads no secret: it names the files that hold them.

mod hooks;

use std::{collections::BTreeSet, num::NonZeroU32, ops::RangeInclusive, path::PathBuf, time::Duration};

use super::{
    Profile,
    section::{Section, Value},
    settings::{add_new, is_origin},
};
use crate::model::Strength;

/// Who may say yes to operations that need it, and how they are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approvals {
    /// The logins that may approve where no rules of a tailnet policy say who may: on loopback, on the gateway's own
    /// host, and for peers without rules where `tailnet.grants` is optional.
    pub approvers: BTreeSet<String>,
    /// How long a question stays open.
    pub ttl: Duration,
    /// Whether somebody else than whoever asked has to agree. Only with signatures may it be the same person.
    pub second_person: bool,
    /// The least strength of a yes; site policy can ask for more.
    pub strength: Strength,
    /// The most open questions of one token.
    pub max_pending_per_token: NonZeroU32,
    /// The most open questions.
    pub max_pending: NonZeroU32,
    /// Where people reach the gateway, told to whoever asks, e.g. `https://tailops.example.ts.net`; none means that the
    /// gateway finds out.
    pub url: Option<String>,
    /// Programs that decide for a person.
    pub webhooks: Vec<Webhook>,
    /// Who is told.
    pub notify: Vec<Notify>,
}

/// A program that is asked over HTTP and answers by a call of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Its name in the gateway's API and log.
    pub name: String,
    /// Where it is asked.
    pub url: String,
    /// Holds the shared secret.
    pub secret_file: PathBuf,
    /// The person it decides as.
    pub identity: String,
}

/// Somebody who is told of questions, and cannot answer this way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// Its name in the gateway's log and report.
    pub name: String,
    /// Where.
    pub url: String,
    /// In which form.
    pub form: NotifyForm,
    /// Holds a bearer token, where one is wanted.
    pub token_file: Option<PathBuf>,
}

/// The form of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotifyForm {
    /// A JSON object.
    Json,
    /// Text with the headers of ntfy (ntfy.sh/docs/publish).
    Ntfy,
}

impl Approvals {
    /// Whether `approvers` names `login`. Logins are the same that differ at most in the case of ASCII letters: a letter
    /// that only looks like another, or that Unicode folds into it, is another letter.
    pub fn names(&self, login: &str) -> bool {
        self.approvers.iter().any(|named| named.eq_ignore_ascii_case(login))
    }
}

impl Default for Approvals {
    fn default() -> Self {
        const fn times(count: u32) -> NonZeroU32 {
            NonZeroU32::MIN.saturating_add(count - 1)
        }
        Self {
            approvers: BTreeSet::new(),
            ttl: Duration::from_mins(15),
            second_person: true,
            strength: Strength::Identity,
            max_pending_per_token: times(10),
            max_pending: times(200),
            url: None,
            webhooks: Vec::new(),
            notify: Vec::new(),
        }
    }
}

/// How long a question may stay open.
const TTL: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(24);

/// The section.
pub(super) fn approvals(root: &mut Section<'_>, profile: Profile) -> Approvals {
    let mut section = root.section("approvals");
    let default = Approvals::default();
    let approvers = section.value("approvers").map(|value| people(&value)).unwrap_or_default();
    let ttl = section.duration("ttl", default.ttl, TTL);
    let strengths = [Strength::Identity, Strength::Signature].map(|strength| (strength.as_str(), strength));
    let strength = section.value("strength").and_then(|value| value.choice(&strengths)).unwrap_or(default.strength);
    let second_person = section.flag("second_person", default.second_person);
    if !second_person {
        // An agent has the network identity of the machine it runs on, but not the key of its user.
        if strength != Strength::Signature {
            section.refuse(
                "second_person",
                "may be false only together with approvals.strength = \"signature\": an agent on its user's own machine \
                 has that user's identity, but not their key",
            );
        } else if profile == Profile::Maximum {
            section.refuse("second_person", "profile maximum refuses false: somebody else has to agree");
        }
    }
    let max = section.number("max_pending", default.max_pending.get(), 1..=10_000);
    let of_token = default.max_pending_per_token.get().min(max);
    let of_token = section.number("max_pending_per_token", of_token, 1..=max);
    let url = section.value("url").and_then(|value| origin(&value));
    let (webhooks, notify) = (hooks::webhooks(&mut section), hooks::notify(&mut section));
    let approvals = Approvals {
        approvers,
        ttl,
        second_person,
        strength,
        max_pending_per_token: NonZeroU32::new(of_token).unwrap_or(NonZeroU32::MIN),
        max_pending: NonZeroU32::new(max).unwrap_or(NonZeroU32::MIN),
        url,
        webhooks,
        notify,
    };
    section.finish();
    approvals
}

/// Logins and names of local users, each once however it is written.
fn people(value: &Value<'_>) -> BTreeSet<String> {
    const WANTED: &str = "a login such as \"maria@example.org\", or on the gateway's own machine the name of a local user such as \"maria\"";
    let (mut people, mut folded) = (BTreeSet::new(), Vec::new());
    for item in value.items("logins").unwrap_or_default() {
        match item.text(WANTED) {
            Some(text) if is_login(text) => {
                add_new(&mut folded, text.to_lowercase(), &item);
                people.insert(text.to_owned());
            }
            Some(text) => item.refuse(format_args!("{text:?} must be {WANTED}")),
            None => {}
        }
    }
    people
}

/// What a tailnet or a passwd database may call somebody. A tag is nobody, and `uid:` says that there is no name.
fn is_login(text: &str) -> bool {
    (1..=254).contains(&text.len())
        && !text.chars().any(|letter| letter.is_whitespace() || letter.is_control() || letter == ':')
}

fn origin(value: &Value<'_>) -> Option<String> {
    const WANTED: &str =
        "scheme, host in lower case and optional port alone, such as \"https://tailops.example.ts.net\"";
    let text = value.text(WANTED)?;
    if is_origin(text) {
        return Some(text.to_owned());
    }
    value.refuse(format_args!("{text:?} must be {WANTED}"));
    None
}

#[cfg(test)]
mod tests;

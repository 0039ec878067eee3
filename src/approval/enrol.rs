//! Which keys' signatures count: enrolling one and taking one out, each agreed to by people as any critical operation is.
//! Only the very first key needs nobody's yes, and only from the gateway's own host, where whoever asks could write the
//! database as well. Looks into no signature.

use serde_json::{Map, Value};

use super::{
    Act, Approvals, Asked, Event, NoRight, Person, Place, Undecided,
    approver_key::{ApproverKey, UnfitKey},
    person::folded,
    right::{is_approver, people_of},
    signed::KIND,
};
use crate::{
    config,
    model::CorrelationId,
    store::{ApproverKeyRow, StoreError},
};

/// The longest label, in characters.
const LONGEST_LABEL: usize = 100;
/// The longest login, in bytes.
const LONGEST_LOGIN: usize = 255;

/// A key that somebody wants to count.
#[derive(Clone, Debug)]
pub struct Enrolment {
    /// Whose.
    pub login: String,
    /// One line of OpenSSH.
    pub public_key: String,
    /// For people: one line of at most 100 characters.
    pub label: String,
}

/// What came of a wish about keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyWish {
    /// It is done.
    Done,
    /// People were asked.
    Asked(Box<Asked>),
}

/// Why a key cannot be enrolled or taken out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyTrouble {
    /// The text is no key that counts.
    #[error("`public_key` {0}")]
    Unfit(#[from] UnfitKey),
    /// It counts already.
    #[error("the key {key_id} is enrolled already, for {login}")]
    Enrolled {
        /// Which.
        key_id: String,
        /// Whose.
        login: String,
    },
    /// It counted once.
    #[error("the key {0} was taken out, and what was taken out does not come back: make another key")]
    TakenOut(String),
    /// There is no such key.
    #[error("no key {0} is enrolled")]
    Unknown(String),
    /// Somebody else's.
    #[error("this is not your login: only on the gateway's own host can a key be asked for that is somebody else's")]
    NotOwn,
}

impl KeyTrouble {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unfit(_) => "invalid_arguments",
            Self::Enrolled { .. } => "key_enrolled",
            Self::TakenOut(_) => "key_taken_out",
            Self::Unknown(_) => "key_unknown",
            Self::NotOwn => "not_your_login",
        }
    }
}

impl Approvals {
    /// Asks people whether signatures of a key may count, on the word of `by`, for `by`'s own login; on the gateway's own
    /// host for any login. The first key that ever was is enrolled there at once.
    pub async fn enrol_key(
        &self,
        settings: &config::Approvals,
        by: &Person,
        wanted: &Enrolment,
        correlation: CorrelationId,
    ) -> Result<KeyWish, Undecided> {
        let on_host = may_ask(settings, by)?;
        let login = wanted.login.as_str();
        if !(1..=LONGEST_LOGIN).contains(&login.len()) || login.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(Undecided::Invalid { field: "login", wanted: "must be a login, as whoami shows it" });
        }
        if wanted.label.chars().count() > LONGEST_LABEL || wanted.label.chars().any(char::is_control) {
            return Err(Undecided::Invalid { field: "label", wanted: "must be one line of at most 100 characters" });
        }
        if !on_host && folded(login) != by.folded() {
            return Err(KeyTrouble::NotOwn.into());
        }
        let key = ApproverKey::parse(&wanted.public_key).map_err(KeyTrouble::from)?;
        let act = Act::EnrolKey {
            key_id: key.id(),
            login: login.to_owned(),
            kind: KIND.to_owned(),
            public_key: key.line(),
            // Others read it.
            label: self.recorder.cleaned(&wanted.label),
        };
        let turn = self.turn.lock().await;
        let ever = self.store.approver_keys().await?;
        if let Some(known) = ever.iter().find(|row| row.key_id == key.id()) {
            return Err(match known.removed_at {
                None => KeyTrouble::Enrolled { key_id: key.id(), login: known.login.clone() }.into(),
                Some(_) => KeyTrouble::TakenOut(key.id()).into(),
            });
        }
        if ever.is_empty() && on_host {
            self.enrol_first(by, &act, correlation).await?;
            return Ok(KeyWish::Done);
        }
        drop(turn);
        self.ask_act(settings, by, &act, correlation).await.map(|asked| KeyWish::Asked(Box::new(asked)))
    }

    /// Asks people whether signatures of the key `key_id` may count no more, on the word of `by`.
    pub async fn remove_key(
        &self,
        settings: &config::Approvals,
        by: &Person,
        key_id: &str,
        correlation: CorrelationId,
    ) -> Result<KeyWish, Undecided> {
        let on_host = may_ask(settings, by)?;
        let key = self.store.approver_key(key_id).await?;
        let unknown = || KeyTrouble::Unknown(key_id.chars().filter(|c| !c.is_control()).take(100).collect());
        let key = key.ok_or_else(unknown)?;
        if !on_host && folded(&key.login) != by.folded() {
            return Err(KeyTrouble::NotOwn.into());
        }
        let act = Act::RemoveKey { key_id: key.key_id, login: key.login };
        self.ask_act(settings, by, &act, correlation).await.map(|asked| KeyWish::Asked(Box::new(asked)))
    }

    /// The keys that count and that `by` may see: an approver and whoever is on the gateway's own host every one, others
    /// their own.
    pub async fn keys_seen_by(
        &self,
        settings: &config::Approvals,
        by: &Person,
    ) -> Result<Vec<ApproverKeyRow>, StoreError> {
        let all = may_ask(settings, by).is_ok();
        let keys = self.store.approver_keys().await?.into_iter();
        Ok(keys.filter(|key| key.removed_at.is_none() && (all || folded(&key.login) == by.folded())).collect())
    }

    /// Whether `login` could use a key: something gives them the right to say yes, as far as is known now.
    pub async fn could_approve(&self, settings: &config::Approvals, login: &str) -> bool {
        let login = folded(login);
        settings.names(&login)
            || people_of(&*self.node).await.iter().any(|other| other.folded() == login && is_approver(settings, other))
    }

    /// Enrols the first key, on record before and after.
    async fn enrol_first(&self, by: &Person, act: &Act, correlation: CorrelationId) -> Result<(), Undecided> {
        let Act::EnrolKey { key_id, login, kind, public_key, label } = act else { return Err(Undecided::Impossible) };
        let row = ApproverKeyRow {
            key_id: key_id.clone(),
            login: login.clone(),
            kind: kind.clone(),
            public_key: public_key.clone(),
            label: label.clone(),
            added_at: self.seen().await?,
            added_by: by.login().to_owned(),
            removed_at: None,
            removed_by: None,
        };
        let event = || Event {
            act: act.name(),
            correlation,
            engagement: None,
            target: None,
            approval: None,
            by: Some(by),
            signed: None,
            details: Map::from_iter(
                [("key_id", key_id), ("login", login), ("kind", kind), ("public_key", public_key), ("label", label)]
                    .map(|(name, text)| (name.to_owned(), Value::from(text.as_str()))),
            ),
            refused: None,
        };
        let begun = self.recorder.begin(event()).await?;
        let done = self.store.insert_approver_key(&row).await;
        let refused = done.is_err().then(|| ("unavailable", "the gateway's database failed".to_owned()));
        let ended = self.recorder.finish(begun, Event { refused, ..event() }).await;
        done?;
        tracing::warn!(
            key = key_id,
            login,
            by = by.login(),
            "the first key of an approver was enrolled, which needs no yes"
        );
        Ok(ended?)
    }
}

/// Whether `by` is on the gateway's own host. Errors for whoever may ask for nothing.
fn may_ask(settings: &config::Approvals, by: &Person) -> Result<bool, NoRight> {
    let on_host = matches!(by.place(), Place::Host { .. });
    if on_host || is_approver(settings, by) { Ok(on_host) } else { Err(NoRight::NotNamed) }
}

//! What webhooks answer: whether a callback is sealed with the secret of the webhook it is for, fresh, and new. Decides on
//! no question: what was verified is the word of a person, and taken like any other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;

use super::{
    Ballot,
    courier::NotifyFault,
    seal::{Seal, Signature, seconds},
};
use crate::{
    config,
    model::{ApprovalId, Clock, Vote, check_keys},
};

/// How far the clocks may differ, in seconds.
const SKEW: i64 = 300;
/// The most callbacks that are remembered; only those with a right seal are.
const MOST: usize = 4096;

/// Why a callback is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallbackFault {
    /// No such webhook, or not its seal: nobody who does not know a secret learns which.
    #[error("there is no webhook of this name with this secret")]
    Unknown,
    /// Its time is not now.
    #[error("X-Tailops-Timestamp is more than 300 s from the gateway's clock: seal it anew, with the time of now")]
    Skewed,
    /// It was here before.
    #[error("this very callback was here before: seal a new one, with the time of now")]
    Replayed,
    /// Too many within the time in which they are remembered.
    #[error("too many callbacks within ten minutes")]
    TooMany,
    /// The body is not one.
    #[error(
        "the body must be one object with the texts id, operation_hash, decision (approve or deny) and comment: {0}"
    )]
    Body(String),
}

impl CallbackFault {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown => "webhook_unknown",
            Self::Skewed => "callback_skewed",
            Self::Replayed => "callback_replayed",
            Self::TooMany => "rate_limited",
            Self::Body(_) => "callback_invalid",
        }
    }
}

/// A callback's body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Callback {
    id: String,
    operation_hash: String,
    decision: Vote,
    comment: String,
}

/// The secrets of the webhooks, and what they said of late.
pub struct Webhooks {
    seals: BTreeMap<String, Arc<Seal>>,
    /// Of nobody: names that there are not take as long as those that there are.
    none: Seal,
    seen: Mutex<BTreeSet<(i64, Signature)>>,
    clock: Arc<dyn Clock>,
}

impl Webhooks {
    /// Reads the secrets that `settings` name.
    pub fn open(settings: &config::Approvals, clock: Arc<dyn Clock>) -> Result<Self, NotifyFault> {
        let mut seals: BTreeMap<String, Arc<Seal>> = BTreeMap::new();
        for webhook in &settings.webhooks {
            let name = || webhook.name.clone();
            let seal = Seal::read(&webhook.secret_file);
            let seal = seal.map_err(|fault| NotifyFault::Secret { key: "webhooks", name: name(), fault })?;
            if let Some((other, _)) = seals.iter().find(|(_, other)| seal.is_that_of(other)) {
                return Err(NotifyFault::SharedSecret(other.clone(), name()));
            }
            seals.insert(name(), Arc::new(seal));
        }
        let mut random = [0; 32];
        // A fault leaves a secret that everybody knows, of a webhook that nobody has.
        let _ = SystemRandom::new().fill(&mut random);
        Ok(Self { seals, none: Seal::of(&random), seen: Mutex::default(), clock })
    }

    /// The seal of the webhook `name`.
    pub(super) fn seal(&self, name: &str) -> Option<Arc<Seal>> {
        self.seals.get(name).cloned()
    }

    /// What the webhook `name` says in `body`. The texts are those of the headers, where there is exactly one of each.
    pub fn verified(
        &self,
        name: &str,
        timestamp: Option<&str>,
        signature: Option<&str>,
        body: &[u8],
    ) -> Result<Ballot, CallbackFault> {
        let (known, seal) = self.seals.get(name).map_or((false, &self.none), |seal| (true, &**seal));
        let timestamp = timestamp.and_then(|text| Some((text, seconds(text)?)));
        let signature = signature.and_then(Signature::read);
        let ((text, at), signature) = timestamp.zip(signature).ok_or(CallbackFault::Unknown)?;
        if !seal.verifies(text, &signature, body) || !known {
            return Err(CallbackFault::Unknown);
        }
        let now = self.clock.now().as_second();
        if (now - at).abs() > SKEW {
            return Err(CallbackFault::Skewed);
        }
        self.remember(at, signature, now)?;
        read(body)
    }

    fn remember(&self, at: i64, signature: Signature, now: i64) -> Result<(), CallbackFault> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|(then, _)| (now - then).abs() <= SKEW);
        if seen.contains(&(at, signature)) {
            return Err(CallbackFault::Replayed);
        }
        if seen.len() >= MOST {
            return Err(CallbackFault::TooMany);
        }
        seen.insert((at, signature));
        Ok(())
    }
}

/// What `body` says.
pub(super) fn read(body: &[u8]) -> Result<Ballot, CallbackFault> {
    let broken = |error: &dyn std::fmt::Display| CallbackFault::Body(error.to_string());
    check_keys(body).map_err(|error| broken(&error))?;
    let Callback { id, operation_hash, decision, comment } =
        serde_json::from_slice(body).map_err(|error| broken(&error))?;
    Ok(Ballot { id: ApprovalId::from(id.as_str()), vote: decision, operation_hash, comment, signature: None })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use jiff::Timestamp;

    use super::*;

    #[derive(Default)]
    struct Hand(AtomicI64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp::from_second(1_790_000_000 + self.0.load(Ordering::SeqCst)).unwrap()
        }
    }

    const BODY: &[u8] = br#"{"id":"k3vd-9w2m-7qtp","operation_hash":"00","decision":"approve","comment":""}"#;

    fn webhooks() -> (Webhooks, Arc<Hand>) {
        let clock = Arc::new(Hand::default());
        let seals = [("duty", "one"), ("night", "two")];
        let seals = seals.map(|(name, secret)| (name.to_owned(), Arc::new(Seal::of(secret.as_bytes()))));
        let (none, seen) = (Seal::of(b"none"), Mutex::default());
        (Webhooks { seals: seals.into(), none, seen, clock: clock.clone() }, clock)
    }

    #[test]
    fn only_the_holder_of_the_secret_of_that_webhook_is_heard() {
        let (webhooks, _) = webhooks();
        let at = "1790000000";
        let right = Seal::of(b"one").sign(at, BODY);
        let fault = |name, at, signature: Option<&str>, body| webhooks.verified(name, at, signature, body).err();
        let unknown = Some(CallbackFault::Unknown);
        for (name, at, signature, body) in [
            ("night", Some(at), Some(right.as_str()), BODY),
            ("nobody", Some(at), Some(&right), BODY),
            ("", Some(at), Some(&right), BODY),
            ("duty", Some("1790000001"), Some(&right), BODY),
            ("duty", Some("01790000000"), Some(&right), BODY),
            ("duty", Some(at), Some(&Seal::of(b"two").sign(at, BODY)), BODY),
            ("duty", Some(at), Some(&right.to_uppercase()), BODY),
            ("duty", Some(at), Some(&right), &BODY[1..]),
            ("duty", Some(at), None, BODY),
            ("duty", None, Some(&right), BODY),
            // The secret of names that there are not.
            ("nobody", Some(at), Some(&Seal::of(b"none").sign(at, BODY)), BODY),
        ] {
            assert_eq!(fault(name, at, signature, body), unknown, "{name} {at:?} {signature:?}");
        }
        let ballot = webhooks.verified("duty", Some(at), Some(&right), BODY).unwrap();
        assert_eq!((ballot.id.as_str(), ballot.vote, ballot.signature), ("k3vd-9w2m-7qtp", Vote::Approve, None));
    }

    #[test]
    fn a_callback_is_heard_once_and_only_while_it_is_fresh() {
        let (webhooks, clock) = webhooks();
        let heard = |at: i64| {
            let at = at.to_string();
            webhooks.verified("duty", Some(&at), Some(&Seal::of(b"one").sign(&at, BODY)), BODY).map(drop)
        };
        let now = 1_790_000_000;
        assert_eq!(heard(now - 301), Err(CallbackFault::Skewed));
        assert_eq!(heard(now + 301), Err(CallbackFault::Skewed));
        assert_eq!((heard(now - 300), heard(now + 300)), (Ok(()), Ok(())));
        assert_eq!(heard(now + 300), Err(CallbackFault::Replayed));
        // As long as its time would do, it is remembered.
        clock.0.store(600, Ordering::SeqCst);
        assert_eq!((heard(now + 300), heard(now - 300)), (Err(CallbackFault::Replayed), Err(CallbackFault::Skewed)));
        clock.0.store(601, Ordering::SeqCst);
        assert_eq!(heard(now + 300), Err(CallbackFault::Skewed));
    }

    #[test]
    fn a_body_that_is_not_exactly_one_is_refused_and_memory_is_bounded() {
        let (webhooks, clock) = webhooks();
        let said = |body: &str| {
            let at = clock.now().as_second().to_string();
            webhooks.verified("duty", Some(&at), Some(&Seal::of(b"one").sign(&at, body.as_bytes())), body.as_bytes())
        };
        for body in [
            "",
            "null",
            "[]",
            r#"{"id":"a","operation_hash":"0","decision":"approve"}"#,
            r#"{"id":"a","operation_hash":"0","decision":"Approve","comment":""}"#,
            r#"{"id":"a","operation_hash":"0","decision":true,"comment":""}"#,
            r#"{"id":"a","operation_hash":"0","decision":"deny","decision":"approve","comment":""}"#,
            r#"{"id":"a","operation_hash":"0","decision":"deny","comment":"","Decision":"approve"}"#,
            r#"{"id":"a","operation_hash":"0","decision":"approve","comment":"","identity":"maria"}"#,
            // What the gateway itself sends is no answer to it.
            r#"{"event":"asked","id":"a","operation_hash":"0","v":1}"#,
        ] {
            let fault = said(body).err();
            assert!(matches!(fault, Some(CallbackFault::Body(_))), "{body}: {fault:?}");
        }
        for number in 0..MOST {
            let _ = said(&number.to_string());
        }
        assert_eq!(said("one more").err(), Some(CallbackFault::TooMany));
        clock.0.store(SKEW + 1, Ordering::SeqCst);
        assert!(matches!(said("one more").err(), Some(CallbackFault::Body(_))));
    }
}

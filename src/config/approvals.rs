//! `[approvals]`: who may say yes where the tailnet policy does not tell, how strong a yes must be, how long a question
//! stays open, and who is told of it. Reads no secret: it names the files that hold them.

use std::{collections::BTreeSet, num::NonZeroU32, path::PathBuf, time::Duration};

use super::section::Section;
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

/// The section.
pub(super) fn approvals(_root: &mut Section<'_>) -> Approvals {
    Approvals::default()
}
